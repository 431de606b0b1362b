"""Runs in a thread start, pause, stop and fail on demand, and give what they would give without a thread."""

import itertools
import math
import threading
import time
import warnings

import ipywidgets
import numpy as np
import pytest
import torch
from IPython.core.events import EventManager, available_events
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult
from pages import new_widgets_closed
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import batches_of, tiny

from sparsekit.layers import shapes_of, sparsify, topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import RigL, Static
from sparsekit.schedules import Constant
from sparsekit.topology.selection import random_topology
from sparsekit.tricks import GhostNeurons, GhostSkips, Skip, Soft, begin, ghosts_of
from sparsekit.widgets import Control, Curve, LivePanel, Run, Snapshot, cells, live_training
from sparsekit.widgets.curve import downsample

SECONDS = 20  # patience with a slow machine


def counting(steps=None, *, pause=0.001):
    """Yield snapshots, without end where there is no number."""
    for step in itertools.count() if steps is None else range(steps):
        time.sleep(pause)
        yield Snapshot(step, {"loss": 1.0 / (step + 1)})


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_takes_every_snapshot():
    run = Run(counting(5), total=5)
    assert run.wait(SECONDS).step == 4
    assert (run.state, run.count) == ("done", 5)
    assert run.lines() == {"loss": ([0, 1, 2, 3, 4], [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5])}


def test_nothing_happens_before_the_start():
    steps = []
    run = Run(steps.append(step) or Snapshot(step) for step in range(3))
    time.sleep(0.05)
    assert (steps, run.state, run.latest) == ([], "ready", None)
    run.wait(SECONDS)


def test_a_second_start_changes_nothing():
    run = Run(counting(3)).start().start()
    assert run.wait(SECONDS).step == 2
    run.start()
    assert run.wait(SECONDS).step == 2


def test_a_paused_run_holds_still_until_it_is_resumed():
    run = Run(counting()).start()
    until(lambda: run.count > 3)
    run.pause()
    time.sleep(0.05)
    count = run.count
    time.sleep(0.1)
    assert (run.state, run.count) == ("paused", count)
    run.resume()
    until(lambda: run.count > count)
    assert run.state == "running"
    run.stop()
    run.wait(SECONDS)


def test_stop_keeps_the_last_snapshot():
    run = Run(counting()).start()
    until(lambda: run.count >= 5)
    run.stop()
    assert run.wait(SECONDS).step == run.count - 1
    assert run.state == "stopped"


def test_a_paused_run_can_be_stopped():
    run = Run(counting()).start()
    until(lambda: run.count > 1)
    run.pause()
    run.stop()
    run.wait(SECONDS)
    assert run.state == "stopped"


def test_a_run_stopped_before_its_start_never_begins():
    steps = []
    run = Run(steps.append(step) or Snapshot(step) for step in range(3))
    run.stop()
    assert run.wait(SECONDS) is None
    assert (run.state, steps) == ("stopped", [])


def test_pause_and_resume_do_nothing_to_a_run_that_is_over():
    run = Run(counting(2))
    run.wait(SECONDS)
    run.pause()
    run.resume()
    assert run.state == "done"


def test_a_stopped_generator_cleans_up_behind_itself():
    cleaned = threading.Event()

    def steps():
        try:
            yield from counting()
        finally:
            cleaned.set()

    run = Run(steps()).start()
    until(lambda: run.count > 1)
    run.stop()
    run.wait(SECONDS)
    assert cleaned.is_set()


def test_an_error_in_the_training_reaches_whoever_waits():
    def failing():
        yield Snapshot(0)
        raise FloatingPointError("the loss must be finite")

    run = Run(failing())
    with pytest.raises(FloatingPointError, match="must be finite"):
        run.wait(SECONDS)
    assert (run.state, run.count) == ("failed", 1)
    with pytest.raises(FloatingPointError):  # and again at every later call
        run.wait(SECONDS)


