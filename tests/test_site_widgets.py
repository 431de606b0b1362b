"""What widgets add for pages, where no kernel answers: recorded accuracies, finished runs, and answers to guesses."""

import base64

import numpy as np
import pytest
import torch
from test_widgets_evolution import tiny
from test_widgets_front_end import EXPLORER, NODE
from test_widgets_front_end import node as _node

from sparsekit.experiments.population import run_all
from sparsekit.widgets import FigureExplorer, MaskExplorer, Predict, Race
from sparsekit.widgets.base import complete_all

node = _node  # a fixture
in_node = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
RANKS = """const at = (bytes, name) => m.readRanks({ [name]: bytes ? new DataView(bytes.buffer) : null }, data.layers);
say([[...at(bytes(data.stops), 'stops')], [...at(bytes(data.ranks), 'bytes')]]);"""


@pytest.fixture
def explorer():
    generator = torch.Generator().manual_seed(0)
    shapes = {"fc": (12, 16), "head": (5, 12)}
    scores = {kind: {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()} for kind in "ab"}
    return MaskExplorer(scores, density=0.3, accuracy=lambda topology: topology.density)


def ranks_of(explorer) -> dict[str, list[np.ndarray]]:
    """Return the ranks of each layer that the browser had before."""
    sizes = np.cumsum([layer["rows"] * layer["cols"] for layer in explorer.layers])[:-1]
    return {one["name"]: np.split(np.frombuffer(one["bytes"], "<i4"), sizes) for one in explorer.ranks}


def test_a_page_has_an_accuracy_at_every_stop_and_the_trail_stays_the_readers(explorer):
    trail = list(explorer.measured)
    explorer.complete()
    known = {(one["density"], one["allocation"], one["score"]): one["accuracy"] for one in explorer.known}
    assert len(known) == len(explorer.densities) * len(explorer.allocations) * 2
    assert {0.3, 0.1, 0.02, 0.005} <= set(explorer.densities)
    assert len(explorer.densities) < 60
    assert known[0.3, "erk", "a"] == explorer.masks_at(0.3, "erk", "a").density
    assert explorer.measured == trail


@in_node
def test_a_page_keeps_exactly_the_same_positions_at_every_stop(explorer, node):
    before = ranks_of(explorer)["b"]
    ranks = explorer.ranks[1]["bytes"]
    explorer.complete()
    (_, shrunk) = explorer.ranks
    encoded = {"stops": base64.b64encode(shrunk["stops"]).decode(), "ranks": base64.b64encode(ranks).decode()}
    script = ("shared", *EXPLORER, "input_map", "mask_explorer")
    found, plain = node(script, {**encoded, "layers": explorer.layers}, RANKS)
    assert plain == np.concatenate(before).tolist()
    counts = np.frombuffer(explorer.counts, "<i4").reshape(-1, 2)
    for old, new, column in zip(before, np.split(np.array(found), [192]), counts.T, strict=True):
        assert sorted(new) == list(range(len(old)))
        assert all(((old < count) == (new < count)).all() for count in column)


def test_a_prediction_hands_over_its_answer_for_each_guess_only_when_a_page_is_made():
    guess = Predict("How many?", ["few", "many"], 1, "There are a hundred.")
    card = guess.measured("There were 100.")
    assert guess.told == {}
    complete_all()
    reveals = ["Not quite, it is “many”. There are a hundred.", "Yes. There are a hundred."]
    assert guess.told == {"right": 1, "reveals": reveals}
    assert card.replies == [["You guessed “few”.", "wrong"], ["You guessed right.", "right"]]
    assert [str(link.source[0].question) for link in guess._links] == ["How many?"]
    guess.close()


def test_a_prediction_without_an_answer_of_its_own_tells_none():
    guess = Predict("How many?", ["few", "many"])
    guess.complete()
    assert guess.told == {}


def test_a_race_hands_over_the_finished_runs_of_all_initial_weights_and_no_others(tmp_path):
    dense = [tiny(rule=rule, seed=seed, init="dense") for rule in ("static", "rigl") for seed in (0, 1)]
    run_all(dense, tmp_path, progress=False)
    race = Race(tiny, ("static", "rigl"), seeds=2, folder=tmp_path)
    assert race.init == "fan-in"
    race.complete()
    assert list(race.others) == ["dense"]
    assert race.init == "dense"
    assert race.others["dense"]["film"] == race.film
    assert race.others["dense"]["verdict"] == race.verdict != ""


def test_the_words_below_a_figure_follow_its_drawing_in_the_browser():
    from matplotlib.figure import Figure

    from sparsekit.widgets import Field

    def draw(power):
        ax = Figure().subplots()
        ax.set_title(f"power {power}")
        return ax

    explorer = FigureExplorer(draw, [Field(name="power", kind="range", low=0, high=3)], {"power": 1})
    assert explorer.told.source == (explorer.image, "words")
    assert explorer.told.target == (explorer.words, "values")
    assert explorer.image.words == explorer.words.values == {"words": "power 1"}
    explorer.close()
