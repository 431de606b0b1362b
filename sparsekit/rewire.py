"""The only place where a layer's topology changes, and what a rule sees before it decides.

`capture_io` records a backward pass, `views` shows it to a rule layer by layer, `rewire` carries out what the rule
proposed: values and every optimizer tensor move along with their connections.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from sparsekit.kernels import sampled_outer, unfold_columns
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.masked import DenseGradient, MaskedLayer, grad_was_cleared
from sparsekit.topology import LayerTopology, Topology


@dataclass(eq=False)
class LayerIO:
    """What one layer saw in the backward passes since capturing began: inputs and output gradients.

    From them the gradient of any connection can be computed, existing or not, without ever forming the rest.
    """

    layer: SparseLayer
    group: "torch.distributed.ProcessGroup | None" = None
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    catcher: DenseGradient | None = None

    def x(self) -> Float[Tensor, "n f"]:
        """Inputs, one row per sample and position."""
        return torch.cat([self.layer.kind.input_matrix(x) for x, _ in self._captured()], dim=1).T

    def g(self) -> Float[Tensor, "n o"]:
        """Gradients of the loss by the outputs, one row per sample and position."""
        return torch.cat([self.layer.kind.output_matrix(g) for _, g in self._captured()], dim=1).T

    def grad_at(self, indices: Int64[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Return the loss gradient at sorted weight positions, existing or missing; only those are computed.

        A masked layer's dense gradient was caught in the backward pass itself (and averaged by DDP). A csr layer
        multiplies what it captured; under DDP these few numbers are averaged here, on rewiring steps only.

        Raises:
            ValueError: if nothing was captured.
        """
        if self.catcher is not None and self.catcher.total is not None:
            return self.catcher.total.flatten()[indices]
        grad = self._from_activations(indices)
        if self.group is not None:
            torch.distributed.all_reduce(grad, group=self.group)
            grad /= torch.distributed.get_world_size(self.group)
        return grad

    def _from_activations(self, indices: Tensor) -> Tensor:
        kind, wanted = self.layer.kind, LayerTopology(self.layer.shape, indices)
        cols = unfold_columns(wanted, kind.num_groups)
        dtype = self.layer.param.dtype
        parts = (
            sampled_outer(kind.input_matrix(x).to(dtype), kind.output_matrix(g).to(dtype), wanted.rows, cols)
            for x, g in self._captured()
        )
        return torch.stack(list(parts)).sum(0)

    def _captured(self) -> list[tuple[Tensor, Tensor]]:
        if not self.pairs:
            raise ValueError(
                "growing by gradient needs a captured backward pass, got none; "
                "run forward and backward inside capture_io(model) before the rule proposes"
            )
        return self.pairs


class capture_io:  # used like a function
    """Record what every sparse layer sees in the backward passes run inside it.

    Args:
        model: the model that is trained; the `DistributedDataParallel` wrapper where there is one.
        enabled: False records nothing, so that one `with` serves both kinds of step.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> model = sparsify(nn.Sequential(nn.Linear(2, 1)), {"0": LayerTopology((1, 2), torch.tensor([0]))})
        >>> with capture_io(model) as io:
        ...     model(torch.tensor([[3.0, 5.0]])).sum().backward()
        >>> io["0"].grad_at(torch.tensor([0, 1])).tolist()
        [3.0, 5.0]
    """

    def __init__(self, model: nn.Module, *, enabled: bool = True):
        group = model.process_group if isinstance(model, DistributedDataParallel) else None
        layers = sparse_layers(model) if enabled else {}
        self.io = {name: LayerIO(layer, group) for name, layer in layers.items() if layer.param.requires_grad}
        self._hooks: list = []

    def start(self) -> dict[str, LayerIO]:
        """Begin to record; return what will hold the record, by layer name."""
        for io in self.io.values():
            self._hooks.append(io.layer.register_forward_hook(_recorder(io), with_kwargs=True))
            if isinstance(io.layer, MaskedLayer):
                io.layer.catcher = io.catcher = DenseGradient(io.layer)
        return self.io

    def stop(self) -> None:
        """Stop recording; what was recorded stays readable for as long as somebody holds it."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for io in self.io.values():
            if isinstance(io.layer, MaskedLayer):
                io.layer.catcher = None

    def __enter__(self) -> dict[str, LayerIO]:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """All that a rule may see of a layer.

    Args:
        name: the layer's name in the model.
        topology: its connections.
        values: their values, in the order of `topology.indices`.
        existing_grads: their gradients, or None before any backward pass.
        io: the captured backward pass, or None where the rule did not ask for it.
    """

    name: str
    topology: LayerTopology
    values: Float[Tensor, " e"]
    existing_grads: Float[Tensor, " e"] | None = None
    io: LayerIO | None = None

    @property
    def grads(self) -> Float[Tensor, " e"]:
        """Gradients of the existing connections.

        Raises:
            ValueError: before any backward pass.
        """
        if self.existing_grads is None:
            raise ValueError(f"{self.name}: this rule needs gradients, got none; call backward before it proposes")
        return self.existing_grads

    def grad_at(self, indices: Int64[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Gradients at any sorted positions, existing or missing; see `LayerIO.grad_at`.

        Raises:
            ValueError: if no backward pass was captured.
        """
        if self.io is None:
            raise ValueError(
                f"{self.name}: growing by gradient needs a captured backward pass, got none; run forward and backward "
                "inside capture_io(model), and hand what it gives to views(model, io)"
            )
        return self.io.grad_at(indices)


