"""MNIST-1D: ten shapes of 40 numbers each, made by a formula. It is small, yet separates good models from weak ones.

Legend: `N` examples, `W` width of the canvas on which a shape is drawn.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from sparsekit.datasets.base import Dataset, Split
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

# Ten strokes, each 12 heights from top to bottom of a digit. We drew them after the paper's figure and did not take
# them from its code. So the shapes, and with them all accuracies, are near the published ones and not equal.
TEMPLATES = (
    (5, 6.2, 7, 7.5, 7.8, 8, 8, 7.8, 7.5, 7, 6.2, 5),
    (5, 3.2, 2.6, 3.1, 3.6, 4.1, 4.6, 5.1, 5.6, 6.1, 6.6, 5),
    (5, 6, 6.9, 7, 6.2, 5, 3.8, 3, 2.8, 3.2, 4, 5),
    (5, 6.4, 7, 6.4, 5.2, 5, 5, 5.2, 6.4, 7, 6.4, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2, 2, 5, 5, 5, 5, 5),
    (5, 3.4, 3.4, 3.4, 3.4, 6.6, 7, 7, 6.8, 6.2, 5.6, 5),
    (5, 4, 3.2, 2.6, 2.2, 2, 2, 2.2, 2.6, 3.2, 4, 5),
    (5, 7.4, 7.4, 6.9, 6.4, 5.9, 5.4, 4.9, 4.4, 3.9, 4.4, 5),
    (5, 3.6, 3, 3.6, 4.8, 5, 5, 4.8, 3.6, 3, 3.6, 5),
    (5, 3.6, 2.6, 2.6, 3.6, 5, 5, 5, 5, 4.8, 4.6, 5),
)
HEIGHT = 1 / 6  # deviation of a drawn shape, beside which the noise settings below are to be read


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How shapes are drawn. The defaults are the published ones.

    Source: Greydanus (2020), arXiv:2011.14439, and the default settings of its released code.

    Raises:
        ValueError: if a count is below what makes sense.
    """

    num_train: int = setting(4000, "training examples", range=(10, 40_000))
    num_test: int = setting(1000, "test examples", range=(10, 10_000))
    length: int = setting(40, "numbers per example", range=(8, 72))
    least_padding: int = setting(36, "least empty space beside a shape", range=(0, 60))
    most_padding: int = setting(60, "most empty space beside a shape", range=(0, 60))
    most_shift: int = setting(48, "largest shift along the canvas", range=(0, 60))
    scaling: float = setting(0.4, "width of the range of heights", range=(0.0, 1.0))
    waves: float = setting(0.25, "smooth noise in the empty space", range=(0.0, 1.0))
    grain: float = setting(0.02, "noise of single points", range=(0.0, 1.0))
    shear: float = setting(0.75, "width of the range of slopes", range=(0.0, 2.0))
    seed: int = setting(42, "which examples are drawn", range=(0, 1000))

    def __post_init__(self):
        if min(self.num_train, self.num_test) < 1 or self.length < 2:
            raise ValueError(
                f"num_train and num_test must be at least 1 and length at least 2, got {self.num_train}, "
                f"{self.num_test} and {self.length}. Try the published 4000, 1000 and 40"
            )
        if not 0 <= self.least_padding <= self.most_padding:
            raise ValueError(
                f"paddings must satisfy 0 <= least <= most, got {self.least_padding} and {self.most_padding}. "
                "Exchange or raise them"
            )

    @property
    def width(self) -> int:
        """Points of the canvas, `W`: a shape with the most padding fits exactly."""
        return len(TEMPLATES[0]) + self.most_padding


@register("data", "mnist1d")
def mnist1d(*, root: Path | None = None, **settings: Any) -> Dataset:
    """Ten synthetic shapes of 40 numbers, 4,000 to train and 1,000 to test, which needs no file.

    Each example is one of ten strokes, padded and stretched to 12 + 60 points, scaled in height and shifted. It is then
    surrounded by smooth noise, tilted, and read off at 40 points. Published test accuracies: logistic regression 32 %,
    MLP 68 %, convolutional network 94 %. Our strokes are not the authors' (see `TEMPLATES`), so compare within this
    project only. Here models of these kinds reach about 30, 64 and 92 %.
    Source: Greydanus (2020), "Scaling down deep learning", arXiv:2011.14439, section 2.

    Args:
        root: not needed, since the examples are made.
        settings: fields of `Drawing`, for example `shear=0.0`.

    Raises:
        TypeError: if a setting is unknown.
        ValueError: if a setting makes no sense.

    Example:
        >>> data = mnist1d(num_train=100, num_test=50)
        >>> data.train.inputs.shape, data.train.inputs.dtype
        (torch.Size([100, 40]), torch.float32)
    """
    drawing = Drawing(**settings)
    inputs, labels = _draw_once(drawing)
    whole = Split(inputs=torch.from_numpy(inputs).float(), labels=torch.from_numpy(labels))
    order = torch.arange(len(whole))
    return Dataset(
        name="mnist1d",
        train=whole.at(order[: drawing.num_train]),
        test=whole.at(order[drawing.num_train :]),
        classes=tuple("0123456789"),
        source="synthetic, after Greydanus (2020), arXiv:2011.14439, with strokes of our own",
    )


