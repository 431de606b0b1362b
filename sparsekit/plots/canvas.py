"""All figures share axes without any global state, readable text, and a quiet frame.

Figures are made directly, not through pyplot, and text sizes are set on the axes, not in `rcParams`. So a plot leaves
no trace outside the axes it draws on. Colours are those of `palette.LIGHT`, and dark pages exchange them.
"""

import textwrap
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, NullLocator
from mpl_toolkits.mplot3d import Axes3D

from sparsekit.plots.naming import TEXT_SIZE
from sparsekit.plots.palette import LIGHT
from sparsekit.plots.vector import PIXELS, bundle_of

TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 11, 9.5, TEXT_SIZE  # points, which are 15, 13 and 12 pixels of a screen
WIDE = 0.52  # of its size that a letter of a title takes on average
HEAT = LinearSegmentedColormap.from_list("heat", [LIGHT[name] for name in ("surface", "faint", "soft")])


class NotebookFigure(Figure):
    """A figure that a notebook shows sharp and in its own theme, without any global state."""

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        return bundle_of(self, repr(self), sentence_of(self))

    def __repr__(self) -> str:
        return repr(self.axes[0]) if self.axes else "<figure: empty>"


class NotebookAxes(Axes):
    """Axes that a notebook shows as their whole figure if a cell ends in them, without any global state."""

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        figure = self.get_figure(root=True)
        assert figure is not None
        return bundle_of(figure, repr(self), sentence_of(figure))

    def __repr__(self) -> str:
        # No addresses, so that nbval can compare it.
        name = self.get_title("left") or self.get_title() or self.get_ylabel() or "masks"
        return f"<figure: {_in_one_line(name)}>"


class NotebookAxes3D(NotebookAxes, Axes3D):
    """The same axes with a third dimension."""


def axes_for(ax: Axes | None, *, width: float = 6.4, height: float = 4.0) -> Axes:
    """Return these axes, or else those of a new figure of this size in inches, which nobody else holds.

    Example:
        >>> axes_for(None).figure.get_size_inches().tolist()
        [6.4, 4.0]
    """
    return subplots(width=width, height=height)[1][0] if ax is None else ax


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 6.4,
    height: float = 4.0,
    sharey: bool = False,
    width_ratios: tuple[float, ...] | None = None,
) -> tuple[NotebookFigure, list[Axes]]:
    """Return a figure and its axes, row by row, as matplotlib's function does. It follows the notebook's theme.

    End the cell in the figure, or in one of its axes, to show it.

    Args:
        rows: of axes.
        columns: of axes.
        width: of the figure in inches, with 100 pixels on the screen for each.
        height: of the figure in inches.
        sharey: whether the axes of a row have one vertical scale.
        width_ratios: of the columns, or None for equal ones.

    Example:
        >>> figure, (left, right) = subplots(1, 2, width=9.0)
        >>> figure
        <figure: masks>
    """
    figure = NotebookFigure(figsize=(width, height), dpi=PIXELS, layout="constrained", facecolor=LIGHT["paper"])
    kind = {"axes_class": NotebookAxes, "facecolor": "none"}
    grid = figure.subplots(
        rows, columns, sharey="row" if sharey else False, width_ratios=width_ratios, subplot_kw=kind, squeeze=False
    )
    return figure, list(grid.flat)


def sentence_of(figure: Figure) -> str:
    """Return what a figure shows in words: titles, what its axes are, and the names in its legends."""
    parts = [_words_of(ax) for ax in figure.axes if ax.get_label() != "<colorbar>"]
    heading = figure.get_suptitle()
    return _in_one_line(". ".join(filter(None, dict.fromkeys([heading, *parts])))) or "a figure"


