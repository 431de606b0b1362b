"""Chain removal: between dropping and growing, connections of units that lost all inputs or all outputs go too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.rules.cannistraci_hebb import CHTs
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.wrapper import WrappedRule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.paths import effective_topology
from sparsekit.topology.selection import topk_indices
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("chain-removal", "chain-removal")
@dataclass(frozen=True, kw_only=True)
class ChainRemoval(WrappedRule):
    """A drop-grow rule that also drops connections which no longer lie on a path through a chain of layers.

    A unit between two layers of the chain that has lost all its inputs computes a constant, and one that has lost all
    its outputs reaches nobody. So the rest of its connections is dropped, which may strand further units, until no unit
    is one-sided. Then each layer grows until it has as many connections as the base rule gives it. Where its candidates
    run short, the largest of those that went return. Growth by paths (`CHTs`) does not reach a unit without any
    connection, unless it draws at random because too few scores are above 0.

    A rule sees layers and not how they are connected, so you say which ones follow each other. The paper treats the
    pairs of an attention (queries and keys) and of a gated block (gate and up) likewise, which this rule does not.

    Args:
        base: a `DropGrow` that ranks within each layer and may grow at once what it dropped, such as `CHTs` or `SET`.
        chain: names of layers, each of which reads what the one before it computes.

    Raises:
        TypeError: if the base is no `DropGrow`.
        ValueError: if the chain has fewer than two layers or one of them twice, or the base ranks over all layers.

    Source: Zhang et al. (2025), arXiv:2501.19107.

    Example:
        >>> rule = ChainRemoval(base=CHTs(stop=100), chain=("fc1", "fc2", "head"))
        >>> rule.is_due(100), rule.needs_gradients
        (True, False)
    """

    base: Rule = setting(CHTs(stop=100), "the rule of the training")
    chain: tuple[str, ...] = setting(("fc1", "fc2"), "names of layers that follow each other")

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.base, DropGrow):
            raise TypeError(f"base must be a DropGrow, got {type(self.base).__name__}. Use CHTs, SET or the like")
        if self.base.scope != "layer" or not self.base.allow_regrowth:
            raise ValueError('base must have scope="layer" and allow_regrowth=True, got another. Use CHTs, for example')
        if len(self.chain) < 2 or len(set(self.chain)) < len(self.chain):
            raise ValueError(f"chain must name two or more layers, each once, got {self.chain}. Name them in order")

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step."""
        return self.base.is_due(step)

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return the topology after dropping, chain removal and growing. See `Rule.propose`.

        Raises:
            ValueError: if the chain names a layer that is not there, or two that do not fit each other.
        """
        base = self.base
        assert isinstance(base, DropGrow)
        check_chain({name: view.topology for name, view in views.items()}, self.chain)
        targets = base._targets([*views.values()], step, generator)
        rest = {name: _after_drop(base, view, targets[name], step, generator) for name, view in views.items()}
        rest |= without_one_sided_units({name: rest[name] for name in self.chain})
        new = {}
        for name, view in views.items():
            grown = base._grow([view], {name: rest[name]}, targets[name] - rest[name].count, step, generator)
            new[name] = _filled(rest[name] | grown[name], view, targets[name])
        return Topology(new)


def _after_drop(base: DropGrow, view: LayerView, target: int, step: int, generator: torch.Generator) -> LayerTopology:
    """Return what the base rule leaves of a layer before it grows."""
    layer = view.topology
    count = min(layer.count, target)
    best = topk_indices(base.drop(view, step, generator), count - base._num_exchanged(count, step))
    return LayerTopology(layer.shape, layer.indices[best])


def _filled(layer: LayerTopology, view: LayerView, target: int) -> LayerTopology:
    """Return a layer to which the largest of the connections that it lost return, as far as its count falls short."""
    lost = layer.position_of(view.topology.indices) < 0
    best = topk_indices(view.values[lost].abs(), min(target - layer.count, int(lost.sum())))
    return layer | LayerTopology(layer.shape, view.topology.indices[lost][best])


def without_one_sided_units(layers: Mapping[str, LayerTopology]) -> dict[str, LayerTopology]:
    """Remove connections of units between two layers that have no input or no output, until there is none.

    Example:
        >>> first, second = LayerTopology((2, 2), torch.tensor([0])), LayerTopology((1, 2), torch.tensor([0, 1]))
        >>> [layer.indices.tolist() for layer in without_one_sided_units({"a": first, "b": second}).values()]
        [[0], [0]]
    """
    return dict(effective_topology(Topology(layers)).items())


def check_chain(layers: Mapping[str, LayerTopology], chain: Sequence[str]) -> None:
    """Raise ValueError unless each layer of the chain has as many inputs as the one before it has outputs."""
    if unknown := [name for name in chain if name not in layers]:
        raise ValueError(f"chain must name layers among {', '.join(layers)}, got {', '.join(unknown)}. Rename them")
    for first, second in pairwise(chain):
        if (outputs := layers[first].shape[0]) != (inputs := layers[second].shape[1]):
            raise ValueError(
                f"layers of a chain must fit each other, got {outputs} outputs of {first} and {inputs} inputs of "
                f"{second}. Name layers whose units are the same"
            )
