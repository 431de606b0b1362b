"""Every explorer and panel can be copied as a cell of code, and the cell rebuilds what its reader saw."""

import linecache
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pytest
import test_widgets_circuit as circuits
import test_widgets_text as texts
import torch
from matplotlib.figure import Figure
from test_network_view import network, small_data
from test_ticket_lab import batch, net, tickets
from test_widgets_evolution import _digits_at_hand, tiny  # noqa: F401  # a fixture
from test_widgets_front_end import NODE, node  # noqa: F401  # a fixture
from torch import nn

import sparsekit as sk
from sparsekit import widgets
from sparsekit.analysis import Surface
from sparsekit.experiments import run as train
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.rules import RigL
from sparsekit.schedules import Triangular
from sparsekit.scores import Magnitude
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.call_source import with_state
from sparsekit.widgets.sharing import SharedWidget, read_state, write_state

SHAPES = {"fc1": (12, 16), "head": (4, 12)}
CELLS = count()
WITHOUT = {  # why a reader needs no code of it
    "Card": "it says one thing",
    "Controls": "it is a part of others, which are copied with it",
    "Curve": "it is a part of others, which are copied with it",
    "LayerTable": "it has no controls",
    "MaskTiles": "it has no controls",
    "Predict": "the answer is the reader's own",
    "RulePicker": "it writes the code of its value below the controls",
    "SettingsPicker": "it writes the code of its value below the controls",
    "TrickPicker": "it writes the code of its value below the controls",
}


class Case(NamedTuple):
    """What a reader's notebook has, the call that makes the widget, and what the reader does with it."""

    names: Callable[[Any], dict[str, Any]]
    call: str
    move: Callable[[Any], Any]


def topologies() -> list[sk.Topology]:
    return [sk.random_topology(SHAPES, 0.3, seed=seed) for seed in range(3)]


def views() -> dict[str, Any]:
    model = sk.sparsify(nn.Sequential(nn.Linear(12, 8)), sk.random_topology({"0": (8, 12)}, 0.3), init="dense")
    with sk.capture_io(model) as io:
        model(torch.ones(2, 12)).sum().backward()
    return sk.views(model, io)


def journal() -> Journal:
    first, *others = topologies()
    journal = Journal(first)
    for number, other in enumerate(others):
        journal.add(10 * number, TopologyUpdate.between(journal[number], other))
    return journal


def bowl() -> Surface:
    axis = np.linspace(-1, 1, 5)
    return Surface(axis, axis, axis**2 + axis[:, None] ** 2, 1 - axis**2 * axis[:, None] ** 2)


def draw(power: float, is_bold: bool = False):
    ax = Figure(figsize=(1, 1)).subplots()
    ax.set_title(f"x to the power of {power}{', bold' * is_bold}")
    return ax


def move_branches(view: widgets.Branches) -> None:
    view.continue_from(1, rule="set", drop_fraction=0.5).wait(timeout=60)
    view.choice = {**view.choice, "step": 3, "rule": "set"}


