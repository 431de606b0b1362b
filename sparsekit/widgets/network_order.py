"""An order of the units of each column in which few lines of a drawing cross.

Each unit moves to the mean position of its neighbours, weighted by the magnitudes of their connections, and this is
repeated some times. It is the barycentre method of Sugiyama, Tagawa and Toda (1981), section III.B.
"""

import numpy as np
from jaxtyping import Float, Int64

from sparsekit.widgets.network_frames import Frame, Shapes, matrices

SWEEPS = 12  # after which the order hardly changes


def order_of_units(shapes: Shapes, frame: Frame, image: tuple[int, int] | None = None) -> list[list[int]]:
    """Return the units of each column in their order, counted through all columns.

    Inputs and classes keep their own order. Units without connections are spread among the others.

    Args:
        shapes: of the layers.
        frame: whose magnitudes count.
        image: height and width of an input that is an image, whose pixels stand at the height of their row.

    Example:
        >>> frame = Frame(0, 0, np.array([1, 2, 5, 6]), np.ones(4), np.zeros(4))
        >>> order_of_units(((2, 2), (2, 2)), frame)
        [[0, 1], [3, 2], [4, 5]]
    """
    sizes = [shapes[0][1], *(outputs for outputs, _ in shapes)]
    first = np.cumsum([0, *sizes])
    positions = [(np.arange(size) + 0.5) / size for size in sizes]
    if image is not None:
        rows, columns = np.divmod(np.arange(sizes[0]), image[1])
        positions[0] = (rows + 0.5 + 0.01 * columns) / image[0]
    strengths = [np.abs(weight) for weight in matrices(shapes, frame)]
    orders = [np.arange(size) for size in sizes]
    for _ in range(SWEEPS):
        for column in range(len(shapes) - 1, 0, -1):
            orders[column] = _order(strengths[column - 1], strengths[column], positions[column - 1 : column + 2])
            positions[column][orders[column]] = (np.arange(sizes[column]) + 0.5) / sizes[column]
    return [(order + start).tolist() for order, start in zip(orders, first, strict=False)]


def _order(
    arriving: Float[np.ndarray, "u before"], leaving: Float[np.ndarray, "after u"], positions: list[np.ndarray]
) -> Int64[np.ndarray, " u"]:
    mass = arriving.sum(1) + leaving.sum(0)
    moment = arriving @ positions[0] + leaving.T @ positions[2]
    busy, idle = np.flatnonzero(mass), np.flatnonzero(mass == 0)
    in_order = busy[np.argsort(moment[busy] / mass[busy], kind="stable")].tolist()
    for number, unit in enumerate(idle.tolist()):
        in_order.insert(round((number + 0.5) / len(idle) * len(in_order)), unit)
    return np.array(in_order, dtype=np.int64)
