"""Distillation lets a sparse network learn from the outputs of a trained one, which is usually dense."""

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

TEACHER = "_teacher"  # the attribute in which a student keeps its teacher


@register("trick", "distillation")
@dataclass(frozen=True, kw_only=True)
class Distillation(TemporaryTrick):
    """A part of the loss comes from a trained network: `(1 - share) * loss + share * T^2 * KL(teacher || network)`.

    Both sets of outputs are divided by the temperature T before the softmax. The teacher gets the inputs
    that the network has just had. It is the run of that name in the same folder, which must be trained. In a loop of
    your own it is what `TrickContext.load` returns for the name.

    Raises:
        ValueError: if the temperature is not above zero.
        TypeError: if the share is no schedule.

    Source: Hinton et al. (2015), arXiv:1503.02531, section 2. The earlier version of ToST, arXiv:2101.03255, distils
        from the dense network according to its abstract. Its settings could not be consulted, so share and temperature
        are ours.
    """

    changes = "loss"
    default_stop_fraction = 1.0
    teacher: str = setting("", "folder name of the trained run that teaches")
    share: Schedule = setting(Constant(0.5), "of the loss that comes from the teacher, until stop", range=(0, 1))
    temperature: float = setting(4.0, "what outputs are divided by", range=(1, 20))

    def __post_init__(self):
        super().__post_init__()
        if self.temperature <= 0:
            raise ValueError(
                f"temperature must be above 0, got {self.temperature}. Choose 1 to leave outputs as they are"
            )
        if not isinstance(self.share, Schedule):
            raise TypeError(f"share must be a Schedule, got {self.share!r}. Use Constant(...) for a fixed number")

    def apply(self, model: nn.Module, context: TrickContext | None = None) -> nn.Module:
        """Give the network its teacher, which gets the same inputs from then on.

        Raises:
            ValueError: if there is no name, or no way to load its network.
        """
        if not self.teacher:
            raise ValueError("distillation needs a teacher, got no name. Give teacher='folder name of a trained run'")
        if context is None or context.load is None:
            raise ValueError(f"the teacher {self.teacher!r} must be loaded, got no way to. Give TrickContext(load=...)")
        vars(model)[TEACHER] = _Teacher(context.load(self.teacher), model)
        return model

    def at(self, model: nn.Module, step: int, optimizer: Optimizer | None = None) -> None:
        if step >= self.end and TEACHER in vars(model):
            vars(model).pop(TEACHER).leave()

    def loss(self, loss_fn: LossFn, model: nn.Module, step: int) -> LossFn:
        """Return the loss with the part of the teacher in it.

        Raises:
            ValueError: if the network has no teacher.
        """
        if step >= self.end or not (share := self.share.lasting(self.end)(step)):
            return loss_fn
        if TEACHER not in vars(model):
            raise ValueError(f"distillation must be applied before step {step}, got a network without teacher")
        teacher, temperature = vars(model)[TEACHER], self.temperature

        def distance(outputs: Tensor, _labels: Tensor) -> Tensor:
            target = log_softmax(teacher.outputs() / temperature, 1)
            return kl_div(log_softmax(outputs / temperature, 1), target, reduction="batchmean", log_target=True)

        distance.batch_weight = size_of  # type: ignore[attr-defined]  # a teacher rates every sample
        return Sum((Scaled(loss_fn, 1 - share), Scaled(distance, share * temperature**2)))


class _Teacher:
    """A trained network that gets the last inputs of its student. It is no part of the student's state."""

    def __init__(self, network: nn.Module, student: nn.Module):
        self.network = network.eval().requires_grad_(False)
        self.inputs: tuple[tuple[Any, ...], dict[str, Any]] = (), {}
        self.handle = student.register_forward_pre_hook(self.record, with_kwargs=True)

    def record(self, _student: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.inputs = inputs, keywords

    @torch.no_grad()
    def outputs(self) -> Tensor:
        inputs, keywords = self.inputs
        if isinstance(outputs := self.network(*inputs, **keywords), Tensor):
            return outputs
        raise TypeError(
            f"a teacher must return class scores, got {type(outputs).__name__}. Let its forward return the logits alone"
        )

    def leave(self) -> None:
        self.handle.remove()

    def __deepcopy__(self, _memo: dict) -> "_Teacher":
        return self  # copies of the student are measured, not taught
