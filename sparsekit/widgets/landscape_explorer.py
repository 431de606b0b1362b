"""Show a surface between networks as contours or as a landscape, with a cut that follows a slider."""

import threading
from collections.abc import Mapping
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from sparsekit.analysis import Surface
from sparsekit.plots import plot_cut, plot_surface, plot_surface_3d
from sparsekit.plots.canvas import in_percent
from sparsekit.plots.landscape import AWAY, Track, heights_of
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.compositing import Compositor
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.rendering import StaticImage

VIEWS = (("contours", "contours"), ("landscape", "landscape (3-D)"))
MEASURES = (("loss", "loss"), ("accuracy", "accuracy"))


class LandscapeExplorer(StaticPreview):
    """A surface shows networks and paths, and beside it stands the cut along one of its rows.

    This is a view over `analysis.surface`, which `plots.plot_surface`, `plot_surface_3d` and `plot_cut` draw. Nothing
    is measured when a control moves, and the slider for the cut redraws only what moves.

    Args:
        surface: the measured surface.
        tracks: paths on the plane by name, a row of x and y for each point.
        view: `"contours"` or `"landscape"`.
        of: `"loss"` or `"accuracy"`.

    Raises:
        ValueError: if there is no such view or measure.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = Surface(axis, axis, axis**2 + axis[:, None] ** 2, 1 - axis**2 * axis[:, None] ** 2)
        >>> LandscapeExplorer(bowl)
        The loss on the plane goes from 0 to 2. The cut at 0.00 lies between 0 and 1
    """

    def __init__(
        self,
        surface: Surface,
        tracks: Mapping[str, Track] | None = None,
        *,
        view: str = "contours",
        of: str = "loss",
    ):
        self.surface, self._tracks = surface, dict(tracks or {})
        self._figures: dict[tuple[str, str], _Landscape] = {}
        self._lock = threading.Lock()  # because two controls may answer on two threads
        last = len(surface.y) - 1
        fields = [
            Field(name="view", kind="choice", label="View", options=VIEWS),
            Field(name="of", kind="choice", label="Measure", options=MEASURES),
            Field(name="cut", kind="range", label="Cut", low=0, high=last, step=1),
        ]
        values = {"view": view, "of": of, "cut": last // 2}
        _check(view, of)
        self.controls = Controls(fields, values, title="What to draw")
        png = self._render(**values)
        layout = ipywidgets.Layout(width=f"{self._figures[view, of].width}px", max_width="100%")
        self.image = ipywidgets.Image(value=png, format="png", layout=layout)
        self.words = Controls([Field(name="words", kind="text")], {"words": self.sentence()}, title="In words")
        self.controls.observe(self._refresh, "values")
        self.view = ipywidgets.VBox([self.controls, self.image, self.words])

    def choose(self, **values: Any) -> None:
        """Move controls from code (`view`, `of`, `cut`, which is a row of the surface). The others stay.

        Raises:
            ValueError: if there is no such view, measure or row.
        """
        choice = {**self.controls.values, **values}
        _check(choice["view"], choice["of"])
        if not 0 <= choice["cut"] < len(self.surface.y):
            raise ValueError(f"the cut must be a row from 0 to {len(self.surface.y) - 1}, got {choice['cut']}")
        self.controls.set(**values)

    def sentence(self) -> str:
        """Say what the surface measures, where the cut is, and which networks do not lie on the plane."""
        values = self.controls.values
        heights = self.surface.loss if values["of"] == "loss" else self.surface.accuracy
        row = int(values["cut"])
        off = [f"{name} {in_percent(one.share)}" for name, one in self.surface.points.items() if one.share > AWAY]
        away = f". Some networks lie off the plane: {', '.join(off)} of the distance" if off else ""
        return (
            f"The {values['of']} on the plane goes from {heights.min():.3g} to {heights.max():.3g}. The cut at "
            f"{self.surface.y[row]:.2f} lies between {heights[row].min():.3g} and {heights[row].max():.3g}{away}"
        )

    def snapshot(self) -> StaticImage:
        """Return the figure as it is now."""
        return StaticImage(bytes(self.image.value), self.sentence())

    def _refresh(self, _change: Any) -> None:
        with self._lock:
            self.image.value = self._render(**self.controls.values)
            self.words.set(words=self.sentence())

    def _render(self, *, view: str, of: str, cut: int) -> bytes:
        if (view, of) not in self._figures:
            self._figures[view, of] = _Landscape(self.surface, self._tracks, view, of)
        return self._figures[view, of].render(int(cut))

    def _widget(self) -> ipywidgets.VBox:
        return self.view


class _Landscape:
    """One view of a surface stands beside its cut."""

    def __init__(self, surface: Surface, tracks: Mapping[str, Track], view: str, of: str):
        self._surface, self._heights = surface, heights_of(surface, of)
        self._values = surface.loss if of == "loss" else surface.accuracy
        figure = Figure(figsize=(9.8, 4.2), dpi=100, layout="constrained")
        if view == "contours":
            left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
            plot_surface(surface, left, of=of, tracks=tracks, cut=float(surface.y[0]))
        else:
            left, right = figure.add_subplot(1, 2, 1, projection="3d"), figure.add_subplot(1, 2, 2)
            plot_surface_3d(surface, left, of=of, tracks=tracks, cut=float(surface.y[0]))
        plot_cut(surface, right, of=of).set_title("", loc="left")  # because the words say where it is
        self._is_flat, self._line, self._curve = view == "contours", left.lines[-1], right.lines[0]
        self._compositor = Compositor(figure, [self._line, self._curve])

    @property
    def width(self) -> int:
        return self._compositor.width

    def render(self, row: int) -> bytes:
        y = self._surface.y[row]
        if self._is_flat:
            self._line.set_ydata([y, y])
        else:
            line: Any = self._line
            line.set_data_3d(self._surface.x, np.full(len(self._surface.x), y), self._heights[row])
        self._curve.set_ydata(self._values[row])
        return self._compositor.render()


def _check(view: str, of: str) -> None:
    for name, value, options in (("view", view, VIEWS), ("of", of, MEASURES)):
        if value not in dict(options):
            raise ValueError(f"{name} must be one of {', '.join(dict(options))}, got {value!r}")
