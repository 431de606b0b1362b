"""What says which connections exist: topologies as sorted positions, allocations, and selections by score."""

from sparsekit.topology.allocation import allocate, check_density, share_out
from sparsekit.topology.receptive_fields import receptive_fields
from sparsekit.topology.selection import keep_top_global, keep_top_per_layer, random_topology
from sparsekit.topology.sets import LayerTopology, Topology, check_same_layers, check_topology
from sparsekit.topology.shuffling import shuffled

__all__ = [
    "LayerTopology",
    "Topology",
    "allocate",
    "check_density",
    "check_same_layers",
    "check_topology",
    "keep_top_global",
    "keep_top_per_layer",
    "random_topology",
    "receptive_fields",
    "share_out",
    "shuffled",
]
