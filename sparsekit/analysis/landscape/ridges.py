"""What stands between the networks of a surface, and where a scale for several surfaces should end."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sparsekit.analysis.landscape.planes import PlanePoint, Surface

ON_PLANE = 0.01  # share of its distance up to which a network counts as lying on the plane
ALONG = 81  # points of a straight line, several for each cell of a usual grid
HEADROOM = 1.3  # times the rise over the lowest value, so that a ridge stays visible below the end of the scale


class Ridge(NamedTuple):
    """The highest obstacle on the straight lines between two networks of a surface.

    Args:
        first, second: names of the two networks.
        rise: how far the loss rises, or the accuracy falls, beyond the line between the ends.
        extreme: the highest loss, or the lowest accuracy, on the way.
    """

    first: str
    second: str
    rise: float
    extreme: float


def highest_ridge(surface: Surface, of: str = "loss") -> Ridge | None:
    """Return the highest obstacle between two networks that lie on a surface's plane, or None with fewer than two.

    Between the points of the grid we interpolate, so a ridge that is narrower than a cell is missed.

    Args:
        surface: as measured.
        of: `"loss"` or `"accuracy"`.

    Raises:
        ValueError: if there is no such measure.

    Example:
        >>> axis = np.linspace(0.0, 2.0, 3)
        >>> hill = np.array([[1.0, 3.0, 1.0]] * 3)
        >>> ends = {"a": PlanePoint(x=0.0, y=0.0), "b": PlanePoint(x=2.0, y=2.0)}
        >>> highest_ridge(Surface(axis, axis, hill, 1 / hill, ends)).rise
        2.0
    """
    if of not in ("loss", "accuracy"):
        raise ValueError(f"of must be 'loss' or 'accuracy', got {of!r}. Choose one of them")
    heights = surface.loss if of == "loss" else -surface.accuracy
    places = [(name, place) for name, place in surface.points.items() if place.share <= ON_PLANE]
    ridges = [_between(surface, heights, *pair) for pair in combinations(places, 2)]
    if not ridges:
        return None
    highest = max(ridges, key=lambda ridge: ridge.rise)
    return highest if of == "loss" else highest._replace(extreme=-highest.extreme)


def clipped_range(surfaces: Sequence[Surface]) -> tuple[float, float]:
    """Return the ends of one loss scale for several surfaces, which shows what stands between networks.

    The loss at the border of a plane is often many times that of the highest ridge, and a scale that reaches there
    shows nothing else. So the scale ends at 1.3 times the rise of the highest ridge over the lowest loss. Without a
    ridge, nothing is clipped.

    Args:
        surfaces: at least one.

    Raises:
        ValueError: if there is no surface.
    """
    if not surfaces:
        raise ValueError("a scale needs at least one surface, got none. Measure one with surface(plane, batches)")
    values = np.concatenate([one.loss.ravel() for one in surfaces])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    ridges = [ridge for ridge in map(highest_ridge, surfaces) if ridge is not None and ridge.rise > 0]
    tops = [low + HEADROOM * (ridge.extreme - low) for ridge in ridges if np.isfinite(ridge.extreme)]
    high = min(high, max(tops)) if tops else high
    return low, high if high > low else low + 1.0


def _between(
    surface: Surface, heights: Float[np.ndarray, "y x"], one: tuple[str, PlanePoint], other: tuple[str, PlanePoint]
) -> Ridge:
    steps = np.linspace(0, 1, ALONG)
    x, y = (getattr(one[1], axis) * (1 - steps) + getattr(other[1], axis) * steps for axis in ("x", "y"))
    along = value_at(surface, heights, x, y)
    rise = float((along - np.linspace(along[0], along[-1], ALONG)).max())
    return Ridge(one[0], other[0], rise, float(along.max()))


def value_at(
    surface: Surface, values: Float[np.ndarray, "y x"], x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return values at points of the plane, interpolated within the grid's cells, and those of the border beyond."""
    column, across = _cell(surface.x, x)
    row, up = _cell(surface.y, y)
    right, above = np.minimum(column + 1, len(surface.x) - 1), np.minimum(row + 1, len(surface.y) - 1)
    below = values[row, column] * (1 - across) + values[row, right] * across
    over = values[above, column] * (1 - across) + values[above, right] * across
    return below * (1 - up) + over * up


def _cell(axis: Float[np.ndarray, " a"], places: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each place and how far along it lies, 0 to 1."""
    position = np.interp(places, axis, np.arange(len(axis)))
    cell = np.minimum(position.astype(int), max(0, len(axis) - 2))
    return cell, position - cell
