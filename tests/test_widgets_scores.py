"""Masks under a slider for scores are those of `prune`. A run finds them, and no control ever waits for one."""

import time
from dataclasses import dataclass

import pytest
import torch
from helpers import batch_for, made
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.plots import style_of, styles_of
from sparsekit.scores import SNIP, Magnitude, Score, ScoreView, SynFlow, prune
from sparsekit.utils import registry
from sparsekit.widgets import Curve, LivePanel, ScoreExplorer

SCORES = {"magnitude": Magnitude(min_per_layer=0), "synflow": SynFlow(rounds=3, min_per_layer=0)}


def model() -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3)))


def make_explorer(**settings) -> ScoreExplorer:
    return ScoreExplorer(model(), SCORES, batches=[batch_for((6,))], halvings=6, halving=2, **settings)


def expected(score: str, halving: int):
    return prune(model(), SCORES[score], 0.5**halving, batches=[batch_for((6,))])


def note(explorer: ScoreExplorer) -> str:
    return explorer.controls.fields[0]["help"]


def test_it_shows_the_mask_of_its_first_score_before_anything_ran():
    explorer = make_explorer(score="synflow")
    assert explorer.run.state == "ready"
    assert explorer.pruning.topology == expected("synflow", 2)
    assert {name: bits.topology() for name, bits in explorer.masks.packed_masks.items()} == dict(expected("synflow", 2))


def test_after_the_run_every_control_shows_exactly_what_prune_keeps():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    for score in SCORES:
        for halving in (0, 3, 6):
            explorer.choose(score=score, halving=halving)
            assert explorer.pruning.topology == expected(score, halving)
            assert note(explorer) == ""
    assert len(explorer.found) == explorer.run.count == explorer.run.total == 14


def test_what_is_not_found_yet_is_said_and_follows_by_itself():
    explorer = make_explorer()
    explorer.choose(score="synflow", halving=6)
    assert "not computed yet" in note(explorer)
    assert explorer.pruning.score == "magnitude"
    explorer.run.wait(timeout=60)
    assert explorer.pruning.topology == expected("synflow", 6)
    assert note(explorer) == ""
    assert repr(explorer).startswith("synflow, 98.4 % sparsity: ")


def test_going_back_to_what_is_shown_takes_the_note_away():
    explorer = make_explorer()
    explorer.choose(halving=5)
    assert note(explorer)
    explorer.choose(halving=2)
    assert not note(explorer)


def test_words_table_and_image_say_what_lies_on_a_path():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    explorer.choose(score="magnitude", halving=6)
    one = explorer.pruning
    assert explorer.words.values["words"] == repr(explorer) == explorer.snapshot().alt
    assert f"{one.topology.count} of 840 connections remain, {one.effective.count} of them on a path" in repr(explorer)
    assert explorer.table.head[-1] == "On a path"
    effective = [layer.count for layer in one.effective.values()]
    assert [int(row[-1]) for row in explorer.table.rows] == [*effective, sum(effective)]
    assert set(explorer._repr_mimebundle_()) >= {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}


def test_empty_layers_are_named():
    explorer = make_explorer()
    explorer.run.wait(timeout=60)
    empty = [one for one in explorer.found if one.empty]
    assert empty
    explorer.choose(score=empty[0].score, halving=6)
    assert f"There is nothing left in {', '.join(explorer.pruning.empty)}" in repr(explorer)


def test_presets_choose_score_and_sparsity():
    explorer = make_explorer(presets={"Try": {"score": "synflow", "halving": 4}})
    explorer.run.wait(timeout=60)
    explorer.presets.press("Try")
    assert explorer.pruning.topology == expected("synflow", 4)


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
    assert [value for value, _ in explorer.controls.fields[1]["options"]] == sk.names("score")
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


def test_moving_a_control_draws_within_a_tenth_of_a_second():
    net = made(lambda: nn.Sequential(*(nn.Linear(100, 100) for _ in range(6))))
    explorer = ScoreExplorer(net, {"snip": SNIP()}, batches=[batch_for((100,))], halvings=4, halving=1)
    explorer.run.wait(timeout=60)
    times = []
    for halving in (0, 4, 2, 3, 1):
        start = time.perf_counter()
        explorer.choose(halving=halving)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1  # the fastest, because others may share the machine with something else


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
