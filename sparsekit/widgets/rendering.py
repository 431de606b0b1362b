"""Draw what the widgets show as static images, without a browser, for GitHub, documents and tests.

Text uses matplotlib's font, so that every machine draws the same letters. We avoid pyplot, because its figures are
global and widget callbacks run on other threads.
"""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from sparsekit.plots.vector import drawing_of
from sparsekit.widgets import colours
from sparsekit.widgets.mask_encoding import PackedMask, tile_limit, tile_size

Rgba = UInt8[np.ndarray, "_ _ 4"]
GAP = 14  # pixels between tiles
LINE = 17  # pixels per line of text


class StaticImage(bytes):
    """A static image is a PNG with the sentence that says what it shows. It displays itself in a notebook.

    If it was drawn as a figure, the notebook also gets a drawing, which is light on light pages and dark on dark ones.
    """

    alt: str
    figure: Figure | None

    def __new__(cls, png: bytes, alt: str, figure: Figure | None = None) -> "StaticImage":
        """Join a PNG, its sentence and the figure that it was made from."""
        image = super().__new__(cls, png)
        image.alt, image.figure = alt, figure
        return image

    @classmethod
    def of_figure(cls, figure: Figure, alt: str, *, colours: int | None = None) -> "StaticImage":
        """Draw a figure that belongs to nobody else, with as many different `colours` as `png` is told to keep."""
        return cls(png(figure_rgba(figure), colours=colours), alt, figure)

    def __repr__(self) -> str:
        return self.alt  # IPython writes whatever is bytes with `repr`

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def _repr_svg_(self) -> str | None:
        return None if self.figure is None else drawing_of(self.figure, self.alt)


def tile(layer: PackedMask) -> Rgba:
    """Draw one layer with one pixel per position, as the browser does.

    Example:
        >>> from sparsekit.widgets.mask_encoding import pack
        >>> tile(pack((1, 2), np.array([[True, False]])))[0].tolist()
        [[22, 25, 29, 255], [255, 255, 255, 255]]
    """
    table = np.array([(*colours.rgb(colour), 255) for colour in (colours.PAPER, colours.INK)], dtype=np.uint8)
    return table[layer.mask().astype(np.uint8)]


def tiles(layers: Mapping[str, PackedMask], captions: Sequence[str] = (), *, width: int = 860) -> Rgba:
    """Draw all layers with their names and captions, side by side as far as the width allows, then below."""
    limit = tile_limit(len(layers))
    blocks = [
        _labelled(_scaled(tile(layer), limit), name, caption)
        for (name, layer), caption in zip(layers.items(), captions or [""] * len(layers), strict=True)
    ]
    return stack([beside(row) for row in _rows_of(blocks, width)]) if blocks else text(["There are no sparse layers."])


def text(lines: Sequence[str], *, bold: int = 0) -> Rgba:
    """Write lines of text, the first `bold` of them in bold."""
    fonts = [_font(bold=number < bold) for number in range(len(lines))]
    width = max((int(font.getlength(line)) for font, line in zip(fonts, lines, strict=True)), default=0)
    image = Image.new("RGBA", (width + 2, LINE * max(1, len(lines))), "white")
    draw = ImageDraw.Draw(image)
    for number, (font, line) in enumerate(zip(fonts, lines, strict=True)):
        draw.text((0, number * LINE + 2), line, fill=(33, 33, 33, 255), font=font)
    return np.asarray(image)


def columns(rows: Sequence[Sequence[str]]) -> Rgba:
    """Write a table whose first row is bold and whose columns are as wide as their longest cells."""
    parts = [text(cells, bold=1) for cells in zip(*rows, strict=True)]
    return beside(parts)


def stack(parts: Sequence[Rgba], *, gap: int = GAP) -> Rgba:
    """Put images below each other on white."""
    width = max(part.shape[1] for part in parts)
    heights = [part.shape[0] + (gap if number + 1 < len(parts) else 0) for number, part in enumerate(parts)]
    return np.concatenate([_padded(part, height, width) for part, height in zip(parts, heights, strict=True)])


def beside(parts: Sequence[Rgba]) -> Rgba:
    """Put images next to each other on white, with their lower edges in line."""
    height = max(part.shape[0] for part in parts)
    widths = [part.shape[1] + (GAP if number + 1 < len(parts) else 0) for number, part in enumerate(parts)]
    aligned = [np.pad(part, ((height - part.shape[0], 0), (0, 0), (0, 0)), constant_values=255) for part in parts]
    return np.concatenate([_padded(part, height, width) for part, width in zip(aligned, widths, strict=True)], axis=1)


def figure_rgba(figure: Figure) -> Rgba:
    """Draw a figure that belongs to nobody else, without global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def png(rgba: Rgba, *, colours: int | None = None) -> bytes:
    """Write an image as PNG with a white margin. The same image always gives the same bytes.

    Args:
        rgba: the image.
        colours: how many different ones to keep, for images of many fine lines, which a quarter of the bytes will do
            for then. None keeps all.
    """
    buffer = io.BytesIO()
    padded = np.pad(rgba, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    image = Image.fromarray(padded).convert("RGB")
    image = image if colours is None else image.quantize(colours, dither=Image.Dither.NONE)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _scaled(rgba: Rgba, limit: int) -> Rgba:
    rows, cols, _ = rgba.shape
    size = tile_size(rows, cols, limit)
    grows = size[0] >= cols and size[1] >= rows
    resampling = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(rgba).resize(size, resampling))


def _labelled(rgba: Rgba, name: str, caption: str) -> Rgba:
    return stack([rgba, text([name, caption], bold=1)], gap=4)


def _rows_of(blocks: Sequence[Rgba], width: int) -> list[list[Rgba]]:
    rows: list[list[Rgba]] = []
    row_width = width + 1
    for block in blocks:
        row_width += GAP + block.shape[1]
        if row_width > width:
            rows.append([])
            row_width = block.shape[1]
        rows[-1].append(block)
    return rows


def _padded(rgba: Rgba, height: int, width: int) -> Rgba:
    margins = ((0, height - rgba.shape[0]), (0, width - rgba.shape[1]), (0, 0))
    return np.pad(rgba, margins, constant_values=255)


@cache
def _font(*, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), 12)
