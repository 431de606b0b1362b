"""Which connections of a chain of layers lie on a path from an input of the network to an output.

Others carry nothing, because they leave a unit that receives no input, or lead to one that nobody reads. In very sparse
random networks most connections are of that kind.

The functions here read a topology as a chain, in which each layer has as many inputs as the layer before has outputs.
There are two exceptions. A linear layer after a convolution may have several inputs per channel (flattened positions).
A convolution with fewer input channels than the convolution before has outputs counts as a grouped one.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sparsekit.topology.sets import LayerTopology, Topology


@dataclass(frozen=True, eq=False, kw_only=True)
class Link:
    """One layer of a chain: which unit each connection comes from and which one it leads to.

    Args:
        name: of the layer.
        source: unit before the layer, for each connection.
        target: unit after the layer, for each connection.
        num_sources: units before the layer.
        num_targets: units after the layer.
    """

    name: str
    source: Int64[Tensor, " e"]
    target: Int64[Tensor, " e"]
    num_sources: int
    num_targets: int


def effective_topology(topology: Topology) -> Topology:
    """Return the connections that lie on a path from an input to an output.

    Args:
        topology: of a chain, with the layers in the order in which the signal passes them.

    Raises:
        ValueError: if the shapes do not form a chain.

    Example:
        >>> net = Topology(
        ...     {
        ...         "first": LayerTopology((2, 2), torch.tensor([0, 3])),
        ...         "last": LayerTopology((1, 2), torch.tensor([0])),
        ...     }
        ... )
        >>> effective_topology(net)["first"].indices.tolist()
        [0]

    Source: Vysogorets and Kempe (2023), arXiv:2107.02306, section 3.
    """
    links = chain(topology)
    reached, read = reached_units(links), read_units(links)
    on_path = {link.name: reached[i][link.source] & read[i + 1][link.target] for i, link in enumerate(links)}
    indices = {name: layer.indices[on_path[name]] for name, layer in topology.items()}
    return Topology({name: LayerTopology(layer.shape, indices[name]) for name, layer in topology.items()})


def chain(topology: Topology) -> list[Link]:
    """Return the layers of a chain with the unit at either end of each connection.

    Raises:
        ValueError: if there is no layer, or a layer's inputs do not fit the outputs of the one before.
    """
    if not len(topology):
        raise ValueError("a chain must have at least one layer, got none. Sparsify the model first")
    names = list(topology)
    links = [_link(names[0], topology[names[0]], topology[names[0]].shape[1])]
    for before, name in itertools.pairwise(names):
        layer, sources = topology[name], topology[before].num_outputs
        if not _fits(layer, topology[before]):
            raise ValueError(
                f"the layers must form a chain, got {name} with {layer.shape[1]} inputs after {sources} outputs. "
                "For networks with branches use effective_topology_of_model(model, example)"
            )
        links.append(_link(name, layer, sources))
    return links


def _fits(layer: LayerTopology, before: LayerTopology) -> bool:
    inputs, sources = layer.shape[1], before.num_outputs
    if inputs == sources or len(before.shape) == 2:
        return inputs == sources
    if len(layer.shape) == 2:
        return inputs % sources == 0
    return sources % inputs == 0 and layer.num_outputs % (sources // inputs) == 0


def _link(name: str, layer: LayerTopology, num_sources: int) -> Link:
    inputs = layer.shape[1]
    source = layer.cols // (layer.num_inputs // inputs)
    if inputs > num_sources:  # flattened positions
        source = source // (inputs // num_sources)
    elif inputs < num_sources:  # groups
        outputs_per_group = layer.num_outputs // (num_sources // inputs)
        source = source + layer.rows // outputs_per_group * inputs
    return Link(name=name, source=source, target=layer.rows, num_sources=num_sources, num_targets=layer.num_outputs)


def reached_units(links: list[Link]) -> list[Bool[Tensor, " units"]]:
    """Return for every stage (inputs, after each layer) which units some input reaches."""
    return list(itertools.accumulate(links, _step_forward, initial=_all_units(links[0].num_sources, links[0])))


def read_units(links: list[Link]) -> list[Bool[Tensor, " units"]]:
    """Return for every stage (inputs, after each layer) from which units a path leads to an output."""
    backwards: Iterator[Tensor] = itertools.accumulate(
        reversed(links), _step_back, initial=_all_units(links[-1].num_targets, links[-1])
    )
    return list(backwards)[::-1]


def _all_units(count: int, link: Link) -> Tensor:
    return torch.ones(count, dtype=torch.bool, device=link.source.device)


def _step_forward(alive: Tensor, link: Link) -> Tensor:
    return alive.new_zeros(link.num_targets).index_fill(0, link.target[alive[link.source]], True)


def _step_back(alive: Tensor, link: Link) -> Tensor:
    return alive.new_zeros(link.num_sources).index_fill(0, link.source[alive[link.target]], True)
