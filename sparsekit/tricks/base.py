"""What tricks have in common: they help the training of a network whose topology is given, and leave no trace.

A trick is a frozen value. `apply` changes a network before its optimizer is built, `at` sets what changes with the
step, `loss` what is minimised. `begin`, `resume`, `set_step` and `loss_at` do the same for several tricks.
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
# A guess of ours between the 25 and 50 % in which the soft units of ToST may reasonably live; its code removes nothing.
DEFAULT_STOP_FRACTION = 0.4
_FUSED = "_was_fused"


@dataclass(frozen=True, kw_only=True)
class TrickContext:
    """What tricks may need to begin with, beside the network.

    Args:
        batches: training batches that can be walked through again, or without end.
        loss_fn: `(outputs, labels) -> mean loss` of the training.
        load: gives the trained network of a named run.
    """

    batches: Iterable[Batch] = ()
    loss_fn: LossFn = nn.functional.cross_entropy
    load: Callable[[str], nn.Module] | None = None


@dataclass(frozen=True, kw_only=True)
class Trick(ABC):
    """Something that helps a sparse network to train, whatever its topology and storage.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"trick"`, with `Source:` in their
    docstring.
    """

    changes: ClassVar[Literal["values", "network", "loss"]]

    def __post_init__(self):
        check_types(self)

    def lasting(self, steps: int) -> Self:
        """Return this trick with its open end, where it has one, set for a training of so many steps."""
        return self

    def apply(self, model: nn.Module, given: TrickContext | None = None) -> nn.Module:
        """Change the network in place and return it; called once, before the optimizer is built."""
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        """Make the network what it is to be at a step. What goes, goes from the optimizer as well."""
        return

    def loss(self, loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
        """Return what is minimised at a step in place of `loss_fn`."""
        return loss_fn


@dataclass(frozen=True, kw_only=True)
class TemporaryTrick(Trick, ABC):
    """A trick for part of the training.

    Raises:
        ValueError: if `stop` is below 1.
    """

    usual_stop: ClassVar[float] = DEFAULT_STOP_FRACTION
    stop: int | None = setting(
        None, "first step without it; none: a usual share of the training", range=(1, float("inf"))
    )

    def __post_init__(self):
        super().__post_init__()
        if self.stop is not None and self.stop < 1:
            raise ValueError(f"stop must be at least 1 step or None, got {self.stop}; leave the trick out instead")

    def lasting(self, steps: int) -> Self:
        return self if self.stop is not None else replace(self, stop=max(1, round(self.usual_stop * steps)))

    @property
    def end(self) -> int:
        """The first step without the trick.

        Raises:
            ValueError: if nobody said.
        """
        if self.stop is None:
            raise ValueError(f"{type(self).__name__} must know when it ends, got stop=None; use lasting(total_steps)")
        return self.stop


@dataclass(frozen=True, kw_only=True)
class Ghosts(TemporaryTrick, ABC):
    """Parts of a network that live for a while; afterwards the network is what it was, bit for bit."""

    changes = "network"

    def apply(self, model: nn.Module, given: TrickContext | None = None) -> nn.Module:
        if unfuse_relus(model):  # a ReLU whose work is done elsewhere can neither become soft nor be preceded
            vars(model)[_FUSED] = True
        try:
            self.put_in(model)
        except ValueError:
            _fuse_again(model)
            raise
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        if step < self.end:
            self.set_to(model, step)
        else:
            remove_params(optimizer, self.take_out(model))
            _fuse_again(model)

    @abstractmethod
    def put_in(self, model: nn.Module) -> None:
        """Add the ghosts."""

    @abstractmethod
    def set_to(self, model: nn.Module, step: int) -> None:
        """Give the ghosts the strength they have at a step."""

    @abstractmethod
    def take_out(self, model: nn.Module) -> list[nn.Parameter]:
        """Remove the ghosts, if they are there, and return the parameters that went with them."""


def make_trick(name: str, **settings: Any) -> Trick:
    """Return a named trick.

    Raises:
        ValueError: if there is no such trick; the message lists the known ones.
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
            known = ", ".join(names("trick"))
            raise TypeError(f"a trick must be a Trick, got {trick!r}; use tricks.make_trick for one of {known}")


def begin(model: nn.Module, tricks: Iterable[Trick], given: TrickContext | None = None) -> nn.Module:
    """Apply tricks before the first step: those that change values, then those that change the network, then others.

    Args:
        model: sparse or plain; it is changed in place. Build the optimizer from what comes back.
        tricks: in any order.
        given: what they may look at.

    Example:
        >>> from sparsekit.tricks import GhostNeurons
        >>> model = begin(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), [GhostNeurons(stop=10)])
        >>> type(model[1]).__name__
        'SoftReLU'
    """
    order = ["values", "network", "loss"]
    for trick in sorted(tricks, key=lambda trick: order.index(trick.changes)):
        model = trick.apply(model, given)
    return model


def resume(model: nn.Module, tricks: Iterable[Trick], step: int, given: TrickContext | None = None) -> nn.Module:
    """Make a network such as a training had it at a step, for a checkpoint to be loaded; values are not touched."""
    tricks = [trick for trick in tricks if trick.changes != "values"]
    model = begin(model, tricks, given)
    set_step(model, tricks, step)
    return model


def set_step(model: nn.Module, tricks: Iterable[Trick], step: int, optimizer: Optimizer | None = None) -> None:
    """Make the network what it is to be at a step; call it before the first step, and after each for the next one."""
    for trick in tricks:
        trick.at(model, step, optimizer)


def loss_at(tricks: Iterable[Trick], loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
    """Return what is minimised at a step."""
    return reduce(lambda inner, trick: trick.loss(inner, model, step), tricks, loss_fn)


def ghosts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model that a ghost has changed, by name; none in a plain network."""
    return {name: module for name, module in model.named_modules() if GHOST in vars(module)}


def remove_params(optimizer: Optimizer | None, gone: Sequence[nn.Parameter]) -> None:
    """Let an optimizer forget parameters, as if it had been built without them."""
    if optimizer is None or not gone:
        return
    ids = {id(parameter) for parameter in gone}
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ids]
    for parameter in gone:
        optimizer.state.pop(parameter, None)


def _fuse_again(model: nn.Module) -> None:
    if _FUSED in vars(model) and not ghosts_of(model):
        del vars(model)[_FUSED]
        fuse_relus(model)
