"""The compiled kernels against the reference in float64: any shape, batch and geometry, any number of threads."""

import copy
import os
import subprocess
import sys
import time

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import random_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparsekit as sk
from sparsekit.kernels import Structure, feature_major, sparse_conv2d, sparse_linear
from sparsekit.kernels.cpu import calls, threads, walks
from sparsekit.kernels.cpu.plans import ConvPlan
from sparsekit.kernels.cpu.threads import equal_shares, fair_shares
from sparsekit.topology import LayerTopology

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def near(got: torch.Tensor, exact: torch.Tensor, terms: torch.Tensor) -> None:
    """Equal, relative to the sum of the sizes of what was added up: sums that cancel are not more exact than that."""
    error = (got.double() - exact).abs()
    assert bool((error <= TOLERANCE[got.dtype] * terms + 1e-30).all()), float((error / (terms + 1e-30)).max())


def gradients(function, x, values, bias, g):
    inputs = [tensor.detach().requires_grad_() for tensor in (x, values, bias)]
    y = function(*inputs)
    return (y.detach(), *torch.autograd.grad(y, inputs, g))


def check(function, exact, x, values, bias, g) -> None:
    """Compare outputs and gradients with dense float64, and with the same of sizes as the measure."""
    got = gradients(function, x, values, bias, g)
    wanted = gradients(exact, *(tensor.double() for tensor in (x, values, bias)), g.double())
    sizes = gradients(exact, *(tensor.double().abs() for tensor in (x, values, bias)), g.double().abs())
    for one, two, three in zip(got, wanted, sizes, strict=True):
        near(one, two, three)


def dense(topology: LayerTopology, values: torch.Tensor) -> torch.Tensor:
    return values.new_zeros(topology.size).index_copy(0, topology.indices, values).view(topology.shape)


# Batches around the widths of the vectors: 32, 64 and 128 lanes, and what is left over.
batches = st.sampled_from([1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 160, 200, 257])


@st.composite
def linears(draw):
    rows, cols, batch = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(batches)
    count = draw(st.one_of(st.sampled_from([0, 1, rows * cols]), st.integers(0, rows * cols)))
    return random_layer((rows, cols), count, draw(st.integers(0, 99))), batch


@given(linears(), st.sampled_from(DTYPES), st.booleans(), st.sampled_from([1, 2, 3]))
@settings(max_examples=120)
def test_a_linear_layer_is_the_dense_one_in_float64(problem, dtype, is_feature_major, threads):
    topology, batch = problem
    rows, cols = topology.shape
    x, values, bias, g = (
        torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)
        for seed, shape in enumerate([(batch, cols), (topology.count,), (rows,), (batch, rows)])
    )
    if is_feature_major:
        x, g = feature_major(x), feature_major(g)
    structure = Structure(topology)
    torch.set_num_threads(threads)
    try:
        check(
            lambda x, v, b: sparse_linear(x, v, structure, b),
            lambda x, v, b: F.linear(x, dense(topology, v), b),
            x, values, bias, g,
        )  # fmt: skip
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("batch", [0, 1, 40, 128, 300])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [90, 900])  # few: each thread writes to its own array; many: to the same
def test_nothing_of_a_values_gradient_is_left_unwritten(count, threads, batch):
    topology = random_layer((15, 70), count, seed=0)
    assert (count >= calls.LINE * 3 * 15) == (count == 900)
    x, g = torch.rand(batch, 70), torch.rand(batch, 15)
    values = torch.rand(count, requires_grad=True)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)  # what torch would leave uninitialised is NaN then
    try:
        sparse_linear(x, values, Structure(topology), None).backward(g)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)
    wanted = (g.T @ x).flatten()[topology.indices]
    torch.testing.assert_close(values.grad, wanted)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("slabs", [1, 2, 5])
@pytest.mark.parametrize("batch", [40, 161])
def test_packed_lanes_and_slabs_change_no_result(batch, slabs, threads, monkeypatch):
    monkeypatch.setattr(walks, "num_slabs", lambda *_: slabs)
    monkeypatch.setattr(walks, "packs_from", lambda *_: 1)
    topology = random_layer((23, 37), 300, seed=0)
    x, values, bias, g = (
        torch.randn(shape, generator=seeded(seed)) for seed, shape in enumerate([(batch, 37), 300, 23, (batch, 23)])
    )
    torch.set_num_threads(threads)
    try:
        check(
            lambda x, v, b: sparse_linear(x, v, Structure(topology), b),
            lambda x, v, b: F.linear(x, dense(topology, v), b),
            x, values, bias, g,
        )  # fmt: skip
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("width", "density", "slabs", "packs"),
    [(1024, 0.1, 1, 4), (1024, 0.01, 1, walks.NEVER), (4096, 0.05, 2, 2), (2**16, 0.0001, 1, walks.NEVER)],
)
def test_only_wide_layers_with_many_connections_are_walked_in_slabs(width, density, slabs, packs):
    count = int(width * width * density)
    assert walks.num_slabs(count, width, width) == slabs
    assert walks.packs_from(count, width) == packs


