"""Try the tests: put one known defect at a time into a copy of the package, and see whether they notice it.

    python tools/mutants.py                    # all of tests/mutants.toml, about a quarter of an hour on one core
    python tools/mutants.py --only rules/ flow # those whose file or name holds one of these words
    python tools/mutants.py --jobs 4

A defect is *killed* if a test fails, *survived* if none does, *equivalent* if the list says why no test can tell, and
*broken* if its line is no longer there, there are no such tests, or the one that fails does so without the defect as
well, which is tried at the end. The exit status is 1 if a defect survived or is broken. The checkout
is never changed, because every process works on a copy of its own.

Why not a library: mutmut and cosmic-ray make mutants from operators (+ for -, < for <=) and run one command for each;
neither takes a list written by hand, and thousands of mutants against this suite would take days. Here every defect is
one that somebody made, or is tempted to make, and names the few tests that must notice.
"""

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutants.toml"
COPIED = ("sparsekit", "tests", "tools", "pyproject.toml")
OUTCOMES = ("killed", "survived", "equivalent", "broken")
EQUIVALENT = "equivalent: "  # what stands before the reason, in place of the tests
# Imported once, before the processes of the single defects are forked off.
HEAVY = ["torch", "torchvision", "numba", "pandas", "scipy.stats", "scipy.optimize", "matplotlib.pyplot"]
HEAVY += ["sklearn.datasets", "safetensors.torch", "ipywidgets", "anywidget", "typer.testing", "pytest", "hypothesis"]
FAILED, NONE_FOUND, WRONG_PACKAGE = 1, 5, 99  # exit codes: the first two are pytest's


@dataclass(frozen=True)
class Selection:
    """Some tests of one file.

    Args:
        file: its name.
        word: what their names must hold; "" takes all.
    """

    file: str
    word: str = ""

    def takes(self, file: str, name: str) -> bool:
        """Whether a test is among them."""
        return file == self.file and self.word in name


