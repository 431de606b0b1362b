"""Arithmetic of a forward pass, counted from shapes: multiply and add are two operations.

`2 * places of the weight * output positions`, times the density for the sparse figure. What has no weight of
its own (activations, normalisation, pooling, the products inside attention) and biases are left out, as the
papers do.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.observing import layer_topology, observed, weighted_layers
from sparsekit.topology import LayerTopology


def forward_flops(
    model: nn.Module,
    example: Float[Tensor, "n *input"],
    topology: Mapping[str, LayerTopology] | None = None,
) -> pd.DataFrame:
    """Return the operations that one sample costs in each linear and convolutional layer.

    Args:
        model: plain or sparse; it is not changed.
        example: a batch as the model takes it; only its shape matters.
        topology: densities to count with instead of the model's own, for layers named in it: one of a
            journal's, say.

    Returns:
        One row per layer. Columns: `positions` (how often a sample uses each weight: output pixels or
        tokens), `density` (0 to 1), `dense` and `sparse` (operations per sample). The columns' sums are what
        `training_flops` takes. A layer that the pass does not reach has 0 positions.

    Raises:
        ValueError: if the topology names a layer that the model does not have.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 10))
        >>> forward_flops(net, torch.zeros(1, 3, 4, 4))["dense"].to_dict()
        {'0': 6912.0, '2': 2560.0}

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    layers = {name: layer_topology(module) for name, module in weighted_layers(model).items()}
    unknown = sorted(set(topology or {}) - set(layers))
    if unknown:
        raise ValueError(f"the topology must name layers among {', '.join(layers)}, got {', '.join(unknown)}")
    layers |= dict(topology or {})
    positions = output_positions(model, example)
    rows = {name: _row(layer, positions[name]) for name, layer in layers.items()}
    columns = ["positions", "density", "dense", "sparse"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("layer")


def output_positions(model: nn.Module, example: Float[Tensor, "n *input"]) -> dict[str, int]:
    """Return how often one sample uses each weight of a layer: output pixels of a convolution, tokens, or 1.

    A layer that runs several times in one pass counts every time.

    Example:
        >>> output_positions(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.zeros(5, 1, 8, 8))
        {'0': 36}
    """
    with observed(model) as twin:
        positions = dict.fromkeys(weighted_layers(twin), 0)
        for name, module in weighted_layers(twin).items():
            module.register_forward_hook(_counter(positions, name, example.shape[0]))
        twin(example.to(_dtype_of(twin)))
    return positions


def _counter(positions: dict[str, int], name: str, samples: int):
    def count(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        outputs = layer_topology(module).num_outputs
        positions[name] += output.numel() // (outputs * samples)

    return count


def _row(layer: LayerTopology, positions: int) -> tuple[int, float, float, float]:
    return positions, layer.density, 2.0 * layer.size * positions, 2.0 * layer.count * positions


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
