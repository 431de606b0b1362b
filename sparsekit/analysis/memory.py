"""How many bytes weights take in each way of storing them. Activations are the same for all and left out."""

import pandas as pd

from sparsekit.topology import LayerTopology, Topology

VALUE_BYTES = 4  # float32
INDEX_BYTES = 4  # int32 reaches beyond any layer of today


def memory_bytes(topology: Topology, *, optimizer_values: int = 0) -> pd.DataFrame:
    """Return the bytes of each layer's weights in each storage.

    Columns: `dense` (a value per place), `masked` (that, and a bit per place), `bit_mask` (values of
    connections and a bit per place), `csr` (value and column per connection, a pointer per row), `coo` (value
    and two 8-byte positions per connection, as torch stores it). Values take 4 bytes, indices 4.

    Args:
        topology: of the network.
        optimizer_values: numbers that the optimizer keeps per stored value: 0, 1 (momentum), 2 (Adam).

    Raises:
        ValueError: if `optimizer_values` is negative.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((4, 8), torch.tensor([0, 9]))})
        >>> memory_bytes(net).loc["fc"].to_dict()
        {'dense': 128, 'masked': 132, 'bit_mask': 12, 'csr': 32, 'coo': 40}
    """
    if optimizer_values < 0:
        raise ValueError(f"optimizer_values must be at least 0, got {optimizer_values}; Adam keeps 2 per value")
    per_value = VALUE_BYTES * (1 + optimizer_values)
    rows = {name: _layer_bytes(layer, per_value) for name, layer in topology.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _layer_bytes(layer: LayerTopology, per_value: int) -> dict[str, int]:
    bits = -(-layer.size // 8)
    return {
        "dense": per_value * layer.size,
        "masked": per_value * layer.size + bits,
        "bit_mask": per_value * layer.count + bits,
        "csr": (per_value + INDEX_BYTES) * layer.count + INDEX_BYTES * layer.num_outputs,
        "coo": (per_value + 16) * layer.count,
    }
