"""What one layer costs: its forward pass and both gradients, by every method there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsekit.analysis.costs.benchmark.rivals import RIVALS, Unfolded, compiled, has_sparselab, sparselab_linear
from sparsekit.kernels.layout import feature_major, in_layout, rows_of
from sparsekit.layers import SparseLayer, shapes_of, sparsify
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import random_topology

FORMATS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": torch.Tensor.contiguous,
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "feature-major": feature_major,
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer to measure: its title in the report, the plain module, and the shape of a batch."""

    title: str
    make: Callable[[], nn.Module]
    batch_shape: tuple[int, ...]


LAYERS = {
    "linear": Layer(
        title="Linear 1024 x 1024, batch 128", make=lambda: nn.Linear(1024, 1024, bias=False), batch_shape=(128, 1024)
    ),
    "conv": Layer(
        title="Convolution 3 x 3, 128 to 128 channels, 16 x 16 pixels, batch 128",
        make=lambda: nn.Conv2d(128, 128, 3, padding=1, bias=False),
        batch_shape=(128, 128, 16, 16),
    ),
}
QUICK_LAYERS = {
    "linear": LAYERS["linear"],
    "small-conv": Layer(
        title="Convolution 3 x 3, 32 to 32 channels, 16 x 16 pixels, batch 32",
        make=lambda: nn.Conv2d(32, 32, 3, padding=1, bias=False),
        batch_shape=(32, 32, 16, 16),
    ),
}


class Step:
    """Each call is one step: forward, gradient of the input, gradient of the weight.

    Args:
        forward: from input to output.
        weight: what `forward` reads besides. It gets a gradient.
        x: an input.
        memory: in which format input, output and their gradients lie.
    """

    def __init__(self, forward: Callable[[Tensor], Tensor], weight: Tensor, x: Tensor, memory: str = "contiguous"):
        self.forward, self.weight, self.memory = forward, weight, memory
        self.x = FORMATS[memory](x).detach().requires_grad_()
        with torch.no_grad():
            self.y = forward(self.x)
        draws = torch.Generator().manual_seed(1)
        self.g = FORMATS[memory](torch.randn(self.y.shape, generator=draws).to(self.y.dtype))

    def __call__(self) -> None:
        """Take the step."""
        self.x.grad = self.weight.grad = None
        self.forward(self.x).backward(self.g)


def layer_steps(layer: Layer, density: float, *, inductor: bool = False) -> dict[str, Step]:
    """Return the steps to compare, by method. All but sparselab's compute with the same connections and values.

    Args:
        layer: what is measured.
        density: share of its weights that exist in the sparse methods.
        inductor: whether to compile the dense layer too, which takes seconds.
    """
    torch.manual_seed(0)
    plain, x = layer.make(), torch.randn(layer.batch_shape)
    topology = random_topology(shapes_of(plain), density, allocation="uniform", seed=0)
    csr, masked = (sparsify(plain, topology, storage, init="dense") for storage in ("csr", "masked"))
    assert isinstance(csr, SparseLayer)
    assert isinstance(masked, SparseLayer)
    steps = _dense_steps(plain, x)
    if inductor:
        steps["dense, inductor"] = _inductor_step(plain, x)
    steps["masked"] = Step(masked, masked.param, x)
    steps |= {f"csr, {memory}": _csr_step(csr, x, memory) for memory in _formats_for(x)}
    return steps | _rival_steps(csr.topology, csr.values(), x)


def _dense_steps(plain: nn.Module, x: Tensor) -> dict[str, Step]:
    weight = plain.get_parameter("weight")
    steps = {f"dense, {memory}": Step(plain, weight, x, memory) for memory in _formats_for(x)}
    if x.dim() == 2:
        steps["dense, oneDNN"] = Step(lambda x: F.linear(x.to_mkldnn(), weight).to_dense(), weight, x)
        steps["dense, oneDNN convolution"] = Step(lambda x: _by_convolution(x, weight), weight, x, "feature-major")
        return steps
    # torch has no such convolution, so it would copy to one of the other two formats and back.
    del steps["dense, feature-major"]
    return steps


def _inductor_step(plain: nn.Module, x: Tensor) -> Step:
    memory = "channels-last" if x.dim() == 4 else "contiguous"
    return Step(compiled(plain, FORMATS[memory](x).detach().requires_grad_()), plain.get_parameter("weight"), x, memory)


def _csr_step(layer: SparseLayer, x: Tensor, memory: str) -> Step:
    if memory == "feature-major":
        return Step(layer, layer.param, x, memory)
    return Step(lambda x: _Ordinary.apply(layer(x), memory), layer.param, x, memory)


def _rival_steps(topology: LayerTopology, values: Tensor, x: Tensor) -> dict[str, Step]:
    modules = {name: make(topology, values) for name, make in RIVALS.items()}
    if x.dim() == 4:
        return {name: Step(Unfolded(module), _only_parameter(module), x) for name, module in modules.items()}
    steps = {name: Step(module, _only_parameter(module), x, "feature-major") for name, module in modules.items()}
    if has_sparselab():
        lab = sparselab_linear(topology)
        steps["sparselab"] = Step(lab, _only_parameter(lab), x)
    return steps


def _formats_for(x: Tensor) -> list[str]:
    return [memory for memory in FORMATS if x.dim() == 4 or memory != "channels-last"]


def _only_parameter(module: nn.Module) -> nn.Parameter:
    (parameter,) = module.parameters()
    return parameter


def _by_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Compute a linear layer by oneDNN, as a convolution 1 x 1 over one image that is as high as the batch."""
    image = F.conv2d(x.T[None, :, :, None], weight[:, :, None, None])
    return image[0, :, :, 0].T


class _Ordinary(torch.autograd.Function):
    """Return a feature-major output as an ordinary tensor. The gradient arrives as one, and the layer takes it so."""

    @staticmethod
    def forward(ctx, y: Tensor, memory: str) -> Tensor:
        return in_layout(rows_of(y), memory)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None
