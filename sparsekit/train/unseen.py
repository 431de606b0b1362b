"""Updates of the weights that no hook of the attached optimizer sees: a rule must not stay unasked in silence."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.masked import MaskedLayer

SAMPLE = 4096  # connections whose values tell whether a layer was updated


def make_hooked(optimizer: Optimizer) -> None:
    """Let every step of an optimizer call its hooks, also a step that a method of its own takes by `super().step()`.

    Raises:
        ValueError: if it can call no hooks.
    """
    if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise ValueError(
            f"the optimizer's step must call hooks, got {type(optimizer).__name__}, which never called the constructor "
            "of torch.optim.Optimizer. Call super().__init__(params, defaults) in its own, or call rewire in your loop"
        )
    # What torch does to the class of each optimizer that is made. A base class may not have had its turn.
    for cls in type(optimizer).__mro__:
        step: Any = vars(cls).get("step")
        if step is not None and cls is not Optimizer and not getattr(step, "hooked", False):
            cls.step = Optimizer.profile_hook_step(step)  # type: ignore[attr-defined]
            cls.step.hooked = True  # type: ignore[attr-defined]


class UnseenUpdates:
    """Watches one sparse layer for updates between two backward passes that no step of the optimizer made.

    One such update may be a perturbation that is taken back before the step, as SAM's is, or a loaded state. Another
    optimizer's step, or a second one in a row, is an error.

    Args:
        model: a sparse model.
        optimizers: the attached one, and those that it hands its work on to.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]):
        self._name, self._layer = _first_trained(sparse_layers(model))
        self._kind, self._known = type(optimizers[-1]).__name__, [id(one) for one in optimizers]
        self._foreign: str | None = None
        self._seen: Tensor | None = None  # the weights at the last backward pass since a step
        self._count = 0
        self._is_inside = False  # a step, where a closure may look at several weights
        self.hooks = self._register() if self._layer.param.requires_grad else []

    def _register(self) -> list[RemovableHandle]:
        weak = weakref.ref(self)  # hooks of torch and of the parameter must keep nothing alive
        hooks = [
            self._layer.param.register_post_accumulate_grad_hook(lambda _: (me := weak()) and me._after_backward()),
            register_optimizer_step_post_hook(lambda optimizer, *_: (me := weak()) and me._after_any_step(optimizer)),
        ]
        for hook in hooks:
            weakref.finalize(self, hook.remove)
        return hooks

    def begin_step(self) -> None:
        """Look away while the optimizer steps."""
        self._is_inside = True

    def end_step(self) -> None:
        """Begin anew: the optimizer has stepped."""
        self._is_inside, self._foreign, self._seen, self._count = False, None, None, 0

    def _after_any_step(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._known and self._seen is not None:
            trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
            if any(parameter is self._layer.param for parameter in trained):
                self._foreign = type(optimizer).__name__

    def _after_backward(self) -> None:
        if self._is_inside:
            return
        before, self._seen = self._seen, _some_weights(self._layer)
        if before is None or torch.equal(before, self._seen):
            return
        self._count += 1
        if self._foreign or self._count > 1:
            raise RuntimeError(
                f"the weights must be updated by {self._kind}, the optimizer that the rule is attached to, got updates "
                f"of {self._name} by {self._foreign or 'something else'} and no step of it, so that the gradients of "
                "the backward passes before were used for no rewiring. Attach the rule to the optimizer whose step is "
                "called, or call detach() on what attach returned"
            )


def _first_trained(layers: dict[str, SparseLayer]) -> tuple[str, SparseLayer]:
    # The gradient of the first layer comes last, when waiting for it delays nothing.
    return next(((name, x) for name, x in layers.items() if x.param.requires_grad), next(iter(layers.items())))


def _some_weights(layer: SparseLayer) -> Tensor:
    step = max(1, layer.topology.count // SAMPLE)
    if isinstance(layer, MaskedLayer):
        return layer.entries(layer.param.detach(), layer.indices[::step])
    return layer.param.detach().flatten()[::step].clone()
