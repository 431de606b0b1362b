"""Curves of static images: the one that an explorer's slider stands on, and those between the units of a network."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import PercentFormatter

from sparsekit.plots.canvas import plain
from sparsekit.plots.palette import LIGHT
from sparsekit.widgets import rendering

Points = Sequence[tuple[float, float]]
WINDOW = 40  # a smooth line looks back on about this fraction of the whole


def curve_rgba(
    lines: Mapping[str, Points],
    chosen: str,
    at: tuple[float, float] | None,
    *,
    x: str,
    y: str,
    ticks: Mapping[float, str],
    is_log: bool = False,
) -> UInt8[np.ndarray, "_ _ 4"]:
    """Draw lines of shares, the chosen one in ink and the others soft, and a point where the slider stands.

    Args:
        lines: the points of each, by name.
        chosen: name of the line that the slider stands on.
        at: the slider's point, or None where it has none.
        x, y: names of the axes.
        ticks: texts along the horizontal axis, from its first to its last value.
        is_log: whether this axis is logarithmic.
    """
    figure = Figure(figsize=(8.6, 2.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel=plain(x), ylim=(0, 1.02))
    for name, points in lines.items():
        is_chosen = name == chosen
        colour = LIGHT["ink" if is_chosen else "soft"]
        axes.plot(*np.array(points).reshape(-1, 2).T, color=colour, linewidth=2.2 if is_chosen else 1.2, marker=".")
        if points:
            axes.annotate(plain(name), points[-1], (8, -3), textcoords="offset points", fontsize=9, color=colour)
    if at is not None:
        axes.plot(*at, marker="o", markersize=10, color=LIGHT["ink"])
    if is_log:
        axes.set_xscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize=9)
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(ticks, key=list(ticks).index), max(ticks, key=list(ticks).index))
    axes.set_title(plain(y), loc="left", fontsize=10)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", color=LIGHT["line"])
    return rendering.figure_rgba(figure)


def s_curve(start: Float[np.ndarray, "2"], end: Float[np.ndarray, "2"], *, reach: float) -> Path:
    """Return a Bézier curve that leaves and arrives horizontally, on a `reach` of the way each.

    Example:
        >>> s_curve(np.array([0.0, 0.0]), np.array([3.0, 1.0]), reach=1 / 3).vertices.tolist()
        [[0.0, 0.0], [1.0, 0.0], [2.0, 1.0], [3.0, 1.0]]
    """
    flat = np.array([reach * (end[0] - start[0]), 0.0])
    return Path([start, start + flat, end - flat, end], [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])


def smoothed(values: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return a line's exponential moving average without the pull of its start, as the browser draws it.

    Example:
        >>> smoothed([1.0, 1.0, 1.0]).tolist()
        [1.0, 1.0, 1.0]
    """
    keep = 1 - 1 / max(1.0, len(values) / WINDOW)
    total, weight, out = 0.0, 0.0, []
    for value in values:
        if np.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight if np.isfinite(value) else value)
    return np.array(out)
