"""A process that runs students' answers, each in a copy of itself with limits: `python -m sparsekit....course.worker`.

It reads requests as lines of JSON and writes a line for each. It has loaded torch before the first one, so an answer
costs a fork. Where the system cannot fork, the process runs one answer and ends.
"""

import ast
import json
import os
import resource
import signal
import stat
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
MOST_FILES = 65_536  # open at once, far more than this process has


def main() -> None:
    """Serve requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w")  # an answer that prints reaches no reply
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        token = request.pop("token")  # by which the reply is known
        print(json.dumps({"token": token, **serve(request)}), file=replies, flush=True)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one answer in a child, and return `{"results": ...}` or `{"failure": ...}`."""
    with tempfile.TemporaryDirectory(prefix="sparsekit-answer-", ignore_cleanup_errors=True) as folder:
        child = os.fork()
        if child == 0:
            _run_and_end(request, Path(folder))
        failure = _wait(child, request["seconds"])
        if failure:
            return {"failure": failure}
        try:
            return {"results": json.loads(_read_plain(Path(folder) / "results.json"))}
        except (OSError, ValueError, RecursionError):
            return {"failure": "ended its process before it had an answer"}


def _read_plain(file: Path) -> bytes:
    """Read what an answer has left, unless it is a link, a pipe or a device, which we might follow or wait for."""

    def plainly(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(file, "rb", opener=plainly) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError(f"{file.name} must be a plain file, got another kind. Write it anew")
        content = opened.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{file.name} must have at most {LARGEST_FILE} bytes, got more. Return less")
    return content


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
        _let_go_of_files()
        os.chdir(folder)
        (folder / "results.json").write_text(_outcome_of(request), encoding="utf-8")
    finally:
        os._exit(0)


def _let_go_of_files() -> None:
    """Close whatever the process had open, above all the pipe for replies, so that an answer can write none."""
    os.closerange(3, MOST_FILES)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+")  # noqa: SIM115 - the process ends soon


def _outcome_of(request: dict[str, Any]) -> str:
    """Run an answer within limits, and return its results as JSON."""
    try:
        task = exercise(request["name"]).without_answers()
        _limit(request["seconds"], request["bytes"])
        _hide()
        results = [[kind, encode(value)] for kind, value in results_of(task, request["code"])]
        return json.dumps(results)
    except MemoryError:
        return json.dumps([["error", "MemoryError: it needed more memory than an answer may have"]])
    except BaseException as error:  # the process must end here, whatever the answer did
        return json.dumps([["error", error_text(error)]])


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
    """Limit time, memory beside what is in use already, the length of files, and processes to this one."""
    limit = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    if os.geteuid() != 0:  # the system does not count root's
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
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
