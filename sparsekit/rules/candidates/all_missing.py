"""Consider every missing connection."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Candidates
from sparsekit.rules.flops import Pass, dense_gradient_step
from sparsekit.topology import LayerTopology
from sparsekit.utils.registry import register

# A part is at most a quarter of the layer (csr storage must never make a tensor as large as the dense layer) and at
# most 2**20 positions, which take 8 MiB.
LARGEST_PART = 2**20


@register("candidates", "all-missing")
@dataclass(frozen=True, kw_only=True)
class AllMissing(Candidates):
    """Every position without a connection, handed out in parts so that memory stays below the dense layer's.

    The work still grows with the dense layer. This is what RigL pays for on its rewiring steps.
    Source: Evci et al. (2020), arXiv:1911.11134, section 3.
    """

    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        num_missing = taken.size - taken.count
        part = max(1, min(LARGEST_PART, taken.size // 4))
        for start in range(0, num_missing, part):
            ranks = torch.arange(start, min(start + part, num_missing), device=taken.indices.device)
            yield taken.missing_at(ranks)

    def step_flops(self, cost: Pass) -> float:
        return dense_gradient_step(cost)
