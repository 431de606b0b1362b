"""What the tests of training share: tiny networks, tiny data, and bit-by-bit comparison."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit.layers import shapes_of, sparse_layers, sparsify
from sparsekit.rules import SET, RigL, Rule
from sparsekit.topology.selection import random_topology
from sparsekit.train import train_step
from sparsekit.utils.seeds import generator

STORAGES = ("masked", "csr")
FEATURES, CLASSES = 6, 3
# Five rewirings, at steps 0, 2, 4, 6 and 8.
RULES = {"set": SET(every=2, stop=9, drop_fraction=0.5), "rigl": RigL(every=2, stop=9, drop_fraction=0.5)}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.02, amsgrad=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.05, initial_accumulator_value=0.1),
}


def plain_mlp(*, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Return 6-16-12-3, drawn from the seed; torch's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(FEATURES, 16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(16, 12),
            nn.ReLU(),
            nn.Linear(12, CLASSES),
        )


def plain_cnn(*, seed: int = 0) -> nn.Sequential:
    """Return a convolution, batch norm and a linear layer, for pictures of 2 x 5 x 5."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(150, CLASSES),
        )


def sparse(plain: nn.Module, storage: str = "masked", *, density: float = 0.3, seed: int = 0) -> nn.Module:
    """Return a sparse copy of a plain model."""
    return sparsify(plain, random_topology(shapes_of(plain), density, seed=seed), storage, init="dense")


def tiny(storage: str = "masked", *, dtype: torch.dtype = torch.float32, **settings: Any) -> nn.Module:
    """Return a sparse MLP that learns `batches_of` within a few steps."""
    return sparse(plain_mlp(**settings).to(dtype), storage)


def batches_of(count: int, *, size: int = 8, dtype: torch.dtype = torch.float32, seed: int = 0) -> list:
    """Return batches whose class is the largest of the first three features."""
    draws = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(size, FEATURES, generator=draws, dtype=dtype) for _ in range(count)]
    return [(x, x[:, :CLASSES].argmax(1)) for x in inputs]


def pictures_of(count: int, *, size: int = 8, dtype: torch.dtype = torch.float32, seed: int = 0) -> list:
    """Return batches of 2 x 5 x 5 pictures whose class is the brightest of three pixels."""
    draws = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(size, 2, 5, 5, generator=draws, dtype=dtype) for _ in range(count)]
    return [(x, x[:, 0, 0, :CLASSES].argmax(1)) for x in inputs]


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable,
    rule: Rule,
    *,
    first_step: int = 0,
    **settings: Any,
) -> list:
    """Walk the visible loop with seed 0 and return the step and change of each rewiring."""
    changes = []
    for step, batch in enumerate(batches, first_step):
        draws = generator(0, "rewire", step)
        _, change = train_step(model, optimizer, batch, cross_entropy, rule, step, draws, **settings)
        if change is not None:
            changes.append((step, change))
    return changes


def states(*things: nn.Module | torch.optim.Optimizer) -> list[dict]:
    """Return copies of the states of models and optimizers, to compare with later."""
    return copy.deepcopy([thing.state_dict() for thing in things])


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal bit for bit: NaN equals NaN, and -0.0 is not 0.0."""
    if isinstance(first, torch.Tensor):
        return (
            isinstance(second, torch.Tensor)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and torch.equal(_bytes(first), _bytes(second))
        )
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def largest_difference(first: nn.Module, second: nn.Module) -> float:
    """Return the largest difference between the values of two models' connections and other parameters."""
    pairs = [*zip(values_of(first), values_of(second), strict=True)]
    return max(float((a - b).abs().max()) for a, b in pairs if a.numel())


def values_of(model: nn.Module) -> list[torch.Tensor]:
    """Return every trained number, sparse layers as `values()`, so that both storages compare."""
    layers = sparse_layers(model).values()
    packed = {id(layer.param) for layer in layers}
    others = [p.detach().clone() for p in model.parameters() if id(p) not in packed]
    return [layer.values().clone() for layer in layers] + others


def is_clean(model: nn.Module) -> bool:
    """Whether a masked model holds nothing where there is no connection, and no layer is still recording."""
    layers = list(sparse_layers(model).values())
    quiet = all(getattr(layer, "catcher", None) is None and not layer._forward_hooks for layer in layers)
    return quiet and all(not _off_mask(layer, layer.param).any() for layer in layers if layer.storage == "masked")


def optimizer_is_clean(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Whether no optimizer tensor holds anything where a masked layer has no connection."""
    layers = [layer for layer in sparse_layers(model).values() if layer.storage == "masked"]
    tensors = [(layer, t) for layer in layers for t in optimizer.state[layer.param].values() if t.shape == layer.shape]
    return all(not _off_mask(layer, tensor).any() for layer, tensor in tensors)


def _off_mask(layer: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach()[~layer.topology.mask()]


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
