"""Draw whole networks and the accuracy of methods without a browser, as the race and the branches show them."""

from collections.abc import Mapping, Sequence

import matplotlib.patheffects as effects
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from sparsekit.plots.canvas import plain
from sparsekit.plots.palette import LIGHT
from sparsekit.topology import Topology
from sparsekit.train.history import History
from sparsekit.widgets.evolution_film import idle_units, reached
from sparsekit.widgets.evolution_view import Method
from sparsekit.widgets.stills import s_curve

SWEEPS = 12  # of ordering units, after which hardly any line crosses fewer others
COLOURS = 128  # of a static image, whose hundreds of lines would take four times the bytes with all their shades
Numbers = Float[np.ndarray, "_"]


def race_figure(
    title: str, methods: Sequence[Method], histories: Mapping[str, list[History]], image: Sequence[int], total: int
) -> Figure:
    """Draw a network of each method, and below them the accuracy over steps with a band over the seeds.

    Args:
        title: what the figure shows.
        methods: in order.
        histories: of each method by name, a seed each.
        image: rows and columns of the inputs, if they are an image.
        total: steps of a whole training.
    """
    figure = Figure(figsize=(12.8, 7.6), dpi=100, facecolor=LIGHT["paper"])
    size = 19 if len(title) < 75 else 15
    figure.text(0.025, 0.955, plain(title), fontsize=size, fontweight="bold", color=LIGHT["ink"], va="center")
    width = min(0.48, 0.96 / len(methods))
    for number, method in enumerate(methods):
        ax = figure.add_axes((0.025 + number * width, 0.43, width - 0.025, 0.41))
        history = histories[method.name][0]
        draw_network(ax, history.journal[-1], image, method.style.colour)
        which = "first start, " if len(histories[method.name]) > 1 else ""
        idle = f"{which}{idle_units(history.journal[-1])} idle units"
        figure.text(ax.get_position().x0, 0.88, method.label, fontsize=14, fontweight="bold", color=LIGHT["ink"])
        measured = [row.value for row in history.rows if row.name == "test accuracy"]
        number_text = f"{100 * measured[-1]:.1f} %" if measured else ""
        figure.text(ax.get_position().x1, 0.88, number_text, fontsize=17, ha="right", color=LIGHT["ink"])
        figure.text(ax.get_position().x0, 0.855, idle, fontsize=10, color=LIGHT["soft"])
    draw_accuracies(figure.add_axes((0.045, 0.07, 0.81, 0.31)), methods, histories, total)
    return figure


def draw_network(ax: Axes, topology: Topology, image: Sequence[int], colour: str) -> None:
    """Draw a network as its graph. Dashed lines lie on no path from an input to an output."""
    masks = [layer.mask().numpy() for layer in topology.values()]
    down, up = reached(masks)
    works = [one & other for one, other in zip(down, up, strict=True)]
    box = ax.get_window_extent()
    height = min(0.9, 0.32 * box.width / box.height)  # so that pixels are squares
    points = _spots_of(masks, works, image, height)
    for k, mask in enumerate(masks):
        rows, cols = np.nonzero(mask)
        live = down[k][cols] & up[k + 1][rows]
        curves = [s_curve(points[k][col], points[k + 1][row], reach=1 / 3) for row, col in zip(rows, cols, strict=True)]
        _add_lines(ax, curves, live, colour, topology.count)
    if image:
        fan = masks[0].sum(axis=0).reshape(tuple(image))
        shades = LinearSegmentedColormap.from_list("fan", [LIGHT["surface"], colour])
        ax.imshow(
            np.sqrt(fan / 10),
            extent=(0, 0.32, 0.5 - height / 2, 0.5 + height / 2),
            cmap=shades,
            vmin=0,
            vmax=1,
            zorder=2.5,
            aspect="auto",
        )
    for place, does in zip(points[1:], works[1:], strict=True):
        ax.scatter(*place[does].T, s=13, color=LIGHT["ink"], zorder=3, lw=0)
        ax.scatter(*place[~does].T, s=4, facecolors="none", edgecolors=LIGHT["faint"], zorder=3, lw=0.8)
    ax.set(xlim=(0, 1.02), ylim=(0, 1), aspect="auto")
    ax.axis("off")


