"""Processes that train one network together: each computes one micro-batch, and all add the gradients in one order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Args:
        rank: number of this process, from 0.
        size: how many there are.
        is_whole: every process computes all micro-batches.
    """

    rank: int = 0
    size: int = 1
    is_whole: bool = False

    def computes(self, number: int) -> bool:
        """Whether this process computes micro-batch `number`."""
        return self.size == 1 or self.is_whole or number == self.rank

    def total(self, model: nn.Module, *numbers: float) -> list[float]:
        """Replace gradients by their sum over all processes, and return the sums of some numbers.

        One process adds the gradients of its micro-batches one after the other. All add them in this order here, so
        the sums are the same to the last bit.
        """
        if self.size == 1 or self.is_whole:
            return list(numbers)
        grads = [param.grad for param in model.parameters() if param.grad is not None]
        for grad in grads:
            grad.copy_(_in_order(self._gathered(grad)))
        return _in_order(self._gathered(torch.tensor(numbers, dtype=torch.float64))).tolist()

    def _gathered(self, own: torch.Tensor) -> list[torch.Tensor]:
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.contiguous())
        return parts


_ALONE = Ranks()
_SHARED: ContextVar[Ranks] = ContextVar("ranks", default=_ALONE)


@contextmanager
def sharing_micro_batches(ranks: Ranks) -> Iterator[None]:
    """Let `backward` compute one micro-batch in each process, as long as a `with` lasts.

    Passes that are captured for a rewiring are computed whole by every process, so all of them rewire alike.
    """
    token = _SHARED.set(ranks)
    try:
        yield
    finally:
        _SHARED.reset(token)


def ranks_for(*, capture: bool) -> Ranks:
    """Return how processes share a backward pass. One that is captured is computed whole by each of them."""
    return replace(_SHARED.get(), is_whole=True) if capture else _SHARED.get()


def is_sharing() -> bool:
    """Whether this process trains together with others (see `sharing_micro_batches`)."""
    return _SHARED.get().size > 1


def ranks_of_environment() -> Ranks:
    """Return what a launcher such as torchrun has said in RANK and WORLD_SIZE."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def _in_order(parts: list[torch.Tensor]) -> torch.Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total
