"""This room holds the arithmetic of sparse layers: sparse times dense, its transpose, and sampled outer products.

`reference` is written in plain torch and runs on any device, so we test the compiled kernels in `cpu` against it.
`functions` gives gradients to both. `layout` is the memory format in which the compiled ones read and write, and
`backend` decides which of them run. Layers import from here and nowhere below.
"""

from sparsekit.kernels.backend import SlowKernelsWarning
from sparsekit.kernels.functions import sparse_conv2d, sparse_linear
from sparsekit.kernels.layout import batch_major, feature_major, is_feature_major
from sparsekit.kernels.reference import sampled_outer, spmm, spmm_transposed
from sparsekit.kernels.structure import Structure, unfold_columns

__all__ = [
    "SlowKernelsWarning",
    "Structure",
    "batch_major",
    "feature_major",
    "is_feature_major",
    "sampled_outer",
    "sparse_conv2d",
    "sparse_linear",
    "spmm",
    "spmm_transposed",
    "unfold_columns",
]
