"""Rescaled initialisation learns one scale per tensor, so that a first step of the masked network helps most."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from sparsekit.layers import SparseLayer, densify
from sparsekit.layers.entries import masks_of
from sparsekit.tricks.base import Batch, LossFn, Trick, TrickContext
from sparsekit.utils.registry import register
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.utils.settings import check_range, setting
from sparsekit.utils.substitutes import twice_differentiable

BETAS = (0.9, 0.999)  # of Adam, as torch's own and as in the released code
TINY = 1e-8
MOST_CHANGE = 1.0  # a scale's gradient is clipped to this, as in the released code


@register("trick", "rescaled-init")
@dataclass(frozen=True, kw_only=True)
class RescaledInit(Trick):
    """Before the first step every tensor is multiplied by a scale of its own, learnt on the masked network.

    Missing connections stay missing, and every tensor keeps its direction. The scales begin at 1. Each iteration takes
    the gradient G of the loss on two batches. If its norm is above `limit`, the scales change so that it falls.
    Otherwise they change so that the loss falls after one step of length `reach` along `-G`, on one of the two batches
    and a new one. In `masked` G belongs to existing connections only. `published` is what the released code does on a
    masked network: norm and step count missing connections too, so the network it looks ahead to is dense.

    You can apply it to a plain model as well, before you make that sparse with `sparsify(..., init="dense")`, which is
    the other published order. The learning makes a dense copy of the weights, whatever the storage.

    Raises:
        ValueError: if a setting is out of range, or the variant is unknown.

    Source: layer-wise rescaled initialisation of ToST, Jaiswal et al. (2022), ICML, after GradInit, Zhu et al. (2021),
        arXiv:2102.08098. The settings are those of the released code's README. Masking the gradient is ours.
    """

    changes = "values"
    variant: Literal["masked", "published"] = setting("masked", "whose gradients count: existing connections', or all")
    iterations: int = setting(180, "how often the scales are changed", range=(1, 1000))
    rate: float = setting(0.01, "Adam's learning rate for the scales", range=(0, 1))
    reach: float = setting(0.1, "length of the step that is looked ahead", range=(0, 1))
    limit: float = setting(1.0, "largest norm that the gradient may have", range=(0, 100))
    least: float = setting(0.01, "smallest scale of a weight, while biases may vanish", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        many = float("inf")
        check_range(self, iterations=(1, many), rate=(0, many), limit=(0, many), least=(0, many))
        if self.reach <= 0:
            raise ValueError(f"reach must be above 0, got {self.reach}. The released code takes 0.1")
        if self.variant not in ("masked", "published"):
            raise ValueError(f"variant must be masked or published, got {self.variant!r}")

    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        context = context or TrickContext()
        scales = self.scales(model, context.batches, context.loss_fn)
        with torch.no_grad():
            for name, scale in scales.items():
                _parameter(model, name).mul_(scale)
        return model

    def scales(
        self, model: nn.Module, batches: Iterable[Batch], loss_fn: LossFn = nn.functional.cross_entropy
    ) -> dict[str, float]:
        """Return the scale of each tensor that is not zero. The model stays as it is.

        Args:
            model: sparse or plain.
            batches: each iteration takes two or three. They are iterated over again when they end.
            loss_fn: `(outputs, labels) -> mean loss`.

        Raises:
            ValueError: if there is no batch, or an operation has no second derivative.
        """
        search = _Search(self, model, loss_fn)
        stream = _endless(batches)
        with seeded_rng(generator(0, "rescaled-init")), twice_differentiable():
            for _ in range(self.iterations):
                search.step(next(stream), next(stream), stream)
        return dict(zip(search.names, search.scales.tolist(), strict=True))


class _Search:
    """The search for the scales, on a dense copy of the network whose weights are the initial ones times the scales."""

    def __init__(self, settings: RescaledInit, model: nn.Module, loss_fn: LossFn):
        self.settings, self.loss_fn = settings, loss_fn
        self.dense = densify(model).train()
        for module in self.dense.modules():
            if isinstance(module, _DropoutNd):
                module.eval()
        self.masks = masks_of(model) if settings.variant == "masked" else {}
        self.initial = {name: parameter.detach() for name, parameter in self.dense.named_parameters()}
        self.names = [name for name, tensor in self.initial.items() if float(tensor.norm()) > 0]
        like = next(iter(self.initial.values()))
        self.scales = torch.ones(len(self.names), dtype=like.dtype, device=like.device)
        least = [settings.least if self.initial[name].dim() > 1 or "bias" not in name else 0.0 for name in self.names]
        self.least = self.scales.new_tensor(least)
        self.adam = _TwoStepAdam(settings.rate, torch.zeros_like(self.scales))

    def step(self, one: Batch, other: Batch, stream: Iterator[Batch]) -> None:
        """Change the scales once."""
        scales = self.scales.clone().requires_grad_()
        weights = self._weights(scales)
        gradients = self._gradients(weights, _joined(one, other))
        norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
        is_steep = float(norm.detach()) > self.settings.limit
        if is_steep:
            objective = norm
        else:
            ahead = self._ahead(weights, gradients, float(norm.detach()))
            objective = self._loss(ahead, _joined(one, next(stream))) / self.settings.reach
        (slope,) = torch.autograd.grad(objective, scales)
        descent = self.adam.step(slope.clamp(-MOST_CHANGE, MOST_CHANGE), "constraint" if is_steep else "objective")
        self.scales = torch.maximum(self.scales - descent, self.least)

    def _weights(self, scales: Tensor) -> dict[str, Tensor]:
        scaled = {name: self.initial[name] * scale for name, scale in zip(self.names, scales, strict=True)}
        # A tensor of zeros has no scale, but it has a gradient.
        return {name: scaled.get(name, tensor.clone().requires_grad_()) for name, tensor in self.initial.items()}

    def _gradients(self, weights: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        loss = self._loss(weights, batch)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
        pairs = zip(weights, gradients, strict=True)
        return {name: grad * self.masks[name] if name in self.masks else grad for name, grad in pairs}

    def _ahead(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
        """Return the weights after one step of length `reach`, which counts as constant."""
        length = self.settings.reach / max(norm, TINY)
        return {name: weight - length * gradients[name].detach() for name, weight in weights.items()}

    def _loss(self, weights: Mapping[str, Tensor], batch: Batch) -> Tensor:
        inputs, labels = batch
        return self.loss_fn(functional_call(self.dense, dict(weights), (inputs,)), labels)


@dataclass
class _TwoStepAdam:
    """Adam with two kinds of step, which have a mean each and share the mean square, as in the released code."""

    rate: float
    square: Tensor
    means: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def step(self, slope: Tensor, kind: str) -> Tensor:
        """Return how far to descend."""
        first, second = BETAS
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.means[kind] = first * self.means.get(kind, torch.zeros_like(slope)) + (1 - first) * slope
        self.square = second * self.square + (1 - second) * slope.square()
        mean = self.means[kind] / (1 - first ** self.counts[kind])
        square = self.square / (1 - second ** sum(self.counts.values()))
        return self.rate * mean / (square.sqrt() + TINY)


def _parameter(model: nn.Module, name: str) -> Tensor:
    """Return a parameter by its name in the plain network."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    return module.param if isinstance(module, SparseLayer) and leaf == "weight" else module.get_parameter(leaf)


def _joined(one: Batch, other: Batch) -> Batch:
    return torch.cat([one[0], other[0]]), torch.cat([one[1], other[1]])


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        ended_at_once = True
        for batch in batches:
            ended_at_once = False
            yield batch
        if ended_at_once:
            raise ValueError(
                "rescaled initialisation must see batches, got none. Give TrickContext(batches=[...]), or a loader"
            )
