"""Draw what language models write without a browser, with what the dense one finds unlikely marked."""

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsekit.plots.canvas import finish, plain
from sparsekit.plots.palette import LIGHT

COLUMNS = 50  # characters of a line
LINES = 6  # of a text. The rest is left out
UNLIKELY, HARDLY = 3.0, 4.6  # nats of what has a chance of 1 in 20, and of 1 in 100

Pieces = Sequence[tuple[str, float]]


def text_figure(
    title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    dense: float,
    writer: tuple[str, float],
    prompt: str,
    texts: Mapping[str, Pieces],
) -> Figure:
    """Draw the losses of all networks over their densities, and what two of them write.

    Args:
        title: what the figure shows.
        lines: density and loss of each network, in nats per character, for each method.
        dense: loss of the dense network.
        writer: the method and density that is shown.
        prompt: what both continue.
        texts: what the two write, by a name. Each is the tokens with their nats.
    """
    figure = Figure(figsize=(9.6, 4.6), dpi=100, facecolor=LIGHT["paper"])
    figure.text(0.02, 0.95, plain(title), fontsize=13, fontweight="bold", color=LIGHT["ink"], va="center")
    _draw_losses(figure.add_axes((0.075, 0.53, 0.83, 0.35), facecolor="none"), lines, dense, writer)
    for number, (name, pieces) in enumerate(texts.items()):
        ax = figure.add_axes((0.02 + 0.49 * number, 0.03, 0.47, 0.36), facecolor="none")
        _draw_text(ax, name, prompt, pieces)
    return figure


def wrapped(pieces: Pieces) -> Iterator[tuple[int, int, str, float]]:
    """Yield line, column, character and nats of each character. Lines break between words where they are full.

    Example:
        >>> [(line, column) for line, column, _, _ in wrapped([("a", 1.0), ("b", 1.0), (chr(10), 1.0), ("c", 1.0)])]
        [(0, 0), (0, 1), (1, 0)]
    """
    line, column = 0, 0
    letters = [(letter, nats) for text, nats in pieces for letter in text]
    for at, (letter, nats) in enumerate(letters):
        if letter == "\n" or (letter == " " and column + _next_word(letters, at) >= COLUMNS):
            line, column = line + 1, 0
            continue
        yield line, column, letter, nats
        line, column = (line, column + 1) if column + 1 < COLUMNS else (line + 1, 0)


def _next_word(letters: Sequence[tuple[str, float]], at: int) -> int:
    """Return the length of the word after a blank."""
    rest = "".join(letter for letter, _ in letters[at + 1 : at + 1 + COLUMNS])
    return len(rest.replace("\n", " ").partition(" ")[0]) + 1


def _draw_losses(
    ax: Axes, lines: Mapping[str, Sequence[tuple[float, float]]], dense: float, writer: tuple[str, float]
) -> None:
    for name, points in lines.items():
        colour = LIGHT["ink" if name == writer[0] else "soft"]
        shares, losses = zip(*points, strict=True)
        ax.plot(shares, losses, color=colour, marker=".", linewidth=2 if name == writer[0] else 1.2)
        ax.annotate(plain(name), points[-1], (8, 3), textcoords="offset points", fontsize=9, color=colour)
    ax.axhline(dense, color=LIGHT["soft"], linewidth=1.2, linestyle=(0, (2, 3)))
    ax.annotate("dense", (1, dense), (6, -3), textcoords="offset points", fontsize=9, color=LIGHT["soft"])
    ax.plot([writer[1]], [dict(lines[writer[0]])[writer[1]]], marker="o", markersize=9, color=LIGHT["ink"])
    shares = sorted({share for points in lines.values() for share, _ in points})
    ax.set_xscale("log")
    ax.set_xlim(0.8 * shares[0], 1)
    ax.set_xticks(shares, [f"{100 * share:.3g} %" for share in shares])
    ax.set_xticks([], minor=True)
    finish(ax, x="density", y="nats per character")


def _draw_text(ax: Axes, name: str, prompt: str, pieces: Pieces) -> None:
    """Write a text in letters of one width. What is unlikely is dark and underlined, twice if it is hardly likely."""
    ax.axis("off")
    ax.set(xlim=(0, COLUMNS), ylim=(LINES + 0.4, -1.6))
    ax.text(0, -1.2, plain(name), fontsize=10, fontweight="bold", color=LIGHT["ink"], va="center")
    for line, column, letter, nats in wrapped([(prompt, -1.0), *pieces]):
        if line >= LINES:
            break
        colour = LIGHT["ink" if nats < 0 or nats >= UNLIKELY else "soft"]
        weight = "bold" if nats < 0 else "normal"
        ax.text(column, line, plain(letter), family="DejaVu Sans Mono", fontsize=8.6, color=colour, weight=weight)
        for _, below in zip(range((nats >= UNLIKELY) + (nats >= HARDLY)), (0.14, 0.26), strict=False):
            ax.plot([column + 0.05, column + 0.95], [line + below] * 2, color=colour, linewidth=0.9)
