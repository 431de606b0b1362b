"""How Adam's state of grown connections starts: sharing their layer's step count, or with a step count of their own."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.rewiring.optimizer_state import Trial, chain, fresh_state
from sparsekit.rewiring.update import check_optimizer
from sparsekit.train.attach import has_rule
from sparsekit.utils.checks import check_integer

STEP_COUNTS = ("shared", "own", "ramp")
RAMP = 100  # steps, as SMET's
STILL = 1e-30  # stands for a learning rate of 0, by which this form of torch's update would divide
TOTAL = "steps"  # how often a layer's parameter was updated, beside the counts of its connections
_COUNTING: weakref.WeakSet[Optimizer] = weakref.WeakSet()


def own_step_counts(model: nn.Module, optimizer: Optimizer, *, ramp: int = 0) -> None:
    """Let an Adam or AdamW count the steps of each connection by itself, from the step at which it grew.

    Both moments of a grown connection start at zero. Adam corrects this bias by the number of steps, and counts those
    of the whole parameter: late in a training a newcomer's first update is 3.16 learning rates long, and its twelfth up
    to 6.55. With a count of its own it is one learning rate long, as a new weight's is. Neither is better everywhere.

    Call it once, before `attach`, and again when a training is resumed (before or after loading). The counts are saved
    in the optimizer's state.

    Args:
        model: a sparse model.
        optimizer: the one that trains it, not fused. Its state gets a step count for each weight of a sparse layer.
        ramp: steps over which a grown connection's updates rise to their full length, in equal parts. 0 means none.

    Raises:
        ValueError: if the optimizer does not correct by a step count that may differ from weight to weight, is fused,
            or already counts so, or if a rule is attached to it.
        TypeError: if the ramp is no integer.

    Source: SMET, Xiao et al. (2026), arXiv:2606.00888.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> from sparsekit.topology.selection import random_topology
        >>> model = sparsify(nn.Sequential(nn.Linear(8, 4)), random_topology({"0": (4, 8)}, 0.5))
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        >>> own_step_counts(model, optimizer, ramp=100)
    """
    layers = sparse_layers(model)
    _check(layers, optimizer, ramp)
    inner = chain(optimizer)[-1]
    trained = [layer for layer in layers.values() if layer.param.requires_grad]
    _check_counts(inner, trained[0].param)
    for group in inner.param_groups:
        group.update(_PER_WEIGHT)
    counts = _Counts(trained, inner, ramp)
    inner.register_step_pre_hook(counts.before_step)
    inner.register_step_post_hook(counts.after_step)
    _COUNTING.add(inner)


# In this form of torch's update the step count is a tensor. Gradients are not followed, because torch asks the
# optimizer's defaults for that, which stay as they are.
_PER_WEIGHT = {"differentiable": True, "foreach": False}


class _Counts:
    """Hooks around each step. Counts become one per weight, and the updates of new connections are shortened."""

    def __init__(self, layers: list[SparseLayer], optimizer: Optimizer, ramp: int):
        self.layers, self.optimizer, self.ramp = layers, optimizer, ramp
        self.before: dict[Tensor, Tensor] = {}
        self.still: list[tuple[dict[str, Any], Any]] = []

    def before_step(self, *_: Any) -> None:
        """Prepare what may just have been loaded, and record the weights."""
        self.still = [(group, group["lr"]) for group in self.optimizer.param_groups if group["lr"] == 0]
        for group in self.optimizer.param_groups:
            group.update(_PER_WEIGHT, lr=group["lr"] or STILL)
        for layer in self.layers:
            _spread(self.optimizer.state.get(layer.param, {}), layer.param)
        self.before = {layer.param: layer.param.detach().clone() for layer in self.layers} if self.ramp else {}

    def after_step(self, *_: Any) -> None:
        """Count, and take back a part of the updates of connections that have just grown."""
        for group, rate in self.still:
            group["lr"] = rate
        for param in {layer.param: None for layer in self.layers if layer.param.grad is not None}:  # each one once
            state = self.optimizer.state[param]
            _spread(state, param)
            state[TOTAL] = state.get(TOTAL, 0) + 1
            if (before := self.before.pop(param, None)) is not None:
                _shorten(param, before, state, self.ramp)


@torch.no_grad()
def _shorten(param: Tensor, before: Tensor, state: dict[str, Any], ramp: int) -> None:
    steps = state["step"]
    is_new = (steps < state[TOTAL]) & (steps < ramp)
    param.copy_(torch.where(is_new, before.lerp(param, (steps / ramp).to(param.dtype)), param))


def _spread(state: dict[str, Any], param: Tensor) -> None:
    """Make one step count for each weight of that of a parameter."""
    if "step" in state:
        steps = state["step"].to(param.device)
        state["step"] = steps.expand(param.shape).clone() if steps.dim() == 0 else steps


def _check(layers: dict[str, SparseLayer], optimizer: Optimizer, ramp: int) -> None:
    check_integer("ramp", ramp, least=0)
    if not any(layer.param.requires_grad for layer in layers.values()):
        raise ValueError("own_step_counts needs a sparse layer that is trained, got none. Call sparsify on the model")
    check_optimizer(layers, optimizer)
    inner = chain(optimizer)[-1]
    if inner in _COUNTING:
        raise ValueError("an optimizer must be asked for own step counts once, got one that has them. Build it anew")
    if has_rule(inner):
        raise ValueError("own step counts must come before a rule, got an optimizer with one. Call it before attach")
    if any(group.get("fused") for group in inner.param_groups):
        raise ValueError("own step counts need an optimizer that is not fused, got a fused one. Leave out fused=True")


def _check_counts(optimizer: Optimizer, param: Tensor) -> None:
    """Try out whether each weight moves by its own count, a new one beside one that is twenty steps old."""
    kind = type(optimizer).__name__
    try:
        new, old, with_shared, with_own = (Trial(optimizer, param, **options) for options in ({}, {}, {}, _PER_WEIGHT))
        born = fresh_state(optimizer, param)
        expected = [_moved(new)[0], _last(old)[1]]
        by_own, by_shared = _last(with_own, born, param), _last(with_shared, born)
    except (RuntimeError, ValueError, AssertionError, KeyError) as error:
        raise ValueError(
            f"own step counts need an optimizer like Adam or AdamW, got {kind}, whose step count is one number for a "
            f"whole parameter ({error.__cause__ or error}). Use Adam or AdamW, or leave the count shared"
        ) from error
    if not _close(by_own, expected) or _close(by_shared, expected):
        raise ValueError(
            f"own step counts need an optimizer that corrects by its step count, as Adam and AdamW do, got {kind}. "
            "Leave the count shared, which is all the same there"
        )


def _last(trial: Trial, born: dict[str, Any] | None = None, param: Tensor | None = None) -> list[float]:
    """Return how the twenty-first step moves the two weights. The first may be born just before this step."""
    for _ in range(20):
        trial.step(1.0)
    if param is not None:
        _spread(trial.state, trial.weights)  # type: ignore[arg-type]
    if born is not None:
        trial.weights[0] = 0
        for key, value in trial.state.items():
            if isinstance(value, Tensor) and value.shape == trial.weights.shape:
                value[0] = born[key].flatten()[0]
    return _moved(trial)


def _moved(trial: Trial) -> list[float]:
    before = trial.weights.clone()
    trial.step(1.0)
    return (trial.weights - before).flatten().tolist()


def _close(first: list[float], second: list[float]) -> bool:
    return all(abs(a - b) <= 0.02 * abs(b) for a, b in zip(first, second, strict=True))
