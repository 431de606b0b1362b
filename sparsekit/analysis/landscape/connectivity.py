"""Can you walk from one network to another without climbing?

Two sparse networks have different topologies, so every point between them has the connections of both. Therefore the
paths run through plain copies, and each table tells how many connections there are at every point.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.landscape.weight_vectors import (
    Bench,
    check_alike,
    listed,
    load_vector,
    plain_copy,
    union_support,
    vector_of,
)
from sparsekit.evaluation.measuring import Batches, LossFn
from sparsekit.layers import matrices_of, shapes_of
from sparsekit.utils.seeds import fork, generator, seeded_rng


@dataclass(frozen=True, eq=False)
class Path:
    """A way through weight space from the first control point to the last: a Bezier curve.

    Two control points make a straight line, a third between them bends it without lying on it.

    Args:
        model: whose architecture the points have.
        controls: a row of parameters for each control point.
    """

    model: nn.Module
    controls: Float[Tensor, "c p"]

    def at(self, position: float) -> Float[Tensor, " p"]:
        """Return the parameters at a position. 0 is the start and 1 the end, and a path continues beyond both."""
        points = self.controls
        while len(points) > 1:
            points = (1 - position) * points[:-1] + position * points[1:]
        return points[0]


def linear_path(first: nn.Module, second: nn.Module) -> Path:
    """Return the straight line between two networks.

    Raises:
        ValueError: if their parameters have different names or shapes.

    Example:
        >>> path = linear_path(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> bool(torch.allclose(path.at(0.5), path.controls.mean(0)))
        True
    """
    check_alike([first, second])
    return Path(first, torch.stack([vector_of(first), vector_of(second)]))


def bezier_path(
    first: nn.Module,
    second: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    within: str = "everywhere",
    steps: int = 300,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> Path:
    """Return a bent path between two networks whose control point is trained for a low loss all along.

    Each step takes a batch and a random position, and moves the control point down the gradient of the loss there. It
    begins in the middle of the straight line.

    Args:
        first: the start.
        second: the end.
        batches: training data, repeated as often as the steps need.
        loss_fn: `(outputs, labels) -> mean loss`.
        within: which weights the control point may have, `"union"` (those of either network) or `"everywhere"`.
        steps: of SGD with momentum 0.9, the learning rate falling to 0 along a line.
        learning_rate: of the first step.
        seed: of the positions.

    Raises:
        ValueError: if the networks differ, there is no batch, or `within` is neither word.

    Source: Garipov et al. (2018), Loss surfaces, mode connectivity, and fast ensembling of DNNs, arXiv:1802.10026,
        section 3.2, equation 2 with a quadratic Bezier curve. Steps and learning rate are ours.
    """
    if within not in ("union", "everywhere"):
        raise ValueError(f"within must be 'union' or 'everywhere', got {within!r}")
    straight, batches = linear_path(first, second), listed(batches)
    allowed = union_support([first, second]) if within == "union" else torch.ones_like(straight.at(0.5)) > 0
    plain, bend = plain_copy(first).train(), straight.at(0.5)
    velocity, draws = torch.zeros_like(bend), generator(seed, "bezier")
    for step in range(steps):
        position = float(torch.rand((), generator=draws))
        path = Path(first, torch.stack([straight.controls[0], bend, straight.controls[1]]))
        load_vector(plain, path.at(position))
        with seeded_rng(fork(draws)), torch.enable_grad():
            inputs, labels = batches[step % len(batches)]
            loss = loss_fn(plain(inputs), labels)
            grads = torch.autograd.grad(loss, list(plain.parameters()), materialize_grads=True)
        gradient = torch.cat([grad.double().flatten() for grad in grads]) * allowed
        # The factor is how far the point moves with its control point.
        velocity = 0.9 * velocity + 2 * position * (1 - position) * gradient
        bend = bend - learning_rate * (1 - step / steps) * velocity
    return Path(first, torch.stack([straight.controls[0], bend, straight.controls[1]]))


def evaluate_path(
    path: Path,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    positions: Sequence[float] | int = 11,
    refresh_with: Batches | None = None,
) -> pd.DataFrame:
    """Return what networks along a path achieve.

    Args:
        path: from `linear_path` or `bezier_path`.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.
        positions: on the path, or how many evenly from 0 to 1.
        refresh_with: training batches for fresh batch-norm statistics at every point, needed with batch norm only.

    Returns:
        A row per position. The columns are `position`, `loss`, `accuracy` and `connections` (weights that are not zero
        in layers that can be sparse).

    Raises:
        ValueError: if there is no batch, or batch norm and nothing to refresh it with.

    Source: the 11 to 29 points that are usual include the 29 from -0.2 to 1.2 of the released code of RigL.
    """
    bench = Bench(path.model, batches, loss_fn, refresh_with=refresh_with)
    points = np.linspace(0, 1, positions) if isinstance(positions, int) else np.asarray(positions, dtype=float)
    rows = []
    for position in points.tolist():
        measured = bench.at(path.at(position))
        rows.append((position, measured.loss, measured.accuracy, _connections(bench.plain)))
    return pd.DataFrame(rows, columns=["position", "loss", "accuracy", "connections"])


def barrier(table: pd.DataFrame, *, of: str = "loss") -> float:
    """Return how high a path rises above the straight line between the values of its ends, at least 0.

    The barrier is `max_a [E(a) - ((1 - a) E(0) + a E(1))]`, for positions a from 0 to 1.

    Args:
        table: from `evaluate_path`, with the ends.
        of: `"loss"`, or `"error"`, which is 1 - accuracy.

    Raises:
        ValueError: if the table lacks an end, or `of` is neither word.

    Example:
        >>> barrier(pd.DataFrame({"position": [0.0, 0.5, 1.0], "loss": [1.0, 5.0, 3.0]}))
        3.0

    Source: Frankle et al. (2020), Linear mode connectivity and the lottery ticket hypothesis, arXiv:1912.05671,
        section 2.
    """
    if of not in ("loss", "error"):
        raise ValueError(f"of must be 'loss' or 'error', got {of!r}")
    between = table.loc[table["position"].between(0, 1)].sort_values("position")
    positions = between["position"].to_numpy()
    if len(positions) < 2 or (positions[0], positions[-1]) != (0, 1):
        raise ValueError(f"a path must have its ends, positions 0 and 1, to have a barrier, got {positions.tolist()}")
    values = between["loss"].to_numpy() if of == "loss" else 1 - between["accuracy"].to_numpy()
    return float((values - np.interp(positions, [0, 1], values[[0, -1]])).max())


def barrier_matrix(
    models: Sequence[nn.Module],
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    of: str = "loss",
    positions: int = 11,
    refresh_with: Batches | None = None,
) -> Float[np.ndarray, "t t"]:
    """Return the barrier on the straight line between every pair of networks, 0 on the diagonal.

    The matrix is symmetric. Networks with barriers near 0 lie in one basin, and their average is good. Less than twice
    the standard deviation between seeds usually counts as near.

    Args:
        models: networks of one architecture, whose topologies may differ.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.
        of: `"loss"`, or `"error"`, which is 1 - accuracy.
        positions: points on each line, 3 or more.
        refresh_with: training batches for fresh batch-norm statistics at every point, needed with batch norm only.

    Raises:
        ValueError: if the networks differ, there are fewer than two, or fewer than three positions.
    """
    check_alike(models)
    if positions < 3:
        raise ValueError(f"a barrier needs at least 3 positions, got {positions}. There must be one between the ends")
    batches, refresh_with = listed(batches), None if refresh_with is None else listed(refresh_with)
    barriers = np.zeros((len(models), len(models)))
    for row, column in itertools.combinations(range(len(models)), 2):
        path = linear_path(models[row], models[column])
        table = evaluate_path(path, batches, loss_fn, positions=positions, refresh_with=refresh_with)
        barriers[row, column] = barriers[column, row] = barrier(table, of=of)
    return barriers


def _connections(plain: nn.Module) -> int:
    matrices = matrices_of(plain)
    return sum(int(matrices[name].value.count_nonzero()) for name in shapes_of(plain))
