"""A sweep: every experiment once, in order, on whatever workers there are; failures are kept, and grids are read."""

import io
import re
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from pages import code_blocks
from test_resume import assert_same_run
from typer.testing import CliRunner

import sparsekit as sk
from sparsekit import cli
from sparsekit.experiments import Experiment, read_run, run
from sparsekit.experiments.sweeps import in_order, local_client, read_grid, sweeping, workers
from sparsekit.experiments.sweeps.board import Board, showing
from sparsekit.experiments.sweeps.sweeping import ERROR, RESULT, Result
from sparsekit.rules import SET
from sparsekit.utils.turns import alone

TINY = Experiment(recipe="tiny", density=0.1, epochs=1, batch_size=500, model_settings={"hidden": (12,)})
SEEDS = [replace(TINY, seed=seed) for seed in range(3)]
IMPOSSIBLE = replace(TINY, epochs=2, first_step=3000)  # which only the data can tell


class Here(Executor):
    """An executor whose only worker is this process. It loses its first calls, as many as it is told."""

    def __init__(self, *, lose: int = 0):
        self.calls, self.lose, self.futures = [], lose, []

    def submit(self, function, item):
        self.calls.append(item)
        future = Future()
        if self.lose:
            self.lose -= 1
            future.cancel()
        else:
            try:
                future.set_result(function(item))
            except Exception as error:
                future.set_exception(error)
        self.futures.append(future)
        return future


class Never(Executor):
    """An executor whose workers never begin."""

    def __init__(self):
        self.futures = []

    def submit(self, function, item):
        self.futures.append(Future())
        return self.futures[-1]


class Disconnected(Executor):
    """A client whose scheduler is lost once it has taken the work, and which nobody answers after that."""

    status = "running"

    def submit(self, function, item):
        raise AssertionError("Dask takes all of it at once")

    def map(self, function, items, *, pure):
        self.status = "connecting"
        return [Future() for _ in items]

    def gather(self, futures):
        raise AssertionError("nobody answers")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(workers, "POLL", 0.001)


def sweep(experiments, folder, client=None, **settings) -> pd.DataFrame:
    return sk.sweep(experiments, folder, client=client or Here(), progress=False, **settings)


# --- results ------------------------------------------------------------------------------------------------------


def test_a_sweep_gives_a_row_for_each_experiment_in_order_and_a_folder_as_run_would_leave_it(tmp_path):
    table = sweep([SEEDS[2], SEEDS[0], SEEDS[2]], tmp_path / "swept")
    assert list(table["run"]) == [one.folder_name for one in (SEEDS[2], SEEDS[0], SEEDS[2])]
    assert list(table["seed"]) == [2, 0, 2]
    assert not table["error"].any()
    for experiment, accuracy in zip((SEEDS[2], SEEDS[0]), table["test accuracy"], strict=False):
        alone = run(experiment, tmp_path / "alone", progress=False)
        swept = read_run(tmp_path / "swept" / experiment.folder_name)
        assert accuracy == alone.last("test accuracy")
        (swept.folder / RESULT).unlink()
        assert_same_run(swept, alone)


def test_what_is_finished_is_not_given_to_workers_and_what_is_interrupted_continues(tmp_path):
    run(SEEDS[0], tmp_path, progress=False, until=1)
    first = Here()
    table = sweep(SEEDS, tmp_path, first)
    assert first.calls == SEEDS
    second = Here()
    pd.testing.assert_frame_equal(sweep([*SEEDS, replace(TINY, seed=3)], tmp_path, second)[:3], table)
    assert second.calls == [replace(TINY, seed=3)]


def test_the_table_names_the_settings_that_differ_and_no_others(tmp_path):
    rules = [SET(every=every, stop=2) for every in (1, 2)]
    experiments = [replace(TINY, rule=rule, exclude=exclude) for rule in rules for exclude in ((), ("last",))]
    table = sweeping._table(
        [one.folder_name for one in experiments],
        {one.folder_name: sweeping.to_plain(one) for one in experiments},
        {one.folder_name: Result({"test accuracy": 0.5}) for one in experiments},
    )
    assert list(table.columns) == ["run", "exclude", "rule.every", "test accuracy", "error"]
    assert list(table["rule.every"]) == [1, 1, 2, 2]
    assert list(table["exclude"]) == ["[]", '["last"]'] * 2


def test_a_result_that_is_damaged_is_read_from_the_run_again(tmp_path):
    before = sweep(SEEDS[:1], tmp_path)
    path = tmp_path / SEEDS[0].folder_name / RESULT
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1", b"2"))
    pd.testing.assert_frame_equal(sweep(SEEDS[:1], tmp_path), before)
    assert path.read_bytes() == whole


