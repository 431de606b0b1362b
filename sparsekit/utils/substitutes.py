"""Call other functions in place of torch's own, for as long as a `with` lasts and in this thread only."""

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import multi_head_attention_forward
from torch.overrides import TorchFunctionMode

CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class Substitutes(TorchFunctionMode):
    """A mode in which calls of some torch functions go to others, those inside of `nn.MultiheadAttention` too.

    This changes no setting of the process, so whatever other threads compute meanwhile is as it would be without.

    Args:
        others: what to call instead, by the name of torch's function.

    Example:
        >>> with Substitutes({"tanh": torch.neg}):
        ...     torch.nn.Tanh()(torch.ones(2)).tolist()
        [-1.0, -1.0]
    """

    def __init__(self, others: Mapping[str, Callable]):
        super().__init__()
        self.others = others

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is multi_head_attention_forward:
            with self:
                return _body_of(func)(*args, **kwargs)
        return self.instead_of(func)(*args, **kwargs)

    def instead_of(self, func: Any) -> Callable:
        """Return what to call in place of a function, which may be the function itself."""
        return self.others.get(getattr(func, "__name__", ""), func)


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Compute attention in the one way whose derivative can itself be differentiated, on every device.

    The fused ways have a first derivative only. Their values are the same up to rounding.

    Raises:
        ValueError: if an operation has no second derivative.

    Example:
        >>> x = torch.ones(1, 1, 2, 4, requires_grad=True)
        >>> with twice_differentiable():
        ...     y = torch.nn.functional.scaled_dot_product_attention(x, x, x).square().sum()
        ...     (slope,) = torch.autograd.grad(y, x, create_graph=True)
        ...     torch.autograd.grad(slope.square().sum(), x)[0].shape
        torch.Size([1, 1, 2, 4])
    """
    try:
        with Substitutes({"scaled_dot_product_attention": _plain_attention}):
            yield
    except RuntimeError as error:
        if "derivative for" not in str(error) or "not implemented" not in str(error):
            raise
        raise ValueError(
            f"every operation of the model must have a second derivative here, got one without: {error} Write it with "
            "operations that have one, or freeze its weights (requires_grad_(False))"
        ) from error


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # which this operator would take for zeros and ones
        attn_mask = query.new_zeros(()).where(attn_mask, -torch.inf)
    attend = torch.ops.aten._scaled_dot_product_attention_math
    return attend(query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa)[0]


@cache
def _body_of(func: types.FunctionType) -> Callable:
    """Return a function of torch's that runs itself, without a check whether somebody replaces it."""
    checks = dict.fromkeys(CHECKS, lambda *_: False)
    body = types.FunctionType(func.__code__, {**func.__globals__, **checks}, func.__name__, func.__defaults__)
    body.__kwdefaults__ = func.__kwdefaults__
    return body
