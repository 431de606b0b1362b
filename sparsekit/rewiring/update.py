"""`rewire` changes the topology of layers. Values and every optimizer tensor move with their connections.

`capture_io` records a backward pass, `views` shows it to a rule layer by layer (both in `capture.py`), and `rewire`
carries out what the rule proposed. Beside it only `load_state_dict` changes a topology.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.transition import Transition
from sparsekit.rewiring.optimizer_state import StateTransition, chain
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.checks import must_be, shown

GrowInit = Callable[[str, Int64[Tensor, " g"]], Tensor | None]


def zero_init(name: str, grown: Int64[Tensor, " g"]) -> None:
    """Let grown connections start at zero, as RigL and most methods do."""


@dataclass(frozen=True)
class TopologyUpdate:
    """What one rewiring did: the positions that each layer dropped and grew."""

    dropped: dict[str, Int64[Tensor, " d"]]
    grown: dict[str, Int64[Tensor, " g"]]

    @classmethod
    def between(cls, old: Mapping[str, LayerTopology], new: Mapping[str, LayerTopology]) -> "TopologyUpdate":
        """Return the difference of two topologies over the layers of the new one."""
        return cls.of({name: Transition(old[name], layer) for name, layer in new.items()})

    @classmethod
    def of(cls, transitions: Mapping[str, Transition]) -> "TopologyUpdate":
        """Return what the transitions of some layers drop and grow."""
        return cls(
            dropped={name: transition.dropped for name, transition in transitions.items()},
            grown={name: transition.grown for name, transition in transitions.items()},
        )

    def apply(self, topology: Topology) -> Topology:
        """Return the topology after this update."""
        return Topology({name: self._apply_to(name, layer) for name, layer in topology.items()})

    def _apply_to(self, name: str, layer: LayerTopology) -> LayerTopology:
        if name not in self.grown:
            return layer
        dropped, grown = (LayerTopology(layer.shape, part[name]) for part in (self.dropped, self.grown))
        return (layer - dropped) | grown

    @property
    def num_dropped(self) -> int:
        """Number of connections dropped in all layers."""
        return sum(positions.numel() for positions in self.dropped.values())

    @property
    def num_grown(self) -> int:
        """Number of connections grown in all layers."""
        return sum(positions.numel() for positions in self.grown.values())


@torch.inference_mode(False)  # a training continues with what is made here
def rewire(
    model: nn.Module,
    new: Mapping[str, LayerTopology],
    optimizer: Optimizer | None = None,
    grow_init: GrowInit = zero_init,
) -> TopologyUpdate:
    """Give a model's layers new topologies. Values and optimizer state move with their connections.

    A connection in both topologies keeps its value and its optimizer state. A grown one starts at zero (see
    `grow_init`) and with the state that the optimizer starts a new weight with. A dropped one is gone from both.
    Gradients are cleared, because they belong to the old topology. Parameters stay the same objects. Call it between
    steps.

    Args:
        model: a sparse model, which is changed in place.
        new: topologies of some or all of its sparse layers. Layers not named stay as they are.
        optimizer: the one that trains the model, or None where there is none yet. Of an optimizer that hands its work
            on to another, as SAM and Lookahead do, the outer one: the states of both move.
        grow_init: `(layer name, grown positions) -> their initial values`, or None for zeros.

    Raises:
        TypeError: if an argument is something else.
        ValueError: if a name or shape does not fit, or a csr layer under `DistributedDataParallel` would get another
            number of connections, if a parameter is sharded, or if the optimizer does not train one of these layers,
            not weight by weight, or does not show what it starts a weight with. Nothing has changed then.
    """
    _check_arguments(model, new, optimizer, grow_init)
    layers = sparse_layers(model)
    check_fits(layers, new)
    check_whole({name: layers[name] for name in new})
    if optimizer is not None:
        check_optimizer({name: layers[name] for name in new}, optimizer)
    if isinstance(model, DistributedDataParallel):
        _check_sizes_stay(layers, new)
    transitions = {name: _transition_to(topology, layers[name]) for name, topology in new.items()}
    changing = {name: transition for name, transition in transitions.items() if not transition.changes_nothing}
    values = {name: grow_init(name, transition.grown) for name, transition in changing.items()}
    states = {
        name: StateTransition(layers[name], transition, optimizer, values[name])
        for name, transition in changing.items()
        if optimizer is not None
    }
    for name, transition in changing.items():
        if name in states:
            states[name].apply()
        layers[name].set_topology(transition, values[name])
        layers[name].param.grad = None
    return TopologyUpdate.of(transitions)


def _check_arguments(model: object, new: object, optimizer: object, grow_init: object) -> None:
    must_be("model", model, nn.Module, "give what sparsify returned")
    must_be("new", new, Mapping, "give a Topology, or {name: LayerTopology}")
    if not callable(grow_init) or isinstance(grow_init, type):
        raise TypeError(f"grow_init must be a function of name and positions, got {shown(grow_init)}. Leave it out")
    if optimizer is not None and not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")):
        raise TypeError(f"optimizer must be one of torch.optim, got {shown(optimizer)}. None where there is none yet")


def _transition_to(new: LayerTopology, layer: SparseLayer) -> Transition:
    return Transition(layer.topology, new.to(layer.indices.device))


def check_optimizer(layers: Mapping[str, SparseLayer], optimizer: Optimizer) -> None:
    """Check that an optimizer trains these layers, each weight by itself.

    Raises:
        TypeError: if it is no optimizer.
        ValueError: if it leaves one of them out that is not frozen, if a parameter is sharded, or if it mixes weights,
            as LBFGS and Muon do, because then it would move weights that do not exist.
    """
    optimizers = chain(optimizer)
    if mixes := {"LBFGS", "Muon"} & {cls.__name__ for one in optimizers for cls in type(one).__mro__}:
        raise ValueError(
            f"the optimizer must treat each weight by itself, got {mixes.pop()}, which mixes them and would revive "
            "dropped connections. Use SGD, Adam, AdamW, RMSprop, Adagrad or the like"
        )
    check_whole(layers)
    trained = {id(parameter) for group in optimizers[-1].param_groups for parameter in group["params"]}
    if left_out := [n for n, x in layers.items() if x.param.requires_grad and id(x.param) not in trained]:
        raise ValueError(
            f"the optimizer must train every sparse layer that is not frozen, got none for {', '.join(left_out)}. "
            "Build it from model.parameters() after sparsify, which returns a new model, or freeze these layers"
        )


def check_whole(layers: Mapping[str, SparseLayer]) -> None:
    """Check that each layer's parameter holds all of its connections.

    Raises:
        ValueError: if it is a process's share of them, as FSDP and ZeRO leave it, in which no connection has a
            position.
    """
    for name, layer in layers.items():
        is_sharded = hasattr(layer.param, "placements")  # a DTensor, as fully_shard makes them
        if is_sharded or tuple(layer.param.shape) != tuple(layer.packed_shape(layer.topology)):
            raise ValueError(
                f"{name}: a sparse layer's parameter must be whole on every process, got a sharded one "
                f"({type(layer.param.data).__name__} of shape {tuple(layer.param.shape)}), in which no connection has "
                "a position. Train with DistributedDataParallel, or leave sparse layers out of fully_shard"
            )


def check_fits(layers: Mapping[str, SparseLayer], new: Mapping[str, LayerTopology]) -> None:
    """Check that new topologies are those of layers that are there.

    Raises:
        TypeError: if one is no topology.
        ValueError: if a name or shape does not fit.
    """
    for name, topology in new.items():
        if name not in layers:
            raise ValueError(
                f"layers to rewire must be among {', '.join(layers) or '(none)'}, got {name!r}. See topology_of"
            )
        must_be(
            f"the new topology of {name}", topology, LayerTopology, "make it of a mask: LayerTopology.of_mask(mask)"
        )
        if topology.shape != layers[name].shape:
            raise ValueError(f"{name}: the new topology must have shape {layers[name].shape}, got {topology.shape}")


def _check_sizes_stay(layers: Mapping[str, SparseLayer], new: Mapping[str, LayerTopology]) -> None:
    # DDP laid out its buffers for parameters of the size they had when the model was wrapped.
    for name, topology in new.items():
        if not isinstance(layers[name], MaskedLayer) and topology.count != layers[name].topology.count:
            raise ValueError(
                f"{name}: under DistributedDataParallel a csr layer must keep its {layers[name].topology.count} "
                f"connections, got {topology.count}. Use storage masked, or scope='layer' and no density schedule"
            )