def _add_lines(ax: Axes, curves: Sequence[Path], live: np.ndarray, colour: str, count: int) -> None:
    """Draw connections, those on no path as dashes. In a crowd of `count` each of them recedes."""
    dead = [curve for curve, is_live in zip(curves, live, strict=True) if not is_live]
    rest = [curve for curve, is_live in zip(curves, live, strict=True) if is_live]
    alpha = 0.25 + 0.5 * min(1.0, (300 / max(1, count)) ** 0.5)
    dashes = {"edgecolor": LIGHT["soft"], "linewidth": 0.5, "linestyle": (0, (2, 3)), "alpha": 0.5}
    for some, style in ((dead, dashes), (rest, {"edgecolor": colour, "linewidth": 0.9, "alpha": alpha})):
        if some:  # as one path, which takes a quarter of the bytes of many
            ax.add_patch(PathPatch(Path.make_compound_path(*some), fill=False, clip_on=False, **style))


def draw_accuracies(ax: Axes, methods: Sequence[Method], histories: Mapping[str, list[History]], total: int) -> None:
    """Draw each method's mean test accuracy with a band over its seeds, and a label where its line ends."""
    ends = []
    for method in methods:
        curves = [_curve_of(history) for history in histories[method.name]]
        if not curves or not all(len(steps) for steps, _ in curves):
            continue
        steps = curves[0][0]
        values = 100 * np.stack([np.interp(steps, *curve) for curve in curves])
        ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=method.style.colour, alpha=0.13, lw=0)
        style = {"color": method.style.colour, "marker": method.style.marker, "markevery": max(1, len(steps) // 4)}
        ax.plot(steps, values.mean(axis=0), lw=2, mec=LIGHT["paper"], **style)
        ends.append((values.mean(axis=0)[-1], f"{method.label} {values.mean(axis=0)[-1]:.1f} %"))
    _label_ends(ax, sorted(ends), total)
    ax.set(xlim=(0, total), ylim=(0, 100), xlabel="training step", ylabel="test accuracy, %")
    ax.set_facecolor(LIGHT["paper"])
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.grid(axis="y", color=LIGHT["line"])
    ax.tick_params(length=0, colors=LIGHT["soft"])
    ax.set_axisbelow(True)


def _label_ends(ax: Axes, ends: Sequence[tuple[float, str]], total: int) -> None:
    floor = -100.0
    outline = [effects.withStroke(linewidth=3, foreground=LIGHT["paper"])]
    for height, text in ends:
        floor = max(height, floor + 9)  # per cent, about the height of a line of text
        ax.text(
            1.015 * total,
            floor,
            text,
            va="center",
            fontsize=11,
            color=LIGHT["ink"],
            path_effects=outline,
            clip_on=False,
        )


def _curve_of(history: History) -> tuple[list[int], list[float]]:
    rows = [row for row in history.rows if row.name == "test accuracy"]
    return [row.step + 1 for row in rows], [row.value for row in rows]


def _spots_of(
    masks: Sequence[np.ndarray], works: Sequence[np.ndarray], image: Sequence[int], height: float
) -> list[np.ndarray]:
    """Return where each unit stands, in an order in which few lines cross. Idle units get half a slot."""
    heights = [(np.arange(len(does)) + 0.5) / len(does) for does in works]
    for _ in range(SWEEPS):
        for k in range(1, len(works) - 1):
            near = [(masks[k - 1], heights[k - 1]), (masks[k].T, heights[k + 1])]
            number = sum(mask.sum(axis=1) for mask, _ in near)
            sums = sum(mask @ height for mask, height in near)
            heights[k] = _in_slots(np.where(number > 0, sums / np.maximum(1, number), heights[k]), works[k])
    xs = [0.02, *np.linspace(0.5, 0.98, len(works) - 1)]
    spots = [np.stack([np.full(len(h), x), 1 - h], axis=1) for h, x in zip(heights, xs, strict=True)]
    if image:
        rows, cols = np.divmod(np.arange(image[0] * image[1]), image[1])
        spots[0] = np.stack(
            [(cols + 0.5) * 0.32 / image[1], 0.5 + height / 2 - (rows + 0.5) * height / image[0]], axis=1
        )
    return spots


def _in_slots(wanted: Numbers, works: np.ndarray) -> Numbers:
    order = np.argsort(wanted, kind="stable")
    slots = np.where(works[order], 1.0, 0.5)
    ends = np.cumsum(slots) / slots.sum()
    out = np.empty(len(wanted))
    out[order] = ends - slots / slots.sum() / 2
    return out
