"""How every part of the analysis looks at a model without changing it: on a copy, with the random streams restored."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers import MaskedMatrix, SparseLayer
from sparsekit.layers.dense_weight import DenseWeight
from sparsekit.layers.owners import layers_of
from sparsekit.layers.weight_queries import answers_with_numbers
from sparsekit.topology import LayerTopology
from sparsekit.utils.seeds import generator, seeded_rng

WEIGHTED = (SparseLayer, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def weighted_layers(model: nn.Module) -> dict[str, Any]:
    """Return the linear and convolutional layers of a model by name, sparse and dense, in its order."""
    called = ((name, x) for name, x in model.named_modules() if not isinstance(x, MaskedMatrix))
    return {name: module for name, module in called if isinstance(module, WEIGHTED)}


def layer_topology(module: Any) -> LayerTopology:
    """Return which connections a layer has. A dense layer has all of them."""
    if isinstance(module, SparseLayer):
        return module.topology
    if masked := layers_of(module, "weight"):
        return masked[0].topology
    return LayerTopology.full(tuple(module.weight.shape), module.weight.device)


def weights_read(func: Callable, operands: Iterable[Any]) -> list[Any]:
    """Return the sparse layers whose weight a function of torch computes with, outside of their own forward."""
    layers = [part.layer for part in operands if isinstance(part, DenseWeight)]
    return layers if layers and answers_with_numbers(func) else []


def check_is_called(func: Callable, operands: Iterable[Any]) -> None:
    """Check that a function of torch computes with no sparse layer's weight, whose connections nobody could follow.

    Raises:
        ValueError: if it does.
    """
    if layers := weights_read(func, operands):
        raise ValueError(
            "sparse layers must be called for their connections to be followed, got a forward that computes with the "
            f"weight of {layers[0]} by itself. Write layer(x)"
        )


@contextmanager
def observed(model: nn.Module) -> Iterator[nn.Module]:
    """Give a copy in evaluation mode to run and hook. Gradients are off, and random streams are restored after."""
    with seeded_rng(generator(0, "observing")), torch.no_grad():
        yield copy.deepcopy(model).eval()


def inputs_of(batches: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the inputs of batches, whether each is the inputs alone or a tuple that begins with them."""
    for batch in batches:
        yield batch[0] if isinstance(batch, tuple | list) else batch
