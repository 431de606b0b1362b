"""Small models, layers, optimizers and steps that several test modules share."""

import itertools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.layers import SparseLayer
from sparsekit.rules import Rule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct

STORAGES = ("masked", "csr")

OPTIMIZERS: dict[str, Callable] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}

# Every way a linear layer or convolution can be set up, with the shape of one batch.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (4, 7)),
    "linear on sequences": (lambda: nn.Linear(7, 5), (2, 3, 7)),
    "linear on one sample": (lambda: nn.Linear(7, 5), (7,)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (4, 7)),
    "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 6, 5)),
    "conv on one image": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "conv without bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 5)),
    "pointwise": (lambda: nn.Conv2d(5, 6, 1), (2, 5, 3, 3)),
    "stride": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 7, 6)),
    "uneven": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 2)), (2, 3, 7, 6)),
    "same": (lambda: nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 5, 6)),
    "same, dilated": (lambda: nn.Conv2d(3, 4, (3, 2), padding="same", dilation=(1, 2)), (2, 3, 5, 6)),
    "valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid"), (2, 3, 5, 6)),
    "dilation": (lambda: nn.Conv2d(3, 4, 3, dilation=2, padding=2), (2, 3, 7, 6)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 5, 5)),
    "circular": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="circular"), (2, 3, 5, 6)),
    "reflect": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect", stride=2), (2, 3, 5, 6)),
    "replicate, same": (lambda: nn.Conv2d(3, 4, 3, padding="same", padding_mode="replicate"), (2, 3, 5, 6)),
    "same, even": (lambda: nn.Conv2d(3, 4, (2, 4), padding="same", padding_mode="replicate"), (2, 3, 5, 6)),
}


def times_as_long(action: Callable[[int], object], than: Callable[[], object], *, turns: int) -> float:
    """Return how many times as long `action(turn)` takes as `than()`, each at its quickest.

    In turns and by the clock of this process alone, so that a slow or busy machine slows down both.
    """
    spent: tuple[list[float], list[float]] = [], []
    for turn in range(turns):
        for call, seconds in zip((lambda turn=turn: action(turn), than), spent, strict=True):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return min(spent[0]) / min(spent[1])


def random_numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers of a normal distribution, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_layer(shape: tuple[int, ...], count: int, seed: int = 0) -> LayerTopology:
    """A layer with so many connections anywhere."""
    return LayerTopology(shape, draw_distinct(math.prod(shape), count, torch.Generator().manual_seed(seed)))


def made(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A float64 model with the same initial values for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def mlp(*widths: int) -> nn.Module:
    """A float64 perceptron."""

    def make() -> nn.Module:
        layers = [(nn.Linear(inputs, outputs), nn.Tanh()) for inputs, outputs in itertools.pairwise(widths)]
        return nn.Sequential(*itertools.chain(*layers))[:-1]

    return made(make)


def small_conv_net() -> nn.Module:
    """A float64 convolutional network for images of (2, 6, 6), with three outputs."""
    return made(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, stride=2, groups=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: mlp(6, 8, 3), (6,)),
    "conv": (small_conv_net, (2, 6, 6)),
}


def sparse(model: nn.Module, storage: str, density: float = 0.4, seed: int = 0) -> nn.Module:
    """The model with ERK counts at random places."""
    return sk.sparsify(model, sk.random_topology(sk.shapes_of(model), density, seed=seed), storage, init="dense")


def batch_for(shape: tuple[int, ...], size: int = 8, seed: int = 0, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Inputs and labels that depend on the seed only."""
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, *shape, generator=draw, dtype=torch.float64),
        torch.randint(classes, (size,), generator=draw),
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, rule: Rule, shape, *, steps: int, first: int = 0) -> list:
    """Take so many steps on fresh batches; return the changes of the topology, None where there was none."""
    changes = []
    for step in range(first, first + steps):
        batch = batch_for(shape, seed=step)
        draws = sk.generator(0, "rewire", step)
        changes.append(sk.train_step(model, optimizer, batch, nn.functional.cross_entropy, rule, step, draws)[1])
    return changes


def capture(model: nn.Module, *batches: Tensor) -> dict:
    """Run the batches forward and backward (the loss: half the sum of squares), and return what was captured."""
    with sk.capture_io(model) as io:
        for x in batches:
            model(x).pow(2).sum().div(2).backward()
    return io


def dense_gradients(model: nn.Module, *batches: Tensor) -> dict[str, Tensor]:
    """What autograd gives for every weight of the densified model, with the loss of `capture`."""
    plain = sk.densify(model)
    for x in batches:
        plain(x).pow(2).sum().div(2).backward()
    modules = dict(plain.named_modules())
    return {name: modules[name].weight.grad.flatten() for name in sk.sparse_layers(model)}


def off_topology(layer: SparseLayer, tensor: Tensor) -> Tensor:
    """What a tensor shaped like a masked layer's weight holds where no connection is."""
    return tensor.flatten()[layer.topology.missing()]


def same_topology(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same connections."""
    return sk.topology_of(first) == sk.topology_of(second)


def counts_of(topology: Topology) -> dict[str, int]:
    """Connections of each layer."""
    return {name: layer.count for name, layer in topology.items()}
