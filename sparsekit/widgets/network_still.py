"""Draw a living network as a still image, in the browser's layout and colours, for where no script runs."""

import io

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from PIL import Image

from sparsekit.plots.palette import LIGHT
from sparsekit.widgets.network_film import NetworkFilm
from sparsekit.widgets.network_frames import Frame, on_paths, outputs_of, starts_of
from sparsekit.widgets.network_order import order_of_units
from sparsekit.widgets.rendering import Rgba, figure_rgba
from sparsekit.widgets.stills import s_curve

WIDTH, HEIGHT = 960, 400  # of the graph, in pixels
CURVE_HEIGHT = 130  # of the accuracy over the training
SIDE = 224  # of the input's square
MARGIN = 24
COLOURS = 128  # of the image, which has five hues and their shades


def still(film: NetworkFilm) -> bytes:
    """Return the last frame of a film as PNG: title, input, lines, classes, and the accuracy over its training."""
    frames = film.frames
    height = HEIGHT + 70 + (CURVE_HEIGHT if len(frames) > 1 else 0)
    figure = Figure(figsize=((WIDTH + 2 * MARGIN) / 100, height / 100), dpi=100, facecolor=LIGHT["paper"])
    scale_x, scale_y = WIDTH / (WIDTH + 2 * MARGIN), 1 / height
    axes = figure.add_axes((MARGIN / (WIDTH + 2 * MARGIN), 1 - (HEIGHT + 64) * scale_y, scale_x, HEIGHT * scale_y))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    _draw_title(figure, film, frames[-1], height)
    _draw_graph(axes, film, frames[-1])
    if len(frames) > 1:
        box = (0.06, 28 * scale_y, 0.88, (CURVE_HEIGHT - 56) * scale_y)
        _draw_curve(figure.add_axes(box), frames)
    return _small_png(figure_rgba(figure))


def _small_png(rgba: Rgba) -> bytes:
    """Return a PNG of few colours, a third of the size of one with all of them."""
    buffer = io.BytesIO()
    Image.fromarray(rgba).convert("RGB").quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw_title(figure: Figure, film: NetworkFilm, last: Frame, height: int) -> None:
    left, right, top = MARGIN / (WIDTH + 2 * MARGIN), 1 - MARGIN / (WIDTH + 2 * MARGIN), 1 - 14 / height
    text = f"{last.count:,} connections get {last.accuracy:.1%} of {len(film.labels):,} test examples right"
    figure.text(left, top, text.replace("%", " %"), fontsize=15, fontweight="bold", color=LIGHT["ink"], va="top")
    idle = int((~on_paths(film.shapes, last)).sum())
    note = f"dashed: the {idle:,} on no path from an input to a class. Blue excites, orange inhibits"
    figure.text(right, top - 34 / height, note, fontsize=9, color=LIGHT["soft"], va="top", ha="right")


def _draw_graph(axes: Axes, film: NetworkFilm, frame: Frame) -> None:
    points = _unit_points(film, frame)
    ends, layers = _ends(film.shapes, frame.positions)
    alive, weights = on_paths(film.shapes, frame), frame.values.astype(np.float32)
    largest = np.zeros(len(film.shapes))
    np.maximum.at(largest, layers, np.abs(weights))
    shares = np.abs(weights) / np.maximum(largest[layers], 1e-9)
    order = np.argsort(shares)
    paths = [s_curve(points[start], points[end], reach=1 / 2) for start, end in ends]
    crowd = np.clip(np.sqrt(300 / max(1, frame.count)), 0.22, 1)
    for number in order:
        if not alive[number]:
            axes.add_patch(PathPatch(paths[number], fc="none", ec=LIGHT["soft"], lw=0.7, ls=(0, (2, 4)), alpha=0.4))
    for number in order:
        if alive[number]:
            share, colour = shares[number], LIGHT["plus" if weights[number] > 0 else "minus"]
            opacity = 0.16 * crowd + (1 - 0.16 * crowd) * share ** (crowd**-0.7)
            width = (0.4 + 2.7 * share) * (0.62 if frame.count > 900 else 1)
            axes.add_patch(PathPatch(paths[number], fc="none", ec=colour, lw=width, alpha=opacity, capstyle="round"))
    example = _clearest(film, frame)
    _draw_input(axes, film, example)
    used = np.zeros(len(points), dtype=bool)
    used[ends[alive].ravel()] = True
    _draw_units(axes, film, points, used)
    _draw_classes(axes, film, frame, points, example)


