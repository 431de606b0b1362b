"""All figures share axes without any global state, readable text, and a quiet frame.

Figures are made directly, not through pyplot, and text sizes are set on the axes, not in `rcParams`. So a plot leaves
no trace outside the axes it draws on.
"""

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, NullLocator
from mpl_toolkits.mplot3d import Axes3D

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 12, 11, 10  # points, of which 10 stay readable on a slide
FRAME = "#888888"
GRID = "#e3e3e3"


class NotebookAxes(Axes):
    """Axes that a notebook shows as their whole figure if a cell ends in them, without any global state."""

    def _repr_png_(self) -> bytes:
        png, figure = io.BytesIO(), self.get_figure(root=True)
        assert figure is not None
        figure.savefig(png, format="png")
        return png.getvalue()

    def __repr__(self) -> str:
        # No numbers or addresses, so that nbval can compare it.
        name = self.get_title("left") or self.get_title() or self.get_ylabel() or "masks"
        return f"<figure: {name.replace(chr(92) + '$', '$')}>"


class NotebookAxes3D(NotebookAxes, Axes3D):
    """The same axes with a third dimension."""


def axes_for(ax: Axes | None, *, width: float = 6.4, height: float = 4.0) -> Axes:
    """Return these axes, or else those of a new figure of this size in inches, which nobody else holds.

    Example:
        >>> axes_for(None).figure.get_size_inches().tolist()
        [6.4, 4.0]
    """
    if ax is not None:
        return ax
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure.subplots(subplot_kw={"axes_class": NotebookAxes})


def finish(ax: Axes, *, x: str, y: str, title: str = "", grid: Literal["x", "y", "both", ""] = "y") -> Axes:
    """Label the axes (with units) and quieten the frame. `grid` is `"x"`, `"y"`, `"both"` or empty."""
    ax.set_xlabel(plain(x), fontsize=LABEL_SIZE)
    ax.set_ylabel(plain(y), fontsize=LABEL_SIZE)
    if title:
        ax.set_title(plain(title), fontsize=TITLE_SIZE, loc="left")
    ax.tick_params(labelsize=TICK_SIZE, color=FRAME)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FRAME)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)
    return ax


def plain(text: str) -> str:
    """Return a text such that a figure shows it as it is, whatever a user has named things.

    Between two dollars matplotlib sets formulas, and a name that begins with an underscore gets into no legend.

    Example:
        >>> len(plain("a$b$")), plain("fc"), plain("_fc") == "_fc"
        (6, 'fc', False)
    """
    hidden = "\u200b" if text.startswith("_") else ""  # a space without width
    return hidden + text.replace("$", r"\$")


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
            fontsize=TICK_SIZE,
            title=title or None,
            title_fontsize=TICK_SIZE,
            loc=loc,
            bbox_to_anchor=bbox_to_anchor,
            borderaxespad=borderaxespad,
            ncols=ncols,
        )


def legend_beside(ax: Axes, *, title: str = "") -> None:
    """Add a legend to the right of the axes, where it hides no line however many there are."""
    legend(ax, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def colour_bar(
    ax: Axes, colours: ScalarMappable, label: str, *, shrink: float = 1.0, format: str | Formatter | None = None
) -> Colorbar:
    """Add a bar that says what the colours of an image mean."""
    bar = ax.figure.colorbar(colours, ax=ax, shrink=shrink, format=format)
    bar.set_label(plain(label), fontsize=TICK_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    return bar


def percent(axis: Axis) -> None:
    """Write shares (0 to 1) on an axis as per cent, with no more digits than they need."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: in_percent(share)))


def in_percent(share: float) -> str:
    """Return a share (0 to 1) as per cent with three digits.

    Example:
        >>> in_percent(0.05), in_percent(0.98765), in_percent(1.0)
        ('5 %', '98.8 %', '100 %')
    """
    return f"{100 * share:.3g} %"


def log_ticks(axis: Axis, *, base_digits: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of every decade, because one label per decade leaves it nearly bare."""
    axis.set_major_locator(LogLocator(subs=base_digits))
    axis.set_minor_locator(NullLocator())


def note(ax: Axes, text: str) -> None:
    """Write one sentence across empty axes, instead of a plot."""
    ax.text(0.5, 0.5, plain(text), ha="center", va="center", fontsize=LABEL_SIZE, transform=ax.transAxes, wrap=True)
