"""Keep the weights without which the gradient would shrink most: GraSP."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparsekit.evaluation.losses import like
from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting
from sparsekit.utils.substitutes import twice_differentiable


@register("score", "grasp")
@dataclass(frozen=True, kw_only=True)
class GraSP(Score):
    """A weight is worth `weight * (H g)`, with its sign: the Hessian times the gradient of the whole network.

    `-2 * weight * (H g)` is how the squared norm of the gradient changes, to first order, if the weight is removed, so
    those whose removal costs most gradient are kept. The logits are divided by a temperature first. Another temperature
    gives another mask.

    Source: Wang et al. (2020), Picking winning tickets before training by preserving gradient flow, arXiv:2002.07376,
        equation 8, whose score has the opposite sign and marks what to remove. The temperature is that of its code.
    """

    passes = 8  # the Hessian-vector product and the two gradients

    temperature: float = setting(200.0, "what the logits are divided by", range=(1e-3, 1e6))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, temperature=(1e-3, 1e6))

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        def tempered(outputs: Tensor, labels: Tensor) -> Tensor:
            return view.loss_fn(outputs / self.temperature, labels)

        with twice_differentiable():
            network = view.masked_copy()
            products = _hessian_times_gradient(network, replace(view, loss_fn=like(view.loss_fn, tempered)))
        return {name: weight * products[name] for name, weight in view.weights.items()}


def _hessian_times_gradient(network: nn.Module, view: ScoreView) -> dict[str, Tensor]:
    """Batch by batch, so that only one double graph is alive at a time."""
    gradient = view.mean_gradients(network)
    total = {name: torch.zeros_like(weight) for name, weight in view.weights.items()}
    for share, loss in view.losses(network):
        grads = view.gradients(network, loss, create_graph=True)
        inner = torch.stack([(grad * gradient[name]).sum() for name, grad in grads.items()]).sum()
        for name, product in view.gradients(network, inner).items():
            total[name] += share * product
    return total
