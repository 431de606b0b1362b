"""Keep the machine code of Numba functions between processes, and compile it anew if it is damaged or out of date.

Numba by itself keeps code beside its source, so each environment compiles the same functions again. It runs whatever
its files hold, so half a file ends in an error of pickle, and a flipped bit in other machine code. It also takes no
notice when a function changes that another file's functions were compiled with.

We keep code in the user's cache, in a folder named after everything that it follows from. So all environments of a
machine share it where they agree. `NUMBA_CACHE_DIR` names another folder.
"""

# The parts of Numba used here have no types.
# pyright: reportAttributeAccessIssue=false

import functools
import hashlib
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.caching import IndexDataCacheFile

from sparsekit.utils.files import cache_folder

END = struct.Struct("<I")  # the CRC-32 of all before


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a function on its first call and keeps the code, with options as for `njit`."""

    def decorate(function: Callable) -> Any:
        dispatcher = njit(cache=True, nogil=True, boundscheck=False, **options)(function)
        cache = getattr(dispatcher, "_cache", None)  # there is none where NUMBA_DISABLE_JIT is set
        if cache is not None:
            digest = _digest(Path(function.__code__.co_filename).parent)
            folder = _shared_folder(digest) or cache.cache_path
            cache._cache_file = CheckedCode(folder, cache._impl.filename_base, digest)
        return dispatcher

    return decorate


class CheckedCode(IndexDataCacheFile):
    """Numba's files of a function, with checksums. A file that is not whole counts as not there."""

    def _load_index(self) -> dict:
        try:
            with open(self._index_path, "rb") as file:
                pickle.load(file)  # the version, which the parent class compares
                _content(file.read())
            return super()._load_index()
        except Exception:  # whatever damage makes of pickled data
            return {}

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_content(Path(self._data_path(name)).read_bytes()))

    def _dump(self, obj: Any) -> bytes:
        data = super()._dump(obj)
        return data + END.pack(zlib.crc32(data))

    def save(self, key: Any, data: Any) -> None:
        """Keep compiled code, where there is room for it."""
        try:
            super().save(key, data)
        except OSError:  # for lack of space, say. The code is in memory, and the next process compiles it again
            return


def _content(data: bytes) -> bytes:
    """Return what is before the checksum.

    Raises:
        OSError: if it differs, when Numba continues as if the file had been removed.
    """
    content, end = data[: -END.size], data[-END.size :]
    if end != END.pack(zlib.crc32(content)):
        raise OSError("compiled code must be as it was written, got a damaged file")
    return content


def _shared_folder(digest: str) -> str | None:
    """Return the folder that all environments share, or None if the user names another or has none to write to."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return None
    try:
        folder = cache_folder() / "compiled" / digest
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


@functools.cache
def _digest(folder: Path) -> str:
    """Return a digest of all that compiled code follows from, but for the processor, which Numba looks at.

    These are Python, Numba, and each file in the folder that has compiled functions, for others may use them.
    """
    files = [path for path in sorted(folder.glob("*.py")) if b"numba" in path.read_bytes()]
    parts = [sys.implementation.cache_tag or "", numba.__version__, llvmlite.__version__]
    parts += [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
