"""Masks and scores are drawn as images, with every position of a layer as one square of screen pixels."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from sparsekit.analysis import score_ranks
from sparsekit.plots.canvas import HEAT, LABEL_SIZE, TICK_SIZE, NotebookAxes, NotebookFigure, in_percent, plain
from sparsekit.plots.colours import DROPPED, GROWN, INK, KEPT, PAPER
from sparsekit.plots.palette import LIGHT
from sparsekit.topology import LayerTopology, Topology, check_same_layers, check_topology

DPI = 100
HOLLOW = 3  # screen pixels per position, from which there is room to draw dropped connections hollow
GAP = 12  # screen pixels between layers
CAPTION = 34  # screen pixels for a layer's name above it
EDGE = 8  # screen pixels around everything
LEGEND = 24  # screen pixels for what the colours mean, where there are several
NAME_WIDTH = 130  # screen pixels that a layer's name and numbers need


def mask_image(layer: LayerTopology, before: LayerTopology | None = None) -> UInt8[np.ndarray, "o f 3"]:
    """Return a layer's mask as an image with a row per output and a pixel per position.

    Args:
        layer: the topology to show. Convolutions are laid out with a column per input channel and kernel position.
        before: an earlier topology. Those grown since then are dark, those
            dropped are grey, and those that stayed are pale.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> import torch
        >>> mask_image(LayerTopology((2, 3), torch.tensor([0]))).shape
        (2, 3, 3)
    """
    image = np.full((layer.size, 3), _bytes(PAPER), dtype=np.uint8)
    parts = [(layer, INK)] if before is None else [(layer, KEPT), (layer - before, GROWN), (before - layer, DROPPED)]
    for part, colour in parts:
        image[part.indices.cpu().numpy()] = _bytes(colour)
    return image.reshape(layer.num_outputs, layer.num_inputs, 3)


def plot_masks(
    topology: Topology,
    ax: Axes | None = None,
    *,
    before: Topology | None = None,
    zoom: int | None = None,
    width: int = 1000,
) -> Axes:
    """Draw the masks of all layers, with each position as a square of `zoom` by `zoom` screen pixels.

    Args:
        topology: the connections, with outputs as rows and inputs as columns (channels times kernel positions).
        ax: where to draw, or None for a new figure of the right size. On your own axes the image is fitted in, so
            positions need not be whole screen pixels any more.
        before: an earlier topology. Connections grown since then are dark, those dropped are hollow, or grey where
            positions are below 3 screen pixels, and those that stayed are pale.
        zoom: screen pixels per position. None chooses the largest up to 6 with which the widest layer fits.
        width: screen pixels after which layers continue in the next row.

    Raises:
        TypeError: if it is no topology.
        ValueError: if there is no layer, `before` has other layers, or `zoom` is below 1.
    """
    _check(topology, before, zoom)
    zoom = zoom or _largest_zoom(topology, width)
    sheet, corners = _sheet(topology, before, zoom, width)
    ax = _exact_axes(sheet) if ax is None else ax
    ax.imshow(sheet, interpolation="none", aspect="equal")
    for name, (top, left) in corners.items():
        _name_layer(ax, name, topology[name], (left, top - CAPTION + 4))
        _frame(ax, left, top, topology[name].num_inputs * zoom, topology[name].num_outputs * zoom)
    if before is not None:
        _explain_colours(ax, has_room=zoom >= HOLLOW)
    ax.set_axis_off()
    return ax


def rank_image(ranks: Float[Tensor, "o *f"]) -> UInt8[np.ndarray, "o f 3"]:
    """Return a layer's score ranks as an image with a row per output, from white (0) to dark grey (1).

    Args:
        ranks: from `analysis.score_ranks`, 0 to 1.

    Example:
        >>> import torch
        >>> rank_image(torch.tensor([[0.0, 1.0]])).tolist()
        [[[255, 255, 255], [89, 97, 107]]]
    """
    return HEAT(ranks.flatten(1).cpu().numpy(), bytes=True)[..., :3]


def plot_scores(
    scores: Mapping[str, Mapping[str, Tensor]],
    kept: Mapping[str, Topology],
    ax: Axes | None = None,
    *,
    layer: str,
    zoom: int | None = None,
) -> Axes:
    """Draw the scores that several methods give one layer's weights, and below them the connections that each keeps.

    A position is the darker, the more of the **network's** weights score lower, so that methods with different units
    can be compared. A layer that is pale everywhere is the first to lose its connections.

    Args:
        scores: for each method a tensor per layer, for example from `scores.score_whole`.
        kept: for each method the connections that it keeps.
        ax: where to draw, or None for a new figure of the right size.
        layer: which layer, with outputs as rows and inputs as columns.
        zoom: screen pixels per position. None chooses the largest up to 6 with which the layer is not too large.

    Raises:
        ValueError: if there is no method, one is missing among `kept`, or there is no such layer.
    """
    if not scores or set(scores) != set(kept) or any(layer not in one for one in scores.values()):
        raise ValueError(
            f"every method must have scores and connections of layer {layer!r}, got scores of "
            f"{', '.join(scores) or '(none)'} and connections of {', '.join(kept) or '(none)'}"
        )
    pairs = {name: (rank_image(score_ranks(one)[layer]), mask_image(kept[name][layer])) for name, one in scores.items()}
    rows, cols = next(iter(pairs.values()))[0].shape[:2]
    zoom = zoom or max(1, min(6, 200 // max(rows, cols)))  # so that five methods fit on a page
    wide, tall = max(cols * zoom, NAME_WIDTH) + GAP, rows * zoom + CAPTION
    sheet = np.zeros((EDGE + 2 * tall + EDGE, EDGE + wide * len(pairs), 4), dtype=np.uint8)
    for left, images in zip(range(EDGE, sheet.shape[1], wide), pairs.values(), strict=True):
        for top, image in zip((EDGE + CAPTION, EDGE + CAPTION + tall), images, strict=True):
            sheet[top : top + rows * zoom, left : left + cols * zoom] = _zoomed(image, zoom)
    ax = _exact_axes(sheet) if ax is None else ax
    ax.imshow(sheet, interpolation="none", aspect="equal")
    for left, name in zip(range(EDGE, sheet.shape[1], wide), pairs, strict=True):
        _name_score(ax, name, kept[name][layer], left, tall)
        for top in (EDGE + CAPTION, EDGE + CAPTION + tall):
            _frame(ax, left, top, cols * zoom, rows * zoom)
    ax.set_ylabel(plain(f"scores of {layer}, and what they keep"))  # not drawn, but read out to those who cannot see it
    ax.set_axis_off()
    return ax


def _name_score(ax: Axes, name: str, layer: LayerTopology, left: int, below: int) -> None:
    ax.text(left, EDGE + 4, plain(name), fontsize=LABEL_SIZE, va="top", clip_on=False, color=INK)
    _small_text(ax, left, EDGE + 19, "score, as a rank")
    _small_text(ax, left, EDGE + below + 19, f"keeps {layer.count:,} of {layer.size:,}")


def _check(topology: Topology, before: Topology | None, zoom: int | None) -> None:
    check_topology(topology)
    if not len(topology):
        raise ValueError("a figure needs at least one layer, got none. Sparsify the model first")
    if before is not None:
        check_same_layers(topology, before)
    if zoom is not None and zoom < 1:
        raise ValueError(f"zoom must be at least 1 screen pixel per position, got {zoom}")


def _largest_zoom(topology: Topology, width: int) -> int:
    widest = max(layer.num_inputs for layer in topology.values())
    tallest = max(layer.num_outputs for layer in topology.values())
    # 6 pixels are plenty to see a position, and 600 fit below each other on a laptop's screen.
    return max(1, min(6, width // widest, 600 // tallest))


def _sheet(
    topology: Topology, before: Topology | None, zoom: int, width: int
) -> tuple[UInt8[np.ndarray, "h w 4"], dict[str, tuple[int, int]]]:
    """Lay the images out from left to right in rows, and return them with each layer's top left corner."""
    sizes = {name: (layer.num_outputs * zoom, layer.num_inputs * zoom) for name, layer in topology.items()}
    corners = _corners(sizes, width, EDGE if before is None else EDGE + LEGEND)
    height = max(corners[name][0] + size[0] for name, size in sizes.items()) + EDGE
    across = max(corners[name][1] + size[1] for name, size in sizes.items()) + EDGE
    sheet = np.zeros((height, across, 4), dtype=np.uint8)  # transparent
    for name, layer in topology.items():
        image = mask_image(layer, before[name] if before is not None else None)
        (top, left), (tall, wide) = corners[name], sizes[name]
        sheet[top : top + tall, left : left + wide] = _zoomed(image, zoom)
        if before is not None and zoom >= HOLLOW:
            _hollow(sheet[top : top + tall, left : left + wide], before[name] - topology[name], zoom)
    return sheet, corners


