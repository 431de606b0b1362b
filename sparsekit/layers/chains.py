"""In a csr model, linear layers and ReLUs that follow each other in an `nn.Sequential` run as one operator.

Whoever hooks a layer sees it run by itself. So does a trick that has changed its forward, torch while it compiles or
traces, and every other input than an ordinary batch of vectors.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_modules

from sparsekit.kernels import backend
from sparsekit.kernels.chain import Link, linear_chain
from sparsekit.layers.csr import SparseLinear

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class ChainedSequential(nn.Sequential):
    """This is `torch.nn.Sequential`, fast where csr linear layers and ReLUs follow each other."""

    def forward(self, input: Any) -> Any:
        if not is_unwatched(input) or input.dim() != 2:
            return super().forward(input)
        modules, at = list(self._modules.values()), 0
        while at < len(modules):
            layers, relus, end = _chain_from(modules, at)
            links = _links(input, layers, relus) if len(layers) > 1 else None
            if links is None:
                input, at = modules[at](input), at + 1  # type: ignore[misc]  # no module is missing
            else:
                input, at = linear_chain(input, links), end
        return input


def is_unwatched(input: Any) -> bool:
    """Return whether the compiled kernels can take a tensor, and nobody but autograd looks at single operations."""
    if torch.compiler.is_compiling() or type(input) is not Tensor or not backend.is_fast(input):
        return False
    is_watched = torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active()
    is_hooked = any(getattr(torch_modules, f"_global{name}", None) for name in HOOKS)
    return not (is_watched or is_hooked or forward_ad._current_level >= 0 or torch.is_autocast_enabled("cpu"))


def _chain_from(modules: list, at: int) -> tuple[list[SparseLinear], list[bool], int]:
    """Return the linear layers from a position on, whether a ReLU follows each, and where the chain ends."""
    layers, relus = [], []
    while at < len(modules) and type(modules[at]) is SparseLinear and _runs_alone(modules[at]):
        layers.append(modules[at])
        has_relu = at + 1 < len(modules) and type(modules[at + 1]) is nn.ReLU and _runs_alone(modules[at + 1])
        relus.append(has_relu)
        at += 1 + has_relu
    return layers, relus, at


def _runs_alone(module: nn.Module) -> bool:
    """Return whether nothing but its own forward belongs to a call of a module."""
    attributes = module.__dict__
    is_hooked = any(attributes[name] for name in HOOKS)
    is_replaced = "forward" in attributes or attributes.get("_compiled_call_impl") is not None
    return not (is_hooked or is_replaced) and getattr(module, "catcher", None) is None


def _links(input: Tensor, layers: list[SparseLinear], relus: list[bool]) -> list[Link] | None:
    """Return the links of a chain, or None if a layer does not fit what it would get, and is to say so itself."""
    links = []
    for layer, relu in zip(layers, relus, strict=True):
        layer.copy_guard.check()
        links.append(Link(layer.structure, layer.param, layer.bias, relu))
    widths = [input.shape[1], *(link.structure.num_rows for link in links)]
    fits = all(_fits(input, link, width) for link, width in zip(links, widths, strict=False))
    return links if fits else None


def _fits(input: Tensor, link: Link, width: int) -> bool:
    structure, values, bias, _ = link
    has_bias = bias is not None
    return (
        structure.width == width
        and values.dtype is input.dtype
        and values.is_cpu
        and values.numel() == structure.num_connections
        and (not has_bias or (bias.dtype is input.dtype and bias.shape == (structure.num_rows,)))
    )
