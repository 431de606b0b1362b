"""How the loss of sparse networks falls with their size and density: a law of six numbers, fitted by least squares."""

from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

STARTS = 40  # of the search, which ends in a wrong valley from some
LOWEST = (0.0, -20.0, 0.01, 0.0, 0.0, 0.05)  # floor, log of scale, size power, density power, sparse cost, sparse power
HIGHEST = (np.inf, 40.0, 3.0, 5.0, 20.0, 8.0)
Six = Float[np.ndarray, "6"]
Runs = Float[np.ndarray, "runs"]


@dataclass(frozen=True)
class ScalingLaw:
    """Loss as `floor + scale * (s ** density_power + sparse_cost * (1 - s) ** sparse_power) / n ** size_power`.

    Here `n` is the number of connections and `s` the density, in (0, 1]. A dense network has `s = 1`, so its law is
    `floor + scale / n ** size_power`.

    Example:
        >>> law = ScalingLaw(
        ...     floor=0.3, scale=60.0, size_power=0.5, density_power=0.4, sparse_cost=0.5, sparse_power=1.0
        ... )
        >>> round(law.loss(10_000, 1.0), 3), round(law.loss(10_000, 0.1), 3)
        (0.9, 0.809)

    Source: the form is that of "Sparse scaling laws with repeated data" (ICML 2026), without its term for the amount
        of data, which is part of the floor here.
    """

    floor: float
    scale: float
    size_power: float
    density_power: float
    sparse_cost: float
    sparse_power: float

    def loss(self, connections: float, density: float) -> float:
        """Return the loss of a network with so many connections at this density."""
        return float(_loss(np.array(astuple(self)), np.array([float(connections)]), np.array([density]))[0])

    def best_density(self) -> float:
        """Return the density at which a fixed number of connections has the lowest loss, to the nearest per cent.

        It does not depend on their number, because number and density stand in two factors of the law.
        """
        densities = np.linspace(0.01, 1.0, 100)
        losses = _loss(np.array(astuple(self)), np.ones_like(densities), densities)
        return float(densities[losses.argmin()])


def fit_scaling_law(runs: pd.DataFrame, *, starts: int = STARTS) -> tuple[ScalingLaw, float]:
    """Return the law that fits losses best, and how far it is off: the root mean square of the relative errors.

    The search begins at several points, which are the same in every call, and the best end counts. Several sizes at
    each density are needed, and several densities, of which one is 1. Otherwise some numbers stay open.

    Args:
        runs: one row per network, with the columns `connections`, `density` and `loss` (nats, above zero).
        starts: of the search.

    Raises:
        ValueError: if a column is missing, a number is impossible, or the runs cannot tell six numbers apart.

    Example:
        >>> law = ScalingLaw(0.3, 60.0, 0.5, 0.4, 0.5, 1.0)
        >>> runs = [(n * s, s) for n in (2000, 6000, 20000, 60000) for s in (0.05, 0.1, 0.2, 0.5, 1.0)]
        >>> table = pd.DataFrame(runs, columns=["connections", "density"])
        >>> fitted, error = fit_scaling_law(table.assign(loss=[law.loss(*run) for run in runs]), starts=10)
        >>> round(fitted.size_power, 3), round(fitted.density_power, 3), error < 1e-6
        (0.5, 0.4, True)
    """
    from scipy.optimize import least_squares  # here, as the import costs a second

    connections, densities, losses = _columns(runs)
    _check(connections, densities, losses)
    highest = (losses.min(), *HIGHEST[1:])
    ends = [
        least_squares(
            lambda guess: (_loss(_plain(guess), connections, densities) - losses) / losses,
            begin,
            bounds=(LOWEST, highest),
            x_scale="jac",
            max_nfev=400,
        )
        for begin in _beginnings(connections, losses, starts)
    ]
    best = min(ends, key=lambda end: end.cost)
    return ScalingLaw(*map(float, _plain(best.x))), float(np.sqrt(2 * best.cost / len(losses)))


def _loss(law: Six, connections: Runs, densities: Runs) -> Runs:
    floor, scale, size_power, density_power, sparse_cost, sparse_power = law
    return floor + scale * (densities**density_power + sparse_cost * (1 - densities) ** sparse_power) / (
        connections**size_power
    )


def _plain(searched: Six) -> Six:
    """Return the numbers of the law from those of the search, where the scale is a logarithm."""
    return np.array([searched[0], np.exp(searched[1]), *searched[2:]])


def _beginnings(connections: Runs, losses: Runs, count: int) -> Float[np.ndarray, "starts 6"]:
    rng, spread = np.random.default_rng(0), losses.max() - losses.min() + 1e-3 * losses.max()
    powers = rng.uniform(0.05, 1.2, count)
    scales = np.log(spread) + powers * np.log(np.median(connections))
    others = rng.uniform((0.05, 0.05, 0.3), (1.5, 2.0, 3.0), (count, 3))
    return np.column_stack([rng.uniform(0, 0.999 * losses.min(), count), scales, powers, others])


def _columns(runs: pd.DataFrame) -> list[Runs]:
    names = ["connections", "density", "loss"]
    missing = [name for name in names if name not in runs]
    if missing:
        raise ValueError(f"runs must have the columns {', '.join(names)}, got no {' and no '.join(missing)}. Add them")
    return [runs[name].to_numpy(dtype=float) for name in names]


def _check(connections: Runs, densities: Runs, losses: Runs) -> None:
    if not (np.isfinite(losses) & (losses > 0) & (connections >= 1) & (densities > 0) & (densities <= 1)).all():
        raise ValueError(
            "losses must be finite and above zero, connections at least 1 and densities in (0, 1], got others in "
            "some row. Take out runs that failed"
        )
    sizes = [len(np.unique(connections[densities == density])) for density in np.unique(densities)]
    if len(losses) < 7 or len(sizes) < 3 or max(sizes) < 3:
        raise ValueError(
            f"six numbers need 7 runs, 3 densities and 3 sizes at one of them at least, got {len(losses)} runs, "
            f"{len(sizes)} densities and {max(sizes, default=0)} sizes. Train more of them"
        )
