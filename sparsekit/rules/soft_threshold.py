"""STR: the threshold below which weights count as zero is learnt, one per layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, dense_gradient_step
from sparsekit.rules.periodic import Periodic
from sparsekit.topology import Topology
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("rule", "str", stop_fraction=1.0)
@dataclass(frozen=True, kw_only=True)
class STR(Periodic):
    """Soft threshold reparameterization: `sign(w) * relu(|w| - sigmoid(s))` is used, and s of each layer is learnt.

    How many weights survive follows from the first s, weight decay and the training's length, so the density is an
    outcome. Weight decay draws s towards 0, where the threshold is 0.5. The loss draws it back. At `stop` what is
    zero then is dropped for good, in the only rewiring. Until then the network trains densely, and `active_topology`
    says what it uses.

    Source: Kusupati et al. (2020), Soft threshold weight reparameterization, arXiv:2002.03231. Its first s is -3200
        (for 100 epochs of ImageNet), where for most of the training only weight decay moves it. Ours suits short
        trainings.

    Example:
        >>> STR(stop=100).is_due(100), STR(stop=100).is_due(50)
        (True, False)
    """

    needs_dense: ClassVar[str] = "it trains all weights, also those below the threshold"

    threshold: float = setting(-8.0, "the first s of every layer", range=(-100_000, 10))

    def __post_init__(self):
        super().__post_init__()
        if self.stop is None:
            raise ValueError("STR must know when unused weights are dropped for good, got stop=None. Give stop")

    def is_due(self, step: int) -> bool:
        return step == self.stop

    def initial_density(self, density: float) -> float:
        return 1.0

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        return {name: SoftThreshold(self.threshold) for name in topology}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return Topology({name: view.active for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """Few weights used, the gradients of all at every step: `2 f_S + f_D`.

        Source: the count of SNFS in arXiv:1911.11134, which is ours for this method.
        """
        return dense_gradient_step(cost)


class SoftThreshold(ForwardMask):
    """Shrink every weight by `sigmoid(s)`, and those that are smaller to zero."""

    def __init__(self, first: float):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(float(first)))

    def forward(self, weight: Tensor, mask: Tensor) -> Tensor:
        return weight.sign() * torch.relu(weight.abs() - torch.sigmoid(self.s.to(weight.dtype)))
