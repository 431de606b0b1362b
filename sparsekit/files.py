"""Files that are never half-written, and folders that one process at a time writes to."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)`, then rename the temporary file to `path`; on failure nothing is left behind."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, or replace it, as a whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


@contextmanager
def alone(folder: Path, waiting: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Be the only one on this machine within such a block for this folder, which need not exist.

    Others wait for their turn; a process that dies gives its turn away.

    Args:
        folder: what is written to; nothing is put there.
        waiting: called once if somebody else is at it.
    """
    user = os.getuid() if hasattr(os, "getuid") else "own"  # not by name, which a container's user may lack
    locks = Path(tempfile.gettempdir()) / f"sparsekit-locks-{user}"
    locks.mkdir(exist_ok=True)
    lock = FileLock(locks / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24])
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
