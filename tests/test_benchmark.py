"""The benchmarks: that methods take fair turns, that all compute the same, and that the report says what was found."""

import functools
import json
import math
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from sparsekit import cli
from sparsekit.analysis.costs.benchmark import (
    SUITES,
    Options,
    half,
    layers,
    load,
    measure,
    memory,
    networks,
    render,
    report,
    rivals,
    save,
    update,
)
from sparsekit.analysis.costs.benchmark.machine import about_machine
from sparsekit.analysis.costs.benchmark.rivals import RIVALS, Unfolded
from sparsekit.analysis.costs.benchmark.trends import break_even_sparsity, break_even_text
from sparsekit.analysis.costs.speed import log_log_slope
from sparsekit.layers import shapes_of, sparsify, topology_of
from sparsekit.topology.selection import random_topology
from sparsekit.utils.timing import Effort

TINY_LAYERS = {
    "linear": layers.Layer(title="tiny linear", make=lambda: nn.Linear(12, 8, bias=False), batch_shape=(5, 12)),
    "conv": layers.Layer(
        title="tiny conv", make=lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False), batch_shape=(2, 3, 5, 4)
    ),
}
TINY_NETWORKS = {
    "mlp": networks.Network(
        title="tiny MLP", model="mlp", input_shape=(9,), batch_size=4, full=("last",), settings={"hidden": (8, 8)}
    ),
    "resnet20": networks.Network(
        title="tiny ResNet", model="resnet20", input_shape=(3, 4, 4), batch_size=2, full=("first", "last")
    ),
    "gpt": networks.Network(
        title="tiny GPT",
        model="gpt",
        input_shape=(6,),
        batch_size=3,
        full=(),
        settings={"dim": 8, "depth": 1, "heads": 2},
        classes=9,
        reads_tokens=True,
    ),
}


