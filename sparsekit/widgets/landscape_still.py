"""Draw surfaces with one clipped scale as a static image, in the shades that the browser uses."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from sparsekit.analysis import Surface
from sparsekit.plots.canvas import plain
from sparsekit.plots.landscape import AWAY, Track
from sparsekit.plots.palette import LIGHT

BANDS = 10
STRIP = 3  # times as long as wide, from where equal scales would leave a thin strip
DARKEST = 0.5  # share of ink where a network is best


def draw_surface(
    surfaces: Mapping[str, Surface],
    tracks: Mapping[str, Mapping[str, Track]],
    of: str,
    limits: tuple[float, float],
    panel: int,
    cut: float,
) -> Figure:
    """Return a figure of all maps side by side, and of the cut through one of them.

    Args:
        surfaces: by name.
        tracks: paths by name, for each surface by its name.
        of: `"loss"` or `"accuracy"`.
        limits: ends of the scale.
        panel: number of the surface with the cut.
        cut: its y.
    """
    figure = Figure(figsize=(4.1 * len(surfaces) + 3.6, 4.2), dpi=100, layout="constrained", facecolor=LIGHT["paper"])
    *maps, last = np.atleast_1d(figure.subplots(1, len(surfaces) + 1))
    for number, (ax, (name, surface)) in enumerate(zip(maps, surfaces.items(), strict=True)):
        _draw_map(ax, surface, of, limits)
        ax.set_title(plain(name), fontsize=9, loc="left", color=LIGHT["soft"])
        for path in tracks.get(name, {}).values():
            ax.plot(*np.asarray(path).T, color=LIGHT["ink"], linewidth=1.6)
        if number == panel:
            row = int(np.abs(surface.y - cut).argmin())
            ax.axhline(surface.y[row], color=LIGHT["ink"], linewidth=1, linestyle="--")
            _draw_cut(last, surface, row, of, limits)
    return figure


def _draw_map(ax: Axes, surface: Surface, of: str, limits: tuple[float, float]) -> None:
    values = surface.loss if of == "loss" else surface.accuracy
    values = np.nan_to_num(values, nan=limits[1], posinf=limits[1]).clip(*limits)
    dark, light = _between("surface", "ink", DARKEST), LIGHT["surface"]
    shades = LinearSegmentedColormap.from_list("heat", [dark, light] if of == "loss" else [light, dark])
    if min(values.shape) > 1:
        ax.contourf(surface.x, surface.y, values, levels=np.linspace(*limits, BANDS + 1), cmap=shades)
    for name, place in surface.points.items():
        face = LIGHT["paper"] if place.share > AWAY else LIGHT["ink"]
        ax.plot(place.x, place.y, "o", color=LIGHT["ink"], markerfacecolor=face, markersize=7)
        away = f" ({place.share:.0%} off)" if place.share > AWAY else ""
        ax.annotate(plain(name + away), (place.x, place.y), (6, 6), textcoords="offset points", fontsize=8)
    sides = [np.ptp(axis) or 1.0 for axis in (surface.x, surface.y)]
    ax.set_aspect("auto" if max(sides) > STRIP * min(sides) else "equal")
    _quieten(ax)


def _draw_cut(ax: Axes, surface: Surface, row: int, of: str, limits: tuple[float, float]) -> None:
    values = surface.loss if of == "loss" else surface.accuracy
    ax.plot(surface.x, values[row], color=LIGHT["ink"], linewidth=2)
    ax.set_ylim(*limits)
    ax.set_title(f"{of} along the cut at {surface.y[row]:.2f}", fontsize=9, loc="left", color=LIGHT["soft"])
    _quieten(ax)


def _between(first: str, second: str, share: float) -> tuple[float, ...]:
    pair = [np.array([int(LIGHT[name][k : k + 2], 16) / 255 for k in (1, 3, 5)]) for name in (first, second)]
    return tuple(pair[0] + (pair[1] - pair[0]) * share)


def _quieten(ax: Axes) -> None:
    ax.set_facecolor(LIGHT["paper"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8, colors=LIGHT["soft"])
