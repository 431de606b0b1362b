"""Let a process keep the memory that it frees, and count how often it had to ask the system for more."""

import ctypes
import functools
import logging
import math
import os
import sys

KEEP = "SPARSEKIT_KEEP_MEMORY"  # an environment variable, where 0 leaves memory to the C library


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to a GiB at a time, and return whether it does.

    A large tensor that is freed goes back to the system, which hands it out again page by page, each filled with
    zeros. That takes a tenth of a step or more, and half of a sparse convolution's. Only the GNU C library has this
    setting, so elsewhere nothing changes. `SPARSEKIT_KEEP_MEMORY=0` forbids it. Source: `man 3 mallopt`.
    """
    if os.environ.get(KEEP) == "0" or sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    trim_threshold, mmap_threshold = -1, -3
    libc.mallopt(trim_threshold, -1)
    if not libc.mallopt(mmap_threshold, 2**30):
        libc.mallopt(mmap_threshold, 2**25)  # the highest that older versions take
    _say_once()
    return True


@functools.cache
def _say_once() -> None:
    logging.getLogger("sparsekit").info(
        "this process keeps the memory that it frees, because that makes training faster. %s=0 forbids it", KEEP
    )


def page_faults() -> float:
    """Return for how many pages this process has waited so far, which is NaN where the system does not tell.

    Example:
        >>> page_faults() >= 0 or math.isnan(page_faults())
        True
    """
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
