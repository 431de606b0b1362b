"""Keep the weights without which the gradient would shrink most: GraSP."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsekit.evaluation.losses import like
from sparsekit.scores.asking import gradients_of
from sparsekit.scores.base import Batch, LossFn, Score, drawing_from, losses, masked_copy, mean_gradients, weights_of
from sparsekit.topology import Topology
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting
from sparsekit.utils.substitutes import twice_differentiable


@register("score", "grasp")
@dataclass(frozen=True, kw_only=True)
class GraSP(Score):
    """A weight is worth `weight * (H g)`, with its sign: the Hessian times the gradient of the whole network.

    `-2 * weight * (H g)` is how the squared norm of the gradient changes, to first order, if the weight is removed:
    those whose removal costs most gradient are kept. The logits are divided by a temperature first; another one gives
    another mask.

    Source: Wang et al. (2020), Picking winning tickets before training by preserving gradient flow, arXiv:2002.07376,
        equation 8, whose score has the opposite sign and marks what to remove. The temperature is that of its code.
    """

    temperature: float = setting(200.0, "what the logits are divided by", range=(1e-3, 1e6))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, temperature=(1e-3, 1e6))

    def __call__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss_fn: LossFn,
        generator: torch.Generator,
        *,
        kept: Topology,
    ) -> dict[str, Tensor]:
        def tempered(outputs: Tensor, labels: Tensor) -> Tensor:
            return loss_fn(outputs / self.temperature, labels)

        with drawing_from(generator), twice_differentiable():
            twin = masked_copy(model, kept)
            products = _hessian_times_gradient(twin, batches, like(loss_fn, tempered), kept)
        return {name: weight.detach() * products[name] for name, weight in weights_of(model, kept).items()}


def _hessian_times_gradient(
    twin: nn.Module, batches: Sequence[Batch], loss_fn: LossFn, kept: Topology
) -> dict[str, Tensor]:
    """Batch by batch, so that only one double graph is alive at a time."""
    weights = weights_of(twin, kept)
    gradient = mean_gradients(twin, batches, loss_fn, kept)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for share, loss in losses(twin, batches, loss_fn):
        grads = gradients_of(loss, list(weights.values()), create_graph=True)
        inner = torch.stack([(grad * gradient[name]).sum() for name, grad in zip(weights, grads, strict=True)]).sum()
        for name, part in zip(weights, gradients_of(inner, list(weights.values())), strict=True):
            total[name] += share * part
    return total
