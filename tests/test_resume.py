"""Runs that are killed at any moment and resumed end bit for bit as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from training_helpers import same, states

from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import Experiment, load_model, read_experiment, read_run, run, work
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import DSR, GSE, SET, SNFS, DeepR, GraEst, RigL, SRigL, TopKAST
from sparsekit.schedules import Constant
from sparsekit.train import CheckpointError, load_checkpoint
from sparsekit.utils import registry
from sparsekit.utils.turns import alone

HERE = Path(__file__).parent


def mlp_with_dropout(*, input_shape, num_classes, hidden=(12,)):
    """An MLP with dropout, which draws from torch's random state at every step."""
    inputs = int(torch.tensor(input_shape).prod())
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden[0]), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden[0], num_classes)
    )


def register(monkeypatch):
    """Register the model for a while only: other tests look at everything that is registered."""
    registry.names("model")
    monkeypatch.setitem(registry._registered["model"], "mlp-with-dropout", mlp_with_dropout)


@pytest.fixture(autouse=True)
def _dropout_model(monkeypatch):
    register(monkeypatch)


RIGL = Experiment(
    recipe="killed",
    data="digits",
    data_settings={"flat": False},
    augment=True,
    model="small-cnn",
    model_settings={"widths": (3, 4)},
    density=0.3,
    rule=RigL(every=2, stop=7, drop_fraction=0.5),
    epochs=3,
    batch_size=500,
)
with pytest.MonkeyPatch.context() as _monkeypatch:
    register(_monkeypatch)
    DROPOUT_SET = replace(
        RIGL,
        augment=False,
        model="mlp-with-dropout",
        model_settings={},
        rule=SET(every=2, stop=7, drop_fraction=0.5),
        storage="csr",
        optimizer="adamw",
        optimizer_settings={},
        learning_rate=Constant(0.01),
        micro_batches=2,
    )
    PROBING_GSE = replace(
        RIGL,
        rule=GSE(every=2, stop=7, drop_fraction=0.5, candidates=GraEst(), probe_batches=2, replaces_step=False),
        storage="csr",
    )
    # Their layers remember: momentum, signs, a threshold, resting weights, a budget.
    REMEMBERING = {
        "snfs": replace(RIGL, augment=False, rule=SNFS(every=2, stop=7)),
        "deep r, csr": replace(DROPOUT_SET, rule=DeepR(stop=7, temperature=Constant(1e-3))),
        "dsr, csr": replace(DROPOUT_SET, rule=DSR(every=2, stop=7, threshold=0.02)),
        "top-kast": replace(RIGL, augment=False, rule=TopKAST(every=2, stop=7)),
        "srigl": replace(RIGL, augment=False, rule=SRigL(every=2, stop=7)),
    }
    LONG = replace(DROPOUT_SET, epochs=40, rule=RigL(every=2, stop=None, drop_fraction=Constant(0.3)))