# --- failures -----------------------------------------------------------------------------------------------------


def test_a_failure_is_kept_in_the_table_and_in_the_run_s_folder_and_the_others_continue(tmp_path, monkeypatch):
    def run_or_fail(experiment, *args, **settings):
        if experiment.seed == 1:
            raise FloatingPointError("the loss must be finite, got nan")
        return run(experiment, *args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "run", run_or_fail)
        table = sweep(SEEDS, tmp_path)
    assert [not error for error in table["error"]] == [True, False, True]
    assert table["error"][1] == "FloatingPointError: the loss must be finite, got nan"
    error = tmp_path / SEEDS[1].folder_name / ERROR
    assert "run_or_fail" in error.read_text()
    assert sweep(SEEDS, tmp_path)["error"].eq("").all()
    assert not error.exists()


def test_settings_that_only_the_data_refuse_fail_alone(tmp_path):
    table = sweep([SEEDS[0], IMPOSSIBLE], tmp_path)
    assert [not error for error in table["error"]] == [True, False]
    assert "first_step" in table["error"][1]


def test_an_error_that_no_worker_could_report_is_that_of_its_run(tmp_path):
    class Dying(Here):
        def submit(self, function, item):
            future = Future()
            future.set_exception(RuntimeError("its worker died four times"))
            return future if item.seed == 0 else super().submit(function, item)

    table = sweep(SEEDS[:2], tmp_path, Dying())
    assert list(table["error"]) == ["RuntimeError: its worker died four times", ""]
    assert "its worker died" in (tmp_path / SEEDS[0].folder_name / ERROR).read_text()


def test_calls_that_a_lost_scheduler_has_cancelled_are_made_again(tmp_path):
    client = Here(lose=2)
    assert sweep(SEEDS, tmp_path, client)["error"].eq("").all()
    assert len(client.calls) == 5


def test_an_executor_that_lost_its_workers_says_what_to_do(tmp_path):
    client = Never()
    outcomes = workers.outcomes(client, abs, [1, 2])
    assert next(outcomes) is None
    client.futures[0].set_exception(BrokenExecutor("a process was terminated abruptly"))
    with pytest.raises(BrokenExecutor, match="must keep its workers, got BrokenExecutor .*Call again with a new one"):
        next(outcomes)
    assert client.futures[1].cancelled()


def test_a_scheduler_that_is_lost_is_said_at_once(tmp_path):
    with pytest.raises(ConnectionError, match="must stay reachable, got a client that is connecting.*call again with"):
        sweep(SEEDS, tmp_path, Disconnected())
    assert sweep(SEEDS[:1], tmp_path)["error"].eq("").all()


def test_whoever_takes_no_work_gets_a_sentence(tmp_path):
    client = ProcessPoolExecutor(1)
    client.shutdown()
    with pytest.raises(ConnectionError, match="workers must take work, got RuntimeError .*after shutdown"):
        sweep(SEEDS, tmp_path, client)


def test_a_sweep_that_is_stopped_takes_back_what_nobody_has_begun(tmp_path, monkeypatch):
    def stop(_seconds):
        raise KeyboardInterrupt

    client = Never()
    monkeypatch.setattr(workers.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(SEEDS, tmp_path, client)
    assert [future.cancelled() for future in client.futures] == [True] * 3
    monkeypatch.undo()
    assert sweep(SEEDS, tmp_path)["error"].eq("").all()


@pytest.mark.parametrize(
    ("experiments", "client", "error", "message"),
    [
        ([], Here(), ValueError, "experiments must be at least one"),
        ([TINY], "tcp://somewhere:8786", TypeError, "client must be a Dask client or an executor, got str"),
    ],
)
def test_what_is_no_sweep_is_refused_and_leaves_no_folder(experiments, client, error, message, tmp_path):
    with pytest.raises(error, match=message):
        sk.sweep(experiments, tmp_path / "runs", client=client)
    assert not (tmp_path / "runs").exists()


def test_without_dask_one_reads_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(
            ImportError, match=r'distributed must be installed, got .* Run: pip install "dask\[distributed\]"'
        ),
        local_client(1),
    ):
        pass


def test_a_script_that_its_worker_imports_starts_no_workers(monkeypatch):
    monkeypatch.setattr(workers.multiprocessing, "parent_process", lambda: "somebody")
    monkeypatch.setattr(sys.modules["__main__"], "__name__", "__mp_main__")
    with pytest.raises(RuntimeError, match="must be started by the script itself.*__main__"), local_client(1):
        pass


