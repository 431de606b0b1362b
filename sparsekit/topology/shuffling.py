"""Shuffled topologies are the control for any mask: as many connections in the same layers, at other positions."""

import torch
from jaxtyping import Int64
from torch import Tensor

from sparsekit.topology.selection import draw_distinct
from sparsekit.topology.sets import LayerTopology, Topology, check_topology
from sparsekit.utils.seeds import generator

WITHIN = ("layer", "outputs", "inputs")


def shuffled(topology: Topology, *, within: str = "layer", seed: int = 0) -> Topology:
    """Put the connections of each layer at random positions, as many as there were.

    On a shuffled topology a method keeps what it owes to how many connections each layer gets. It loses what it owes
    to where they are.
    Source: Frankle et al. (2021), arXiv:2009.08576, section 5.

    Args:
        topology: which connections exist.
        within: `"layer"` puts them anywhere in their layer. `"outputs"` puts them anywhere among the inputs of the same
            output, so that every fan-in stays. `"inputs"` puts them anywhere among the outputs of the same input (in a
            convolution, of a channel's position in the kernel), so that every fan-out stays.
        seed: the same seed gives the same topology.

    Raises:
        TypeError: if it is no topology.
        ValueError: if `within` is something else.

    Example:
        >>> ends = Topology({"fc": LayerTopology((3, 4), torch.tensor([0, 1, 8, 11]))})
        >>> shuffled(ends, within="outputs")["fc"].fan_in().tolist()
        [2, 0, 2]
    """
    check_topology(topology)
    if within not in WITHIN:
        raise ValueError(f"within must be one of {', '.join(WITHIN)}, got {within!r}. Choose one of them")
    return Topology(
        {
            name: LayerTopology(layer.shape, _sample(layer, within, generator(seed, "shuffle", name)).to(layer.indices))
            for name, layer in topology.items()
        }
    )


def _sample(layer: LayerTopology, within: str, draws: torch.Generator) -> Int64[Tensor, " e"]:
    """Draw as many different positions as there are connections, sorted."""
    if within == "layer":
        return draw_distinct(layer.size, layer.count, draws)
    if within == "outputs":
        per_output = [draw_distinct(layer.num_inputs, fan, draws) for fan in layer.fan_in().tolist()]
        return torch.cat([output * layer.num_inputs + inputs for output, inputs in enumerate(per_output)])
    per_input = [draw_distinct(layer.num_outputs, fan, draws) for fan in layer.fan_out().tolist()]
    return torch.cat([outputs * layer.num_inputs + input for input, outputs in enumerate(per_input)]).sort().values