EXPERIMENTS = {
    "rigl, augmented": RIGL,
    "set, dropout, csr, adamw": DROPOUT_SET,
    "gse that looks ahead, csr": PROBING_GSE,
}
STEPS = 9
every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Each experiment carried out without interruption."""
    histories = {}

    def get(name):
        if name not in histories:
            histories[name] = run(EXPERIMENTS[name], tmp_path_factory.mktemp("whole"), progress=False)
        return histories[name]

    return get


def assert_same_run(first, second):
    assert read_experiment(first.folder) == read_experiment(second.folder)
    for file in ("metrics.jsonl", "journal"):
        assert (first.folder / file).read_bytes() == (second.folder / file).read_bytes(), file
    checkpoints = [load_checkpoint(history.folder / "checkpoint.pt") for history in (first, second)]
    assert same(*checkpoints)
    assert {p.name for p in first.folder.iterdir()} == {p.name for p in second.folder.iterdir()}


class Killed(BaseException):
    """No `except Exception` may catch it, as none catches a power failure."""


# --- killed by exception ----------------------------------------------------------------------------------------


def dies_after_step(count):
    def patch(monkeypatch):
        def dying(*args, whole=work.training, **kwargs):
            for step, stats, change in whole(*args, **kwargs):
                yield step, stats, change
                if step + 1 == count:
                    raise Killed

        monkeypatch.setattr(work, "training", dying)

    return patch


def dies_between_metrics_and_checkpoint(count):
    def patch(monkeypatch):
        def dying(*args, step, whole=work.save_checkpoint, **kwargs):
            if step >= count:
                raise Killed
            whole(*args, step=step, **kwargs)

        monkeypatch.setattr(work, "save_checkpoint", dying)

    return patch


def dies_while_writing(file, count):
    """Tear the last block or line, as a crash in the middle of a write does."""

    def patch(monkeypatch):
        dies_between_metrics_and_checkpoint(count)(monkeypatch)

    patch.torn = file
    return patch


# How it dies, and after how many steps it saves besides the ends of epochs (3, 6 and 9).
DEATHS = {
    "after the first step": (dies_after_step(1), None),
    "in the first epoch": (dies_after_step(2), None),
    "in the middle of an epoch": (dies_after_step(5), 2),
    "between two checkpoints": (dies_after_step(8), 2),
    "after the last step": (dies_after_step(STEPS), None),
    "between metrics and checkpoint": (dies_between_metrics_and_checkpoint(3), None),
    "between metrics and the last checkpoint": (dies_between_metrics_and_checkpoint(STEPS), 2),
    "in a line of the metrics": (dies_while_writing("metrics.jsonl", 6), None),
    "in a block of the journal": (dies_while_writing("journal", 6), 2),
}


@every_experiment
@pytest.mark.parametrize("death", DEATHS)
def test_a_run_that_was_killed_ends_as_one_that_was_not(name, death, whole_runs, tmp_path):
    experiment, (patch, checkpoint_steps) = EXPERIMENTS[name], DEATHS[death]
    kill(experiment, tmp_path, patch, checkpoint_steps)
    read_run(tmp_path / experiment.folder_name)  # what there is can be looked at
    again = run(experiment, tmp_path, progress=False, checkpoint_steps=checkpoint_steps)
    assert_same_run(again, whole_runs(name))


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_run_that_was_killed_finds_what_its_layers_remember(name, tmp_path):
    experiment = REMEMBERING[name]
    whole = run(experiment, tmp_path / "whole", progress=False)
    assert len(whole.journal.steps) > 2
    assert all(layer.rule_state for layer in sparse_layers(load_model(whole.folder)).values())
    kill(experiment, tmp_path / "killed", dies_after_step(5), 2)
    assert_same_run(run(experiment, tmp_path / "killed", progress=False, checkpoint_steps=2), whole)


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(whole_runs, tmp_path):
    experiment = EXPERIMENTS["rigl, augmented"]
    for count in (2, 3, 5, 7):
        kill(experiment, tmp_path, dies_after_step(count), 1)
    assert_same_run(run(experiment, tmp_path, progress=False), whole_runs("rigl, augmented"))


def kill(experiment, folder, patch, checkpoint_steps):
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        with pytest.raises(Killed):
            run(experiment, folder, progress=False, checkpoint_steps=checkpoint_steps)
    if torn := getattr(patch, "torn", None):
        path = folder / experiment.folder_name / torn
        path.write_bytes(path.read_bytes()[:-5])


# --- killed by the operating system -----------------------------------------------------------------------------

CHILD = """
import sys
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
import test_resume
from sparsekit.utils import registry
registry.names("model")
registry._registered["model"]["mlp-with-dropout"] = test_resume.mlp_with_dropout
test_resume.run(test_resume.LONG, {folder!r}, progress=False, checkpoint_steps=1)
"""


@pytest.mark.slow
def test_a_process_killed_at_a_random_moment_ends_as_one_that_was_not(tmp_path):
    whole = run(LONG, tmp_path / "whole", progress=False)
    checkpoint = tmp_path / "killed" / LONG.folder_name / "checkpoint.pt"
    assert 0 < kill_process(tmp_path / "killed", checkpoint) < 120
    assert_same_run(run(LONG, tmp_path / "killed", progress=False), whole)


def kill_process(folder, checkpoint) -> int:
    """Kill a run some moments after it has saved anew, and return how many steps it had saved."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(here=str(HERE), folder=str(folder))],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
        time.sleep(0.01)
    time.sleep(random.random() / 5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return load_checkpoint(checkpoint)["step"]


def test_temporary_files_of_killed_runs_are_swept_up_by_the_next(whole_runs, tmp_path):
    experiment = EXPERIMENTS["rigl, augmented"]
    kill(experiment, tmp_path, dies_after_step(4), 2)
    for name in (".checkpoint.pt.123.new", ".journal.3.new", ".metrics.jsonl.7.new"):
        (tmp_path / experiment.folder_name / name).write_bytes(b"half")
    assert_same_run(run(experiment, tmp_path, progress=False), whole_runs("rigl, augmented"))


# --- what a run leaves alone ------------------------------------------------------------------------------------


@every_experiment
def test_a_run_neither_uses_nor_changes_the_callers_random_state(name, whole_runs, tmp_path):
    whole = whole_runs(name)
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    again = run(EXPERIMENTS[name], tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_run(again, whole)


@every_experiment
def test_a_finished_run_is_read_and_not_done_again(name, whole_runs, monkeypatch):
    whole = whole_runs(name)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in whole.folder.iterdir()}
    for step in ("training", "evaluate", "save_checkpoint"):
        monkeypatch.setattr(work, step, lambda *_, **__: pytest.fail("done again"))
    again = run(EXPERIMENTS[name], whole.folder.parent, progress=False)
    assert again.rows == whole.rows
    assert again.journal.steps == whole.journal.steps
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in whole.folder.iterdir()} == before


