"""Compile the kernels before a training needs them, several at a time."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

import torch
from torch import Tensor

from sparsekit.kernels.batch_norm import batch_norm
from sparsekit.kernels.layer_norm import layer_norm
from sparsekit.kernels.layout import batch_major, feature_major
from sparsekit.kernels.structure import Structure
from sparsekit.topology import LayerTopology

BATCH, CHANNELS, SIDE = 32, 4, 8
KERNEL = 3
UNFOLD = {"kernel_size": (KERNEL, KERNEL), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}


def compile_ahead(*, threads: int, workers: int | None = None) -> Iterator[str]:
    """Compile what a training in float32 runs, in processes of their own, unless it is there already.

    A script must call it below `if __name__ == "__main__":`, because these processes import the script.

    Args:
        threads: of torch, in the trainings to come. One thread runs other kernels than several.
        workers: processes at a time, else one for each processor.

    Yields:
        The name of each of `GROUPS` that is ready. All take about as long.

    Raises:
        ValueError: if there is no thread or no worker.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if threads < 1 or workers < 1:
        raise ValueError(f"threads and workers must be at least 1, got {threads} and {workers}. Leave workers away")
    with ProcessPoolExecutor(min(workers, len(GROUPS)), mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(compile_group, name, threads): name for name in GROUPS}
        for done in as_completed(waiting):
            done.result()
            yield waiting[done]


def compile_group(name: str, threads: int) -> None:
    """Compile a group of kernels in this process, by running them once on a few numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        GROUPS[name]()
    finally:
        torch.set_num_threads(before)


def _linear() -> tuple[Structure, Tensor, Tensor]:
    """Return a full layer, its values, and a feature-major batch, which is also one of gradients."""
    structure = Structure(LayerTopology.full((BATCH, BATCH)))
    return structure, torch.ones(structure.num_connections), torch.ones(BATCH, BATCH)


def _linear_forward() -> None:
    from sparsekit.kernels.cpu import calls

    structure, values, x = _linear()
    calls.linear_forward(values, structure, None, x, torch.empty_like(x), BATCH)
    for shape in ((BATCH, BATCH), (1, 1), (BATCH, CHANNELS, SIDE, SIDE), (1, 1, SIDE, SIDE)):  # a few go to one thread
        batch_major(feature_major(torch.ones(shape)))


def _linear_backward(*, needs_input: bool) -> None:
    from sparsekit.kernels.cpu import calls

    structure, values, x = _linear()
    calls.linear_backward(values, structure, x, x, BATCH, needs_input=needs_input, needs_bias=True)


def _conv2d() -> tuple[Structure, Tensor, Tensor]:
    structure = Structure(LayerTopology.full((CHANNELS, CHANNELS, KERNEL, KERNEL)))
    return structure, torch.ones(structure.num_connections), torch.ones(SIDE, SIDE, CHANNELS, BATCH)


def _conv2d_forward(*, has_bias: bool) -> None:
    from sparsekit.kernels.cpu import calls

    structure, values, x = _conv2d()
    calls.conv2d_forward(values, structure, torch.ones(CHANNELS) if has_bias else None, x, torch.empty_like(x), UNFOLD)


def _conv2d_backward(*, needs_input: bool) -> None:
    from sparsekit.kernels.cpu import calls

    structure, values, x = _conv2d()
    calls.conv2d_backward(values, structure, x, x, UNFOLD, needs_input=needs_input)


def _batch_norm() -> None:
    x = torch.ones(BATCH, CHANNELS, SIDE, SIDE, requires_grad=True)
    weight, bias = torch.ones(CHANNELS), torch.ones(CHANNELS)
    for added in (None, x):
        y, _, _ = batch_norm(feature_major(x), weight, bias, eps=1e-5, relu=True, added=added)
        batch_major(y).sum().backward()


def _layer_norm() -> None:
    from sparsekit.kernels.cpu.layer_norm import LANES

    x = torch.ones(3 * LANES, CHANNELS, requires_grad=True)  # so that three threads have some
    batch_major(layer_norm(feature_major(x), torch.ones(CHANNELS), None, eps=1e-5)).sum().backward()


GROUPS: dict[str, Callable[[], None]] = {
    "linear layers": _linear_forward,
    "the backward pass of linear layers": partial(_linear_backward, needs_input=True),
    "the backward pass of a first linear layer": partial(_linear_backward, needs_input=False),
    "convolutions": partial(_conv2d_forward, has_bias=False),
    "convolutions with a bias": partial(_conv2d_forward, has_bias=True),
    "the backward pass of convolutions": partial(_conv2d_backward, needs_input=True),
    "the backward pass of a first convolution": partial(_conv2d_backward, needs_input=False),
    "batch norms": _batch_norm,
    "layer norms": _layer_norm,
}
