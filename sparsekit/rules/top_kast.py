"""Top-KAST: use the largest weights, train a few more, and keep the values of all."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsekit.layers import SparseLayer, matrices_of, sparse_layers
from sparsekit.layers.initial import scaled_rows
from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView
from sparsekit.rewiring.update import GrowInit
from sparsekit.rules.flops import Pass
from sparsekit.rules.n_of_m import StraightThrough
from sparsekit.rules.parts import State
from sparsekit.rules.periodic import Periodic
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import share_out
from sparsekit.topology.selection import topk_indices
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting


@register("rule", "top-kast")
@dataclass(frozen=True, kw_only=True)
class TopKAST(Periodic):
    """Always train the largest weights of each layer, and use the largest of those. All others rest at their values.

    The topology is the trained set (B). The forward pass uses as many of it as the density says (A). A weight that is
    dropped keeps its value. It regrows with this value if other weights shrink until it is among the largest again.
    Values are drawn towards zero, those trained but not used more strongly. At `stop` only the used ones are left.

    Source: Jayakumar et al. (2020), Top-KAST, arXiv:2106.03517, section 2. That A is taken anew at every step, and how
        much larger B is than A by default, is ours.

    Example:
        >>> TopKAST(stop=100).initial_density(0.1)
        0.2
    """

    every_step: ClassVar[bool] = False
    needs_dense: ClassVar[str] = "it keeps the values of all weights, also of those that it does not train"

    extra: float = setting(1.0, "connections trained beyond those used, per one used", range=(0, 10))
    penalty: float = setting(1e-4, "weight of the squared values in the loss", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, extra=(0, float("inf")), penalty=(0, float("inf")))

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step. `stop`, when the unused connections go, always is."""
        return step == self.stop or super().is_due(step)

    def initial_density(self, density: float) -> float:
        """Return the density of the trained set.

        Raises:
            ValueError: if that would be more than all weights.
        """
        trained = float(exact_fraction(density) * (1 + exact_fraction(self.extra)))
        if trained > 1:
            raise ValueError(f"density * (1 + extra) must not exceed 1, got {trained}. Lower extra")
        return trained

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        used = self._used({name: layer.count for name, layer in topology.items()})
        return {name: UsesLargest(count) for name, count in used.items()}

    def prepare_layers(self, model: nn.Module, plain: nn.Module | None, sampled: Topology) -> State:
        """Return the weights of the plain model, scaled like those that `sparsify` has scaled.

        Raises:
            ValueError: if there is none, or it has no values.
        """
        if plain is None:
            raise ValueError("Top-KAST needs the model before sparsify to keep its weights, got none. Give plain=model")
        matrices = matrices_of(plain)
        weights = {name: matrices[name].value.detach() for name in sampled}
        if any(weight.is_meta for weight in weights.values()):
            raise ValueError(
                "Top-KAST needs a value for every weight, got a model without any. Choose init='fan-in' or 'dense'"
            )
        layers = sparse_layers(model)
        return {name: {"weights": _scaled_alike(weight, layers[name])} for name, weight in weights.items()}

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        """Raise ValueError, because only `prepare_layers` knows the weights outside of the topology."""
        raise ValueError(
            f"Top-KAST needs layers that were prepared for it, got {', '.join(views)} as sparsify made them. Call "
            "rules.prepare_layers(rule, sparse, plain=model) before the optimizer is built"
        )

    def gradient_penalty(self, view: LayerView, step: int, generator: torch.Generator, *, rate: float) -> Tensor:
        used = view.topology.count  # after `stop` only used ones are left. The gradients of `stop` are those of before
        if self.stop is None or step <= self.stop:
            used = self._used({view.name: used})[view.name]
        is_used = torch.zeros_like(view.values, dtype=torch.bool)
        is_used[topk_indices(view.values.abs(), used)] = True
        density = max(used, 1) / view.topology.size
        return 2 * self.penalty * view.values * torch.where(is_used, 1.0, 1 / density)

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        return {name: {"weights": _all_weights(view)} for name, view in views.items()}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        counts = {name: view.topology.count for name, view in views.items()}
        counts = self._used(counts) if step == self.stop else counts
        return Topology(
            {
                name: LayerTopology(view.topology.shape, topk_indices(_all_weights(view).abs(), counts[name]))
                for name, view in views.items()
            }
        )

    def grow_init(self, views: Mapping[str, LayerView]) -> GrowInit:
        return lambda name, grown: views[name].state["weights"][grown]

    def training_flops(self, cost: Pass) -> float:
        """Count the small set twice (forward, input gradient), and the larger once: `2 f(D) + f(D + M)`.

        Source: Jayakumar et al. (2020), arXiv:2106.03517. The count is ours.
        """
        return 2 * cost.sparse + (cost.sparse if cost.backward is None else cost.backward)

    def _used(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return how many of the trained connections of each layer are used."""
        total = round(sum(counts.values()) / (1 + Fraction(self.extra)))
        return share_out(total, counts, counts)


class UsesLargest(ForwardMask):
    """Use the largest weights of a layer, so many of them."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, weight: Tensor, mask: Tensor) -> Tensor:
        used = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
        used[topk_indices(weight.detach().abs().flatten(), self.count)] = True
        return StraightThrough.apply(weight, used.view(weight.shape), 0.0)

    def extra_repr(self) -> str:
        return f"{self.count:,} used"


def _all_weights(view: LayerView) -> Tensor:
    """Return the saved values of all weights, with the present ones of those that are trained."""
    return view.state["weights"].index_copy(0, view.topology.indices, view.values)


def _scaled_alike(weight: Tensor, layer: SparseLayer) -> Tensor:
    """Return a copy of the plain weights, scaled by `fit_to_fan_in` if those of the sparse layer are."""
    plain, scaled = weight.flatten(), scaled_rows(weight, layer.topology).flatten()
    was_scaled = not torch.equal(plain[layer.indices], layer.values())
    return scaled if was_scaled and torch.allclose(scaled[layer.indices], layer.values()) else plain.clone()
