"""What a rule sees before it decides: a recorded backward pass, shown layer by layer."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparsekit.kernels import backend
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.layers.masked import DenseGradient, MaskedLayer
from sparsekit.rewiring.flow import WholeModel
from sparsekit.rewiring.layer_io import LayerIO, Recorder, check_not_alone
from sparsekit.topology import LayerTopology


class CallHook:
    """A forward pre-hook that records a call. In copies and files of the model it does nothing and holds nothing."""

    def __init__(self, record: Callable[[nn.Module, tuple[Any, ...]], None] | None = None):
        self.record = record

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self.record is not None:
            self.record(module, args)

    def __reduce__(self) -> tuple[type["CallHook"], tuple[()]]:
        return CallHook, ()


class capture_io:  # used like a function
    """Record what every sparse layer sees in the backward passes run inside it.

    Args:
        model: the model that is trained. Give the `DistributedDataParallel` wrapper where there is one.
        enabled: False records nothing, so that one `with` serves both kinds of step.

    Example:
        >>> import torch
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
            check_not_alone({name: layer for name, layer in layers.items() if not isinstance(layer, MaskedLayer)})
        self._whole = WholeModel(model)
        trained = {name: layer for name, layer in layers.items() if layer.param.requires_grad}
        self.io = {name: LayerIO(layer, name, self._whole, group) for name, layer in trained.items()}
        self._hooks: list = []
        self._stance = ExitStack()

    def start(self) -> dict[str, LayerIO]:
        """Begin to record. Return what will hold the record, by layer name."""
        if self.io:
            self._stance.enter_context(backend.uncompiled())
            hook = CallHook(self._whole.record_call)
            self._hooks.append(self._whole.model.register_forward_pre_hook(hook, prepend=True))
        for io in self.io.values():
            recorder = Recorder(io)
            self._hooks.append(io.layer.register_forward_hook(recorder, with_kwargs=True))
            io.catcher = DenseGradient(io.layer) if isinstance(io.layer, MaskedLayer) else recorder
            io.layer.catcher = io.catcher
        return self.io

    def stop(self) -> None:
        """Stop recording. What was recorded stays readable for as long as somebody holds it."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._stance.close()
        for io in self.io.values():
            io.layer.catcher = None

    def __enter__(self) -> dict[str, LayerIO]:
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


class NoState(dict[str, Tensor]):
    """The state of a layer that has none yet. It raises an error if a rule looks for something in it."""

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(
            f"this rule needs the state {name!r} of every layer, got views without it. Hand them through "
            "rules.with_initial_state(rule, views) first"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """All that a rule may see of a layer.

    Args:
        name: the layer's name in the model.
        topology: its connections.
        values: their values, in the order of `topology.indices`.
        existing_grads: their gradients, or None before any backward pass.
        io: the captured backward pass, or None where the rule did not ask for it.
        state: of the rule, in this layer. See `HasState` in `rules/parts.py`.
        remaining: the topology after dropping, while a rule that drops first grows.
        find_active: says which connections the forward pass uses.
    """

    name: str
    topology: LayerTopology
    values: Float[Tensor, " e"]
    existing_grads: Float[Tensor, " e"] | None = None
    io: LayerIO | None = None
    state: Mapping[str, Tensor] = field(default_factory=NoState)
    remaining: LayerTopology | None = None
    find_active: Callable[[], LayerTopology] | None = None

    @property
    def active(self) -> LayerTopology:
        """The connections that the forward pass uses."""
        return self.topology if self.find_active is None else self.find_active()

    @property
    def grads(self) -> Float[Tensor, " e"]:
        """Gradients of the existing connections.

        Raises:
            ValueError: before any backward pass.
        """
        if self.existing_grads is None:
            raise ValueError(f"{self.name}: this rule needs gradients, got none. Call backward before it proposes")
        return self.existing_grads

    def grad_at(self, indices: Int64[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Gradients at any sorted positions, existing or missing. See `LayerIO.grad_at` and `captured`."""
        return self.captured.grad_at(indices)

    @property
    def captured(self) -> LayerIO:
        """The captured backward pass.

        Raises:
            ValueError: if there is none.
        """
        if self.io is None:
            raise ValueError(
                f"{self.name}: growing by gradient needs a captured backward pass, got none. Run forward and backward "
                "inside capture_io(model), and hand what it gives to views(model, io)"
            )
        return self.io


def views(model: nn.Module, io: Mapping[str, LayerIO] | None = None) -> dict[str, LayerView]:
    """Return what a rule may see, for every sparse layer that is trained.

    Frozen layers keep their topology. So do those through which the captured backward pass did not come (another head
    was trained, a block was skipped), just as optimizers leave weights without a gradient alone.
    """
    io = io or {}
    resting = {name for name, layer_io in io.items() if layer_io.group is None and not layer_io.took_part}
    if len(resting) == len(io):  # nothing was captured at all, which is a mistake that the rule will report
        resting = set()
    layers = sparse_layers(model).items()
    visible = {name: layer for name, layer in layers if layer.param.requires_grad and name not in resting}
    return {name: _view_of(name, layer, io.get(name)) for name, layer in visible.items()}


def _view_of(name: str, layer: SparseLayer, io: LayerIO | None) -> LayerView:
    return LayerView(
        name=name,
        topology=layer.topology,
        values=layer.values(),
        existing_grads=layer.grads(),
        io=io,
        state=layer.rule_state or NoState(),
        find_active=(lambda: layer.active) if isinstance(layer, MaskedLayer) else None,
    )
