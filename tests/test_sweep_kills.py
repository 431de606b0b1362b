"""Workers and schedulers of a sweep are killed at random, and it ends as if nothing had happened."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from training_helpers import same

from sparsekit.experiments import run
from sparsekit.train import load_checkpoint
from sparsekit.utils import registry

pytest.importorskip("distributed", reason="install dask[distributed] to test sweeps on workers")

HERE = Path(__file__).parent
KILLS, PATIENCE = 10, 300  # seconds, for a machine that does something else as well
# A worker that is started again would import torch for seconds.
FORK = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
pytestmark = pytest.mark.slow


@pytest.fixture
def script(monkeypatch):
    """The script as a module, whose rule is registered for a while only."""
    registry.names("rule"), registry.names("data")
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_registered", {kind: dict(one) for kind, one in registry._registered.items()})
        patch.syspath_prepend(str(HERE))
        patch.delitem(sys.modules, "sweeping_script", raising=False)  # it registers where it is imported
        import sweeping_script

        yield sweeping_script


def wait_for(what: Callable[[], object]) -> object:
    deadline = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def lines_of(log: Path) -> list[tuple[int, int, int]]:
    """Return process, seed and step of each step that was begun."""
    return [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []


def assert_equal(first: Path, second: Path) -> None:
    for file in ("metrics.jsonl", "journal"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    assert same(*(load_checkpoint(folder / "checkpoint.pt") for folder in (first, second)))


def assert_nothing_was_done_twice(lines: list[tuple[int, int, int]], last: int) -> int:
    """Check that of each run one process at a time took steps, each from where the one before it was killed.

    A process that is killed between a step and its checkpoint leaves this step to the next one, and no other. Returns
    how many steps were so repeated.
    """
    repeated = 0
    for seed in {seed for _, seed, _ in lines}:
        steps = [(process, step) for process, one, step in lines if one == seed]
        # A step asks more than once whether it is due.
        steps = [step for step, _ in itertools.groupby(steps)]
        turns = [process for process, _ in itertools.groupby(process for process, _ in steps)]
        assert len(turns) == len(set(turns)), (seed, "a process came back", steps)
        assert [step for _, step in steps][-1] == last
        for (before, old), (now, new) in itertools.pairwise(steps):
            assert new in ((old + 1,) if before == now else (old, old + 1)), (seed, steps)
            repeated += new == old
    return repeated


def test_a_sweep_whose_workers_are_killed_ten_times_ends_as_one_run_after_the_other_does(script, tmp_path):
    log, draws, killed = tmp_path / "log", random.Random(0), set()
    command = [sys.executable, str(HERE / "sweeping_script.py"), str(tmp_path / "swept"), str(log), "0.03"]
    environment = os.environ | FORK | {"PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as one:
        while len(killed) < KILLS:
            number = len(lines_of(log))
            at_work = wait_for(
                lambda n=number: {pid for pid, *_ in lines_of(log)[n:]} - killed or one.poll() is not None
            )
            assert one.poll() is None, "the sweep ended before all kills"
            process = draws.choice(sorted(at_work))
            time.sleep(draws.uniform(0, 0.1))
            os.kill(process, signal.SIGKILL)
            killed.add(process)
        out, _ = one.communicate(timeout=PATIENCE)
    assert (one.returncode, out) == (0, f"{script.RUNS} runs, 0 errors\n")
    assert assert_nothing_was_done_twice(lines_of(log), script.STEPS - 1) <= KILLS
    for experiment in script.experiments():
        serial = run(experiment, tmp_path / "serial", progress=False)
        assert_equal(tmp_path / "swept" / experiment.folder_name, serial.folder)


def test_steps_that_two_processes_take_at_once_or_twice_are_found():
    assert assert_nothing_was_done_twice([(1, 0, 0), (1, 0, 0), (1, 0, 1), (2, 0, 1), (2, 0, 2)], last=2) == 1
    for lines in ([(1, 0, 0), (2, 0, 1), (1, 0, 1), (1, 0, 2)], [(1, 0, 0), (1, 0, 1), (2, 0, 0)], [(1, 0, 0)]):
        with pytest.raises(AssertionError):
            assert_nothing_was_done_twice(lines, last=2)


# --- schedulers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def started():
    """A function that starts a process of Dask. All of them are ended with the test."""
    processes: list[subprocess.Popen] = []

    def start(*words: object) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        environment |= {"STEPS_LOG": str(words[-1]), "STEPS_SECONDS": "0.02"}
        command = [sys.executable, "-m", "dask", *map(str, words[:-1])]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, env=environment, **silent))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def start_cluster(started: Callable, folder: Path, file: Path, log: Path) -> list[subprocess.Popen]:
    """Start a scheduler and a worker, which find each other by the scheduler's file."""
    scheduler = started(
        *("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--no-show", "--scheduler-file", file), log
    )
    wait_for(file.exists)
    words = ("--no-nanny", "--nthreads", 1, "--no-dashboard", "--local-directory", folder)
    return [scheduler, started("worker", "--scheduler-file", file, *words, log)]


def test_a_sweep_whose_scheduler_is_killed_says_so_at_once_and_continues_on_the_next_one(script, started, tmp_path):
    log, file = tmp_path / "log", tmp_path / "scheduler.json"
    first = start_cluster(started, tmp_path, file, log)
    command = [sys.executable, str(HERE / "sweeping_script.py"), str(tmp_path / "swept"), str(log), "0.02", str(file)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    said = tmp_path / "said"
    with said.open("w") as out, subprocess.Popen(command, stdout=out, env=environment) as one:
        try:
            wait_for(lambda: len(lines_of(log)) > script.STEPS or one.poll() is not None)
            for process in first:
                process.kill()
                process.wait()
            wait_for(lambda: "the scheduler must stay reachable, got a client that is" in said.read_text())
            start_cluster(started, tmp_path, file, log)
            assert one.wait(timeout=PATIENCE) == 0
        finally:
            one.kill()
    assert said.read_text().endswith("4 runs, 0 errors\n")
    assert assert_nothing_was_done_twice(lines_of(log), script.STEPS - 1) <= 1
