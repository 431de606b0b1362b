"""For few inputs, the product of weight and mask takes longer than the layer. Here we see whether it can be left out.

It can where the parameter is zero off the mask, as it is after every step of a training. We look at every number again
after each write that torch counts, and after each change of the topology. Writes to `param.data` are not counted. Those
to connections need no look, because nothing is kept but the parameter itself. Those off the mask are noticed by a
sample of 256, which misses only somebody who writes to a few positions through `.data` or another library.
"""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sparsekit.kernels import backend
from sparsekit.topology import LayerTopology

MANY_WEIGHTS = 2**13  # below, the product takes a few microseconds
FEW_INPUTS = 1024  # rows or pixels. Above, the product takes less than a tenth of the layer's time
RUNS, LENGTH = 16, 16  # of positions in a sample. A run lies in one cache line, so 16 of them are read at once


def as_it_is(layer: Any, input: Any) -> Tensor | None:
    """Return a masked layer's parameter if it may do without the product, and would gain by it.

    For a single input the layer has swept every cache by the next call. Then each line of Python costs more than it
    seems to, so what does not change between calls is asked once.
    """
    param = layer.param
    if (torch.is_grad_enabled() and param.requires_grad) or not isinstance(input, Tensor):
        return None
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active():
        return None
    off_mask: OffMask = layer._derived("off mask", lambda: OffMask(layer.topology, layer.kind.num_groups))
    if input.numel() >= off_mask.many or not off_mask.takes(param):
        return None
    layer.copy_guard.check()
    if not off_mask.is_zero(param):
        return None
    return param.detach() if torch.is_autocast_enabled("cpu") else param  # whose cast autocast would keep


class OffMask:
    """The positions where a layer has no connection, and what was last seen there.

    Args:
        topology: the connections.
        groups: of a grouped convolution.
    """

    def __init__(self, topology: LayerTopology, groups: int):
        self.many = FEW_INPUTS * topology.shape[1] * groups  # numbers in this many inputs, or pixels of all channels
        self._topology, self._asked, self._takes = topology, None, False
        # The weight that was looked at. It is kept, so that no other one can come to lie in the same memory.
        self._seen: Tensor | None = None
        self._pointer = self._version = -1
        self._was_zero = False

    def takes(self, param: Tensor) -> bool:
        """Return whether a parameter is large enough, and lies in memory row by row where NumPy can see it."""
        if param is not self._asked or param.dtype is not self._dtype or not param.is_cpu:
            is_small = param.numel() < MANY_WEIGHTS or hasattr(param, "placements")
            in_rows = param.is_contiguous()  # otherwise a flat view of it would be a copy
            self._takes = not is_small and in_rows and backend.is_fast(param) and not param.is_inference()
            self._asked, self._dtype = param, param.dtype
        return self._takes

    def is_zero(self, param: Tensor) -> bool:
        """Return whether a parameter is zero at all these positions."""
        if param.data_ptr() != self._pointer or param._version != self._version:
            self._look(param.detach())
        elif self._was_zero and b"".join(self._runs) != self._zeros and self._sample_has_numbers():
            self._pointer, self._was_zero = -1, False
        return self._was_zero

    def _look(self, weight: Tensor) -> None:
        self._seen, self._pointer, self._version = weight, weight.data_ptr(), weight._version
        self._was_zero = not bool(weight.masked_fill(self._mask, 0).any())
        # Bytes are joined and compared in less time than it takes NumPy to gather numbers.
        numbers = memoryview(weight.numpy().reshape(-1)).cast("B")  # type: ignore[arg-type]  # an array has a buffer
        size = weight.itemsize
        self._runs = [numbers[size * int(run[0]) : size * (int(run[-1]) + 1)] for run in self._sample]
        self._zeros = bytes(sum(map(len, self._runs)))

    def _sample_has_numbers(self) -> bool:
        """Return whether a sample that is not all zero bytes has anything but negative zeros."""
        assert self._seen is not None
        return bool(self._seen.masked_fill(self._mask, 0).any())

    @cached_property
    def _mask(self) -> Tensor:
        return self._topology.mask()

    @cached_property
    def _sample(self) -> list[Int64[Tensor, " run"]]:
        return _sample_off(self._mask.flatten())


def _sample_off(mask: Bool[Tensor, " w"]) -> list[Int64[Tensor, " run"]]:
    """Return positions that are false, in short runs drawn at random. Equal distances might all lie in one column."""
    starts = torch.randint(len(mask) // LENGTH, (RUNS, 1), generator=torch.Generator().manual_seed(0)) * LENGTH
    lines = (starts + torch.arange(LENGTH)).unique(dim=0)
    return [run for line in lines for run in _stretches(line[~mask[line]]) if len(run)]


def _stretches(positions: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " run"], ...]:
    """Cut sorted positions wherever one is missing."""
    gaps = (positions.diff() > 1).nonzero().flatten() + 1
    return positions.tensor_split(gaps.tolist())