def _corners(sizes: dict[str, tuple[int, int]], width: int, top: int) -> dict[str, tuple[int, int]]:
    corners, left, row_height = {}, EDGE, 0
    for name, (tall, wide) in sizes.items():
        if left > EDGE and left + wide > width:
            top, left, row_height = top + row_height + CAPTION + GAP, EDGE, 0
        corners[name] = (top + CAPTION, left)
        left, row_height = left + max(wide, NAME_WIDTH) + GAP, max(row_height, tall)
    return corners


def _exact_axes(sheet: np.ndarray) -> Axes:
    """Return axes that fill a figure with one screen pixel per pixel of the sheet."""
    height, width = sheet.shape[:2]
    least = max(width, 330)  # room for the colours' names
    figure = NotebookFigure(figsize=(least / DPI, height / DPI), dpi=DPI, facecolor=LIGHT["paper"])
    return figure.add_axes((0, 0, width / least, 1), axes_class=NotebookAxes)


def _name_layer(ax: Axes, name: str, layer: LayerTopology, corner: tuple[int, int]) -> None:
    shape = "×".join(str(side) for side in layer.shape)
    ax.text(*corner, plain(name), fontsize=LABEL_SIZE, va="top", clip_on=False, color=INK)
    _small_text(ax, corner[0], corner[1] + 15, f"{shape}, {in_percent(layer.density)}")


