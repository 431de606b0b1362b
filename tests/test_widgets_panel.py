"""A panel shows its masks before the start, marks what happened on the way, and begins anew if it can."""

import itertools

import pytest
import torch
from torch import nn

import sparsekit as sk
from sparsekit.rules import RigL
from sparsekit.widgets import Control, LivePanel, MaskTiles, Run, Snapshot, live_training
from sparsekit.widgets.sharing import read_state, write_state

SECONDS = 60  # patience with a slow machine


def training(control: Control, steps: int = 12):
    """Make the steps of a small training that begins from the same weights every time."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.4, seed=0), init="dense")
    batch = torch.randn(32, 8), torch.arange(32) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"steps": steps, "measure": lambda model: {"test accuracy": 0.5}, "measure_every": 6}
    return live_training(model, optimizer, itertools.repeat(batch), nn.functional.cross_entropy, control, **settings)


def test_the_masks_and_the_axes_are_there_before_the_start():
    panel = LivePanel(Run(lambda: training(Control(RigL(stop=12, every=3))), total=12))
    assert panel.masks.alt.startswith("2 layers have 70 of 176 connections")
    assert panel.headline.values["title"] == "70 connections wait for Start"
    assert [chart.x_ends for chart in panel.charts.values()] == [[0, 11], [0, 11]]
    assert [chart.y_ends for chart in panel.charts.values()] == [[], [0, 1]]


def test_rewirings_are_ticks_and_the_last_one_is_drawn():
    run = Run(training(Control(RigL(stop=12, every=3))), total=12)
    panel = LivePanel(run)
    run.wait(SECONDS)
    panel._draw(run)
    assert run.rewirings == [0, 3, 6, 9]
    assert all(chart.marks == run.rewirings for chart in panel.charts.values())
    shown = MaskTiles()
    shown.show(run.topology, run.before)
    assert (panel.masks.bits, panel.masks.before) == (shown.bits, shown.before)
    assert panel.headline.values["title"] == "test accuracy 50.0%, done at step 11"


def test_a_slider_that_moves_plants_one_flag_where_its_drag_ends():
    control, run = Control(RigL(stop=100, every=20)), Run((Snapshot(step) for step in range(100)), total=100)
    panel = LivePanel(run, control=control)
    panel.dials.set(every=10)
    assert panel._flags == []  # nothing runs yet, so there is nowhere to put it
    run.wait(SECONDS)
    for value in (9, 8, 7):
        panel.dials.set(every=value)
    assert [(flag["x"], flag["text"]) for flag in panel._flags] == [(99, "every 7")]


def test_again_begins_from_the_start_and_keeps_the_old_lines():
    run = Run(lambda: training(Control(RigL(stop=12, every=3))), total=12)
    panel = LivePanel(run)
    run.wait(SECONDS)
    first = run.lines()
    assert panel.buttons.fields[0]["label"] == "Again"
    panel.buttons.press("main")
    run.wait(SECONDS)
    assert run.past == [first]
    assert run.lines() == first
    assert (run.state, run.count, run.rewirings) == ("done", 12, [0, 3, 6, 9])
    panel._draw(run)
    assert [line["past"] for line in panel.charts["accuracy", "test accuracy"].series] == [False, False, True, True]


def test_a_run_of_given_steps_cannot_begin_anew_and_says_why():
    run = Run([Snapshot(0)])
    run.wait(SECONDS)
    with pytest.raises(RuntimeError, match="must get a function to begin anew"):
        run.again()


def test_a_running_run_is_not_begun_anew():
    run = Run(lambda: (Snapshot(step) for step in range(3)))
    assert run.again() is run
    assert run.state == "ready"


def test_a_copied_state_sets_the_sliders_and_leaves_schedules_alone():
    control = Control(RigL(stop=40, every=20, drop_fraction=0.3))
    panel = LivePanel(Run([]), control=control)
    panel.dials.set(every=5)
    state = write_state(panel.copying.values)
    assert repr(panel.copying) == panel.as_code() == f'LivePanel(Run([]), control=control, state="{state}")'
    other = Control(RigL(stop=40, every=20, drop_fraction=0.3))
    LivePanel(Run([]), control=other, state=state)
    assert other.rule == control.rule == RigL(stop=40, every=5, drop_fraction=0.3)
    with pytest.raises(ValueError, match="state must name some of drop_fraction, every"):
        LivePanel(Run([]), control=other, state="beta=1")


@pytest.mark.parametrize(("text", "value"), [("every=5", 5), ("", 20)])
def test_a_state_keeps_the_type_of_what_it_sets(text, value):
    assert read_state(text, {"every": 20}) == {"every": value}
