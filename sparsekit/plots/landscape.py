"""These figures show the loss between networks and around them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from mpl_toolkits.mplot3d import Axes3D

from sparsekit.analysis.landscape.planes import PlanePoint, Surface
from sparsekit.plots.canvas import (
    HEAT,
    LABEL_SIZE,
    TICK_SIZE,
    NotebookAxes3D,
    NotebookFigure,
    axes_for,
    colour_bar,
    finish,
    in_percent,
    log_ticks,
    percent,
    plain,
)
from sparsekit.plots.colours import DASHED, INK, numbered
from sparsekit.plots.naming import legend, name_lines
from sparsekit.plots.palette import LIGHT
from sparsekit.plots.vector import PIXELS

Track = Float[np.ndarray, "n 2"]
LEVELS = 14  # contour lines, as more cannot be distinguished at this size
WIDE = 30.0  # times the least loss, from where a linear scale shows nothing but the heights
CASING = [withStroke(linewidth=4.0, foreground=LIGHT["surface"])]  # so that ink is seen on dark hills, too
AWAY = 0.01  # share of its distance beyond which a network does not lie on the plane


def plot_barriers(paths: Mapping[str, pd.DataFrame], ax: Axes | None = None, *, of: str = "loss") -> Axes:
    """Draw what networks along paths achieve. The thin line between the ends shows a path without a barrier.

    Args:
        paths: tables of `analysis.evaluate_path` by name.
        ax: where to draw, or None for a new figure.
        of: `"loss"`, `"accuracy"` or `"connections"`.

    Raises:
        ValueError: if there is no path, or no such column.
    """
    if not paths or any(of not in table for table in paths.values()):
        raise ValueError(f"there must be a path, each with a column {of!r}, got {', '.join(paths) or 'none'}")
    ax = axes_for(ax, width=6.8, height=3.8)
    for number, (name, table) in enumerate(paths.items()):
        style, ends = numbered(number), table.iloc[[0, -1]]
        ax.plot(
            table["position"],
            table[of],
            color=style.colour,
            linestyle=style.dashes,
            marker=style.marker,
            markersize=5,
            label=plain(name),
        )
        if of != "connections":
            ax.plot(ends["position"], ends[of], color=style.colour, linewidth=0.8, alpha=0.6)
    finish(ax, x="position on the path (0: first network, 1: second)", y=of, grid="both")
    if of == "accuracy":
        percent(ax.yaxis)
    name_lines(ax)
    return ax


def plot_surface(
    surface: Surface,
    ax: Axes | None = None,
    *,
    of: str = "loss",
    tracks: Mapping[str, Track] | None = None,
    cut: float | None = None,
) -> Axes:
    """Draw loss or accuracy on a plane as contours, with the networks on it. A hollow marker lies off the plane.

    Args:
        surface: from `analysis.surface`.
        ax: where to draw, or None for a new figure.
        of: `"loss"` or `"accuracy"`.
        tracks: paths on the plane by name, a row of x and y for each point.
        cut: a y at which to draw a line across.

    Raises:
        ValueError: if `of` is neither word.
    """
    values, scale = _values_of(surface, of), _scale_of(_values_of(surface, of), of)
    ax = axes_for(ax, width=6.6, height=4.6)
    levels, norm = scale.levels, scale.norm
    areas = ax.contourf(surface.x, surface.y, values, cmap=_colours(of), extend="both", levels=levels, norm=norm)
    ax.contour(surface.x, surface.y, values, colors=LIGHT["surface"], linewidths=0.5, levels=levels, norm=norm)
    as_percent = FuncFormatter(lambda share, _: in_percent(share))
    colour_bar(ax, areas, of, format=as_percent if of == "accuracy" else scale.format)
    for number, (name, track) in enumerate((tracks or {}).items()):
        dashes = numbered(number * 8).dashes
        ax.plot(*track.T, color=INK, linestyle=dashes, linewidth=1.8, path_effects=CASING, label=plain(name))
    for number, (name, place) in enumerate(surface.points.items()):
        _mark(ax, number, name, place)
    if cut is not None:
        ax.axhline(cut, color=INK, linestyle=DASHED, linewidth=1.6, path_effects=CASING)
    ax.set(xlim=surface.x[[0, -1]], ylim=surface.y[[0, -1]])
    finish(ax, x="first direction", y="second direction", grid="")
    legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax


def plot_surface_3d(
    surface: Surface,
    ax: Axes | None = None,
    *,
    of: str = "loss",
    tracks: Mapping[str, Track] | None = None,
    cut: float | None = None,
    turn: float = -60.0,
) -> Axes:
    """Draw loss or accuracy on a plane as a landscape. Heights are those of the contours' colours.

    Args:
        surface: from `analysis.surface`.
        ax: where to draw, three-dimensional, or None for a new figure.
        of: `"loss"` or `"accuracy"`.
        tracks: paths on the plane by name, a row of x and y for each point. Each lies on the landscape.
        cut: a y at which to draw the line of the cut.
        turn: from where to look, in degrees.

    Raises:
        ValueError: if `of` is neither word, or the axes are flat.
    """
    values, scale = _values_of(surface, of), _scale_of(_values_of(surface, of), of)
    heights, ax = heights_of(surface, of), _axes_3d(ax)
    x, y = np.meshgrid(surface.x, surface.y)
    colours = _colours(of)(scale.norm(values))
    ax.plot_surface(x, y, heights, facecolors=colours, rstride=1, cstride=1, shade=False, linewidth=0)
    _draw_tracks(ax, surface, heights, tracks or {})
    for number, (name, place) in enumerate(surface.points.items()):
        height = _height_at(surface, heights, np.array([[place.x, place.y]]))[0]
        style, point = numbered(number), ([place.x], [place.y], [height])
        ax.plot(*point, marker=style.marker, color=style.colour, markersize=8, zorder=10, label=plain(name))
    if cut is not None:
        row = np.abs(surface.y - cut).argmin()
        ax.plot(
            surface.x, np.full(len(surface.x), surface.y[row]), heights[row], color=INK, zorder=9, path_effects=CASING
        )
    ax.view_init(elev=35, azim=turn)
    _name_axes_3d(ax, f"log10 of the {of}" if scale.is_log else of)
    legend(ax, loc="upper left")
    return ax


def plot_cut(surface: Surface, ax: Axes | None = None, *, of: str = "loss", y: float = 0.0) -> Axes:
    """Draw loss or accuracy along the row of a surface that is nearest to a y.

    Args:
        surface: from `analysis.surface`.
        ax: where to draw, or None for a new figure.
        of: `"loss"` or `"accuracy"`.
        y: where to cut.

    Raises:
        ValueError: if `of` is neither word.
    """
    values, scale = _values_of(surface, of), _scale_of(_values_of(surface, of), of)
    ax = axes_for(ax, width=4.6, height=3.6)
    row = np.abs(surface.y - y).argmin()
    ax.plot(surface.x, values[row], color=INK)
    if scale.is_log:
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
        ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylim(scale.low, scale.high)
    finish(ax, x="first direction", y=of, title=f"the cut at {surface.y[row]:.2f}", grid="both")
    if of == "accuracy":
        percent(ax.yaxis)
    return ax


def heights_of(surface: Surface, of: str = "loss") -> Float[np.ndarray, "y x"]:
    """Return the heights that `plot_surface_3d` draws, which are the values, or their logarithm if the range is wide.

    Raises:
        ValueError: if `of` is neither `"loss"` nor `"accuracy"`.
    """
    values = _values_of(surface, of)
    return np.log10(values) if _scale_of(values, of).is_log else values


def _name_axes_3d(ax: Axes3D, z: str) -> None:
    for axis, name in ((ax.xaxis, "first direction"), (ax.yaxis, "second direction"), (ax.zaxis, z)):
        axis.set_label_text(name, fontsize=LABEL_SIZE, color=LIGHT["soft"])
        axis.set_tick_params(labelsize=TICK_SIZE, labelcolor=LIGHT["soft"])
        axis.set_pane_color(LIGHT["paper"])  # type: ignore[attr-defined]
        axis.line.set_color(LIGHT["faint"])  # type: ignore[attr-defined]


def _draw_tracks(ax: Axes3D, surface: Surface, heights: np.ndarray, tracks: Mapping[str, Track]) -> None:
    for number, (name, track) in enumerate(tracks.items()):
        height, style = _height_at(surface, heights, track), numbered(number * 8)
        ax.plot(*track.T, height, color=INK, linestyle=style.dashes, zorder=8, path_effects=CASING, label=plain(name))


def _height_at(surface: Surface, heights: Float[np.ndarray, "y x"], points: Track) -> Float[np.ndarray, " n"]:
    """Return the heights at the points of the grid that are nearest."""
    columns = np.abs(surface.x - points[:, :1]).argmin(1)
    return heights[np.abs(surface.y - points[:, 1:]).argmin(1), columns]


def _values_of(surface: Surface, of: str) -> np.ndarray:
    if of not in ("loss", "accuracy"):
        raise ValueError(f"of must be 'loss' or 'accuracy', got {of!r}")
    return surface.loss if of == "loss" else surface.accuracy


@dataclass(frozen=True)
class _Scale:
    """A scale from the lowest to the highest value, which may be logarithmic."""

    low: float
    high: float
    is_log: bool

    @property
    def norm(self) -> Normalize:
        return (LogNorm if self.is_log else Normalize)(self.low, self.high)

    @property
    def format(self) -> str:
        return "%.3g" if self.high - self.low > 0.1 * abs(self.high) else "%.5g"

    @property
    def levels(self) -> np.ndarray:
        return (np.geomspace if self.is_log else np.linspace)(self.low, self.high, LEVELS)


def _scale_of(values: np.ndarray, of: str) -> _Scale:
    """Return a linear scale for accuracy and flat losses, and a logarithmic one for losses over a wide range."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return _Scale(low, high if high > low else low + 1.0, of == "loss" and low > 0 and WIDE * low < high)


def _colours(of: str) -> Colormap:
    return HEAT if of == "loss" else HEAT.reversed()  # what is good is as pale as the page


def _mark(ax: Axes, number: int, name: str, place: PlanePoint) -> None:
    style = numbered(number)
    is_off = place.share > AWAY
    ax.plot(
        place.x,
        place.y,
        style.marker,
        color=style.colour,
        markersize=10,
        markerfacecolor=LIGHT["surface"] if is_off else style.colour,
        markeredgecolor=style.colour if is_off else LIGHT["surface"],
        label=plain(f"{name} ({in_percent(place.share)} off)" if is_off else name),
        zorder=5,
    )


def _axes_3d(ax: Axes | None) -> Axes3D:
    if ax is None:
        ax = NotebookAxes3D(
            NotebookFigure(figsize=(6.4, 4.8), dpi=PIXELS, facecolor=LIGHT["paper"]),
            (0.0, 0.02, 0.92, 0.96),
            facecolor="none",
        )
        ax.figure.add_axes(ax)
        return ax
    if not isinstance(ax, Axes3D):
        raise ValueError(f"a landscape needs three-dimensional axes, got {type(ax).__name__}. Use projection='3d'")
    return ax
