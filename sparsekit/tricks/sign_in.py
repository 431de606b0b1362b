"""Sign-In: each weight is a product of two trained factors, balanced from time to time so that its sign can change."""

import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.rewiring.optimizer_state import chain
from sparsekit.tricks.base import TemporaryTrick, TrickContext, remove_params
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting

SCALE = "inner_scale"  # the parameter of a layer that the trick adds, with one number for each position
_HOOKED: weakref.WeakSet[Optimizer] = weakref.WeakSet()


@register("trick", "sign-in")
@dataclass(frozen=True, kw_only=True)
class SignIn(TemporaryTrick):
    """The optimizer trains `m` and `w` where a connection has the weight `m * w`, and the mask stays.

    By the chain rule `w` gets `m` times the gradient of the weight, and `m` gets `w` times it. So a weight moves along
    `m^2 + w^2` times its gradient. Small steps leave `m^2 - w^2` as it is. Where it is above 0, `m` is not 0 where the
    weight is, so the weight can cross zero. Weight decay and long steps change it. Every `every` steps we therefore set
    `m` such that `m^2 - w^2 = beta` again, and the product stays.

    A layer always holds the product, so rules, scores and figures see ordinary weights. A grown connection starts with
    `m^2 = beta`. At the end the factors leave, and no weight changes. The factors take the memory of a dense layer.

    Raises:
        ValueError: if `beta` is not above 0, or `every` is below 1.

    Source: Sign-In, Gadhikar et al. (2025), arXiv:2504.12801, of which we know the product and that its inner scale is
        reset every few epochs. How it is reset, `beta` and `every` are ours.

    Example:
        >>> SignIn(beta=1.0).default_stop_fraction
        1.0
    """

    changes = "network"
    default_stop_fraction = 1.0

    beta: float = setting(1.0, "what `m^2 - w^2` is set to, where `m` is the inner scale", range=(0, 100))
    every: int = setting(100, "steps between two resets of the inner scale", range=(1, 10_000))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, every=(1, float("inf")))
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta}. At 0 no weight could change its sign")

    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        for layer in sparse_layers(model).values():
            scale = layer.param.new_empty(layer.topology.size, dtype=layer.values().dtype)
            layer.register_parameter(SCALE, nn.Parameter(scale))
            balance(layer, self.beta)
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        layers = [layer for layer in sparse_layers(model).values() if SCALE in layer._parameters]
        if step >= self.end:
            removed = [cast(nn.Parameter, layer._parameters.pop(SCALE)) for layer in layers]
            remove_params(optimizer and chain(optimizer)[-1], removed)
            return
        if step > 0 and step % self.every == 0:
            for layer in layers:
                balance(layer, self.beta)
        if optimizer is not None and (inner := chain(optimizer)[-1]) not in _HOOKED:
            factors = _Factors([*sparse_layers(model).values()], self.beta)
            inner.register_step_pre_hook(factors.before_step)
            handle = inner.register_step_post_hook(factors.after_step)
            # Others, such as an attached rule, must see products after the step, so this hook comes first.
            cast(OrderedDict, inner._optimizer_step_post_hooks).move_to_end(handle.id, last=False)
            _HOOKED.add(inner)


def inner_scale(weight: Float[Tensor, " e"], beta: float) -> Float[Tensor, " e"]:
    """Return the positive `m` with `m * w` equal to the weight and `m^2 - w^2 = beta`.

    Example:
        >>> inner_scale(torch.tensor([0.0, -6.0]), 5.0).square().tolist()  # 9 = 3 * 3, and w = -2
        [5.0, 9.0]
    """
    return ((beta + (beta**2 + 4 * weight.square()).sqrt()) / 2).sqrt()


@torch.no_grad()
def balance(layer: SparseLayer, beta: float) -> None:
    """Set the inner scale of all positions by the weights of the connections, which stay as they are."""
    weight = layer.values()
    _write(layer, inner_scale(weight, beta), beta)


def _write(layer: SparseLayer, scale: Float[Tensor, " e"], beta: float) -> None:
    """Give the connections these inner scales, and all other positions that of a weight of 0."""
    flat = layer._parameters[SCALE]
    assert flat is not None
    flat.fill_(beta**0.5).index_copy_(0, layer.indices, scale)


class _Factors:
    """Hooks around each step of an optimizer, which sees factors where the layers hold their products."""

    def __init__(self, layers: list[SparseLayer], beta: float):
        self.layers, self.beta = layers, beta
        self.grads: dict[SparseLayer, Tensor] = {}

    @torch.no_grad()
    def before_step(self, *_: Any) -> None:
        """Take the products apart, and their gradients by the chain rule."""
        self.grads.clear()
        for layer in self.layers:
            flat, gradient = layer._parameters.get(SCALE), layer.grads()
            if flat is None or gradient is None:
                continue
            assert layer.param.grad is not None
            self.grads[layer] = layer.param.grad
            scale = flat[layer.indices]
            factor = layer.values() / scale
            flat.grad = torch.zeros_like(flat).index_copy_(0, layer.indices, gradient * factor)
            layer.param.grad = layer.pack(layer.topology, gradient * scale)
            layer.write(factor)

    @torch.no_grad()
    def after_step(self, *_: Any) -> None:
        """Multiply the factors again."""
        for layer, gradient in self.grads.items():
            flat = layer._parameters[SCALE]
            assert flat is not None
            scale = flat[layer.indices]
            layer.write(layer.values() * scale)
            # A scale of 0 would lose its factor, which no division could give back.
            _write(layer, torch.where(scale == 0, inner_scale(layer.values(), self.beta), scale), self.beta)
            layer.param.grad, flat.grad = gradient, None
        self.grads.clear()
