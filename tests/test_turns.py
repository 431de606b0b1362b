"""One process at a time works with a run: on one machine by a lock, on several by a claim that lies beside the run."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sparsekit.experiments import Experiment, run
from sparsekit.experiments.work import Work
from sparsekit.rules import SET
from sparsekit.train.history import Row, append_rows, read_rows
from sparsekit.utils import turns
from sparsekit.utils.turns import LostClaimError, alone

ELSEWHERE = {"host": "node-2", "system": "node-2 another start", "pid": 1, "token": "of another"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(turns, "POLL", 0.01)


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """A temporary folder and a home of this test's own; returns where locks usually are, and where else."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(turns.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "tmp" / f"sparsekit-locks-{os.getuid()}", tmp_path / "home" / "sparsekit" / "locks"


def locks_in(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_locks_are_usually_in_a_folder_that_nobody_else_can_write_to(homes, tmp_path):
    with alone(tmp_path / "run"):
        assert locks_in(homes[0]) == 1
    assert stat.S_IMODE(homes[0].stat().st_mode) == 0o700
    assert not homes[1].exists()


def test_a_folder_for_locks_that_belongs_to_somebody_else_is_left_alone(homes, tmp_path, monkeypatch):
    somebody = os.getuid() + 1
    foreign = tmp_path / "tmp" / f"sparsekit-locks-{somebody}"
    foreign.mkdir(mode=0o777)
    real = Path.lstat
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: somebody)

    def owned(path):
        about = real(path)
        if path == foreign or about.st_uid != mine:
            return about
        return os.stat_result([*about[:4], somebody, *about[5:]])

    monkeypatch.setattr(Path, "lstat", owned)
    with alone(tmp_path / "run"):
        assert locks_in(foreign) == 0
        assert locks_in(homes[1]) == 1


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_something_else_in_the_place_of_the_folder_for_locks_is_left_alone(kind, homes, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        homes[0].write_text("of somebody else")
    else:
        homes[0].symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with alone(tmp_path / "run"):
        assert locks_in(homes[1]) == 1
    assert locks_in(tmp_path / "elsewhere") == 0
    assert not (tmp_path / "nowhere").exists()


def test_where_no_folder_for_locks_can_be_had_the_error_names_both(homes, tmp_path):
    for home in homes:
        home.parent.mkdir(parents=True, exist_ok=True)
        home.write_text("of somebody else")
    with pytest.raises(
        OSError, match=r"folder for locks must belong to this user, got neither .* \(no folder\) nor .*. Set TMPDIR"
    ):
        run(Experiment(), tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_machines(monkeypatch, tmp_path):
    """Each `with alone(...)` has a lock folder of its own, as jobs with different temporary directories have."""
    folders = iter(range(1000))

    def another() -> Path:
        folder = tmp_path / "locks" / str(next(folders))
        folder.mkdir(parents=True)
        return folder

    monkeypatch.setattr(turns, "_lock_folder", another)


def claim_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.owner")


def claim_elsewhere(folder: Path, *, seconds_ago: float, **differences) -> Path:
    """Write a claim that another machine last touched so long ago."""
    claim_of(folder).write_text(json.dumps(ELSEWHERE | differences))
    then = time.time() - seconds_ago
    os.utime(claim_of(folder), (then, then))
    return claim_of(folder)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def take_in_a_thread(folder: Path, got: threading.Event, told: list[str] | None = None) -> threading.Thread:
    def work():
        with alone(folder, lambda: told.append("waits") if told is not None else None):
            got.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_claim_lies_beside_the_folder_and_nothing_is_left_of_it(tmp_path):
    folder = tmp_path / "not" / "there" / "run"
    with alone(folder):
        assert json.loads(claim_of(folder).read_text())["pid"] == os.getpid()
        assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_whoever_has_another_lock_waits_for_the_claim(two_machines, tmp_path):
    got, told = threading.Event(), []
    with alone(tmp_path / "run"):
        thread = take_in_a_thread(tmp_path / "run", got, told)
        assert not got.wait(0.3)
    assert got.wait(30)
    thread.join()
    assert told == ["waits"]
    assert not claim_of(tmp_path / "run").exists()


def test_a_claim_of_another_machine_is_waited_for_while_it_is_touched_and_taken_over_when_it_is_not(tmp_path):
    got, claim = threading.Event(), claim_elsewhere(tmp_path / "run", seconds_ago=turns.STALE / 2)
    thread = take_in_a_thread(tmp_path / "run", got)
    assert not got.wait(0.3)
    claim_elsewhere(tmp_path / "run", seconds_ago=turns.STALE + 60)
    assert got.wait(30)
    thread.join()
    assert not claim.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_of_a_process_that_died_here_is_taken_over_at_once(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    claim_elsewhere(tmp_path / "run", seconds_ago=0, system=turns._system(), pid=ended.pid)
    with alone(tmp_path / "run"):
        assert json.loads(claim_of(tmp_path / "run").read_text())["pid"] == os.getpid()


def test_a_claim_that_was_never_finished_is_taken_over_like_any_other(tmp_path):
    claim_elsewhere(tmp_path / "run", seconds_ago=0)
    claim_of(tmp_path / "run").write_bytes(b'{"host": "no')
    os.utime(claim_of(tmp_path / "run"), (0, 0))
    with alone(tmp_path / "run") as may_write:
        may_write()


def test_a_claim_is_touched_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "HEARTBEAT", 0.02)
    with alone(tmp_path / "run"):
        os.utime(claim_of(tmp_path / "run"), (0, 0))
        deadline = time.monotonic() + 30
        while claim_of(tmp_path / "run").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_of_many_who_see_a_dead_claim_one_at_a_time_gets_the_folder(two_machines, tmp_path):
    claim_elsewhere(tmp_path / "run", seconds_ago=turns.STALE + 60)
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        with alone(tmp_path / "run") as may_write:
            with lock:
                inside += 1
                most = max(most, inside)
            may_write()
            time.sleep(0.005)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert not claim_of(tmp_path / "run").exists()


def test_a_run_that_was_taken_over_writes_no_more(tmp_path, monkeypatch):
    evaluate = Work.evaluate

    def evaluate_after_minutes(work):
        claim_elsewhere(work.folder, seconds_ago=0)
        return evaluate(work)

    experiment = Experiment(epochs=1, density=0.1)
    run(experiment, tmp_path, progress=False, until=3)
    before = files_in(tmp_path / experiment.folder_name)
    monkeypatch.setattr(Work, "evaluate", evaluate_after_minutes)
    with pytest.raises(
        LostClaimError, match="must be claimed by this process while it writes, got .* process 1 of node-2"
    ):
        run(experiment, tmp_path, progress=False)
    assert files_in(tmp_path / experiment.folder_name) == before
    assert claim_of(tmp_path / experiment.folder_name).exists()  # which is the other's


def test_beside_a_folder_that_one_only_reads_no_claim_is_needed(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(turns._Claim, "_written", refused)
    with alone(tmp_path / "run") as may_write:
        may_write()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_may_not_be_read_is_waited_for_like_any_other(tmp_path, monkeypatch):
    claim, got, real = claim_elsewhere(tmp_path / "run", seconds_ago=0), threading.Event(), Path.read_bytes

    def refused(path):
        if path == claim and json.loads(real(path)) == ELSEWHERE:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    thread = take_in_a_thread(tmp_path / "run", got)
    assert not got.wait(0.3)
    claim.unlink()
    assert got.wait(30)
    thread.join()


def test_on_a_full_disk_one_may_read_and_is_told_before_one_writes(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(turns.json, "dump", full)
    with (
        alone(tmp_path / "run") as may_write,
        pytest.raises(OSError, match="must be room to write beside .*run, got no"),
    ):
        may_write()
    assert list(tmp_path.iterdir()) == []  # nobody waits for what was left behind


def test_a_run_that_was_taken_over_adds_no_rewiring(tmp_path, monkeypatch):
    experiment = Experiment(epochs=1, density=0.1, rule=SET(stop=10, every=5))
    run(experiment, tmp_path, progress=False, until=3)
    journal = tmp_path / experiment.folder_name / "journal"
    before, record = journal.read_bytes(), Work.record

    def record_after_minutes(work, *args):
        claim_elsewhere(work.folder, seconds_ago=0)
        return record(work, *args)

    monkeypatch.setattr(Work, "record", record_after_minutes)
    with pytest.raises(LostClaimError):
        run(experiment, tmp_path, progress=False)
    assert journal.read_bytes() == before


def test_rows_that_two_processes_wrote_are_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_rows(path, [Row(0, 0, "train loss", 1.0), Row(0, 0, "train accuracy", 0.1), Row(1, 0, "train loss", 0.9)])
    assert len(read_rows(path)) == 3
    append_rows(path, [Row(1, 0, "train loss", 0.9)])
    with pytest.raises(ValueError, match="steps of train loss must increase, got 1 after 1 in line 4 of"):
        read_rows(path)
