"""Kernels read index arrays from here: rows and columns of a topology, derived once per rewiring."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology
from sparsekit.topology.sorted_sets import transpose

T = TypeVar("T")


def unfold_columns(topology: LayerTopology, groups: int = 1) -> Int64[Tensor, " e"]:
    """Return which column of the unfolded input each connection reads.

    A grouped convolution unfolds to `groups * F` columns, and an output reads the block of its own group.
    """
    if groups == 1:
        return topology.cols
    outputs_per_group = topology.num_outputs // groups
    return topology.cols + (topology.rows // outputs_per_group) * topology.num_inputs


def sorted_by(keys: Int64[Tensor, " e"], num_keys: int) -> tuple[Int32[Tensor, " pointers"], Int32[Tensor, " e"]]:
    """Return where each key's connections start, and which they are. Equal keys keep their order."""
    one_row = torch.tensor([0, keys.numel()], device=keys.device)
    pointers, _, order = transpose(one_row, keys, num_keys)
    return pointers.int(), order.int()


@dataclass(frozen=True, eq=False)
class Structure:
    """A structure is a layer's topology as a matrix `(O, W)` in compressed rows and columns, `W = groups * F` wide.

    The arrays are int32 and computed at their first use, so a backend pays only for those it reads.

    Args:
        topology: the connections, which it has checked to be sorted, in range and without doubles.
        groups: number of groups of a grouped convolution.

    Raises:
        ValueError: if there are more connections, inputs or outputs than int32 can count, or the groups do not share
            out the outputs evenly.
    """

    topology: LayerTopology
    groups: int = 1
    _derived: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        largest = max(self.num_connections, self.width, self.num_rows)
        if largest >= 2**31:
            raise ValueError(f"a layer must have fewer than 2**31 connections, inputs and outputs, got {largest:,}")
        if self.groups < 1 or self.num_rows % self.groups:
            raise ValueError(f"each group must have as many outputs, got {self.groups} groups, {self.num_rows} outputs")

    def __reduce__(self) -> tuple:
        # What kernels derive holds addresses, which are of no use to a copy or another process.
        return type(self), (self.topology, self.groups)

    @cached_property
    def num_connections(self) -> int:
        """Number of connections `E`."""
        return self.topology.count

    @cached_property
    def num_rows(self) -> int:
        """Number of outputs `O`."""
        return self.topology.num_outputs

    @cached_property
    def width(self) -> int:
        """Number of columns `W`."""
        return self.groups * self.topology.num_inputs

    @cached_property
    def row_pointers(self) -> Int32[Tensor, " pointers"]:
        """Where each row starts, `(O + 1,)`."""
        return self.topology.csr()[0].int()

    @cached_property
    def rows(self) -> Int32[Tensor, " e"]:
        """Row of each connection, in the order of its values."""
        return self.topology.rows.int()

    @cached_property
    def cols(self) -> Int32[Tensor, " e"]:
        """Column of each connection, in the order of its values."""
        return unfold_columns(self.topology, self.groups).int()

    @cached_property
    def columns(self) -> tuple[Int32[Tensor, " pointers"], Int32[Tensor, " e"], Int32[Tensor, " e"]]:
        """Where each column starts `(W + 1,)`, the row of each connection column by column, and which value it is."""
        row_pointers, _ = self.topology.csr()
        columns = transpose(row_pointers, unfold_columns(self.topology, self.groups), self.width)
        pointers, rows, value_index = (array.int() for array in columns)
        return pointers, rows, value_index

    def derived(self, key: Any, make: Callable[[], T]) -> T:
        """Cache what a backend derives from these arrays, for as long as the topology stays."""
        if key not in self._derived:
            self._derived[key] = make()
        return self._derived[key]


class Traced(NamedTuple):
    """A stand-in for a `Structure` while torch compiles, with positions and shape instead of index arrays.

    Args:
        indices: sorted positions of the connections, `(E,)`.
        shape: the weight's shape.
        groups: number of groups of a grouped convolution.
    """

    indices: Tensor
    shape: tuple[int, ...]
    groups: int

    @property
    def num_connections(self) -> int:
        """Number of connections `E`."""
        return self.indices.shape[0]

    @property
    def num_rows(self) -> int:
        """Number of outputs `O`."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Number of columns `W`."""
        return self.groups * math.prod(self.shape[1:])