def test_results_come_in_order_here_and_elsewhere_and_an_error_comes_in_its_turn():
    assert list(in_order(abs, [-1, -2])) == [1, 2]
    assert list(in_order(abs, [-1, -2, -3], Here(lose=1))) == [1, 2, 3]
    results = in_order(abs, [-1, "two", -3], Here())
    assert next(results) == 1
    with pytest.raises(TypeError, match="bad operand"):
        next(results)


# --- other executors ----------------------------------------------------------------------------------------------


def processes(folder: Path):
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def joblib_s(folder: Path):
    loky = pytest.importorskip("joblib.externals.loky", reason="install joblib")
    return loky.get_reusable_executor(max_workers=1)


def submitit_s(folder: Path):
    submitit = pytest.importorskip("submitit", reason="install submitit to test its local executor")
    executor = submitit.LocalExecutor(folder / "jobs")
    executor.update_parameters(timeout_min=10)
    return executor


@pytest.mark.slow
@pytest.mark.parametrize("executor", [processes, joblib_s, submitit_s])
def test_any_executor_carries_out_a_sweep(executor, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(sk.__file__).parents[1]))
    workers_ = executor(tmp_path)
    try:
        table = sweep(SEEDS[:1], tmp_path / "runs", workers_)
    finally:
        if hasattr(workers_, "shutdown"):
            workers_.shutdown()
    assert not table["error"].any()
    assert table["test accuracy"][0] == run(SEEDS[0], tmp_path / "alone", progress=False).last("test accuracy")


# --- the table that follows the work ------------------------------------------------------------------------------


def text_of(board: Board) -> str:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board)
    return console.export_text()


def test_the_board_counts_what_is_done_failed_running_and_waiting(tmp_path):
    names = [f"run-{number}" for number in range(6)]
    results = {"run-0": Result({"test accuracy": 0.25})}
    board = Board(tmp_path, names, results, "http://127.0.0.1:8787/status")
    assert board.seconds_left() is None
    board.start -= 10
    results |= {"run-1": Result({"test accuracy": 0.75}), "run-2": Result({}, "ValueError: no")}
    with alone(tmp_path / "run-3"):
        shown = text_of(board)
        assert board.running() == ["run-3"]
    assert board.running() == []
    assert board.best() == ("run-1", 0.75)
    assert board.seconds_left() == pytest.approx(10 / 2 * 3, abs=1)
    cells = [cell.strip() for cell in shown.splitlines()[3].strip("│").split("│")]
    assert cells[:5] == ["2", "1", "1", "2", "75.00 %"]
    assert "running: run-3" in shown
    assert "http://127.0.0.1:8787/status" in shown


def test_before_anything_is_there_the_board_says_so(tmp_path):
    shown = text_of(Board(tmp_path / "none", ["run"], {}, None))
    assert [cell.strip() for cell in shown.splitlines()[3].strip("│").split("│")] == ["0", "0", "0", "1", "-", "-"]
    assert "dashboard" not in shown


def test_the_board_goes_to_stderr_and_only_if_one_wants_to_see_it(tmp_path, capsys):
    for progress in (False, True):
        with showing(Board(tmp_path, ["run"], {}, None), progress) as refresh:
            refresh()
        out, err = capsys.readouterr()
        assert out == ""
        assert ("seconds left" in err) == progress


def test_in_a_notebook_the_board_is_html_that_is_brought_up_to_date_to_the_end(tmp_path, monkeypatch, capsys):
    shown = []

    class Handle:
        def update(self, board):
            shown.append(board._repr_html_())

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda board, display_id: Handle())
    results, link = {}, "http://127.0.0.1:8787/status?a=1&b=2"
    with showing(Board(tmp_path, ["run", "<other>"], results, link), True) as refresh:
        refresh()  # a moment after it was shown
        assert shown == []
        results |= {"<other>": Result({"test accuracy": 0.5})}
    (page,) = shown
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert cells[:5] == ["1", "0", "0", "1", "50.00 %"]
    assert "max='2' value='1'" in page
    assert "best: &lt;other&gt;" in page
    assert "href='http://127.0.0.1:8787/status?a=1&amp;b=2'" in page
    assert capsys.readouterr() == ("", "")


def test_a_notebook_that_shows_no_html_reads_a_line(tmp_path):
    board = Board(tmp_path, ["run"], {"run": Result({"test accuracy": 0.75})}, None)
    assert repr(board).startswith("done 1, failed 0, running 0, waiting 0, best test accuracy 75.00 %, seconds left")


