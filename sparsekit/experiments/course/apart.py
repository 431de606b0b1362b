"""Run students' answers apart from this process, and assess what they gave."""

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from sparsekit.experiments.course.exercise import Exercise, Results, Verdict
from sparsekit.experiments.course.transfer import decode

SECONDS = 20.0  # that an answer may take
BYTES = 1_000_000_000  # that it may use beside what torch has loaded
WORKER = "sparsekit.experiments.course.worker"


class Apart:
    """A process in which answers run, for as long as a `with` lasts. It is started again when an answer ends it.

    Args:
        seconds: that an answer may take.
        memory: bytes that it may use.

    Raises:
        OSError: if the system cannot fork.

    Example:
        >>> with Apart() as apart:  # doctest: +SKIP
        ...     verdict = apart.check(exercise("count_of"), "def count_of(rows, columns, density): ...")
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = BYTES):
        if not hasattr(os, "fork"):
            raise OSError(
                "grading needs a system that can fork, got one that cannot. Use Linux or macOS, or Linux inside Windows"
            )
        self.seconds, self.memory = seconds, memory
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def check(self, task: Exercise, code: str) -> Verdict:
        """Run the definitions of a submission and the answer among them. Assess the results in this process."""
        seconds = max(self.seconds, task.seconds)
        reply = self._ask({"name": task.name, "code": code, "seconds": seconds, "bytes": self.memory})
        if "failure" in reply:
            return task.wrong(f"Your answer {reply['failure']}.")
        try:
            results: Results = [(str(kind), decode(value)) for kind, value in reply["results"]]
        except (ValueError, TypeError, KeyError):  # an answer may have written this itself
            return task.wrong("Your answer gives something that cannot be read.")
        return task.assess(results)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._stop()
            return {"failure": "ended the process that runs it"}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
