"""Watch a run and steer it with buttons, a bar, curves, masks, and sliders that act on the running training."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets

from sparsekit.widgets import cells, rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.call_source import call_with_state
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.curve import Curve, position_on
from sparsekit.widgets.dials import apply_state, controls_of, dials_for
from sparsekit.widgets.live import ENDED, Run
from sparsekit.widgets.mask_tiles import MaskTiles
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import CopyCode
from sparsekit.widgets.steering import Control

Metrics = Sequence[str | tuple[str, ...]] | Mapping[str, str | tuple[str, ...]]
MAIN_BUTTON = {"ready": "Start", "running": "Pause", "paused": "Resume"}
TEST_NAMES = ("test accuracy", "accuracy", "loss")  # what the title says, the first of these that there is


class LivePanel(StaticPreview):
    """A panel shows a `Run`, with Start, Pause, Resume and Stop, a progress bar, a chart per metric and the masks.

    The title says where the training is, with its number. A tick on a chart's axis is a rewiring, and a flag says that
    a slider moved there. If the run was given a function that makes its steps, its end offers *Again*, and the charts
    keep the lines of before as pale dots.

    Args:
        run: what to watch. Several panels may watch one run.
        metrics: a chart each, where names in a tuple share one. A mapping `{title: names}` gives each chart a title.
        control: holds the rule of the training, or a trick. It gives sliders for its drop fraction and interval, or for
            the strength of ghosts. There may be several.
        masks: whether to show the topology.
        x_label: what the steps are, which need not be those of a training.
        width: of a chart, in CSS pixels.
        methods: whether the lines are methods, which have colours of their own.
        state: a text that *Copy as code* wrote, with the values of the sliders.

    Raises:
        ValueError: if the state names another slider, or the rule refuses its value.

    Example:
        >>> from sparsekit.widgets.live import Snapshot
        >>> run = Run((Snapshot(step, {"loss": 1 / (step + 1)}) for step in range(5)), total=5)
        >>> panel = LivePanel(run, metrics=["loss"])
        >>> _ = run.wait(timeout=10)
        >>> panel
        The run is done after 5 of 5 steps. loss is 0.2 at step 4 (5 points).
    """

    def __init__(
        self,
        run: Run,
        *,
        metrics: Metrics = ("loss", ("accuracy", "test accuracy")),
        control: Control | Sequence[Control] | None = None,
        masks: bool = True,
        x_label: str = "step",
        width: int = 430,
        methods: bool = False,
        state: str = "",
    ):
        self.run, self.control, self._x_label = run, control, x_label
        ends = (0, max(1, run.total - 1)) if run.total and x_label == "step" else ()
        settings = {"x_label": x_label, "width": width, "methods": methods, "x_ends": ends}
        self.charts = {
            names: Curve(title, y_ends=_y_ends(names), **settings) for title, names in _titled(metrics).items()
        }
        self.masks, self._drawn_topology = MaskTiles() if masks else None, None
        self._lock, self.is_closed = threading.Lock(), False
        self._flags: list[dict[str, Any]] = []
        self.buttons = Controls(_button_fields(run), {"progress": 0, "state": "", "count": ""}, title="Training")
        self.headline = Controls([Field(name="title", kind="text", format="title")], {"title": ""}, title="Training")
        self._controls = controls_of(control)
        apply_state(state, self._controls)
        self.dials = dials_for(self._controls)
        values = {} if self.dials is None else self.dials.values
        self.copying = CopyCode(call_with_state(LivePanel), values)
        self.view = self._stage()
        self._watch(run)

    def _watch(self, run: Run) -> None:
        """Follow the run, the buttons and the sliders, and the end of the widgets."""
        self.buttons.on_press(self._press)
        if self.dials is not None:
            self.dials.observe(self._on_dials, "values")
        run.listen(self._draw).listen(self._update_buttons)  # in this order, so that an error of drawing is shown
        run.panels += 1
        self.view.observe(lambda change: self.close() if change.new is None else None, "comm")
        cells.when_run_again(self._replace)
        self._draw(run)
        self._update_buttons(run)

    def close(self) -> None:
        """Stop the run, unless another panel watches it, and take the widgets away. A static image of them stays.

        In a notebook this happens by itself when you run the cell again that made the panel. A run of another cell
        continues then if the cell makes a new panel for it.
        """
        if self._unwatch() and not self.run.panels:
            self.run.end()

    def sentence(self) -> str:
        """Say how far the run is and where its metrics stand."""
        curves = " ".join(chart.alt for chart in self.charts.values() if chart.points)
        masks = self.masks.alt if self.masks is not None and self.masks.layers else ""
        return " ".join(part for part in (f"{self._status()}.", curves, masks) if part)

    def as_code(self) -> str:
        """Return the cell that rebuilds the panel with its sliders as they are."""
        return self.copying.sentence()

    def snapshot(self) -> StaticImage:
        """Draw curves and masks as they are now."""
        charts = [rendering.figure_rgba(chart.figure()) for chart in self.charts.values()]
        rows = [rendering.text([self._title(), self._status()], bold=1)]
        rows += [rendering.beside(charts[start : start + 2]) for start in range(0, len(charts), 2)]
        if self.masks is not None and self.masks.layers:
            rows.append(rendering.tiles(self.masks.packed_masks, self.masks.captions))
        return StaticImage(rendering.png(rendering.stack(rows)), self.sentence())

    def _parts(self) -> list[Any]:
        row = ipywidgets.Box(list(self.charts.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        return [self.headline, self.buttons, self.dials, row, self.masks, self.copying]

    def _stage(self) -> ipywidgets.VBox:
        view = ipywidgets.VBox([part for part in self._parts() if part is not None])
        for name in ("sk", "sk-stage", "sk-panel"):  # the paper, the type and the colours of `style.css`
            view.add_class(name)
        return view

    def _title(self) -> str:
        """Say what the training has come to, with its number."""
        lines, run = self.run.lines(), self.run
        drawn = [name for names in self.charts for name in names if lines.get(name)]
        shown = next((name for name in TEST_NAMES if name in drawn), drawn[0] if drawn else "")
        if not shown:
            count = run.topology.count if self.masks is not None and run.topology is not None else 0
            return f"{count:,} connections wait for Start" if count else "Press Start"
        steps, values = lines[shown]
        number = f"{values[-1]:.1%}" if shown in TEST_NAMES[:2] else f"{values[-1]:.3g}"
        verb = {"running": "at", "paused": "paused at"}.get(run.state, f"{run.state} at")
        labels = {name: chart.y_label for names, chart in self.charts.items() for name in names}
        quantity = "" if shown in labels[shown] or labels[shown] in shown else f" {labels[shown]}"
        return f"{shown} {number}{quantity}, {verb} {position_on(self._x_label, steps[-1])}"

    def _status(self) -> str:
        verb = "has" if self.run.state == "failed" else "is"
        return f"The run {verb} {self.run.state} after {self._count()}"

    def _count(self) -> str:
        of = f" of {self.run.total:,}" if self.run.total else ""
        return f"{self.run.count:,}{of} steps"

    def _draw(self, run: Run) -> None:
        lines = run.lines()
        for names, chart in self.charts.items():
            past = [{name: one[name] for name in names if name in one} for one in run.past[-1:]]
            current = {name: lines[name] for name in names if name in lines}
            chart.show(current, past=past, marks=run.rewirings, flags=self._flags)
        if self.masks is not None and run.topology is not None and run.topology is not self._drawn_topology:
            self.masks.show(run.topology, run.before)
            self._drawn_topology = run.topology

    def _update_buttons(self, run: Run) -> None:
        # Buttons come from another thread than the training, so whoever writes last must have read last.
        with self._lock, self.buttons.hold_sync():
            ended = run.state in ENDED
            last = "Again" if run.can_repeat else "Ended"
            self.buttons.change("main", label=MAIN_BUTTON.get(run.state, last), disabled=ended and not run.can_repeat)
            self.buttons.change("stop", disabled=ended or run.state == "ready")
            self.buttons.change("state", error=_problem(run))
            self.buttons.set(progress=run.count, state=run.state, count=self._count())
            self.headline.set(title=self._title())

    def _press(self, name: str) -> None:
        if name == "stop":
            self.run.stop()
        elif self.run.state in ENDED and self.run.can_repeat:
            self._flags.clear()
            self.run.again()
        else:
            actions = {"ready": self.run.start, "running": self.run.pause, "paused": self.run.resume}
            actions.get(self.run.state, lambda: None)()
        self._update_buttons(self.run)

    def _on_dials(self, change: Any) -> None:
        """Hand a slider's new value to the training. If the rule refuses it, the error stands beside the slider."""
        for name, value in change.new.items():
            if self.dials is None or value == change.old.get(name):
                continue
            try:
                self._controls[name].change(**{name: int(value) if name == "every" else value})
                self.dials.change(name, error="", help="")
                self._plant_flag(name, value)
            except (TypeError, ValueError) as problem:
                self.dials.change(name, error=str(problem))

    def _plant_flag(self, name: str, value: float) -> None:
        """Mark where a slider moved. A drag leaves one flag, where it ended."""
        if self.dials is not None:
            self.copying.values = self.dials.values
        if self.run.latest is not None:
            x, text = self.run.latest.step, f"{name.replace('_', ' ')} {value:g}"
            near = 0.02 * (self.run.total or 1)
            old = [flag for flag in self._flags if flag["name"] != name or x - flag["x"] > near]
            self._flags[:] = [*old, {"x": x, "text": text, "name": name}]

    def _widget(self) -> ipywidgets.VBox:
        return self.view

    def _widget_bundle(self, **kwargs) -> dict:
        return {} if self.is_closed else super()._widget_bundle(**kwargs)

    def _unwatch(self) -> bool:
        """Stop watching the run and close the widgets, and return whether the panel was open."""
        with self._lock:
            was_open, self.is_closed = not self.is_closed, True
        if was_open:
            self.run.unlisten(self._draw)
            self.run.unlisten(self._update_buttons)
            self.run.panels -= 1
            super().close()
        return was_open

    def _replace(self) -> None:
        if self._unwatch():
            cells.after_this_cell(lambda: None if self.run.panels else self.run.end())


