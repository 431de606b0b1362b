"""A figure of which a few parts move: all the rest is drawn once, so that a slider is followed at once."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

FAST = 1  # the lightest compression of PNG: the browser is near, and time is what counts


class Stage:
    """Pictures of one figure, quickly one after another.

    Args:
        figure: finished, and nobody else's.
        moving: the artists on it that change between pictures, each of an axes of the figure.

    Example:
        >>> figure = Figure(figsize=(1, 1))
        >>> (line,) = figure.subplots().plot([0, 1], [0, 1])
        >>> stage = Stage(figure, [line])
        >>> before = stage.picture()
        >>> line.set_ydata([1, 0])
        >>> stage.picture() == before
        False
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist]):
        self._moving = list(moving)
        for artist in self._moving:
            artist.set_animated(True)  # left out when everything is drawn
        self._canvas = FigureCanvasAgg(figure)
        self._canvas.draw()
        self._empty = self._canvas.copy_from_bbox(figure.bbox)

    def picture(self) -> bytes:
        """Return the figure as it is now, as PNG."""
        self._canvas.restore_region(self._empty)
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