def draw(drawing: Drawing) -> tuple[Float[np.ndarray, "n length"], Int64[np.ndarray, " n"]]:
    """Return all examples in random order, standardised as a whole, and their labels.

    Example:
        >>> inputs, labels = draw(Drawing(num_train=30, num_test=20))
        >>> inputs.shape, np.bincount(labels).tolist()
        ((50, 40), [5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    """
    # NumPy promises that RandomState's numbers never change between its versions, while default_rng's may.
    random = np.random.RandomState(drawing.seed)
    count = drawing.num_train + drawing.num_test
    labels = random.permutation(np.arange(count) % len(TEMPLATES)).astype(np.int64)
    shapes = _stretch(_strokes()[labels], drawing, random)
    shapes *= 1 - drawing.scaling * (random.rand(count, 1) - 0.5)
    shapes = _shift(shapes, random.randint(0, drawing.most_shift + 1, size=(count, 1)))
    curves = np.where(shapes == 0, drawing.waves * _smooth_noise(random, shapes.shape), shapes)
    curves += drawing.grain * random.randn(*curves.shape)
    curves -= drawing.shear * (random.rand(count, 1) - 0.5) * np.linspace(-0.5, 0.5, drawing.width)
    sampled = _resample(curves, np.linspace(0, drawing.width - 1, drawing.length)[None])
    return (sampled - sampled.mean()) / sampled.std(), labels


# A run loads its data wherever it stops and continues. The splits are copies, so nobody can change what is here.
_draw_once = lru_cache(maxsize=2)(draw)


def _strokes() -> np.ndarray:
    """Return the ten templates (10, 12), each of the same deviation and 0 at both ends, where the padding joins it."""
    strokes = np.array(TEMPLATES)
    strokes -= strokes[:, :1]
    tiny = 1e-8  # tells a stroke's own zeros from the empty space, where the noise goes
    return HEIGHT * strokes / strokes.std(axis=1, keepdims=True) + tiny


def _stretch(strokes: np.ndarray, drawing: Drawing, random: np.random.RandomState) -> np.ndarray:
    """Pad each stroke (N, 12) with some zeros and stretch it to the canvas (N, W). Less padding gives a wider shape."""
    padding = random.randint(drawing.least_padding, drawing.most_padding + 1, size=(len(strokes), 1))
    last = strokes.shape[1] + padding - 1
    padded = np.pad(strokes, ((0, 0), (0, drawing.most_padding)))
    return _resample(padded, last * np.linspace(0, 1, drawing.width))


def _shift(shapes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Move each row (N, W) along by its number of steps (N, 1). What leaves at the end enters at the start."""
    columns = (np.arange(shapes.shape[1]) - steps) % shapes.shape[1]
    return np.take_along_axis(shapes, columns, axis=1)


def _smooth_noise(random: np.random.RandomState, shape: tuple[int, int]) -> np.ndarray:
    """Return noise whose neighbours are alike: white noise under a Gaussian window of deviation 2 points."""
    reach = 8  # four deviations. What lies beyond weighs less than 0.001
    window = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * 2**2))
    white = random.randn(shape[0], shape[1] + 2 * reach)
    return np.lib.stride_tricks.sliding_window_view(white, len(window), axis=1) @ (window / window.sum())


def _resample(rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Read each row (N, W) at fractional positions (N or 1, P), with straight lines between its points."""
    positions = np.broadcast_to(positions, (len(rows), positions.shape[1]))
    columns = np.minimum(positions.astype(np.int64), rows.shape[1] - 2)
    weight = positions - columns
    before, after = (np.take_along_axis(rows, columns + side, axis=1) for side in (0, 1))
    return (1 - weight) * before + weight * after