@dataclass(frozen=True)
class Mutant:
    """A defect of one line.

    Args:
        file: where, from the root of the checkout.
        name: what is wrong, in words.
        old: a piece of a line that stands in the file exactly once.
        new: what takes its place.
        tests: those that must notice.
        reason: why no test can tell, where none can.
    """

    file: str
    name: str
    old: str
    new: str
    tests: tuple[Selection, ...]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.file.removeprefix('sparsekit/').removesuffix('.py')}: {self.name}"

    def fault(self, root: Path) -> str:
        """Say why it cannot be tried, or return an empty string."""
        path = root / self.file
        if not path.is_file():
            return "there is no such file"
        text = path.read_text(encoding="utf-8")
        if (times := text.count(self.old)) != 1:
            return f"{self.old!r} must stand in the file once, found {times} times; mend the list"
        try:
            compile(self.applied_to(text), self.file, "exec")
        except SyntaxError as error:
            return f"it makes no Python: {error}"
        lost = [one.file for one in self.tests if not (root / "tests" / one.file).is_file()]
        return f"there is no {', '.join(lost)}" if lost else ""

    def applied_to(self, text: str) -> str:
        """Return the file's text with the defect."""
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Result:
    """What became of a defect.

    Args:
        mutant: the defect.
        outcome: one of `OUTCOMES`.
        why: more about it, where there is more to say.
        seconds: how long its tests took.
        failed: the tests that noticed.
    """

    mutant: Mutant
    outcome: str
    why: str = ""
    seconds: float = 0.0
    failed: tuple[Selection, ...] = ()

    def __str__(self) -> str:
        why = f"\n           {self.why}" if self.why else ""
        return f"{self.outcome:10} {self.seconds:5.1f} s  {self.mutant}{why}"


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """Read the list: a table for each file, in it `"what is wrong" = ["old", "new", "tests"]`.

    Tests are files of `tests/`, separated by commas, each perhaps followed by a word: `"test_a.py, test_b.py: word"`.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_mutant(file, name, *entry) for file, table in tables.items() for name, entry in table.items()]


def _mutant(file: str, name: str, old: str, new: str, tests: str) -> Mutant:
    if tests.startswith(EQUIVALENT):
        return Mutant(file, name, old, new, (), tests.removeprefix(EQUIVALENT))
    parts = [part.partition(":") for part in tests.split(",")]
    return Mutant(file, name, old, new, tuple(Selection(one.strip(), word.strip()) for one, _, word in parts))


def try_all(
    mutants: Sequence[Mutant], root: Path = ROOT, *, jobs: int = 1, timeout: float = 300.0, heavy: Sequence[str] = HEAVY
) -> Iterator[Result]:
    """Try each defect and yield what became of it; in the end once more, where a test fails without it as well.

    Args:
        mutants: the defects.
        root: of the checkout; it stays as it is.
        jobs: processes at a time.
        timeout: seconds after which tests that do not end count as failed.
        heavy: modules that all processes share.
    """
    faults = {mutant: mutant.fault(root) for mutant in mutants}
    yield from (Result(mutant, "broken", fault) for mutant, fault in faults.items() if fault)
    sound = [mutant for mutant, fault in faults.items() if not fault]
    yield from (Result(mutant, "equivalent", mutant.reason) for mutant in sound if mutant.reason)
    with tempfile.TemporaryDirectory() as temporary:
        folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            folders.put(copied(root, Path(temporary) / str(number)))
        start = _processes(heavy)
        sound = [mutant for mutant in sound if not mutant.reason]
        results = []
        with ThreadPoolExecutor(jobs) as pool:
            for result in pool.map(lambda mutant: _tried(mutant, folders, start, timeout), sound):
                results.append(result)
                yield result
        yield from _without_defect(results, folders.get(), start)


def copied(root: Path, folder: Path) -> Path:
    """Copy what the tests need, compiled code included: it holds as long as the files' dates are the same."""
    folder.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name)
        elif (root / name).exists():
            shutil.copy2(root / name, folder)
    return folder


def _processes(heavy: Sequence[str]) -> Callable[..., multiprocessing.process.BaseProcess]:
    """Return what makes a process that has the heavy modules already, where the system can fork."""
    way = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(way)
    if way == "forkserver":
        context.set_forkserver_preload(list(heavy))
    return context.Process


def _without_defect(results: Sequence[Result], folder: Path, start: Callable) -> Iterator[Result]:
    """Yield those whose test fails without the defect as well."""
    noticing = sorted({one for result in results for one in result.failed}, key=str)
    if not noticing:
        return
    log = folder.with_name("without.log")
    code = _run(start, folder, noticing, log, stop_at_first=False)
    if code not in (0, FAILED):
        raise RuntimeError(f"the tests must run without any defect, got exit code {code}:\n{_end_of(log)}")
    failing = _failed(log)
    for result in results:
        if names := [one.word for one in result.failed if one in failing]:
            yield Result(result.mutant, "broken", f"fails without the defect as well: {', '.join(names)}")


def _tried(mutant: Mutant, folders: queue.SimpleQueue, start: Callable, timeout: float) -> Result:
    folder = folders.get()
    log, before = folder.with_name(f"{folder.name}.log"), time.monotonic()
    try:
        with _defect(mutant, folder) as text:
            code = _run(start, folder, mutant.tests, log, timeout=timeout, compiles="njit" in text)
        failed = tuple(_failed(log)) if code == FAILED else ()
        return Result(mutant, *_judged(code, log), seconds=time.monotonic() - before, failed=failed)
    finally:
        folders.put(folder)


@contextmanager
def _defect(mutant: Mutant, folder: Path) -> Iterator[str]:
    """Put the defect into a copy, give the text as it was, and take the defect out again."""
    path, kept = folder / mutant.file, folder.with_name(f"{folder.name}.kept")
    shutil.copy2(path, kept)
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.applied_to(text), encoding="utf-8")
        yield text
    finally:
        shutil.copy2(kept, path)  # with its date, by which compiled code is known to be of it


