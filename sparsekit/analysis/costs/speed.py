"""What sparse layers promise in operations, and what the clock of this machine says.

Steps are timed in turn, so that whatever disturbs one way of computing disturbs all. Times differ from machine to
machine and from hour to hour, but ratios of times that were measured together differ less.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.costs.forward_flops import forward_flops
from sparsekit.analysis.costs.memory import memory_bytes
from sparsekit.kernels import feature_major
from sparsekit.layers import sparsify, topology_of
from sparsekit.layers.auto import training_step
from sparsekit.rewiring.capture import LayerView, capture_io, views
from sparsekit.rules import Rule
from sparsekit.topology.selection import random_topology
from sparsekit.utils.memory import page_faults
from sparsekit.utils.seeds import generator
from sparsekit.utils.timing import Effort, median_seconds

WAYS = ("dense", "masked", "csr", "csr, feature-major")
BF16_WAYS = ("dense, bf16", "dense, bf16 autocast")
BYTES = {"dense": "dense", "masked": "masked_layer", "csr": "csr_layer", "csr, feature-major": "csr_layer"}
FAULTY_STEPS = 3  # over which page faults are counted


def storages_of(layer: nn.Module, density: float, *, seed: int = 0) -> dict[str, nn.Module]:
    """Return the layer as it is and, with random connections of this density, in both storages.

    Args:
        layer: a plain linear layer or 2-D convolution.
        density: share of its weights that exist in the sparse ones, in (0, 1].
        seed: of the connections.

    Example:
        >>> list(storages_of(nn.Linear(8, 8), 0.5))
        ['dense', 'masked', 'csr']
    """
    model = nn.Sequential(layer)
    topology = random_topology({"0": tuple(layer.get_parameter("weight").shape)}, density, seed=seed)
    return {"dense": model} | {name: sparsify(model, topology, name, init="dense") for name in ("masked", "csr")}


def step_seconds(
    layer: nn.Module,
    density: float,
    example: Float[Tensor, "n *input"],
    *,
    seed: int = 0,
    rounds: int = 5,
    bf16: bool = False,
) -> dict[str, float]:
    """Return the seconds of a training step of one layer, forward and backward, in each way of computing it.

    `dense` is the layer of PyTorch, without any connection missing. `masked` and `csr` are the two storages. The last
    is csr again, but input and output lie in memory as its kernels like them (see `kernels.layout`), so nothing is
    transposed. Between two csr layers they always do.

    Args:
        layer: a plain linear layer or 2-D convolution.
        density: share of its weights that exist in the sparse ones, in (0, 1].
        example: a batch of inputs.
        seed: of the connections.
        rounds: samples of each way, measured in turn, and at most twice as many where other work disturbs them.
        bf16: whether to time the dense layer in bfloat16 too, as a whole and under autocast. Processors without such
            arithmetic take tens of times as long for it.
    """
    return median_seconds(_steps(layer, density, example, seed, bf16=bf16), Effort(rounds=rounds))


def _steps(layer: nn.Module, density: float, example: Tensor, seed: int, *, bf16: bool) -> dict[str, Any]:
    modules = storages_of(layer, density, seed=seed)
    inputs = {name: example.contiguous() for name in modules} | {WAYS[-1]: feature_major(example)}
    modules |= {WAYS[-1]: modules["csr"]}
    steps = {name: training_step(modules[name], inputs[name]) for name in WAYS}
    if bf16:
        half = copy.deepcopy(modules["dense"]).bfloat16()
        steps[BF16_WAYS[0]] = training_step(half, inputs["dense"].bfloat16())
        steps[BF16_WAYS[1]] = training_step(Autocast(modules["dense"]), inputs["dense"])
    return steps


class Autocast(nn.Module):
    """A model whose forward pass is under autocast to bfloat16."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Apply the model."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(x)


