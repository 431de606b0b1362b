"""The race and the branches of a run: what the browser gets, what it counts, and what the buttons do."""

import base64
from dataclasses import dataclass, replace

import pytest
import torch
from test_widgets_front_end import NODE
from test_widgets_front_end import node as _node

from sparsekit import datasets
from sparsekit.experiments import Experiment, branch, run
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.rules import SET, RigL, Static
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.train.history import History, Row
from sparsekit.utils.registry import _registered, register
from sparsekit.widgets import Branches, Race
from sparsekit.widgets.evolution_film import encode_run, idle_units, layers_of
from sparsekit.widgets.evolution_view import methods_of

node = _node  # a fixture
in_node = pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
EVOLUTION = ("shared", "evolution", "graph_layout", "small_graph", "method_chart")
OPEN = "const runs = data.map(run => m.openRun({ ...run, positions: new DataView(bytes(run.positions).buffer) }));\n"
WHOLE = datasets.load("digits")
DIGITS = replace(
    WHOLE,
    train=replace(WHOLE.train, inputs=WHOLE.train.inputs[:120], labels=WHOLE.train.labels[:120]),
    test=replace(WHOLE.test, inputs=WHOLE.test.inputs[:30], labels=WHOLE.test.labels[:30]),
)


def tiny(*, rule="rigl", seed=0, init="fan-in", **settings) -> Experiment:
    """Six steps in two epochs, with rewirings after the first, third and fifth."""
    rules = {"static": Static(), "set": SET(every=2, stop=5), "rigl": RigL(every=2, stop=5)}
    return Experiment(
        recipe="tiny",
        data="digits",
        model_settings={"hidden": (12,)},
        density=0.2,
        rule=rules.get(rule, rule),
        epochs=2,
        batch_size=40,
        seed=seed,
        init=init,
        **settings,
    )


@pytest.fixture(autouse=True)
def _digits_at_hand(monkeypatch):
    monkeypatch.setattr(datasets, "load_any", lambda *_, **__: DIGITS)


@pytest.fixture(scope="module")
def history():
    """Three layers, of which each of four rewirings changes a third."""
    journal = Journal(random_topology({"a": (9, 16), "b": (7, 9), "c": (3, 7)}, 0.3))
    for number in range(4):
        other = random_topology({name: layer.shape for name, layer in journal.initial.items()}, 0.25, seed=number + 1)
        journal.add(5 * number, TopologyUpdate.between(journal[number], other))
    rows = [Row(step, 0, "test accuracy", share) for step, share in ((4, 0.1), (9, 0.5), (19, 0.9))]
    return History(rows, journal)


def for_node(encoded):
    return {**encoded, "positions": base64.b64encode(encoded["positions"]).decode()}


@in_node
def test_the_browser_finds_every_topology_of_a_run(node, history):
    frames = node(EVOLUTION, [for_node(encode_run(history))], OPEN + "say(runs[0].frames.map(one => [...one]));")
    starts = {"a": 0, "b": 144, "c": 207}
    for frame, topology in zip(frames, history.journal.topologies(), strict=True):
        assert frame == [starts[name] + at for name, layer in topology.items() for at in layer.indices.tolist()]


@in_node
def test_the_browser_counts_idle_units_as_python_does(node, history):
    lines = OPEN + (
        "const shape = m.shapeOf([[9, 16], [7, 9], [3, 7]]);\n"
        "say(runs[0].frames.map(at => m.idleUnits(shape, m.onPaths(shape, m.linksOf(shape, at)).works)));"
    )
    assert node(EVOLUTION, [for_node(encode_run(history))], lines) == [
        idle_units(topology) for topology in history.journal.topologies()
    ]


def test_idle_units_are_those_on_no_path():
    chain = Topology(
        {
            "a": LayerTopology((3, 2), torch.tensor([0, 3])),  # units 0 and 1 read an input, unit 2 none
            "b": LayerTopology((2, 3), torch.tensor([0, 2])),  # units 0 and 2 are read by output 0
        }
    )
    assert idle_units(chain) == 2


@in_node
def test_time_is_found_in_films_and_curves(node, history):
    lines = OPEN + (
        "const [run] = runs;\n"
        "const counts = [0, 1, 5, 6, 99].map(step => m.rewiringsAt(run, step));\n"
        "say([counts, [5, 10, 15, 20, 50].map(step => m.accuracyAt(run, step)),\n"
        "  Number.isNaN(m.accuracyAt(run, 4)), m.overlap([1, 2, 3], [2, 3, 4, 5]), [...m.flipped([1, 3], [2, 3, 9])]]);"
    )
    counts, accuracies, before, overlap, flipped = node(EVOLUTION, [for_node(encode_run(history))], lines)
    assert counts == [0, 1, 1, 2, 4]
    assert accuracies == pytest.approx([0.1, 0.5, 0.7, 0.9, 0.9])
    assert before
    assert overlap == 2 / 5
    assert flipped == [1, 2, 9]


@in_node
def test_bands_reach_from_the_lowest_to_the_highest_and_labels_keep_apart(node):
    runs = [{"measured": [5, 10], "accuracy": [0.2, 0.6]}, {"measured": [5, 10], "accuracy": [0.4, 1.0]}]
    lines = "say([m.bandOf(data), m.bandOf(data, 0, 7).map(point => point.step), m.spread([10, 12, 90], 17, 95)]);"
    band, played, heights = node(EVOLUTION, runs, lines)
    assert [(one["low"], one["high"], round(one["mean"], 6)) for one in band] == [(0.2, 0.4, 0.3), (0.6, 1.0, 0.8)]
    assert played == [5, 7]
    assert heights == [10, 27, 90]


