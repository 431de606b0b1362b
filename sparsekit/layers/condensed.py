"""Condensed layers are for inference, where all neurons have one fan-in, so indices and values fill a rectangle."""

import copy

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.layers.base import SparseLayer
from sparsekit.layers.companions import remove_companions
from sparsekit.layers.convert import replace_modules
from sparsekit.layers.kinds import LinearKind
from sparsekit.layers.listing import sparse_layers
from sparsekit.layers.masked import MaskedLayer
from sparsekit.utils.checks import must_be


class CondensedLinear(nn.Module):
    """A linear layer of constant fan-in is two arrays `(active neurons, fan-in)`, inputs and values.

    It cannot be trained. Neurons without connections return their bias.

    Source: the condensed representation of SRigL, Lasby et al. (2023), arXiv:2305.02299, section 4.

    Args:
        layer: a sparse linear layer each of whose neurons has k connections or none.

    Raises:
        ValueError: if it is no linear layer, or its neurons have different numbers of connections.
    """

    active: Tensor
    inputs: Tensor
    values: Tensor
    bias: Tensor

    def __init__(self, layer: SparseLayer):
        super().__init__()
        fan_in = layer.topology.fan_in()
        sizes = fan_in.unique()
        if not isinstance(layer.kind, LinearKind) or (sizes > 0).sum() > 1:
            raise ValueError(
                f"a condensed layer must be linear, with one fan-in for all neurons that have any, got {layer} with "
                f"fan-ins {sizes.tolist()}. Train it with SRigL"
            )
        self.register_buffer("active", fan_in.nonzero().flatten())
        shape = (len(self.active), int(sizes.max()))
        self.register_buffer("inputs", layer.topology.cols.view(shape).contiguous())
        self.register_buffer("values", _active_values(layer).view(shape).contiguous())
        bias = self.values.new_zeros(layer.shape[0]) if layer.bias is None else layer.bias.detach().clone()
        self.register_buffer("bias", bias)

    def forward(self, input: Float[Tensor, "*n f"]) -> Float[Tensor, "*n o"]:
        """Return the outputs of all neurons."""
        rows = input.reshape(-1, input.shape[-1])
        # Each neuron sums a weighted bag of rows of the transposed input, so memory is read in order.
        sums = functional.embedding_bag(self.inputs, rows.T.contiguous(), per_sample_weights=self.values, mode="sum")
        outputs = self.bias.unsqueeze(1).expand(-1, len(rows)).clone()
        return outputs.index_add_(0, self.active, sums).T.reshape(*input.shape[:-1], -1)

    def extra_repr(self) -> str:
        return f"{len(self.active)} of {len(self.bias)} neurons, fan-in {self.values.shape[1]}"


def condense(model: nn.Module) -> nn.Module:
    """Return a copy for inference whose sparse linear layers of constant fan-in are condensed.

    Other layers stay as they are.

    Example:
        >>> from torch import tensor
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology import LayerTopology
        >>> layer = LayerTopology((2, 4), tensor([0, 3, 5, 6]))
        >>> condense(sparsify(nn.Sequential(nn.Linear(4, 2)), {"0": layer}))[0]
        CondensedLinear(2 of 2 neurons, fan-in 2)
    """
    must_be("model", model, nn.Module, "Give the model that sparsify returned")
    new = copy.deepcopy(model).eval()
    remove_companions(new)
    layers = [layer for layer in sparse_layers(new).values() if _is_regular(layer)]
    return replace_modules(new, {id(layer): CondensedLinear(layer) for layer in layers})


def _is_regular(layer: SparseLayer) -> bool:
    fan_in = layer.topology.fan_in()
    return isinstance(layer.kind, LinearKind) and len(fan_in[fan_in > 0].unique()) == 1


def _active_values(layer: SparseLayer) -> Tensor:
    if isinstance(layer, MaskedLayer) and layer.forward_mask is not None:
        return layer.dense_weight().flatten()[layer.indices]
    return layer.values()
