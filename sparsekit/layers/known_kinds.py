"""Where the matrices of torch's own modules lie, and those of transformers' models."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sparsekit.layers.matrices import register_kind


@register_kind(nn.Bilinear)
@register_kind(nn.Linear)
@register_kind(nn.Conv1d)
@register_kind(nn.Conv2d)
@register_kind(nn.Conv3d)
@register_kind("transformers.models.*Router")
@register_kind("transformers.models.*Gate")
def as_it_is(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return a weight that is a matrix already, one row for each output."""
    return {"": weight} if name == "weight" else {}


@register_kind("transformers.pytorch_utils.Conv1D")
def transposed(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return the weight of a linear layer that is stored as `(inputs, outputs)`."""
    return {"": weight.T} if name == "weight" else {}


@register_kind(_ConvTransposeNd)
def transposed_convolution(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return the weight of a transposed convolution, `(inputs, outputs / groups, *kernel)`, output by output."""
    if name != "weight":
        return {}
    groups = int(module.groups)  # type: ignore[arg-type]
    return {"": weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)}


@register_kind(nn.RNNBase)
@register_kind(nn.RNNCellBase)
def recurrent(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return the weights of inputs, of the state and of a projection, with the rows of all gates."""
    return {"": weight} if name.startswith("weight_") else {}


@register_kind(nn.MultiheadAttention)
def attention(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return the projections to queries, keys and values, each by itself."""
    if name == "in_proj_weight":
        return dict(zip(("query", "key", "value"), weight.chunk(3), strict=True))
    return {"": weight} if name.endswith("_proj_weight") else {}


@register_kind(nn.Embedding, on_request="embeddings")
@register_kind(nn.EmbeddingBag, on_request="embeddings")
def embedding(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return a table, each word of which is an output, so that scaling by the fan-in keeps the lengths of words."""
    return {"": weight} if name == "weight" else {}


@register_kind("transformers.models.*Experts")
def experts(module: nn.Module, name: str, weight: Tensor) -> Mapping[str, Tensor]:
    """Return each expert's matrix, `(experts, outputs, inputs)` or transposed."""
    if weight.dim() != 3:
        return {}
    each = weight.transpose(1, 2) if getattr(module, "is_transposed", False) else weight
    return {str(number): matrix for number, matrix in enumerate(each.unbind(0))}
