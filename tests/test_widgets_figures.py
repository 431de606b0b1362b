"""Figures show what their controls say, and a speed meter runs in the background."""

import io
import itertools
import re
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import sparsekit as sk
from sparsekit.analysis import guidance
from sparsekit.plots.palette import DARK, LIGHT
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.rules import GraBo
from sparsekit.topology import LayerTopology
from sparsekit.widgets import (
    Curve,
    Field,
    FigureExplorer,
    GuidanceExplorer,
    LivePanel,
    Run,
    Snapshot,
    TopologyFilm,
    live_speed,
)
from sparsekit.widgets.sharing import write_state


def draw(power: int, colour: str = "black"):
    if power > 2:
        raise ValueError(f"power must be at most 2, got {power}")
    ax = Figure(figsize=(2, 2)).subplots()
    ax.plot([0, 1, 2], [0**power, 1, 2**power], color=colour)
    ax.set_title(f"x to the power of {power}, {colour}", loc="left")
    return ax


def make_explorer() -> FigureExplorer:
    fields = [
        Field(name="power", kind="range", label="Power", low=0, high=3, step=1),
        Field(name="colour", kind="choice", label="Colour", options=(("black", "black"), ("red", "red"))),
    ]
    return FigureExplorer(draw, fields, {"power": 1, "colour": "black"})


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def errors(explorer: FigureExplorer) -> list[str]:
    return [field["error"] for field in explorer.controls.fields]


def test_a_control_draws_the_figure_anew_and_says_so_in_words():
    explorer = make_explorer()
    before = explorer.image.value
    explorer.choose(colour="red")
    assert explorer.image.value != before
    assert explorer.words.values["words"] == repr(explorer) == "x to the power of 1, red"


def test_its_still_is_the_figure_with_its_title_as_words():
    explorer = make_explorer()
    still = explorer.snapshot()
    assert pixels(still).shape[:2] == (400, 400)
    assert still.alt == "x to the power of 1, black"
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) >= {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}


def test_what_the_function_refuses_is_said_beside_the_control_and_the_figure_stays():
    explorer = make_explorer()
    before = explorer.image.value
    explorer.choose(power=3)
    assert errors(explorer) == ["power must be at most 2, got 3", ""]
    assert explorer.image.value == before
    explorer.choose(power=2)
    assert errors(explorer) == ["", ""]
    assert repr(explorer) == "x to the power of 2, black"


def test_the_drawing_brings_light_and_dark_along_and_says_its_sentence():
    svg = make_explorer().image.value
    assert {LIGHT["ink"], DARK["ink"]} <= set(re.findall(r"#[0-9a-f]{6}", svg))
    assert 'aria-label="x to the power of 1, black"' in svg


def test_settings_that_cannot_be_counted_are_drawn_by_the_kernel_when_they_come():
    explorer = FigureExplorer(draw, [Field(name="power", kind="range", low=0, high=2, step=0.01)], {"power": 1})
    assert len(explorer.image.frames) == 1
    explorer.choose(power=1.25)
    assert explorer.image.keys_of_frames == ['[["power",1.25]]']
    assert explorer.image.sentences == [repr(explorer)] == ["x to the power of 1.25, black"]
    assert "power of 1.25" in explorer.image.value == explorer.image.frames[0]


def test_initial_values_that_are_refused_are_an_error():
    with pytest.raises(ValueError, match="at most 2"):
        FigureExplorer(draw, [], {"power": 3})


# --- guided sampling ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.2, seed=0), init="dense")
    with sk.capture_io(model) as io:
        model(torch.randn(8, 20)).square().mean().backward()
    return sk.views(model, io)


def test_layers_and_guides_are_chosen_and_the_numbers_are_those_of_the_sample(views):
    explorer = GuidanceExplorer(views, fraction=0.3, seed=2)
    assert repr(explorer).startswith("0, uniform: ")
    explorer.choose(layer="2", guide="grabo", subset=2.0)
    sample = explorer.sample
    assert sample.best == guidance(views["2"], GraBo(), fraction=0.3, seed=2).best
    assert not (sample.candidates & sample.topology).count
    ratio = sample.candidates.count / views["2"].topology.count
    assert f"2, grabo: |S| / |A| = {ratio:.2f} " in repr(explorer)
    assert f"recall {sample.recall:.0%}" in repr(explorer) == explorer.snapshot().alt


