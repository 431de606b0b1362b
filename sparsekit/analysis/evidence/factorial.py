"""What each of several settings does when you try all of them together: effects, interactions, intervals."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd

JOINT = " x "  # between the names of two settings that act together


def factorial_design(factors: Sequence[str]) -> Iterator[frozenset[str]]:
    """Yield every combination of settings that are on, which are 2^k cells. The empty one comes first.

    Example:
        >>> [sorted(cell) for cell in factorial_design(["a", "b"])]
        [[], ['b'], ['a'], ['a', 'b']]
    """
    for choice in product((False, True), repeat=len(factors)):
        yield frozenset(name for name, on in zip(factors, choice, strict=True) if on)


def factorial_effects(
    runs: pd.DataFrame,
    factors: Sequence[str],
    *,
    response: str = "accuracy",
    block: str = "seed",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the main effect of each factor and the interaction of each pair, with intervals, by least squares.

    An effect is the mean with the factor on minus that with it off, over all combinations of the others. The
    interaction of two tells by how much the effect of one is larger where the other is on. Each block (seed) has a
    level of its own, so what its runs have in common counts for no effect. Interactions of three and more count as
    noise.

    Args:
        runs: one row per run: a column of truth values for each factor, the response and the block.
        factors: names of their columns.
        response: name of the column that is explained.
        block: name of the column whose levels are taken out.
        confidence: of the intervals, by Student's t, in (0, 1).

    Returns:
        One row per effect, named after its factor or factors. The columns are `effect`, `error` (standard error), `low`
        and `high`.

    Raises:
        ValueError: if a column is missing, the runs cannot tell the effects apart, or there are too few of them.

    Example:
        >>> cells = [
        ...     {"a": a, "b": b, "seed": s, "accuracy": 2 * a + b + a * b + s}
        ...     for a, b in [(0, 0), (0, 1), (1, 0), (1, 1)]
        ...     for s in (0, 1)
        ... ]
        >>> factorial_effects(pd.DataFrame(cells), ["a", "b"])["effect"].round(6).to_dict()
        {'a': 2.5, 'b': 1.5, 'a x b': 1.0}

    Source: Box, Hunter and Hunter (2005), "Statistics for experimenters", chapter 5, with interactions twice as large
        as there.
    """
    from scipy.stats import t as student  # here, as the import costs a second

    _check(runs, factors, response, block, confidence)
    names, columns = _columns(runs, factors)
    blocks = pd.get_dummies(runs[block]).to_numpy(dtype=float)
    matrix = np.column_stack([columns, blocks])
    values = runs[response].to_numpy(dtype=float)
    spare = len(values) - matrix.shape[1]
    if np.linalg.matrix_rank(matrix) < matrix.shape[1] or spare < 1:
        raise ValueError(
            f"the runs must tell {matrix.shape[1]} effects and blocks apart and leave some over, got {len(values)} "
            "runs. Give every combination for two seeds or more"
        )
    fitted, *_ = np.linalg.lstsq(matrix, values, rcond=None)
    variance = float(np.square(values - matrix @ fitted).sum()) / spare
    errors = np.sqrt(variance * np.diag(np.linalg.inv(matrix.T @ matrix)))[: len(names)]
    width = float(student.ppf((1 + confidence) / 2, spare)) * errors
    effects = fitted[: len(names)]
    table = {"effect": effects, "error": errors, "low": effects - width, "high": effects + width}
    return pd.DataFrame(table, index=pd.Index(names, name="factor"))


def _columns(runs: pd.DataFrame, factors: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return each factor as -1/2 and 1/2, so that a coefficient is a difference, and the product of each pair."""
    signs = {name: runs[name].to_numpy(dtype=float) - 0.5 for name in factors}
    pairs = {JOINT.join(pair): signs[pair[0]] * signs[pair[1]] for pair in combinations(factors, 2)}
    both = {**signs, **pairs}
    return list(both), np.column_stack(list(both.values()))


def _check(runs: pd.DataFrame, factors: Sequence[str], response: str, block: str, confidence: float) -> None:
    if missing := {*factors, response, block} - set(runs):
        raise ValueError(f"the runs must have a column for each factor, got none for {', '.join(sorted(missing))}")
    if not factors:
        raise ValueError("there must be at least one factor, got none")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}. The usual value is 0.95")
