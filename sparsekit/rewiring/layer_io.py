"""What one sparse layer saw in captured backward passes, and what follows for the gradients of any connection."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.kernels import Structure
from sparsekit.layers import SparseLayer
from sparsekit.layers.accumulation import Accumulation, Catcher, when_backward_ends
from sparsekit.layers.masked import DenseGradient
from sparsekit.rewiring.flow import WholeModel
from sparsekit.topology import LayerTopology
from sparsekit.utils.ranks import is_sharing
from sparsekit.utils.seeds import generator as stream


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
    reads: list[Tensor] = field(default_factory=list)  # gradients of a csr layer's dense weight, where it was read
    catcher: Catcher | None = None
    saw_infinite: bool = False

    @property
    def took_part(self) -> bool:
        """Whether a backward pass came through this layer."""
        return bool(self.pairs or self.reads) or self.saw_infinite or self._caught_dense

    def x(self) -> Float[Tensor, "n f"]:
        """Return the inputs, one row per sample and position."""
        return torch.cat([self.layer.kind.input_matrix(x) for x, _ in self._captured()], dim=1).T

    def g(self) -> Float[Tensor, "n o"]:
        """Return the gradients of the loss by the outputs, one row per sample and position."""
        return torch.cat([self.layer.kind.output_matrix(g) for _, g in self._captured()], dim=1).T

    def grad_at(self, indices: Int64[Tensor, " c"]) -> Float[Tensor, " c"]:
        """Return the loss gradient at sorted weight positions, existing or missing. Only those are computed.

        A masked layer's dense gradient was caught in the backward pass itself (and averaged by DDP). A csr layer
        multiplies what it captured. Under DDP these few numbers are averaged here, on rewiring steps only.

        Raises:
            ValueError: if nothing was captured.
            FloatingPointError: if all that was captured is infinite or not a number.
        """
        if isinstance(self.catcher, DenseGradient) and self.catcher.total is not None:
            return self.catcher.total.flatten()[indices]
        grad = self._from_activations(indices)
        if self.group is not None:
            torch.distributed.all_reduce(grad, group=self.group)
            grad /= torch.distributed.get_world_size(self.group)
        return grad

    def magnitudes(self) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return the sums of `|input|` and of `|output gradient|` over samples and positions, of all processes.

        No gradient's magnitude can exceed its input's sum times its output's. For a single sample it is their product.
        """
        kind = self.layer.kind
        return self._total([(kind.input_sums(x.abs()), kind.output_sums(g.abs())) for x, g in self._in_full()])

    def sketch(self, generator: torch.Generator) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return the sums of inputs and of output gradients, each sample and position with a random sign for both.

        On average over the signs, the product of an input's sum and an output's is their connection's gradient, because
        what different samples would add cancels out.

        Source: the sketch of Alon, Matias and Szegedy (1999), The space complexity of approximating frequency moments.
        """
        rank = 0 if self.group is None else torch.distributed.get_rank(self.group)
        # We draw one number, however many samples there are, so all processes continue alike, with other signs.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        draws, kind, parts = stream(seed, rank), self.layer.kind, []
        for x, g in self._in_full():
            signs = torch.randint(2, (g.numel() // self.layer.shape[0],), generator=draws).to(g.device) * 2 - 1
            parts.append((kind.input_sums(x, signs), kind.output_sums(g, signs)))
        return self._total(parts)

    def flow(self) -> tuple[Float[Tensor, " w"], Float[Tensor, " o"]]:
        """Return what `all_ones_flow` finds at this layer, which is zero if the pass does not come here."""
        width = self.layer.kind.num_groups * self.layer.topology.num_inputs
        none = self.layer.param.new_zeros(width), self.layer.param.new_zeros(self.layer.shape[0])
        return self.whole.flow.get(self.name, none)

    def _in_full(self) -> list[tuple[Tensor, Tensor]]:
        """Return the captured pairs in the weights' precision, because under autocast sums would lose too much."""
        dtype = _full_precision(self.layer.param.dtype)
        return [(x.to(dtype), g.to(dtype)) for x, g in self._captured()]

    def _total(self, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if self.group is None:
            check_not_alone({self.name: self.layer})
        x, g = (torch.stack(side).sum(0) for side in zip(*parts, strict=True))
        if self.group is not None:
            torch.distributed.all_reduce(x, group=self.group)
            torch.distributed.all_reduce(g, group=self.group)
        return x, g

    def _from_activations(self, indices: Tensor) -> Tensor:
        kind, dtype = self.layer.kind, _full_precision(self.layer.param.dtype)
        structure = Structure(LayerTopology(self.layer.shape, indices), kind.num_groups)
        self._check_captured()
        parts = [kind.gradient_at(x.to(dtype), g.to(dtype), structure) for x, g in self.pairs]
        return torch.stack([*parts, *(grad.flatten()[indices].to(dtype) for grad in self.reads)]).sum(0)

    @property
    def _caught_dense(self) -> bool:
        return isinstance(self.catcher, DenseGradient) and (self.catcher.total is not None or self.catcher.is_infinite)

    def _captured(self) -> list[tuple[Tensor, Tensor]]:
        """Return what the layer itself saw.

        Raises:
            ValueError: if other code computed with its weight as well, whose inputs nobody saw.
        """
        if self.catcher is not None and self.catcher.was_read:
            raise ValueError(
                f"{self.name}: what guides growth by inputs and outputs must see all of them, got a weight that other "
                "code reads and computes with by itself. Call layer(x) there, or grow by gradient (RigL)"
            )
        self._check_captured()
        return self.pairs

    def _check_captured(self) -> None:
        if self.saw_infinite and not (self.pairs or self.reads):
            raise FloatingPointError(
                "gradients must be finite to grow by them, got inf or NaN from a finite loss. Lower the learning rate, "
                "or clip gradients"
            )
        if not (self.pairs or self.reads):
            raise ValueError(
                "growing by gradient needs a captured backward pass, got none. "
                "Run forward and backward inside capture_io(model) before the rule proposes"
            )


class Recorder:
    """A forward hook that records a layer's input, and in the backward pass the gradient of its output.

    Where other code reads the dense weight of a csr layer, it records the gradient of that.
    """

    stays_behind = True  # when the layer is copied or saved

    def __init__(self, io: LayerIO):
        self.io = io
        self.was_read = False
        self.accumulation = Accumulation(io.layer.param)

    def __call__(self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        if output.requires_grad and layer is self.io.layer:
            x = (args[0] if args else kwargs["input"]).detach()
            output.register_hook(lambda g: self._keep(g, lambda: self.io.pairs.append((x, g.detach()))))

    def received(self, grad: Tensor) -> Tensor:
        """Record the gradient of the dense weight, and hand it on."""
        self._keep(grad, lambda: self.io.reads.append(grad.detach()))
        return grad

    def _keep(self, g: Tensor, record: Callable[[], None]) -> None:
        if self.accumulation.begins():
            if self.accumulation.was_cleared():
                self.io.pairs.clear()
                self.io.reads.clear()
                self.io.saw_infinite = False
            when_backward_ends(self.accumulation.record)
        # A micro-batch with infinite gradients is skipped by GradScaler and must not spoil the next rewiring.
        if bool(g.isfinite().all()):
            record()
        else:
            self.io.saw_infinite = True


def _full_precision(dtype: torch.dtype) -> torch.dtype:
    """Return the type to sum gradients in. Half precision would lose too much, and the kernels do not know it."""
    return torch.promote_types(dtype, torch.float32)


def check_not_alone(layers: Mapping[str, SparseLayer]) -> None:
    """Check that no layer is looked at by one process of several, unless all of them see the same.

    Raises:
        ValueError: if there are several processes and any layer.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if layers and distributed and not is_sharing() and torch.distributed.get_world_size() > 1:
        raise ValueError(
            f"among several processes these layers must be seen through their DistributedDataParallel wrapper, got the "
            f"model without it ({', '.join(layers)}). Hand over the wrapper, or their topologies would drift apart"
        )
