"""Products of a matrix in compressed rows with a batch, and which of them is the fastest on this machine.

Which one wins depends on processor, density and batch. On an AMD processor, for example, a single input is fastest by
torch's CSR matrices, and a batch of 64 by bags. So they are measured.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from sparsekit.kernels import Structure, backend, feature_major, sparse_linear
from sparsekit.layers.auto import cached_seconds, machine
from sparsekit.topology import LayerTopology
from sparsekit.utils.timing import Effort, least_seconds

SIZES = (1, 8, 64, 512)  # of a batch: a single input, and three that differ by the same factor
EFFORT = Effort(rounds=7, min_rounds=5, sample_seconds=0.001, budget_seconds=0.5)


class Rows:
    """A matrix in compressed rows shares the memory of the arrays it is made of.

    Args:
        pointers: where each row starts, and where the last one ends, int32 of shape (rows + 1,).
        inputs: the column of each value, int32.
        values: row by row.
        width: number of columns.
    """

    def __init__(self, pointers: Tensor, inputs: Tensor, values: Tensor, width: int):
        self.pointers, self.inputs, self.values, self.width = pointers, inputs, values, width
        self._seen = _marks(pointers, inputs, values)
        self._derived: dict[str, Any] = {}

    def is_of(self, *arrays: Tensor) -> bool:
        """Return whether the matrix was made of these arrays, and nobody has written to them since."""
        same = all(a is b for a, b in zip(arrays, (self.pointers, self.inputs, self.values), strict=True))
        return same and _marks(*arrays) == self._seen

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self.pointers) - 1, self.width

    def indices(self) -> Tensor:
        """Return the position of each value in the flattened dense matrix, int64."""
        return _indices(self.pointers, self.inputs, self.width)

    def dense(self) -> Tensor:
        """Return a new dense matrix."""
        return dense_matrix(self.pointers, self.inputs, self.values, self.width)

    def derived(self, name: str, make: Callable[[], Any]) -> Any:
        """Cache what a product derives from the arrays."""
        if name not in self._derived:
            with torch.inference_mode(False), torch.no_grad():
                self._derived[name] = make()
        return self._derived[name]


def dense_matrix(pointers: Tensor, inputs: Tensor, values: Tensor, width: int) -> Tensor:
    """Return compressed rows as a dense matrix, by operations that every exporter knows."""
    height = pointers.shape[0] - 1
    flat = values.new_zeros(height * width)
    return flat.index_copy(0, _indices(pointers, inputs, width), values).view(height, width)


def _indices(pointers: Tensor, inputs: Tensor, width: int) -> Tensor:
    counts = pointers.diff().long()
    rows = torch.arange(counts.shape[0], device=counts.device)
    return rows.repeat_interleave(counts, output_size=inputs.shape[0]) * width + inputs


def _marks(*arrays: Tensor) -> tuple:
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in arrays if not x.is_meta)


@runtime_checkable
class Arrays(Protocol):
    """What holds a matrix in compressed rows."""

    pointers: Tensor
    inputs: Tensor
    values: Tensor


def by_bags(rows: Arrays, x: Tensor, bias: Tensor) -> Tensor:
    """Multiply by torch's embedding bags, where an output is a bag and its inputs are the words."""
    # Each output sums a weighted bag of rows of the transposed input, so memory is read in order.
    sums = functional.embedding_bag(
        rows.inputs,
        x.T.contiguous(),
        rows.pointers,
        per_sample_weights=rows.values,
        mode="sum",
        include_last_offset=True,
    )
    return (sums + bias.unsqueeze(1)).T


def _by_torch_csr(rows: Rows, x: Tensor, bias: Tensor) -> Tensor:
    parts = (rows.pointers, rows.inputs, rows.values)
    matrix = rows.derived(
        "csr", lambda: torch.sparse_csr_tensor(*parts, size=rows.shape, device=x.device, check_invariants=False)
    )
    if len(x) == 1:
        return torch.addmv(bias, matrix, x[0]).unsqueeze(0)
    return torch.addmm(bias.unsqueeze(1), matrix, x.T).T


def _by_kernels(rows: Rows, x: Tensor, bias: Tensor) -> Tensor:
    structure = rows.derived("structure", lambda: Structure(LayerTopology(rows.shape, rows.indices())))
    return sparse_linear(x, rows.values, structure, bias)


def _by_dense(rows: Rows, x: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(x, rows.derived("dense", rows.dense), bias)


PRODUCTS: dict[str, Callable[[Rows, Tensor, Tensor], Tensor]] = {
    "bags": by_bags,
    "torch-csr": _by_torch_csr,
    "kernels": _by_kernels,
    "dense": _by_dense,
}


def size_at_least(batch: int) -> int:
    """Return which of the measured sizes speaks for a batch, the next larger one or the last.

    Example:
        >>> [size_at_least(batch) for batch in (1, 2, 64, 65, 10_000)]
        [1, 8, 64, 512, 512]
    """
    return SIZES[min(bisect_left(SIZES, batch), len(SIZES) - 1)]


def fastest_products(rows: Rows, bias: Tensor) -> dict[int, str]:
    """Return the fastest product by size of the batch, as measured on this machine once for each shape and density.

    On other devices than a CPU, and for types that the compiled kernels do not take, it is the dense one.
    """
    if not backend.is_fast(rows.values) or not len(rows.values):
        return dict.fromkeys(SIZES, "dense")
    density = len(rows.values) / (rows.shape[0] * rows.shape[1])
    what = f"products, both layouts, least of {EFFORT.rounds}"
    key = f"{what} {rows.shape} density {density:.1e} {rows.values.dtype} {machine()}"
    seconds = cached_seconds(key, partial(_steps, rows, bias), EFFORT, least_seconds)
    return {size: _fastest(seconds, size) for size in SIZES}


def _fastest(seconds: Mapping[str, float], size: int) -> str:
    return min((name for name in PRODUCTS if f"{name} {size}" in seconds), key=lambda name: seconds[f"{name} {size}"])


def _steps(rows: Rows, bias: Tensor) -> dict[str, Callable[[], object]]:
    batches = {size: torch.zeros(size, rows.width, dtype=rows.values.dtype) for size in SIZES}
    steps = {
        f"{name} {size}": partial(_in_both_layouts, product, rows, x, bias)
        for size, x in batches.items()
        for name, product in PRODUCTS.items()
    }
    return {name: step for name, step in steps.items() if _works(step)}


@torch.no_grad()
def _in_both_layouts(product: Callable[..., Tensor], rows: Rows, x: Tensor, bias: Tensor) -> None:
    """Multiply a batch as data come, and one as sparse products leave it for the next layer, which is feature-major."""
    product(rows, x, bias)
    product(rows, feature_major(x), bias)


def _works(step: Callable[[], object]) -> bool:
    """Return whether this build of torch has the product. Some have no sparse matrices."""
    try:
        step()
    except (RuntimeError, NotImplementedError):
        return False
    return True
