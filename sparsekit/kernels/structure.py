"""The index arrays that kernels read: rows and columns of a topology, derived once per rewiring."""

from dataclasses import dataclass
from typing import Self

from jaxtyping import Int64
from torch import Tensor

from sparsekit.topology import LayerTopology


def unfold_columns(topology: LayerTopology, groups: int = 1) -> Int64[Tensor, " e"]:
    """Return which column of the unfolded input each connection reads.

    A grouped convolution unfolds to `groups * F` columns; an output reads the block of its own group.
    """
    outputs_per_group = topology.num_outputs // groups
    return topology.cols + (topology.rows // outputs_per_group) * topology.num_inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """A topology as a matrix `(O, W)` in compressed rows and compressed columns, `W = groups * F` wide.

    Args:
        width: number of columns `W`.
        row_pointers: where each row starts, `(O + 1,)`.
        rows: row of each connection, in the order of its values.
        cols: column of each connection, in the order of its values.
        col_pointers: where each column starts, `(W + 1,)`.
        rows_by_col: row of each connection, column by column.
        by_col: which value each of those is.
    """

    width: int
    row_pointers: Int64[Tensor, " pointers"]
    rows: Int64[Tensor, " e"]
    cols: Int64[Tensor, " e"]
    col_pointers: Int64[Tensor, " column_pointers"]
    rows_by_col: Int64[Tensor, " e"]
    by_col: Int64[Tensor, " e"]

    @classmethod
    def of(cls, topology: LayerTopology, groups: int = 1) -> Self:
        """Derive the arrays: O(E log E), no array longer than the connections or a side."""
        wide = topology
        if groups > 1:
            width = groups * topology.num_inputs
            columns = unfold_columns(topology, groups)
            wide = LayerTopology((topology.num_outputs, width), topology.rows * width + columns)
        row_pointers, cols = wide.csr()
        col_pointers, rows_by_col, by_col = wide.csc()
        return cls(
            width=wide.num_inputs,
            row_pointers=row_pointers,
            rows=wide.rows,
            cols=cols,
            col_pointers=col_pointers,
            rows_by_col=rows_by_col,
            by_col=by_col,
        )

    @property
    def num_rows(self) -> int:
        """Number of outputs `O`."""
        return self.row_pointers.numel() - 1
