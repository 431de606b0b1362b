"""Nominal and effective density of a chain of layers, from the topology alone.

A connection is effective if it lies on a path from an input of the network to an output (`topology.paths`). A residual
network is no chain, so use `model_paths.effective_topology_of_model` there, which asks the model itself.
"""

import math

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.topology import Topology
from sparsekit.topology.paths import Link, chain, effective_topology, reached_units, read_units


def effective_density(topology: Topology) -> float:
    """Return the share of all positions that hold an effective connection, 0 to the (nominal) density.

    Raises:
        ValueError: if the shapes do not form a chain.

    Example:
        >>> from sparsekit.topology import LayerTopology
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
        >>> from sparsekit.topology import LayerTopology
        >>> net = Topology(
        ...     {"a": LayerTopology((2, 1), torch.tensor([0])), "b": LayerTopology((1, 2), torch.tensor([1]))}
        ... )
        >>> cut_off_units(net).loc["a"].to_dict()
        {'outputs': 2, 'bias_only': 1, 'unread': 1}
    """
    links = chain(topology)
    reached, read = reached_units(links)[1:], read_units(links)[1:]
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
        >>> from sparsekit.topology import LayerTopology
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


def _paths_after(paths: Float[Tensor, " sources"], link: Link) -> Float[Tensor, " targets"]:
    return torch.zeros(link.num_targets, dtype=paths.dtype).index_add(0, link.target, paths[link.source])
