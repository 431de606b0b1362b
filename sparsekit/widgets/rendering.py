"""Still pictures of what the widgets show, drawn without a browser: for GitHub, documents and tests.

Text uses matplotlib's font, so that every machine draws the same letters. No pyplot: its figures are global, and
widget callbacks run on other threads.
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

from sparsekit.widgets import colours
from sparsekit.widgets.mask_encoding import Bits, tile_limit, tile_size

Rgba = UInt8[np.ndarray, "_ _ 4"]
GAP = 14  # pixels between tiles
LINE = 17  # pixels per line of text


class Picture(bytes):
    """The bytes of a PNG with the sentence that says what it shows; displays itself in a notebook."""

    alt: str

    def __new__(cls, png: bytes, alt: str) -> "Picture":
        """Join a PNG and its sentence."""
        picture = super().__new__(cls, png)
        picture.alt = alt
        return picture

    def __repr__(self) -> str:
        return self.alt  # IPython writes whatever is bytes with `repr`

    def _repr_png_(self) -> bytes:
        return bytes(self)


def tile(layer: Bits) -> Rgba:
    """Draw one layer, one pixel per place, as the browser does.

    Example:
        >>> from sparsekit.widgets.mask_encoding import pack
        >>> tile(pack((1, 2), np.array([[True, False]])))[0].tolist()
        [[18, 53, 91, 255], [244, 241, 234, 255]]
    """
    table = np.array([(*colours.rgb(colour), 255) for colour in (colours.PAPER, colours.INK)], dtype=np.uint8)
    return table[layer.mask().astype(np.uint8)]


def tiles(layers: Mapping[str, Bits], captions: Sequence[str] = (), *, width: int = 860) -> Rgba:
    """Draw all layers with their names and captions, side by side as far as the width goes, then below."""
    limit = tile_limit(len(layers))
    blocks = [
        _labelled(_scaled(tile(layer), limit), name, caption)
        for (name, layer), caption in zip(layers.items(), captions or [""] * len(layers), strict=True)
    ]
    return stack([beside(row) for row in _wrapped(blocks, width)]) if blocks else text(["No sparse layers."])


def text(lines: Sequence[str], *, bold: int = 0) -> Rgba:
    """Write lines of text; the first `bold` of them in bold."""
    fonts = [_font(bold=number < bold) for number in range(len(lines))]
    width = max((int(font.getlength(line)) for font, line in zip(fonts, lines, strict=True)), default=0)
    image = Image.new("RGBA", (width + 2, LINE * max(1, len(lines))), "white")
    draw = ImageDraw.Draw(image)
    for number, (font, line) in enumerate(zip(fonts, lines, strict=True)):
        draw.text((0, number * LINE + 2), line, fill=(33, 33, 33, 255), font=font)
    return np.asarray(image)


def columns(rows: Sequence[Sequence[str]]) -> Rgba:
    """Write a table: the first row in bold, a column as wide as its longest cell."""
    parts = [text(cells, bold=1) for cells in zip(*rows, strict=True)]
    return beside(parts)


def stack(parts: Sequence[Rgba], *, gap: int = GAP) -> Rgba:
    """Put pictures below each other on white."""
    width = max(part.shape[1] for part in parts)
    rows = [
        _padded(part, part.shape[0] + (gap if place + 1 < len(parts) else 0), width) for place, part in enumerate(parts)
    ]
    return np.concatenate(rows)


def beside(parts: Sequence[Rgba]) -> Rgba:
    """Put pictures next to each other on white, their lower edges in line."""
    height = max(part.shape[0] for part in parts)
    widths = [part.shape[1] + (GAP if place + 1 < len(parts) else 0) for place, part in enumerate(parts)]
    lowered = [np.pad(part, ((height - part.shape[0], 0), (0, 0), (0, 0)), constant_values=255) for part in parts]
    return np.concatenate([_padded(part, height, width) for part, width in zip(lowered, widths, strict=True)], axis=1)


def figure_rgba(figure: Figure) -> Rgba:
    """Draw a figure that belongs to nobody else, with no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def png(rgba: Rgba) -> bytes:
    """Write a picture as PNG with a white margin, the same bytes each time."""
    buffer = io.BytesIO()
    framed = np.pad(rgba, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    Image.fromarray(framed).convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _scaled(rgba: Rgba, limit: int) -> Rgba:
    rows, cols, _ = rgba.shape
    size = tile_size(rows, cols, limit)
    bigger = size[0] >= cols and size[1] >= rows
    way = Image.Resampling.NEAREST if bigger else Image.Resampling.BOX
    return np.asarray(Image.fromarray(rgba).resize(size, way))


def _labelled(rgba: Rgba, name: str, caption: str) -> Rgba:
    return stack([rgba, text([name, caption], bold=1)], gap=4)


def _wrapped(blocks: Sequence[Rgba], width: int) -> list[list[Rgba]]:
    rows: list[list[Rgba]] = []
    used = width + 1
    for block in blocks:
        used += GAP + block.shape[1]
        if used > width:
            rows.append([])
            used = block.shape[1]
        rows[-1].append(block)
    return rows


def _padded(rgba: Rgba, height: int, width: int) -> Rgba:
    extra = ((0, height - rgba.shape[0]), (0, width - rgba.shape[1]), (0, 0))
    return np.pad(rgba, extra, constant_values=255)


@cache
def _font(*, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), 12)
