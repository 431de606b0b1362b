"""For few inputs, the product of weight and mask takes longer than the layer. Here we see whether it can be left out.

It can where the parameter is zero off the mask, as it is after every step of a training. We look at every number again
after each write that torch counts, and after each change of the topology. Writes to `param.data` are not counted. Those
to connections need no look, because nothing is kept but the parameter itself. Those off the mask are noticed by a
sample of 256, which misses only somebody who writes to a few positions through `.data` or another library.
"""

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sparsekit.kernels import backend
from sparsekit.topology import LayerTopology

MANY_WEIGHTS = 2**15  # below, the product takes a few microseconds
FEW_INPUTS = 1024  # rows or pixels. Above, the product takes less than a tenth of the layer's time
RUNS, LENGTH = 16, 16  # of positions in a sample. A run lies in one cache line, so 16 of them are read at once


def is_worthwhile(layer: Any, input: Any) -> bool:
    """Return whether a masked layer may do without the product, and would gain by it."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active():
        return False
    param = layer.param
    if (torch.is_grad_enabled() and param.requires_grad) or not isinstance(input, Tensor):
        return False
    if param.numel() < MANY_WEIGHTS or not backend.is_fast(param) or hasattr(param, "placements"):
        return False
    width = layer.shape[1] * layer.kind.num_groups
    return not param.is_inference() and input.numel() < FEW_INPUTS * width


class OffMask:
    """The positions where a layer has no connection, and what was last seen there.

    Args:
        topology: the connections.
    """

    def __init__(self, topology: LayerTopology):
        self._mask = topology.mask()
        self._sample = _sample_off(self._mask.flatten()).numpy()
        # The weight that was looked at. It is kept, so that no other one can come to lie in the same memory.
        self._seen: Tensor | None = None
        self._version = -1
        self._was_zero = False

    def is_zero(self, weight: Tensor) -> bool:
        """Return whether a weight, detached from the parameter, is zero at all these positions."""
        if self._seen is None or weight.data_ptr() != self._seen.data_ptr() or weight._version != self._version:
            self._seen, self._version = weight, weight._version
            self._was_zero = not bool(weight.masked_fill(self._mask, 0).any())
            self._numbers = weight.numpy().reshape(-1)
        elif self._was_zero and self._numbers[self._sample].any():  # NumPy's operations begin sooner than torch's
            self._seen, self._was_zero = None, False
        return self._was_zero


def _sample_off(mask: Bool[Tensor, " w"]) -> Int64[Tensor, " s"]:
    """Return positions that are false, in short runs drawn at random. Equal distances might all lie in one column."""
    starts = torch.randint(len(mask) // LENGTH, (RUNS, 1), generator=torch.Generator().manual_seed(0)) * LENGTH
    positions = (starts + torch.arange(LENGTH)).flatten()
    return positions[~mask[positions]]
