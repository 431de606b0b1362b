"""What a rule may have beside `is_due` and `propose`: optional parts, each a small protocol. Most rules have none.

A rule has a part by defining all of its members, and no base class lists them. Training asks for each part in one
place: `initial.py` asks before the first step, and `train/rule_step.py` asks at a step.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Protocol, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView
from sparsekit.rewiring.update import GrowInit
from sparsekit.topology import Topology
from sparsekit.utils.checks import must_be

State = Mapping[str, Mapping[str, Tensor]]  # by layer and name

P = TypeVar("P")


class HasState(Protocol):
    """A rule that uses what happened before. Its state is kept in the layers as buffers, so it is saved with the model.

    `view.state` shows a layer's state. At the first step it is what `init_state` gives.

    Attributes:
        every_step: whether the state is updated at every step, and not on rewiring steps only.
    """

    every_step: bool

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        """Return the state of layers that have none yet."""
        ...

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        """Return the new state. Pure: it sees what `propose` sees, and is asked after it."""
        ...


class HasCandidateState(Protocol):
    """Candidates that use what happened before. They are asked for the state of one layer at a time."""

    def init_state(self, view: LayerView) -> Mapping[str, Tensor]:
        """Return the state of a layer that has none yet."""
        ...

    def update_state(self, view: LayerView) -> Mapping[str, Tensor]:
        """Return the new state of a layer."""
        ...


class HasGradientPenalty(Protocol):
    """A rule that adds something to the gradients, such as weight decay of its own, or noise."""

    def gradient_penalty(
        self, view: LayerView, step: int, generator: torch.Generator, *, rate: float
    ) -> Float[Tensor, " e"]:
        """Return what is added to the gradients of a layer's connections before the weight update.

        Args:
            view: the layer, after the backward pass.
            step: number of this batch.
            generator: the source of random numbers.
            rate: learning rate of this step.
        """
        ...


class HasGrowInit(Protocol):
    """A rule whose grown connections do not start at zero."""

    def grow_init(self, views: Mapping[str, LayerView]) -> GrowInit:
        """Return what gives grown connections their initial values: `(layer name, positions) -> values`."""
        ...


class HasForwardMasks(Protocol):
    """A rule whose layers use fewer connections in the forward pass than they train."""

    def forward_masks(self, topology: Topology) -> Mapping[str, ForwardMask]:
        """Return how layers choose what they use. Those not named use everything."""
        ...


class HasInitialDensity(Protocol):
    """A rule that starts with another density than that of the end."""

    def initial_density(self, density: float) -> float:
        """Return the density to start with, where `density` is the target in the end."""
        ...


class HasInitialTopology(Protocol):
    """A rule that needs a regular topology to start with, and so samples every position anew."""

    def initial_topology(self, topology: Topology, generator: torch.Generator) -> Topology:
        """Return the topology to start with, in place of a random one with as many connections in each layer."""
        ...


class PreparesLayers(Protocol):
    """A rule that must record something in the layers before the optimizer is built."""

    def prepare_layers(self, model: nn.Module, plain: nn.Module | None, sampled: Topology) -> State:
        """Return the state of the layers at the start.

        Args:
            model: sparse.
            plain: the model that it was made of, for rules that need the weights outside of the topology as well.
            sampled: the topology before `initial_topology`, which may have more connections.

        Raises:
            ValueError: if there must be a plain model, and there is none.
        """
        ...


class NeedsDense(Protocol):
    """A rule that existing connections are not enough for, so that layers must be masked.

    Attributes:
        needs_dense: why, as the end of a sentence.
    """

    needs_dense: str


class ReplacesUpdate(Protocol):
    """A rule whose rewirings may take the place of the weight update of their step.

    Attributes:
        replaces_step: whether they do.
    """

    replaces_step: bool


class ResetsOptimizer(Protocol):
    """A rule whose rewirings may be followed by a fresh start of the optimizer, for all weights of the network.

    Attributes:
        resets_optimizer: whether they are.
    """

    resets_optimizer: bool


class LooksAhead(Protocol):
    """A rule that may look at the gradients of several batches.

    Attributes:
        probe_batches: how many. One is the batch of the step.
    """

    probe_batches: int


PARTS: tuple[type, ...] = (
    HasState,
    HasGradientPenalty,
    HasGrowInit,
    HasForwardMasks,
    HasInitialDensity,
    HasInitialTopology,
    PreparesLayers,
    NeedsDense,
    ReplacesUpdate,
    ResetsOptimizer,
    LooksAhead,
)

# Names of earlier versions. What still has them would be ignored.
EARLIER_NAMES = {
    "begin": "initial_topology",
    "first_values": "grow_init",
    "prepare": "prepare_layers",
    "pull": "gradient_penalty",
    "remember": "update_state",
    "thinnings": "forward_masks",
}


@cache
def members_of(protocol: type) -> tuple[str, ...]:
    """Return the names that a part consists of."""
    return tuple(name for name in {**vars(protocol), **protocol.__annotations__} if not name.startswith("_"))


def part_of(rule: object, protocol: type[P]) -> P | None:
    """Return the rule as one that has a part, or None if it does not have it.

    Raises:
        TypeError: if the rule defines some members of the part, but not all. It would be ignored without a word.

    Example:
        >>> from sparsekit.rules import RigL, TopKAST
        >>> part_of(RigL(stop=10), HasGrowInit) is None, part_of(TopKAST(stop=10), HasGrowInit) is None
        (True, False)
    """
    members = members_of(protocol)
    missing = [name for name in members if not hasattr(rule, name)]
    if missing and len(missing) < len(members):
        raise TypeError(
            f"{type(rule).__name__} must define {', '.join(members)} together, got no {' and no '.join(missing)}. "
            "Define what is missing as well, as in rules/parts.py"
        )
    return None if missing else cast(P, rule)


def check_names(owner: type) -> None:
    """Raise TypeError if a class has a method by which optional parts used to go. Nobody would ever call it."""
    for earlier, name in EARLIER_NAMES.items():
        if callable(getattr(owner, earlier, None)):
            raise TypeError(
                f"{owner.__name__} must name its optional parts as in rules/parts.py, got {earlier}. Rename it to "
                f"{name}, or to a name of your own if it is no such part"
            )


def check_state(what: str, state: object, layers: Iterable[str]) -> None:
    """Raise unless a state is tensors by layer and name.

    Raises:
        TypeError: if it is something else.
        ValueError: if it is that of a layer which is not there.
    """
    way = "return {layer name: {name: tensor}}, which may be empty"
    must_be(what, state, Mapping, way)
    for name, of_layer in cast(State, state).items():
        must_be(f"{what}[{name!r}]", of_layer, Mapping, way)
        for key, value in of_layer.items():
            must_be(f"{what}[{name!r}][{key!r}]", value, Tensor, way)
    if unknown := set(cast(State, state)) - set(layers):
        raise ValueError(
            f"{what} must be of the layers {', '.join(layers)}, got {', '.join(sorted(map(str, unknown)))}. Take the "
            "names of the views"
        )