def _failed(log: Path) -> set[Selection]:
    return {Selection(*place) for place in json.loads(log.with_suffix(".json").read_text(encoding="utf-8"))}


def _judged(code: int | None, log: Path) -> tuple[str, str]:
    if code == 0:
        return "survived", ""
    if code == FAILED:
        return "killed", ""
    if code is None:
        return "killed", "its tests did not end"
    if code == NONE_FOUND:
        return "broken", "there are no such tests"
    if code < 0:
        return "killed", f"the process died of signal {-code}"
    return "broken", f"the tests could not run, exit code {code}:\n{_end_of(log)}"


def _run(
    start: Callable,
    folder: Path,
    selections: Sequence[Selection],
    log: Path,
    *,
    timeout: float | None = None,
    stop_at_first: bool = True,
    compiles: bool = False,
) -> int | None:
    process = start(target=run_tests, args=(folder, list(selections), log, stop_at_first, compiles))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def run_tests(folder: Path, selections: Sequence[Selection], log: Path, stop_at_first: bool, compiles: bool) -> None:
    """Run some tests in a copy of the checkout and end this process with pytest's exit code.

    Args:
        folder: the copy.
        selections: which tests.
        log: what the tests print goes there, and the names of those that fail beside it.
        stop_at_first: stop at the first that fails.
        compiles: whether the defect is in compiled code, of which nothing older may be used.
    """
    import pytest

    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ |= {"MPLBACKEND": "agg", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    if compiles:
        _compile_anew(tempfile.mkdtemp(dir=folder.parent))
    chosen = _Chosen(selections)
    files = sorted({f"tests/{one.file}" for one in selections})
    # With thorough tests, too, which the settings leave out.
    options = ["-q", "--no-header", "-m", "", "-p", "no:cacheprovider", *(["-x"] if stop_at_first else [])]
    code = pytest.main([*options, *files], plugins=[chosen])
    log.with_suffix(".json").write_text(json.dumps(chosen.failed), encoding="utf-8")
    package = sys.modules.get("sparsekit")
    if package is not None and not str(package.__file__).startswith(str(folder)):
        code = WRONG_PACKAGE
    sys.stdout.flush()
    os._exit(int(code))


def _compile_anew(cache: str) -> None:
    """Numba looks at the date of a function's own file only, not at those of functions that it calls."""
    import numba

    os.environ["NUMBA_CACHE_DIR"] = cache
    numba.config.reload_config()


class _Chosen:
    """Tells pytest which tests to run, and notes which fail."""

    def __init__(self, selections: Sequence[Selection]):
        self.selections = selections
        self.failed: list[tuple[str, str]] = []

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [one for one in items if any(it.takes(*_place(one.nodeid)) for it in self.selections)]

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(_place(report.nodeid))


def _place(nodeid: str) -> tuple[str, str]:
    file, _, name = nodeid.partition("::")
    return Path(file).name, name


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="words of the file or of the name")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of one defect")
    given = parser.parse_args(arguments)
    mutants = [one for one in read_mutants() if any(word in str(one) for word in given.only)]
    if not mutants:
        parser.error(f"--only must be part of a file or of a name in {LIST.name}, got {' '.join(given.only)}")
    results = {}
    for result in try_all(mutants, jobs=given.jobs, timeout=given.timeout):
        results[result.mutant] = result
        print(result, flush=True)
    return report(list(results.values()))


def report(results: Sequence[Result]) -> int:
    """Print the numbers, and what the tests do not notice; return the exit status."""
    counts = Counter(result.outcome for result in results)
    print("\n" + ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))
    for result in results:
        if result.outcome == "survived":
            print(f"\n{result.mutant}\n  - {result.mutant.old}\n  + {result.mutant.new}")
    return int(bool(counts["survived"] or counts["broken"]))


if __name__ == "__main__":
    sys.exit(main())