def titled(ax: Axes, sentence: str) -> Axes:
    """Write a sentence above axes that says what they show, in as many lines as it needs.

    Example:
        >>> titled(axes_for(None), "RigL finds in 5 % what dense training has in all")
        <figure: RigL finds in 5 % what dense training has in all>
    """
    letters = ax.get_window_extent().width / (WIDE * TITLE_SIZE / 72 * ax.figure.dpi)
    lines = textwrap.wrap(plain(sentence), max(12, int(letters)), break_long_words=False)
    title = ax.set_title(
        "\n".join(lines), fontsize=TITLE_SIZE, fontweight="bold", loc="left", color=LIGHT["ink"], pad=10
    )
    if ax.get_position().y1 > 0.99:
        title.set_x(8 / ax.get_window_extent().width)
        _make_room(ax, (1.3 * TITLE_SIZE * len(lines) + 12) / 72)
    return ax


def finish(ax: Axes, *, x: str, y: str, title: str = "", grid: Literal["x", "y", "both", ""] = "y") -> Axes:
    """Label the axes (with units) and quieten the frame. `grid` is `"x"`, `"y"`, `"both"` or empty."""
    ax.set_xlabel(plain(x), fontsize=LABEL_SIZE, color=LIGHT["soft"])
    ax.set_ylabel(plain(y), fontsize=LABEL_SIZE, color=LIGHT["soft"])
    if title:
        titled(ax, title)
    ax.tick_params(labelsize=TICK_SIZE, color=LIGHT["faint"], labelcolor=LIGHT["soft"], length=3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LIGHT["faint"])
    ax.set_axisbelow(True)
    if grid:
        ax.grid(visible=True, axis=grid, color=LIGHT["line"], linewidth=0.8)
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


def colour_bar(
    ax: Axes,
    colours: ScalarMappable,
    label: str,
    *,
    shrink: float = 1.0,
    format: str | Formatter | None = None,
    clipped: bool = False,
) -> Colorbar:
    """Add a bar that says what the colours of an image mean. It has a tip if values above its end have its colour."""
    bar = ax.figure.colorbar(colours, ax=ax, shrink=shrink, format=format, extend="max" if clipped else "neither")
    bar.set_label(plain(label), fontsize=TICK_SIZE, color=LIGHT["soft"])
    bar.ax.tick_params(labelsize=TICK_SIZE, color=LIGHT["faint"], labelcolor=LIGHT["soft"], length=3)
    bar.outline.set_edgecolor(LIGHT["faint"])  # type: ignore[operator]
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
    percentage = 100 * share
    return f"{percentage:,.0f} %" if percentage >= 999.5 else f"{percentage:.3g} %"


def log_ticks(axis: Axis, *, base_digits: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """Label a logarithmic axis at 1, 2 and 5 of every decade, because one label per decade leaves it nearly bare."""
    axis.set_major_locator(LogLocator(subs=base_digits))
    axis.set_minor_locator(NullLocator())


def note(ax: Axes, text: str) -> None:
    """Write one sentence across empty axes, instead of a plot."""
    size, colour = LABEL_SIZE, LIGHT["soft"]
    ax.text(0.5, 0.5, plain(text), ha="center", va="center", fontsize=size, color=colour, transform=ax.transAxes)


def on_heat(shade: float) -> str:
    """Return the colour of a number on a cell of a `HEAT` map, whose shade is from 0 (pale) to 1 (dark).

    Example:
        >>> on_heat(0.9) == LIGHT["surface"], on_heat(0.1) == LIGHT["ink"]
        (True, True)
    """
    return LIGHT["surface" if shade > 0.85 else "ink"]


def _make_room(ax: Axes, inches: float) -> None:
    """Make a figure higher that its axes fill, without moving a pixel of them."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box, (width, height) = ax.get_position(original=True), figure.get_size_inches()
    figure.set_size_inches(width, height + inches)
    ax.set_position((box.x0, box.y0, box.width, box.height * height / (height + inches)))


def _in_one_line(text: str) -> str:
    return text.replace("\n", " ").replace(r"\$", "$")


def _words_of(ax: Axes) -> str:
    """Return what one of a figure's axes shows: its title, else what is drawn against what, and its lines' names."""
    title = ax.get_title("left") or ax.get_title()
    x, y = ax.get_xlabel(), ax.get_ylabel()
    names = ax.get_legend_handles_labels()[1]
    return (title or " against ".join(filter(None, (y, x)))) + (f", of {', '.join(names)}" if names else "")
