"""Masks under a slider for scores are those of `prune`. A run finds them, and no control ever waits for one."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import batch_for, made
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.plots import style_of, styles_of
from sparsekit.scores import Magnitude, Score, ScoreView, SynFlow, prune
from sparsekit.topology import LayerTopology
from sparsekit.utils import registry
from sparsekit.widgets import Curve, LivePanel, ScoreExplorer
from sparsekit.widgets.sharing import write_state

SCORES = {"magnitude": Magnitude(min_per_layer=0), "synflow": SynFlow(rounds=3, min_per_layer=0)}


def model() -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3)))


def make_explorer(**settings) -> ScoreExplorer:
    return ScoreExplorer(model(), SCORES, batches=[batch_for((6,))], halvings=6, halving=2, **settings)


def expected(score: str, halving: int):
    return prune(model(), SCORES[score], 0.5**halving, batches=[batch_for((6,))])


def shown(explorer: ScoreExplorer) -> sk.Topology:
    """Return the topology that the browser reads from the bits for the current choice."""
    choice = explorer.choice
    keys = [(one["score"], one["halving"]) for one in explorer.facts]
    planes = np.unpackbits(np.frombuffer(explorer.bits, np.uint8)).reshape(2 * len(keys), -1)
    mask, layers, start = planes[2 * keys.index((choice["score"], choice["halving"]))], {}, 0
    for layer in explorer.layers:
        size = layer["rows"] * layer["cols"]
        indices = torch.from_numpy(np.flatnonzero(mask[start : start + size]))
        layers[layer["name"]], start = LayerTopology((layer["rows"], layer["cols"]), indices), start + size
    return sk.Topology(layers)


def test_it_shows_the_mask_of_its_first_score_before_anything_ran():
    explorer = make_explorer(score="synflow")
    assert explorer.run.state == "ready"
    assert explorer.pruning.topology == expected("synflow", 2)
    assert shown(explorer) == expected("synflow", 2)


def test_after_the_run_every_control_shows_exactly_what_prune_keeps():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    for score in SCORES:
        for halving in (0, 3, 6):
            explorer.choose(score=score, halving=halving)
            assert explorer.pruning.topology == shown(explorer) == expected(score, halving)
    assert len(explorer.found) == explorer.run.count == explorer.run.total == 14


def test_what_is_not_found_yet_is_said_and_follows_by_itself():
    explorer = make_explorer()
    explorer.choose(score="synflow", halving=6)
    assert explorer.pruning is None
    assert repr(explorer) == "synflow, halved 6 times: this is not computed yet"
    assert explorer.snapshot().alt == repr(explorer)
    explorer.run.wait(timeout=60)
    assert explorer.pruning.topology == expected("synflow", 6)
    assert repr(explorer).startswith("synflow, 98.4 % sparsity: ")


def test_its_own_buttons_start_pause_and_stop_the_run():
    explorer = make_explorer()
    explorer._on_message(None, {"press": "main"}, [])
    explorer.run.wait(timeout=60)
    assert explorer.progress == {"state": "done", "count": 14, "total": 14, "problem": ""}
    explorer.press("main")
    explorer.press("stop")
    assert explorer.progress["state"] == "done"


def test_words_facts_and_image_say_what_lies_on_a_path():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    explorer.choose(score="magnitude", halving=6)
    one = explorer.pruning
    assert repr(explorer) == explorer.snapshot().alt
    assert f"{one.topology.count} of 840 connections remain, {one.effective.count} of them on a path" in repr(explorer)
    facts = next(fact for fact in explorer.facts if (fact["score"], fact["halving"]) == ("magnitude", 6))
    assert facts["on_path"] == [layer.count for layer in one.effective.values()]
    assert set(explorer._repr_mimebundle_()) >= {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}


def test_empty_layers_are_named():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    empty = [one for one in explorer.found if one.empty]
    assert empty
    explorer.choose(score=empty[0].score, halving=6)
    assert f"There is nothing left in {', '.join(explorer.pruning.empty)}" in repr(explorer)


def test_a_copied_state_shows_the_same_masks():
    explorer = make_explorer(state="score=synflow&halving=4")
    assert explorer.pruning.topology == expected("synflow", 4)
    assert write_state(explorer.choice) == "score=synflow&halving=4"


def test_training_the_model_meanwhile_changes_nothing():
    net = model()
    explorer = ScoreExplorer(net, SCORES, batches=iter([batch_for((6,))]), halvings=3, halving=1)
    net.load_state_dict({name: torch.zeros_like(value) for name, value in net.state_dict().items()})
    explorer.run.wait(timeout=60)
    explorer.choose(score="synflow", halving=3)
    assert explorer.pruning.topology == expected("synflow", 3)


def test_every_registered_score_can_be_chosen_even_one_of_today(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Mine(Score):
        def __call__(self, view: ScoreView) -> dict[str, Tensor]:
            return {name: torch.ones(layer.shape) for name, layer in view.topology.items()}

    monkeypatch.setitem(registry._registered["score"], "mine", Mine)
    explorer = ScoreExplorer(model(), batches=[batch_for((6,))], halvings=2, halving=1, score="mine")
    assert explorer.score_names == sk.names("score")
    assert "mine" in explorer.scores
    assert all(score.min_per_layer == 0 for score in explorer.scores.values())
    assert repr(explorer).startswith("mine, 50.0 % sparsity: 420 of 840 connections")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"score": "best"}, "score must be one of magnitude, synflow"), ({"halving": 7}, r"halving must lie in \[0, 6\]")],
)
def test_a_score_or_a_step_that_is_not_there_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ScoreExplorer(model(), SCORES, batches=[batch_for((6,))], halvings=6, **settings)
    with pytest.raises(ValueError, match=message):
        make_explorer().choose(**settings)


def test_a_panel_draws_its_lines_in_the_colours_of_the_methods():
    explorer = make_explorer()
    panel = LivePanel(explorer.run, metrics={"on a path": tuple(SCORES)}, masks=False, methods=True)
    explorer.run.wait(timeout=60)
    (chart,) = panel.charts.values()
    assert [look["colour"] for look in chart.looks] == [style_of(name).colour for name in SCORES]
    assert [line["count"] for line in chart.series] == [7, 7]


def test_a_chart_of_methods_tells_them_apart_by_dashes_too():
    chart = Curve("accuracy", methods=True)
    names = sk.names("score")
    chart.show({name: ([0, 1], [0.0, 1.0]) for name in names})
    assert len({look["colour"] for look in chart.looks}) == min(len(names), 8)
    assert {len(look["dash"]) for look in chart.looks} == {0, 2, 4}
    lines = chart.figure().axes[0].lines
    assert [line.get_color() for line in lines] == [style.colour for style in styles_of(names).values()]
