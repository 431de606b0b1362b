"""Keep the weights without which the gradient would shrink most: GraSP."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.evaluation.losses import like
from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView, logits_of
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
        loss_fn = view.loss_fn or _cross_entropy_of_logits

        def tempered(outputs: Any, labels: Any) -> Tensor:
            logits = logits_of(outputs) if view.loss_fn is None else outputs
            if not isinstance(logits, Tensor):
                raise ValueError(
                    f"GraSP must divide logits by a temperature, got outputs of type {type(logits).__name__}. Give "
                    "adaptor=Adaptor(outputs=lambda outputs: ...) that takes them out"
                )
            return loss_fn(logits / self.temperature, labels)

        weighed_alike = like(view.loss_fn or nn.functional.cross_entropy, tempered)
        with twice_differentiable():
            products = _hessian_times_gradient(view.masked_copy(), replace(view, loss_fn=weighed_alike))
        return {name: weight * products[name] for name, weight in view.weights.items()}


def _cross_entropy_of_logits(logits: Tensor, labels: Any) -> Tensor:
    if not isinstance(labels, Tensor) or logits.dim() != 2:
        raise ValueError(
            "GraSP needs logits with a row per label, got a model that computes its own loss of something else. Give "
            "loss_fn=..., and batches or an adaptor that hand it labels"
        )
    return nn.functional.cross_entropy(logits, labels)


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