def test_a_structure_that_is_copied_has_index_arrays_of_its_own():
    structure = Structure(random_layer((4, 6), 9))
    x, values = torch.randn(3, 6), torch.randn(9)
    wanted = sparse_linear(x, values, structure, None)
    twin = copy.deepcopy(structure)
    assert not twin._derived  # addresses would lead to the memory of the original
    del structure
    torch.testing.assert_close(sparse_linear(x, values, twin, None), wanted)


def test_values_and_biases_are_read_as_they_are_wherever_they_lie():
    structure, x = Structure(random_layer((4, 6), 9)), torch.randn(3, 6)
    strided, bias = torch.randn(9, 2)[:, 0], torch.randn(4)
    wanted = sparse_linear(x, strided.clone(), structure, bias)
    torch.testing.assert_close(sparse_linear(x, strided, structure, bias.double()), wanted)
    torch.testing.assert_close(sparse_linear(x, strided, structure, torch.stack([bias, bias], 1)[:, 0]), wanted)


def test_an_input_saved_in_another_layout_gives_the_same_gradients():
    """Hooks on saved tensors, such as those that move them to a disk, may return any layout."""
    structure, g = Structure(random_layer((4, 6), 9)), torch.randn(3, 4)
    x, values = torch.randn(6, 3).T.requires_grad_(), torch.randn(9, requires_grad=True)
    wanted = torch.autograd.grad(sparse_linear(x, values, structure, None), (x, values), g)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t, lambda t: t.clone(memory_format=torch.contiguous_format)
    ):
        got = torch.autograd.grad(sparse_linear(x, values, structure, None), (x, values), g)
    torch.testing.assert_close(got, wanted)


@st.composite
def convolutions(draw):
    """Any geometry in which the kernel fits into the padded image."""
    pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    kernel, stride, dilation, padding = draw(pair(1, 4)), draw(pair(1, 3)), draw(pair(1, 2)), draw(pair(0, 2))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(draw(st.integers(low, low + 5)) for low in least)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    shape = (groups * draw(st.integers(1, 4)), draw(st.integers(1, 4)), *kernel)
    places = torch.Size(shape).numel()
    count = draw(st.one_of(st.sampled_from([0, places]), st.integers(0, places)))
    unfold = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return random_layer(shape, count, draw(st.integers(0, 99))), groups, size, draw(batches), unfold


@given(
    convolutions(),
    st.sampled_from(DTYPES),
    st.sampled_from(["contiguous", "channels-last", "rows"]),
    st.sampled_from([1, 2, 3]),
)
@settings(max_examples=150)
def test_a_convolution_is_the_dense_one_in_float64(problem, dtype, layout, threads):
    topology, groups, size, batch, unfold = problem
    sides = {key: value for key, value in unfold.items() if key != "kernel_size"}
    exact = lambda x, v, b: F.conv2d(x, dense(topology, v), b, groups=groups, **sides)  # noqa: E731
    channels, rows = groups * topology.shape[1], topology.shape[0]
    x, values, bias = (
        torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)
        for seed, shape in enumerate([(batch, channels, *size), (topology.count,), (rows,)])
    )
    g = torch.randn(exact(x, values, bias).shape, generator=seeded(9), dtype=torch.float64).to(dtype)
    into = {
        "contiguous": lambda t: t,
        "channels-last": lambda t: t.to(memory_format=torch.channels_last),
        "rows": feature_major,
    }[layout]
    structure = Structure(topology, groups)
    torch.set_num_threads(threads)
    try:
        check(lambda x, v, b: sparse_conv2d(x, v, structure, b, unfold), exact, into(x), values, bias, into(g))
    finally:
        torch.set_num_threads(1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 5))
def test_every_row_has_exactly_one_thread(counts, threads):
    pointers = torch.tensor([0, *counts]).cumsum(0).numpy()
    bounds = fair_shares(pointers, threads)
    assert bounds[0] == 0
    assert bounds[-1] == len(counts)
    assert (bounds[1:] >= bounds[:-1]).all()
    assert len(bounds) == threads + 1