def test_waiting_waits_for_a_run_that_somebody_is_just_starting():
    begun = threading.Event()
    run = Run(counting(3)).listen(lambda run: begun.wait(SECONDS) if run.state == "running" else None)
    presser = threading.Thread(target=run.start)
    presser.start()  # the button's thread, which is still telling the panel
    until(lambda: run.state == "running")
    threading.Timer(0.1, begun.set).start()
    assert run.wait(SECONDS).step == 2
    presser.join()


def test_waiting_too_long_stops_the_run():
    run = Run(counting())
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        run.wait(0.05)
    until(lambda: not run._thread.is_alive())
    assert run.state == "stopped"


def test_an_interrupt_while_waiting_stops_the_run_and_keeps_its_result(monkeypatch):
    run = Run(counting()).start()
    until(lambda: run.count > 3)
    calls, wait = [], run._finished.wait

    def interrupted(timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return wait(timeout)

    monkeypatch.setattr(run._finished, "wait", interrupted)
    last = run.wait(SECONDS)
    assert last.step == run.count - 1 > 2
    assert run.state == "stopped"


def test_waiting_is_done_in_slices_so_that_an_interrupt_lands(monkeypatch):
    run = Run(counting(300))
    run.start()
    slices, wait = [], run._finished.wait
    monkeypatch.setattr(run._finished, "wait", lambda timeout=None: slices.append(timeout) or wait(timeout))
    run.wait(SECONDS)
    assert slices
    assert all(timeout is not None and timeout <= 0.1 for timeout in slices)


def test_the_thread_never_keeps_python_from_ending():
    assert Run(counting())._thread.daemon


def test_a_broken_view_ends_no_run_and_is_reported():
    run = Run(counting(3)).listen(lambda run: 1 / 0)
    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        assert run.wait(SECONDS).step == 2
    assert run.state == "done"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.wait(SECONDS)  # once is enough


def test_a_broken_view_does_not_silence_the_others():
    counts = []
    run = Run(counting(3)).listen(lambda run: 1 / 0).listen(lambda run: counts.append(run.count))
    with pytest.warns(UserWarning, match="view"):
        run.wait(SECONDS)
    assert counts[-1] == 3


def test_listeners_are_told_at_most_ten_times_a_second():
    counts = []
    start = time.monotonic()
    Run(counting(3000, pause=0)).listen(lambda run: counts.append(run.count)).wait(SECONDS)
    assert 3 <= len(counts) <= 3 + (time.monotonic() - start) / 0.1
    assert counts[-1] == 3000  # the end is told whenever it comes


def test_the_last_topology_stays_where_a_snapshot_has_none():
    topology = random_topology({"fc": (4, 5)}, 0.5)
    run = Run([Snapshot(0, {}, topology), Snapshot(1)])
    run.wait(SECONDS)
    assert run.topology is topology


def test_metrics_may_be_missing_at_some_steps():
    run = Run([Snapshot(0, {"loss": 1.0}), Snapshot(1, {"loss": 0.5, "accuracy": 0.9})])
    run.wait(SECONDS)
    assert run.lines() == {"loss": ([0, 1], [1.0, 0.5]), "accuracy": ([1], [0.9])}


# --- control --------------------------------------------------------------------------------------


def test_a_control_replaces_the_whole_rule():
    rule = RigL(stop=100)
    control = Control(rule)
    control.change(every=7, drop_fraction=0.2)
    assert (control.rule.every, control.rule.drop_fraction, control.rule.stop) == (7, Constant(0.2), 100)
    assert rule.every == 100  # rules are values


def test_a_control_keeps_the_rule_that_the_new_value_does_not_fit():
    control = Control(RigL(stop=100))
    with pytest.raises(ValueError, match="every"):
        control.change(every=0)
    assert control.rule.every == 100
    with pytest.raises(TypeError):
        control.change(nonsense=1)


# --- the real training ----------------------------------------------------------------------------


def small_training(control, *, steps=12, **options):
    """A sparse multi-layer perceptron on random data, the same every time."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model = sparsify(plain, random_topology({"0": (16, 8), "2": (3, 16)}, 0.4), init="dense")
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 8, generator=generator)
    labels = torch.randint(3, (32,), generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = itertools.repeat((inputs, labels))
    return model, live_training(model, optimizer, batches, nn.functional.cross_entropy, control, steps=steps, **options)


def test_training_is_the_same_with_and_without_a_thread():
    alone_model, alone = small_training(RigL(stop=12, every=3))
    alone = list(alone)
    watched_model, watched = small_training(RigL(stop=12, every=3))
    last = Run(watched).wait(SECONDS)
    assert last.metrics == alone[-1].metrics
    assert last.topology == alone[-1].topology
    for ours, theirs in zip(alone_model.parameters(), watched_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_snapshots_show_the_topology_of_their_step():
    model, steps = small_training(RigL(stop=12, every=3))
    pairs = [(snapshot.topology, topology_of(model)) for snapshot in steps]
    assert all(ours == theirs for ours, theirs in pairs)
    assert pairs[0][0] != pairs[-1][0]


def test_live_training_records_a_journal():
    journal_model, steps = small_training(RigL(stop=12, every=3))
    journal = Journal(topology_of(journal_model))
    _, steps = small_training(RigL(stop=12, every=3), journal=journal)
    last = list(steps)[-1]
    assert journal.steps == [0, 3, 6, 9]
    assert journal[-1] == last.topology


def test_a_rule_that_is_changed_acts_from_the_next_step_on():
    control = Control(RigL(stop=1000, every=1000))
    _, steps = small_training(control, steps=20)
    topologies = [next(steps).topology for _ in range(10)]
    assert all(one == topologies[0] for one in topologies)  # step 0 rewired, nothing since
    control.change(every=1, drop_fraction=0.5)
    assert next(steps).topology != topologies[0]


def test_the_model_is_measured_now_and_then_and_at_the_end():
    _, steps = small_training(Static(), steps=5, measure=lambda model: {"test accuracy": 0.5}, measure_every=2)
    assert [snapshot.step for snapshot in steps if "test accuracy" in snapshot.metrics] == [1, 3, 4]


# --- the panel ------------------------------------------------------------------------------------


def steering(control, steps=40):
    """Yield the rule's settings as metrics, so that a test sees what the training saw."""
    for step in range(steps):
        time.sleep(0.001)
        rule = control.rule
        yield Snapshot(step, {"loss": math.exp(-step), "every": rule.every, "drop_fraction": rule.drop_fraction_at(0)})


def test_buttons_start_pause_resume_and_stop():
    run = Run(counting(), total=100)
    panel = LivePanel(run, metrics=["loss"])
    labels = []
    for button in ("main", "main", "main", "stop"):
        labels.append(panel.buttons.fields[0]["label"])
        panel.buttons.press(button)
        until(lambda: run.count > 0)
    run.wait(SECONDS)
    assert labels == ["Start", "Pause", "Resume", "Pause"]
    assert run.state == "stopped"
    assert panel.buttons.fields[0]["label"] == "Ended"
    assert panel.buttons.fields[0]["disabled"]
    assert panel.buttons.fields[1]["disabled"]


def test_stop_is_offered_only_while_there_is_something_to_stop():
    run = Run(counting(), total=100)
    panel = LivePanel(run)
    assert panel.buttons.fields[1]["disabled"]
    run.start()
    until(lambda: not panel.buttons.fields[1]["disabled"])
    run.stop()
    run.wait(SECONDS)


def test_the_start_is_shown_before_the_first_step_is_done():
    begun = threading.Event()

    def slow():
        begun.wait(SECONDS)
        yield Snapshot(0)

    run = Run(slow())
    panel = LivePanel(run)
    run.start()
    assert panel.buttons.fields[0]["label"] == "Pause"
    begun.set()
    run.wait(SECONDS)


def test_a_press_that_comes_late_never_hides_the_end():
    run = Run(counting(1))
    panel = LivePanel(run)
    run.wait(SECONDS)
    panel._press("main")
    assert (panel.buttons.fields[0]["label"], panel.buttons.values["state"]) == ("Ended", "done")


def test_the_bar_and_the_status_follow_the_run():
    run = Run(counting(5), total=8)
    panel = LivePanel(run, metrics=["loss"])
    run.wait(SECONDS)
    assert panel.buttons.values == {"progress": 5, "state": "done", "count": "5 of 8 steps"}
    assert panel.buttons.fields[2]["high"] == 8


def test_the_curve_has_a_point_per_step():
    run = Run(counting(30), total=30)
    panel = LivePanel(run, metrics=["loss"])
    run.wait(SECONDS)
    points = np.frombuffer(panel.charts[("loss",)].points, np.float32).reshape(2, 30)
    assert points[0].tolist() == list(range(30))
    assert points[1] == pytest.approx([1 / (step + 1) for step in range(30)])


def test_sliders_act_on_the_running_training():
    control = Control(RigL(stop=40, every=20, drop_fraction=0.3))
    run = Run(steering(control, 400), total=400)
    panel = LivePanel(run, metrics=["loss"], control=control)
    run.start()
    until(lambda: run.count > 5)
    panel.dials.set(drop_fraction=0.6)
    panel.dials.set(every=5)
    until(lambda: run.lines()["every"][1][-1] == 5)
    run.stop()
    run.wait(SECONDS)
    assert run.lines()["drop_fraction"][1][0] == 0.3
    assert run.lines()["drop_fraction"][1][-1] == 0.6


def test_a_slider_leaves_the_other_setting_alone():
    control = Control(RigL(stop=40, every=20, drop_fraction=0.3))
    panel = LivePanel(Run([]), control=control)
    panel.dials.set(every=5)
    assert control.rule.drop_fraction == RigL(stop=40, drop_fraction=0.3).drop_fraction  # the cosine still decays


def test_a_value_that_the_rule_refuses_is_answered_beside_its_slider():
    control = Control(RigL(stop=40, every=20))
    panel = LivePanel(Run([]), control=control)
    panel.dials.set(every=0)
    errors = {field["name"]: field["error"] for field in panel.dials.fields}
    assert "every must lie in" in errors["every"]
    assert errors["drop_fraction"] == ""
    assert control.rule.every == 20


def test_a_rule_without_such_settings_gets_no_sliders():
    assert LivePanel(Run([]), control=Control(Static())).dials is None


def test_masks_are_drawn_only_when_they_changed():
    topology = random_topology({"fc": (6, 7)}, 0.5)
    panel = LivePanel(Run([Snapshot(0, {}, topology), Snapshot(1, {}, topology)]))
    topologies, show = [], panel.masks.show
    panel.masks.show = lambda one, before: topologies.append(one) or show(one, before)
    panel.run.wait(SECONDS)
    assert topologies == [topology]


def test_a_failed_view_is_shown_in_the_panel():
    run = Run(counting(3))
    panel = LivePanel(run, metrics=["loss"])
    panel.charts[("loss",)].show = lambda lines, **more: 1 / 0
    with pytest.warns(UserWarning, match="view"):
        run.wait(SECONDS)
    assert "the run continues (ZeroDivisionError: " in panel.buttons.fields[4]["error"]


def test_an_error_of_the_training_is_shown_in_the_panel():
    def failing():
        yield Snapshot(0)
        raise ValueError("no such layer")

    run = Run(failing())
    panel = LivePanel(run)
    with pytest.raises(ValueError, match="no such layer"):
        run.wait(SECONDS)
    assert panel.buttons.fields[4]["error"] == "ValueError: no such layer"
    assert "failed after 1 steps" in panel.sentence()


def test_a_panel_is_widget_image_and_sentence_before_and_after():
    run = Run([Snapshot(0, {"loss": 1.0}, random_topology({"fc": (6, 7)}, 0.5))], total=1)
    panel = LivePanel(run, metrics=["loss"])
    assert panel._repr_mimebundle_()["text/plain"] == "The run is ready after 0 of 1 steps."
    run.wait(SECONDS)
    assert panel._repr_mimebundle_()["text/plain"].startswith(
        "The run is done after 1 of 1 steps. loss is 1 at step 0 (1 points). 1 "
    )
    assert panel.snapshot()[:4] == b"\x89PNG"


# --- curves ---------------------------------------------------------------------------------------


def test_a_line_needs_a_value_per_step():
    with pytest.raises(ValueError, match="got 2 and 1 for 'loss'"):
        Curve().show({"loss": ([0, 1], [1.0])})


def test_a_long_line_is_downsampled_and_keeps_its_spikes_and_ends():
    steps, values = np.arange(50_000), np.zeros(50_000)
    values[31_234], values[41_234] = 9.0, -7.0
    points = downsample(steps, values)
    assert points.shape[1] <= 1000
    assert (points[0, 0], points[0, -1]) == (0, 49_999)
    assert (points[1].max(), points[1].min()) == (9.0, -7.0)
    assert (np.diff(points[0]) > 0).all()


def test_a_short_line_is_sent_whole():
    assert downsample([0, 1, 2], [5.0, math.nan, 4.0]).shape == (2, 3)


def test_lines_with_their_own_steps_are_sent_one_after_the_other():
    chart = Curve("share")
    chart.show({"train": ([0, 1, 2], [0.1, 0.2, 0.3]), "test": ([2], [0.25])})
    assert [(one["name"], one["count"]) for one in chart.series] == [("train", 3), ("test", 1)]
    points = np.frombuffer(chart.points, np.float32)
    assert points == pytest.approx([0, 1, 2, 0.1, 0.2, 0.3, 2, 0.25])
    assert chart.sentence() == "train is 0.3 at step 2 (3 points). test is 0.25 at step 2 (1 points)."


def test_sliders_move_the_ghosts_of_a_running_training():
    model = begin(tiny(), [GhostNeurons(stop=40), GhostSkips(stop=40)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    neurons, skips = Control(GhostNeurons(stop=40)), Control(GhostSkips(stop=40))
    steps = live_training(model, optimizer, batches_of(50), cross_entropy, Static(), steps=50, tricks=[neurons, skips])
    panel = LivePanel(Run(steps, total=50), control=[neurons, skips])
    assert panel.dials.values == {"beta": 1.0, "strength": 1.0}
    next(steps)
    panel.dials.set(beta=7.0)
    panel.dials.set(strength=0.25)
    next(steps)
    soft = [soft for soft in (vars(module).get("_ghost") for module in model.modules()) if isinstance(soft, Soft)]
    assert {unit.beta for unit in soft} == {7.0}
    assert {module.strength for module in model.modules() if isinstance(module, Skip)} == {0.25}
    panel.run.wait(timeout=30)
    assert not ghosts_of(model)


# --- cells that are run again ---------------------------------------------------------------------


class Notebook:
    """Runs cells as a kernel does, with IPython's own events."""

    def __init__(self, monkeypatch, *, sends_ids: bool):
        self.events = EventManager(self, available_events)
        self.sends_ids, self.request = sends_ids, {}
        monkeypatch.setattr(cells, "_shell", lambda: self)
        monkeypatch.setattr(cells, "_actions", {})

    def get_parent(self):
        return self.request

    def run(self, cell):
        code, identity = cell.__name__, f"id of {cell.__name__}" if self.sends_ids else None
        self.request = {"content": {"code": code}, "metadata": {"cellId": identity} if self.sends_ids else {}}
        self.events.trigger("pre_run_cell", ExecutionInfo(code, True, False, True, identity))
        try:
            return cell()
        finally:
            self.events.trigger("post_run_cell", ExecutionResult(None))


@pytest.fixture(params=[True, False])
def notebook(request, monkeypatch):
    return Notebook(monkeypatch, sends_ids=request.param)


@pytest.fixture
def open_widgets():
    with new_widgets_closed() as new_widgets:
        yield new_widgets


def test_a_panel_whose_cell_is_run_again_stops_its_run_and_takes_its_widgets_away(notebook, open_widgets):
    def cell():
        panel = LivePanel(Run(counting()), metrics=["loss"], control=Control(RigL(stop=100)))
        panel.run.start()
        return panel

    first = notebook.run(cell)
    until(lambda: first.run.count > 2)
    count = len(open_widgets())
    second = notebook.run(cell)
    count_at_stop = first.run.count
    assert first.run.state == "stopped"
    assert len(open_widgets()) == count
    until(lambda: second.run.count > 2)
    assert (first.run.count, second.run.state) == (count_at_stop, "running")
    second.close()
    assert (second.run.state, open_widgets()) == ("stopped", set())


def test_a_run_whose_cell_is_run_again_is_over_before_the_cell_begins(notebook):
    running = []

    def cell():
        assert all(run.state == "stopped" for run in running)
        running.append(Run(counting(pause=0.05)).start())

    def other_cell():
        pass

    notebook.run(cell)
    notebook.run(other_cell)
    assert running[0].state == "running"
    notebook.run(cell)
    assert [run.state for run in running] == ["stopped", "running"]
    running[1].stop()


@pytest.mark.parametrize("is_shown_again", [True, False])
def test_a_run_of_another_cell_continues_if_the_cell_shows_it_again(notebook, open_widgets, is_shown_again):
    runs = []

    def training():
        runs.append(Run(counting()).start())

    def panel():
        return LivePanel(runs[0], metrics=["loss"]) if len(runs) == 1 or is_shown_again else None

    notebook.run(training)
    first = notebook.run(panel)
    runs.append("once")
    again = notebook.run(panel)
    assert first.is_closed
    assert runs[0].state == ("running" if is_shown_again else "stopped")
    if again is not None:
        again.close()
    assert (runs[0].state, open_widgets()) == ("stopped", set())


def test_a_run_that_two_panels_watch_ends_with_the_last_of_them(open_widgets):
    run = Run(counting()).start()
    one, other = LivePanel(run, metrics=["loss"]), LivePanel(run, metrics=["loss"])
    one.close()
    one.close()
    assert run.state == "running"
    other.close()
    assert (run.state, open_widgets()) == ("stopped", set())


@pytest.mark.parametrize("way", ["view", "all"])
def test_closing_the_widgets_closes_the_panel(open_widgets, way):
    panel = LivePanel(Run(counting()).start(), metrics=["loss"])
    until(lambda: panel.run.count > 1)
    panel.view.close() if way == "view" else ipywidgets.Widget.close_all()
    assert (panel.run.state, open_widgets()) == ("stopped", set())
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"}
    assert bundle["text/plain"].startswith("The run is stopped")


def test_a_paused_run_can_be_closed_and_a_listener_may_close_its_panel(open_widgets):
    paused = LivePanel(Run(counting()).start(), metrics=["loss"])
    paused.run.pause()
    paused.close()
    assert paused.run.state == "stopped"
    panel = LivePanel(Run(counting()), metrics=["loss"])
    panel.run.listen(lambda run: panel.close() if run.count > 3 else None).start()
    until(lambda: panel.run.state == "stopped")
    assert open_widgets() == set()


def test_dropout_of_a_live_training_depends_on_its_seed_alone():
    def losses(seed):
        plain = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.fill_(0.1).add_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        model = sparsify(plain, random_topology(shapes_of(plain), 0.9), init="dense")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run = Run(live_training(model, optimizer, batches_of(5), cross_entropy, Static(), steps=5, seed=seed)).start()
        while run.state == "running":
            torch.rand(3)  # of another thread
        return run.lines()["loss"][1]

    first = losses(1)
    assert losses(1) == first
    assert losses(2) != first
