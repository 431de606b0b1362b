"""Tricks help the training of a network, whatever its topology, and leave no trace in it.

A trick is a frozen value. `apply` changes a network before its optimizer is built, `at` sets what changes with the
step, and `loss` says what is minimised. `begin`, `resume`, `set_step` and `loss_at` do the same for several tricks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from sparsekit.evaluation.losses import LossFn
from sparsekit.layers import fuse_relus, unfuse_relus
from sparsekit.layers.base import GHOST
from sparsekit.utils.checks import check_types
from sparsekit.utils.registry import get, names
from sparsekit.utils.settings import setting

Batch = tuple[Tensor, Tensor] | list[Tensor]
# This is our guess: the soft units of ToST may reasonably live for 25 to 50 %. Its code removes nothing.
DEFAULT_STOP_FRACTION = 0.4
_FUSED = "_was_fused"


@dataclass(frozen=True, kw_only=True)
class TrickContext:
    """What tricks may need before the first step, beside the network.

    Args:
        batches: training batches, which can be iterated over again or never end.
        loss_fn: `(outputs, labels) -> mean loss` of the training.
        load: returns the trained network of a named run.
    """

    batches: Iterable[Batch] = ()
    loss_fn: LossFn = nn.functional.cross_entropy
    load: Callable[[str], nn.Module] | None = None


@dataclass(frozen=True, kw_only=True)
class Trick(ABC):
    """A trick helps a sparse network to train, whatever its topology and storage.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"trick"`, with `Source:` in their
    docstring.
    """

    changes: ClassVar[Literal["values", "network", "loss"]]

    def __post_init__(self):
        check_types(self)

    def lasting(self, steps: int) -> Self:
        """Return this trick with its open end, if it has one, set for a training of so many steps."""
        return self

    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        """Change the network in place and return it. Call this once, before you build the optimizer."""
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        """Bring the network into its state at a step. Parameters that end there leave the optimizer as well."""
        return

    def loss(self, loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
        """Return the loss that is minimised at a step in place of `loss_fn`."""
        return loss_fn


@dataclass(frozen=True, kw_only=True)
class TemporaryTrick(Trick, ABC):
    """A temporary trick acts for a part of the training.

    Raises:
        ValueError: if `stop` is below 1.
    """

    default_stop_fraction: ClassVar[float] = DEFAULT_STOP_FRACTION
    stop: int | None = setting(
        None, "first step without it, or none for the default share of the training", range=(1, float("inf"))
    )

    def __post_init__(self):
        super().__post_init__()
        if self.stop is not None and self.stop < 1:
            raise ValueError(f"stop must be at least 1 step or None, got {self.stop}. Leave the trick out instead")

    def lasting(self, steps: int) -> Self:
        return self if self.stop is not None else replace(self, stop=max(1, round(self.default_stop_fraction * steps)))

    @property
    def end(self) -> int:
        """The first step without the trick.

        Raises:
            ValueError: if it is still open.
        """
        if self.stop is None:
            raise ValueError(f"{type(self).__name__} must know when it ends, got stop=None. Use lasting(total_steps)")
        return self.stop


@dataclass(frozen=True, kw_only=True)
class GhostTrick(TemporaryTrick, ABC):
    """A trick whose parts of the network live for a while. Afterwards the network is what it was, bit for bit."""

    changes = "network"

    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        if unfuse_relus(model):  # a ReLU that is computed elsewhere can neither become soft nor follow a skip
            vars(model)[_FUSED] = True
        try:
            self.insert(model)
        except ValueError:
            _fuse_again(model)
            raise
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        if step < self.end:
            self.set_strength(model, step)
        else:
            remove_params(optimizer, self.remove(model))
            _fuse_again(model)

    @abstractmethod
    def insert(self, model: nn.Module) -> None:
        """Add the ghosts."""

    @abstractmethod
    def set_strength(self, model: nn.Module, step: int) -> None:
        """Give the ghosts the strength they have at a step."""

    @abstractmethod
    def remove(self, model: nn.Module) -> list[nn.Parameter]:
        """Remove the ghosts, if they are there, and return their parameters."""


def make_trick(name: str, **settings: Any) -> Trick:
    """Return a named trick.

    Raises:
        ValueError: if there is no such trick. The message lists the available ones.
        TypeError: if it has no such setting.

    Example:
        >>> make_trick("ghost-neurons", stop=100).stop
        100
    """
    return get("trick", name)(**settings)


def check_tricks(tricks: Iterable[Any]) -> None:
    """Raise TypeError unless these are tricks."""
    for trick in tricks:
        if not isinstance(trick, Trick):
            available = ", ".join(names("trick"))
            raise TypeError(f"a trick must be a Trick, got {trick!r}. Use tricks.make_trick for one of {available}")


def begin(model: nn.Module, tricks: Iterable[Trick], context: TrickContext | None = None) -> nn.Module:
    """Apply tricks before the first step: those that change values, then those that change the network, then others.

    Args:
        model: sparse or plain. It is changed in place, so build the optimizer from the model that is returned.
        tricks: in any order.
        context: what they may look at.

    Example:
        >>> from sparsekit.tricks import GhostNeurons
        >>> model = begin(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), [GhostNeurons(stop=10)])
        >>> type(model[1]).__name__
        'SoftReLU'
    """
    order = ["values", "network", "loss"]
    for trick in sorted(tricks, key=lambda trick: order.index(trick.changes)):
        model = trick.apply(model, context)
    return model


def resume(model: nn.Module, tricks: Iterable[Trick], step: int, context: TrickContext | None = None) -> nn.Module:
    """Bring a network into its form at a step, so that you can load a checkpoint. Values are not touched."""
    tricks = [trick for trick in tricks if trick.changes != "values"]
    model = begin(model, tricks, context)
    set_step(model, tricks, step)
    return model


def set_step(model: nn.Module, tricks: Iterable[Trick], step: int, optimizer: Optimizer | None = None) -> None:
    """Bring the network into its state at a step. Call this before the first step, and after each for the next one."""
    for trick in tricks:
        trick.at(model, step, optimizer)


def loss_at(tricks: Iterable[Trick], loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
    """Return the loss that is minimised at a step."""
    return reduce(lambda inner, trick: trick.loss(inner, model, step), tricks, loss_fn)


def ghosts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model that a ghost has changed, by name. A plain network has none."""
    return {name: module for name, module in model.named_modules() if GHOST in vars(module)}


def remove_params(optimizer: Optimizer | None, removed: Sequence[nn.Parameter]) -> None:
    """Remove parameters from an optimizer, as if it had been built without them."""
    if optimizer is None or not removed:
        return
    ids = {id(parameter) for parameter in removed}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ids]
    for parameter in removed:
        optimizer.state.pop(parameter, None)


def _fuse_again(model: nn.Module) -> None:
    if _FUSED in vars(model) and not ghosts_of(model):
        del vars(model)[_FUSED]
        fuse_relus(model)
