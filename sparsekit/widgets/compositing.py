"""Draw the fixed parts of a figure once and the moving ones anew, so that the figure follows a slider at once."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

FAST = 1  # the lightest compression of PNG, because the browser is near and time is what counts


class Compositor:
    """Render one figure again and again, fast, while a few of its artists move.

    Args:
        figure: finished, and nobody else's.
        moving: the artists on it that change between renderings, each of an axes of the figure.

    Example:
        >>> figure = Figure(figsize=(1, 1))
        >>> (line,) = figure.subplots().plot([0, 1], [0, 1])
        >>> compositor = Compositor(figure, [line])
        >>> before = compositor.render()
        >>> line.set_ydata([1, 0])
        >>> compositor.render() == before
        False
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist]):
        self._moving = list(moving)
        for artist in self._moving:
            artist.set_animated(True)  # so that the first drawing leaves it out
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def render(self) -> bytes:
        """Return the figure as it is now, as PNG."""
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            artist.draw(self._canvas.get_renderer())
        png = io.BytesIO()
        Image.fromarray(self._pixels()).save(png, "PNG", compress_level=FAST)
        return png.getvalue()

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self._pixels().shape[1]

    def _pixels(self) -> UInt8[np.ndarray, "_ _ 3"]:
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()