@in_node
@pytest.mark.parametrize("name", ["race", "branches"])
def test_the_modules_are_ones_that_a_browser_can_read(node, name):
    assert node((*EVOLUTION, name), None, "say(typeof m.default.render);") == "function"


@in_node
def test_churn_and_overlap_are_counted_from_where_a_branch_begins(node, history):
    run = for_node(encode_run(history))
    lines = OPEN + "say([m.churnOf(runs[0]).map(one => one.step), m.compared(runs[0], runs[1], 6)]);"
    steps, compared = node((*EVOLUTION, "branches"), [run, run], lines)
    assert steps == [1, 6, 11, 16]
    assert compared == [{"step": step, "common": 1} for step in (6, 11, 16)]


def test_a_race_trains_what_run_trains_and_then_shows_it(tmp_path):
    race = Race(tiny, ("static", "set", "rigl"), seeds=2, folder=tmp_path)
    assert race.state == "ready"
    assert "has not begun" in repr(race)
    assert {run["count"] for run in race.film} == {race.count}
    first = [run["positions"] for run in race.film]
    assert first[0] == first[2] == first[4] != first[1], "all rules begin with the same topology for each seed"
    histories = race.wait(timeout=60)
    assert [len(histories[name]) for name in ("static", "set", "rigl")] == [2, 2, 2]
    assert (race.state, race.done) == ("done", 6)
    assert "connections that may move" in race.verdict
    assert "fixed ones" in repr(race)
    assert histories["rigl"][1].journal.steps == [0, 2, 4]
    again = Race(tiny, ("static", "set", "rigl"), seeds=2, folder=tmp_path)
    assert again.state == "done"
    assert again.film == race.film
    assert again.snapshot().startswith(b"\x89PNG")


def test_a_race_has_two_initialisations_and_buttons(tmp_path):
    race = Race(tiny, ("static", "rigl"), seeds=1, folder=tmp_path)
    race._on_message(race, {"press": "main"}, [])
    race.wait(timeout=60)
    race.init = "dense"
    assert race.state == "ready"
    assert not race.verdict
    dense = race.wait(timeout=60)["rigl"][0]
    assert dense.folder.name == tiny(init="dense").folder_name
    race.init = "fan-in"
    assert race.state == "done"
    for nonsense in (None, "x", {"press": 3}, {"other": 1}):
        race._on_message(race, nonsense, [])
    race.close()


def test_a_rule_of_your_own_takes_part(tmp_path, monkeypatch):
    monkeypatch.setitem(_registered, "rule", dict(_registered["rule"]))  # other tests look at all of them

    @register("rule", "mine-in-a-race")
    @dataclass(frozen=True, kw_only=True)
    class Mine(Static):
        """Waits and sees."""

    race = Race(tiny, {"static": Static(), "mine-in-a-race": Mine()}, seeds=[3], folder=tmp_path)
    assert [rule["words"] for rule in race.rules][1] == "Waits and sees."
    histories = race.wait(timeout=60)
    assert histories["static"][0].last("test loss") == pytest.approx(histories["mine-in-a-race"][0].last("test loss"))


def test_no_two_methods_of_a_race_look_alike():
    methods = methods_of(["static", "set", "rigl", "gse", "mine", "snfs"])
    assert len({(one.style.colour, one.style.marker) for one in methods}) == 6
    assert [one.as_dict()["token"] for one in methods] == ["static", "set", "rigl", "gse", "", ""]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rules": ()}, "a race must have a rule"),
        ({"seeds": 0}, "a race must have a seed"),
        ({"exclude": ("first",)}, "an mlp"),
    ],
)
def test_what_cannot_race_is_said(tmp_path, settings, said):
    with pytest.raises(ValueError, match=said):
        Race(tiny, **{"rules": ("static",), "folder": tmp_path, **settings})


def test_networks_that_are_no_chain_or_too_large_cannot_be_drawn():
    with pytest.raises(ValueError, match="follow one another"):
        layers_of(random_topology({"a": (4, 64), "b": (10, 5)}, 0.5), DIGITS)
    with pytest.raises(ValueError, match="at most 6,000"):
        layers_of(random_topology({"a": (100, 64), "b": (10, 100)}, 0.9), DIGITS)


def test_both_futures_stay_and_errors_stand_beside_the_button(tmp_path):
    original = run(tiny(), tmp_path, progress=False, keep_states=True)
    view = Branches(original, rewiring=2)
    assert (view.choice["step"], view.options["rule_name"], view.options["fraction"]) == (3, "rigl", "0.3")
    assert "to go back to" in repr(view)
    with pytest.raises(ValueError, match="a branch to wait for"):
        view.wait()
    view._on_message(
        view, {"press": "continue", "rewiring": 1, "rule": "set", "drop_fraction": 0.5, "density": None}, []
    )
    twin = view.wait(timeout=60)
    assert twin.rows == branch(original, rewiring=1, rule="set", drop_fraction=0.5, progress=False).rows
    assert [arm["label"] for arm in view.arms] == ["RigL", "SET, drop 0.5 from rewiring 1"]
    assert [run["rewired"] for run in view.film] == [[1, 3, 5], [1, 3, 5]]
    assert "of the connections in common" in view.verdict
    view._on_message(view, {"press": "continue", "rewiring": 9}, [])
    assert "rewiring must lie in [0, 3]" in view.problem
    for number in range(5):
        view.continue_from(2, density=0.05 + 0.01 * number).wait(timeout=60)
    assert len(view.arms) == len(view.film) == 5
    assert not view.problem
    assert view.snapshot().startswith(b"\x89PNG")


def test_a_run_that_is_not_finished_cannot_be_branched_in_a_view(tmp_path):
    run(tiny(), tmp_path, progress=False, until=4)
    with pytest.raises(ValueError, match="must be finished"):
        Branches(tmp_path / tiny().folder_name)
