"""What whole networks cost: a training step with its optimizer, end to end."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sparsekit import models
from sparsekit.analysis.costs.benchmark.rivals import RIVALS, compiled, has_sparselab, sparselab_linear
from sparsekit.layers import shapes_of, sparsify
from sparsekit.layers.fusing import fuse_relus
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network to measure.

    Args:
        title: its name in the report.
        model: its name in the registry.
        input_shape: of one example.
        batch_size: examples in a step.
        full: layers that keep all their connections (`"first"`, `"last"`).
        settings: of the model.
        classes: of the labels.
        reads_tokens: whether an example is a text of tokens, each of which has a label.
    """

    title: str
    model: str
    input_shape: tuple[int, ...]
    batch_size: int
    full: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 10
    reads_tokens: bool = False

    def start(self) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the dense network, a batch of examples and their labels, always the same."""
        torch.manual_seed(0)
        plain = models.build(self.model, input_shape=self.input_shape, num_classes=self.classes, **self.settings)
        shape = (self.batch_size, *self.input_shape)
        x = torch.randint(self.classes, shape) if self.reads_tokens else torch.randn(shape)
        return plain, x, torch.randint(self.classes, shape if self.reads_tokens else shape[:1])


NETWORKS = {
    "mlp": Network(
        title="MLP 784-1024-1024-10, batch 128",
        model="mlp",
        input_shape=(784,),
        batch_size=128,
        full=("last",),
        settings={"hidden": (1024, 1024)},
    ),
    "resnet20": Network(
        title="ResNet-20, 32 x 32 pixels, batch 128",
        model="resnet20",
        input_shape=(3, 32, 32),
        batch_size=128,
        full=("first", "last"),
    ),
    "resnet18": Network(
        title="ResNet-18, 32 x 32 pixels, batch 128",
        model="resnet18",
        input_shape=(3, 32, 32),
        batch_size=128,
        full=("first", "last"),
    ),
    "tiny-gpt": Network(
        title="GPT of 4 blocks and 128 features, 64 tokens, batch 32",
        model="gpt",
        input_shape=(64,),
        batch_size=32,
        full=(),
        classes=73,
        reads_tokens=True,
    ),
}
QUICK_NETWORKS = {
    "mlp": NETWORKS["mlp"],
    "small-resnet20": Network(
        title="ResNet-20, 32 x 32 pixels, batch 16",
        model="resnet20",
        input_shape=(3, 32, 32),
        batch_size=16,
        full=("first", "last"),
    ),
}


class TrainingStep:
    """Each call is one training step: loss, backward pass, SGD with momentum."""

    def __init__(self, model: nn.Module, x: Tensor, labels: Tensor):
        self.model, self.x, self.labels = model.train(), x, labels
        # So small that hundreds of steps on one batch change no magnitude by much.
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad(set_to_none=True)
        cross_entropy(self.model(self.x), self.labels).backward()
        self.optimizer.step()


def network_steps(network: Network, density: float, *, inductor: bool = False) -> dict[str, TrainingStep]:
    """Return the training steps to compare, by method. All start from the same weights.

    Args:
        network: what is measured.
        density: share of the weights that exist in its sparse layers.
        inductor: whether to compile the dense network too, which takes up to minutes.
    """
    plain, x, labels = network.start()
    topology = topology_for(plain, density, network.full)
    csr = sparsify(plain, topology, "csr", init="dense")
    masked = sparsify(plain, _without_full(topology), "masked", init="dense")
    auto = sparsify(plain, topology, "auto", init="dense", example=x)
    for model in (csr, auto):
        fuse_relus(model)
    steps = {"dense, contiguous": TrainingStep(copy.deepcopy(plain), x, labels)}
    if x.dim() == 4:
        steps["dense, channels-last"] = TrainingStep(*in_channels_last(plain, x), labels)
    if inductor:
        model, inputs = in_channels_last(plain, x) if x.dim() == 4 else (copy.deepcopy(plain), x)
        steps["dense, inductor"] = TrainingStep(compiled(model.train(), inputs), inputs, labels)
    sparse_models = {"masked": masked, "csr": csr, "auto": auto}
    steps |= {name: TrainingStep(model, x, labels) for name, model in sparse_models.items()}
    if x.dim() == 4 or network.reads_tokens:
        return steps
    return steps | {name: TrainingStep(_rival(plain, topology, make), x, labels) for name, make in _makers().items()}


def topology_for(plain: nn.Module, density: float, full: tuple[str, ...]) -> Topology:
    """Return a topology of one density for all layers but those that keep all connections."""
    shapes = shapes_of(plain)
    sparse = random_topology(shapes_of(plain, exclude=full), density, allocation="uniform", seed=0)
    full_layers = {name: LayerTopology.full(shape) for name, shape in shapes.items() if name not in sparse}
    return Topology({name: sparse[name] if name in sparse else full_layers[name] for name in shapes})


def _without_full(topology: Topology) -> Topology:
    return Topology({name: layer for name, layer in topology.items() if layer.density < 1})


def in_channels_last(plain: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a copy of a model and its images in the format in which dense convolutions are fastest."""
    memory = torch.channels_last
    model = copy.deepcopy(plain).to(memory_format=memory)  # type: ignore[call-overload]  # torch's stubs lack it
    return model, x.contiguous(memory_format=memory)


def _makers() -> dict[str, Callable[[LayerTopology, Tensor], nn.Module]]:
    makers = dict(RIVALS)
    if has_sparselab():
        makers["sparselab"] = lambda topology, values: sparselab_linear(topology)
    return makers


class _Biased(nn.Module):
    """A rival's linear layer with the bias that it lacks."""

    def __init__(self, linear: nn.Module, bias: nn.Parameter):
        super().__init__()
        self.linear, self.bias = linear, bias

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.bias


def _rival(plain: nn.Module, topology: Topology, make: Callable[[LayerTopology, Tensor], nn.Module]) -> nn.Module:
    """Return a copy of a perceptron in which a rival computes the sparse layers. Full ones stay dense."""
    model = copy.deepcopy(plain)
    for name, layer in _without_full(topology).items():
        module = model.get_submodule(name)
        values = module.get_parameter("weight").detach().flatten()[layer.indices]
        model.set_submodule(name, _Biased(make(layer, values), module.get_parameter("bias")))
    return model
