"""A rule in a training loop of your own: one new line, by way of the optimizer's step hooks."""

import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.layers.transition import Transition
from sparsekit.rewiring.capture import LayerIO, capture_io
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.optimizer_state import StateTransition, chain
from sparsekit.rewiring.update import TopologyUpdate, check_optimizer, rewire
from sparsekit.rules.base import Rule, check_rule
from sparsekit.rules.initial import check_prepared
from sparsekit.topology import Topology
from sparsekit.train.rule_step import (
    add_gradient_penalty,
    grow_init_for,
    probe_batches,
    replaces_update,
    reset_optimizer,
    rule_views,
    update_state,
    updates_every_step,
    what_to_capture,
)
from sparsekit.train.unseen import UnseenUpdates, make_hooked
from sparsekit.utils.seeds import generator

STEP_KEY = "sparsekit_step"
_WITH_RULE: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def attach(model: nn.Module, optimizer: Optimizer, rule: Rule, *, seed: int = 0) -> "Attachment":
    """Let a rule rewire a model whenever the optimizer steps, in any loop.

    Mixed precision, gradient accumulation, closures, clipping, learning-rate schedulers, DDP and `torch.compile`
    (attach to the model, call the compiled one) keep working. The topology is saved in `model.state_dict()`, and the
    step count in `optimizer.state_dict()`. To resume, load both and attach again with the same seed.

    Args:
        model: a sparse model. Give its `DistributedDataParallel` wrapper where there is one.
        optimizer: the one that trains it. A step that the optimizer skips (infinite gradients under GradScaler)
            does not count. If it hands its work on to another (SAM, Lookahead, accelerate's), give the outer one. The
            rule acts when the inner one steps.
        rule: when and how the topology changes.
        seed: the same on every process.

    Returns:
        A handle with the step count, the journal, and `detach()`.

    Raises:
        TypeError: if the rule or the optimizer is something else.
        ValueError: if the model has no sparse layer, or a sharded one. The same goes for an optimizer that leaves out
            a layer that is not frozen, calls no hooks when it steps, or already has a rule, and for a rule that looks
            at several batches.
        RuntimeError: in a backward pass, if the weights have been updated without a step of this optimizer.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.rules import SET
        >>> from sparsekit.topology.selection import random_topology
        >>> model = sparsify(nn.Sequential(nn.Linear(8, 4)), random_topology({"0": (4, 8)}, 0.5))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> attached = attach(model, optimizer, SET(every=2, stop=10), seed=0)
        >>> for _ in range(4):
        ...     model(torch.ones(1, 8)).sum().backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> attached.step, attached.journal.steps
        (4, [0, 2])
    """
    return Attachment(model, optimizer, rule, seed)


def has_rule(optimizer: Optimizer) -> bool:
    """Whether a rule is attached to an optimizer."""
    return optimizer in _WITH_RULE


