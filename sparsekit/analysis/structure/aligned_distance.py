"""How far apart two topologies are when the order of hidden units does not count."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology, Topology, check_same_layers


def topological_distance(first: Topology, second: Topology, *, match_last: bool = False) -> pd.DataFrame:
    """Return how different the inputs of matched units are, layer by layer: NNSTD, 0 to 1.

    A unit is the set of its inputs. The distance of two units is `|a xor b| / |a or b|`, 0 if both are empty. Units
    of the second network are matched with those of the first so that the sum is least (the Hungarian method). The next
    layer's inputs are put in the same order. A network whose hidden units are only shuffled is at distance 0, unless
    two units of a layer have the same inputs. In that case the matching has no reason to prefer one of them.

    Args:
        first, second: topologies whose layers form a chain in their order.
        match_last: match the units of the last layer too, as the original code does. The labels fix their order, so
            they stay where they are by default.

    Returns:
        A row per layer, then `"network"` with the mean over the layers. The columns are `distance` and `in_place`, the
        same without any matching.

    Raises:
        ValueError: if the layers or shapes differ, there are none, or a layer does not follow on the one before.

    Example:
        >>> a, b = (LayerTopology((2, 4), torch.tensor(positions)) for positions in ([0, 1, 5, 6], [0, 1, 6, 7]))
        >>> topological_distance(Topology({"fc": a}), Topology({"fc": b})).round(4).loc["fc"].tolist()
        [0.3333, 0.3333]

    Source: Liu et al. (2020), Topological insights into sparse neural networks, arXiv:2006.14085.
    """
    check_same_layers(first, second)
    if not first:
        raise ValueError("topologies must have at least one layer to be compared, got none. Sparsify the model first")
    order, rows, last = None, {}, list(first)[-1]
    for name, layer in first.items():
        first_units, second_units = layer.mask().flatten(1), _in_order(second[name], order, name)
        distances = unit_distances(first_units, second_units)
        units = torch.arange(len(distances))
        order = _match(distances) if name != last or match_last else units
        unmatched = unit_distances(first_units, second[name].mask().flatten(1)).diagonal()
        rows[name] = {"distance": float(distances[units, order].mean()), "in_place": float(unmatched.mean())}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.loc["network"] = table.mean()
    return table.rename_axis("layer")


def topological_distances(topologies: Sequence[Topology], *, match_last: bool = False) -> Float[np.ndarray, "t t"]:
    """Return the distance of every pair of networks, as `topological_distance` gives it, 0 on the diagonal.

    The upper half is computed and the lower is its mirror. Where several matchings are equally good, the direction may
    decide between them, and so may change the next layer's distance.

    Raises:
        ValueError: as for `topological_distance`.
    """
    distances = np.zeros((len(topologies), len(topologies)))
    for row, column in itertools.combinations(range(len(topologies)), 2):
        table = topological_distance(topologies[row], topologies[column], match_last=match_last)
        distances[row, column] = distances[column, row] = table["distance"].iloc[-1]
    return distances


def unit_distances(first: Tensor, second: Tensor) -> Float[Tensor, "a b"]:
    """Return `|a xor b| / |a or b|` for every unit of the first and of the second layer, each a row of a mask.

    Example:
        >>> unit_distances(torch.tensor([[True, True, False]]), torch.tensor([[True, True, False], [False] * 3]))
        tensor([[0., 1.]], dtype=torch.float64)
    """
    a, b = first.double(), second.double()
    shared = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None] - shared
    return torch.where(either > 0, (either - shared) / either, 0.0)


def _match(distances: Tensor) -> Int64[Tensor, " a"]:
    """Return which unit of the second layer goes with each of the first."""
    from scipy.optimize import linear_sum_assignment  # here, as the import costs a second

    return torch.from_numpy(linear_sum_assignment(distances.cpu().numpy())[1])


def _in_order(layer: LayerTopology, order: Tensor | None, name: str) -> Tensor:
    """Return the layer's mask, a row per unit, with its inputs in the order of the units before."""
    mask = layer.mask()
    if order is None:
        return mask.flatten(1)
    units, inputs = len(order), layer.shape[1]
    if inputs % units:
        raise ValueError(f"layers must form a chain, got {inputs} inputs of {name} after a layer of {units} outputs")
    # After flattening, a channel is several inputs in a row.
    return mask.reshape(len(mask), units, -1)[:, order.to(mask.device)].flatten(1)
