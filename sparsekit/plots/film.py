"""A journal becomes a film for slides: each rewiring is one frame."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsekit.plots.canvas import LABEL_SIZE, in_percent
from sparsekit.plots.colours import INK
from sparsekit.plots.masks import DPI, plot_masks
from sparsekit.rewiring.journal import Journal
from sparsekit.utils.checks import check_integer
from sparsekit.utils.files import write_bytes

WRITERS: dict[str, type[PillowWriter | FFMpegWriter]] = {".gif": PillowWriter, ".mp4": FFMpegWriter}
STRIP = 26  # screen pixels above the masks, for what happened
HOLD = 3  # how many times as long the last frame stands


def film_masks(
    journal: Journal,
    path: str | Path,
    *,
    fps: int = 6,
    zoom: int | None = None,
    width: int = 1000,
) -> Path:
    """Write the masks of a run as a film, with a frame for the start and one for each rewiring.

    A frame looks as `plot_masks` draws it: what a rewiring grew is dark, what it dropped is hollow or grey, and what
    stayed is pale.

    Args:
        journal: of a run, as in `read_run(folder).journal`.
        path: where to write, a `.gif`, or an `.mp4` where the program ffmpeg is installed. An older file is replaced
            when the new one is whole.
        fps: frames per second.
        zoom: screen pixels per position. None chooses as `plot_masks` does.
        width: screen pixels after which layers continue in the next row.

    Returns:
        The path of the film.

    Raises:
        TypeError: if it is no journal, or `fps` is no integer.
        ValueError: if the path ends in something else, there is no layer, or a number is below 1.
        RuntimeError: if ffmpeg is needed and not there.

    Example:
        >>> film_masks(history.journal, "rigl.gif")  # doctest: +SKIP
    """
    if not isinstance(journal, Journal):
        raise TypeError(f"a film needs a Journal, got {type(journal).__name__}. Hand over history.journal")
    path, fps = Path(path), check_integer("fps", fps, least=1)
    writer = _writer(path.suffix.lower())(fps=fps)
    draw = partial(plot_masks, zoom=zoom, width=width)
    ax = _axes_with_strip(draw(journal.initial, before=journal.initial))
    with TemporaryDirectory() as folder:
        film = Path(folder) / f"film{path.suffix}"  # writers choose their format by the ending
        with writer.saving(_figure(ax), str(film), DPI):
            for _ in _frames(journal, ax, draw):
                writer.grab_frame()
            for _ in range(HOLD):
                writer.grab_frame()
        write_bytes(path, film.read_bytes())
    return path


def _frames(journal: Journal, ax: Axes, draw: Callable[..., Axes]) -> Iterator[None]:
    """Draw the start and each rewiring, and yield after each of them."""
    _say(ax, f"the start, {journal.initial.count:,} connections")
    yield
    for number, (step, (before, now)) in enumerate(zip(journal.steps, pairwise(journal.topologies()), strict=True), 1):
        ax.clear()
        draw(now, ax, before=before)
        grown = (now - before).count / max(1, now.count)
        _say(ax, f"step {step:,}, rewiring {number} of {len(journal.steps)}: {in_percent(grown)} are new")
        yield


def _writer(ending: str) -> type[PillowWriter | FFMpegWriter]:
    if ending not in WRITERS:
        raise ValueError(f"a film must end in {' or '.join(WRITERS)}, got {ending or 'no ending'}. Rename it")
    if not WRITERS[ending].isAvailable():
        raise RuntimeError(f"a film that ends in {ending} needs ffmpeg, got none. Install ffmpeg, or write a .gif")
    return WRITERS[ending]


def _axes_with_strip(ax: Axes) -> Axes:
    """Make a figure higher by a strip above its axes."""
    figure = _figure(ax)
    width, height = figure.get_size_inches()
    box, higher = ax.get_position(), height + STRIP / DPI
    figure.set_size_inches(width, higher)
    ax.set_position((box.x0, 0, box.width, height / higher))
    return ax


def _say(ax: Axes, text: str) -> None:
    figure = _figure(ax)
    for old in figure.texts:
        old.remove()
    height = DPI * figure.get_size_inches()[1]
    figure.text(8 / (DPI * figure.get_size_inches()[0]), 1 - 8 / height, text, fontsize=LABEL_SIZE, va="top", color=INK)


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
