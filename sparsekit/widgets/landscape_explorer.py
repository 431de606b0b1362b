"""Look at the loss between networks as a map or as a landscape that turns, and cut through it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t

from sparsekit.analysis import Surface, clipped_range, highest_ridge
from sparsekit.plots.canvas import in_percent
from sparsekit.plots.landscape import AWAY, Track
from sparsekit.widgets.base import load_script
from sparsekit.widgets.landscape_still import draw_surface
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state

VIEWS = ("contours", "landscape")
MEASURES = ("loss", "accuracy")
SEEN = 0.005  # rise of the loss, or fall of the accuracy, below which we speak of no ridge


class LandscapeExplorer(SharedWidget):
    """A surface shows networks and paths, as a map or as a landscape, and beside it stands the cut along a row.

    All surfaces have one scale of loss. It ends a little above the highest ridge between two networks, because the
    border of a plane is often many times higher, and a scale up to there shows nothing else. Everything lies in the
    browser, so no kernel is needed for turning and cutting.

    Args:
        surfaces: a measured surface, or several by name.
        tracks: paths on the plane by name, a row of x and y for each point, for example of a training. For several
            surfaces this is such a mapping for each, by the surface's name.
        view: `"contours"` or `"landscape"`.
        of: `"loss"` or `"accuracy"`.
        state: a text that *Copy as code* wrote. It overrides view and measure.

    Raises:
        ValueError: if there is no surface, no such view or measure, or tracks of a surface that is not there.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = Surface(axis, axis, axis**2 + axis[:, None] ** 2, 1 - axis**2 * axis[:, None] ** 2)
        >>> LandscapeExplorer(bowl)
        The loss on the plane goes from 0 to 2. The cut at 0.00 lies between 0 and 1
    """

    _esm = load_script("shared", "copy_code", "tickets", "landscape_explorer")
    shares = ("panel", "view", "of", "cut", "turn", "tilt")
    panels = t.List(t.Dict()).tag(sync=True)
    loss_range = t.List(t.Float()).tag(sync=True)
    panel = t.Int(0).tag(sync=True)
    view = t.Enum(VIEWS, "contours").tag(sync=True)
    of = t.Enum(MEASURES, "loss").tag(sync=True)
    cut = t.Float(0.0).tag(sync=True)
    turn = t.Float(-60.0).tag(sync=True)
    tilt = t.Float(32.0).tag(sync=True)

    def __init__(
        self,
        surfaces: Surface | Mapping[str, Surface],
        tracks: Mapping[str, Any] | None = None,
        *,
        view: str = "contours",
        of: str = "loss",
        state: str = "",
    ):
        self.surfaces = {"": surfaces} if isinstance(surfaces, Surface) else dict(surfaces)
        self.tracks: dict[str, dict[str, Track]] = {"": dict(tracks or {})}
        if not isinstance(surfaces, Surface):
            self.tracks = {name: dict(several) for name, several in (tracks or {}).items()}
        _check(view, of)
        if unknown := set(self.tracks) - set(self.surfaces):
            raise ValueError(
                f"tracks must be of the surfaces {', '.join(self.surfaces)}, got {', '.join(unknown)}. Use their names"
            )
        limits = clipped_range(list(self.surfaces.values()))
        panels = [_panel(name, one, self.tracks.get(name, {})) for name, one in self.surfaces.items()]
        first = next(iter(self.surfaces.values()))
        row = float(first.y[np.abs(first.y).argmin()])  # of the first two networks, where they are on the plane
        super().__init__(panels=panels, loss_range=list(limits), view=view, of=of, cut=row)
        self.choose(**read_state(state, self.shared))

    @property
    def surface(self) -> Surface:
        """The surface that is shown now."""
        return list(self.surfaces.values())[self.panel]

    def choose(self, **values: Any) -> None:
        """Move controls from code (`panel`, `view`, `of`, `turn`, `tilt`, and `cut`, a y). The others stay.

        Raises:
            ValueError: if there is no such view, measure or surface, or the cut lies beside the plane.
        """
        choice: dict[str, Any] = {**self.shared, **values}
        _check(choice["view"], choice["of"])
        if not 0 <= choice["panel"] < len(self.panels):
            last = len(self.panels) - 1
            raise ValueError(f"the panel must be one of 0 to {last}, got {choice['panel']}. Count from 0")
        y = list(self.surfaces.values())[choice["panel"]].y
        if not y[0] <= choice["cut"] <= y[-1]:
            raise ValueError(f"the cut must lie from {y[0]:.3g} to {y[-1]:.3g}, got {choice['cut']}. Give a y")
        with self.hold_sync():
            for name, value in choice.items():
                setattr(self, name, value)

    def sentence(self) -> str:
        """Say what the surface measures, where the cut is, and which networks do not lie on the plane."""
        surface = self.surface
        heights = surface.loss if self.of == "loss" else surface.accuracy
        row = int(np.abs(surface.y - self.cut).argmin())
        off = [f"{name} {in_percent(one.share)}" for name, one in surface.points.items() if one.share > AWAY]
        away = f". Some networks lie off the plane: {', '.join(off)} of the distance" if off else ""
        return (
            f"The {self.of} on the plane goes from {heights.min():.3g} to {heights.max():.3g}. The cut at "
            f"{surface.y[row]:.2f} lies between {heights[row].min():.3g} and {heights[row].max():.3g}{away}"
        )

    def snapshot(self) -> StaticImage:
        """Draw the maps of all surfaces with their one scale, and the cut through the one that is chosen."""
        figure = draw_surface(self.surfaces, self.tracks, self.of, self._range, self.panel, self.cut)
        titles = [one["titles"][self.of] for one in self.panels]
        figure.suptitle("\n".join(titles), fontsize=10, x=0.01, ha="left")
        return StaticImage.of_figure(figure, self.sentence())

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.loss_range if self.of == "loss" else _accuracy_range(list(self.surfaces.values()))
        return low, high


def _panel(name: str, surface: Surface, tracks: Mapping[str, Track]) -> dict:
    """Return a surface in plain numbers. What is too large for the browser's floats is infinite there."""
    with np.errstate(over="ignore"):
        heights = {key: getattr(surface, key).astype("<f4").tobytes() for key in MEASURES}
    return {
        "name": name,
        "x": surface.x.tolist(),
        "y": surface.y.tolist(),
        **heights,
        "points": [
            {"name": key, "x": place.x, "y": place.y, "share": place.share, "off": place.share > AWAY}
            for key, place in surface.points.items()
        ],
        "tracks": [{"name": key, "points": np.asarray(track).tolist()} for key, track in tracks.items()],
        "titles": {of: _title(name, surface, of) for of in MEASURES},
    }


