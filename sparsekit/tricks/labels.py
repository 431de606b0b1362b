"""Label smoothing gives part of the target to the other classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sparsekit.evaluation.losses import LossFn, Scaled, Sum, ignore_index_of, like, torchs
from sparsekit.schedules import Constant, Schedule
from sparsekit.tricks.base import TemporaryTrick
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

CONVENTIONS = ("others", "all")


def spread_of(amount: float, num_classes: int, convention: str = "others") -> float:
    """Return the share of the target that is spread over all classes alike: torch's `label_smoothing`.

    Args:
        amount: share that is taken from the target, 0 to 1.
        num_classes: at least 2.
        convention: `"others"` takes the amount from the true class and shares it among the others, so the true class
            keeps `1 - amount`. `"all"` shares it among all classes, the true one included.

    Raises:
        ValueError: if there is no such convention, or only one class.

    Example:
        >>> [round(spread_of(0.1, classes), 6) for classes in (10, 100)]
        [0.111111, 0.10101]
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if num_classes < 2:
        raise ValueError(f"there must be at least two classes to share among, got {num_classes}")
    return amount * num_classes / (num_classes - 1) if convention == "others" else amount


@register("trick", "label-smoothing")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(TemporaryTrick):
    """Part of the target goes to the other classes, so that no output needs to grow without end.

    The loss is `(1 - e) * loss + e * u`, with u the mean over all classes of the negative log-probability and e from
    `spread_of`. For cross-entropy that is torch's `label_smoothing=e`. Which of the two conventions a paper means
    matters little at many classes. The released code of ToST takes 0.1 from the true class for all epochs.

    Raises:
        ValueError: if the convention is unknown.
        TypeError: if the amount is no schedule.

    Source: ToST, Jaiswal et al. (2022), ICML, as in the released code. Szegedy et al. (2016), arXiv:1512.00567, have
        the other convention. A schedule is our addition.
    """

    changes = "loss"
    default_stop_fraction = 1.0  # the released code smooths for all epochs
    amount: Schedule = setting(Constant(0.1), "what is taken from the target, until stop", range=(0, 1))
    convention: Literal["others", "all"] = setting("others", "who gets it: the other classes, or all of them")

    def __post_init__(self):
        super().__post_init__()
        spread_of(0.0, 2, self.convention)
        if not isinstance(self.amount, Schedule):
            raise TypeError(f"amount must be a Schedule, got {self.amount!r}. Use Constant(...) for a fixed number")

    def amount_at(self, step: int) -> float:
        """Return what is taken at a step, which is nothing from `stop` on.

        Raises:
            ValueError: if the schedule leaves [0, 1].
        """
        amount = self.amount.lasting(self.end)(step) if step < self.end else 0.0
        if not 0 <= amount <= 1:
            raise ValueError(f"the amount must lie in [0, 1], got {amount} at step {step}")
        return amount

    def loss(self, loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
        if not (amount := self.amount_at(step)):
            return loss_fn

        def spread(outputs: Tensor) -> float:
            return spread_of(amount, outputs.shape[1], self.convention)

        if torchs(loss_fn)[0] is nn.functional.cross_entropy:
            return _smoother_cross_entropy(loss_fn, spread)
        return Sum((Scaled(loss_fn, lambda outputs: 1 - spread(outputs)), Scaled(_surprise(loss_fn), spread)))


def _smoother_cross_entropy(loss_fn: LossFn, spread: Callable[[Tensor], float]) -> LossFn:
    """Return cross entropy with more label smoothing. Class weights and ignored labels count as in torch."""
    settings = torchs(loss_fn)[1]

    def smoothed(outputs: Tensor, labels: Tensor) -> Tensor:
        true_share = (1 - settings.get("label_smoothing", 0.0)) * (1 - spread(outputs))
        return nn.functional.cross_entropy(outputs, labels, **{**settings, "label_smoothing": 1 - true_share})

    return like(loss_fn, smoothed)


def _surprise(loss_fn: LossFn) -> LossFn:
    """Return the mean negative log-probability of all classes, over the samples whose labels count."""
    ignored = ignore_index_of(loss_fn)

    def counts(labels: Tensor) -> Tensor:
        return (labels.long() >= 0) & (labels.long() != ignored) if ignored is not None else labels.long() >= 0

    def surprise(outputs: Tensor, labels: Tensor) -> Tensor:
        each = -torch.log_softmax(outputs, 1).mean(1)
        if labels.is_floating_point() or labels.shape != each.shape:
            return each.mean()
        if bool((labels[counts(labels)] >= outputs.shape[1]).any()):
            raise ValueError(
                f"label smoothing must know which labels do not count, got {int(labels.max())} with {outputs.shape[1]} "
                "classes. Give cross_entropy itself (functools.partial gives it settings), or set loss_fn.ignore_index"
            )
        return each[counts(labels)].mean()

    def weight(labels: Tensor) -> float:
        return float(len(labels) if labels.is_floating_point() else counts(labels).sum())

    surprise.batch_weight = weight  # type: ignore[attr-defined]
    return surprise
