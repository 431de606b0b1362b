"""In-time over-parameterisation: how much of the dense network a sparse training run has tried so far."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from sparsekit.analysis.dynamics.evolution import Lives, in_order, share_table, timed
from sparsekit.topology import Topology


def exploration(topologies: Iterable[Topology]) -> pd.DataFrame:
    """Return R_s after each rewiring: the share of places that have ever held a connection, 0 to 1.

    `R_s(t) = |m_0 or m_1 or ... or m_t| / size`. It starts at the density and never falls. One row per
    topology (row 0 is before the first rewiring), one column per layer and one, `"network"`, for all
    together.

    Raises:
        ValueError: if there is no topology, or layers differ.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0], [1], [0])]
        >>> exploration(path)["network"].tolist()
        [0.25, 0.5, 0.5]

    Source: Liu et al. (2021), arXiv:2102.02887 (ITOP), section 3.
    """
    return _filled_shares(_ever(topologies))


def reliable_exploration(
    topologies: Iterable[Topology], tau: int, *, starts: Sequence[int] | None = None, end: int | None = None
) -> pd.DataFrame:
    """Return R_s of the places that a connection has held for at least `tau` steps in a row, 0 to 1.

    A connection that is dropped before it could be trained tells nothing about its place. `tau = 0` gives
    `exploration`. Each row is taken as its topology begins, the last one at `end`: without it a run that never
    rewires would prove nothing.

    Args:
        topologies: in order, the first before the first rewiring.
        tau: how long, in steps; in rewirings where `starts` is not given.
        starts: the step at which each topology began.
        end: the step at which the last topology ended, the length of the training, in the unit of `tau`; the
            step at which it began if None.

    Raises:
        ValueError: if `tau` is negative, there is no topology, layers differ, `starts` does not fit, or the end
            lies before the last start.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [0, 2], [0, 2])]
        >>> reliable_exploration(path, 2)["network"].tolist()
        [0.0, 0.0, 0.25]
        >>> reliable_exploration(path[:1], 300, starts=[0], end=1000)["network"].tolist()
        [0.5]

    Source: our reading of "reliably explored" in Liu et al. (2021), arXiv:2102.02887, section 3; they give no
        formula.
    """
    if tau < 0:
        raise ValueError(f"tau must be at least 0 steps, got {tau}; 0 counts every connection")
    return _filled_shares(_long_lived(topologies, tau, starts, end))


def coverage_expected(density: float, fraction: float, *, num_rewirings: int, allow_regrowth: bool = True) -> float:
    """Return the R_s to expect if every rewiring exchanges the same fraction and growth is random.

    `1 - (1 - d) * (1 - r * d / pool) ** n`, where the pool of places to grow in is the share `1 - d + r * d`
    if what was just dropped may come back (ITOP's rule), and `1 - d` if not. Gradient growth returns to the
    same places again and again, so it stays far below.

    Args:
        density: share of places taken, in (0, 1).
        fraction: share of connections exchanged at each rewiring, 0 to 1.
        num_rewirings: how many rewirings.
        allow_regrowth: whether a connection dropped now may come back at once.

    Raises:
        ValueError: if a number lies outside its range, or more connections are exchanged than there are free
            places.

    Example:
        >>> [round(coverage_expected(0.05, 0.5, num_rewirings=n), 4) for n in (1, 5, 50)]
        [0.0744, 0.1657, 0.7408]

    Source: derived for this package for the random growth of Liu et al. (2021), arXiv:2102.02887, and checked
    by simulation in the tests.
    """
    return float(coverage_curve(density, [fraction] * num_rewirings, allow_regrowth=allow_regrowth)[-1])


def exploration_expected(first: Topology, fractions: Sequence[float], *, allow_regrowth: bool = True) -> pd.DataFrame:
    """Return the table of `exploration` to expect if growth is random and every layer keeps its count.

    Layers of unequal density explore at unequal speed, and a dense one has nothing left to try, so the
    network's column differs from `coverage_curve` at the network's density.

    Args:
        first: the topology before the first rewiring.
        fractions: the drop fraction of each rewiring, 0 to 1.
        allow_regrowth: whether a connection dropped now may come back at once.

    Raises:
        ValueError: if a fraction lies outside its range, or a layer has too few free places.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> net = Topology({"a": LayerTopology((1, 2), torch.tensor([0])), "b": LayerTopology.full((1, 2))})
        >>> exploration_expected(net, [1.0], allow_regrowth=False).loc[1].to_dict()
        {'a': 1.0, 'b': 1.0, 'network': 1.0}
    """
    curves = {name: _layer_curve(layer.density, fractions, allow_regrowth) for name, layer in first.items()}
    covered = sum(curves[name] * layer.size for name, layer in first.items())
    table = pd.DataFrame({**curves, "network": covered / max(1, first.size)})
    return table.rename_axis("rewiring")


def coverage_curve(
    density: float, fractions: Sequence[float], *, allow_regrowth: bool = True
) -> Float[np.ndarray, " rewirings_and_one"]:
    """Return the R_s to expect before and after each rewiring, for drop fractions that change.

    The first value is the density. See `coverage_expected`, which this is for constant fractions.

    Raises:
        ValueError: if a number lies outside its range, or more connections are exchanged than there are free
            places.

    Example:
        >>> coverage_curve(0.1, [0.3, 0.0]).round(4).tolist()
        [0.1, 0.129, 0.129]
    """
    drawn = np.asarray(fractions, dtype=float) * density
    _check_coverage(density, drawn, allow_regrowth)
    pool = 1 - density + (drawn if allow_regrowth else 0.0)
    missed = np.cumprod(np.concatenate([[1.0], 1 - drawn / pool]))
    return 1 - (1 - density) * missed


def _layer_curve(density: float, fractions: Sequence[float], allow_regrowth: bool) -> np.ndarray:
    if density in (0.0, 1.0):
        return np.full(len(fractions) + 1, density)
    return coverage_curve(density, fractions, allow_regrowth=allow_regrowth)


def _ever(topologies: Iterable[Topology]) -> Iterable[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}
    for topology in in_order(topologies):
        for name, layer in topology.items():
            seen.setdefault(name, layer.mask().flatten())[layer.indices] = True
        yield seen


def _long_lived(
    topologies: Iterable[Topology], tau: int, starts: Sequence[int] | None, end: int | None
) -> Iterable[dict[str, Tensor]]:
    """Yield the places proved so far; a connection dropped just now still lived until now."""
    lives, proved, now, rows = Lives(), {}, 0, 0
    for rows, (now, topology) in enumerate(timed(topologies, starts)):
        if rows:  # a row is kept back until it is known not to be the last
            yield proved
        for born in (dict(lives.born), _advanced(lives, topology, now)):
            proved = _proved(proved, born, now - tau)
    if end is not None and end < now:
        raise ValueError(f"end must be at least {now}, where the last topology begins, got {end}; give the last step")
    yield proved if end is None else _proved(proved, lives.born, end - tau)


def _proved(before: dict[str, Tensor], born: dict[str, Tensor], latest: int) -> dict[str, Tensor]:
    return {name: before.get(name, False) | _older(at, latest) for name, at in born.items()}


def _advanced(lives: Lives, topology: Topology, now: int) -> dict[str, Tensor]:
    lives.advance(topology, now)
    return lives.born


def _older(born: Tensor, latest: int) -> Tensor:
    return (born >= 0) & (born <= latest)


def _filled_shares(states: Iterable[dict[str, Tensor]]) -> pd.DataFrame:
    return share_table([_filled(state) for state in states])


def _filled(state: dict[str, Tensor]) -> dict[str, float]:
    counts = {name: int(places.sum()) for name, places in state.items()}
    sizes = {name: places.numel() for name, places in state.items()}
    network = sum(counts.values()) / max(1, sum(sizes.values()))
    return {**{name: counts[name] / sizes[name] for name in counts}, "network": network}


def _check_coverage(density: float, drawn: np.ndarray, allow_regrowth: bool) -> None:
    if not 0 < density < 1:
        raise ValueError(f"density must lie in (0, 1), got {density}; a dense network has nothing left to explore")
    if np.any(drawn < 0) or np.any(drawn > density):
        raise ValueError(
            f"drop fractions must lie in [0, 1], got {(drawn / density).tolist()}; give shares, not percent"
        )
    if not allow_regrowth and np.any(drawn > 1 - density):
        raise ValueError(
            f"without regrowth at most {1 - density:.4g} of all places can be grown, got {drawn.max():.4g}; "
            "lower the fraction, or allow allow_regrowth=True"
        )
