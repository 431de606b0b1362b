"""Sets of integers as sorted tensors, of which topologies are made. Operations take time linear in their sizes."""

from sparsekit.topology.sorted_sets.operations import (
    compress,
    difference,
    distinct,
    intersection,
    match,
    missing_at,
    positions_in,
    rows_of,
    transpose,
    true_positions,
    union,
)

__all__ = [
    "compress",
    "difference",
    "distinct",
    "intersection",
    "match",
    "missing_at",
    "positions_in",
    "rows_of",
    "transpose",
    "true_positions",
    "union",
]
