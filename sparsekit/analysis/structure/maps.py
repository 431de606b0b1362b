"""Distances between networks as a map and as a tree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Distances = Float[np.ndarray, "t t"]


@dataclass(frozen=True, eq=False)
class MdsEmbedding:
    """Points in the plane whose distances are as near as possible to the distances of the networks.

    Args:
        points: a row for each network.
        share: of the spread that two dimensions show, 0 to 1. A map with a small share misleads.
    """

    points: Float[np.ndarray, "t 2"]
    share: float


def classical_mds(distances: Distances) -> MdsEmbedding:
    """Return a map of networks from a matrix of their distances, by classical multidimensional scaling (MDS).

    You may use any distances. For example, `1 - IoU` of masks gives a map of mask space, and the disagreement of
    outputs one of function space. For Euclidean distances the map is their principal components. The directions of the
    axes mean nothing. Each is turned so that its longest arm is positive, because machines would differ otherwise.

    Args:
        distances: symmetric, 0 on the diagonal.

    Raises:
        ValueError: if the matrix is not like that.

    Example:
        >>> embedding = classical_mds(np.array([[0.0, 3.0, 0.0], [3.0, 0.0, 3.0], [0.0, 3.0, 0.0]]))
        >>> embedding.points.round(6)[:, 0].tolist(), round(embedding.share, 6)
        ([-1.0, 2.0, -1.0], 1.0)

    Source: Torgerson (1952), Multidimensional scaling, I: theory and method.
    """
    _check(distances)
    squares = distances**2
    centred = -(squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()) / 2
    values, vectors = np.linalg.eigh(centred)
    # Distances that no plane has give negative values, and equal networks leave fewer than two dimensions.
    spread = np.maximum(values[::-1], 0.0)
    points = np.zeros((len(distances), 2))
    dimensions = min(2, len(distances))
    points[:, :dimensions] = vectors[:, ::-1][:, :dimensions] * np.sqrt(spread[:dimensions])
    longest = points[np.abs(points).argmax(0), [0, 1]]
    share = spread[:2].sum() / spread.sum() if spread.sum() else 1.0
    return MdsEmbedding(points=points * np.where(longest < 0, -1.0, 1.0), share=float(share))


def average_linkage(distances: Distances) -> Float[np.ndarray, "joins 4"]:
    """Return the tree that joins the nearest groups of networks first, by the mean distance of their members.

    There is a row per join with the two groups, their distance and the size of the new group, as
    `scipy.cluster.hierarchy` draws it. The networks are groups 0 to t - 1, and the joins are the next ones.

    Args:
        distances: symmetric, 0 on the diagonal, of two networks or more.

    Raises:
        ValueError: if the matrix is not like that.

    Example:
        >>> average_linkage(np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 4.0], [4.0, 4.0, 0.0]])).tolist()
        [[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 4.0, 3.0]]

    Source: Sokal and Michener (1958), A statistical method for evaluating systematic relationships.
    """
    from scipy.cluster.hierarchy import linkage  # here, as the import costs a second
    from scipy.spatial.distance import squareform

    _check(distances)
    if len(distances) < 2:
        raise ValueError(f"a tree must join at least two networks, got {len(distances)}")
    return linkage(squareform(distances, checks=False), method="average")


def _check(distances: Distances) -> None:
    if len(distances) == 0 or not np.allclose(distances, distances.T) or not np.allclose(np.diag(distances), 0):
        raise ValueError(
            "distances must be symmetric and 0 from each network to itself, got a matrix that is not like that. Use "
            "1 - IoU to turn a similarity such as IoU into a distance"
        )