@pytest.fixture(autouse=True)
def _no_timings_of_the_user_s(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# --- what is compared -------------------------------------------------------------------------------------------


def by_autograd(layer: layers.Layer, step: layers.Step, density: float) -> tuple[torch.Tensor, ...]:
    """Output and gradients of the same layer as a dense one with zeros: y, dx, dvalues."""
    torch.manual_seed(0)
    plain = layer.make()
    topology = random_topology(shapes_of(plain), density, allocation="uniform", seed=0)
    dense = sparsify(plain, topology, "masked", init="dense").to_plain()
    x = step.x.detach().contiguous().requires_grad_()
    y = dense(x)
    y.backward(step.g)
    return y, x.grad, dense.weight.grad.flatten()[topology[""].indices]


@pytest.mark.parametrize("density", [0.2, 0.7])
@pytest.mark.parametrize("name", TINY_LAYERS)
def test_every_sparse_method_computes_what_the_dense_layer_with_zeros_does(name, density):
    steps = layers.layer_steps(TINY_LAYERS[name], density)
    methods = [method for method in steps if not method.startswith(("dense", "sparselab"))]
    assert {*RIVALS, "masked", "csr, contiguous", "csr, feature-major"} <= set(methods)
    for method in methods:
        step = steps[method]
        y, dx, dvalues = by_autograd(TINY_LAYERS[name], step, density)
        step()
        found = step.weight.grad
        if method == "masked":
            found = found.flatten()[found.flatten().nonzero().flatten()]
        assert torch.allclose(step.y, y, atol=1e-5), method
        assert torch.allclose(step.x.grad, dx, atol=1e-5), method
        assert torch.allclose(found.flatten(), dvalues.flatten(), atol=1e-4), method


@pytest.mark.parametrize("name", TINY_LAYERS)
def test_every_dense_method_computes_the_same(name):
    steps = {method: step for method, step in layers.layer_steps(TINY_LAYERS[name], 0.2).items() if "dense" in method}
    first = next(iter(steps.values()))
    for method, step in steps.items():
        first(), (weight := first.weight.grad.clone()), step()
        assert torch.allclose(step.y, first.y, atol=1e-5), method
        assert torch.allclose(step.x.grad, first.x.grad, atol=1e-5), method
        assert torch.allclose(step.weight.grad, weight, atol=1e-4), method


COMPILING = """
import functools
import torch
from torch import nn
from sparsekit.analysis.costs.benchmark import layers, networks, rivals

torch.set_num_threads(1)
torch.compile = functools.partial(torch.compile, backend="aot_eager")  # traced as for Inductor, without a C++ compiler
assert rivals.has_inductor()
shown = {"contiguous": (5, 12), "channels-last": (2, 3, 5, 4)}
made = {"contiguous": lambda: nn.Linear(12, 8), "channels-last": lambda: nn.Conv2d(3, 4, 3, padding=1)}
for memory, shape in shown.items():
    case = layers.Layer(title="tiny", make=made[memory], batch_shape=shape)
    steps = layers.layer_steps(case, 0.2, inductor=True)
    eager, compiled = steps["dense, contiguous"], steps["dense, inductor"]
    eager(), (weight := eager.weight.grad.clone())
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled()
    assert compiled.memory == memory
    torch.testing.assert_close((compiled.y, compiled.x.grad, compiled.weight.grad), (eager.y, eager.x.grad, weight))
settings = {"title": "tiny", "input_shape": (3, 8, 8), "batch_size": 2, "full": ("last",)}
network = networks.Network(model="small-cnn", settings={"widths": (4, 5)}, **settings)
steps = networks.network_steps(network, 0.5, inductor=True)
eager, compiled = steps["dense, contiguous"], steps["dense, inductor"]
before = [weight.detach().clone() for weight in eager.model.parameters()]
for weight, same in zip(before, compiled.model.parameters(), strict=True):
    torch.testing.assert_close(weight, same, rtol=0, atol=0)
eager()
with torch.compiler.set_stance("fail_on_recompile"):
    compiled()
for old, one, two in zip(before, eager.model.parameters(), compiled.model.parameters(), strict=True):
    torch.testing.assert_close(one - old, two - old, rtol=1e-3, atol=1e-7)
"""


def test_what_is_compiled_computes_the_same_and_is_compiled_before_it_is_timed():
    # In a process of its own: the type checks of the other tests are nothing that can be traced.
    run = subprocess.run([sys.executable, "-c", COMPILING], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_without_a_compiler_inductor_is_left_out_aloud(monkeypatch):
    def fails(x):
        raise RuntimeError("\nInvalidCxxCompiler: no working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", lambda function: fails)
    with pytest.warns(UserWarning, match="'dense, inductor' is left out.* here: InvalidCxxCompiler: no working C"):
        assert not rivals.has_inductor.__wrapped__()


@pytest.mark.parametrize(
    ("works", "quick", "compiles"), [(True, False, True), (True, True, False), (False, False, False)]
)
@pytest.mark.parametrize(("suite", "steps"), [(layers, "layer_steps"), (networks, "network_steps")])
def test_nothing_is_compiled_for_a_fast_run_or_without_a_compiler(monkeypatch, suite, steps, works, quick, compiles):
    asked = []
    monkeypatch.setattr(suite, steps, lambda *_, inductor: asked.append(inductor) or {"dense": lambda: None})
    monkeypatch.setattr(rivals, "has_inductor", lambda: works)
    monkeypatch.setattr(half, "has_bf16", lambda: False)
    monkeypatch.setattr(Options, "effort", Effort(rounds=1, sample_seconds=0, min_rounds=1))
    rows = list(measure(steps.replace("_steps", "s"), Options(quick=quick, sparsities=(0.5,))))
    assert len(rows) == len(asked) > 0
    assert set(asked) == {compiles}


@pytest.mark.parametrize("name", TINY_LAYERS)
def test_the_rivals_in_bfloat16_compute_what_the_dense_layer_does_as_well_as_they_can(name):
    exact = layers.layer_steps(TINY_LAYERS[name], 0.2)["dense, contiguous"]
    steps = half.layer_steps(TINY_LAYERS[name])
    assert list(steps) == ["bf16, pure", "bf16, autocast"]
    for step in steps.values():
        assert step.y.dtype == step.g.dtype == torch.bfloat16
        assert torch.allclose(step.y.float(), exact.y, atol=0.05)
        step()
        assert step.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_networks_in_bfloat16_have_gradients_near_those_in_float32(monkeypatch, name):
    exact, *steps = tiny_steps(name)["dense, contiguous"], *half.network_steps(TINY_NETWORKS[name]).values()
    for step in (exact, *steps):
        monkeypatch.setitem(step.optimizer.param_groups[0], "lr", 0.0)
        step()
    for step in steps:
        for one, two in zip(exact.model.parameters(), step.model.parameters(), strict=True):
            torch.testing.assert_close(two.grad.float(), one.grad, atol=0.02, rtol=0.1)


@pytest.mark.parametrize("has", [True, False])
def test_rivals_in_bfloat16_run_only_where_the_processor_computes_in_it(monkeypatch, has):
    monkeypatch.setattr(half, "has_bf16", lambda: has)
    monkeypatch.setattr(half, "layer_steps", lambda *_, inductor: {"bf16, pure": lambda: None})
    monkeypatch.setattr(layers, "layer_steps", lambda *_, inductor: {"dense": lambda: None})
    monkeypatch.setattr(Options, "effort", Effort(rounds=1, sample_seconds=0, min_rounds=1))
    rows = list(measure("layers", Options(quick=True, sparsities=(0.5,), only="linear")))
    assert [row["method"] for row in rows] == ["dense", "bf16, pure"][: 1 + has]
    assert {row["baseline"] for row in rows} == {"dense"}


def test_the_report_says_where_csr_loses():
    case = {"case": "linear", "title": "Linear", "threads": 1, "speedup": [1, 1, 1], "clean": 9, "samples": 9}
    times = {"dense": {0.5: 4.0, 0.1: 4.0}, "bf16, pure": {0.5: 1.0, 0.1: 1.0}, "csr": {0.5: 2.0, 0.1: 0.5}}
    rows = [
        {**case, "method": method, "density": density, "ms": [ms, ms, ms]}
        for method, cells in times.items()
        for density, ms in cells.items()
    ]
    assert report._losses(rows) == ["csr loses at 50 % to `bf16, pure` (which takes 0.50 of its time)."]
    assert report._losses([row for row in rows if row["density"] == 0.1]) == []


@pytest.mark.parametrize("memory_format", layers.FORMATS)
def test_input_output_and_their_gradients_lie_in_the_format_that_is_named(memory_format):
    steps = layers.layer_steps(TINY_LAYERS["conv"], 0.3)
    step = steps[f"csr, {memory_format}"]
    step()
    to_format = layers.FORMATS[memory_format]
    for tensor in (step.x, step.y, step.g, step.x.grad):
        assert tensor.stride() == to_format(tensor).stride()


@functools.cache
def tiny_steps(name: str) -> dict[str, networks.TrainingStep]:
    """Return the steps of a network, made once, because `auto` measures both storages of each layer."""
    return networks.network_steps(TINY_NETWORKS[name], 0.25)


@pytest.mark.parametrize("name", TINY_NETWORKS)
def test_all_networks_learn_from_the_same_start(name):
    losses = {}
    for method, step in tiny_steps(name).items():
        if method == "sparselab":  # draws its own weights
            continue
        with torch.no_grad():
            losses[method] = nn.functional.cross_entropy(step.model(step.x), step.labels).item()
        before = [parameter.detach().clone() for parameter in step.model.parameters()]
        step()
        moved = [not torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True)]
        assert any(moved), method
    sparse = [loss for method, loss in losses.items() if not method.startswith("dense")]
    assert sparse == pytest.approx([sparse[0]] * len(sparse), rel=1e-4)
    assert losses["dense, contiguous"] != pytest.approx(sparse[0], rel=1e-4)


def test_first_and_last_layers_keep_all_connections_where_that_is_asked_for():
    model = tiny_steps("resnet20")["csr"].model
    densities = {name: layer.density for name, layer in topology_of(model).items()}
    first, *between, last = densities.values()
    assert first == last == 1
    assert between == pytest.approx([0.25] * len(between), abs=0.01)


def test_an_unfolded_convolution_is_torch_s_own():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    linear = nn.Linear(27, 4, bias=False)
    linear.weight.data = conv.weight.data.flatten(1)
    x = torch.randn(2, 3, 5, 6)
    assert torch.allclose(Unfolded(linear)(x), conv(x), atol=1e-5)


def test_an_update_keeps_the_number_of_connections_and_exchanges_its_share():
    change = update.update_methods(64, ["set"])["set"]
    before = topology_of(change.model)["0"]
    change()
    after = topology_of(change.model)["0"]
    assert after.count == before.count == 64 * update.FAN_IN
    assert (after & before).count < before.count
    assert (after & before).count >= (1 - update.FRACTION) * before.count


# --- memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY_LAYERS)
def test_values_gradient_and_momentum_take_four_bytes_each_and_positions_eight(name):
    parts = memory.bytes_per_connection(TINY_LAYERS[name], 0.5)
    assert {part: parts[part] for part in ("values", "gradient", "momentum", "positions")} == {
        "values": 4,
        "gradient": 4,
        "momentum": 4,
        "positions": 8,
    }
    assert parts["structure"] > 8


def test_memory_that_is_shared_counts_once():
    shared = torch.zeros(10)
    things = {"a": shared, "b": shared.numpy(), "c": [shared[2:], shared.view(2, 5)]}
    assert sum(memory._sizes(things, set())) == 40


# --- trends -----------------------------------------------------------------------------------------------------


@given(st.floats(0.2, 5), st.floats(-2, 2))
def test_the_slope_is_the_exponent(factor, exponent):
    sizes = (1, 2, 4, 32)
    assert log_log_slope(sizes, [factor * size**exponent for size in sizes]) == pytest.approx(exponent, abs=1e-6)


@given(st.floats(0.05, 0.45))
def test_break_even_is_exact_where_time_is_proportional_to_the_connections(density):
    speedups = {d: density / d for d in (0.5, 0.3, 0.1, 0.04)}
    assert break_even_sparsity(speedups) == pytest.approx(1 - density, abs=1e-3)


def test_break_even_is_not_extrapolated():
    assert break_even_sparsity({0.5: 2.0, 0.1: 9.0}) is None
    assert break_even_text({0.5: 2.0, 0.1: 9.0}) == "below 50 %"
    assert break_even_text({0.5: 0.2, 0.1: 0.9}) == "above 90 %"


# --- results and report -----------------------------------------------------------------------------------------


def row(method: str, density: float, speed: float, **others) -> dict:
    plain = {"case": "linear", "title": "Linear", "threads": 1, "baseline": "dense, contiguous", "samples": 9}
    ms = 10 / speed
    plain |= {
        "method": method,
        "density": density,
        "ms": [ms, ms, 2 * ms],
        "speedup": [speed, speed, speed],
        "clean": 9,
    }
    return plain | others


LAYER_ROWS = [
    row("dense, contiguous", 0.5, 1.0),
    row("csr, feature-major", 0.5, 0.5),
    row("dense, contiguous", 0.1, 1.0),
    row("csr, feature-major", 0.1, 9.0, clean=2),
]


def cells(report: str, method: str) -> list[list[str]]:
    """The rows of the tables that begin with a method's name, without the name."""
    found = re.findall(rf"^\| {re.escape(method)} \|(.*)\|$", report, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in found]


def test_the_report_shows_speed_floors_and_break_even():
    report = render({"layers": {"about": {"processor": "abacus"}, "rows": LAYER_ROWS}})
    speeds, times = cells(report, "csr, feature-major")
    assert speeds == ["0.50", "9.00*", "66 %", "4 at 90 %: holds"]
    assert times == ["20 (20–40)~", "1.11 (1.11–2.22)*~"]
    assert cells(report, "dense, contiguous")[0] == ["1.00", "1.00", "", ""]
    assert "processor abacus" in report


def test_floors_are_those_of_the_processor():
    rows = [row("csr, feature-major", 0.1, 3.9)]
    for processor, verdict in (("AMD EPYC", "4 at 90 %: missed"), ("Intel(R) Xeon(R)", "3.8 at 90 %: holds")):
        report = render({"layers": {"about": {"processor": processor}, "rows": rows}})
        assert cells(report, "csr, feature-major")[0][-1] == verdict


def test_the_report_shows_updates_in_training_steps_with_their_slope():
    rows = []
    for width in (16, 32, 64):
        common = {"case": width, "density": 2 / width}
        rows += [row(update.STEP, speed=1, **common), row("gse", speed=1 / width, **common)]
    rows.append({"case": "skipped", "threads": 1, "density": None, "method": "rigl", "skipped": "too slow"})
    report = render({"update": {"about": {}, "rows": rows}})
    assert cells(report, "gse")[0][3:] == ["1.00", "1.00", "at most 1.15: holds"]
    assert cells(report, "gse")[0][0] == "160 (16)~"
    assert "rigl is left out: too slow." in report


def test_new_rows_take_the_place_of_those_of_the_same_case_only(tmp_path):
    file = tmp_path / "layers.jsonl"
    save(file, "layers", LAYER_ROWS)
    found = save(file, "layers", [row("masked", 0.1, 0.8)])
    expected = [("dense, contiguous", 0.5), ("csr, feature-major", 0.5), ("masked", 0.1)]
    assert [(one["method"], one["density"]) for one in found["rows"]] == expected
    assert load(file) == found
    assert [json.loads(line) for line in file.read_text().splitlines()][1:] == found["rows"], "a row a line"


def test_what_another_machine_measured_is_not_mixed_in(tmp_path):
    file = tmp_path / "layers.jsonl"
    save(file, "layers", LAYER_ROWS)
    head, *rows = file.read_text().splitlines(keepends=True)
    about = {**json.loads(head)["about"], "processor": "abacus"}
    file.write_text("".join([json.dumps({**json.loads(head), "about": about}) + "\n", *rows]))
    assert [one["method"] for one in save(file, "layers", [row("masked", 0.1, 0.8)])["rows"]] == ["masked"]


def test_the_machine_is_described_without_its_name():
    import platform

    words = about_machine()
    assert {"processor", "flags", "torch", "numba", "date"} <= set(words)
    assert platform.node() not in " ".join(words.values()).split()


@pytest.mark.parametrize(("settings", "message"), [({"sparsities": (1.0,)}, "got 1.0"), ({"threads": 0}, "got 0")])
def test_wrong_options_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Options(**settings)


def test_unknown_suites_and_cases_are_refused():
    with pytest.raises(ValueError, match="layers, networks, update, memory, got 'nothing'"):
        next(measure("nothing", Options()))
    with pytest.raises(ValueError, match="linear, conv, got 'nothing'"):
        next(measure("layers", Options(only="nothing")))


def test_the_number_of_threads_is_as_before_after_a_suite(monkeypatch):
    during = []

    def rows(options: Options):
        during.append(torch.get_num_threads())
        yield {}

    monkeypatch.setitem(SUITES, "layers", rows)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(measure("layers", Options(threads=1))) == [{"threads": 1}]
        assert (during, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_more_threads_than_the_sparse_kernels_may_use_are_refused():
    with pytest.raises(ValueError, match="at most .* Numba may use, got 1000. Unset OMP_PROC_BIND"):
        next(measure("layers", Options(threads=1000)))


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """Cases that take no time."""
    monkeypatch.setattr(layers, "QUICK_LAYERS", TINY_LAYERS)
    monkeypatch.setattr(networks, "QUICK_NETWORKS", TINY_NETWORKS)
    monkeypatch.setattr(update, "QUICK_WIDTHS", (48, 64))
    monkeypatch.setattr(Options, "effort", Effort(rounds=2, sample_seconds=0, budget_seconds=0, min_rounds=1))


def test_the_command_measures_everything_and_writes_a_report(tiny, tmp_path):
    result = CliRunner().invoke(cli.app, ["bench", "--quick", "--folder", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    report = (tmp_path / "quick" / "REPORT.md").read_text(encoding="utf-8")
    for words in ("tiny linear", "tiny conv", "tiny MLP", "tiny ResNet", "torch CSR", "scipy", "masked", "rigl"):
        assert words in report
    for what in ("layers", "networks", "update", "memory"):
        rows = load(tmp_path / "quick" / "results" / f"{what}.jsonl")["rows"]
        times = [time for one in rows for time in one.get("ms", [])]
        assert rows
        assert all(math.isfinite(time) and time > 0 for time in times)


def test_one_case_of_one_suite_can_be_measured(tiny, tmp_path):
    words = ["bench", "layers", "--only", "linear", "--sparsity", "0.5", "--sparsity", "0.75", "--quick"]
    result = CliRunner().invoke(cli.app, [*words, "--folder", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    rows = load(tmp_path / "quick" / "results" / "layers.jsonl")["rows"]
    assert {(one["case"], one["density"]) for one in rows} == {("linear", 0.5), ("linear", 0.25)}


def test_rules_that_this_version_lacks_are_skipped_aloud(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(update, "RULES", ("set", "not-yet-there"))
    result = CliRunner().invoke(cli.app, ["bench", "update", "--quick", "--folder", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "not-yet-there" in result.output
    assert "not-yet-there is left out: not registered" in (tmp_path / "quick" / "REPORT.md").read_text(encoding="utf-8")