def speed_table(
    layer: nn.Module, density: float, example: Float[Tensor, "n *input"], *, seed: int = 0, bf16: bool = False
) -> pd.DataFrame:
    """Return for each way of computing a layer what is promised, what was measured, and what it takes in memory.

    Args:
        layer: a plain linear layer or 2-D convolution.
        density: share of its weights that exist in the sparse ones, in (0, 1].
        example: a batch of inputs.
        seed: of the connections.
        bf16: whether to add the dense layer in bfloat16, as in `step_seconds`.

    Returns:
        Rows `dense`, `masked`, `csr` and `csr, feature-major`, and columns `promised` (times fewer operations than
        dense), `milliseconds`, `measured` (times faster than dense), `bytes` (of the weights and their indices), and
        `page faults` (pages that a step waits for). `speed_verdict` says in words which way wins.
    """
    model = storages_of(layer, density, seed=seed)["masked"]
    flops = forward_flops(model, example).sum()
    memory = memory_bytes(topology_of(model)).loc["0"]
    times = step_seconds(layer, density, example, seed=seed, bf16=bf16)
    table = pd.DataFrame({"milliseconds": pd.Series(times) * 1000})
    table.insert(0, "promised", flops["dense"] / flops["sparse"])
    table.loc[table.index.str.startswith("dense"), "promised"] = 1.0
    table["measured"] = table.loc["dense", "milliseconds"] / table["milliseconds"]
    halves = {BF16_WAYS[0]: int(memory["dense"]) // 2, BF16_WAYS[1]: int(memory["dense"])}
    table["bytes"] = [halves[name] if name in halves else int(memory[BYTES[name]]) for name in table.index]
    steps = _steps(layer, density, example, seed, bf16=bf16)
    table["page faults"] = [_page_faults(steps[name]) for name in table.index]
    return table.rename_axis("way")


def _page_faults(step: Callable[[], object]) -> float:
    step()  # whose memory the next ones find
    before = page_faults()
    for _ in range(FAULTY_STEPS):
        step()
    return (page_faults() - before) / FAULTY_STEPS


def speed_verdict(table: pd.DataFrame) -> str:
    """Say which way wins in a `speed_table`, the best of csr or the best dense one.

    Example:
        >>> ways = ["dense", "masked", "csr", "dense, bf16"]
        >>> print(speed_verdict(pd.DataFrame({"milliseconds": [4.0, 5.0, 2.0, 1.0]}, index=ways)))
        csr loses. It takes 2.00 times as long as dense, bf16.
    """
    times: dict[str, float] = table["milliseconds"].to_dict()
    csr = min((way for way in times if way.startswith("csr")), key=times.__getitem__)
    dense = min((way for way in times if way.startswith("dense")), key=times.__getitem__)
    if times[csr] < times[dense]:
        return f"{csr} wins. It is {times[dense] / times[csr]:.2f} times as fast as {dense}."
    return f"{csr} loses. It takes {times[csr] / times[dense]:.2f} times as long as {dense}."


def break_even(densities: Sequence[float], sparse: Sequence[float], dense: Sequence[float]) -> float | None:
    """Return the density below which the sparse way was always the faster one, or None where it never was.

    Between two measured densities the times count as straight lines in logarithmic scales.

    Args:
        densities: at which both were measured, above 0.
        sparse, dense: seconds, or any other unit, at these densities.

    Raises:
        ValueError: if the three differ in length.

    Example:
        >>> round(break_even([0.1, 0.4], [1.0, 4.0], [2.0, 2.0]), 3)
        0.2
    """
    if not len(densities) == len(sparse) == len(dense):
        raise ValueError(
            f"there must be a sparse and a dense time for each density, got {len(densities)}, {len(sparse)} and "
            f"{len(dense)}"
        )
    last, last_gap = None, 0.0
    for density, sparse_time, dense_time in sorted(zip(densities, sparse, dense, strict=True)):
        gap = math.log(sparse_time / dense_time)
        if gap > 0:
            return last and last * (density / last) ** (-last_gap / (gap - last_gap))
        last, last_gap = density, gap
    return last


def update_seconds(
    rules: Mapping[str, Rule], widths: Sequence[int], *, fan_in: int = 16, batch_size: int = 32, rounds: int = 5
) -> pd.DataFrame:
    """Return how long rules take to choose the new connections of a square layer, as it grows wider.

    The layer keeps the same number of connections per output, in storage csr, so nothing dense exists but what a rule
    makes. We measure `rule.propose` at step 0, after a captured backward pass.

    Args:
        rules: what to measure, by name.
        widths: inputs, and outputs, of each layer.
        fan_in: connections per output, on average.
        batch_size: of the random inputs.
        rounds: samples of each, of which the smallest counts, or two where they take longer than a second.

    Returns:
        A row per width, a column of seconds per rule.
    """
    rows = {}
    for width in widths:
        layer_views = _wide_views(width, fan_in, batch_size)
        steps = {name: _proposal(rule, layer_views) for name, rule in rules.items()}
        rows[width] = {name: _least_seconds(step, rounds) for name, step in steps.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("width")


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the power of `x` with which `y` grows, for example 1 for in proportion and 2 for with the square.

    It is the slope of the straight line that fits the logarithms best (least squares).

    Example:
        >>> round(log_log_slope([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    return statistics.linear_regression([math.log(one) for one in x], [math.log(one) for one in y]).slope


ENOUGH = 1.0  # seconds, after which more samples would try a reader's patience


def _least_seconds(step: Callable[[], object], rounds: int) -> float:
    """Return the fastest of two samples or more, because the first pays for compiling and others may be disturbed."""
    samples = [_seconds(step), _seconds(step)]
    while len(samples) < rounds and sum(samples) < ENOUGH:
        samples.append(_seconds(step))
    return min(samples)


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _proposal(rule: Rule, layer_views: Mapping[str, LayerView]) -> Callable[[], object]:
    return lambda: rule.propose(layer_views, 0, generator(0, "update"))


def _wide_views(width: int, fan_in: int, batch_size: int) -> dict[str, LayerView]:
    with torch.device("meta"):
        plain = nn.Sequential(nn.Linear(width, width, bias=False))
    model = sparsify(plain, random_topology({"0": (width, width)}, min(1.0, fan_in / width), seed=0), "csr")
    with capture_io(model) as io:
        model(torch.randn(batch_size, width, generator=generator(0, "inputs"))).square().mean().backward()
    return views(model, io)
