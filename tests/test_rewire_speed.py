"""A rewiring costs what its connections cost: the loops are linear, nothing is done twice, and nothing is in vain."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers import OPTIMIZERS, STORAGES, mlp, random_layer
from torch import nn

import sparsekit as sk
from sparsekit.kernels import sampling_loops
from sparsekit.layers import transition
from sparsekit.layers.csr import SparseLinear
from sparsekit.layers.kinds import LinearKind
from sparsekit.rules import SET
from sparsekit.schedules import Constant
from sparsekit.topology.sorted_sets import compiled


def test_numba_is_loaded_by_the_first_large_array_and_not_before():
    ask = """if True:
        import sys, torch
        from sparsekit.topology import LayerTopology
        def use(width):
            a, b = (LayerTopology((1, 2 * width), torch.arange(start, width + start)) for start in (0, 5))
            (a | b, a - b, a.csc(), a.position_of(b.indices), a.missing_at(torch.arange(width)))
            return "numba" in sys.modules
        print(use(1000), use(40_000))
    """
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True"]


class Counted:
    """An array that counts how many of its numbers are read or written."""

    touched = 0

    def __init__(self, array: np.ndarray):
        self.array, self.size = array, array.size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at):
        Counted.touched += len(range(*at.indices(self.size))) if isinstance(at, slice) else 1
        return self.array[at]

    def __setitem__(self, at, value):
        Counted.touched += len(range(*at.indices(self.size))) if isinstance(at, slice) else 1
        self.array[at] = value


def work_of(function, *arguments) -> int:
    """Run compiled code as plain Python; return how many numbers it touches."""
    Counted.touched = 0
    function.py_func(*[Counted(x) if isinstance(x, np.ndarray) else x for x in arguments])
    return Counted.touched


def works(count: int) -> dict[str, int]:
    """What each loop touches for so many connections, a fifth of which change; ten to a row on the average."""
    draw = np.random.default_rng(0)
    rows = width = count // 10
    numbers = draw.choice(rows * width, count + count // 5, replace=False)
    old, new = np.sort(numbers[:count]), np.sort(numbers[count // 5 :])
    ranks = np.sort(draw.choice(rows * width - count, count // 5))

    def room(size: int) -> np.ndarray:
        return np.zeros(size, np.int64)

    pointers, cols = compiled.compress(old, rows, width)
    keys, bits, ends = room(count), count.bit_length(), compiled.transpose(pointers, cols, width)[0]
    starts, blocks = ends[:-1].copy(), ends[: -1 : 1 << compiled.BLOCK_BITS].copy()
    edges, points, outputs = np.sort(draw.random(rows)), draw.random(count), np.sort(draw.integers(rows, size=count))
    drawn = outputs * width + draw.integers(width, size=count)
    return {
        "count sorted": work_of(sampling_loops.count_sorted, edges, np.sort(points)),
        "count indexed": work_of(sampling_loops.count_indexed, edges, points),
        "distinct outside": work_of(sampling_loops.distinct_outside, drawn, outputs, old),
        "positions_in": work_of(compiled._positions_in, old, new, room(count)),
        "union": work_of(compiled._union, old, new, room(2 * count)),
        "intersection": work_of(compiled._intersection, old, new, room(count + 1)),
        "match": work_of(compiled._match, old, new, room(count), room(count + 1), room(count + 1)),
        "missing_at": work_of(compiled._missing_at, old, ranks, room(ranks.size)),
        "compress": work_of(compiled._compress, old, width, room(rows + 1), room(count)),
        "count": work_of(compiled._count, cols, room(width + 1)),
        "into blocks": work_of(compiled._into_blocks, pointers, cols, bits, blocks, keys),
        "within blocks": work_of(compiled._within_blocks, keys, bits, blocks, starts, room(count), room(count)),
    }


def test_eight_times_as_many_connections_are_eight_times_the_work(monkeypatch):
    monkeypatch.setattr(sampling_loops, "sort_part", sampling_loops.sort_part.py_func)
    few, many = works(1000), works(8000)
    for name, work in few.items():
        assert work >= 1000, name
        assert many[name] <= 8.2 * work, name


def wide(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A csr layer with 16 connections per output, and an optimizer that has taken a step."""
    topology = random_layer((width, width), 16 * width)
    model = nn.Sequential(SparseLinear(LinearKind(), topology, torch.randn(topology.count), None))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9)
    model[0].packed_weight.grad = torch.ones_like(model[0].packed_weight)
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("allow_regrowth", [True, False])
def test_a_layer_eight_times_as_wide_takes_less_than_sixteen_times_as_long_to_rewire(allow_regrowth):
    rule = SET(stop=None, every=1, drop_fraction=Constant(0.2), allow_regrowth=allow_regrowth)
    times: dict[int, list[float]] = {2048: [], 16384: []}
    nets = {width: wide(width) for width in times}
    for step in range(7):  # in turns, so that whatever else the machine does slows down both
        for width, (model, optimizer) in nets.items():
            start = time.process_time()  # of this process alone
            sk.rewire(model, rule.propose(sk.views(model), step, sk.generator(step)), optimizer)
            model[0].topology.csc()
            times[width].append(time.process_time() - start)
    assert min(times[16384]) < 16 * min(times[2048])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_where_connections_stood_is_found_once_however_many_tensors_move(storage, optimizer, monkeypatch):
    calls = []
    match = transition.match
    monkeypatch.setattr(transition, "match", lambda old, new: calls.append(0) or match(old, new))
    model = sk.sparsify(mlp(8, 9, 3), sk.random_topology({"0": (9, 8), "2": (3, 9)}, 0.3), storage, init="dense")
    updates = OPTIMIZERS[optimizer](model.parameters())
    model(torch.ones(2, 8, dtype=torch.float64)).sum().backward()
    updates.step()
    sk.rewire(model, sk.random_topology({"0": (9, 8), "2": (3, 9)}, 0.3, seed=1), updates)
    assert len(calls) == 2


@pytest.mark.parametrize("storage", STORAGES)
def test_a_topology_that_a_layer_takes_over_is_not_checked_again(storage):
    model = sk.sparsify(mlp(8, 3), sk.random_topology({"0": (3, 8)}, 0.3), storage, init="dense")
    new = sk.random_topology({"0": (3, 8)}, 0.3, seed=1)
    sk.rewire(model, new)
    assert model[0].topology is new["0"]
