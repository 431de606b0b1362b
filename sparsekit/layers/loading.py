"""This module reads a sparse layer's state from a state dict, in whichever form it was saved."""

import warnings
from typing import Any

from torch import Tensor

from sparsekit.kernels.positions import as_positions
from sparsekit.topology import LayerTopology


def read_state(state: dict, prefix: str, layer: Any) -> tuple[LayerTopology, Tensor] | None:
    """Remove a layer's topology and values from a state dict and return them, or None if it has neither.

    Args:
        state: a state dict, from which the layer's entries are removed.
        prefix: of the layer's keys.
        layer: the sparse layer, for its shape, and for its topology where the state has none.

    Raises:
        TypeError: if positions are of a type that cannot hold them.
        ValueError: if positions or values do not fit the layer.
    """
    indices = state.pop(f"{prefix}indices", None)
    weight, packed = state.pop(f"{prefix}weight", None), state.pop(f"{prefix}packed_weight", None)
    if weight is None and packed is None:
        return None
    if indices is None and weight is None:
        raise ValueError(
            "values of connections must come with their positions, got packed_weight without indices, which may belong "
            "to another topology. Load the whole state_dict"
        )
    topology = layer.topology if indices is None else LayerTopology(layer.shape, as_positions(indices))
    if weight is not None:
        return topology, from_dense(weight, topology, prefix)
    if packed.numel() != topology.count:
        raise ValueError(
            f"there must be one value per connection, got {packed.numel()} values for {topology.count} connections"
        )
    return topology, packed.flatten()


def from_dense(weight: Tensor, topology: LayerTopology, prefix: str = "", *, strictly: bool = False) -> Tensor:
    """Return the connections' values in a dense weight, which `strictly` must be zero elsewhere.

    Raises:
        ValueError: if the shape differs, or, with `strictly`, the weight is not zero off the topology.

    Warns:
        UserWarning: if numbers off the topology are left out.
    """
    if tuple(weight.shape) != topology.shape:
        raise ValueError(f"the weight must have shape {topology.shape}, got {tuple(weight.shape)}")
    values = weight.flatten()[topology.indices.to(weight.device)]
    off = int(weight.count_nonzero() - values.count_nonzero())
    if off and strictly:
        raise ValueError(
            f"a new weight must be zero where the layer has no connections, got {off:,} of {topology.size:,} numbers "
            "that are not. Write to layer.weight.data, which leaves them out, or sparsify a plain model"
        )
    if off:
        warnings.warn(
            f"{prefix}weight: {off:,} of {topology.size:,} loaded values lie off the topology and are left out. "
            "Load into the plain model and call sparsify to choose a topology for them",
            stacklevel=2,
        )
    return values
