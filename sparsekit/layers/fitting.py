"""Freshly drawn weights are scaled to the number of inputs that each output really has."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn

from sparsekit.layers.initial import fan_in_factors, scaled_rows
from sparsekit.layers.listing import check_names_and_shapes, sparse_layers
from sparsekit.layers.matrices import matrices_of
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import must_be

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fit_to_fan_in(model: M, topology: Mapping[str, LayerTopology] | None = None) -> M:
    """Scale freshly drawn weights in place, so that they fit the inputs that each output has, and return the model.

    Weights are usually drawn for the dense layer, with a variance in proportion to `1 / fan-in`. A sparse neuron has
    fewer inputs, so its signal is weaker by about `sqrt(density)`, and that of a deep network by this to the power of
    its depth. We multiply each output's weights by `sqrt(dense fan-in / own fan-in)`. So their distribution stays the
    one that the layer chose, and at density 1 nothing changes. Biases and layers that stay dense are left alone.

    `sparsify` and `Experiment` do this by themselves. Call it after you have drawn weights of your own into a sparse
    model, for example with `nn.init.kaiming_normal_(layer.weight)`, and only once, because a second call scales again.

    Args:
        model: a sparse model, or a plain one whose weights will be those of this topology.
        topology: the connections of a plain model. None takes those of the sparse model itself.

    Raises:
        TypeError: if the model, or what the topology holds for a layer, is something else.
        ValueError: if there is neither a topology nor a sparse layer, or the topology is that of another model.

    Source: Evci et al. (2022), Gradient flow in sparse neural networks, arXiv:2010.03533, and the released code of
        RigL, arXiv:1911.11134 (for TensorFlow 2). Here we scale the weights that the layer has drawn.

    Example:
        >>> layer = nn.Linear(4, 1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> fit_to_fan_in(layer, {"": LayerTopology((1, 4), torch.tensor([2]))}).weight.tolist()
        [[2.0, 2.0, 2.0, 2.0]]
    """
    must_be("model", model, nn.Module, "Give a torch.nn.Module, for example models.build('mlp', ...)")
    if topology is None:
        if not (layers := sparse_layers(model)):
            raise ValueError(
                "a plain model needs a topology to say which inputs there are, got none. Give topology=..."
            )
        for layer in layers.values():
            layer.write(layer.values() * fan_in_factors(layer.topology)[layer.topology.rows].to(layer.param))
    check_names_and_shapes(model, topology or {})
    matrices = matrices_of(model) if topology else {}
    for name, layer_topology in (topology or {}).items():
        matrices[name].write(scaled_rows(matrices[name].value, layer_topology))
    return model
