"""This room holds sparse layers in two storages, and the way to and from plain models."""

from sparsekit.layers.averaging import Averaged, averaged
from sparsekit.layers.base import SparseLayer
from sparsekit.layers.companions import unfuse_relus
from sparsekit.layers.condensed import condense
from sparsekit.layers.convert import LeftDenseWarning, TrainedWeightsWarning, densify, sparsify
from sparsekit.layers.coverage import Coverage, coverage
from sparsekit.layers.csr import SparseConv2d, SparseLinear
from sparsekit.layers.dense_weight import DenseWeightWarning
from sparsekit.layers.exporting import export, read_npz, read_safetensors
from sparsekit.layers.fitting import fit_to_fan_in
from sparsekit.layers.fusing import fuse_relus
from sparsekit.layers.known_kinds import as_it_is
from sparsekit.layers.listing import (
    active_topology,
    density_of,
    left_dense,
    shapes_of,
    sparse_layers,
    topology_of,
)
from sparsekit.layers.masked import MaskedConv2d, MaskedLinear
from sparsekit.layers.matrices import matrices_of, register_kind
from sparsekit.layers.matrix_layer import MaskedMatrix
from sparsekit.layers.pruned import from_pruned
from sparsekit.layers.wide_output import WideOutput

__all__ = [
    "Averaged",
    "Coverage",
    "DenseWeightWarning",
    "LeftDenseWarning",
    "MaskedConv2d",
    "MaskedLinear",
    "MaskedMatrix",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
    "TrainedWeightsWarning",
    "WideOutput",
    "active_topology",
    "as_it_is",
    "averaged",
    "condense",
    "coverage",
    "densify",
    "density_of",
    "export",
    "fit_to_fan_in",
    "from_pruned",
    "fuse_relus",
    "left_dense",
    "matrices_of",
    "read_npz",
    "read_safetensors",
    "register_kind",
    "shapes_of",
    "sparse_layers",
    "sparsify",
    "topology_of",
    "unfuse_relus",
]
