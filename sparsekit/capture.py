"""What a rule sees before it decides: a recorded backward pass, shown layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparsekit.kernels import sampled_outer, unfold_columns
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.accumulation import Accumulation, when_backward_ends
from sparsekit.layers.masked import DenseGradient, MaskedLayer
from sparsekit.topology import LayerTopology


@dataclass(eq=False)
class LayerIO:
    """What one layer saw in the backward passes since capturing began: inputs and output gradients.

    From them the gradient of any connection can be computed, existing or not, without ever forming the rest.
    """

    layer: SparseLayer
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
            _check_not_alone(layers)
        self.io = {name: LayerIO(layer, group) for name, layer in layers.items() if layer.param.requires_grad}
        self._hooks: list = []

    def start(self) -> dict[str, LayerIO]:
        """Begin to record; return what will hold the record, by layer name."""
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
    """Return what a rule may see, for every sparse layer that is trained.

    Frozen layers keep their topology; so do those through which the captured backward pass did not come (another head
    was trained, a block was skipped), just as optimizers leave weights without a gradient alone.
    """
    io = io or {}
    resting = {name for name, layer_io in io.items() if layer_io.group is None and not layer_io.took_part}
    if len(resting) == len(io):  # nothing was captured at all, which is a mistake: the rule will say so
        resting = set()
    return {
        name: LayerView(
            name=name,
            topology=layer.topology,
            values=layer.values(),
            existing_grads=layer.grads(),
            io=io.get(name),
        )
        for name, layer in sparse_layers(model).items()
        if layer.param.requires_grad and name not in resting
    }


def _check_not_alone(layers: Mapping[str, SparseLayer]) -> None:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    of_csr = [name for name, layer in layers.items() if not isinstance(layer, MaskedLayer)]
    if of_csr and distributed and torch.distributed.get_world_size() > 1:
        raise ValueError(
            f"among several processes csr layers must be seen through their DistributedDataParallel wrapper, got the "
            f"model without it ({', '.join(of_csr)}); hand over the wrapper, or their topologies would drift apart"
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