@pytest.mark.parametrize("count", [0, 1, 5, 16])
def test_equal_shares_leave_nothing_out(count):
    bounds = equal_shares(count)
    assert (bounds[0], bounds[-1]) == (0, count)


# --- what must never happen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "values", "bias", "message"),
    [
        (torch.zeros(2, 6), torch.zeros(3), None, "one value per connection, 9, got shape"),
        (torch.zeros(2, 6), torch.zeros(9).double(), None, "must have the type of the values"),
        (torch.zeros(2, 5), torch.zeros(9), None, "dimension -1 must have 6 features, got shape"),
        (torch.zeros(12), torch.zeros(9), None, "dimension -1 must have 6 features, got shape"),
        (torch.zeros(2, 6), torch.zeros(9), torch.zeros(3), "one bias per output, 4, got shape"),
    ],
)
def test_what_does_not_fit_the_structure_is_refused_before_any_kernel_runs(x, values, bias, message):
    with pytest.raises(ValueError, match=message):
        sparse_linear(x, values, Structure(random_layer((4, 6), 9)), bias)


@pytest.mark.parametrize(
    ("x", "values", "bias", "message"),
    [
        (torch.zeros(2, 4, 5, 5), torch.zeros(8), None, "one value per connection, 9, got shape"),
        (torch.zeros(2, 2, 5, 5), torch.zeros(9), None, "dimension 1 must have 4 features, for 36 columns of 9 kernel"),
        (torch.zeros(2, 4, 5, 5), torch.zeros(9), torch.zeros(2), "one bias per output, 4, got shape"),
    ],
)
def test_what_does_not_fit_a_convolution_is_refused_before_any_kernel_runs(x, values, bias, message):
    unfold = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    with pytest.raises(ValueError, match=message):
        sparse_conv2d(x, values, Structure(random_layer((4, 2, 3, 3), 9), groups=2), bias, unfold)


def test_groups_that_do_not_share_out_the_outputs_are_refused():
    with pytest.raises(ValueError, match="each group must have as many outputs, got 2 groups, 3 outputs"):
        Structure(random_layer((3, 2), 4), groups=2)


def test_a_figure_smaller_than_the_kernel_is_refused():
    structure = Structure(random_layer((2, 1, 3, 3), 5))
    unfold = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    with pytest.raises(ValueError, match="must fit into the padded image"):
        sparse_conv2d(torch.zeros(1, 1, 2, 4), torch.zeros(5), structure, None, unfold)


@pytest.mark.parametrize("broken", [[0, 24], [-1, 3], [3, 3], [5, 2]])
def test_indices_that_somebody_overwrote_are_refused_at_the_next_use(broken):
    layer = sk.sparsify(nn.Sequential(nn.Linear(6, 4)), {"0": random_layer((4, 6), 2)}, "csr", init="dense")[0]
    layer(torch.ones(2, 6))
    layer.indices.copy_(torch.tensor(broken))
    with pytest.raises(ValueError, match="positions must"):
        layer(torch.ones(2, 6))


# --- plans of convolutions --------------------------------------------------------------------------------------------


def convolve(structure: Structure, batch: int) -> None:
    unfold = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    sparse_conv2d(torch.zeros(batch, 2, 5, 5), torch.zeros(9), structure, None, unfold)


def test_a_smaller_last_batch_makes_no_plan_anew_in_the_next_epoch(monkeypatch):
    made, of = [], ConvPlan.of
    monkeypatch.setattr(ConvPlan, "of", lambda *args: made.append(args[2]) or of(*args))
    structure = Structure(random_layer((4, 2, 3, 3), 9))
    for batch in (8, 8, 3, 8, 8, 3, 5, 3):
        convolve(structure, batch)
    assert made == [8, 3, 5]
    assert len(structure.derived("conv2d", dict)) == 2


class Forgetful(dict):
    """As if another thread had something else to keep, each time."""

    def __setitem__(self, key, value) -> None:
        pass


def test_a_plan_that_another_thread_has_thrown_away_is_still_in_hand():
    structure = Structure(random_layer((4, 2, 3, 3), 9))
    structure.derived("conv2d", Forgetful)
    convolve(structure, 3)


# --- threads, processes, time and memory -----------------------------------------------------------------------------

