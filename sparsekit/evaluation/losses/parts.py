"""Write the loss of a whole as the sum of its parts' losses, for micro-batches or batches that count as one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sparsekit.evaluation.adaptor import join, size_of, split
from sparsekit.evaluation.losses.known import LossFn, Scaled, Sum, batch_weight, floats, loss_of, unknown
from sparsekit.evaluation.losses.labels import class_scores

TOLERANCE = 1e-4  # by which the gradients of a whole and of its parts may differ in single precision


def losses_of_parts(loss_fn: Any, labels: Sequence[Any], outputs: Callable[[], Any]) -> list[LossFn]:
    """Return a loss for each part, so that the sum of them over all parts is the loss of all parts together.

    Args:
        loss_fn: `(outputs, labels) -> mean loss`.
        labels: those of each part.
        outputs: a function that returns those of the first part, for a loss whose weights are unknown.

    Raises:
        ValueError: if the loss of all is no weighted sum of the parts' losses.

    Example:
        >>> from torch.nn import functional as F
        >>> first, second = losses_of_parts(F.l1_loss, [torch.zeros(3), torch.zeros(1)], lambda: None)
        >>> float(first(torch.ones(3), torch.zeros(3)) + second(torch.ones(1) * 5, torch.zeros(1)))
        2.0
    """
    if len(labels) == 1:
        return [loss_fn]
    if isinstance(loss_fn, Sum):
        terms = [losses_of_parts(term, labels, outputs) for term in loss_fn.terms]
        return [Sum(parts) for parts in zip(*terms, strict=True)]
    if isinstance(loss_fn, Scaled):
        return [Scaled(part, loss_fn.factor) for part in losses_of_parts(loss_fn.loss_fn, labels, outputs)]
    return [Scaled(loss_fn, share) for share in shares(loss_fn, labels, outputs)]


def shares(loss_fn: Any, labels: Sequence[Any], outputs: Callable[[], Any]) -> list[float]:
    """Return by what the loss of each part must be multiplied to add up to the loss of all parts together.

    Where the weights of the loss are unknown, its gradient by the outputs tells. In a weighted mean the gradient of the
    whole is, within each part, a multiple of the part's own. Where it is none, parts do not make a whole.

    Args:
        loss_fn: `(outputs, labels) -> mean loss`.
        labels: those of each part.
        outputs: a function that returns those of the first part, for a loss whose weights are unknown.

    Raises:
        ValueError: if the loss of all is no weighted sum of the parts' losses.
        FloatingPointError: if the loss has no finite gradient by the outputs.

    Example:
        >>> from torch.nn import functional as F
        >>> shares(F.cross_entropy, [torch.tensor([0, 1, 1]), torch.tensor([1, -100, -100])], lambda: None)
        [0.75, 0.25]
    """
    if len(labels) == 1:
        return [1.0]
    weights = [batch_weight(loss_fn, part) for part in labels]
    numbers = [weight for weight in weights if weight is not None]
    if len(numbers) < len(weights):
        return _measured_shares(loss_fn, labels, outputs())
    total = sum(numbers)
    return [weight / total for weight in numbers] if total else [1.0] * len(numbers)  # 0 / 0, as the whole is


def _measured_shares(loss_fn: Any, labels: Sequence[Any], outputs: Any) -> list[float]:
    """Return shares of an unknown loss. Every part has the outputs of the first, because only its labels matter."""
    sizes = [size_of(part) for part in labels]
    first, second = (_shares_at(loss_fn, labels, _rows(outputs, sum(sizes), least), sizes) for least in (1.0, 0.5))
    if any(abs(one - other) > TOLERANCE * abs(one) for one, other in zip(first, second, strict=True)):
        raise unknown(loss_fn, "got one whose parts count for more or less by their outputs")
    return first


def _shares_at(loss_fn: Any, labels: Sequence[Any], outputs: Any, sizes: list[int]) -> list[float]:
    loss, gradients = _gradients(loss_fn, outputs, join(labels))
    if not (math.isfinite(loss) and all(bool(leaf.isfinite().all()) for leaf in gradients)):
        raise FloatingPointError(
            "the loss must be finite, and its gradients, got inf or NaN. Lower the learning rate, look at the inputs, "
            "and leave out batches in which no label counts"
        )
    parts = zip(split(outputs, sizes), labels, split(gradients, sizes), strict=True)
    pairs = [_share(loss_fn, *part) for part in parts]
    if not math.isclose(sum(share * part for share, part in pairs), loss, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        raise unknown(loss_fn, "got one whose parts add up to something else")  # a sum and a penalty, for example
    return [share for share, _ in pairs]


def _share(loss_fn: Any, outputs: Any, labels: Any, wholes: list[Tensor]) -> tuple[float, float]:
    """Return a part's share (the whole's gradient there as a multiple of the part's), and the part's loss."""
    loss, gradients = _gradients(loss_fn, outputs, labels)
    whole, part = (torch.cat([leaf.flatten() for leaf in leaves]) for leaves in (wholes, gradients))
    if not whole.any() and (math.isnan(loss) or _none_counts(loss_fn, outputs, labels)):
        return 0.0, 0.0
    if not part.any():
        raise unknown(loss_fn, "got a part whose loss is flat, which tells nothing")
    whole, part = whole / part.abs().max(), part / part.abs().max()  # squares of small numbers would vanish
    share = float((whole * part).sum() / part.square().sum())
    if not (whole - share * part).norm() <= TOLERANCE * whole.norm():
        raise unknown(loss_fn, "got one that is no weighted mean over samples")
    return share, loss


def _none_counts(loss_fn: Any, outputs: Any, labels: Any) -> bool:
    scores = class_scores(outputs, labels, loss_fn)
    return scores is not None and not scores[1].any()


def _gradients(loss_fn: Any, outputs: Any, labels: Any) -> tuple[float, list[Tensor]]:
    """Return the loss and its gradients by the outputs, in single precision where half would hide the ratio."""
    wide = tree_map(_leaf, outputs)
    leaves = floats(wide)
    if not leaves:
        raise unknown(loss_fn, "got outputs in which no tensor was found")
    try:
        with torch.enable_grad(), torch.autocast(leaves[0].device.type, enabled=False):
            loss = loss_of(loss_fn, wide, labels)
            return float(loss.detach()), list(torch.autograd.grad(loss, leaves, materialize_grads=True))
    except RuntimeError as error:
        raise unknown(loss_fn, f"got an error when it was computed for {size_of(labels)} samples") from error


def _leaf(thing: Any) -> Any:
    if not (isinstance(thing, Tensor) and thing.is_floating_point()):
        return thing
    half = thing.dtype in (torch.float16, torch.bfloat16)
    return thing.detach().to(torch.float32 if half else thing.dtype, copy=True).requires_grad_()


def _rows(outputs: Any, size: int, least: float) -> Any:
    """Return so many rows of outputs, each moved on by one, so that they do not fit their labels too well.

    They are shrunk to `least` to 1 of what they are, each row by another factor. So probabilities stay probabilities.
    """

    def rows(leaf: Any) -> Any:
        if not (isinstance(leaf, Tensor) and leaf.dim()):
            return leaf
        samples = leaf.detach()[(torch.arange(size, device=leaf.device) + 1) % len(leaf)]
        if not leaf.is_floating_point():
            return samples
        factors = torch.linspace(1, least, size, device=leaf.device, dtype=leaf.dtype)
        return samples * factors.view(-1, *[1] * (leaf.dim() - 1))

    return tree_map(rows, outputs)
