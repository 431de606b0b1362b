"""N of M: in every group of m neighbouring inputs exactly n connections, the pattern that GPUs can use."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, dense_gradient_step, mean_step, sparse_step
from sparsekit.rules.periodic import Periodic, check_end
from sparsekit.rules.rows import choose, strongest
from sparsekit.schedules import Cosine, Schedule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import check_group, keep_n_of_m, n_of_m_mask
from sparsekit.utils.registry import register
from sparsekit.utils.settings import exact_fraction, setting


@register("rule", "sr-ste", stop_fraction=1.0)
@dataclass(frozen=True, kw_only=True)
class SRSTE(Periodic):
    """SR-STE: all weights are trained, the n largest of every m are used, and the others are drawn towards zero.

    The mask is taken anew at every forward pass. Gradients go to all weights as if there were none (straight through),
    and those not used lose `decay` of themselves besides. At `stop` the unused ones are dropped for good, in the
    only rewiring. Until then the network trains densely, and `active_topology` says what it uses.

    Source: Zhou et al. (2021), Learning N:M fine-grained structured sparse neural networks from scratch,
        arXiv:2102.04010, section 3. Its masks change to the end, for which `stop` is the last step.

    Example:
        >>> SRSTE(stop=100).initial_density(0.5)
        1.0
    """

    needs_dense: ClassVar[str] = "it trains all weights, also those that it does not use at the moment"

    n: int = setting(2, "connections in a group", range=(1, 64))
    m: int = setting(4, "inputs in a group", range=(1, 1024))
    decay: float = setting(2e-4, "share of themselves that unused weights lose towards zero", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_group(self.n, self.m)
        if self.stop is None:
            raise ValueError("SR-STE must know when unused weights are dropped for good, got stop=None. Give stop")

    def is_due(self, step: int) -> bool:
        return step == self.stop

    def initial_density(self, density: float) -> float:
        return 1.0

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        return {name: UsesNOfM(self.n, self.m, self.decay) for name in topology}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return Topology({name: _largest_of_groups(view, self.n, self.m) for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """Few weights used, the gradients of all at every step: `2 f_S + f_D`.

        Source: the count of SNFS in arXiv:1911.11134, which is ours for this method.
        """
        return dense_gradient_step(cost)


class UsesNOfM(ForwardMask):
    """Use the n largest weights of every m inputs."""

    def __init__(self, n: int, m: int, decay: float):
        super().__init__()
        self.n, self.m, self.decay = n, m, decay

    def forward(self, weight: Tensor, mask: Tensor) -> Tensor:
        used = n_of_m_mask(weight.detach().abs(), self.n, self.m)
        return StraightThrough.apply(weight, used, self.decay)

    def extra_repr(self) -> str:
        return f"{self.n} of {self.m}"


class StraightThrough(torch.autograd.Function):
    """Use some weights. Backward hands the gradient on to all, and draws the unused ones towards zero."""

    @staticmethod
    def forward(ctx, weight: Tensor, used: Tensor, decay: float) -> Tensor:
        """Return the weights that are used, zeros elsewhere."""
        ctx.save_for_backward(weight, used)
        ctx.decay = decay
        return weight * used

    @staticmethod
    def backward(ctx, grad: Tensor):
        """Return the gradient of every weight."""
        weight, used = ctx.saved_tensors
        return grad + ctx.decay * ~used * weight if ctx.decay else grad, None, None


@register("rule", "dynamic-n-of-m")
@dataclass(frozen=True, kw_only=True)
class DynamicNOfM(Periodic):
    """RigL within groups: of every m neighbouring inputs n are connected, and weak ones make room for strong gradients.

    The weakest `drop_fraction` of a layer is dropped. Each group takes in as many as it lost, where its gradient is
    largest. A connection dropped now may regrow at once. The density is n / m.

    Source: our combination of Evci et al. (2020), arXiv:1911.11134, and Zhou et al. (2021), arXiv:2102.04010.

    Example:
        >>> DynamicNOfM(stop=100).initial_density(0.05)
        0.5
    """

    needs_gradients = True
    replaces_step: ClassVar[bool] = True

    n: int = setting(2, "connections in a group", range=(1, 64))
    m: int = setting(4, "inputs in a group", range=(1, 1024))
    drop_fraction: Schedule = setting(Cosine(0.3, 0.0), "share of a layer's connections exchanged", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_group(self.n, self.m)
        check_end("drop_fraction", self.drop_fraction, self.stop)

    def initial_density(self, density: float) -> float:
        return self.n / self.m

    def initial_topology(self, topology: Topology, generator: torch.Generator) -> Topology:
        scores_of = {name: torch.rand(layer.shape, generator=generator) for name, layer in topology.items()}
        return Topology({name: keep_n_of_m(scores, self.n, self.m) for name, scores in scores_of.items()})

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        drop_fraction = exact_fraction(self.drop_fraction.lasting(self.stop)(step))
        return Topology({name: self._rewired(view, drop_fraction) for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """As RigL: the gradients of all weights once in `every` steps.

        Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
        """
        return mean_step(sparse_step(cost), dense_gradient_step(cost), self.every)

    def _rewired(self, view: LayerView, drop_fraction: Fraction) -> LayerTopology:
        layer = view.topology
        survivors = strongest(view, layer.count - int(drop_fraction * layer.count))
        return choose_groups(view, survivors, self.n, self.m)


def choose_groups(view: LayerView, survivors: LayerTopology, n: int, m: int) -> LayerTopology:
    """Fill every group up to n: survivors first, then by the magnitude of the gradient."""
    return choose(
        view, survivors, lambda scores, _: n_of_m_mask(scores.view(-1, *survivors.shape[1:]), n, m).flatten(1)
    )


def _largest_of_groups(view: LayerView, n: int, m: int) -> LayerTopology:
    layer = view.topology
    magnitudes = torch.full((layer.size,), -1.0, dtype=view.values.dtype, device=view.values.device)
    magnitudes[layer.indices] = view.values.abs()
    return keep_n_of_m(magnitudes.view(layer.shape), n, m) & layer
