"""What a rule sees before it decides: a recorded backward pass, shown layer by layer."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparsekit.flow import CallNote, WholeModel
from sparsekit.kernels import Structure, backend
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.accumulation import Accumulation, when_backward_ends
from sparsekit.layers.masked import DenseGradient, MaskedLayer
from sparsekit.seeds import generator as stream
from sparsekit.topology import LayerTopology


@dataclass(eq=False)
class LayerIO:
    """What one layer saw in the backward passes since capturing began: inputs and output gradients.

    From them the gradient of any connection can be computed, existing or not, without ever forming the rest.
    """

    layer: SparseLayer
    name: str
    whole: WholeModel
    group: "torch.distributed.ProcessGroup | None" = None
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    catcher: DenseGradient | None = None
    saw_infinite: bool = False

    @property
    def took_part(self) -> bool:
        """Whether a backward pass came through this layer."""
        caught = self.catcher is not None and (self.catcher.total is not None or self.catcher.is_infinite)
        return bool(self.pairs) or self.saw_infinite or caught

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
            FloatingPointError: if all that was captured is infinite or not a number.
        """
        if self.catcher is not None and self.catcher.total is not None:
            return self.catcher.total.flatten()[indices]
        grad = self._from_activations(indices)
        if self.group is not None:
            torch.distributed.all_reduce(grad, group=self.group)
            grad /= torch.distributed.get_world_size(self.group)
        return grad

    def magnitudes(self) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return the sums of `|input|` and of `|output gradient|` over samples and positions, of all processes.

        No gradient's size can exceed its input's sum times its output's; for a single sample it is their product.
        """
        kind = self.layer.kind
        return self._total([(kind.input_sums(x.abs()), kind.output_sums(g.abs())) for x, g in self._in_full()])

    def sketch(self, generator: torch.Generator) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return the sums of inputs and of output gradients, each sample and position with a random sign for both.

        The product of an input's sum and an output's is, on average over the signs, their connection's gradient: what
        different samples would add cancels out.

        Source: the sketch of Alon, Matias and Szegedy (1999), The space complexity of approximating frequency moments.
        """
        rank = 0 if self.group is None else torch.distributed.get_rank(self.group)
        # One number of the common stream, however many samples: all processes go on alike, with other signs.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        draws, kind, parts = stream(seed, rank), self.layer.kind, []
        for x, g in self._in_full():
            signs = torch.randint(2, (g.numel() // self.layer.shape[0],), generator=draws).to(g.device) * 2 - 1
            parts.append((kind.input_sums(x, signs), kind.output_sums(g, signs)))
        return self._total(parts)

    def flow(self) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return what `all_ones_flow` finds at this layer; zeros where the pass does not come here."""
        width = self.layer.kind.num_groups * self.layer.topology.num_inputs
        none = self.layer.param.new_zeros(width), self.layer.param.new_zeros(self.layer.shape[0])
        return self.whole.flow.get(self.name, none)

    def _in_full(self) -> list[tuple[Tensor, Tensor]]:
        """The captured pairs in the weights' precision: under autocast sums would lose too much."""
        dtype = self.layer.param.dtype
        return [(x.to(dtype), g.to(dtype)) for x, g in self._captured()]

    def _total(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if self.group is None:
            _check_not_alone({self.name: self.layer})
        x, g = (torch.stack(side).sum(0) for side in zip(*parts, strict=True))
        if self.group is not None:
            torch.distributed.all_reduce(x, group=self.group)
            torch.distributed.all_reduce(g, group=self.group)
        return x, g

    def _from_activations(self, indices: Tensor) -> Tensor:
        kind, dtype = self.layer.kind, self.layer.param.dtype
        wanted = Structure(LayerTopology(self.layer.shape, indices), kind.num_groups)
        return torch.stack([kind.gradient_at(x.to(dtype), g.to(dtype), wanted) for x, g in self._captured()]).sum(0)

    def _captured(self) -> list[tuple[Tensor, Tensor]]:
        if self.saw_infinite and not self.pairs:
            raise FloatingPointError(
                "gradients must be finite to grow by them, got inf or NaN from a finite loss; lower the learning rate, "
                "or clip gradients"
            )
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
        if group is None:
            _check_not_alone({name: layer for name, layer in layers.items() if not isinstance(layer, MaskedLayer)})
        self._whole = WholeModel(model)
        trained = {name: layer for name, layer in layers.items() if layer.param.requires_grad}
        self.io = {name: LayerIO(layer, name, self._whole, group) for name, layer in trained.items()}
        self._hooks: list = []
        self._stance = ExitStack()

    def start(self) -> dict[str, LayerIO]:
        """Begin to record; return what will hold the record, by layer name."""
        if self.io:
            self._stance.enter_context(backend.uncompiled())
            note_call = CallNote(self._whole.note_call)
            self._hooks.append(self._whole.model.register_forward_pre_hook(note_call, prepend=True))
        for io in self.io.values():
            self._hooks.append(io.layer.register_forward_hook(_Recorder(io), with_kwargs=True))
            if isinstance(io.layer, MaskedLayer):
                io.layer.catcher = io.catcher = DenseGradient(io.layer)
        return self.io

    def stop(self) -> None:
        """Stop recording; what was recorded stays readable for as long as somebody holds it."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._stance.close()
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
        memory: what the rule has written down about this layer.
        find_used: says which connections the forward pass uses.
    """

    name: str
    topology: LayerTopology
    values: Float[Tensor, " e"]
    existing_grads: Float[Tensor, " e"] | None = None
    io: LayerIO | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    find_used: Callable[[], LayerTopology] | None = None

    @property
    def used(self) -> LayerTopology:
        """The connections that the forward pass uses."""
        return self.topology if self.find_used is None else self.find_used()

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
        """Gradients at any sorted positions, existing or missing; see `LayerIO.grad_at` and `captured`."""
        return self.captured.grad_at(indices)

    @property
    def captured(self) -> LayerIO:
        """The captured backward pass.

        Raises:
            ValueError: if there is none.
        """
        if self.io is None:
            raise ValueError(
                f"{self.name}: growing by gradient needs a captured backward pass, got none; run forward and backward "
                "inside capture_io(model), and hand what it gives to views(model, io)"
            )
        return self.io


def views(model: nn.Module, io: Mapping[str, LayerIO] | None = None) -> dict[str, LayerView]:
    """Return what a rule may see, for every sparse layer that is trained.

    Frozen layers keep their topology; so do those through which the captured backward pass did not come (another head
    was trained, a block was skipped), just as optimizers leave weights without a gradient alone.
    """
    io = io or {}
    resting = {name for name, layer_io in io.items() if layer_io.group is None and not layer_io.took_part}
    if len(resting) == len(io):  # nothing was captured at all, which is a mistake: the rule will say so
        resting = set()
    layers = sparse_layers(model).items()
    shown = {name: layer for name, layer in layers if layer.param.requires_grad and name not in resting}
    return {name: _view_of(name, layer, io.get(name)) for name, layer in shown.items()}


def _view_of(name: str, layer: SparseLayer, io: LayerIO | None) -> LayerView:
    find_used = (lambda: layer.used) if isinstance(layer, MaskedLayer) else None
    own = {"topology": layer.topology, "values": layer.values(), "existing_grads": layer.grads()}
    return LayerView(name=name, io=io, memory=layer.memory, find_used=find_used, **own)


def _check_not_alone(layers: Mapping[str, SparseLayer]) -> None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if layers and distributed and torch.distributed.get_world_size() > 1:
        raise ValueError(
            f"among several processes these layers must be seen through their DistributedDataParallel wrapper, got the "
            f"model without it ({', '.join(layers)}); hand over the wrapper, or their topologies would drift apart"
        )


class _Recorder:
    """A forward hook that notes a layer's input, and in the backward pass the gradient of its output."""

    stays_behind = True  # when the layer is copied or saved

    def __init__(self, io: LayerIO):
        self.io = io
        self.accumulation = Accumulation(io.layer.param)

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        if output.requires_grad and layer is self.io.layer:
            x = (args[0] if args else kwargs["input"]).detach()
            output.register_hook(lambda g: self._keep(x, g.detach()))

    def _keep(self, x: Tensor, g: Tensor) -> None:
        if self.accumulation.begins():
            if self.accumulation.was_cleared():
                self.io.pairs.clear()
                self.io.saw_infinite = False
            when_backward_ends(self.accumulation.remember)
        # A micro-batch with infinite gradients is skipped by GradScaler and must not spoil the next rewiring.
        if bool(g.isfinite().all()):
            self.io.pairs.append((x, g))
        else:
            self.io.saw_infinite = True
