"""Watch a run and steer it with buttons, a bar, curves, masks, and sliders that act on the running training."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets

from sparsekit.schedules import Schedule
from sparsekit.widgets import cells, rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.curve import Curve
from sparsekit.widgets.form_state import code_of
from sparsekit.widgets.live import ENDED, Control, Run
from sparsekit.widgets.mask_tiles import MaskTiles
from sparsekit.widgets.rendering import StaticImage

Metrics = Sequence[str | tuple[str, ...]] | Mapping[str, str | tuple[str, ...]]
MAIN_BUTTON = {"ready": "Start", "running": "Pause", "paused": "Resume"}


class LivePanel(StaticPreview):
    """A panel shows a `Run`, with Start, Pause, Resume and Stop, a progress bar, a chart per metric and the masks.

    Args:
        run: what to watch. Several panels may watch one run.
        metrics: a chart each, where names in a tuple share one. A mapping `{title: names}` gives each chart a title.
        control: holds the rule of the training, or a trick. It gives sliders for its drop fraction and interval, or for
            the strength of ghosts. There may be several.
        masks: whether to show the topology.
        x_label: what the steps are, which need not be those of a training.
        width: of a chart, in CSS pixels.
        methods: whether the lines are methods, which have colours of their own.

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
        metrics: Metrics = ("loss", "accuracy"),
        control: Control | Sequence[Control] | None = None,
        masks: bool = True,
        x_label: str = "step",
        width: int = 430,
        methods: bool = False,
    ):
        self.run, self.control = run, control
        titled = _titled(metrics).items()
        self.charts = {names: Curve(title, x_label=x_label, width=width, methods=methods) for title, names in titled}
        self.masks = MaskTiles() if masks else None
        self._drawn_topology: Any = None
        self._lock, self.is_closed = threading.Lock(), False
        self.buttons = Controls(_button_fields(run), {"progress": 0, "state": "", "count": ""}, title="Training")
        self._controls = _controls_of(control)
        self.dials = _dials(self._controls)
        self.view = ipywidgets.VBox([part for part in self._parts() if part is not None])
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

    def snapshot(self) -> StaticImage:
        """Draw curves and masks as they are now."""
        charts = [rendering.figure_rgba(chart.figure()) for chart in self.charts.values()]
        rows = [rendering.text([self._status()], bold=1)]
        rows += [rendering.beside(charts[start : start + 2]) for start in range(0, len(charts), 2)]
        if self.masks is not None and self.masks.layers:
            rows.append(rendering.tiles(self.masks.packed_masks, self.masks.captions))
        return StaticImage(rendering.png(rendering.stack(rows)), self.sentence())

    def _parts(self) -> list[Any]:
        row = ipywidgets.Box(list(self.charts.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        return [self.buttons, self.dials, row, self.masks]

    def _status(self) -> str:
        verb = "has" if self.run.state == "failed" else "is"
        return f"The run {verb} {self.run.state} after {self._count()}"

    def _count(self) -> str:
        of = f" of {self.run.total:,}" if self.run.total else ""
        return f"{self.run.count:,}{of} steps"

    def _draw(self, run: Run) -> None:
        lines = run.lines()
        for names, chart in self.charts.items():
            chart.show({name: lines[name] for name in names if name in lines})
        if self.masks is not None and run.topology is not None and run.topology is not self._drawn_topology:
            self.masks.show(run.topology)
            self._drawn_topology = run.topology

    def _update_buttons(self, run: Run) -> None:
        # Buttons come from another thread than the training, so whoever writes last must have read last.
        with self._lock, self.buttons.hold_sync():
            ended = run.state in ENDED
            self.buttons.change("main", label=MAIN_BUTTON.get(run.state, "Ended"), disabled=ended)
            self.buttons.change("stop", disabled=ended or run.state == "ready")
            self.buttons.change("state", error=_problem(run))
            self.buttons.set(progress=run.count, state=run.state, count=self._count())

    def _press(self, name: str) -> None:
        if name == "stop":
            self.run.stop()
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
            except (TypeError, ValueError) as problem:
                self.dials.change(name, error=str(problem))

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


# The slider of each setting. The end of the interval's depends on the rule.
_SLIDERS = [
    Field(name="drop_fraction", kind="range", label="Drop fraction", low=0, high=0.9, step=0.01, format="share"),
    Field(name="every", kind="range", label="Interval", low=1, high=100, step=1, format="steps"),
    Field(name="beta", kind="range", label="Beta of ghost neurons", low=0, high=20, step=0.1),
    Field(name="strength", kind="range", label="Strength of ghost skips", low=0, high=1, step=0.01),
    Field(name="amount", kind="range", label="Label smoothing", low=0, high=0.5, step=0.01),
]
DIALS = {field.name: field for field in _SLIDERS}


def _controls_of(control: Control | Sequence[Control] | None) -> dict[str, Control]:
    """Return the control of each setting that gets a slider."""
    controls = [control] if isinstance(control, Control) else control or []
    return {name: holder for holder in controls for name in DIALS if hasattr(holder.rule, name)}


def _dials(controls: Mapping[str, Control]) -> Controls | None:
    """Make a slider for each setting."""
    values = {name: _value_at(control.rule, name, step=0) for name, control in controls.items()}
    fields = [_dial(name, control.rule) for name, control in controls.items()]
    title = "Rewiring, while it runs" if {"drop_fraction", "every"} >= set(values) else "Settings, while it runs"
    return Controls(fields, values, title=title, flow="column") if fields else None


def _dial(name: str, rule: Any) -> Field:
    is_constant = _value_at(rule, name, step=0) == _value_at(rule, name, step=10**9)
    follows = "" if is_constant else f"It follows {code_of(getattr(rule, name))} until you move it"
    high = max(100, 4 * rule.every) if name == "every" else DIALS[name].high
    return replace(DIALS[name], help=follows, high=high)


def _value_at(rule: Any, name: str, *, step: int) -> Any:
    setting = getattr(rule, name)
    num_steps = getattr(rule, "stop", None) or 1
    return round(setting.lasting(num_steps)(step), 4) if isinstance(setting, Schedule) else setting


def _problem(run: Run) -> str:
    if run.error is not None:
        return f"{type(run.error).__name__}: {run.error}"
    if run.view_error is not None:
        return f"A view failed, but the run continues ({type(run.view_error).__name__}: {run.view_error})"
    return ""