def _title(name: str, surface: Surface, of: str) -> str:
    """State what stands between the networks, with its number."""
    ridge = highest_ridge(surface, of)
    start = f"{name[0].upper()}{name[1:]}: " if name else ""
    heights = surface.loss if of == "loss" else surface.accuracy
    if ridge is None:
        return f"{start}the {of} on the plane goes from {heights.min():.3g} to {heights.max():.3g}".lstrip()
    pair = f"between {ridge.first} and {ridge.second}"
    if ridge.rise < SEEN:
        words = f"no ridge stands between the networks of the plane, in {of}"
    elif of == "loss":
        words = f"{pair} the loss rises by {ridge.rise:.2f} nats above the line"
    else:
        words = f"{pair} the accuracy falls by {100 * ridge.rise:.1f} points below the line"
    return f"{start}{words}" if name else words[0].upper() + words[1:]


def _accuracy_range(surfaces: Sequence[Surface]) -> tuple[float, float]:
    low, high = min(one.accuracy.min() for one in surfaces), max(one.accuracy.max() for one in surfaces)
    return float(low), float(high) if high > low else float(low) + 1.0


def _check(view: str, of: str) -> None:
    for name, value, options in (("view", view, VIEWS), ("of", of, MEASURES)):
        if value not in options:
            raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}. Choose one of them")
