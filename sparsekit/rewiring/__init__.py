"""Changing a topology: what a rule sees of a backward pass, the change itself, and the journal that records it."""

from sparsekit.rewiring.capture import LayerView, capture_io, views
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate, rewire

__all__ = ["Journal", "LayerView", "TopologyUpdate", "capture_io", "rewire", "views"]
