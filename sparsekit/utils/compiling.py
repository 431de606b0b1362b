"""Keep the machine code of Numba functions between processes, and compile it anew if it is damaged or out of date.

Numba by itself runs whatever its files hold, so half a file ends in an error of pickle, and a flipped bit in other
machine code. It also takes no notice when a function changes that another file's functions were compiled with.
"""

# The parts of Numba used here have no types.
# pyright: reportAttributeAccessIssue=false

import functools
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import IndexDataCacheFile

END = struct.Struct("<I")  # the CRC-32 of all before


def compiled(**options: Any) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a function on its first call and keeps the code, with options as for `njit`."""

    def decorate(function: Callable) -> Any:
        dispatcher = njit(cache=True, nogil=True, boundscheck=False, **options)(function)
        cache = getattr(dispatcher, "_cache", None)  # there is none where NUMBA_DISABLE_JIT is set
        if cache is not None:
            stamp = cache._cache_file._source_stamp, _stamps(Path(function.__code__.co_filename).parent)
            cache._cache_file = CheckedCode(cache.cache_path, cache._impl.filename_base, stamp)
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


@functools.cache
def _stamps(folder: Path) -> tuple:
    """Return when each file in the folder that has compiled functions was changed, for others may use them."""
    files = [path for path in sorted(folder.glob("*.py")) if "numba" in path.read_text(encoding="utf-8")]
    return tuple((path.name, path.stat().st_mtime, path.stat().st_size) for path in files)
