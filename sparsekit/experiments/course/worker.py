"""A process that runs students' answers, each in a copy of itself with limits: `python -m sparsekit....course.worker`.

It reads requests as lines of JSON and writes a line for each. It has loaded torch before the first one, so an answer
costs a fork. Where the system cannot fork, the process runs one answer and ends.
"""

import ast
import json
import os
import resource
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparsekit.experiments.course.exercise import Exercise, error_text
from sparsekit.experiments.course.tasks import exercise
from sparsekit.experiments.course.transfer import encode

HIDDEN = ("sparsekit.experiments.course", "sparsekit.widgets", "sparsekit.cli")  # where expected values are
PAUSE = 0.01  # seconds between two looks at a child
LARGEST_FILE = 20_000_000  # bytes that an answer may write


def main() -> None:
    """Serve requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w")  # an answer that prints reaches no reply
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=replies, flush=True)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one answer in a child, and return `{"results": ...}` or `{"failure": ...}`."""
    with tempfile.TemporaryDirectory(prefix="sparsekit-answer-") as folder:
        child = os.fork()
        if child == 0:
            _run_and_end(request, Path(folder))
        failure = _wait(child, request["seconds"])
        file = Path(folder) / "results.json"
        if failure:
            return {"failure": failure}
        try:
            return {"results": json.loads(file.read_text(encoding="utf-8"))}
        except (OSError, ValueError):
            return {"failure": "ended its process before it had an answer"}


def _wait(child: int, seconds: float) -> str:
    """Wait for a child, and end it with whatever it has started. Return what went wrong, or an empty text."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                by_limit = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
                return f"took more than {seconds:g} s" if by_limit else ""
            time.sleep(PAUSE)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"took more than {seconds:g} s"
    finally:
        _end_group(child)


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody may be left
        os.killpg(group, signal.SIGKILL)


def _run_and_end(request: dict[str, Any], folder: Path) -> None:
    """Run an answer in this process, which ends with it."""
    try:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 2):
            os.dup2(null, stream)
        sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+")  # noqa: SIM115 - the process ends soon
        task = exercise(request["name"]).without_answers()
        _limit(request["seconds"], request["bytes"])
        _hide()
        results = [[kind, encode(value)] for kind, value in results_of(task, request["code"])]
        text = json.dumps(results)
    except MemoryError:
        text = json.dumps([["error", "MemoryError: it needed more memory than an answer may have"]])
    except BaseException as error:  # the process must end here, whatever the answer did
        text = json.dumps([["error", error_text(error)]])
    (folder / "results.json").write_text(text, encoding="utf-8")
    os._exit(0)


def results_of(task: Exercise, code: str) -> list[tuple[str, Any]]:
    """Execute definitions one by one, then run the answer among them. Return its results, or the error."""
    scope: dict[str, Any] = {"__name__": "answer"}
    errors = []
    for node in ast.parse(code).body:
        try:
            exec(compile(ast.Module([node], []), "answer", "exec"), scope)
        except Exception as error:  # a missing module matters only if the answer needs it
            errors.append(error_text(error))
    if task.name not in scope:
        return [("error", errors[-1])] if errors else [("open", None)]
    return task.run(scope[task.name])


def _limit(seconds: float, memory: int) -> None:
    """Limit time, memory beside what is in use already, and the length of files."""
    limit = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    statm = Path("/proc/self/statm")
    if statm.exists():
        whole = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (whole, whole))


def _hide() -> None:
    """Let nobody in this process import the expected values any more."""
    for name in list(sys.modules):
        if name.startswith(HIDDEN):
            sys.modules[name] = None  # type: ignore[assignment] - an import raises then


if __name__ == "__main__":
    main()
