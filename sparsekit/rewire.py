"""The only place where a layer's topology changes: values and every optimizer tensor move with their connections.

`capture_io` records a backward pass, `views` shows it to a rule layer by layer (both in `capture.py`), and `rewire`
carries out what the rule proposed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from sparsekit.checks import must_be, shown
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.masked import MaskedLayer
from sparsekit.layers.move import Move
from sparsekit.topology import LayerTopology, Topology

FirstValues = Callable[[str, Int64[Tensor, " g"]], Tensor | None]


def zeros(name: str, grown: Int64[Tensor, " g"]) -> None:
    """Let grown connections start at zero: RigL's choice, and the usual one."""


@dataclass(frozen=True)
class Change:
    """What one rewiring did: the positions that each layer dropped and grew."""

    dropped: dict[str, Int64[Tensor, " d"]]
    grown: dict[str, Int64[Tensor, " g"]]

    @classmethod
    def between(cls, old: Mapping[str, LayerTopology], new: Mapping[str, LayerTopology]) -> "Change":
        """Return the difference of two topologies over the layers of the new one."""
        return cls.of({name: Move(old[name], layer) for name, layer in new.items()})

    @classmethod
    def of(cls, moves: Mapping[str, Move]) -> "Change":
        """Return what moves of some layers drop and grow."""
        return cls(
            dropped={name: move.dropped for name, move in moves.items()},
            grown={name: move.grown for name, move in moves.items()},
        )

    def apply(self, topology: Topology) -> Topology:
        """Return the topology after this change."""
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


def rewire(
    model: nn.Module,
    new: Mapping[str, LayerTopology],
    optimizer: Optimizer | None = None,
    first_values: FirstValues = zeros,
) -> Change:
    """Give a model's layers new topologies; values and optimizer state move with their connections.

    A connection in both topologies keeps its value and its optimizer state. A grown one starts at zero in both (see
    `first_values`), a dropped one is gone from both. Gradients are cleared, because they belong to the old topology.
    Parameters stay the same objects. Call it between steps.

    Args:
        model: a sparse model; changed in place.
        new: topologies of some or all of its sparse layers; layers not named stay as they are.
        optimizer: the one that trains the model, or None where there is none yet.
        first_values: `(layer name, grown positions) -> their first values`, or None for zeros.

    Raises:
        TypeError: if an argument is something else.
        ValueError: if a name or shape does not fit, or a csr layer under `DistributedDataParallel` would get another
            number of connections; or if the optimizer does not train one of these layers, or not weight by weight.
            Nothing has changed then.
    """
    must_be("model", model, nn.Module, "give what sparsify returned")
    must_be("new", new, Mapping, "give a Topology, or {name: LayerTopology}")
    layers = sparse_layers(model)
    _check_fits(layers, new)
    if not callable(first_values) or isinstance(first_values, type):
        raise TypeError(
            f"first_values must be a function of name and positions, got {shown(first_values)}; leave it out"
        )
    if optimizer is not None:
        if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "state")):
            raise TypeError(
                f"optimizer must be one of torch.optim, got {shown(optimizer)}; None where there is none yet"
            )
        check_optimizer({name: layers[name] for name in new}, optimizer)
    if isinstance(model, DistributedDataParallel):
        _check_sizes_stay(layers, new)
    moves = {name: _move_to(topology, layers[name]) for name, topology in new.items()}
    for name, move in moves.items():
        _rewire_layer(layers[name], move, optimizer, partial(first_values, name))
    return Change.of(moves)


def _move_to(new: LayerTopology, layer: SparseLayer) -> Move:
    return Move(layer.topology, new.to(layer.indices.device))


def _rewire_layer(
    layer: SparseLayer, move: Move, optimizer: Optimizer | None, first_values: Callable[[Tensor], Tensor | None]
) -> None:
    if move.changes_nothing:
        return
    values = first_values(move.grown)
    if optimizer is not None:
        _move_state(layer, move, optimizer)
    layer.set_topology(move, values)
    layer.param.grad = None


def move_state(layer: SparseLayer, old: LayerTopology, new: LayerTopology, optimizer: Optimizer) -> None:
    """Move an optimizer's memory of a layer's connections to a new topology; what was grown starts at zero."""
    _move_state(layer, Move(old, new), optimizer)


def _move_state(layer: SparseLayer, move: Move, optimizer: Optimizer) -> None:
    shape = layer.packed_shape(move.old)
    state = optimizer.state.get(layer.param, {})
    for key, tensor in state.items():
        if isinstance(tensor, Tensor) and tuple(tensor.shape) == shape:
            state[key] = layer.transfer(tensor, move)


def check_optimizer(layers: Mapping[str, SparseLayer], optimizer: Optimizer) -> None:
    """Check that an optimizer trains these layers, each weight by itself.

    Raises:
        ValueError: if it leaves one of them out that is not frozen, or mixes weights, as LBFGS and Muon do: then it
            would move weights that do not exist.
    """
    if mixes := {"LBFGS", "Muon"} & {cls.__name__ for cls in type(optimizer).__mro__}:
        raise ValueError(
            f"the optimizer must treat each weight by itself, got {mixes.pop()}, which mixes them and would revive "
            "dropped connections; use SGD, Adam, AdamW, RMSprop, Adagrad or the like"
        )
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if left_out := [n for n, x in layers.items() if x.param.requires_grad and id(x.param) not in trained]:
        raise ValueError(
            f"the optimizer must train every sparse layer that is not frozen, got none for {', '.join(left_out)}; "
            "build it from model.parameters() after sparsify, which returns a new model, or freeze these layers"
        )


def _check_fits(layers: Mapping[str, SparseLayer], new: Mapping[str, LayerTopology]) -> None:
    for name, topology in new.items():
        if name not in layers:
            raise ValueError(
                f"layers to rewire must be among {', '.join(layers) or '(none)'}, got {name!r}; see topology_of"
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
                f"connections, got {topology.count}; use storage masked, or scope='layer' and no density schedule"
            )
