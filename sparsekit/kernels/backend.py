"""Which kernels run: the compiled ones on a CPU, else those of plain torch."""

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
_entering = threading.Lock()
_stances: list[AbstractContextManager | None] = []  # what sets torch's back, and one more for each that is inside


class SlowKernelsWarning(UserWarning):
    """Sparse layers run on the reference kernels; the message says why."""


def is_fast(x: Tensor) -> bool:
    """Whether the compiled kernels can compute with a tensor: on a CPU, in float32 or float64, with Numba at work.

    Warns:
        SlowKernelsWarning: once, if Numba is missing or cannot be used.
    """
    if x.device.type != "cpu" or x.dtype not in FAST_TYPES:
        return False
    if not torch.compiler.is_compiling():
        _try_once()
    return HAS_NUMBA


def say_where(device: torch.device) -> None:
    """Say so, once per kind of device, if a layer runs where there are no compiled kernels.

    Warns:
        SlowKernelsWarning: on any device but the CPU; on `meta` nothing is computed.
    """
    if device.type not in ("cpu", "meta"):
        _say_device(device.type)


@functools.cache
def _try_once() -> None:
    global HAS_NUMBA
    reason = "Numba is not installed; install numba"
    if HAS_NUMBA:
        try:
            from sparsekit.kernels.cpu import calls  # noqa: F401
        except (ImportError, RuntimeError) as error:  # a version that does not fit, or no folder for compiled code
            HAS_NUMBA = False
            reason = f"Numba cannot be used ({error}); set NUMBA_CACHE_DIR to a folder that can be written to"
        else:
            return
    _say(reason)


@functools.cache
def _say_device(device: str) -> None:
    _say(f"compiled ones are for CPUs, the layer is on {device}; move it")


def _say(reason: str) -> None:
    warnings.warn(
        f"sparse layers run on the reference kernels, several times slower: {reason}, or use storage='masked'",
        SlowKernelsWarning,
        stacklevel=4,
    )


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let models that torch has compiled run as they are: hooks on their layers would go unseen.

    torch has one setting for all threads; it is set back when the last of them has left.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with _entering:
        if not _stances:
            _stances.append(torch.compiler.set_stance("force_eager"))
        _stances.append(None)
    try:
        yield
    finally:
        with _entering:
            _stances.pop()
            if len(_stances) == 1 and (stance := _stances.pop()) is not None:
                stance.__exit__(None, None, None)
