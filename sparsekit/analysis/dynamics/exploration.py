"""In-time over-parameterisation: how much of the dense network a sparse training run has tried so far."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from sparsekit.analysis.dynamics.evolution import BirthSteps, in_order, share_table, timed
from sparsekit.topology import Topology


def exploration(topologies: Iterable[Topology]) -> pd.DataFrame:
    """Return R_s after each rewiring: the share of positions that have ever held a connection, 0 to 1.

    `R_s(t) = |m_0 or m_1 or ... or m_t| / size` starts at the density and never falls. There is one row per topology
    (row 0 is before the first rewiring), one column per layer and one, `"network"`, for all together.

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
    """Return R_s of the positions that a connection has held for at least `tau` steps in a row, 0 to 1.

    A connection that is dropped before it could be trained tells nothing about its position. With `tau = 0` you get
    `exploration`. Each row is taken as its topology begins, and the last one at `end`, because without it a run that
    never rewires would show nothing.

    Args:
        topologies: in order, the first before the first rewiring.
        tau: how long, in steps, or in rewirings without `starts`.
        starts: the step at which each topology began.
        end: the step at which the last topology ended (the length of the training), in the unit of `tau`. If None, it
            is the step at which that topology began.

    Raises:
        ValueError: if `tau` is negative, there is no topology, layers differ, `starts` does not fit, or the end lies
            before the last start.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [0, 2], [0, 2])]
        >>> reliable_exploration(path, 2)["network"].tolist()
        [0.0, 0.0, 0.25]
        >>> reliable_exploration(path[:1], 300, starts=[0], end=1000)["network"].tolist()
        [0.5]

    Source: our reading of "reliably explored" in Liu et al. (2021), arXiv:2102.02887, section 3. They give no formula.
    """
    if tau < 0:
        raise ValueError(f"tau must be at least 0 steps, got {tau}. With 0 you count every connection")
    return _filled_shares(_long_lived(topologies, tau, starts, end))


def coverage_expected(density: float, fraction: float, *, num_rewirings: int, allow_regrowth: bool = True) -> float:
    """Return the R_s to expect if every rewiring exchanges the same fraction and growth is random.

    It is `1 - (1 - d) * (1 - r * d / pool) ** n`. The pool of positions to grow in is the share `1 - d + r * d` if what
    was just dropped may regrow (ITOP's rule), and `1 - d` if not. Gradient growth returns to the same positions again
    and again, so it stays far below.

    Args:
        density: share of the positions that hold a connection, in (0, 1).
        fraction: share of connections exchanged at each rewiring, 0 to 1.
        num_rewirings: how many rewirings.
        allow_regrowth: whether a connection may regrow in the rewiring that drops it.

    Raises:
        ValueError: if a number lies outside its range, or more connections are exchanged than there are free positions.

    Example:
        >>> [round(coverage_expected(0.05, 0.5, num_rewirings=n), 4) for n in (1, 5, 50)]
        [0.0744, 0.1657, 0.7408]

    Source: derived for this package for the random growth of Liu et al. (2021), arXiv:2102.02887, and checked by
    simulation in the tests.
    """
    return float(coverage_curve(density, [fraction] * num_rewirings, allow_regrowth=allow_regrowth)[-1])


def exploration_expected(first: Topology, fractions: Sequence[float], *, allow_regrowth: bool = True) -> pd.DataFrame:
    """Return the table of `exploration` to expect if growth is random and every layer keeps its count.

    Layers of unequal density explore at unequal speed, and a dense one has nothing left to try. Therefore the network's
    column differs from `coverage_curve` at the network's density.

    Args:
        first: the topology before the first rewiring.
        fractions: the drop fraction of each rewiring, 0 to 1.
        allow_regrowth: whether a connection may regrow in the rewiring that drops it.

    Raises:
        ValueError: if a fraction lies outside its range, or a layer has too few free positions.

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

    The first value is the density. For constant fractions, the last value is what `coverage_expected` gives.

    Raises:
        ValueError: if a number lies outside its range, or more connections are exchanged than there are free positions.

    Example:
        >>> coverage_curve(0.1, [0.3, 0.0]).round(4).tolist()
        [0.1, 0.129, 0.129]
    """
    growth = np.asarray(fractions, dtype=float) * density
    _check_coverage(density, growth, allow_regrowth)
    pool = 1 - density + (growth if allow_regrowth else 0.0)
    missed = np.cumprod(np.concatenate([[1.0], 1 - growth / pool]))
    return 1 - (1 - density) * missed


def _layer_curve(density: float, fractions: Sequence[float], allow_regrowth: bool) -> np.ndarray:
    if density in (0.0, 1.0):
        return np.full(len(fractions) + 1, density)
    return coverage_curve(density, fractions, allow_regrowth=allow_regrowth)


def _ever(topologies: Iterable[Topology]) -> Iterable[dict[str, Tensor]]:
    explored: dict[str, Tensor] = {}
    for topology in in_order(topologies):
        for name, layer in topology.items():
            explored.setdefault(name, layer.mask().flatten())[layer.indices] = True
        yield explored


def _long_lived(
    topologies: Iterable[Topology], tau: int, starts: Sequence[int] | None, end: int | None
) -> Iterable[dict[str, Tensor]]:
    """Yield the positions explored reliably so far. A connection dropped just now still existed until now."""
    births, reliable, now, rows = BirthSteps(), {}, 0, 0
    for rows, (now, topology) in enumerate(timed(topologies, starts)):
        if rows:  # a row waits until we know that it is not the last
            yield reliable
        for born in (dict(births.born), _advanced(births, topology, now)):
            reliable = _with_older(reliable, born, now - tau)
    if end is not None and end < now:
        raise ValueError(f"end must be at least {now}, where the last topology begins, got {end}. Give the last step")
    yield reliable if end is None else _with_older(reliable, births.born, end - tau)


def _with_older(before: dict[str, Tensor], born: dict[str, Tensor], latest: int) -> dict[str, Tensor]:
    return {name: before.get(name, False) | _older(at, latest) for name, at in born.items()}


def _advanced(births: BirthSteps, topology: Topology, now: int) -> dict[str, Tensor]:
    births.advance(topology, now)
    return births.born


def _older(born: Tensor, latest: int) -> Tensor:
    return (born >= 0) & (born <= latest)


def _filled_shares(states: Iterable[dict[str, Tensor]]) -> pd.DataFrame:
    return share_table([_filled(state) for state in states])


def _filled(state: dict[str, Tensor]) -> dict[str, float]:
    counts = {name: int(explored.sum()) for name, explored in state.items()}
    sizes = {name: explored.numel() for name, explored in state.items()}
    network = sum(counts.values()) / max(1, sum(sizes.values()))
    return {**{name: counts[name] / sizes[name] for name in counts}, "network": network}


def _check_coverage(density: float, growth: np.ndarray, allow_regrowth: bool) -> None:
    if not 0 < density < 1:
        raise ValueError(f"density must lie in (0, 1), got {density}. A dense network has nothing left to explore")
    if np.any(growth < 0) or np.any(growth > density):
        raise ValueError(
            f"drop fractions must lie in [0, 1], got {(growth / density).tolist()}. Give shares, not percent"
        )
    if not allow_regrowth and np.any(growth > 1 - density):
        raise ValueError(
            f"without regrowth at most {1 - density:.4g} of all positions can be grown, got {growth.max():.4g}. "
            "Lower the fraction, or set allow_regrowth=True"
        )
