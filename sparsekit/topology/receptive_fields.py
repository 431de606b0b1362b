"""Local topologies: each input connects to outputs around its own point of a ring, more or less strictly."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from sparsekit.topology.allocation import Counts, Shapes, allocate
from sparsekit.topology.selection import draw_distinct
from sparsekit.topology.sets import LayerTopology, Topology
from sparsekit.topology.weighted import draw_keys
from sparsekit.utils.checks import check_integer, number
from sparsekit.utils.seeds import generator

Fan = Literal["fixed", "uniform"]

MOST_KEYS = 2**20  # so many at once, which take 8 MiB
STEEPEST = 1e6  # an exponent that leaves the nearest outputs only


def receptive_fields(
    shapes: Shapes,
    density: float,
    *,
    randomness: float = 0.3,
    fan: Fan = "fixed",
    allocation: str | Callable[[Shapes, float], Counts] = "erk",
    seed: int = 0,
) -> Topology:
    """Draw a local topology, the bipartite receptive field (BRF), with the counts of an allocation.

    Outputs lie on a ring, and so do inputs. Input `i` draws outputs without replacement, with chances in proportion to
    `(1 + distance) ** (-(1 - r) / r)` from its own point of the ring. In a convolution the inputs are channels times
    positions of the kernel.

    Args:
        shapes: weight shape of each layer, from `shapes_of(model)`.
        density: share of all weights that exist, in (0, 1].
        randomness: `r` between 0, the nearest outputs, and 1, any output (its code: 0.3).
        fan: `"fixed"` gives every input as many connections, or one more. `"uniform"` gives it as many as it has in a
            random layer.
        allocation: `"uniform"`, `"er"`, `"erk"`, or a function `(shapes, density) -> counts`.
        seed: the same seed gives the same topology.

    Raises:
        TypeError: if the shapes do not come by layer name.
        ValueError: if the density, the randomness or the fan is out of range, or the allocation is unknown.

    Source: Zhang et al. (2025), arXiv:2501.19107, "BRF". What uniform fans are is ours.

    Example:
        >>> receptive_fields({"fc": (4, 4)}, 0.25, randomness=0.0, allocation="uniform")["fc"].indices.tolist()
        [0, 5, 10, 15]
    """
    check_integer("seed", seed)
    counts = allocate(shapes, density, allocation)
    return Topology(
        {
            name: receptive_field(
                tuple(shape), counts[name], randomness=randomness, fan=fan, generator=generator(seed, "local", name)
            )
            for name, shape in shapes.items()
        }
    )


def receptive_field(
    shape: tuple[int, ...], count: int, *, randomness: float, fan: Fan, generator: torch.Generator
) -> LayerTopology:
    """Draw one layer of `receptive_fields`, with exactly so many connections.

    Raises:
        ValueError: if the randomness lies outside [0, 1], or the fan is something else.
    """
    if not 0 <= number("randomness", randomness) <= 1:
        raise ValueError(f"randomness must lie in [0, 1], got {randomness}. The published code takes 0.3")
    if fan not in ("fixed", "uniform"):
        raise ValueError(f"fan must be 'fixed' or 'uniform', got {fan!r}. Choose one of them")
    layer = LayerTopology.full(shape)
    power = min(STEEPEST, (1 - randomness) / randomness) if randomness else STEEPEST
    fans = _fans(layer, count, fan, generator)
    part = max(1, MOST_KEYS // layer.num_outputs)
    parts = [
        _draw(inputs, fans[inputs], layer, power, generator) for inputs in torch.arange(layer.num_inputs).split(part)
    ]
    return LayerTopology(layer.shape, torch.cat(parts).sort().values)


def _fans(layer: LayerTopology, count: int, fan: Fan, generator: torch.Generator) -> Int64[Tensor, " f"]:
    """Return how many outputs each input connects to."""
    if fan == "uniform":
        positions = draw_distinct(layer.size, count, generator).cpu()
        return torch.bincount(positions % layer.num_inputs, minlength=layer.num_inputs)
    fans = torch.full((layer.num_inputs,), count // layer.num_inputs)
    fans[draw_distinct(layer.num_inputs, count % layer.num_inputs, generator).cpu()] += 1
    return fans


def _draw(inputs: Tensor, fans: Tensor, layer: LayerTopology, power: float, generator: torch.Generator) -> Tensor:
    """Draw the positions of some inputs."""
    centres = inputs[:, None].double() * layer.num_outputs / layer.num_inputs
    along = (torch.arange(layer.num_outputs) - centres).abs()
    distance = torch.minimum(along, layer.num_outputs - along)
    keys = draw_keys((1 / (1 + distance)).flatten(), generator, power=power).view_as(distance).cpu()
    ranks = keys.argsort(1, descending=True).argsort(1)
    chosen, outputs = (ranks < fans[:, None]).nonzero(as_tuple=True)
    return outputs * layer.num_inputs + inputs[chosen]
