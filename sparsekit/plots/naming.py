"""Lines have their names at their ends where these fit, and otherwise in a legend beside the axes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from sparsekit.plots.palette import LIGHT

TEXT_SIZE = 9.0  # points, which are 12 or 13 pixels of a screen
LINE = 1.3  # heights of a text from one name to the next
LEADER = 14.0  # points from the axes to the names, in which a short line leads to each
REACH = 0.85  # share of the width that a line must reach to have its name at its end
MOST = 9  # names beside each other that a reader can still follow to their lines


def name_lines(ax: Axes, *, title: str = "") -> None:
    """Write the name of each line beside its end, and move names apart. Use a legend if they do not fit.

    Call this last, because names find room by the axes as they are.

    Args:
        ax: axes whose lines have labels.
        title: what all names are, for the legend.
    """
    ax.get_xlim()  # lets the axes take in what was drawn last
    handles, names = ax.get_legend_handles_labels()
    lines = [_line_of(handle) for handle in handles]
    ends = [_end_of(ax, line) for line in lines if line is not None]
    gap = LINE * TEXT_SIZE / 72 * ax.figure.dpi
    bottom, top = (float(edge) for edge in ax.get_window_extent().intervaly)
    if None in lines or None in ends or not _fits(ax, len(names), gap, top - bottom):
        legend_beside(ax, title=title)
        return
    ys = [float(ax.transData.transform(end)[1]) for end in ends if end is not None]
    for line, name, end, y, height in zip(lines, names, ends, ys, spread(ys, gap, bottom, top), strict=True):
        if line is not None and end is not None:
            _write_name(ax, name, end, line, (height - y) * 72 / ax.figure.dpi)


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights that are at least a gap apart, between two edges, and as near to the old ones as they can be.

    Heights that are too close form a block, which stands around the mean of where its members wanted to be.

    Example:
        >>> spread([0.0, 5.0, 1.0], 2.0, -9.0, 9.0)
        [-0.5, 5.0, 1.5]
    """
    order = np.argsort(heights, kind="stable")
    blocks: list[list[float]] = []
    for rank, number in enumerate(order):
        blocks.append([heights[number] - rank * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) >= np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shifted = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks] or [np.empty(0)])
    moved = np.clip(shifted, low, max(low, high - gap * (len(heights) - 1))) + gap * np.arange(len(heights))
    found = np.empty(len(heights))
    found[order] = moved
    return found.tolist()


def legend(
    ax: Axes,
    *,
    title: str = "",
    loc: Literal["upper left", "lower center", "lower right"] | None = None,
    bbox_to_anchor: tuple[float, float] | None = None,
    borderaxespad: float | None = None,
    ncols: int = 1,
) -> None:
    """Add a legend without a box, if anything on the axes has a name. Other arguments are those of `Axes.legend`."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(
            frameon=False,
            fontsize=TEXT_SIZE,
            labelcolor=LIGHT["ink"],
            title=title or None,
            title_fontsize=TEXT_SIZE,
            loc=loc,
            bbox_to_anchor=bbox_to_anchor,
            borderaxespad=borderaxespad,
            ncols=ncols,
        )


def legend_beside(ax: Axes, *, title: str = "") -> None:
    """Add a legend to the right of the axes, where it hides no line however many there are."""
    legend(ax, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _line_of(handle: object) -> Line2D | None:
    if isinstance(handle, ErrorbarContainer):
        handle = handle.lines[0]
    return handle if isinstance(handle, Line2D) else None


def _end_of(ax: Axes, line: Line2D) -> tuple[float, float] | None:
    """Return the point of a line that is furthest to the right, if it is far enough there."""
    points = np.column_stack([np.asarray(values, dtype=float) for values in line.get_data(orig=False)])
    pixels = line.get_transform().transform(points)
    inside = ax.transAxes.inverted().transform(pixels)
    across = np.where(np.isfinite(pixels).all(axis=1), inside[:, 0], -np.inf)
    if not len(across) or across.max() < REACH:
        return None
    x, y = ax.transData.inverted().transform(pixels[across.argmax()])
    return float(x), float(y)


def _fits(ax: Axes, count: int, gap: float, height: float) -> bool:
    figure = ax.get_figure(root=True)
    has_room = figure is not None and (figure.get_layout_engine() is not None or len(figure.axes) == 1)
    return has_room and count <= MOST and count * gap <= height


def _write_name(ax: Axes, name: str, end: tuple[float, float], line: Line2D, up: float) -> None:
    beside = offset_copy(ax.get_yaxis_transform(), ax.get_figure(root=True), x=LEADER, y=up, units="points")
    ax.annotate(
        name,
        end,
        (1.0, end[1]),
        textcoords=beside,
        va="center",
        fontsize=TEXT_SIZE,
        color=LIGHT["ink"],
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": line.get_color(),
            "linewidth": 1.0,
            "relpos": (0.0, 0.5),
            "shrinkA": 3.0,
            "shrinkB": 0.0,
        },
    )
