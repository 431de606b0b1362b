"""This initialisation fits a neuron's true fan-in, not that of the dense layer."""

from dataclasses import dataclass

import torch
from torch import nn

from sparsekit.layers import sparse_layers
from sparsekit.tricks.base import Trick, TrickContext
from sparsekit.utils.registry import register


@register("trick", "fan-in-init")
@dataclass(frozen=True, kw_only=True)
class FanInInit(Trick):
    """Before the first step each neuron's weights are multiplied by `sqrt(dense fan-in / its own fan-in)`.

    Initial weights are usually drawn for the dense layer, with variance in proportion to `1 / fan-in`. A sparse neuron
    has fewer inputs, so its signal is weaker by about `sqrt(density)`, and a deep network's by that to the power of its
    depth. Afterwards the variance is that of the neuron's true fan-in. Dense layers, biases and missing connections
    stay as they are.

    Raises:
        ValueError: if the model has no sparse layer.

    Source: initial weights scaled by true fan-in are in the released code of RigL, Evci et al. (2020),
        arXiv:1911.11134 (for TensorFlow 2), and in that of GSE, arXiv:2401.06898. Here we scale the weights that were
        drawn.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology import LayerTopology
        >>> net = nn.Sequential(nn.Linear(4, 1))
        >>> _ = nn.init.ones_(net[0].weight)
        >>> sparse = sparsify(net, {"0": LayerTopology((1, 4), torch.tensor([2]))})
        >>> FanInInit().apply(sparse)[0].values()
        tensor([2.])
    """

    changes = "values"

    @torch.no_grad()
    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        """Scale the values of every sparse layer.

        Raises:
            ValueError: if there is none.
        """
        layers = sparse_layers(model).values()
        if not layers:
            raise ValueError("scaling by true fan-in needs sparse layers, got a model without. Call sparsify first")
        for layer in layers:
            topology = layer.topology
            factors = (topology.num_inputs / topology.fan_in().clamp(min=1)).sqrt()
            values = layer.values() * factors[topology.rows].to(layer.param)
            layer.param.copy_(layer.pack(topology, values))
        return model
