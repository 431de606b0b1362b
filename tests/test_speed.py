"""The speed meter: the right layers do the right work, and what follows from times is arithmetic."""

import math
from typing import ClassVar

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import sparsekit as sk
from sparsekit.analysis import (
    break_even,
    log_log_slope,
    memory_bytes,
    speed_table,
    speed_verdict,
    step_seconds,
    storages_of,
)
from sparsekit.analysis.costs import speed
from sparsekit.analysis.costs.speed import update_seconds
from sparsekit.kernels import is_feature_major

LAYERS = {"linear": (nn.Linear(12, 8), torch.rand(5, 12)), "conv": (nn.Conv2d(3, 4, 3), torch.rand(5, 3, 6, 6))}
every_layer = pytest.mark.parametrize(("layer", "x"), LAYERS.values(), ids=LAYERS)


@every_layer
def test_both_storages_have_the_same_connections_with_the_layer_s_own_values(layer, x):
    made = storages_of(layer, 0.5, seed=3)
    assert made["dense"][0] is layer
    masked, csr = (sk.sparse_layers(made[name])["0"] for name in ("masked", "csr"))
    assert masked.topology == csr.topology
    assert masked.topology.density == pytest.approx(0.5, abs=0.02)
    assert torch.allclose(made["masked"](x), made["csr"](x), atol=1e-6)


@every_layer
def test_each_way_of_computing_gets_its_input_as_it_likes_it(layer, x, monkeypatch):
    timed = {}

    def step_of(module, example):
        return module, example

    monkeypatch.setattr(speed, "training_step", step_of)
    monkeypatch.setattr(speed, "median_seconds", lambda steps, effort: timed.update(steps) or dict.fromkeys(steps, 1.0))
    step_seconds(layer, 0.5, x)
    assert list(timed) == ["dense", "masked", "csr", "csr, feature-major"]
    assert [is_feature_major(example) for _, example in timed.values()] == [False, False, False, True]
    assert timed["csr"][0] is timed["csr, feature-major"][0]
    assert [sk.topology_of(module).count > 0 for module, _ in timed.values()] == [False, True, True, True]


@every_layer
def test_the_table_promises_operations_measures_time_and_counts_bytes(layer, x, monkeypatch):
    times = {"dense": 4e-3, "masked": 8e-3, "csr": 2e-3, "csr, feature-major": 1e-3}
    monkeypatch.setattr(speed, "step_seconds", lambda *_, **__: times)
    table = speed_table(layer, 0.25, x)
    assert table["promised"].tolist() == pytest.approx([1, 4, 4, 4], rel=0.02)
    assert table["milliseconds"].tolist() == pytest.approx([4, 8, 2, 1])
    assert table["measured"].tolist() == pytest.approx([1, 0.5, 2, 4])
    memory = memory_bytes(sk.topology_of(storages_of(layer, 0.25)["csr"])).loc["0"]
    assert table["bytes"].tolist() == [memory[name] for name in ("dense", "masked_layer", "csr_layer", "csr_layer")]


def test_the_meter_shows_bfloat16_beside_the_others_on_request_and_says_who_wins(monkeypatch):
    layer, x = LAYERS["linear"]
    table = speed_table(layer, 0.25, x, bf16=True)
    assert table.index[-2:].tolist() == ["dense, bf16", "dense, bf16 autocast"]
    assert table.loc["dense, bf16", "bytes"] * 2 == table.loc["dense", "bytes"]
    assert (table["milliseconds"] > 0).all()
    assert layer.weight.dtype == torch.float32
    for csr, verdict in (
        (1.0, "csr wins. It is 2.00 times as fast as dense, bf16."),
        (4.0, "csr loses. It takes 2.00 "),
    ):
        table["milliseconds"] = [9.0, 9.0, csr, 5.0, 2.0, 3.0]
        assert speed_verdict(table).startswith(verdict)


def test_page_faults_of_a_step_are_counted_after_the_first(monkeypatch):
    counted = iter([100, 106])
    monkeypatch.setattr(speed, "page_faults", lambda: next(counted))
    called = []
    assert speed._page_faults(lambda: called.append(1)) == 6 / speed.FAULTY_STEPS
    assert len(called) == 1 + speed.FAULTY_STEPS


def test_times_are_taken_and_positive():
    assert all(seconds > 0 for seconds in step_seconds(*LAYERS["linear"][:1], 0.5, LAYERS["linear"][1]).values())


# --- break-even ---------------------------------------------------------------------------------------------------


@given(st.floats(0.02, 0.9), st.floats(0.5, 2.0))
def test_where_two_power_laws_cross_is_found_exactly(crossing, power):
    densities = [0.01, 0.05, 0.3, 0.6, 1.0]
    sparse = [(density / crossing) ** power for density in densities]
    assert break_even(densities, sparse, [1.0] * 5) == pytest.approx(crossing)


@pytest.mark.parametrize(
    ("sparse", "expected"),
    [
        ([1.0, 1.0, 1.0], 1.0),  # always quicker: as far as was measured
        ([9.0, 9.0, 9.0], None),
        ([9.0, 1.0, 1.0], None),  # slower where it is sparsest: there is nothing below which it was always quicker
        ([2.0, 1.0, 9.0], 0.1),  # as quick counts as quicker
    ],
)
def test_break_even_is_as_far_as_the_sparse_way_was_always_faster(sparse, expected):
    found = break_even([0.1, 0.5, 1.0], sparse, [2.0, 2.0, 2.0])
    if expected == 0.1:
        assert 0.5 < found < 1.0
    else:
        assert found == expected


def test_the_order_of_the_measurements_does_not_matter():
    assert break_even([0.4, 0.1], [4.0, 1.0], [2.0, 2.0]) == break_even([0.1, 0.4], [1.0, 4.0], [2.0, 2.0])


def test_measurements_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match="a sparse and a dense time for each density"):
        break_even([0.1, 0.2], [1.0], [1.0, 1.0])


# --- scaling ------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 3), st.floats(0.1, 10))
def test_the_slope_is_the_power(power, factor):
    x = [64, 128, 512]
    assert log_log_slope(x, [factor * one**power for one in x]) == pytest.approx(power, abs=1e-9)


class Spy(sk.rules.Static):
    """Notes what it is shown."""

    seen: ClassVar[list] = []

    def propose(self, views, step, generator):
        self.seen.append({name: view.topology for name, view in views.items()})
        return super().propose(views, step, generator)


def test_rules_are_timed_on_layers_that_widen_at_the_same_fan_in():
    Spy.seen.clear()
    table = update_seconds({"spy": Spy()}, [32, 64], fan_in=4, rounds=3)
    assert isinstance(table, pd.DataFrame)
    assert table.index.tolist() == [32, 64]
    assert (table > 0).all().all()
    shapes = [(layers["0"].shape, layers["0"].count) for layers in Spy.seen]
    assert shapes == [((32, 32), 128)] * 3 + [((64, 64), 256)] * 3


def test_gradient_growth_can_be_timed_without_anything_dense():
    rules = {"rigl": sk.rules.RigL(stop=10), "gse": sk.rules.GSE(stop=10)}
    assert update_seconds(rules, [16], fan_in=2, rounds=2).map(math.isfinite).all().all()


def test_a_slow_proposal_is_timed_twice_and_the_disturbed_sample_does_not_count(monkeypatch):
    clock = iter([0.0, 9.0, 9.0, 11.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    assert speed._least_seconds(lambda: None, 5) == 2.0
