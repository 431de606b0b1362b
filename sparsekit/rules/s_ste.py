"""S-STE: N of M with a soft threshold, so that a weight reaches zero before it leaves the mask."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, dense_gradient_step
from sparsekit.rules.periodic import Periodic
from sparsekit.topology import Topology
from sparsekit.topology.selection import check_group
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("rule", "s-ste", stop_fraction=1.0)
@dataclass(frozen=True, kw_only=True)
class SSTE(Periodic):
    """Every weight is trained, and `beta * sign(w) * max(|w| - t, 0)` is used, where t lets n of every m survive.

    In a group, t is the magnitude of the largest weight that is not used. So what is used changes without a jump where
    two weights exchange their ranks. Gradients go to all weights as if nothing were in between (straight through). The
    scale `beta` of each layer is that which fits its initial weights best, by least squares, and stays.

    At `stop` the unused weights are dropped for good, in the only rewiring, and the thresholds of that moment stay. So
    the function stays as well, and a weight that falls below its threshold later is zero. The paper prunes the
    gradients of outputs besides, to make the backward pass faster, which this rule does not.

    The method is meant for 2 of 4, where the scale is 1.7. With 1 of 50 it is 5 to 9, because the largest weights lie
    close to each other. A step of a weight moves what is used by `beta` times as much. So such trainings need a smaller
    learning rate, and some of ours failed without it.

    Source: Hu et al. (2024), S-STE, arXiv:2409.09099. What happens at `stop` is ours.

    Example:
        >>> SSTE(stop=100).initial_density(0.5)
        1.0
    """

    needs_dense: ClassVar[str] = "it trains all weights, also those that it does not use at the moment"

    n: int = setting(2, "connections in a group", range=(1, 64))
    m: int = setting(4, "inputs in a group", range=(1, 1024))

    def __post_init__(self):
        super().__post_init__()
        check_group(self.n, self.m)
        if self.stop is None:
            raise ValueError("S-STE must know when unused weights are dropped for good, got stop=None. Give stop")

    def is_due(self, step: int) -> bool:
        return step == self.stop

    def initial_density(self, density: float) -> float:
        return 1.0

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        return {name: SoftNOfM(self.n, self.m, layer.shape) for name, layer in topology.items()}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return Topology({name: view.active for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """Few weights used, the gradients of all at every step: `2 f_S + f_D`.

        Source: the count of SNFS in arXiv:1911.11134, which is ours for this method.
        """
        return dense_gradient_step(cost)


class SoftNOfM(ForwardMask):
    """Shrink the weights of every m inputs by the largest magnitude that is not among the n largest."""

    thresholds: Tensor
    beta: Tensor

    def __init__(self, n: int, m: int, shape: tuple[int, ...]):
        super().__init__()
        self.n, self.m = n, m
        groups = math.ceil(shape[1] / m)
        self.register_buffer("thresholds", torch.zeros(shape[0], *shape[2:], groups))
        self.register_buffer("beta", torch.tensor(math.nan))

    def forward(self, weight: Tensor, mask: Tensor) -> Tensor:
        values, magnitudes = weight.detach(), weight.detach().abs()
        now = group_thresholds(magnitudes, self.n, self.m)
        is_whole = _grouped(mask, self.m, fill=True).all(-1)
        thresholds = torch.where(is_whole, now, self.thresholds.to(now))
        each = thresholds.repeat_interleave(self.m, -1)[..., : weight.shape[1]].movedim(-1, 1)
        soft = values.sign() * torch.relu(magnitudes - each)
        if self.beta.isnan():
            self.beta.fill_(best_scale(values, soft))
        if self.training:
            self.thresholds = thresholds
        return _InPlaceOf.apply(weight, self.beta.to(soft) * soft)

    def extra_repr(self) -> str:
        return f"{self.n} of {self.m}"


def group_thresholds(magnitudes: Float[Tensor, "o *f"], n: int, m: int) -> Float[Tensor, "o *k"]:
    """Return the (n + 1)-th largest magnitude of every m inputs, 0 in a group that has no more than n.

    Example:
        >>> group_thresholds(torch.tensor([[1.0, 4.0, 2.0, 3.0, 5.0]]), 2, 4).tolist()
        [[2.0, 0.0]]
    """
    groups = _grouped(magnitudes, m, fill=0.0)
    return groups.new_zeros(groups.shape[:-1]) if n == m else groups.sort(-1, descending=True).values[..., n]


def best_scale(weight: Tensor, soft: Tensor) -> Tensor:
    """Return the factor by which `soft` comes closest to the weight, by least squares, 1 where it is all 0."""
    square = soft.square().sum()
    return torch.where(square > 0, (weight * soft).sum() / square.clamp_min(torch.finfo(soft.dtype).tiny), 1.0)


class _InPlaceOf(torch.autograd.Function):
    """Use other numbers than the weight. Backward hands the gradient on to the weight."""

    @staticmethod
    def forward(ctx, weight: Tensor, used: Tensor) -> Tensor:
        return used.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


def _grouped(tensor: Float[Tensor, "o *f"] | Bool[Tensor, "o *f"], m: int, *, fill: float | bool) -> Tensor:
    """Return the tensor with channels last, in groups of m, the last of which is filled up."""
    last = tensor.movedim(1, -1)
    padded = torch.nn.functional.pad(last, (0, -last.shape[-1] % m), value=fill)
    return padded.unflatten(-1, (-1, m))
