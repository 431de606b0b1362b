"""Which kernels run: the compiled ones on a CPU, else those of plain torch."""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FAST_TYPES = (torch.float32, torch.float64)


class SlowKernelsWarning(UserWarning):
    """Sparse layers run on the reference kernels; the message says why."""


def is_fast(x: Tensor) -> bool:
    """Whether the compiled kernels can compute with a tensor: on a CPU, in float32 or float64, with Numba there.

    Warns:
        SlowKernelsWarning: once, if Numba is missing.
    """
    if x.device.type != "cpu" or x.dtype not in FAST_TYPES:
        return False
    return _has_numba()


@functools.cache
def _has_numba() -> bool:
    if importlib.util.find_spec("numba") is not None:
        return True
    warnings.warn(
        "sparse layers run on the reference kernels, several times slower: Numba is not installed; "
        "install numba, or use storage='masked'",
        SlowKernelsWarning,
        stacklevel=2,
    )
    return False


def uncompiled(forward: Callable) -> Callable:
    """Let a layer's forward run as it is inside a model that `torch.compile` compiles: what is around it is compiled.

    Numba's functions are compiled already, and torch's compiler cannot look into them; `fullgraph=True` says so.
    """

    @functools.wraps(forward)
    def careful(self, input: Tensor) -> Tensor:
        if torch.compiler.is_dynamo_compiling():
            # Made only here: importing torch's compiler takes seconds.
            outside: Any = torch.compiler.disable(forward, reason="csr layers run in Numba")
            return outside(self, input)
        return forward(self, input)

    return careful
