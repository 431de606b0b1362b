"""Arithmetic of a forward pass, counted from shapes, where multiply and add are two operations.

A layer costs `2 * positions of the weight * output positions`, times the density for the sparse number. As in the
papers, we leave out biases and what has no weight of its own (activations, normalisation, pooling, the products inside
attention). Weights that are multiplied outside of linear and convolutional layers, as those of `MultiheadAttention`
are, cannot be counted this way, so a warning names them.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from sparsekit.analysis.observing import layer_topology, observed, weighted_layers, weights_read
from sparsekit.topology import LayerTopology


class NotCountedWarning(UserWarning):
    """Some weights of a model take part in products that are not counted. The message names them."""


def forward_flops(
    model: nn.Module,
    example: Float[Tensor, "n *input"],
    topology: Mapping[str, LayerTopology] | None = None,
) -> pd.DataFrame:
    """Return the operations that one sample costs in each linear and convolutional layer.

    Args:
        model: plain or sparse. It is not changed.
        example: a batch as the model takes it. Only its shape matters.
        topology: for example from a journal. Its densities replace the model's own in the layers that it names.

    Returns:
        One row per layer. The columns are `positions` (how often a sample uses each weight: output pixels or tokens),
        `density` (0 to 1), `dense` and `sparse` (operations per sample). The columns' sums are what `training_flops`
        takes. A layer that the pass does not reach has 0 positions.

    Raises:
        ValueError: if the topology names a layer that the model does not have.

    Warns:
        NotCountedWarning: names the weights that are multiplied outside of such layers.

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

    Warns:
        NotCountedWarning: names the weights that are multiplied outside of such layers.

    Example:
        >>> output_positions(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.zeros(5, 1, 8, 8))
        {'0': 36}
    """
    with observed(model) as model_copy:
        positions = dict.fromkeys(weighted_layers(model_copy), 0)
        for name, module in weighted_layers(model_copy).items():
            module.register_forward_hook(_counter(positions, name, example.shape[0]))
        with _Products() as products:
            model_copy(example.to(_dtype_of(model_copy)))
    if uncounted := _uncounted(model_copy, positions, products.memory):
        warnings.warn(
            f"not counted, since no linear or convolutional layer multiplies them: {', '.join(uncounted)}. "
            "Add their cost by hand",
            NotCountedWarning,
            stacklevel=2,
        )
    return positions


_PRODUCTS = {
    *("linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "addmv", "baddbmm"),
    *("einsum", "tensordot", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
}


class _Products(TorchFunctionMode):
    """Records the memory of all tensors that are multiplied, which identifies a transposed weight too."""

    def __init__(self):
        super().__init__()
        self.memory: set[int] = set()

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # After this call it is an ordinary tensor.
        self.memory |= {_memory(layer.param) for layer in weights_read(func, tree_leaves((args, kwargs)))}
        if getattr(func, "__name__", "") in _PRODUCTS:
            factors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
            self.memory |= {_memory(part) for part in factors if part.layout == torch.strided}
        return func(*args, **kwargs)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _uncounted(model: nn.Module, positions: Mapping[str, int], multiplied: set[int]) -> list[str]:
    """Return the names of matrices that were multiplied, but not by a layer that was counted."""
    counted = {_memory(parameter) for name, count in positions.items() if count for parameter in _weights(model, name)}
    names_at = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            names_at[_memory(parameter)].append(name)
    return [name for memory, names in names_at.items() if memory in multiplied - counted for name in names]


def _weights(model: nn.Module, name: str) -> list[nn.Parameter]:
    return list(model.get_submodule(name).parameters())


def _counter(positions: dict[str, int], name: str, samples: int):
    def count(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        outputs = layer_topology(module).num_outputs
        positions[name] += output.numel() // (outputs * samples)

    return count


def _row(layer: LayerTopology, positions: int) -> tuple[int, float, float, float]:
    return positions, layer.density, 2.0 * layer.size * positions, 2.0 * layer.count * positions


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
