"""This room holds sparse layers in two storages, and the way to and from plain models."""

from sparsekit.layers.averaging import Averaged, averaged
from sparsekit.layers.base import SparseLayer
from sparsekit.layers.companions import unfuse_relus
from sparsekit.layers.condensed import condense
from sparsekit.layers.convert import LeftDenseWarning, TrainedWeightsWarning, densify, sparsify
from sparsekit.layers.csr import SparseConv2d, SparseLinear
from sparsekit.layers.dense_weight import DenseWeightWarning
from sparsekit.layers.exporting import export, read_npz, read_safetensors
from sparsekit.layers.fitting import fit_to_fan_in
from sparsekit.layers.fusing import fuse_relus
from sparsekit.layers.listing import (
    active_topology,
    density_of,
    left_dense,
    shapes_of,
    sparse_layers,
    topology_of,
)
from sparsekit.layers.masked import MaskedConv2d, MaskedLinear

__all__ = [
    "Averaged",
    "DenseWeightWarning",
    "LeftDenseWarning",
    "MaskedConv2d",
    "MaskedLinear",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
    "TrainedWeightsWarning",
    "active_topology",
    "averaged",
    "condense",
    "densify",
    "density_of",
    "export",
    "fit_to_fan_in",
    "fuse_relus",
    "left_dense",
    "read_npz",
    "read_safetensors",
    "shapes_of",
    "sparse_layers",
    "sparsify",
    "topology_of",
    "unfuse_relus",
]
