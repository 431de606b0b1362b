"""Files that are never half-written and never read damaged."""

import errno
import io
import json
import os
import re
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# The disk is full, or a user's share of it, or a file is larger than a limit (`ulimit -f`).
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CHECKSUM = {"checksum": "0" * 8}  # with which a text begins that will be sealed
_SEAL = re.compile(rb'"checksum": ?"([0-9a-f]{8})"')
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')  # some of them on Windows only, to which you may copy runs
_LONGEST = 150  # bytes of a name. Systems take 255, and a run's folder adds a hash


def check_name(name: str, what: str) -> None:
    """Raise unless a name can be that of a file or folder, and cannot lead out of its folder.

    Raises:
        TypeError: if it is no text.
        ValueError: if it is empty or too long, begins or ends with a dot or a space, or holds a separator or another
            character that some system forbids.

    Example:
        >>> check_name("digits-mlp", "recipe")
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a text, got {name!r}. It becomes the name of a file or folder")
    if not 0 < len(name.encode(errors="replace")) <= _LONGEST or _FORBIDDEN.search(name) or name != name.strip(" ."):
        raise ValueError(
            f"{what} must be a plain name of a file or folder, at most {_LONGEST} bytes, got {name!r}. Use letters, "
            "digits and hyphens, and give the folder elsewhere"
        )


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)`, then rename the temporary file to `path`, or leave nothing behind on failure.

    Raises:
        OSError: if there is no space, which the message says.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        with saying_no_space(path):
            write(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes | bytearray) -> None:
    """Write a file, or replace it, as a whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: Path, text: str) -> None:
    """Write a text file, or replace it, as a whole or not at all."""
    write_bytes(path, text.encode())


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, and where that fails, remove again what was added.

    Raises:
        OSError: if there is no space, which the message says.
    """
    size = path.stat().st_size if path.exists() else 0
    with saying_no_space(path):
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError:
            if path.exists():
                os.truncate(path, size)
            raise


@contextmanager
def saying_no_space(where: Path | str) -> Iterator[None]:
    """Say of an error whose cause is a full disk that there must be room to write, and what to do."""
    try:
        yield
    except Exception as error:  # torch raises an error of its own where the file it writes to has raised one
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno in NO_SPACE):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise OSError(
            cause.errno,
            f"there must be room to write {where}, got no space ({os.strerror(cause.errno or 0)}). What was "
            "there before is whole. Free some space, or raise the limit on files, and call again",
        ) from error


def sealed(data: bytes) -> bytearray:
    """Fill in the checksum of a text that holds the entry `CHECKSUM`: a CRC-32 of all bytes, where it counts as zeros.

    Raises:
        ValueError: if there is no such entry.
    """
    whole = bytearray(data)
    seal = _SEAL.search(whole)
    if seal is None:
        raise ValueError('what is to be sealed must hold the entry "checksum", got none. Put CHECKSUM into it first')
    whole[seal.start(1) : seal.end(1)] = b"%08x" % zlib.crc32(data) if seal[1] == b"0" * 8 else _checksum(whole, seal)
    return whole


def is_sealed(data: bytes) -> bool:
    """Whether bytes are those that `sealed` returned, which every flipped bit changes."""
    seal = _SEAL.search(data)
    return seal is not None and seal[1] == _checksum(data, seal)


def _checksum(data: bytes | bytearray, seal: re.Match[bytes]) -> bytes:
    view = memoryview(data)
    before = zlib.crc32(b"0" * 8, zlib.crc32(view[: seal.start(1)]))
    return b"%08x" % zlib.crc32(view[seal.end(1) :], before)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON with a checksum, as a whole or not at all."""
    write_bytes(path, sealed(json.dumps({**CHECKSUM, **values}, indent=2).encode() + b"\n"))


def read_json(path: Path, *, remedy: str = "delete it") -> dict[str, Any]:
    """Read what `write_json` wrote.

    Args:
        path: the file.
        remedy: what to do if it is damaged and there is no good copy, as the end of a sentence.

    Raises:
        ValueError: if the file is another, or damaged.
        FileNotFoundError: if there is none.
    """
    data = path.read_bytes()
    if not is_sealed(data):
        raise ValueError(
            f"{path} must hold what sparsekit wrote with its checksum, got a file that is damaged, changed by hand or "
            f"of an older version. Put a good copy in its place, or {remedy}"
        )
    values = json.loads(data)
    del values["checksum"]
    return values


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file and check their checksums.

    Raises:
        ValueError: if the file is another, or damaged.
        FileNotFoundError: if there is none.
    """
    try:
        with zipfile.ZipFile(path) as file:
            # We read whole members, because zipfile compares their checksums at their ends only.
            members = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
        return {name: np.lib.format.read_array(io.BytesIO(member)) for name, member in members.items()}
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged files
        raise ValueError(
            f"{path} must be a whole .npz file, got a damaged or foreign one ({error}). Put a good copy in its place, "
            "or delete it"
        ) from error


def cache_folder() -> Path:
    """Return the folder of things that can be made anew, which need not exist.

    Raises:
        OSError: if the user has no home.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # a user without a name, as in some containers
        raise OSError("a cache must have a folder, got no home. Set XDG_CACHE_HOME to a folder of yours") from error
    return home / "sparsekit"
