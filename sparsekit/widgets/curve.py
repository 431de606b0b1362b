"""A live line chart shows loss, accuracy and whatever else a run reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sparsekit.plots.canvas import plain
from sparsekit.plots.colours import DASH_DOT, DASHED, DOTTED, SOLID, Style, styles_of
from sparsekit.plots.palette import LIGHT
from sparsekit.widgets import colours
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.stills import smoothed

MAX_POINTS = 1_000  # the chart has fewer pixels, so more points would be sent but not seen
Numbers = Sequence[float] | np.ndarray
Line = tuple[Numbers, Numbers]
ENOUGH_TO_SMOOTH = 30  # points, as in `curve.js`
LOOKS = [{"colour": "soft" if number else "ink", "dash": list(dash)} for number, dash in enumerate(colours.DASHES)]
DASHES_OF = {SOLID: (), DASHED: (6, 3), DOTTED: (2, 2), DASH_DOT: (8, 3, 2, 3)}  # in CSS pixels, as in matplotlib


class Curve(FrontEndWidget):
    """Lines over steps differ by colour and dashes, and each has its own steps.

    Args:
        y_label: name of the vertical axis.
        x_label: name of the horizontal axis.
        width, height: size in CSS pixels.
        x_ends: first and last step, or nothing to let the axis follow the lines.
        y_ends: lowest and highest value, or nothing to let the axis grow.
        methods: whether the lines are methods, which have the same colours in all figures.

    Example:
        >>> chart = Curve("loss")
        >>> chart.show({"loss": ([0, 1], [2.3, 1.8])})
        >>> chart
        loss is 1.8 at step 1 (2 points).
    """

    _esm = load_script("shared", "curve")
    points = t.Bytes(b"").tag(sync=True)
    series = t.List(t.Dict()).tag(sync=True)
    looks = t.List(t.Dict()).tag(sync=True)
    x_label = t.Unicode("step").tag(sync=True)
    y_label = t.Unicode("").tag(sync=True)
    marks = t.List(t.Float()).tag(sync=True)
    flags = t.List(t.Dict()).tag(sync=True)
    x_ends = t.List(t.Float()).tag(sync=True)
    y_ends = t.List(t.Float()).tag(sync=True)
    width = t.Int(430).tag(sync=True)
    height = t.Int(230).tag(sync=True)
    alt = t.Unicode("There are no points yet.").tag(sync=True)

    def __init__(
        self,
        y_label: str = "",
        *,
        x_label: str = "step",
        width: int = 430,
        height: int = 230,
        methods: bool = False,
        x_ends: Sequence[float] = (),
        y_ends: Sequence[float] = (),
    ):
        super().__init__(y_label=y_label, x_label=x_label, width=width, height=height, looks=LOOKS)
        self.x_ends, self.y_ends = list(x_ends), list(y_ends)
        self._lines: dict[str, Line] = {}
        self._methods = methods
        self._styles: dict[str, Style] = {}

    def show(
        self,
        lines: Mapping[str, Line],
        *,
        past: Sequence[Mapping[str, Line]] = (),
        marks: Sequence[float] = (),
        flags: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Replace the lines by these, each as `(steps, values)` of the same length.

        Args:
            lines: by name.
            past: lines of earlier trainings, drawn faintly.
            marks: steps that get a tick on the axis.
            flags: steps `x` that get a line with a `text`.

        Raises:
            ValueError: if a line has more steps than values, or more values than steps.
        """
        for name, (steps, values) in lines.items():
            if len(steps) != len(values):
                raise ValueError(f"a line must have a value per step, got {len(steps)} and {len(values)} for {name!r}")
        self._lines = dict(lines)
        points = [(name, downsample(*line), False) for name, line in lines.items()]
        points += [(name, downsample(*line), True) for earlier in past for name, line in earlier.items()]
        with self.hold_sync():
            if self._methods and lines:
                self._styles = styles_of(lines, self._styles)
                self.looks = [_look_of(self._styles[name]) for name in lines]
            self.series = [{"name": name, "count": part.shape[1], "past": is_past} for name, part, is_past in points]
            self.points = b"".join(part.tobytes() for _, part, _ in points)
            self.marks, self.flags = [float(mark) for mark in marks], [dict(flag) for flag in flags]
            sentences = [_last_value(name, *line, self.x_label) for name, line in lines.items()]
            self.alt = " ".join(sentences) or "There are no points yet."

    def sentence(self) -> str:
        """Say where each line ends."""
        return self.alt

    def snapshot(self) -> StaticImage:
        """Draw the same chart without a browser."""
        return StaticImage.of_figure(self.figure(), self.alt)

    def figure(self) -> Figure:
        """Return the chart as a figure that belongs to the caller."""
        figure = Figure(figsize=(self.width / 100, self.height / 100), dpi=100, layout="constrained")
        axes = figure.add_subplot(xlabel=plain(self.x_label))
        axes.set_title(plain(self.y_label), loc="left", fontsize=10, fontweight="bold")
        for (name, line), look in zip(self._lines.items(), self.looks * 9, strict=False):
            style = (0, tuple(look["dash"])) if look["dash"] else "solid"
            colour = LIGHT.get(look["colour"], look["colour"])
            is_noisy = len(line[0]) > ENOUGH_TO_SMOOTH
            if is_noisy:
                axes.plot(*line, color=colour, linewidth=0.8, alpha=0.25)
            values = smoothed(line[1]) if is_noisy else line[1]
            axes.plot(line[0], values, color=colour, linestyle=style, label=plain(name), linewidth=2)
        axes.set(**{name: tuple(ends) for name, ends in (("xlim", self.x_ends), ("ylim", self.y_ends)) if ends})
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        if self.y_ends == [0, 1]:
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        for flag in self.flags:
            axes.axvline(flag["x"], color=LIGHT["soft"], linewidth=1, linestyle=":")
        if self._lines:
            if len(self._lines) > 4:  # a long legend would hide the lines
                axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
            else:
                axes.legend(frameon=False)
        return figure


def downsample(steps: Numbers, values: Numbers) -> Float[np.ndarray, "2 points"]:
    """Return at most about `MAX_POINTS` points of a line as two rows of 32-bit floats, with its spikes and ends.

    We cut a long line into stretches and keep the lowest and the highest point of each.
    """
    line = np.array([steps, values], dtype=np.float32).reshape(2, -1)
    count = line.shape[1]
    if count <= MAX_POINTS:
        return line
    columns = {0, count - 1}
    for stretch in np.array_split(np.arange(count), MAX_POINTS // 2 - 1):
        numbers = np.nan_to_num(line[1, stretch])
        columns |= {int(stretch[numbers.argmin()]), int(stretch[numbers.argmax()])}
    return np.ascontiguousarray(line[:, sorted(columns)])


def _look_of(style: Style) -> dict:
    return {"colour": style.colour, "dash": list(DASHES_OF[style.dashes])}


def _last_value(name: str, steps: Numbers, values: Numbers, x_label: str) -> str:
    if not len(steps):
        return f"{name} has no points yet."
    return f"{name} is {values[-1]:.3g} at {position_on(x_label, steps[-1])} ({len(steps):,} points)."


def position_on(x_label: str, x: float) -> str:
    """Say where on a horizontal axis something is, with the unit that its name ends in.

    Example:
        >>> position_on("sparsity, %", 90), position_on("step", 4)
        ('sparsity 90 %', 'step 4')
    """
    name, _, unit = x_label.partition(", ")
    return f"{name} {x:,g} {unit}".rstrip()
