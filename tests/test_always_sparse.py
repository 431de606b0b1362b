"""Storage csr never makes a tensor as large as the dense layer: forward, backward, growing, rewiring, updating."""

import pytest
import torch
from helpers import OPTIMIZERS, batch_for, made
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import sparsekit as sk
from sparsekit import datasets
from sparsekit.models.mlp import mlp
from sparsekit.models.small_cnn import small_cnn
from sparsekit.rules import GSE, SET, DropGrow, GraBo, GraEst, GSEReleased, RigL, SynFlow, Uniform
from sparsekit.schedules import Constant, Linear

# Weights larger than anything else that a step on two samples touches.
NETS = {
    "linear": (lambda: nn.Sequential(nn.Linear(90, 80), nn.ReLU(), nn.Linear(80, 70)), (90,), 70),
    "linear on sequences": (lambda: nn.Sequential(nn.Linear(90, 80), nn.Flatten(), nn.Linear(240, 70)), (3, 90), 70),
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(24, 32, 3), nn.ReLU(), nn.Conv2d(32, 40, 3, padding=1, stride=2), nn.Flatten()),
        (24, 5, 5),
        160,
    ),
    "grouped conv": (lambda: nn.Sequential(nn.Conv2d(48, 64, 3, groups=2), nn.Flatten()), (48, 4, 4), 256),
}
DENSITY = 0.05


class TooLarge(AssertionError):
    """A tensor as large as a dense layer."""