def test_more_draws_only_add_candidates_and_come_as_often_as_a_rule_draws(views):
    explorer = GuidanceExplorer(views, guide="grabo", subset=0.5)
    few = explorer.sample.candidates
    explorer.choose(subset=4.0)
    assert (few - explorer.sample.candidates).count == 0 < (explorer.sample.candidates - few).count
    for layer, view in zip(explorer.layers, views.values(), strict=True):
        assert layer["num_draws"] == [GraBo(subset=subset).num_draws(view.topology) for subset in explorer.subsets]
    draws = np.frombuffer(explorer.layers[0]["guides"][0]["draws"], "<i4")
    assert len(draws) == explorer.layers[0]["num_draws"][-1]


def test_every_guide_that_there_is_can_be_chosen(views):
    explorer = GuidanceExplorer(views, layer="2")
    guides = {guide["name"] for guide in explorer.layers[0]["guides"]}
    assert guides == {"uniform", "grabo", "graest", "synflow"}
    for guide in guides:
        explorer.choose(guide=guide)
        assert repr(explorer).startswith(f"2, {guide}: ")
    assert repr(GuidanceExplorer(views, state=write_state(explorer.choice))) == repr(explorer)


def test_a_layer_that_is_not_there_is_refused(views):
    with pytest.raises(ValueError, match="layer must be one of 0, 2"):
        GuidanceExplorer(views, layer="1")
    with pytest.raises(ValueError, match="subset must be a multiple of 0.1"):
        GuidanceExplorer(views, subset=0.25)


# --- speed --------------------------------------------------------------------------------------------------------


def test_the_meter_s_steps_are_sparsities_and_its_numbers_milliseconds(monkeypatch):
    calls = []

    def seconds(layer, density, example, **settings):
        calls.append((density, settings))
        return {"dense": 0.002, "csr": 0.001 * density}

    monkeypatch.setattr(sys.modules["sparsekit.widgets.live_speed"], "step_seconds", seconds)
    snapshots = list(live_speed(nn.Linear(4, 4), torch.rand(2, 4), sparsities=(0, 90), seed=7, rounds=2))
    assert [one.step for one in snapshots] == [0, 90]
    assert snapshots[1].metrics == pytest.approx({"dense": 2.0, "csr": 0.1})
    assert calls == [(1.0, {"seed": 7, "rounds": 2}), (pytest.approx(0.1), {"seed": 7, "rounds": 2})]


def test_the_meter_measures_for_real_and_can_be_stopped_between_two_sparsities():
    run = Run(live_speed(nn.Linear(16, 16), torch.rand(4, 16), sparsities=(0, 50, 90), rounds=1), total=3)
    run.listen(lambda run: run.stop() if run.count else None)
    last = run.wait(timeout=120)
    assert run.state == "stopped"
    assert last.step < 90
    assert set(last.metrics) == {"dense", "masked", "csr", "csr, feature-major"}


@pytest.mark.parametrize("percent", [100, -1])
def test_a_layer_must_have_connections_to_be_measured(percent):
    with pytest.raises(ValueError, match=r"must lie in \[0, 100\)"):
        next(live_speed(nn.Linear(4, 4), torch.rand(2, 4), sparsities=(50, percent)))


def test_a_panel_names_its_axes_as_it_is_told():
    run = Run((Snapshot(step, {"a": 1.0, "b": 2.0}) for step in itertools.chain([0, 90])), total=2)
    panel = LivePanel(run, metrics={"milliseconds": ("a", "b")}, masks=False, x_label="sparsity, %", width=640)
    run.wait(timeout=20)
    (chart,) = panel.charts.values()
    assert (chart.y_label, chart.x_label, chart.width) == ("milliseconds", "sparsity, %", 640)
    assert "a is 1 at sparsity 90 % (2 points)." in panel.sentence()
    assert panel.headline.values["title"] == "a 1 milliseconds, done at sparsity 90 %"


# --- whatever users name things ---------------------------------------------------------------------------------

FORMULA = r"$\foo$"


def test_curves_and_films_show_names_as_they_are():
    chart = Curve(FORMULA, x_label=FORMULA)
    chart.show({FORMULA: ([0, 1], [2.0, 1.0]), "_fc": ([0, 1], [2.0, 1.0])})
    figure = chart.figure()
    figure.savefig(io.BytesIO())
    legend = figure.axes[0].get_legend()
    assert [text.get_text().replace(r"\$", "$").lstrip("\u200b") for text in legend.get_texts()] == [FORMULA, "_fc"]
    one, other = (LayerTopology((2, 3), torch.tensor([position])) for position in (1, 4))
    journal = Journal(sk.Topology({FORMULA: one}))
    journal.add(1, TopologyUpdate({FORMULA: one.indices}, {FORMULA: other.indices}))
    assert TopologyFilm(journal).snapshot()
