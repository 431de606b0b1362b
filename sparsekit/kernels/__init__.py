"""The arithmetic of sparse layers: sparse times dense, its transpose, and sampled outer products.

`reference` is written in plain torch and runs on any device; it is the truth that faster backends are tested
against. `functions` gives the kernels their gradients. Layers import from here and nowhere below.
"""

from sparsekit.kernels.functions import sparse_conv2d, sparse_linear
from sparsekit.kernels.reference import sampled_outer, spmm, spmm_transposed
from sparsekit.kernels.structure import Structure, unfold_columns

__all__ = [
    "Structure",
    "sampled_outer",
    "sparse_conv2d",
    "sparse_linear",
    "spmm",
    "spmm_transposed",
    "unfold_columns",
]
