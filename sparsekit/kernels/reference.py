"""These kernels of plain torch are correct on any device, in float32 and float64, and test the faster ones.

Legend: `N` samples (times pixels), `O` outputs, `W` columns of the unfolded input, `E` existing connections,
`C` requested positions. Activations come feature-major, `(W, N)` and `(O, N)`.
"""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsekit.kernels.structure import Structure

# Below this share of a block's positions a gather moves less memory than one small matrix product.
GATHER_BELOW = 1 / 8

# torch warns once per process that sparse tensors are new. We let it warn here, where no training runs, because muting
# a warning mutes it for all threads.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
    torch.eye(1, device="cpu").to_sparse_csr()  # also where `with torch.device("meta")` imports this


def spmm(
    values: Float[Tensor, " e"], structure: Structure, x_WN: Float[Tensor, "width n"]
) -> Float[Tensor, "outputs n"]:
    """Multiply sparse by dense: `y[o, n] = sum over connections (o, w) of value * x[w, n]`."""
    return _csr_times(structure.row_pointers, structure.cols, values, x_WN)


def spmm_transposed(
    values: Float[Tensor, " e"], structure: Structure, g_ON: Float[Tensor, "outputs n"]
) -> Float[Tensor, "width n"]:
    """Multiply transposed sparse by dense: `dx[w, n] = sum over connections (o, w) of value * g[o, n]`."""
    pointers, rows, value_index = structure.columns
    return _csr_times(pointers, rows, values[value_index], g_ON)


def sampled_outer(
    x_WN: Float[Tensor, "width n"],
    g_ON: Float[Tensor, "outputs n"],
    rows: Int[Tensor, " c"],
    cols: Int[Tensor, " c"],
) -> Float[Tensor, " c"]:
    """Return chosen entries of the outer product, `sum_n g[row, n] * x[col, n]`, where rows must not decrease.

    Few entries are gathered, and many are cut out of small blocks of the product. Neither needs a temporary larger
    than the activations, because the whole product is never formed.
    """
    if rows.numel() == 0:
        return x_WN.new_empty(0)
    block_rows = max(1, min(g_ON.shape[0] // 4, (x_WN.numel() + g_ON.numel()) // x_WN.shape[0]))
    spanned = (int(rows[-1]) - int(rows[0]) + 1) * x_WN.shape[0]
    if rows.numel() < GATHER_BELOW * spanned:
        return _gathered(x_WN, g_ON, rows, cols)
    return _from_blocks(x_WN, g_ON, rows, cols, block_rows=block_rows)


def _gathered(x_WN: Tensor, g_ON: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    chunk = x_WN.shape[0] + g_ON.shape[0]
    parts = zip(rows.split(chunk), cols.split(chunk), strict=True)
    return torch.cat([(g_ON[o] * x_WN[w]).sum(1) for o, w in parts])


def _from_blocks(x_WN: Tensor, g_ON: Tensor, rows: Tensor, cols: Tensor, *, block_rows: int) -> Tensor:
    starts = torch.arange(int(rows[0]), int(rows[-1]) + 1, block_rows, device=rows.device)
    ends = torch.searchsorted(rows, starts + block_rows).tolist()
    parts, begin = [], 0
    for first_row, end in zip(starts.tolist(), ends, strict=True):
        block = g_ON[first_row : first_row + block_rows] @ x_WN.T
        parts.append(block[rows[begin:end] - first_row, cols[begin:end]])
        begin = end
    return torch.cat(parts)


def _csr_times(pointers: Tensor, cols: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    height = pointers.numel() - 1
    if values.numel() == 0 or dense.shape[1] == 0:
        return dense.new_zeros(height, dense.shape[1])
    matrix = torch.sparse_csr_tensor(pointers, cols, values, size=(height, dense.shape[0]), check_invariants=False)
    return matrix @ dense.contiguous()
