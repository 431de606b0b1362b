"""The loss of a whole as the sum of its parts' losses: micro-batches, or several batches that count as one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sparsekit.adaptor import join, size_of, split
from sparsekit.losses.known import LossFn, Scaled, Sum, batch_weight, floats, loss_of, unknown
from sparsekit.losses.labels import class_scores


def losses_of_parts(loss_fn: Any, labels: Sequence[Any], outputs: Callable[[], Any]) -> list[LossFn]:
    """Return a loss for each part, so that the sum of them over all parts is the loss of all parts together.

    Args:
        loss_fn: `(outputs, labels) -> mean loss`.
        labels: of each part.
        outputs: gives those of the first part, where nobody knows the loss.

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

    Where nobody knows the loss, its gradient by the outputs tells: in a weighted mean the gradient of the whole is,
    within each part, a multiple of the part's own. Where it is none, parts do not make a whole.

    Args:
        loss_fn: `(outputs, labels) -> mean loss`.
        labels: of each part.
        outputs: gives those of the first part, where nobody knows the loss.

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
    known = [weight for weight in weights if weight is not None]
    if len(known) < len(weights):
        return _found_shares(loss_fn, labels, outputs())
    total = sum(known)
    return [weight / total for weight in known] if total else [1.0] * len(known)  # 0 / 0, as the whole is


def _found_shares(loss_fn: Any, labels: Sequence[Any], outputs: Any) -> list[float]:
    """Shares of a loss that nobody knows; parts are given the outputs of the first, for only their labels matter."""
    sizes = [size_of(part) for part in labels]
    probes = [_rows(outputs, size) for size in sizes]
    try:
        wholes = split(_gradients(loss_fn, join(probes), join(labels)), sizes)
    except RuntimeError as error:
        raise unknown(loss_fn, "got an error when it was taken over all parts at once") from error
    found = []
    for probe, part, whole in zip(probes, labels, wholes, strict=True):
        flat = [torch.cat([leaf.double().flatten() for leaf in side]) for side in (whole, _gradients(loss_fn, probe, part))]
        found.append(_ratio(loss_fn, *flat, 1e-4 if any(leaf.dtype != torch.float64 for leaf in whole) else 1e-8))
    return found


def _ratio(loss_fn: Any, whole: Tensor, own: Tensor, tolerance: float) -> float:
    if not whole.isfinite().all():
        raise FloatingPointError(
            "the loss must have finite gradients, got inf or NaN; lower the learning rate, look at the inputs, and "
            "leave out batches in which no label counts"
        )
    if not whole.any() and not own.isfinite().all():  # 0 / 0: no label of this part counts
        return 0.0
    if not own.any():
        raise unknown(loss_fn, "got a part whose loss is flat, which tells nothing")
    share = float(whole @ own / (own @ own))
    if not (whole - share * own).norm() <= tolerance * whole.norm():
        raise unknown(loss_fn, "got one that is no weighted mean over samples")
    return share


def _gradients(loss_fn: Any, outputs: Any, labels: Any) -> list[Tensor]:
    """Gradients of the loss by the outputs; halves are widened, whose rounding would hide the ratio."""
    with torch.enable_grad():
        wide = tree_map(_leaf, outputs)
        leaves = floats(wide)
        return list(torch.autograd.grad(loss_of(loss_fn, wide, labels), leaves, materialize_grads=True))


def _leaf(thing: Any) -> Any:
    if not (isinstance(thing, Tensor) and thing.is_floating_point()):
        return thing
    half = thing.dtype in (torch.float16, torch.bfloat16)
    return thing.detach().to(torch.float32 if half else thing.dtype, copy=True).requires_grad_()


def _rows(outputs: Any, size: int) -> Any:
    """As many rows of outputs as asked for, each moved on by one, so that they do not fit their labels too well."""

    def rows(leaf: Any) -> Any:
        if not (isinstance(leaf, Tensor) and leaf.dim()):
            return leaf
        return leaf.detach()[(torch.arange(size, device=leaf.device) + 1) % len(leaf)]

    return tree_map(rows, outputs)
