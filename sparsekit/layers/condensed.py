"""Condensed layers are for inference. They hold compressed rows and use the product that is fastest on this machine."""

import copy
import sys
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.layers.base import GHOST, SparseLayer
from sparsekit.layers.companions import remove_companions
from sparsekit.layers.convert import replace_modules
from sparsekit.layers.kinds import LinearKind
from sparsekit.layers.listing import sparse_layers
from sparsekit.layers.masked import MaskedConv2d, MaskedLayer
from sparsekit.layers.products import PRODUCTS, SIZES, Rows, by_bags, dense_matrix, fastest_products, size_at_least
from sparsekit.layers.weight_access import refuse_quantization
from sparsekit.utils.checks import must_be

FASTEST = "fastest"


class CondensedLinear(nn.Module):
    """A linear layer for inference is its connections in compressed rows, as an int32 and a value each.

    It cannot be trained. Neurons without connections return their bias.

    Source: the condensed representation of SRigL, Lasby et al. (2023), arXiv:2305.02299, section 4, here with rows of
    any length.

    Args:
        layer: a sparse linear layer.
        product: which of `products.PRODUCTS` computes the outputs, for each of `products.SIZES` or for all.

    Raises:
        ValueError: if it is no linear layer, or there is no such product.
    """

    pointers: Tensor
    inputs: Tensor
    values: Tensor
    bias: Tensor

    def __init__(self, layer: SparseLayer, product: str | Mapping[int, str] = "bags"):
        super().__init__()
        if not isinstance(layer.kind, LinearKind):
            raise ValueError(f"a condensed layer must be linear, got {layer}. Use densify for others")
        self.in_features = layer.shape[1]
        self.products: dict[int, str] = dict.fromkeys(SIZES, product) if isinstance(product, str) else dict(product)
        if unknown := set(self.products.values()) - set(PRODUCTS):
            raise ValueError(f"product must be one of {', '.join(PRODUCTS)}, got {min(unknown)}. Choose one of them")
        self.register_buffer("pointers", layer.topology.csr()[0].int())
        self.register_buffer("inputs", layer.topology.cols.int())
        self.register_buffer("values", _active_values(layer))
        bias = self.values.new_zeros(layer.shape[0]) if layer.bias is None else layer.bias.detach().clone()
        self.register_buffer("bias", bias)

    @property
    def rows(self) -> Rows:
        """The matrix in compressed rows, with what products derive from it for as long as nobody changes it."""
        rows = vars(self).get("_rows")
        if rows is None or not rows.is_of(self.pointers, self.inputs, self.values):
            rows = Rows(self.pointers, self.inputs, self.values, self.in_features)
            object.__setattr__(self, "_rows", rows)
        return rows

    def forward(self, input: Float[Tensor, "*n f"]) -> Float[Tensor, "*n o"]:
        """Return the outputs of all neurons.

        Raises:
            ValueError: if the input has another number of features.
            TypeError: if torch's exporter to ONNX calls it, which takes plain layers only.
        """
        if torch.compiler.is_exporting() or torch._C._get_tracing_state():
            _refuse_onnx()
            # Exporters have other ideas of the fast products, so they see one that nobody can mistake.
            dense = dense_matrix(self.pointers, self.inputs, self.values, self.in_features)
            return functional.linear(input, dense, self.bias)
        flat = input.reshape(-1, input.shape[-1])
        if flat.shape[-1] != self.in_features:
            raise ValueError(
                f"the input must have {self.in_features} features, got {flat.shape[-1]}. Give inputs of that size"
            )
        if torch.compiler.is_compiling():  # which can see into this product only
            outputs = by_bags(self, flat, self.bias)
        else:
            outputs = PRODUCTS[self.products[size_at_least(len(flat))]](self.rows, flat, self.bias)
        return outputs.reshape(*input.shape[:-1], len(self.bias))

    def to_plain(self) -> nn.Linear:
        """Return the plain layer with the same weights and bias, and zeros for missing connections."""
        with torch.device("meta"):
            plain = nn.Linear(self.in_features, len(self.bias))
        plain.weight = nn.Parameter(self.rows.dense(), requires_grad=False)
        plain.bias = nn.Parameter(self.bias.clone(), requires_grad=False)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        return f"{self.in_features} to {len(self.bias)}, {len(self.values):,} connections"

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_quantization(name)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_rows"}


def condense(model: nn.Module, *, product: str = FASTEST) -> nn.Module:
    """Return a copy for inference, whose sparse linear layers compute with their connections only.

    Each layer uses the product that was fastest on this machine, for a single input, small batches and large ones
    (see `layers.products`). Where the dense product is the fastest for all of them, the layer is a plain one. So is a
    masked convolution. A csr convolution stays as it is.

    Args:
        model: a sparse model, which is not changed.
        product: `"fastest"` measures, once for each shape and density. A name of `products.PRODUCTS` is used as it is.

    Raises:
        TypeError: if it is no model.
        ValueError: if there is no such product.

    Example:
        >>> from torch import tensor
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology import LayerTopology
        >>> layer = LayerTopology((2, 4), tensor([0, 3, 5]))
        >>> condense(sparsify(nn.Sequential(nn.Linear(4, 2)), {"0": layer}), product="bags")[0]
        CondensedLinear(4 to 2, 3 connections)
    """
    must_be("model", model, nn.Module, "Give the model that sparsify returned")
    if product not in (FASTEST, *PRODUCTS):
        raise ValueError(
            f"product must be one of {', '.join((FASTEST, *PRODUCTS))}, got {product!r}. Choose one of them"
        )
    new = copy.deepcopy(model).eval()
    layers = [layer for layer in sparse_layers(new).values() if GHOST not in vars(layer)]
    new = replace_modules(new, {id(layer): _condensed(layer, product) for layer in layers})
    if not any(layer.storage == "csr" for layer in sparse_layers(new).values()):
        remove_companions(new)
    return new


def _condensed(layer: SparseLayer, product: str) -> nn.Module:
    if isinstance(layer, MaskedConv2d):
        return layer.to_plain()
    if not isinstance(layer.kind, LinearKind):
        return layer
    small = CondensedLinear(layer, "bags" if product == FASTEST else product).train(layer.training)
    if product == FASTEST:
        small.products = fastest_products(small.rows, small.bias)
    return layer.to_plain() if set(small.products.values()) == {"dense"} else small


def _refuse_onnx() -> None:
    # torch asks by an import that takes long. Before that, nobody exports.
    if "torch.onnx._internal.exporter" in sys.modules and torch.onnx.is_in_onnx_export():
        raise TypeError(
            "a network that is written as ONNX must have plain layers, got a condensed one. Use "
            "sparsekit.export(model, 'net.onnx', example=inputs)"
        )


def _active_values(layer: SparseLayer) -> Tensor:
    if isinstance(layer, MaskedLayer) and layer.forward_mask is not None:
        return layer.dense_weight().flatten()[layer.indices]
    return layer.values()
