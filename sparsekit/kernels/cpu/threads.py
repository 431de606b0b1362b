"""This module decides how many threads the compiled kernels use, and shares the work out among them."""

import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress

import numpy as np
import torch

# We run one threaded kernel at a time, because Numba's simplest thread pool must not be entered twice.
_one_at_a_time = threading.Lock()
_is_fork = False
_have_run: set[Callable] = set()
SLOW = 2.5  # seconds, as a warm cache answers within one or so, and only a cold one takes longer


def _after_fork() -> None:
    # Threads do not survive a fork, so a child (for example a DataLoader's worker) computes with one.
    global _is_fork, _one_at_a_time
    _is_fork, _one_at_a_time = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """Return how many threads the kernels use, as many as torch, but one in a forked process."""
    return 1 if _is_fork else torch.get_num_threads()


def run(serial: Callable, threaded: Callable, arguments: tuple, bounds: np.ndarray) -> None:
    """Run a kernel, in this thread if there is one part of the work, else in one thread for each part.

    Args:
        serial: takes the arguments, the bounds and the number of a part.
        threaded: takes the arguments and the bounds.
        arguments: numpy arrays and numbers.
        bounds: where each part begins, and where the last ends.
    """
    kernel = serial if len(bounds) == 2 else threaded
    if kernel in _have_run:
        if kernel is serial:
            serial(*arguments, bounds, 0)
        else:
            _run(serial, threaded, arguments, bounds)
        return
    with _announced(kernel):
        _run(serial, threaded, arguments, bounds)
    _have_run.add(kernel)


def _run(serial: Callable, threaded: Callable, arguments: tuple, bounds: np.ndarray) -> None:
    if len(bounds) == 2:
        serial(*arguments, bounds, 0)
        return
    import numba

    # As many of Numba's threads as there are parts wake up, not all. Afterwards we restore the user's own setting.
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set when numba is imported
    with _one_at_a_time:
        parts, before = min(len(bounds) - 1, most), numba.get_num_threads()
        if parts == before:
            threaded(*arguments, bounds)
            return
        numba.set_num_threads(parts)
        try:
            threaded(*arguments, bounds)
        finally:
            numba.set_num_threads(before)


def equal_shares(count: int, *, unit: int = 1) -> np.ndarray:
    """Return bounds that give each thread about as many of `count` things, cut only between whole units."""
    return _equal_shares(count, unit, num_threads())


@functools.lru_cache(maxsize=256)
def _equal_shares(count: int, unit: int, threads: int) -> np.ndarray:
    units = -(-count // unit)
    parts = max(1, min(threads, units))
    return np.minimum(units * np.arange(parts + 1, dtype=np.int64) // parts * unit, count)


def fair_shares(pointers: np.ndarray, threads: int) -> np.ndarray:
    """Return bounds that give each thread rows with about as many connections."""
    ends = np.searchsorted(pointers, int(pointers[-1]) * np.arange(1, threads) // threads)
    return np.array([0, *ends, len(pointers) - 1], np.int64)


@contextmanager
def _announced(kernel: Callable):
    """Tell a user at a terminal if a kernel's first call is slow, because then it is being compiled, not loaded."""
    notice = threading.Timer(SLOW, _say_compiling, [kernel])
    notice.daemon = True
    with suppress(RuntimeError):  # where no more threads may start, as in `sparsekit course grade`
        notice.start()
    try:
        yield
    finally:
        notice.cancel()


def _say_compiling(kernel: Callable) -> None:
    if sys.stderr is None or not sys.stderr.isatty():
        return  # it would stay in a notebook or a log, which are the same whether or not code had to be compiled
    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    sys.stderr.write(
        f"sparsekit: compiling the sparse kernel {name} for this processor, once. "
        "`sparsekit warm-up` compiles all of them beforehand ...\n"
    )
