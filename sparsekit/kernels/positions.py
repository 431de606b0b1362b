"""A layer's positions are stored as float64 numbers with integer values, which averaging leaves unchanged.

Code that averages a model (EMA, SWA) walks over all of its buffers and does arithmetic with them. An average of equal
integers is computed in float32 or refused, and rounded down. One of equal float64 numbers is exact after rounding, up
to 2**53. Where topologies differ, the average is no integer, so we recognise it.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

ROUNDING = 1e-3  # a million averages of equal positions err far less, averages of different ones far more


def as_stored(indices: Int64[Tensor, " e"]) -> Float64[Tensor, " e"]:
    """Return positions as a layer stores them, always as a new tensor."""
    return indices.to(torch.float64, copy=True)


def as_positions(stored: Tensor) -> Int64[Tensor, " e"]:
    """Return stored positions as integers, always as a new tensor.

    Raises:
        TypeError: if they are of a type that cannot hold every position.
        ValueError: if they are no integers.
    """
    if stored.dtype in (torch.int64, torch.int32):
        return stored.to(torch.int64, copy=True)
    if stored.dtype != torch.float64:
        raise TypeError(f"positions must be int64 or float64, got {stored.dtype}, which cannot tell all of them apart")
    rounded = stored.round()
    if stored.numel() and not stored.is_meta and bool((stored - rounded).abs().max() > ROUNDING):
        raise ValueError(
            "positions of connections must be integers, got averages of different topologies. "
            "Average a model that is rewired with sparsekit.averaged(model)"
        )
    return rounded.to(torch.int64)


def as_file(stored: Tensor) -> Tensor:
    """Return stored positions as a file holds them, in int32 where that holds all of them, for half of the space.

    Example:
        >>> as_file(as_stored(torch.tensor([0, 7]))).dtype
        torch.int32
    """
    narrow = stored.to(torch.int32)
    return narrow if torch.equal(narrow.to(stored.dtype), stored) else stored