def _titled(metrics: Metrics) -> dict[str, tuple[str, ...]]:
    if isinstance(metrics, Mapping):
        return {title: _names(metric) for title, metric in metrics.items()}
    return {" and ".join(_names(metric)): _names(metric) for metric in metrics}


def _y_ends(names: Sequence[str]) -> tuple[float, ...]:
    """Return 0 and 1 for accuracies, and nothing for what has no such ends."""
    return (0, 1) if all("accuracy" in name for name in names) else ()


def _names(metric: str | tuple[str, ...]) -> tuple[str, ...]:
    return (metric,) if isinstance(metric, str) else tuple(metric)


def _button_fields(run: Run) -> list[Field]:
    return [
        Field(name="main", kind="button", label="Start", main=True),
        Field(name="stop", kind="button", label="Stop", disabled=True),
        Field(name="progress", kind="progress", label="Steps", high=run.total or 1, hidden=run.total is None),
        # The count is not spoken, because ten times a second would help nobody.
        Field(name="count", kind="text", label="Done", format="quiet"),
        Field(name="state", kind="text", label="State"),
    ]


def _problem(run: Run) -> str:
    if run.error is not None:
        return f"{type(run.error).__name__}: {run.error}"
    if run.view_error is not None:
        return f"A view failed, but the run continues ({type(run.view_error).__name__}: {run.view_error})"
    return ""
