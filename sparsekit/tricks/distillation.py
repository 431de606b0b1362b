"""Distillation: a trained network, usually dense, says what it thinks of each example, and the sparse one listens."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.optim import Optimizer

from sparsekit.evaluation.adaptor import size_of
from sparsekit.evaluation.losses import LossFn, Scaled, Sum
from sparsekit.schedules import Constant, Schedule
from sparsekit.tricks.base import TemporaryTrick, TrickContext
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

TEACHER = "_teacher"  # where a network that is taught keeps its teacher


@register("trick", "distillation")
@dataclass(frozen=True, kw_only=True)
class Distillation(TemporaryTrick):
    """The loss listens to a trained network too: `(1 - share) * loss + share * T^2 * KL(teacher || network)`.

    Both sets of outputs are divided by the temperature T before the softmax. The teacher sees the inputs that the
    network has just seen. It is the run of that name in the same folder, which must be trained; in a loop of your own,
    what `TrickContext.load` gives for the name.

    Raises:
        ValueError: if the temperature is not above zero.
        TypeError: if the share is no schedule.

    Source: Hinton et al. (2015), arXiv:1503.02531, section 2. The earlier version of ToST, arXiv:2101.03255, distils
        from the dense network according to its abstract; its settings could not be consulted, share and temperature
        are ours.
    """

    changes = "loss"
    usual_stop = 1.0
    teacher: str = setting("", "folder name of the trained run that teaches")
    share: Schedule = setting(Constant(0.5), "of the loss that comes from the teacher, until stop", range=(0, 1))
    temperature: float = setting(4.0, "what outputs are divided by", range=(1, 20))

    def __post_init__(self):
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}; 1 leaves the outputs as they are")
        if not isinstance(self.share, Schedule):
            raise TypeError(f"share must be a Schedule, got {self.share!r}; Constant(...) keeps a number")

    def apply(self, model: nn.Module, given: TrickContext | None = None) -> nn.Module:
        """Give the network its teacher, who looks on from then on.

        Raises:
            ValueError: if there is no name, or nobody who knows it.
        """
        if not self.teacher:
            raise ValueError("distillation needs a teacher, got no name; give teacher='folder name of a trained run'")
        if given is None or given.load is None:
            raise ValueError(f"the teacher {self.teacher!r} must be loaded, got no way to; give Given(load=...)")
        vars(model)[TEACHER] = _Teacher(given.load(self.teacher), model)
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        if step >= self.end and TEACHER in vars(model):
            vars(model).pop(TEACHER).leave()

    def loss(self, loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
        """Return the mixed loss.

        Raises:
            ValueError: if the network has no teacher.
        """
        if step >= self.end or not (share := self.share.lasting(self.end)(step)):
            return loss_fn
        if TEACHER not in vars(model):
            raise ValueError(f"distillation must be applied before step {step}, got a network without teacher")
        teacher, warmth = vars(model)[TEACHER], self.temperature

        def distance(outputs: Tensor, _labels: Tensor) -> Tensor:
            told = log_softmax(teacher.outputs() / warmth, 1)
            return kl_div(log_softmax(outputs / warmth, 1), told, reduction="batchmean", log_target=True)

        distance.batch_weight = size_of  # type: ignore[attr-defined]  # a teacher has an opinion on every sample
        return Sum((Scaled(loss_fn, 1 - share), Scaled(distance, share * warmth**2)))


class _Teacher:
    """A trained network that sees what another one was shown last; no part of that one's state."""

    def __init__(self, network: nn.Module, pupil: nn.Module):
        self.network = network.eval().requires_grad_(False)
        self.inputs: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self.handle = pupil.register_forward_pre_hook(self.look, with_kwargs=True)

    def look(self, _pupil: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.inputs = inputs, named

    @torch.no_grad()
    def outputs(self) -> Tensor:
        inputs, named = self.inputs
        if isinstance(outputs := self.network(*inputs, **named), Tensor):
            return outputs
        raise TypeError(
            f"a teacher must return class scores, got {type(outputs).__name__}; let its forward return the logits alone"
        )

    def leave(self) -> None:
        self.handle.remove()

    def __deepcopy__(self, _memo: dict) -> "_Teacher":
        return self  # copies of the pupil are measured, not taught