class RefuseLarge(TorchDispatchMode):
    """Raise as soon as any operation gives a tensor with so many numbers in memory."""

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.largest = limit, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.check(function, tensor)
        return result

    def check(self, function, tensor: torch.Tensor) -> None:
        # A CSR tensor counts what it stores, and a number seen many times counts once.
        stored = tensor.values() if tensor.layout == torch.sparse_csr else tensor
        numbers = min(stored.numel(), stored.untyped_storage().nbytes() // stored.element_size())
        numbers //= 4 if stored.dtype == torch.uint8 else 1  # raw bytes, of numbers that are copied
        self.largest = max(self.largest, numbers)
        if numbers >= self.limit:
            raise TooLarge(f"{function} made {tuple(tensor.shape)}, the limit is {self.limit} numbers")


def smallest_layer(model: nn.Module) -> int:
    return min(layer.size for layer in sk.topology_of(model).values())


def trained(name: str, storage: str, rule, optimizer: str = "momentum", steps: int = 3) -> RefuseLarge:
    """Take some steps, each of which rewires; say what the largest tensor was."""
    make, shape, classes = NETS[name]
    plain = made(make)
    model = sk.sparsify(
        plain, sk.random_topology(sk.shapes_of(plain), DENSITY, allocation="uniform"), storage, init="dense"
    )
    updates = OPTIMIZERS[optimizer](model.parameters())
    with RefuseLarge(smallest_layer(model)) as watch:
        for step in range(steps):
            batch = batch_for(shape, size=2, seed=step, classes=classes)
            loss, draws = nn.functional.cross_entropy, sk.generator(0, step)
            _, change = sk.train_step(model, updates, batch, loss, rule, step, draws)
            assert change is not None
            assert change.num_grown > 0
    return watch


RULES = {
    "set": SET(stop=100, every=1),
    "rigl": RigL(stop=100, every=1),
    "rigl, updating too": RigL(stop=100, every=1, replaces_step=False),
    "rigl, no return": RigL(stop=100, every=1, allow_regrowth=False),
    "rigl, overall": RigL(stop=100, every=1, scope="global"),
    "gse, uniform": GSE(stop=100, every=1),
    "gse, grabo": GSE(stop=100, every=1, candidates=GraBo()),
    "gse, graest": GSE(stop=100, every=1, candidates=GraEst()),
    "gse, synflow": GSE(stop=100, every=1, candidates=SynFlow()),
    "gse, exact": GSE(stop=100, every=1, candidates=GraBo(sampler="exact")),
    "gse, everything": GSE(stop=100, every=1, candidates=Uniform(subset=float("inf"))),
    "gse, released": GSEReleased(stop=100, every=1),
    "density rising": DropGrow(drop_fraction=Constant(0.3), density=Linear(0.05, 0.2), stop=10, every=1),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", NETS)
def test_csr_training_never_makes_a_tensor_as_large_as_a_dense_layer(name, rule):
    trained(name, "csr", rule)


# The thinned layers are larger than every activation of their batches.
WHOLE = {
    "mlp": (mlp, {"hidden": (512, 512)}, (64,), 8, ("head",)),
    "small-cnn": (small_cnn, {"widths": (32, 48, 64)}, (1, 8, 8), 4, ("conv1", "head")),
}


@pytest.mark.parametrize("candidates", [Uniform(), GraBo(), GraEst(), SynFlow()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_training_with_gse_never_makes_a_tensor_as_large_as_a_dense_layer(name, candidates):
    """To the end of its schedule and beyond, tests included; and it learns."""
    build, settings, shape, size, full = WHOLE[name]
    data = datasets.load("digits", flat=len(shape) == 1)
    train, test = (
        [(data.prepare(x), y) for x, y in datasets.batches_in_order(split.take(num * size), size)]
        for split, num in ((data.train, 40), (data.test, 10))
    )
    plain = made(lambda: build(input_shape=shape, num_classes=10, **settings)).float()
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain, exclude=full), DENSITY), "csr")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rule = GSE(stop=len(train), every=5, candidates=candidates)
    with RefuseLarge(smallest_layer(model)) as watch:
        history = sk.fit(model, optimizer, train, rule, epochs=2, test_batches=test, progress=False)
    assert 0 < watch.largest < smallest_layer(model)
    assert len(history.journal) > len(train) // 5 - 2
    assert history.journal[-1] != history.journal.initial
    assert history.last("test accuracy") > 0.3  # of ten classes


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_makes_csr_training_dense(optimizer):
    trained("linear", "csr", RULES["rigl"], optimizer)


@pytest.mark.parametrize("name", NETS)
def test_the_watch_catches_a_masked_layer(name):
    with pytest.raises(TooLarge, match="the limit is"):
        trained(name, "masked", RULES["set"])


def dense_backward(y: torch.Tensor) -> None:
    y.register_hook(lambda g: torch.outer(g.flatten(), g.flatten())[0].view_as(g))
    y.sum().backward()


@pytest.mark.parametrize(
    "dense",
    [
        lambda layer, x: layer.weight,
        lambda layer, x: layer.topology.mask(),
        lambda layer, x: torch.arange(layer.topology.size),
        lambda layer, x: torch.outer(x[0], x[0]),
        lambda layer, x: sk.densify(layer),
        lambda layer, x: dense_backward(layer(x)),
    ],
)
def test_the_watch_catches_every_dense_detour(dense):
    layer = sk.sparsify(nn.Linear(90, 80), sk.random_topology({"": (80, 90)}, DENSITY), "csr", init="dense")
    with RefuseLarge(80 * 90), pytest.raises(TooLarge):
        dense(layer, torch.ones(2, 90))


def test_sets_memory_follows_the_connections_and_not_the_width():
    """Twice as wide and twice as many connections take twice the memory; the dense layer grows fourfold."""

    def largest(width: int) -> int:
        model = sk.sparsify(
            nn.Sequential(nn.Linear(width, width)),
            {"0": sk.random_topology({"0": (width, width)}, 8 / width)["0"]},
            "csr",
            init="dense",
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        batch = torch.ones(2, width), torch.zeros(2, dtype=torch.int64)
        with RefuseLarge(width**2) as watch:
            sk.train_step(model, optimizer, batch, nn.functional.cross_entropy, RULES["set"], 0, sk.generator(0))
        return watch.largest

    assert largest(512) <= 2.1 * largest(256)