CASES = {
    "Branches": Case(
        lambda folder: {"history": train(tiny(), folder, progress=False, keep_states=True)},
        "widgets.Branches(history)",
        move_branches,
    ),
    "CircuitExplorer": Case(
        lambda _: {"net": circuits.net(), "whole": circuits.whole(circuits.net()), "circuits": circuits},
        "widgets.CircuitExplorer(net, *whole, circuits.TOKENS, circuits.samples(), circuits.score)",
        lambda graph: graph.choose(text="a b ]", ablated=str(graph.nodes.index(("norm", 2)))),
    ),
    "CollectionFilm": Case(
        lambda _: {"collected": tickets(), "rate": Triangular(0.1, 1.0, cycle=10)},
        "widgets.CollectionFilm(collected, rate)",
        lambda film: setattr(film, "moment", 1),
    ),
    "DiversityMap": Case(
        lambda _: {"masks": dict(zip(("red", "sea blue", "c=d&e"), topologies(), strict=True))},
        "widgets.DiversityMap(masks, groups=['a', 'a', 'b'])",
        lambda people: people.choose(network="c=d&e", zoom="b"),
    ),
    "FigureExplorer": Case(
        lambda _: {"draw": draw},
        """widgets.FigureExplorer(
            draw,  # my own
            [widgets.Field(name="power", kind="range", low=0, high=1), widgets.Field(name="is_bold", kind="check")],
            {"power": 0, "is_bold": False},
        )""",
        lambda explorer: explorer.choose(power=1, is_bold=True),
    ),
    "GuidanceExplorer": Case(
        lambda _: {"layers": views()},
        "widgets.GuidanceExplorer(layers, guide='grabo')",
        lambda explorer: explorer.choose(subset=2.0),
    ),
    "LandscapeExplorer": Case(
        lambda _: {"bowl": bowl()},
        "widgets.LandscapeExplorer(bowl, of='accuracy')",
        lambda explorer: explorer.choose(view="landscape", turn=10.0, tilt=50.0, cut=0.5),
    ),
    "LivePanel": Case(
        lambda _: {"run": widgets.Run([]), "mine": widgets.Control(RigL(stop=40, every=20, drop_fraction=0.3))},
        "widgets.LivePanel(run, control=mine)",
        lambda panel: panel.dials.set(every=5, drop_fraction=0.25),
    ),
    "MaskExplorer": Case(
        lambda _: {"ranks": {"at the start": {"fc": torch.arange(64.0).reshape(8, 8)}}},
        "widgets.MaskExplorer(ranks, density=0.5)",
        lambda explorer: explorer.choose(density=0.25, allocation="uniform"),
    ),
    "NetworkView": Case(
        lambda _: {"model": network(5), "data": small_data()},
        "widgets.NetworkView(model, data)",
        lambda view: setattr(view, "state", "kept=20&units=1.2_1.3&links=0.1.2&drawn=00ff10"),
    ),
    "Race": Case(
        lambda folder: {"recipe": tiny, "folder": folder},
        "widgets.Race(recipe, ('static', 'rigl'), seeds=2, folder=folder)",
        lambda race: race.set_trait("init", "dense") or race.set_trait("start", 1) or race.set_trait("step", 3),
    ),
    "ScoreExplorer": Case(
        lambda _: {"model": nn.Sequential(nn.Linear(8, 8)), "some": {"magnitude": Magnitude()}},
        "widgets.ScoreExplorer(model, some, halvings=3, halving=2)",
        lambda explorer: explorer.run.wait(timeout=20) and explorer.choose(halving=1),
    ),
    "TextExplorer": Case(
        lambda _: {"nets": [texts.net(seed) for seed in range(3)], "text": texts.text_data()},
        "widgets.TextExplorer(nets[0], {'a': {0.3: nets[1], 0.1: nets[2]}}, text, prompt='ab', count=4, measured=3)",
        lambda explorer: explorer.choose(density=0.1, prompt="c a", seed=3),
    ),
    "TicketLab": Case(
        lambda _: {"collected": tickets(), "model": net(), "pair": batch(1)},
        "widgets.TicketLab(collected, model, test=pair, train=pair, parts=3)",
        lambda lab: lab.choose(1.0, 0.0, 0.5),
    ),
    "TopologyFilm": Case(
        lambda _: {"journal": journal()},
        "widgets.TopologyFilm(journal, rewiring=1)",
        lambda film: film.set_trait("rewiring", 2) or film.set_trait("layer", 1),
    ),
}
each = pytest.mark.parametrize("name", CASES)


def run_cell(code: str, names: dict[str, Any]) -> Any:
    """Evaluate a cell as a notebook does, which keeps its lines for tracebacks."""
    file = f"<cell {next(CELLS)}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    return eval(compile(code, file, "eval"), {"widgets": widgets, **names})


def values_of(widget: Any) -> dict[str, Any]:
    return widget.shared if isinstance(widget, SharedWidget) else dict(widget.copying.values)


@pytest.fixture
def moved(name, tmp_path):
    """A widget that a reader has moved, the code that it had before, and the names of the notebook."""
    names = CASES[name].names(tmp_path)
    widget = run_cell(CASES[name].call, names)
    before = widget.as_code()
    CASES[name].move(widget)
    return widget, before, names


def test_every_widget_is_copied_as_code_or_has_a_reason():
    every = {name for name in widgets.__all__ if isinstance(one := getattr(widgets, name), type)
             and issubclass(one, StaticPreview)}  # fmt: skip
    assert sorted([*CASES, *WITHOUT]) == sorted(every)


@each
def test_the_copied_cell_rebuilds_the_state(name, moved):
    widget, before, names = moved
    cell = widget.as_code()
    assert cell != before, "what the reader did must be in it"
    again = run_cell(cell, names)
    assert values_of(again) == values_of(widget)
    assert (again.as_code(), repr(again)) == (cell, repr(widget))
    if name == "Branches":
        assert again.branches[0].rows == widget.branches[0].rows
        assert not again.problem


