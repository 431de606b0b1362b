"""How alike two topologies are, and how alike chance alone would make them.

Every similarity is a function of four numbers: the connections of the first topology, those of the second, those
they share, and all positions. A similarity means little until you compare it with chance, so each comes with two
baselines. One draws masks uniformly over the whole network, the other within each layer at the layers' own densities.
Two independent Erdos-Renyi masks overlap far more than their global density suggests, because both are dense in the
same small layers. Only the second baseline accounts for that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from sparsekit.topology import LayerTopology, Topology, check_same_layers, check_topology

Baseline = Literal["layer-matched", "random"]
BASELINES: Mapping[str, str] = {"layer-matched": "layer_matched_baseline", "random": "random_baseline"}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The four numbers a similarity is made of. `shared` may be an expectation, so it need not be an integer."""

    first: int
    second: int
    shared: float
    size: int


@dataclass(frozen=True, kw_only=True)
class TopologySimilarity:
    """A similarity or distance, and what two independent random topologies would give.

    Args:
        value: the measured number.
        random_baseline: for connections spread uniformly over the whole network.
        layer_matched_baseline: for as many connections as each layer has, spread uniformly within it.
    """

    value: float
    random_baseline: float
    layer_matched_baseline: float


def iou(first: Topology | LayerTopology, second: Topology | LayerTopology) -> TopologySimilarity:
    """Return intersection over union: shared connections as a share of all that either has, 0 to 1.

    It is also called the Jaccard index. For independent masks of one density d the baseline is `d / (2 - d)`. Two
    empty topologies are equal, so their index is 1.

    Raises:
        ValueError: if the layers or shapes differ.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(positions)) for positions in ([0, 1], [1, 2]))
        >>> round(iou(a, b).value, 4), round(iou(a, b).random_baseline, 4)
        (0.3333, 0.3333)

    Source: Jaccard (1912), The distribution of the flora in the alpine zone.
    """
    return topology_similarity(first, second, measure="iou")


def topology_similarity(
    first: Topology | LayerTopology, second: Topology | LayerTopology, *, measure: str = "iou"
) -> TopologySimilarity:
    """Return a similarity of two topologies, or a distance of them, with both baselines.

    - `"iou"`: intersection over union, see `iou`.
    - `"dice"`: shared connections twice, over the connections of both, 0 to 1.
    - `"overlap"`: the share of the first topology's connections that the second has too, 0 to 1. It is not symmetric,
      and its baseline is the density of the second. An empty first topology lies wholly within any other, which is 1.
    - `"hamming_per_positions"`: positions that differ, over all positions, 0 to 1. Sparse masks are always close.
    - `"hamming_per_connections"`: the same over the connections of both. Masks that share nothing have distance 1.

    The baselines put the expected number of shared connections into the same formula. That number is
    `|a| * |b| / size`, summed over the layers for the layer-matched one. For `iou` and `dice` of equal counts the
    result is the mean up to terms of order 1/size.

    Raises:
        TypeError: if one of them is no topology.
        ValueError: if the layers or shapes differ, or the measure is unknown.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(positions)) for positions in ([0], [0, 1]))
        >>> topology_similarity(a, b, measure="overlap").value, topology_similarity(b, a, measure="overlap").value
        (1.0, 0.5)

    Sources: Dice (1945), Measures of the amount of ecologic association between species. Hamming (1950), Error
    detecting and error correcting codes.
    """
    if measure not in MEASURES:
        raise ValueError(f"a measure must be one of {', '.join(MEASURES)}, got {measure!r}. Choose one of them")
    a, b = _as_topology(first), _as_topology(second)
    check_same_layers(a, b)
    if a.size == 0:
        raise ValueError("topologies must have at least one layer to be compared, got none. Sparsify the model first")
    formula = MEASURES[measure]
    shared = [(a & b).count, _expected(a.count, b.count, a.size), sum(_expected_by_layer(a, b))]
    value, random, matched = (
        formula(Counts(first=a.count, second=b.count, shared=number, size=a.size)) for number in shared
    )
    return TopologySimilarity(value=value, random_baseline=random, layer_matched_baseline=matched)


def topology_similarity_table(first: Topology, second: Topology, *, measure: str = "iou") -> pd.DataFrame:
    """Return a similarity for each layer, and in the last row, `"network"`, for all of them together.

    The columns are `value`, `random_baseline` and `layer_matched_baseline`. Within one layer the two baselines are the
    same.

    Raises:
        ValueError: if the layers or shapes differ, or the measure is unknown.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 3]))})
        >>> topology_similarity_table(net, net)["value"].to_dict()
        {'fc': 1.0, 'network': 1.0}
    """
    check_same_layers(first, second)
    rows = {name: topology_similarity(first[name], second[name], measure=measure) for name in first}
    rows["network"] = topology_similarity(first, second, measure=measure)
    table = {name: vars(row) for name, row in rows.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("layer")


def topology_similarity_matrix(
    topologies: Sequence[Topology], *, measure: str = "iou", baseline: Baseline = "layer-matched"
) -> tuple[Float[np.ndarray, "t t"], Float[np.ndarray, "t t"]]:
    """Return the similarity of every pair of topologies, and its baseline, as two matrices.

    Args:
        topologies: of the same layers.
        measure: a name of `MEASURES`.
        baseline: "layer-matched", of masks with as many connections in each layer, or "random", of masks with as many
            in the whole network.

    Raises:
        ValueError: if the layers or shapes differ, or the measure or the baseline is unknown.

    Example:
        >>> import torch
        >>> masks = [Topology({"fc": LayerTopology((2, 2), torch.tensor([position]))}) for position in (0, 1)]
        >>> topology_similarity_matrix(masks)[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {baseline!r}. Choose one of them")
    expected = attrgetter(BASELINES[baseline])
    rows = [[topology_similarity(a, b, measure=measure) for b in topologies] for a in topologies]
    shape = (len(topologies), len(topologies))
    values = np.array([[cell.value for cell in row] for row in rows]).reshape(shape)
    return values, np.array([[expected(cell) for cell in row] for row in rows]).reshape(shape)


def _iou(counts: Counts) -> float:
    return _share(counts.shared, counts.first + counts.second - counts.shared, empty=1.0)


def _overlap(counts: Counts) -> float:
    return _share(counts.shared, counts.first, empty=1.0)


def _dice(counts: Counts) -> float:
    return _share(2 * counts.shared, counts.first + counts.second, empty=1.0)


def _hamming_per_positions(counts: Counts) -> float:
    return _share(counts.first + counts.second - 2 * counts.shared, counts.size, empty=0.0)


def _hamming_per_connections(counts: Counts) -> float:
    both = counts.first + counts.second
    return _share(both - 2 * counts.shared, both, empty=0.0)


MEASURES: Mapping[str, Callable[[Counts], float]] = {
    "iou": _iou,
    "overlap": _overlap,
    "dice": _dice,
    "hamming_per_positions": _hamming_per_positions,
    "hamming_per_connections": _hamming_per_connections,
}


def _share(part: float, whole: float, *, empty: float) -> float:
    return part / whole if whole else empty


def _expected(first: int, second: int, size: int) -> float:
    return first * second / size


def _expected_by_layer(first: Topology, second: Topology) -> list[float]:
    return [_expected(layer.count, second[name].count, layer.size) for name, layer in first.items()]


def _as_topology(masks: Topology | LayerTopology) -> Topology:
    if isinstance(masks, LayerTopology):
        return Topology({"layer": masks})
    check_topology(masks)
    return masks
