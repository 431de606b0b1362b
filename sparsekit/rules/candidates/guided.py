"""Candidates drawn at random, more often where a guiding distribution expects large gradients."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.kernels.sampling import sample_positions
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Candidates
from sparsekit.rules.candidates.all_missing import AllMissing
from sparsekit.rules.flops import Pass, dense_gradient_step, sparse_step
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import check_types
from sparsekit.utils.settings import check_range, exact_fraction, setting

# Each round finds what is still likely. What so many do not find has next to no weight.
MOST_ROUNDS = 16

Guide = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Guided(Candidates):
    """A random subset of the missing positions, of a size in proportion to the connections: GSE's candidates.

    An output is drawn in proportion to its guiding weight, and an input of it in proportion to its own. The cost
    follows inputs, outputs and draws, never the dense layer. Subclasses are frozen keyword-only dataclasses that say
    what guides.

    With sampler `"replacement"` there are `ceil(subset * connections)` draws. Repetitions and positions that are
    taken are left out, so somewhat fewer candidates remain. With `"exact"` there are as many *different* missing
    positions, because as many as are lacking are drawn again and again. After 16 rounds that is given up, and there are
    fewer, because almost all weight lies on a few positions then. An infinite subset, or an exact one as large as what
    is missing, considers every missing position, whatever guides.

    Raises:
        ValueError: if the subset is not above 0 or the density is no share.

    Source: Heddes et al. (2024), arXiv:2401.06898, section 3 and algorithm 2. The exact sampler is ours.
    """

    subset: float = setting(1.0, "draws per existing connection. inf considers every missing position", range=(0.1, 4))
    sampler: Literal["replacement", "exact"] = setting("replacement", "may the same position be drawn again?")
    dense_from: float = setting(1.0, "layers at least so dense consider every missing position", range=(0, 1))

    def __post_init__(self):
        check_types(self, any_number=("subset",))
        if not self.subset > 0:
            raise ValueError(
                f"subset must be above 0, got {self.subset}. Choose 1 to draw as many as there are connections"
            )
        check_range(self, dense_from=(0, 1))
        if self.sampler not in ("replacement", "exact"):
            raise ValueError(f"sampler must be 'replacement' or 'exact', got {self.sampler!r}. Choose one of them")

    @abstractmethod
    def guide(
        self, view: LayerView, generator: torch.Generator
    ) -> tuple[Float[Tensor, "groups f"], Float[Tensor, " o"]]:
        """Return the guiding weights of the inputs (of each group of a grouped convolution) and of the outputs.

        They need not sum to 1. Weights that are all zero or not finite count as equal.
        """

    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        if self.considers_all(view, taken):
            yield from AllMissing()(view, taken, count, generator)
        elif taken.count < taken.size:
            yield (self._distinct if self.sampler == "exact" else self._with_replacement)(view, taken, generator)

    def num_draws(self, topology: LayerTopology) -> int:
        """Return how often is drawn in a layer with these connections."""
        return math.ceil(exact_fraction(self.subset) * topology.count)

    def step_flops(self, cost: Pass) -> float:
        """Count a sparse step and the gradients of `gamma` candidates per connection: `(3 + gamma) f_S`, or of all.

        This is an upper estimate, because the paper's algorithm leaves out the gradients of existing connections on a
        rewiring step. Sampling itself (a few numbers per unit) is not counted.
        """
        gamma = self.subset if cost.gamma is None else cost.gamma
        if math.isinf(gamma):
            return dense_gradient_step(cost)
        return sparse_step(cost) + min(gamma * cost.sparse, cost.dense - cost.sparse)

    def considers_all(self, view: LayerView, taken: LayerTopology) -> bool:
        """Whether every missing position is a candidate, so that nothing is drawn."""
        if math.isinf(self.subset) or view.topology.density >= self.dense_from:
            return True
        return self.sampler == "exact" and self.num_draws(view.topology) >= taken.size - taken.count

    def _with_replacement(
        self, view: LayerView, taken: LayerTopology, generator: torch.Generator
    ) -> Int64[Tensor, " c"]:
        return sample_positions(*self.guide(view, generator), self.num_draws(view.topology), taken, generator)

    def _distinct(self, view: LayerView, taken: LayerTopology, generator: torch.Generator) -> Int64[Tensor, " c"]:
        weights, num_draws = self.guide(view, generator), self.num_draws(view.topology)
        sample = LayerTopology(taken.shape, taken.indices[:0])
        for _ in range(MOST_ROUNDS):
            if sample.count == num_draws:
                break
            # We never draw more than are lacking, because throwing some away would favour what is rarely drawn.
            new = sample_positions(*weights, num_draws - sample.count, taken, generator)
            sample |= LayerTopology(taken.shape, new)
        return sample.indices


def by_group(view: LayerView, inputs: Float[Tensor, " w"]) -> Float[Tensor, "groups f"]:
    """Return weights of all columns of the unfolded input, one row for each group."""
    return inputs.view(-1, view.topology.num_inputs)