def _unit_points(film: NetworkFilm, frame: Frame) -> Float[np.ndarray, "u 2"]:
    order = order_of_units(film.shapes, frame, film.image)
    top = (HEIGHT - SIDE) / 2
    inputs = np.arange(film.shapes[0][1])
    if film.image is None:
        points = [np.stack([np.full(len(inputs), SIDE), top + (inputs + 0.5) / len(inputs) * SIDE], 1)]
    else:
        rows, columns = np.divmod(inputs, film.image[1])
        points = [np.stack([(columns + 0.5) / film.image[1], (rows + 0.5) / film.image[0]], 1) * SIDE + (0, top)]
    hidden = len(order) - 2
    along = [*np.linspace(0.45, 0.665, hidden), 0.835] if hidden > 1 else [0.56, 0.835]
    first = len(inputs)
    for column, share in zip(order[1:], along, strict=True):
        margin = 34 if column is order[-1] else 20
        across = margin + (np.arange(len(column)) + 0.5) / len(column) * (HEIGHT - 2 * margin)
        layer = np.empty((len(column), 2))
        layer[np.array(column) - first] = np.stack([np.full(len(column), share * WIDTH), across], 1)
        points.append(layer)
        first += len(column)
    return np.concatenate(points)


def _ends(shapes: tuple[tuple[int, int], ...], positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both units of each connection, and its layer."""
    starts = np.array(starts_of(shapes))
    layers = np.searchsorted(starts, positions, side="right") - 1
    inputs = np.array([inputs for _, inputs in shapes])[layers]
    first = np.cumsum([0, *(inputs for _, inputs in shapes)])
    rows, columns = np.divmod(positions - starts[layers], inputs)
    return np.stack([columns + first[layers], rows + first[layers + 1]], 1), layers


def _clearest(film: NetworkFilm, frame: Frame) -> int:
    """Return the test example that the network is surest about, among those that it gets right."""
    logits = outputs_of(film.shapes, frame, film.inputs)
    sure = np.sort(logits, 1)[:, -1] - np.sort(logits, 1)[:, -2]
    return int(np.where(logits.argmax(1) == film.labels, sure, -np.inf).argmax())


def _draw_input(axes: Axes, film: NetworkFilm, example: int) -> None:
    top, values = (HEIGHT - SIDE) / 2, film.inputs[example]
    shares = (values - film.inputs.min()) / max(1e-9, float(np.ptp(film.inputs)))
    shape = {"boxstyle": "round,pad=4", "fc": LIGHT["surface"], "ec": LIGHT["faint"], "zorder": 3}
    axes.add_patch(FancyBboxPatch((4, top + 4), SIDE - 8, SIDE - 8, **shape))
    if film.image is None:
        heights = top + (np.arange(len(values)) + 0.5) / len(values) * SIDE
        axes.plot(8 + shares * (SIDE - 16), heights, color=LIGHT["ink"], lw=1.4, zorder=4)
        return
    rows, columns = film.image
    width, height = SIDE / columns, SIDE / rows
    for number in np.flatnonzero(shares > 0.004):
        corner = (number % columns * width + 1, top + number // columns * height + 1)
        pixel = Rectangle(corner, width - 2, height - 2, fc=LIGHT["ink"], alpha=float(shares[number]) ** 0.8, zorder=4)
        axes.add_patch(pixel)


def _draw_units(axes: Axes, film: NetworkFilm, points: np.ndarray, used: np.ndarray) -> None:
    hidden = slice(film.shapes[0][1], len(points) - film.shapes[-1][0])
    for is_used, size, edge in ((False, 5, "faint"), (True, 22, "soft")):
        chosen = points[hidden][used[hidden] == is_used]
        dots: PathCollection = axes.scatter(chosen[:, 0], chosen[:, 1], s=size, zorder=5)
        dots.set(facecolor=LIGHT["paper"], edgecolor=LIGHT[edge], linewidth=0.9)


def _draw_classes(axes: Axes, film: NetworkFilm, frame: Frame, points: np.ndarray, example: int) -> None:
    logits = outputs_of(film.shapes, frame, film.inputs[example : example + 1])[0]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = int(shares.argmax())
    for number, ((x, y), share) in enumerate(zip(points[-len(shares) :], shares, strict=True)):
        colour, weight = (LIGHT["ink"], "bold") if number == best else (LIGHT["soft"], "normal")
        name = film.data.classes[number][:9]
        axes.text(x + 8, y, name, color=colour, weight=weight, fontsize=11 if len(name) < 3 else 8, va="center")
        start = x + (30 if len(name) < 3 else 66)
        for width, fill in ((1, LIGHT["line"]), (share, colour)):
            axes.add_patch(Rectangle((start, y - 6), (WIDTH - start - 4) * width, 12, fc=fill, ec="none"))


def _draw_curve(axes: Axes, frames: list[Frame]) -> None:
    steps, accuracies = [frame.step for frame in frames], [100 * frame.accuracy for frame in frames]
    axes.plot(steps, accuracies, color=LIGHT["ink"], lw=1.8)
    axes.plot(steps[-1:], accuracies[-1:], "o", color=LIGHT["ink"], ms=6)
    axes.set(xlim=(0, steps[-1] * 1.01), ylim=(0, 104), yticks=[0, 50, 100], facecolor=LIGHT["paper"])
    axes.set_title("accuracy in % by step of the training", fontsize=9, color=LIGHT["soft"], loc="left")
    axes.grid(axis="y", color=LIGHT["line"])
    axes.tick_params(colors=LIGHT["soft"], labelsize=8, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
