"""How alike two topologies are, and how alike chance alone would make them.

Every similarity is a function of four numbers: the connections of the first and the second topology, those
they share, and all places. A likeness means little before it is set against chance, so each comes with two
baselines: masks drawn uniformly over the whole network, and masks drawn uniformly within each layer at the
layers' own densities. Two independent Erdos-Renyi masks overlap far more than their overall density says,
because both are dense in the same small layers; only the second baseline knows that.
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
    """The four numbers a similarity is made of; `shared` may be an expectation, so it need not be whole."""

    first: int
    second: int
    shared: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A similarity or distance, and what two independent random topologies would give.

    Args:
        value: what was measured.
        random_baseline: connections spread uniformly over the whole network.
        layer_matched_baseline: spread uniformly within each layer, with as many connections as the layer has.
    """

    value: float
    random_baseline: float
    layer_matched_baseline: float


def iou(first: Topology | LayerTopology, second: Topology | LayerTopology) -> Comparison:
    """Return intersection over union: shared connections as a share of all that either has, 0 to 1.

    Also called the Jaccard index. For independent masks of one density d the baseline is `d / (2 - d)`. Two
    empty topologies are equal: 1.

    Raises:
        ValueError: if the layers or shapes differ.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(places)) for places in ([0, 1], [1, 2]))
        >>> round(iou(a, b).value, 4), round(iou(a, b).random_baseline, 4)
        (0.3333, 0.3333)

    Source: Jaccard (1912), The distribution of the flora in the alpine zone.
    """
    return compare(first, second, measure="iou")


def overlap(first: Topology | LayerTopology, second: Topology | LayerTopology) -> Comparison:
    """Return the share of the first topology's connections that the second has too, 0 to 1. Not symmetric.

    The baseline is the second's density. An empty first topology lies wholly within any other: 1.

    Raises:
        ValueError: if the layers or shapes differ.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(places)) for places in ([0], [0, 1]))
        >>> overlap(a, b).value, overlap(b, a).value
        (1.0, 0.5)
    """
    return compare(first, second, measure="overlap")


def dice(first: Topology | LayerTopology, second: Topology | LayerTopology) -> Comparison:
    """Return the Dice coefficient: shared connections twice, over the connections of both, 0 to 1.

    Raises:
        ValueError: if the layers or shapes differ.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(places)) for places in ([0, 1], [1, 2]))
        >>> dice(a, b).value
        0.5

    Source: Dice (1945), Measures of the amount of ecologic association between species.
    """
    return compare(first, second, measure="dice")


def hamming(first: Topology | LayerTopology, second: Topology | LayerTopology, *, per: str = "places") -> Comparison:
    """Return how many places differ, 0 to 1.

    Args:
        first: one topology.
        second: the other.
        per: `"places"` divides by all places, so sparse masks are always close; `"connections"` divides by
            the connections of both, so masks without a common connection have distance 1.

    Raises:
        ValueError: if the layers or shapes differ, or `per` is neither word.

    Example:
        >>> import torch
        >>> a, b = (LayerTopology((2, 2), torch.tensor(places)) for places in ([0], [1]))
        >>> hamming(a, b).value, hamming(a, b, per="connections").value
        (0.5, 1.0)

    Source: Hamming (1950), Error detecting and error correcting codes.
    """
    return compare(first, second, measure=f"hamming_per_{per}")


def compare(first: Topology | LayerTopology, second: Topology | LayerTopology, *, measure: str = "iou") -> Comparison:
    """Return a similarity of two topologies by name, one of `MEASURES`, with both baselines.

    The baselines put the expected number of shared connections, `|a| * |b| / size` (summed over the layers
    for the layer-matched one), into the same formula. For `iou` and `dice` of equal counts that is the mean
    up to terms of order 1/size.

    Raises:
        TypeError: if one of them is no topology.
        ValueError: if the layers or shapes differ, or the measure is unknown.
    """
    if measure not in MEASURES:
        raise ValueError(f"a measure must be one of {', '.join(MEASURES)}, got {measure!r}; choose one of them")
    a, b = _as_topology(first), _as_topology(second)
    check_same_layers(a, b)
    if a.size == 0:
        raise ValueError("topologies must have at least one layer to be compared, got none; sparsify the model first")
    formula = MEASURES[measure]
    shared = [(a & b).count, _expected(a.count, b.count, a.size), sum(_expected_by_layer(a, b))]
    value, random, matched = (
        formula(Counts(first=a.count, second=b.count, shared=number, size=a.size)) for number in shared
    )
    return Comparison(value=value, random_baseline=random, layer_matched_baseline=matched)


def comparison_table(first: Topology, second: Topology, *, measure: str = "iou") -> pd.DataFrame:
    """Return a similarity for each layer, and in the last row, `"network"`, for all of them together.

    Columns: `value`, `random_baseline`, `layer_matched_baseline`. Within one layer the two baselines are the
        same.

    Raises:
        ValueError: if the layers or shapes differ, or the measure is unknown.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 3]))})
        >>> comparison_table(net, net)["value"].to_dict()
        {'fc': 1.0, 'network': 1.0}
    """
    check_same_layers(first, second)
    rows = {name: compare(first[name], second[name], measure=measure) for name in first}
    rows["network"] = compare(first, second, measure=measure)
    table = {name: vars(row) for name, row in rows.items()}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("layer")


def comparison_matrix(
    topologies: Sequence[Topology], *, measure: str = "iou", baseline: Baseline = "layer-matched"
) -> tuple[Float[np.ndarray, "t t"], Float[np.ndarray, "t t"]]:
    """Return the similarity of every pair of topologies, and its baseline, as two matrices.

    Args:
        topologies: of the same layers.
        measure: a name of `MEASURES`.
        baseline: "layer-matched", of masks with as many connections in each layer; or "random", of masks with as many
            in the whole network.

    Raises:
        ValueError: if the layers or shapes differ, or the measure or the baseline is unknown.

    Example:
        >>> import torch
        >>> masks = [Topology({"fc": LayerTopology((2, 2), torch.tensor([place]))}) for place in (0, 1)]
        >>> comparison_matrix(masks)[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, got {baseline!r}; choose one of them")
    expected = attrgetter(BASELINES[baseline])
    rows = [[compare(a, b, measure=measure) for b in topologies] for a in topologies]
    shape = (len(topologies), len(topologies))
    values = np.array([[cell.value for cell in row] for row in rows]).reshape(shape)
    return values, np.array([[expected(cell) for cell in row] for row in rows]).reshape(shape)


def _iou(counts: Counts) -> float:
    return _share(counts.shared, counts.first + counts.second - counts.shared, empty=1.0)


def _overlap(counts: Counts) -> float:
    return _share(counts.shared, counts.first, empty=1.0)


def _dice(counts: Counts) -> float:
    return _share(2 * counts.shared, counts.first + counts.second, empty=1.0)


def _hamming_per_places(counts: Counts) -> float:
    return _share(counts.first + counts.second - 2 * counts.shared, counts.size, empty=0.0)


def _hamming_per_connections(counts: Counts) -> float:
    both = counts.first + counts.second
    return _share(both - 2 * counts.shared, both, empty=0.0)


MEASURES: Mapping[str, Callable[[Counts], float]] = {
    "iou": _iou,
    "overlap": _overlap,
    "dice": _dice,
    "hamming_per_places": _hamming_per_places,
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