FORKED = """
import os, torch, sparsekit as sk
torch.set_num_threads(2)
plain = torch.nn.Linear(64, 64)
layer = sk.sparsify(torch.nn.Sequential(plain), sk.random_topology({"0": (64, 64)}, 0.5, seed=0), "csr", init="dense")
x = torch.rand(40, 64)
wanted = layer(x).sum().item()
child = os.fork()
if child == 0:
    same = abs(layer(x).sum().item() - wanted) < 1e-3
    os._exit(0 if same else 1)
print("child", os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_computes_with_one_thread():
    run = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300)
    assert run.stdout.split() == ["child", "0"], run.stderr[-2000:]


def test_no_more_threads_are_woken_than_have_work_and_the_users_setting_regrows():
    woken = []
    numba.set_num_threads(1)
    try:
        threads.run(pytest.fail, lambda bounds: woken.append(numba.get_num_threads()), (), np.arange(3))
        assert woken == [min(2, numba.config.NUMBA_NUM_THREADS)]
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


def run_slow_kernels(monkeypatch) -> None:
    monkeypatch.setattr(threads, "SLOW", 0.01)

    def slow(bounds, part):
        time.sleep(0.3)

    def slower(bounds, part):
        time.sleep(0.3)

    for kernel in (slow, slow, slower):
        threads.run(kernel, pytest.fail, (), np.arange(2))


def test_each_kernel_that_is_slow_at_its_first_call_is_said_to_be_compiled(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_slow_kernels(monkeypatch)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "compiling the sparse kernel test_compiled_kernels.slow for this" in said[0]
    assert "compiling the sparse kernel test_compiled_kernels.slower for this" in said[1]


def test_a_notebook_or_a_log_holds_no_note_of_compiling(monkeypatch, capsys):
    run_slow_kernels(monkeypatch)
    assert capsys.readouterr().err == ""


FIRST_USE = """
import time, torch, sparsekit as sk
torch.set_num_threads(1)
from torch import nn
plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4))
model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), "csr", init="dense")
start = time.perf_counter()
model(torch.rand(2, 2, 4, 4)).sum().backward()
print(time.perf_counter() - start)
"""


def test_the_first_use_in_a_new_process_takes_seconds_at_most_once_compiled():
    seconds = [
        float(subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]
    assert seconds[1] < 6, seconds  # 3 on a machine that does nothing else


def bytes_of_layer(layer) -> int:
    """What a layer, its optimizer and everything derived from its topology hold, each memory once."""
    tensors: dict[int, int] = {}
    todo, seen = [layer.param, layer.param.grad, layer.indices, layer.structure], set()
    while todo:
        thing = todo.pop()
        if id(thing) in seen or thing is None:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            tensors[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif hasattr(thing, "nbytes") and hasattr(thing, "ctypes"):
            tensors[thing.ctypes.data] = thing.nbytes
        elif isinstance(thing, dict):
            todo += thing.values()
        elif isinstance(thing, list | tuple):
            todo += thing
        elif hasattr(thing, "__dict__"):
            todo += vars(thing).values()
    return sum(tensors.values())


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_layer_in_training_holds_at_most_40_bytes_per_connection(kind):
    plain = nn.Linear(600, 500, bias=False) if kind == "linear" else nn.Conv2d(60, 64, 3, bias=False)
    x = torch.rand(8, 600) if kind == "linear" else torch.rand(8, 60, 4, 4)
    model = sk.sparsify(
        nn.Sequential(plain), sk.random_topology(sk.shapes_of(nn.Sequential(plain)), 0.2), "csr", init="dense"
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        model(x).sum().backward()
        optimizer.step()
    layer = model[0]
    momentum = 4 * layer.topology.count
    assert (bytes_of_layer(layer) + momentum) / layer.topology.count <= 40


RATIO = """
import time, torch, sparsekit as sk
from sparsekit.kernels import feature_major
torch.set_num_threads(1)
plain = torch.nn.Linear(1024, 1024)
model = sk.sparsify(torch.nn.Sequential(plain), sk.random_topology({"0": (1024, 1024)}, 0.02, seed=0), "csr")
x = torch.rand(128, 1024, requires_grad=True)
rows = feature_major(x.detach()).requires_grad_()

def seconds(module, batch):
    start = time.perf_counter()
    module(batch).sum().backward()
    return time.perf_counter() - start

seconds(model, rows), seconds(plain, x)
ratios = sorted(seconds(plain, x) / seconds(model, rows) for _ in range(31))
print(ratios[15])
"""


def test_a_sparse_layer_is_faster_than_the_dense_one_where_little_is_left():
    """A fiftieth of the operations is left; half of the time is asked for, so that noise does not decide.

    In a process of its own: the type checks of the other tests take longer than this layer.
    """
    run = subprocess.run([sys.executable, "-c", RATIO], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 2