def _small_text(ax: Axes, x: float, y: float, text: str) -> None:
    ax.text(x, y, text, fontsize=TICK_SIZE - 1, va="top", color=LIGHT["soft"])


def _explain_colours(ax: Axes, *, has_room: bool) -> None:
    names = (("kept", KEPT), ("grown", GROWN), ("dropped", PAPER if has_room else DROPPED))
    edges = {"dropped": DROPPED}
    ax.legend(
        handles=[Patch(facecolor=tone, edgecolor=edges.get(name, tone), label=name) for name, tone in names],
        labelcolor=INK,
        loc="upper left",
        bbox_to_anchor=(EDGE, EDGE),
        bbox_transform=ax.transData,
        ncols=3,
        frameon=False,
        fontsize=TICK_SIZE,
        borderaxespad=0.0,
        borderpad=0.0,
    )


def _zoomed(image: UInt8[np.ndarray, "o f 3"], zoom: int) -> UInt8[np.ndarray, "h w 4"]:
    opaque = np.full((*image.shape[:2], 1), 255, dtype=np.uint8)
    return np.concatenate([image, opaque], axis=2).repeat(zoom, 0).repeat(zoom, 1)


def _hollow(sheet: UInt8[np.ndarray, "h w 4"], dropped: LayerTopology, zoom: int) -> None:
    """Empty the middle of every dropped connection on a part of a sheet."""
    rows, columns = np.divmod(dropped.indices.cpu().numpy(), dropped.num_inputs)
    for row, column in zip(rows * zoom, columns * zoom, strict=True):
        sheet[row + 1 : row + zoom - 1, column + 1 : column + zoom - 1, :3] = _bytes(PAPER)


def _frame(ax: Axes, left: int, top: int, wide: int, tall: int) -> None:
    edge = {"fill": False, "edgecolor": LIGHT["faint"], "linewidth": 0.7}
    ax.add_patch(Rectangle((left - 1.5, top - 1.5), wide + 2, tall + 2, **edge))


def _bytes(colour: str) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in to_rgb(colour))
