"""What is known of a loss: which of torch's it is, what its mean is divided by, and which labels it ignores."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten

from sparsekit.evaluation.adaptor import described
from sparsekit.utils.checks import shown

LossFn = Callable[[Any, Any], Tensor]
"""A loss, called with what the model returns and the targets, which gives a scalar."""

CLASSIFYING = {F.cross_entropy: nn.CrossEntropyLoss, F.nll_loss: nn.NLLLoss}
ELEMENTWISE = {  # means over all elements, where they are given no weights
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.huber_loss: nn.HuberLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
}
SETTINGS = ("weight", "pos_weight", "ignore_index", "reduction", "label_smoothing")


def torchs(loss_fn: Any) -> tuple[Callable | None, dict[str, Any]]:
    """Return which of torch's functions a loss is, or None if it is none of them, and its settings.

    Example:
        >>> torchs(partial(F.cross_entropy, ignore_index=255))[1]
        {'ignore_index': 255}
    """
    settings: dict[str, Any] = {}
    while isinstance(loss_fn, partial) and not loss_fn.args:
        settings, loss_fn = {**loss_fn.keywords, **settings}, loss_fn.func
    kind: Any = type(loss_fn)
    for function, module in {**CLASSIFYING, **ELEMENTWISE}.items():
        if isinstance(loss_fn, module) and kind.forward is module.forward:
            of_module = {name: getattr(loss_fn, name) for name in SETTINGS if hasattr(loss_fn, name)}
            return function, {**of_module, **settings}
        if loss_fn is function:
            old = any(settings.get(name) is not None for name in ("size_average", "reduce"))
            return (None if old else function), settings
    return None, {}


def ignore_index_of(loss_fn: Any) -> int | None:
    """Return the label that a loss ignores, as an attribute or a setting says, or torch's own default.

    Example:
        >>> ignore_index_of(nn.CrossEntropyLoss(ignore_index=0)), ignore_index_of(F.cross_entropy)
        (0, -100)
    """
    if isinstance(loss_fn, Sum):
        return next((index for term in loss_fn.terms if (index := ignore_index_of(term)) is not None), None)
    if isinstance(loss_fn, Scaled):
        return ignore_index_of(loss_fn.loss_fn)
    function, settings = torchs(loss_fn)
    if function in CLASSIFYING:
        return settings.get("ignore_index", -100)
    return _attribute(loss_fn, "ignore_index")


def batch_weight(loss_fn: Any, labels: Any) -> float | None:
    """Return what the mean loss of a batch was divided by, up to a factor, or None where nobody can know.

    Cross entropy divides by the weights of the labels that it does not ignore, with or without label smoothing. Where
    labels are probabilities, it divides by the number of samples.

    Example:
        >>> weighted = nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))
        >>> batch_weight(weighted, torch.tensor([0, 1, -100]))
        4.0
    """
    if (weigh := _attribute(loss_fn, "batch_weight")) is not None:
        return float(weigh(labels))
    function, settings = torchs(loss_fn)
    if function is None or settings.get("reduction", "mean") != "mean" or not isinstance(labels, Tensor):
        return None
    if function in CLASSIFYING:
        return _weight_of_classes(labels, settings.get("weight"), settings.get("ignore_index", -100))
    unweighted = settings.get("weight") is None and settings.get("pos_weight") is None
    return float(labels.numel()) if unweighted else None


def like(loss_fn: Any, other: Callable) -> Callable:
    """Return a loss made of another one, which weighs batches and ignores labels as that one does."""
    if torchs(loss_fn)[0] is not None or _attribute(loss_fn, "batch_weight") is not None:
        other.batch_weight = partial(batch_weight, loss_fn)  # type: ignore[attr-defined]
    other.ignore_index = ignore_index_of(loss_fn)  # type: ignore[attr-defined]
    return other


@dataclass(frozen=True)
class Scaled:
    """A loss times a factor, which may depend on the outputs. A factor of 0 leaves the loss out, whatever it is.

    Example:
        >>> float(Scaled(F.mse_loss, 0.5)(torch.ones(1), torch.zeros(1)))
        0.5
    """

    loss_fn: LossFn
    factor: float | Callable[[Any], float]

    def __call__(self, outputs: Any, labels: Any) -> Tensor:
        factor = self.factor(outputs) if callable(self.factor) else self.factor
        if factor:
            return factor * self.loss_fn(outputs, labels)
        if not floats(outputs):
            raise unknown(self.loss_fn, "got outputs in which no tensor was found")
        # The sum is over nothing, so that 0 / 0 of a part without labels, and infinite outputs, do not come through.
        return torch.stack([leaf.flatten()[:0].sum() for leaf in floats(outputs)]).sum()


@dataclass(frozen=True)
class Sum:
    """Several losses added, each of which may weigh a batch in its own way.

    Example:
        >>> float(Sum((F.mse_loss, F.l1_loss))(torch.ones(1) * 3, torch.zeros(1)))
        12.0
    """

    terms: tuple[LossFn, ...]

    def __call__(self, outputs: Any, labels: Any) -> Tensor:
        return torch.stack([term(outputs, labels) for term in self.terms]).sum()


def loss_of(loss_fn: LossFn, outputs: Any, labels: Any) -> Tensor:
    """Return the loss of a batch.

    Raises:
        TypeError: if the loss is no function, or the outputs are not of the form that it takes.
        ValueError: if a label is no class, or the loss is not a single number.
    """
    if not callable(loss_fn) or isinstance(loss_fn, type):
        raise TypeError(
            f"a loss must be a function of outputs and labels, got {shown(loss_fn)}. Give torch.nn.CrossEntropyLoss()"
        )
    try:
        loss = loss_fn(outputs, labels)
    except IndexError as error:  # what torch raises for a class that does not exist
        if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor) and outputs.dim() > 1):
            raise
        raise ValueError(
            f"labels must lie in [0, {outputs.shape[1]}), one per output, got {int(labels.min())} to "
            f"{int(labels.max())}. Renumber them or give the model more outputs"
        ) from error
    except (TypeError, AttributeError) as error:
        if isinstance(outputs, Tensor):
            raise
        raise TypeError(
            f"the loss must understand the model's outputs, got {described(outputs)}. Give "
            "adaptor=Adaptor(outputs=lambda outputs: ...) that takes the logits out"
        ) from error
    if isinstance(loss, int | float):
        return torch.tensor(float(loss))
    if not (isinstance(loss, Tensor) and loss.numel() == 1):
        raise ValueError(f"a loss must be a single number, got {described(loss)}. Use reduction='mean'")
    return loss


def _attribute(loss_fn: Any, name: str) -> Any:
    """Return what a loss says about itself. A partial says what its keywords say, or else what its function says."""
    while loss_fn is not None and getattr(loss_fn, name, None) is None:
        if isinstance(loss_fn, partial) and name in loss_fn.keywords:
            return loss_fn.keywords[name]
        loss_fn = loss_fn.func if isinstance(loss_fn, partial) else None
    return getattr(loss_fn, name, None)


def _weight_of_classes(labels: Tensor, weight: Tensor | None, ignored: int) -> float:
    if labels.is_floating_point():  # for probabilities torch divides by the samples, whatever the classes weigh
        return labels.numel() / labels.shape[1] if labels.dim() > 1 and labels.numel() else float(labels.numel())
    classes = labels.long()  # because -100 is no number of a byte
    counts = classes != ignored
    if weight is None:
        return float(counts.sum())
    # A label that is no class raises an error where the loss is computed.
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    return float(wide[classes[counts].clamp(0, len(weight) - 1)].sum())


def floats(tree: Any) -> list[Tensor]:
    """Return the floating-point tensors among outputs."""
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def unknown(loss_fn: Any, got: str) -> ValueError:
    """Return the error about a loss whose batches cannot be put together."""
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return ValueError(
        f"the loss {name} must say what a batch weighs, {got}. Set {name}.batch_weight, a function of the labels (len "
        "for a mean over samples), or use torch's own loss (functools.partial gives it settings)"
    )
