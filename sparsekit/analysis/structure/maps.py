"""Distances between networks as a map and as a tree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Distances = Float[np.ndarray, "t t"]


@dataclass(frozen=True, eq=False)
class Map:
    """Points in the plane whose distances are as near as can be to given ones.

    Args:
        points: a row for each network.
        share: of the spread that two dimensions show, 0 to 1; a map with a small share misleads.
    """

    points: Float[np.ndarray, "t 2"]
    share: float


def map_of(distances: Distances) -> Map:
    """Return the map that a matrix of distances describes: classical multidimensional scaling.

    Any distances will do: `1 - IoU` of masks gives a map of mask space, disagreement of outputs one of function space.
    For Euclidean distances it is their principal components. Which way is up says nothing: each axis is turned so that
    its longest arm is positive, or else machines would differ.

    Args:
        distances: symmetric, 0 on the diagonal.

    Raises:
        ValueError: if the matrix is not so.

    Example:
        >>> found = map_of(np.array([[0.0, 3.0, 0.0], [3.0, 0.0, 3.0], [0.0, 3.0, 0.0]]))
        >>> found.points.round(6)[:, 0].tolist(), round(found.share, 6)
        ([-1.0, 2.0, -1.0], 1.0)

    Source: Torgerson (1952), Multidimensional scaling, I: theory and method.
    """
    _check(distances)
    squares = distances**2
    centred = -(squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()) / 2
    values, vectors = np.linalg.eigh(centred)
    # Distances that no plane has give negative values; networks that are equal leave fewer than two dimensions.
    spread = np.maximum(values[::-1], 0.0)
    points = np.zeros((len(distances), 2))
    kept = min(2, len(distances))
    points[:, :kept] = vectors[:, ::-1][:, :kept] * np.sqrt(spread[:kept])
    longest = points[np.abs(points).argmax(0), [0, 1]]
    share = spread[:2].sum() / spread.sum() if spread.sum() else 1.0
    return Map(points=points * np.where(longest < 0, -1.0, 1.0), share=float(share))


def tree_of(distances: Distances) -> Float[np.ndarray, "joins 4"]:
    """Return the tree that joins the nearest groups of networks first, each as far apart as its members on average.

    A row per join: the two groups, their distance, and the size of the new group, as `scipy.cluster.hierarchy` draws
    it. Networks are groups 0 to t - 1, joins the next ones.

    Args:
        distances: symmetric, 0 on the diagonal, of two networks or more.

    Raises:
        ValueError: if the matrix is not so.

    Example:
        >>> tree_of(np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 4.0], [4.0, 4.0, 0.0]])).tolist()
        [[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 4.0, 3.0]]

    Source: Sokal and Michener (1958), A statistical method for evaluating systematic relationships.
    """
    from scipy.cluster.hierarchy import linkage  # costs a second; only this needs it
    from scipy.spatial.distance import squareform

    _check(distances)
    if len(distances) < 2:
        raise ValueError(f"a tree must join at least two networks, got {len(distances)}")
    return linkage(squareform(distances, checks=False), method="average")


def _check(distances: Distances) -> None:
    if len(distances) == 0 or not np.allclose(distances, distances.T) or not np.allclose(np.diag(distances), 0):
        raise ValueError(
            "distances must be symmetric and 0 from each network to itself, got a matrix that is not so; a similarity "
            "such as IoU becomes a distance as 1 - IoU"
        )