class Attachment:
    """The rule at work on an optimizer, as `attach` returns it.

    `rule` may be replaced at any time by another one, for example `replace(attached.rule, every=50)`.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, rule: Rule, seed: int):
        check_rule(rule)
        _check_one_batch(rule)
        _check_trains(model, optimizer)
        self.model, self.seed = model, seed
        self._optimizers = chain(optimizer)
        self.optimizer = self._optimizers[-1]  # the one that updates the weights
        make_hooked(self.optimizer)
        self._frame: FrameType | None = None  # of the step that is being taken
        self.journal = Journal(topology_of(model).to("cpu"))
        self._known: Topology | None = topology_of(model)
        self._capture: capture_io | None = None
        self._draws = generator(seed, "rewire", self.step)
        self._unseen = UnseenUpdates(model, self._optimizers)
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
            self.optimizer.register_load_state_dict_post_hook(self._after_load),
            *self._unseen.hooks,
        ]
        _WITH_RULE.add(self.optimizer)
        self.rule = rule

    @property
    def rule(self) -> Rule:
        """When and how the topology changes."""
        return self._rule

    @rule.setter
    def rule(self, rule: Rule) -> None:
        _check_one_batch(rule)
        check_prepared(rule, self.model)
        self._rule = rule
        self._prepare()

    @property
    def step(self) -> int:
        """Number of optimizer steps since training began. The optimizer's own state keeps it."""
        return self.optimizer.param_groups[0].get(STEP_KEY, 0)

    def detach(self) -> None:
        """Stop rewiring. The model stays as it is."""
        self._stop_capture()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        _WITH_RULE.discard(self.optimizer)

    def _before_step(self, _optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict) -> tuple[tuple, dict] | None:
        if _is_running(self._frame):  # an optimizer whose step calls that of its base class gets here twice
            return None
        self._frame = _caller()
        self._unseen.begin_step()
        self._follow()
        self._draws = generator(self.seed, "rewire", self.step)
        # torch hands over the call's own arguments: the optimizer, then perhaps a closure.
        closure = next(iter(args[1:]), kwargs.get("closure"))
        if closure is None:
            self._replace_update()
            return None
        return (args[0], self._with_rewiring(closure)), {}

    def _with_rewiring(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure that rewires as well, because the gradients exist only when the optimizer has called it."""

        def closure_then_rewire() -> Any:
            loss = closure()
            self._replace_update()
            return loss

        return closure_then_rewire

    def _replace_update(self) -> None:
        """Rewire before the update. Without gradients the optimizer then leaves every weight as it is."""
        add_gradient_penalty(self.model, self.optimizer, self.rule, self.step, self._draws)
        if self.rule.is_due(self.step) and replaces_update(self.rule) and not self._found_inf():
            self._rewire()
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _after_step(self, *_: Any) -> None:
        if _caller() is not self._frame:
            return
        self._frame = None
        self._unseen.end_step()
        if self._found_inf():
            return
        is_due = self.rule.is_due(self.step)
        if is_due and not replaces_update(self.rule):
            self._rewire()
        elif not is_due and updates_every_step(self.rule):
            views = rule_views(self.model, self.rule, self._stop_capture())
            update_state(self.model, self.rule, views, self.step, self._draws)
        self._stop_capture()
        self.optimizer.param_groups[0][STEP_KEY] = self.step + 1
        self._prepare()

    def _after_load(self, _optimizer: Optimizer) -> None:
        """Continue from the step that was loaded, as if attached after it."""
        self.journal = Journal(topology_of(self.model).to("cpu"))
        self._unseen.end_step()
        self._known = None  # the model's own state is loaded before or after this. Either belongs to what was loaded
        self._stop_capture()
        self._prepare()

    def _follow(self) -> None:
        """Adopt a topology that somebody else changed, by loading the best weights or by a `rewire` of their own."""
        before, self._known = self._known, topology_of(self.model)
        if before is None or before == self._known:
            return
        for name, layer in sparse_layers(self.model).items():
            transition = Transition(before[name], layer.topology)
            grown = layer.values()[transition.grown_at]
            StateTransition(layer, transition, self._optimizers[0], grown).apply()
        if self.journal.entries:
            self._record(TopologyUpdate.between(before, self._known))

    def _rewire(self) -> None:
        if not self.journal.entries:
            # The model's own state may have been loaded since.
            self.journal.initial = topology_of(self.model).to("cpu")
        views = rule_views(self.model, self.rule, self._stop_capture())
        new = self.rule.propose(views, self.step, self._draws)
        update = rewire(self.model, new, self._optimizers[0], grow_init_for(self.rule, views))
        reset_optimizer(self._optimizers[0], self.rule)
        update_state(self.model, self.rule, views, self.step, self._draws)
        self._record(update)
        self._known = topology_of(self.model)

    def _record(self, update: TopologyUpdate) -> None:
        """Add an update to the journal. Two updates at one step become one record."""
        if self.journal.entries and self.journal.entries[-1][0] == self.step:
            update = TopologyUpdate.between(self.journal[-2], update.apply(self.journal[-1]))
            self.journal.cut_at(self.step)
        self.journal.add(self.step, update)

    def _prepare(self) -> None:
        """Record the coming backward passes if the next step is a rewiring step that needs them."""
        if not what_to_capture(self.rule, self.step, ()):
            self._stop_capture()
        elif self._capture is None:
            self._capture = capture_io(self.model)
            self._capture.start()

    def _stop_capture(self) -> dict[str, LayerIO]:
        capture, self._capture = self._capture, None
        if capture is None:
            return {}
        capture.stop()
        return capture.io

    def _found_inf(self) -> bool:
        """Whether GradScaler told a fused optimizer, which it always calls, not to step."""
        flag = getattr(self.optimizer, "found_inf", None)
        return flag is not None and bool(torch.as_tensor(flag).any())


def _caller() -> FrameType | None:
    """Return the frame in which torch takes a step, from within a hook of that step."""
    return next((frame for frame in _frames() if frame.f_globals.get("__name__") == Optimizer.__module__), None)


def _is_running(frame: FrameType | None) -> bool:
    """Whether a call has not ended yet. One that failed has."""
    return any(running is frame for running in _frames())


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _check_one_batch(rule: Rule) -> None:
    if (count := probe_batches(rule)) > 1:
        raise ValueError(
            f"an attached rule can only see the batches of its step, got one that looks at {count}. Use "
            "replace(rule, probe_batches=1) and, to see more, accumulate gradients over several backward passes"
        )


def _check_trains(model: nn.Module, optimizer: Optimizer) -> None:
    layers = sparse_layers(model)
    if not layers:
        raise ValueError("attach needs a model with sparse layers, got none. Call sparsify on it first")
    check_optimizer(layers, optimizer)
    if has_rule(chain(optimizer)[-1]):
        raise ValueError(
            "an optimizer must have one rule at most, got one that already has a rule. "
            "Call detach() on what attach returned, or set its `rule`"
        )