@each
def test_a_state_of_another_widget_is_refused(name, tmp_path):
    call = with_state(CASES[name].call, getattr(widgets, name))
    with pytest.raises(ValueError, match="state must name some of .*, got 'nonsense'"):
        run_cell(call.replace("{state}", "nonsense=1"), CASES[name].names(tmp_path))


@pytest.mark.skipif(NODE is None, reason="node is missing, but the browser tests check the same, slowly")
@pytest.mark.parametrize("name", sorted(set(CASES) - {"NetworkView"}))  # test_network_view.py has its longer way
def test_the_browser_copies_the_same_settings(name, moved, node):  # noqa: F811
    widget = moved[0] if isinstance(moved[0], SharedWidget) else moved[0].copying
    names = ("shared_traits", *widget.shares) if isinstance(widget, SharedWidget) else ("values",)
    traits = {one: getattr(widget, one) for one in names}
    lines = "const model = { get: name => data[name] };\nsay(m.stateText(data.values ?? m.sharedNow(model)));"
    values = values_of(moved[0])
    assert read_state(node(("shared", "copy_code"), traits, lines), values) == values


@pytest.mark.parametrize(
    ("call", "copied"),
    [
        ("E()", 'E(state="{state}")'),
        ("mine.E(a, b=(1))", 'mine.E(a, b=(1), state="{state}")'),
        ("E(a,)", 'E(a, state="{state}")'),
        ("E(\n  a,  # first\n  b=2  # last\n)", 'E(\n  a,  # first\n  b=2, state="{state}"  # last\n)'),
        ("E('é', state='old', b=3)", "E('é', state=\"{state}\", b=3)"),
        ("E.of('runs/{a}')", "E.of('runs/{a}', state=\"{state}\")"),
        ("E(x for x in y)", ""),
        ("Another(a)", ""),
        ("print(E(a))", ""),
        ("a + b", ""),
        ("E(", ""),
    ],
)
def test_a_call_gets_the_state_where_python_allows_it(call, copied):
    class E: ...

    assert with_state(call, E) == copied


@pytest.mark.parametrize(
    ("text", "default", "said"),
    [
        ("a=x", 1, "a must be a number, got 'x'"),
        ("a=1.5", 1, "a must be an integer"),
        ("a=1_x", [1.0], "a must be a number"),
        ("a=yes", True, "a must be true or false"),
        ("a=nan", 3, "a must be an integer"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused(text, default, said):
    with pytest.raises(ValueError, match=said):
        read_state(text, {"a": default})


def test_every_kind_of_setting_survives_a_link():
    values = {"a": 1, "b": 0.25, "c": "é = & 5 %", "d": True, "e": [0.5, 1.0], "f": None, "g": False}
    assert read_state(write_state(values), values) == values
    assert read_state("f=3", values)["f"] == 3
    assert read_state("f=0.5", values)["f"] == 0.5


def test_branches_that_are_not_trained_are_named_and_nothing_is_trained(tmp_path):
    history = train(tiny(), tmp_path, progress=False, keep_states=True)
    view = widgets.Branches(history, state="branches=1:set:0.5:;2:::0.1")
    assert view.branches == []
    assert f"from rewiring 1, 2 is not trained in {tmp_path}" in view.problem
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [history.folder.name]
    with pytest.raises(ValueError, match="written as rewiring:rule:drop fraction:density"):
        widgets.Branches(history, state="branches=1:set")
    with pytest.raises(ValueError, match=r"step must lie in \[0, 6\]"):
        widgets.Branches(history, state="step=7")


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("Race", "init=huge", "init must be one of fan-in, dense"),
        ("Race", "step=7", "step must be from 0 to 6"),
        ("Race", "start=2", "start must be from 0 to 1"),
        ("CollectionFilm", "moment=9", r"moment must lie in \[0, 3\]"),
        ("TopologyFilm", "layer=2", r"layer must lie in \[0, 1\]"),
        ("TicketLab", "weights=1_1", "weights must be 3 numbers"),
        ("DiversityMap", "zoom=c", "zoom must be one of"),
        ("LandscapeExplorer", "cut=9", "the cut must lie"),
        ("NetworkView", "units=1", "the state must be as in"),
    ],
)
def test_a_state_that_names_what_is_not_there_is_refused(name, state, said, tmp_path):
    call = with_state(CASES[name].call, getattr(widgets, name)).replace("{state}", state)
    with pytest.raises(ValueError, match=said):
        run_cell(call, CASES[name].names(tmp_path))