def views(model: nn.Module, io: Mapping[str, LayerIO] | None = None) -> dict[str, LayerView]:
    """Return what a rule may see, for every sparse layer that is trained (frozen layers keep their topology)."""
    io = io or {}
    return {
        name: LayerView(
            name=name,
            topology=layer.topology,
            values=layer.values(),
            existing_grads=layer.grads(),
            io=io.get(name),
        )
        for name, layer in sparse_layers(model).items()
        if layer.param.requires_grad
    }


@dataclass(frozen=True)
class Change:
    """What one rewiring did: the positions that each layer dropped and grew."""

    dropped: dict[str, Int64[Tensor, " d"]]
    grown: dict[str, Int64[Tensor, " g"]]

    @classmethod
    def between(cls, old: Mapping[str, LayerTopology], new: Mapping[str, LayerTopology]) -> "Change":
        """Return the difference of two topologies over the layers of the new one."""
        return cls(
            dropped={name: (old[name] - layer).indices for name, layer in new.items()},
            grown={name: (layer - old[name]).indices for name, layer in new.items()},
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


def rewire(model: nn.Module, new: Mapping[str, LayerTopology], optimizer: Optimizer | None = None) -> Change:
    """Give a model's layers new topologies; values and optimizer state move with their connections.

    A connection in both topologies keeps its value and its optimizer state. A grown one starts at zero in both, a
    dropped one is gone from both. Gradients are cleared, because they belong to the old topology. Parameters stay
    the same objects. Call it between steps, with no loss of an earlier step still referenced.

    Args:
        model: a sparse model; changed in place.
        new: topologies of some or all of its sparse layers; layers not named stay as they are.
        optimizer: the one that trains the model, or None where there is none yet.

    Raises:
        ValueError: if a name or shape does not fit, or a csr layer under `DistributedDataParallel` would get another
            number of connections; nothing has changed then.
    """
    layers = sparse_layers(model)
    _check_fits(layers, new)
    if isinstance(model, DistributedDataParallel):
        _check_sizes_stay(layers, new)
    new = {name: topology.to(layers[name].indices.device) for name, topology in new.items()}
    change = Change.between({name: layers[name].topology for name in new}, new)
    for name, topology in new.items():
        _rewire_layer(layers[name], topology, optimizer)
    return change


def _rewire_layer(layer: SparseLayer, new: LayerTopology, optimizer: Optimizer | None) -> None:
    old, param = layer.topology, layer.param
    if old == new:
        return
    state = optimizer.state.get(param, {}) if optimizer else {}
    for key, tensor in state.items():
        if isinstance(tensor, Tensor) and tensor.shape == param.shape:
            state[key] = layer.transfer(tensor, old, new)
    layer.set_topology(new)
    param.grad = None


def _check_fits(layers: Mapping[str, SparseLayer], new: Mapping[str, LayerTopology]) -> None:
    for name, topology in new.items():
        if name not in layers:
            raise ValueError(f"layers to rewire must be among {', '.join(layers) or '(none)'}, got {name!r}")
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


def _recorder(io: LayerIO):
    def record(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        # A copy of the model carries this hook along, but is somebody else's.
        if output.requires_grad and layer is io.layer:
            if grad_was_cleared(io.layer.param):
                io.pairs.clear()
            x = (args[0] if args else kwargs["input"]).detach()
            output.register_hook(lambda g: _keep(io, x, g.detach()))

    return record


def _keep(io: LayerIO, x: Tensor, g: Tensor) -> None:
    # A micro-batch with infinite gradients is skipped by GradScaler and must not spoil the next rewiring.
    if bool(g.isfinite().all()):
        io.pairs.append((x, g))