@pytest.mark.parametrize("damage", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_stops_the_run_and_touches_nothing(damage, tmp_path):
    experiment = EXPERIMENTS["rigl, augmented"]
    kill(experiment, tmp_path, dies_after_step(4), 2)
    folder = tmp_path / experiment.folder_name
    (folder / "checkpoint.pt").write_bytes(damage)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError, match=r"must be a whole checkpoint, got .*. Delete it"):
        run(experiment, tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("lost", ["journal", "metrics.jsonl"])
def test_a_run_whose_record_lags_behind_its_checkpoint_is_refused(lost, tmp_path):
    """After a power failure the checkpoint may have reached the disk and the record not."""
    experiment = EXPERIMENTS["rigl, augmented"]
    kill(experiment, tmp_path, dies_after_step(8), 2)
    path = tmp_path / experiment.folder_name / lost
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(CheckpointError, match=rf"{lost} must .*, got .*\. Delete the folder"):
        run(experiment, tmp_path, progress=False)


def test_a_loss_that_explodes_leaves_the_last_checkpoint(tmp_path):
    experiment = replace(DROPOUT_SET, optimizer="sgd", optimizer_settings={}, learning_rate=Constant(1e30))
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="the loss must be finite"):
            run(experiment, tmp_path, progress=False, checkpoint_steps=1)
        state = load_checkpoint(tmp_path / experiment.folder_name / "checkpoint.pt")
        assert state["step"] == 1


# --- what a run holds -------------------------------------------------------------------------------------------


@every_experiment
def test_the_trained_model_and_the_journal_agree_with_the_last_numbers(name, whole_runs):
    history = whole_runs(name)
    model = load_model(history.folder)
    assert topology_of(model) == history.journal[-1]
    assert history.journal.steps == [0, 2, 4, 6]
    data = work.datasets.load("digits", flat=False)
    measured = evaluate(model, [(data.prepare(data.test.inputs), data.test.labels)])
    assert measured.accuracy == history.last("test accuracy")
    assert len(history.values("train loss")) == STEPS
    assert not model.training


def test_a_journal_read_back_is_the_one_that_was_kept(whole_runs):
    history = whole_runs("rigl, augmented")
    again = Journal.read(history.folder / "journal")
    assert list(again.topologies()) == list(history.journal.topologies())


def test_metrics_are_one_json_object_a_line(whole_runs):
    lines = (whole_runs("rigl, augmented").folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(list(json.loads(line)) == ["checksum", "step", "epoch", "name", "value"] for line in lines)
    assert len(lines) == 2 * STEPS + 3 * 4


def test_masked_and_csr_runs_end_at_the_same_accuracy_but_for_rounding(tmp_path):
    accuracies = [
        run(replace(RIGL, storage=storage), tmp_path, progress=False).last("test accuracy")
        for storage in ("masked", "csr")
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.01)


def test_a_folder_without_a_run_is_refused(tmp_path):
    for read in (read_run, load_model):
        with pytest.raises(FileNotFoundError, match=r"a run folder must hold experiment\.json, got .* without\. Give"):
            read(tmp_path)


def test_a_seed_repeats_a_run_and_another_seed_gives_another(whole_runs, tmp_path):
    whole = whole_runs("set, dropout, csr, adamw")
    other = run(replace(DROPOUT_SET, seed=1), tmp_path, progress=False)
    assert other.rows != whole.rows
    assert not same(states(load_model_of(other)), states(load_model_of(whole)))


def load_model_of(history):
    return load_model(history.folder)


def test_a_run_that_another_process_is_at_waits_for_it_and_is_not_mixed_up(tmp_path, capsys):
    experiment, together = RIGL, []
    folder = tmp_path / experiment.folder_name
    second = threading.Thread(target=lambda: together.append(run(experiment, tmp_path)))
    with alone(folder):
        second.start()
        second.join(1)
        assert second.is_alive()
        assert not folder.exists()
    second.join(60)
    assert "another process trains it" in capsys.readouterr().out
    assert_same_run(together[0], run(experiment, tmp_path / "alone", progress=False))
