"""One process at a time works with a folder, on this machine and on others that share its file system.

Processes of one machine wait at a lock of the system, which a process that dies gives up. It tells other machines
nothing, and two jobs with different temporary directories have different ones. So whoever has the lock also claims the
folder by a small file beside it, which is touched every few seconds. A claim that is no longer touched is taken over.
"""

import errno
import hashlib
import json
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sparsekit.utils.files import NO_SPACE, cache_folder, saying_no_space

HEARTBEAT = 15.0  # seconds between two touches of a claim
STALE = 8 * HEARTBEAT  # without a touch for so long, a claim is given up. File servers may be slow for a while
POLL = 0.5  # seconds between two looks at somebody else's claim
READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class LostClaimError(OSError):
    """Somebody else has taken a folder over, because this process had not touched its claim for too long."""


@contextmanager
def alone(folder: Path, waiting: Callable[[], Any] = lambda: None) -> Iterator[Callable[[], None]]:
    """Be the only one who works with a folder, which need not exist, for as long as a `with` lasts.

    Others wait for their turn. A process that dies gives its turn away, at once to others of its machine, and after
    two minutes to other machines.

    Args:
        folder: where you will write. A hidden file beside it says who works with it, until the `with` ends. Where that
            file cannot be written, as beside a run that you only read, other machines are not kept out. Where
            the disk is full you may read, and the function that you get raises when you write.
        waiting: called once if somebody else works with it.

    Yields:
        A function to call before each write. It raises `LostClaimError` if somebody else has taken the folder over,
        which happens to a process that was stopped for minutes.

    Raises:
        OSError: if there is no folder of this user's own to keep the locks in.
    """
    lock = FileLock(_lock_folder() / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24])
    waiting = cache(waiting)  # once is enough
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        claim = _Claim(folder.resolve())
        claim.take(waiting)
        try:
            yield claim.check
        finally:
            claim.give_up()
    finally:
        lock.release()


class _Claim:
    """A file beside a folder that names who works with it."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder.with_name(f".{folder.name}.owner")
        self.token = uuid.uuid4().hex
        self.is_held, self.over = False, threading.Event()
        self.made: list[Path] = []  # folders that were not there before
        self.fault: OSError | None = None  # why nothing can be written now, although it may be read

    def take(self, waiting: Callable[[], Any]) -> None:
        """Wait until nobody else has claimed the folder, claim it, and keep the claim fresh."""
        self.made = [one for one in self.folder.parents if not one.exists()]
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            while not self._written():
                self._wait_or_remove(waiting)
        except OSError as error:
            if error.errno not in READ_ONLY | NO_SPACE:
                raise
            self.fault = error if error.errno in NO_SPACE else None
            return
        self.is_held = True
        threading.Thread(target=self._keep_fresh, name="sparsekit-claim", daemon=True).start()

    def check(self) -> None:
        """Raise LostClaimError unless the folder is still claimed by this, or why nothing can be written."""
        if self.fault is not None:
            with saying_no_space(f"beside {self.folder}"):
                raise self.fault
        if not self.is_held:
            return
        owner = _read(self.path)
        if owner is None or owner.get("token") != self.token:
            by = "nobody" if owner is None else f"process {owner.get('pid')} of {owner.get('host')}"
            raise LostClaimError(
                f"{self.folder} must be claimed by this process while it writes, got {self.path.name} of {by}. This "
                "process did not run for minutes, so another may have gone on. Call again, and it continues from there"
            )

    def give_up(self) -> None:
        """Let others claim the folder."""
        self.over.set()
        owner = _read(self.path)
        if owner is not None and owner.get("token") == self.token:
            self.path.unlink(missing_ok=True)
        for one in self.made:
            try:
                one.rmdir()
            except OSError:  # something is kept there now
                break

    def _wait_or_remove(self, waiting: Callable[[], Any]) -> None:
        owner = _read(self.path)
        if owner is None:
            return
        if _is_dead(owner) or self._age() > STALE:
            self._remove(owner)
            return
        waiting()
        time.sleep(POLL)

    def _written(self) -> bool:
        """Create the file, which fails if there is one, on file servers too."""
        about = {"host": socket.gethostname(), "system": _system(), "pid": os.getpid(), "token": self.token}
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(file, "w") as writer:
                json.dump(about, writer)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _age(self) -> float:
        """Return for how many seconds nobody has touched the file, by the clock of whoever keeps the file system."""
        probe = self.path.with_name(f"{self.path.name}.{self.token}")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:  # it was given up just now
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove(self, owner: dict[str, Any]) -> None:
        """Take away the claim of this owner, unless another has come in between."""
        aside = self.path.with_name(f"{self.path.name}.{self.token}.old")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _read(aside) != owner:  # somebody was faster, and gets the claim back
            with suppress(OSError):  # if a third one was faster still, its owner learns that before it writes again
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)

    def _keep_fresh(self) -> None:
        while not self.over.wait(HEARTBEAT):
            try:
                os.utime(self.path)
            except OSError:  # a file server that does not answer now may answer next time
                continue


def _read(path: Path) -> dict[str, Any] | None:
    """Return who has claimed a folder, or None if nobody has. Whoever is just writing the file has no name yet."""
    try:
        owner = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return None
    except (ValueError, PermissionError):  # of what somebody else keeps to himself, we see how old it is
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether a process has certainly ended. Of other machines and containers we cannot know."""
    if owner.get("system") != _system() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        return False
    return False


@cache
def _system() -> str:
    """Return what only processes share that see each other's numbers: the start of a system, and its name space."""
    parts = [socket.gethostname()]
    for name in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(name) if name.endswith("pid") else Path(name).read_text().strip())
        except OSError:  # not Linux
            continue
    return " ".join(parts)


def _lock_folder() -> Path:
    """Return a folder that is this user's own, since we would write to, or wait for, what others put there."""
    user = os.getuid() if hasattr(os, "getuid") else "own"  # not by name, which a container's user may lack
    first = Path(tempfile.gettempdir()) / f"sparsekit-locks-{user}"
    if not (fault := _fault_of(first)):
        return first
    second = cache_folder() / "locks"  # not the first choice, because homes on a network may know no locks
    if not (other := _fault_of(second)):
        return second
    raise OSError(
        f"a folder for locks must belong to this user, got neither {first} ({fault}) nor {second} ({other}). Set "
        "TMPDIR or XDG_CACHE_HOME to a folder of yours"
    )


def _fault_of(folder: Path) -> str:
    """Return what is wrong with a folder, nothing if it is this user's own or just made. A link to one is not one."""
    try:
        if not os.path.lexists(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(about.st_mode):
        return "no folder"
    if hasattr(os, "getuid") and about.st_uid != os.getuid():
        return "of another user"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "not to be written to"
