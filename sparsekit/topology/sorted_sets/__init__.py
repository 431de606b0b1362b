"""Sets of whole numbers as sorted tensors: what topologies are made of, in time linear in their sizes."""

from sparsekit.topology.sorted_sets.operations import (
    compare,
    compress,
    difference,
    distinct,
    intersection,
    missing_at,
    places,
    rows_of,
    transpose,
    true_positions,
    union,
)

__all__ = [
    "compare",
    "compress",
    "difference",
    "distinct",
    "intersection",
    "missing_at",
    "places",
    "rows_of",
    "transpose",
    "true_positions",
    "union",
]
