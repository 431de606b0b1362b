"""How many threads the compiled kernels use, and how the work is shared out."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch

# One threaded kernel at a time: Numba's simplest thread pool must not be entered twice, and waiting costs no core.
_one_at_a_time = threading.Lock()
_is_fork = False
_is_warm = False


def _after_fork() -> None:
    # Threads do not survive a fork: a child (a DataLoader's worker, say) computes with one.
    global _is_fork, _one_at_a_time
    _is_fork, _one_at_a_time = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """Return how many threads the kernels use: as many as torch, but one in a forked process."""
    return 1 if _is_fork else torch.get_num_threads()


def run(serial: Callable, threaded: Callable, arguments: tuple, bounds: np.ndarray) -> None:
    """Run a kernel: in this thread if there is one part of the work, else a thread for each.

    Args:
        serial: takes the arguments, the bounds and the number of a part.
        threaded: takes the arguments and the bounds.
        arguments: numpy arrays and numbers.
        bounds: where each part begins, and where the last ends.
    """
    if not _is_warm:
        with _announced():
            _run(serial, threaded, arguments, bounds)
    else:
        _run(serial, threaded, arguments, bounds)


def _run(serial: Callable, threaded: Callable, arguments: tuple, bounds: np.ndarray) -> None:
    if len(bounds) == 2:
        serial(*arguments, bounds, 0)
    else:
        with _one_at_a_time:
            threaded(*arguments, bounds)


def equal_shares(count: int) -> np.ndarray:
    """Return bounds that give each thread about as many of `count` equal pieces."""
    threads = max(1, min(num_threads(), count))
    return count * np.arange(threads + 1, dtype=np.int64) // threads


def fair_shares(pointers: np.ndarray, threads: int) -> np.ndarray:
    """Return bounds that give each thread rows with about as many connections."""
    ends = np.searchsorted(pointers, int(pointers[-1]) * np.arange(1, threads) // threads)
    return np.array([0, *ends, len(pointers) - 1], np.int64)


@contextmanager
def _announced():
    """Say so if the first kernel of a process is slow to come: then it is being compiled, not loaded."""
    global _is_warm
    # A warm cache answers within a second or so; only a cold one takes longer.
    notice = threading.Timer(2.5, _say_compiling)
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()
        _is_warm = True


def _say_compiling() -> None:
    sys.stderr.write("sparsekit: compiling the sparse kernels for this processor, once; a minute at most ...\n")
