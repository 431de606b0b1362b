"""Nominal and effective density of a chain of layers, from the topology alone.

A connection is effective if it lies on a path from an input of the network to an output. Others carry nothing, because
they leave a unit that receives no input, or lead to one that nobody reads. In very sparse random networks most
connections are of that kind.

The functions here read a topology as a chain, in which each layer has as many inputs as the layer before has outputs.
There are two exceptions. A linear layer after a convolution may have several inputs per channel (flattened positions).
A convolution with fewer input channels than the convolution before has outputs counts as a grouped one. A residual
network is no chain, so use `model_paths.effective_topology_of_model` there, which asks the model itself.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology, Topology


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
    reached, read = _reached(links), _read(links)
    on_path = {link.name: reached[i][link.source] & read[i + 1][link.target] for i, link in enumerate(links)}
    indices = {name: layer.indices[on_path[name]] for name, layer in topology.items()}
    return Topology({name: LayerTopology(layer.shape, indices[name]) for name, layer in topology.items()})


def effective_density(topology: Topology) -> float:
    """Return the share of all positions that hold an effective connection, 0 to the (nominal) density.

    Raises:
        ValueError: if the shapes do not form a chain.

    Example:
        >>> net = Topology(
        ...     {"a": LayerTopology((2, 1), torch.tensor([0])), "b": LayerTopology((1, 2), torch.tensor([1]))}
        ... )
        >>> net.density, effective_density(net)
        (0.5, 0.0)

    Source: Vysogorets and Kempe (2023), arXiv:2107.02306, section 3.
    """
    return effective_topology(topology).density


def cut_off_units(topology: Topology) -> pd.DataFrame:
    """Return how many outputs of each layer no input reaches, and how many lead to no output of the network.

    The columns are `outputs`, `bias_only` (units that no input reaches) and `unread` (units from which no path leads
    on). A unit that no input reaches emits a constant if it has a bias, and 0 if not.

    Raises:
        ValueError: if the shapes do not form a chain.

    Example:
        >>> net = Topology(
        ...     {"a": LayerTopology((2, 1), torch.tensor([0])), "b": LayerTopology((1, 2), torch.tensor([1]))}
        ... )
        >>> cut_off_units(net).loc["a"].to_dict()
        {'outputs': 2, 'bias_only': 1, 'unread': 1}
    """
    links = chain(topology)
    reached, read = _reached(links)[1:], _read(links)[1:]
    rows = {
        link.name: {"outputs": link.num_targets, "bias_only": int((~hit).sum()), "unread": int((~used).sum())}
        for link, hit, used in zip(links, reached, read, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def log10_num_paths(topology: Topology) -> float:
    """Return log10 of the number of paths from inputs to outputs, minus infinity if there is none.

    Every kernel position counts as a connection of its own. Positions in the image are not told apart.

    Raises:
        ValueError: if the shapes do not form a chain.

    Example:
        >>> net = Topology(
        ...     {
        ...         "a": LayerTopology((2, 2), torch.tensor([0, 1, 3])),
        ...         "b": LayerTopology((1, 2), torch.tensor([0, 1])),
        ...     }
        ... )
        >>> round(10 ** log10_num_paths(net))
        3
    """
    links = chain(topology)
    paths, exponent = torch.ones(links[0].num_sources, dtype=torch.float64), 0.0
    for link in links:
        paths = _paths_after(paths, link)
        largest = float(paths.max())
        if largest == 0:
            return -math.inf
        # The numbers outgrow float64 after some hundred layers, so their scale is kept apart.
        paths, exponent = paths / largest, exponent + math.log10(largest)
    return exponent + math.log10(float(paths.sum()))


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


def _reached(links: list[Link]) -> list[Bool[Tensor, " units"]]:
    """Return for every stage (inputs, after each layer) which units some input reaches."""
    return list(itertools.accumulate(links, _step_forward, initial=_all_units(links[0].num_sources)))


def _read(links: list[Link]) -> list[Bool[Tensor, " units"]]:
    """Return for every stage (inputs, after each layer) from which units a path leads to an output."""
    backwards: Iterator[Tensor] = itertools.accumulate(
        reversed(links), _step_back, initial=_all_units(links[-1].num_targets)
    )
    return list(backwards)[::-1]


def _all_units(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def _step_forward(alive: Tensor, link: Link) -> Tensor:
    return torch.zeros(link.num_targets, dtype=torch.bool).index_fill(0, link.target[alive[link.source]], True)


def _step_back(alive: Tensor, link: Link) -> Tensor:
    return torch.zeros(link.num_sources, dtype=torch.bool).index_fill(0, link.source[alive[link.target]], True)


def _paths_after(paths: Float[Tensor, " sources"], link: Link) -> Float[Tensor, " targets"]:
    return torch.zeros(link.num_targets, dtype=paths.dtype).index_add(0, link.target, paths[link.source])
