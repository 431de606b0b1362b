"""Rules: when and how a topology changes. A rule is a frozen value; what it remembers is in its arguments."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.layers import sparse_layers
from sparsekit.layers.masked import ForwardMask, MaskedLayer
from sparsekit.rewiring.capture import LayerView
from sparsekit.rewiring.update import GrowInit, zeros
from sparsekit.rules.flops import Pass
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.checks import check_types

Notes = Mapping[str, Mapping[str, Tensor]]


class Rule(ABC):
    """When a topology changes, and into what.

    Most rules only say `is_due` and `propose`. A rule is a value and remembers nothing itself: what it must find again
    at a later step it returns from `remember`, and reads in `view.memory`, which is saved with the model.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"rule"`, with `Source:` in their
    docstring.

    Attributes:
        needs_gradients: whether it looks at the gradients of missing connections.
        replaces_step: whether a rewiring takes the place of the weight update.
        probe_batches: how many batches' gradients it looks at; 1: that of the step.
        watches: whether `remember` is called at every step, not on rewiring steps only.
        pulls: whether `pull` adds something to the gradients.
        needs_dense: why it cannot do with the existing connections alone; empty if it can.
        keeps_count: whether the number of connections stays as it is where no density is asked for.
        redraws: whether `begin` draws every place anew, wherever a score before training saw it.
    """

    needs_gradients: bool = False
    replaces_step: bool = False
    probe_batches: int = 1
    watches: ClassVar[bool] = False
    pulls: ClassVar[bool] = False
    needs_dense: ClassVar[str] = ""
    keeps_count: ClassVar[bool] = True
    redraws: ClassVar[bool] = False

    def __post_init__(self):
        check_types(self)

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step (0 is the first batch)."""

    @abstractmethod
    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return the topology after this rewiring. Pure: nothing is changed, the same input gives the same answer."""

    def initial_density(self, density: float) -> float:
        """Return the density to start with where `density` is the one that is wanted in the end."""
        return density

    def begin(self, topology: Topology, generator: torch.Generator) -> Topology:
        """Return the topology to start with in place of one drawn at random: some rules need a regular one."""
        return topology

    def prepare(self, model: nn.Module, *, plain: nn.Module | None = None, drawn: Topology | None = None) -> None:
        """Make a sparse model's layers fit for this rule, in place; call it before the optimizer is built.

        Args:
            model: sparse, as `sparsify` made it.
            plain: the model it was made of, for rules that need the weights outside of the topology as well.
            drawn: what was drawn before `begin`, for rules that begin with fewer connections than they may have.

        Raises:
            ValueError: if the rule needs what the layers' storage does not have.
        """
        layers = sparse_layers(model)
        forward_masks = self.forward_masks(Topology({name: layer.topology for name, layer in layers.items()}))
        for name, layer in layers.items():
            if isinstance(layer, MaskedLayer):
                layer.forward_mask = forward_masks.get(name)
        check_prepared(self, model)

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        """Return how layers are to use fewer connections than they train; those not named use all."""
        return {}

    def pull(self, view: LayerView, step: int, generator: torch.Generator, *, rate: float) -> Float[Tensor, " e"]:
        """Return what is added to the gradients of a layer's connections before the weight update.

        Args:
            view: the layer, after the backward pass.
            step: number of this batch.
            generator: what may be drawn from.
            rate: learning rate of this step.
        """
        raise NotImplementedError(f"{type(self).__name__} says that it pulls, and must say how")

    def remember(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Notes:
        """Return what to find in `view.memory` from now on, by layer and name. Pure; sees what `propose` sees."""
        return {}

    def grow_init(self, views: Mapping[str, LayerView]) -> GrowInit:
        """Return what gives grown connections their first values: `(layer name, positions) -> values`, or zeros."""
        return zeros

    def training_flops(self, cost: Pass) -> float:
        """Return the mean operations of one training step per sample; NaN for a rule that does not say."""
        return math.nan


def check_rule(rule: object) -> None:
    """Raise TypeError unless this is a rule."""
    if not isinstance(rule, Rule):
        is_name = isinstance(rule, str)
        hint = f"make_rule({rule!r}, total_steps=...) makes one" if is_name else "call it, as in RigL(stop=750)"
        raise TypeError(f"rule must be a Rule, got {rule if not is_name else repr(rule)}; {hint}")


def check_prepared(rule: Rule, model: nn.Module) -> None:
    """Raise ValueError unless a model's layers are what the rule needs: see `Rule.prepare`."""
    if not rule.needs_dense:
        return
    for name, layer in sparse_layers(model).items():
        if not isinstance(layer, MaskedLayer):
            raise ValueError(
                f"{type(rule).__name__} needs storage masked, got {layer.storage} for {name}: {rule.needs_dense}"
            )
        if layer.forward_mask is None and rule.forward_masks(Topology({name: layer.topology})):
            raise ValueError(
                f"{type(rule).__name__} needs layers that were prepared for it, got {name} as sparsify made it; call "
                "rule.prepare(sparse, plain=model) before the optimizer is built"
            )


class DropScore(ABC):
    """A number per existing connection; those with the lowest are dropped."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, view: LayerView, generator: torch.Generator) -> Float[Tensor, " e"]:
        """Return a score for each connection, in the order of `view.topology.indices`; higher means keep."""


class GrowScore(ABC):
    """A number per candidate; those with the highest are grown."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, view: LayerView, candidates: Int64[Tensor, " c"], generator: torch.Generator
    ) -> Float[Tensor, " c"]:
        """Return a score for each candidate position; higher means grow."""


class Candidates(ABC):
    """Which missing connections are considered for growth."""

    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Int64[Tensor, " c"]]:
        """Yield sorted positions outside `taken`, no position twice, in parts much smaller than the layer.

        Args:
            view: the layer.
            taken: places that cannot be grown.
            count: how many are to be grown here; where several layers compete for growth, a share of it in
                proportion to the missing places. Fewer candidates mean that fewer are exchanged.
        """

    def remember(self, view: LayerView) -> Mapping[str, Tensor]:
        """Return what to find in `view.memory` at the next rewiring."""
        return {}

    def step_flops(self, cost: Pass) -> float:
        """Return the operations of a step with the gradients of all candidates; NaN where nobody says."""
        return math.nan