def test_reading_a_folder_of_finished_runs_looks_at_one_file_of_each(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(sweeping, "read_json", lambda path: looks.append(path) or {"test accuracy": 0.5})
    experiments = [replace(TINY, seed=seed) for seed in range(50)]
    assert len(sweep(experiments, tmp_path)) == 50
    assert looks == [tmp_path / one.folder_name / RESULT for one in experiments]


# --- grids --------------------------------------------------------------------------------------------------------

GRID = """
recipe = "digits-mlp"
epochs = 1
batch_size = 500
model_settings.hidden = [12]
learning_rate = { kind = "schedule", name = "constant", value = 0.2 }

[grid]
rule = ["set", "static"]
density = [0.1, 0.2]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_grid_has_an_experiment_for_each_choice_and_the_last_list_varies_fastest(tmp_path):
    grid = read_grid(write(tmp_path, GRID))
    assert grid.settings == [{"rule": r, "density": d} for r in ("set", "static") for d in (0.1, 0.2)]
    expected = [
        sk.recipes.digits_mlp(
            **choice,
            epochs=1,
            batch_size=500,
            model_settings={"hidden": (12,)},
            learning_rate=sk.schedules.Constant(0.2),
        )
        for choice in grid.settings
    ]
    assert grid.experiments == expected


def test_lists_in_tables_vary_one_setting_of_a_table(tmp_path):
    text = 'recipe = "digits"\nrule_settings.drop_fraction = 0.2\n[grid.rule_settings]\nevery = [10, 20]\n'
    grid = read_grid(write(tmp_path, text))
    assert grid.settings == [{"rule_settings.every": 10}, {"rule_settings.every": 20}]
    assert [one.rule.every for one in grid.experiments] == [10, 20]
    assert {one.rule.drop_fraction.start for one in grid.experiments} == {0.2}


def test_a_file_without_lists_is_one_experiment(tmp_path):
    grid = read_grid(write(tmp_path, 'recipe = "digits-mlp"'))
    assert (grid.experiments, grid.settings) == ([sk.recipes.digits_mlp()], [{}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe =", "grid.toml must be a TOML file, got another: Invalid value"),
        ("epochs = 1", "every experiment .* must be possible, got one with no setting that varies. recipe must be"),
        ('recipe = "nothing"', "recipe must be one of .*digits-mlp"),
        ('recipe = "digits"\ngrid = 3', "grid of .* must be a table, got 3"),
        ('recipe = "digits"\n[grid]\nseed = 3', r"seed in \[grid\] of .* must be a list of values, got 3"),
        ('recipe = "digits"\n[grid]\nseed = []', r"seed in \[grid\] of .* must be a list of values, got \[\]"),
        ('recipe = "digits"\n[grid]\ndensity = [0.1, 2]', "got one with density = 2. density must lie in"),
        ('recipe = "digits"\n[grid]\ncolour = ["red"]', "got one with colour = 'red'. .*colour"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_with_its_place(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_grid(write(tmp_path, text))


def test_the_command_prints_a_row_for_each_choice_and_tells_failures_by_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "client_or_local", lambda *_: workers.client_or_local(Here(), None, 1))
    path = write(tmp_path, GRID)
    words = ["sweep", str(path), "--folder", str(tmp_path / "runs"), "--no-progress"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    heads, *rows = [line.split() for line in result.output.splitlines()]
    assert heads[:2] == ["rule", "density"]
    assert [row[:2] for row in rows] == [["set", "0.1"], ["set", "0.2"], ["static", "0.1"], ["static", "0.2"]]
    path.write_text(GRID.replace('"static"]', '"static"]\nfirst_step = [0, 3000]'), encoding="utf-8")
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 1
    assert sum("first_step" in line for line in result.output.splitlines()[1:]) == 4


def test_the_command_says_that_it_can_continue_when_it_is_stopped(tmp_path, monkeypatch):
    def stopped(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparsekit.experiments.sweeps.sweep", stopped)
    result = CliRunner().invoke(cli.app, ["sweep", str(write(tmp_path, GRID))])
    assert result.exit_code == 130
    assert "The same command continues" in result.output


# --- what the page says -------------------------------------------------------------------------------------------


def block(language: str, word: str) -> str:
    """Return the page's example that has a word."""
    (code,) = [one for one in code_blocks("sweeps.md", language) if word in one]
    return code


def test_the_grid_of_the_page_has_twelve_experiments(tmp_path):
    grid = read_grid(write(tmp_path, block("toml", "recipe")))
    assert len({one.folder_name for one in grid.experiments}) == 12


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")  # by somebody else's dashboard
def test_the_page_s_job_of_slurm_starts_a_worker(capsys):
    pytest.importorskip("dask_jobqueue", reason="install dask-jobqueue to test what is handed to SLURM")
    scope = {}
    exec(block("python", "SLURMCluster"), scope)
    scope["cluster"].close()
    script = capsys.readouterr().out
    assert "#SBATCH -p short" in script
    assert re.search(r"dask.worker tcp://.* --nthreads 1 .*--memory-limit", script)
