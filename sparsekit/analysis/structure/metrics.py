"""What one topology looks like: a table with a row per layer, and how connections spread over units.

A unit is an output or input of a layer: a feature of a linear layer, or a channel of a convolution. We count `fan_out`
per input unit here, over all positions of the kernel. For linear layers that is `LayerTopology.fan_out`.
"""

import pandas as pd
from jaxtyping import Bool, Int64
from torch import Tensor

from sparsekit.topology import LayerTopology, Topology, check_topology


def unit_fan_out(layer: LayerTopology) -> Int64[Tensor, " i"]:
    """Return the number of connections out of each input unit, summed over the kernel's positions.

    Example:
        >>> import torch
        >>> unit_fan_out(LayerTopology((1, 2, 1, 3), torch.tensor([0, 2, 5]))).tolist()
        [2, 1]
    """
    return layer.fan_out().view(layer.shape[1], -1).sum(1)


def dead_outputs(layer: LayerTopology) -> Bool[Tensor, " o"]:
    """Return true for each output unit that has no connection in.

    Example:
        >>> import torch
        >>> dead_outputs(LayerTopology((2, 2), torch.tensor([0, 1]))).tolist()
        [False, True]
    """
    return layer.fan_in() == 0


def dead_inputs(layer: LayerTopology) -> Bool[Tensor, " i"]:
    """Return true for each input unit that has no connection out.

    Example:
        >>> import torch
        >>> dead_inputs(LayerTopology((2, 2), torch.tensor([0, 2]))).tolist()
        [False, True]
    """
    return unit_fan_out(layer) == 0


def layer_table(topology: Topology) -> pd.DataFrame:
    """Return one row per layer: how many connections it has, and how they spread over its units.

    The columns are `count`, `size` (connections, positions), `density` (0 to 1), `compression` (1/density, infinite for
    an empty layer), `share` (of the network's connections), `fan_in_min`, `fan_in_mean`, `fan_in_max`, the same three
    for `fan_out` (connections per unit), `dead_outputs` (units with fan-in 0) and `dead_inputs` (units with fan-out 0).

    Raises:
        TypeError: if it is no topology.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((2, 3), torch.tensor([0, 1]))})
        >>> layer_table(net).loc["fc", ["count", "compression", "dead_outputs", "dead_inputs"]].tolist()
        [2.0, 3.0, 1.0, 1.0]

    Source: the layer densities that GSE plots as compression, arXiv:2401.06898, supplement, figure 9.
    """
    check_topology(topology)
    rows = {name: _layer_row(layer, topology.count) for name, layer in topology.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def fan_histogram(topology: Topology) -> pd.DataFrame:
    """Return how many units have each fan-in and each fan-out.

    The columns are `layer`, `side` (`"fan_in"` or `"fan_out"`), `connections` (per unit) and `units` (how many have so
    many).

    Raises:
        TypeError: if it is no topology.

    Example:
        >>> import torch
        >>> net = Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 1]))})
        >>> fan_histogram(net).query("side == 'fan_in'")[["connections", "units"]].values.tolist()
        [[0, 1], [2, 1]]
    """
    check_topology(topology)
    parts = [
        _histogram(fan).assign(layer=name, side=side)
        for name, layer in topology.items()
        for side, fan in (("fan_in", layer.fan_in()), ("fan_out", unit_fan_out(layer)))
    ]
    columns = ["layer", "side", "connections", "units"]
    empty = pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True).reindex(columns=columns) if parts else empty


def _layer_row(layer: LayerTopology, total: int) -> dict[str, float]:
    return {
        "count": layer.count,
        "size": layer.size,
        "density": layer.density,
        "compression": layer.size / layer.count if layer.count else float("inf"),
        "share": layer.count / total if total else 0.0,
        **_spread("fan_in", layer.fan_in()),
        **_spread("fan_out", unit_fan_out(layer)),
        "dead_outputs": int(dead_outputs(layer).sum()),
        "dead_inputs": int(dead_inputs(layer).sum()),
    }


def _spread(name: str, fan: Tensor) -> dict[str, float]:
    return {
        f"{name}_min": int(fan.min()),
        f"{name}_mean": float(fan.double().mean()),
        f"{name}_max": int(fan.max()),
    }


def _histogram(fan: Tensor) -> pd.DataFrame:
    connections, units = fan.unique(return_counts=True)
    return pd.DataFrame({"connections": connections.tolist(), "units": units.tolist()})
