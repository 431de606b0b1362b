"""How many bytes weights take in each way of storing them.

Biases, gradients and activations are left out.
"""

import math

import pandas as pd

from sparsekit.topology import LayerTopology, Topology

VALUE_BYTES = 4  # float32
INDEX_BYTES = 4  # int32 reaches beyond any layer of today
POSITION_BYTES = 8  # int64, in which torch, and so our layers, hold positions


def memory_bytes(topology: Topology, *, optimizer_values: int = 0) -> pd.DataFrame:
    """Return the bytes of each layer's weights in each storage: in theory, and in this package's own layers.

    In theory values take 4 bytes, and indices too unless we say otherwise. `dense` has a value per position, `masked`
    that and a bit per position, and `bit_mask` the values of connections and a bit per position. `csr` has a value and
    a column per connection and a pointer per row. `coo` has a value and two 8-byte positions per connection, as torch
    stores it.

    In this package, once a layer has run on a CPU, `masked_layer` has a value and a byte of mask per position and an
    8-byte position per connection. A `csr_layer` has a value, an 8-byte position and what the compiled kernels read.
    These are three indices per connection of a linear layer or four of a convolution, and a pointer per row and column.
    It is made for fast passes in both directions and not for small size. At 24 or 28 bytes per connection, it is
    smaller than `dense` only below a density of about 1/6. A convolution that also runs on a second batch size holds
    four more indices per connection. In a grouped one columns count once per group, which a topology does not record.

    Args:
        topology: of the network.
        optimizer_values: numbers that the optimizer keeps per stored value, 0, 1 (momentum) or 2 (Adam).

    Raises:
        ValueError: if `optimizer_values` is negative.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((4, 8), torch.tensor([0, 9]))})
        >>> memory_bytes(net).loc["fc"].to_dict()
        {'dense': 128, 'masked': 132, 'bit_mask': 12, 'csr': 32, 'coo': 40, 'masked_layer': 176, 'csr_layer': 104}
    """
    if optimizer_values < 0:
        raise ValueError(f"optimizer_values must be at least 0, got {optimizer_values}. Adam keeps 2 per value")
    per_value = VALUE_BYTES * (1 + optimizer_values)
    rows = {name: _layer_bytes(layer, per_value) for name, layer in topology.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _layer_bytes(layer: LayerTopology, per_value: int) -> dict[str, int]:
    bits = -(-layer.size // 8)
    taps = math.prod(layer.shape[2:])
    indices = (3 if taps == 1 and len(layer.shape) == 2 else 4) * layer.count
    pointers = layer.num_outputs * taps + 1 + layer.num_inputs + 1
    return {
        "dense": per_value * layer.size,
        "masked": per_value * layer.size + bits,
        "bit_mask": per_value * layer.count + bits,
        "csr": (per_value + INDEX_BYTES) * layer.count + INDEX_BYTES * layer.num_outputs,
        "coo": (per_value + 16) * layer.count,
        "masked_layer": (per_value + 1) * layer.size + POSITION_BYTES * layer.count,
        "csr_layer": (per_value + POSITION_BYTES) * layer.count + INDEX_BYTES * (indices + pointers),
    }
