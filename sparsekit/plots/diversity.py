"""Matrices, maps, trees and reliability diagrams show how several networks differ."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from sparsekit.analysis.behaviour.calibration import calibration_error_of_table
from sparsekit.analysis.structure.maps import MdsEmbedding, average_linkage
from sparsekit.plots.canvas import (
    HEAT,
    TICK_SIZE,
    axes_for,
    colour_bar,
    finish,
    in_percent,
    note,
    on_heat,
    percent,
    plain,
)
from sparsekit.plots.colours import BASELINE, DASHED, INK, numbered
from sparsekit.plots.naming import legend, legend_beside
from sparsekit.plots.palette import LIGHT

# Names of neighbours go around their points, or they would lie on each other.
CORNERS = (
    ((7, 4), "left", "bottom"),
    ((-7, 4), "right", "bottom"),
    ((7, -4), "left", "top"),
    ((-7, -4), "right", "top"),
)
CELL = 0.85  # inches of a matrix for each network, in which two lines of numbers fit


def plot_matrix(
    values: Float[np.ndarray, "rows columns"] | pd.DataFrame,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    measure: str = "value",
    low: float | None = 0.0,
    high: float | None = None,
) -> Axes:
    """Draw a measure of every pair of networks (or layers) as coloured cells with their numbers.

    Args:
        values: a cell for each pair. A table brings its own names.
        ax: where to draw, or None for a new figure.
        names: of rows and columns of a square matrix, or None for numbers.
        measure: what the numbers are, for the colour bar.
        low, high: ends of the colours. None is the least and the greatest value.

    Raises:
        ValueError: if there is another number of names.
    """
    numbers, rows, columns = _named_matrix(values, names)
    ax = axes_for(ax, width=2.6 + CELL * len(columns), height=1.0 + CELL * 0.8 * len(rows))
    image = ax.imshow(numbers, cmap=HEAT, vmin=low, vmax=high, aspect="auto")
    colour_bar(ax, image, measure)
    for (row, column), value in np.ndenumerate(numbers):
        colour = on_heat(float(np.asarray(image.norm(value))))
        ax.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=TICK_SIZE, color=colour)
    ax.set_xticks(range(len(columns)), map(plain, columns))
    ax.set_yticks(range(len(rows)), map(plain, rows))
    x, y = (values.columns.name, values.index.name) if isinstance(values, pd.DataFrame) else (None, None)
    return finish(ax, x=str(x or "network"), y=str(y or "network"), grid="")


def plot_map(
    found: MdsEmbedding,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    chosen: int | None = None,
    space: str = "masks",
) -> Axes:
    """Draw networks as points, with similar ones near each other. The title says which share the map shows.

    Args:
        found: from `analysis.classical_mds`.
        ax: where to draw, or None for a new figure.
        names: of the networks, or None for numbers.
        groups: of each network, for example its run. Each group gets a colour and a marker.
        chosen: the network to put a ring around.
        space: what the distances are of, for the title.

    Raises:
        ValueError: if there is another number of names or groups.
    """
    names = list(map(str, range(len(found.points)))) if names is None else list(names)
    groups = [""] * len(names) if groups is None else list(groups)
    if not len(names) == len(groups) == len(found.points):
        raise ValueError(
            f"there must be a name and a group for each of {len(found.points)} networks, "
            f"got {len(names)} and {len(groups)}"
        )
    ax = axes_for(ax, width=6.2, height=4.4)
    for number, group in enumerate(dict.fromkeys(groups)):
        style, points = numbered(number), found.points[[one == group for one in groups]]
        ax.scatter(*points.T, color=style.colour, marker=style.marker, s=60, zorder=3, label=plain(group) or None)
    _name_points(ax, names, found.points)
    if chosen is not None:
        x, y = found.points[chosen]
        ax.scatter(x, y, s=220, facecolors="none", edgecolors=INK, linewidths=2, zorder=4)
    reach = 1.3 * float(np.abs(found.points).max()) or 1.0
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    title = f"{space}: the map shows {in_percent(found.share)} of the spread"
    finish(ax, x="first coordinate", y="second coordinate", title=title, grid="both")
    legend_beside(ax)
    return ax


def plot_tree(
    distances: Float[np.ndarray, "t t"],
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    measure: str = "distance",
) -> Axes:
    """Draw which networks are nearest to each other, and which groups of them, as a tree (a dendrogram).

    Args:
        distances: of every pair, for example `1 - IoU`.
        ax: where to draw, or None for a new figure.
        names: of the networks, or None for numbers.
        measure: what the distances are, for the axis.

    Raises:
        ValueError: if the distances are none, or there is another number of names.
    """
    from scipy.cluster.hierarchy import dendrogram  # costs a second, and only this figure needs it

    _, names, _ = _named_matrix(distances, names)
    tree = dendrogram(average_linkage(distances), labels=names, no_plot=True)
    ax = axes_for(ax, width=2.6 + 0.6 * len(names), height=3.4)
    for across, up in zip(tree["icoord"], tree["dcoord"], strict=True):
        ax.plot(across, up, color=INK, linewidth=1.6)
    leaves = [5 + 10 * number for number in range(len(names))]  # where scipy puts them
    ax.set_xticks(leaves, map(plain, tree["ivl"]))
    ax.set_xlim(0, 10 * len(names))
    ax.set_ylim(0, 1.08 * max(map(max, tree["dcoord"])) or 1.0)
    return finish(ax, x="network", y=measure)


def plot_reliability(table: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw the accuracy of a network against its confidence. On the diagonal it is as good as it says.

    Bars are the accuracy of each bin, the paler the fewer samples are in it. If a bar ends below the diagonal, the
    network is overconfident there.

    Args:
        table: from `analysis.reliability`.
        ax: where to draw, or None for a new figure.
        title: before the expected calibration error.
    """
    ax = axes_for(ax, width=5.0, height=4.2)
    filled = table.loc[table["count"] > 0]
    if filled.empty:
        note(ax, "no samples")
    shares = filled["count"] / max(1, filled["count"].max())
    for (_, row), share in zip(filled.iterrows(), shares, strict=True):
        bar = ax.bar(row["low"], row["accuracy"], width=row["high"] - row["low"], align="edge")
        bar[0].set(facecolor=INK, alpha=0.15 + 0.85 * float(share), edgecolor=LIGHT["paper"])
    ax.plot([0, 1], [0, 1], color=BASELINE, linestyle=DASHED, linewidth=1.4)
    ax.plot(
        filled["confidence"],
        filled["accuracy"],
        "o",
        color=LIGHT["minus"],
        markersize=5,
        markeredgecolor=LIGHT["paper"],
        label="mean of a bin",
    )
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    gap = f"calibration error {calibration_error_of_table(table):.3f}" if len(filled) else ""
    finish(ax, x="confidence (largest probability)", y="accuracy", title=f"{title}: {gap}" if title else gap)
    for axis in (ax.xaxis, ax.yaxis):
        percent(axis)
    legend(ax, loc="upper left")
    return ax


def _name_points(ax: Axes, names: Sequence[str], points: np.ndarray) -> None:
    for number, (name, point) in enumerate(zip(names, points, strict=True)):
        corner, side, edge = CORNERS[number % len(CORNERS)]
        ax.annotate(
            plain(name), point, corner, textcoords="offset points", ha=side, va=edge, fontsize=TICK_SIZE, color=INK
        )


def _named_matrix(
    values: np.ndarray | pd.DataFrame, names: Sequence[str] | None
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the numbers, and the names of rows and columns."""
    if isinstance(values, pd.DataFrame):
        return values.to_numpy(), [str(name) for name in values.index], [str(name) for name in values.columns]
    names = [str(number) for number in range(len(values))] if names is None else list(names)
    if values.shape != (len(names), len(names)):
        raise ValueError(f"there must be a row and a column for each of {len(names)} names, got {values.shape}")
    return values, names, names
