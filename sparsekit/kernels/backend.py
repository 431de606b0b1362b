"""This module decides which kernels run: the compiled ones on a CPU, else those of plain torch."""

import functools
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

FAST_TYPES = (torch.float32, torch.float64)
HAS_NUMBA = importlib.util.find_spec("numba") is not None
_stance_lock = threading.Lock()
_num_uncompiled = 0  # how many threads are inside `uncompiled`
_stance: AbstractContextManager | None = None  # puts torch's own stance back when the last of them leaves


class SlowKernelsWarning(UserWarning):
    """Sparse layers run on the reference kernels, and the message says why."""


def is_fast(x: Tensor) -> bool:
    """Return whether the compiled kernels can compute with a tensor: on a CPU, in float32 or float64, with Numba.

    Warns:
        SlowKernelsWarning: once, if Numba is missing or cannot be used.
    """
    if not x.is_cpu or x.dtype not in FAST_TYPES:
        return False
    if not torch.compiler.is_compiling():
        _try_once()
    return HAS_NUMBA


def say_where(device: torch.device) -> None:
    """Warn, once per kind of device, if a layer runs where there are no compiled kernels.

    Warns:
        SlowKernelsWarning: on any device but the CPU, except `meta`, where nothing is computed.
    """
    if device.type not in ("cpu", "meta"):
        _say_device(device.type)


@functools.cache
def _try_once() -> None:
    global HAS_NUMBA
    reason = "Numba is not installed. Install numba"
    if HAS_NUMBA:
        try:
            from sparsekit.kernels.cpu import calls  # noqa: F401
        except (ImportError, RuntimeError) as error:  # a version that does not fit, or no folder for compiled code
            HAS_NUMBA = False
            reason = f"Numba cannot be used ({error}). Set NUMBA_CACHE_DIR to a folder that can be written to"
        else:
            return
    _say(reason)


@functools.cache
def _say_device(device: str) -> None:
    _say(f"compiled ones are for CPUs, the layer is on {device}. Move it")


def _say(reason: str) -> None:
    warnings.warn(
        f"sparse layers run on the reference kernels, several times slower: {reason}, or use storage='masked'",
        SlowKernelsWarning,
        stacklevel=4,
    )


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let models that torch has compiled run uncompiled, because hooks on their layers would be skipped otherwise.

    torch has one setting for all threads, so it is put back when the last of them has left.
    """
    global _num_uncompiled, _stance
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _stance_lock:
        if _num_uncompiled == 0:
            _stance = torch.compiler.set_stance("force_eager")
        _num_uncompiled += 1
    try:
        yield
    finally:
        with _stance_lock:
            _num_uncompiled -= 1
            if _num_uncompiled == 0 and _stance is not None:
                _stance.__exit__(None, None, None)
                _stance = None
