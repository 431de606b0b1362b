"""SRigL: RigL with as many connections into every neuron, so that the sparsity is regular enough to be fast."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsekit.layers import shapes_of
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, dense_gradient_step, mean_step, sparse_step
from sparsekit.rules.parts import State
from sparsekit.rules.periodic import Periodic, check_end
from sparsekit.rules.rows import choose, indices_in, row_blocks, strongest
from sparsekit.schedules import Cosine, Schedule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct, topk_indices
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting


@register("rule", "srigl")
@dataclass(frozen=True, kw_only=True)
class SRigL(Periodic):
    """Constant fan-in: every neuron that is left has exactly k connections, the others none.

    A neuron with fewer than `saliency * k` of the layer's most promising connections (the largest values that stay and
    the largest gradients) is given up. Its connections go to the others, so k grows. Then each neuron keeps its
    largest values and grows where its gradient is largest. k is `connections // neurons`, with the connections that the
    density gave the layer, so up to one per neuron of the budget stays unused. So many neurons stay that there is room
    for all of these connections. The last layer's neurons are the classes, and all stay. For inference,
    `sk.condense(model)` holds the network in compressed rows.

    Source: Lasby et al. (2023), Dynamic sparse training with structured sparsity, arXiv:2305.02299, with the settings
        of its code for convolutional networks.

    Example:
        >>> from sparsekit.topology import LayerTopology, Topology
        >>> layer = LayerTopology((32, 64), torch.arange(204))
        >>> first = SRigL(stop=100).initial_topology(Topology({"fc": layer}), torch.Generator())["fc"]
        >>> first.fan_in().unique().tolist()
        [6]
    """

    needs_gradients = True
    replaces_step: ClassVar[bool] = True
    every_step: ClassVar[bool] = False

    drop_fraction: Schedule = setting(Cosine(0.3, 0.0), "share of a layer's connections exchanged", range=(0, 1))
    saliency: float = setting(0.3, "a neuron with a smaller share of salient connections is given up", range=(0, 1))
    min_neurons: int = setting(1, "neurons that every layer keeps", range=(1, 1_000_000))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, saliency=(0, 1), min_neurons=(1, float("inf")))
        check_end("drop_fraction", self.drop_fraction, self.stop)

    def initial_topology(self, topology: Topology, generator: torch.Generator) -> Topology:
        return Topology({name: _constant_fan_in(layer, generator) for name, layer in topology.items()})

    def prepare_layers(self, model: nn.Module, plain: nn.Module | None, sampled: Topology) -> State:
        """Record how many connections each layer may have, and whether its neurons are the classes."""
        *_, last = shapes_of(plain or model)
        return {name: _facts(layer, is_last=name == last) for name, layer in sampled.items()}

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        *_, last = views
        return {name: _facts(view.topology, is_last=name == last) for name, view in views.items()}

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        return {name: view.state for name, view in views.items()}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        drop_fraction = exact_fraction(self.drop_fraction.lasting(self.stop)(step))
        return Topology({name: self._rewired(view, drop_fraction) for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """As RigL: the gradients of all weights once in `every` steps.

        Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
        """
        return mean_step(sparse_step(cost), dense_gradient_step(cost), self.every)

    def _rewired(self, view: LayerView, drop_fraction: Fraction) -> LayerTopology:
        layer = view.topology
        num_dropped = int(drop_fraction * layer.count)
        survivors = strongest(view, layer.count - num_dropped)
        active = layer.fan_in() > 0
        fan_in = _fan_in(view, int(active.sum()))
        if not bool(view.state["classes"]):
            salient = _salient(view, survivors, num_dropped, active)
            # Fewer neurons would have no room for the layer's connections, and neurons that are given up do not return.
            fewest = max(self.min_neurons, -(-_budget(view) // layer.num_inputs))
            active &= self._deserving(salient, active, least=self._least(fan_in), fewest=fewest)
            fan_in = _fan_in(view, int(active.sum()))

        def best_of_each_neuron(scores: Tensor, first: int) -> Tensor:
            chosen = torch.zeros_like(scores, dtype=torch.bool)
            order = scores.argsort(dim=1, descending=True, stable=True)[:, :fan_in]
            return chosen.scatter_(1, order, True) & active[first : first + len(scores), None]

        return choose(view, survivors, best_of_each_neuron)

    def _least(self, fan_in: int) -> int:
        """Return how many salient connections a neuron must have to stay."""
        return max(1, int(exact_fraction(self.saliency) * fan_in))

    def _deserving(self, salient: Tensor, active: Tensor, *, least: int, fewest: int) -> Tensor:
        """Say which neurons have enough salient connections. If too few have, the best stay."""
        deserving = active & (salient >= least)
        num_kept = min(fewest, int(active.sum()))
        if int(deserving.sum()) < num_kept:
            deserving[topk_indices(salient.double().masked_fill(~active, -1), num_kept)] = True
        return deserving


def _facts(layer: LayerTopology, *, is_last: bool) -> dict[str, Tensor]:
    """Return what k is computed from at every rewiring, and whether all neurons stay."""
    return {"budget": torch.tensor(layer.count), "classes": torch.tensor(is_last)}


def _budget(view: LayerView) -> int:
    return int(view.state["budget"])


def _fan_in(view: LayerView, num_active: int) -> int:
    return min(view.topology.num_inputs, max(1, _budget(view) // max(1, num_active)))


def _salient(view: LayerView, survivors: LayerTopology, num_grown: int, active: Tensor) -> Tensor:
    """Return for each neuron how many of its connections are among the layer's kept ones and largest gradients."""
    best = torch.empty(0, dtype=torch.float64, device=survivors.indices.device)
    rows = torch.empty(0, dtype=torch.int64, device=survivors.indices.device)
    for first, last in row_blocks(survivors):
        scores = view.grad_at(
            torch.arange(first * survivors.num_inputs, last * survivors.num_inputs, device=rows.device)
        )
        neurons = torch.arange(first, last, device=rows.device).repeat_interleave(survivors.num_inputs)
        magnitudes = scores.abs().double().masked_fill(~active[neurons], -1.0)
        in_block = indices_in(survivors, first, last) - first * survivors.num_inputs
        magnitudes[in_block] = -1.0  # survivors are salient already, by their values
        best, rows = torch.cat([best, magnitudes]), torch.cat([rows, neurons])
        top = topk_indices(best, min(num_grown, best.numel()))
        best, rows = best[top], rows[top]
    return survivors.fan_in() + torch.bincount(rows[best >= 0], minlength=survivors.num_outputs)


def _constant_fan_in(layer: LayerTopology, generator: torch.Generator) -> LayerTopology:
    """Draw as many connections into each neuron, within the layer's count. If it has too few, some neurons get none."""
    fan_in = max(1, layer.count // layer.num_outputs)
    neurons = draw_distinct(layer.num_outputs, min(layer.num_outputs, layer.count // fan_in), generator).tolist()
    rows = [draw_distinct(layer.num_inputs, fan_in, generator) + neuron * layer.num_inputs for neuron in neurons]
    indices = torch.cat([torch.empty(0, dtype=torch.int64), *rows])
    return LayerTopology(layer.shape, indices.to(layer.indices.device))
