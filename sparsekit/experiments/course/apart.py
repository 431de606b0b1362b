"""Run students' answers apart from this process, and assess what they gave."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from threading import Timer
from types import TracebackType
from typing import Any, Self

from sparsekit.experiments.course.exercise import Exercise, Results, Verdict, error_text
from sparsekit.experiments.course.transfer import decode

SECONDS = 20.0  # that an answer may take
PATIENCE = 30.0  # seconds more, after which the process that runs answers has itself been stopped
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
            return task.assess(results)
        except Exception as error:  # an answer may have written this itself, and it may be anything
            return task.wrong(f"Your answer gives something that cannot be read ({error_text(error)}).")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        token = secrets.token_hex(16)
        timer = Timer(request["seconds"] + PATIENCE, process.kill)
        timer.daemon = True
        timer.start()
        reply = None
        with suppress(OSError, ValueError):  # the process may end at any time
            process.stdin.write(json.dumps({**request, "token": token}) + "\n")
            process.stdin.flush()
            reply = _reply_among(process.stdout, token)
        timer.cancel()
        if reply is None:
            self._stop()
        return reply or {"failure": "ended the process that runs it, or stopped it"}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER],  # with -P, no file of the current folder is a module
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
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):  # a request may be left in it
                    pipe.close()  # type: ignore[union-attr] - both are pipes
            self._process = None


def _reply_among(lines: Iterable[str], token: str) -> dict[str, Any] | None:
    """Return the reply that carries a token. Other lines may be an answer's, and they do not count."""
    for line in lines:
        with suppress(ValueError, RecursionError):
            reply = json.loads(line)
            if isinstance(reply, dict) and reply.get("token") == token:
                return reply
    return None
