"""How a layer's positions are stored: as whole float64 numbers, which averaging leaves alone.

Codes that average a model (EMA, SWA) walk over all of its buffers, and do arithmetic with them. An average of equal
integers is computed in float32 or refused, and rounded down; one of equal float64 numbers is exact after rounding, up
to 2**53. Where topologies differ, the average is no whole number, and is recognised.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

ROUNDING = 1e-3  # far more than a million averages of equal positions are off, far less than those of different ones


def as_stored(indices: Int64[Tensor, " e"]) -> Float64[Tensor, " e"]:
    """Return positions as a layer keeps them: a new tensor."""
    return indices.to(torch.float64, copy=True)


def as_positions(stored: Tensor) -> Int64[Tensor, " e"]:
    """Return stored positions as integers, always as a new tensor.

    Raises:
        TypeError: if they are of a type that cannot hold every position.
        ValueError: if they are no whole numbers.
    """
    if stored.dtype in (torch.int64, torch.int32):
        return stored.to(torch.int64, copy=True)
    if stored.dtype != torch.float64:
        raise TypeError(f"positions must be int64 or float64, got {stored.dtype}, which cannot tell all of them apart")
    rounded = stored.round()
    if stored.numel() and not stored.is_meta and bool((stored - rounded).abs().max() > ROUNDING):
        raise ValueError(
            "positions of connections must be whole numbers, got averages of different topologies; "
            "average a model that is rewired with sparsekit.averaged(model)"
        )
    return rounded.to(torch.int64)
