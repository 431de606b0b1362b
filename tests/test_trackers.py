"""Callbacks of a run: what they are told and when, and that what the trackers write can be read back."""

import csv
import struct
from dataclasses import dataclass, field

import pytest

from sparsekit.experiments import recipes, run
from sparsekit.experiments.trackers import CSV, MLflow, News, TensorBoard, Tracker, WandB


@pytest.fixture
def tiny():
    return recipes.digits_small(rule="rigl", density=0.2, epochs=2, rule_settings={"every": 10})


@dataclass
class Told(Tracker):
    """It keeps what it was told."""

    news: list[News] = field(default_factory=list)

    def tell(self, name, news, experiment, history):
        self.news.append(news)

    @property
    def rows(self):
        return [row for one in self.news for row in one.rows]


def test_a_callback_is_called_after_every_checkpoint_with_all_that_is_saved(tiny, tmp_path):
    saved = []
    history = run(
        tiny,
        tmp_path,
        progress=False,
        callbacks=[lambda experiment, history: saved.append((experiment, len(history.rows)))],
    )
    assert [experiment for experiment, _ in saved] == [tiny, tiny]
    assert saved[-1][1] == len(history.rows)
    assert saved[0][1] * 2 == saved[-1][1]


def test_what_a_callback_raises_ends_the_call_and_loses_nothing(tiny, tmp_path):
    def prune(experiment, history):
        raise RuntimeError("a bad trial")

    with pytest.raises(RuntimeError, match="a bad trial"):
        run(tiny, tmp_path / "pruned", progress=False, callbacks=[prune])
    pruned = run(tiny, tmp_path / "pruned", progress=False)
    assert pruned.rows == run(tiny, tmp_path / "whole", progress=False).rows


def test_a_tracker_is_told_every_number_once_even_if_the_run_is_interrupted(tiny, tmp_path):
    one, two = Told(), Told()
    whole = run(tiny, tmp_path / "one", progress=False, callbacks=[one])
    for until in (7, 15, None):
        run(tiny, tmp_path / "two", progress=False, until=until, callbacks=[two])
    assert one.rows == two.rows
    assert [row for row in one.rows if "/" not in row.name] == whole.rows
    assert [news.is_first for news in two.news] == [True] + [False] * (len(two.news) - 1)
    assert [news.is_last for news in two.news] == [False] * (len(two.news) - 1) + [True]


def test_a_tracker_of_another_process_is_told_from_the_beginning(tiny, tmp_path):
    whole, late = Told(), Told()
    run(tiny, tmp_path, progress=False, until=15, callbacks=[whole])
    run(tiny, tmp_path, progress=False, callbacks=[whole, late])
    assert late.rows == whole.rows
    again = Told()
    run(tiny, tmp_path, progress=False, callbacks=[again])
    assert again.rows == whole.rows
    assert [(news.is_first, news.is_last) for news in again.news] == [(True, True)]


def test_layers_have_numbers_after_each_rewiring(tiny, tmp_path):
    told = Told()
    history = run(tiny, tmp_path, progress=False, callbacks=[told])
    topologies = list(history.journal.topologies())
    for number, step in enumerate(history.journal.steps):
        before, after = topologies[number : number + 2]
        numbers = {row.name: row.value for row in told.rows if row.step == step}
        for name, layer in after.items():
            new = set(layer.indices.tolist()) - set(before[name].indices.tolist())
            rows = set((layer.indices // layer.shape[1]).tolist())
            assert numbers[f"{name}/density"] == layer.count / (layer.shape[0] * layer.shape[1])
            assert numbers[f"{name}/churn"] == len(new) / layer.count > 0
            assert numbers[f"{name}/dead units"] == layer.shape[0] - len(rows)
    assert len(history.journal) >= 2


def as_told(rows):
    return {(row.name, row.step): pytest.approx(row.value, rel=1e-6) for row in rows}


def test_tables_hold_every_number_and_a_process_that_continues_writes_them_anew(tiny, tmp_path):
    told = Told()
    for until in (15, None):
        run(tiny, tmp_path / "runs", progress=False, until=until, callbacks=[CSV(tmp_path / "tables"), told])
    with (tmp_path / "tables" / f"{tiny.folder_name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["name"], int(row["step"])): float(row["value"]) for row in rows} == as_told(told.rows)
    assert len(rows) == len(told.rows)


def test_tensorboard_holds_every_number_once(tiny, tmp_path):
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install tensorboard"
    )
    told = Told()
    for until in (15, None):
        run(tiny, tmp_path / "runs", progress=False, until=until, callbacks=[TensorBoard(tmp_path / "logs"), told])
    log = reading.EventAccumulator(str(tmp_path / "logs" / tiny.folder_name), {"scalars": 0}).Reload()
    scalars = [(tag, one.step, one.value) for tag in log.Tags()["scalars"] for one in log.Scalars(tag)]
    assert {(tag, step): value for tag, step, value in scalars} == as_told(told.rows)
    assert len(scalars) == len(told.rows)
    assert "experiment/text_summary" in log.Tags()["tensors"]


def test_mlflow_holds_every_number_once_with_settings_and_files(tiny, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    told, uri = Told(), (tmp_path / "store").as_uri()
    for until in (15, None):
        run(tiny, tmp_path / "runs", progress=False, until=until, callbacks=[MLflow("sparse", uri), told])
    client = mlflow.MlflowClient(tracking_uri=uri)
    (only,) = client.search_runs([client.get_experiment_by_name("sparse").experiment_id])
    assert only.info.status == "FINISHED"
    assert only.data.params["density"] == "0.2"
    assert {file.path for file in client.list_artifacts(only.info.run_id)} == {"experiment.json", "journal"}
    logged = [(name, one) for name in only.data.metrics for one in client.get_metric_history(only.info.run_id, name)]
    assert {(name, one.step): one.value for name, one in logged} == as_told(told.rows)
    assert len(logged) == len(told.rows)


def records_of(log: bytes):
    """Yield what a log in LevelDB's format holds: blocks of 32 KiB of parts, each with checksum, length and kind."""
    position, record = 7, b""  # after the head of W&B's own
    while position + 7 <= len(log):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", log, position)
        record += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_writes_every_step_without_a_network(tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    told = Told()
    run(tiny, tmp_path / "runs", progress=False, callbacks=[WandB(folder=tmp_path), told])
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    steps = {}
    for data in records_of(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or item.nested_key[0]: float(item.value_json) for item in record.history.item}
            steps[int(items["_step"])] = items
    written = {(name, step): items[name] for step, items in steps.items() for name in items if name[0] != "_"}
    assert written == as_told(told.rows)


@pytest.mark.parametrize(("tracker", "module"), [(TensorBoard, "tensorboard"), (MLflow, "mlflow"), (WandB, "wandb")])
def test_a_tracker_says_what_must_be_installed_before_anything_is_trained(tracker, module, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=f'{module} must be installed, got .* pip install "{module}"'):
        tracker(folder=tmp_path) if tracker is not MLflow else tracker()


def test_wandb_s_mode_must_be_known():
    with pytest.raises(ValueError, match="mode must be offline or online, got 'dark'. Choose one of them"):
        WandB(mode="dark")
