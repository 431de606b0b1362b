"""Bytes that a csr layer holds while it trains, counted from the live tensors."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsekit.analysis.costs.benchmark.layers import Layer
from sparsekit.layers import shapes_of, sparsify
from sparsekit.layers.csr import CsrLayer
from sparsekit.topology.selection import random_topology

PARTS = ("values", "gradient", "momentum", "positions", "structure")


def bytes_per_connection(layer: Layer, density: float) -> dict[str, float]:
    """Return what a layer keeps after one step of SGD with momentum, per connection and part.

    `positions` are the indices that are saved in checkpoints. `structure` is everything derived from them for the
    kernels: arrays by row and by column, and the plans of a convolution. Activations and scratch are left out.
    """
    torch.manual_seed(0)
    plain, x = layer.make(), torch.randn(layer.batch_shape)
    layer_csr = sparsify(plain, random_topology(shapes_of(plain), density, allocation="uniform", seed=0), "csr")
    assert isinstance(layer_csr, CsrLayer)
    optimizer = torch.optim.SGD(layer_csr.parameters(), lr=0.1, momentum=0.9)
    layer_csr(x).square().mean().backward()
    optimizer.step()
    return {part: size / layer_csr.topology.count for part, size in live_bytes(layer_csr, optimizer).items()}


def live_bytes(layer: CsrLayer, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Return the bytes of each part of a layer in training. Memory that two parts share counts for the first."""
    counted: set[int] = set()
    parts = (layer.param.data, layer.param.grad, optimizer.state.get(layer.param, {}), layer.indices, layer.structure)
    return {name: sum(_sizes(part, counted)) for name, part in zip(PARTS, parts, strict=True)}


def _sizes(thing: Any, counted: set[int]) -> Iterator[int]:
    """Yield the size of each block of memory in a thing that was not counted before."""
    if isinstance(thing, np.ndarray) and isinstance(thing.base, Tensor | np.ndarray):
        yield from _sizes(thing.base, counted)
    elif isinstance(thing, Tensor | np.ndarray):
        is_tensor = isinstance(thing, Tensor)
        address = thing.untyped_storage().data_ptr() if is_tensor else thing.ctypes.data
        if address not in counted:
            counted.add(address)
            yield thing.untyped_storage().nbytes() if is_tensor else thing.nbytes
    elif id(thing) not in counted:
        counted.add(id(thing))
        for part in _parts(thing):
            yield from _sizes(part, counted)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple):
        return list(thing)
    # The values of cached properties stand beside the fields.
    return list(vars(thing).values()) if dataclasses.is_dataclass(thing) else []
