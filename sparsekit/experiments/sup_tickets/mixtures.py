"""Measure all mixtures of three tickets on a triangle, once, so that the browser can show them without a kernel."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from sparsekit.analysis import outputs_of
from sparsekit.evaluation.measuring import refresh_batch_norm
from sparsekit.experiments.sup_tickets.lab import Lab
from sparsekit.tickets.superpose import Stack, superpose_stack
from sparsekit.utils.checks import check_integer


@dataclass(frozen=True, eq=False)
class Mixtures:
    """What the superpositions of three tickets achieve on a triangle of weights.

    Args:
        weights: the shares of the three tickets, a row for each mixture.
        accuracy: of each mixture on the test examples.
        loss: mean cross-entropy of each.
        gain: accuracy of each minus that of the best single ticket.
        error: standard error of the gain, paired over the test examples.
        fitted: a quadratic function of the weights, fitted to the accuracies.
        residual: standard deviation of the accuracies around it.
    """

    weights: Float[np.ndarray, "m 3"]
    accuracy: Float[np.ndarray, " m"]
    loss: Float[np.ndarray, " m"]
    gain: Float[np.ndarray, " m"]
    error: Float[np.ndarray, " m"]
    fitted: Float[np.ndarray, " m"]
    residual: float


def measure_mixtures(lab: Lab, *, parts: int = 9, progress: bool = True) -> Mixtures:
    """Superpose three tickets in all shares of `parts` parts, and measure every mixture on the test examples.

    Neighbours differ by about a standard error, so single values mislead. A quadratic function is fitted to them, and
    the deviation from it says how much of the relief is noise.

    Args:
        lab: with three tickets.
        parts: into which the whole is divided. 9 gives 55 mixtures. In a multiple of 3 equal parts are among them.
        progress: show a bar.

    Raises:
        TypeError: if `parts` is no integer.
        ValueError: if there are not three tickets, or fewer than 3 parts.

    Example:
        >>> measure_mixtures(lab, parts=9).accuracy.shape  # doctest: +SKIP
        (55,)
    """
    check_integer("parts", parts, least=3)
    if len(lab.tickets) != 3:
        raise ValueError(f"a triangle must have three tickets, got {len(lab.tickets)}. Choose three of them")
    weights = [(parts - j - k, j, k) for j in range(parts + 1) for k in range(parts + 1 - j)]
    stack, labels = Stack.of(lab.tickets), lab.test[1]
    outputs = [_outputs(lab, stack, one) for one in tqdm(weights, desc="mixtures", disable=not progress)]
    correct = torch.stack([one.argmax(1) == labels for one in outputs]).double().numpy()
    accuracy, shares = correct.mean(1), np.array(weights) / parts
    best = correct[max((i for i, one in enumerate(weights) if max(one) == parts), key=lambda i: accuracy[i])]
    fitted, residual = _quadratic_fit(shares, accuracy)
    return Mixtures(
        weights=shares,
        accuracy=accuracy,
        loss=np.array([float(nn.functional.cross_entropy(one, labels)) for one in outputs]),
        gain=(correct - best).mean(1),
        error=(correct - best).std(1, ddof=1) / np.sqrt(correct.shape[1]),
        fitted=fitted,
        residual=residual,
    )


def _outputs(lab: Lab, stack: Stack, weights: tuple[int, ...]) -> Tensor:
    """Return what the superposition of the tickets that have a weight answers to the test examples."""
    chosen = [number for number, weight in enumerate(weights) if weight]
    some = stack if len(chosen) == len(weights) else Stack.of([lab.tickets[number] for number in chosen])
    mixed = superpose_stack(
        some, [weights[number] for number in chosen], density=None, average="mean", prune="once", scope="global"
    )
    network = mixed.model_like(lab.model)
    refresh_batch_norm(network, [lab.train])
    return outputs_of([network], [lab.test])[0][0]


def _quadratic_fit(
    shares: Float[np.ndarray, "m 3"], values: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " m"], float]:
    """Return the quadratic function nearest to the values, and the standard deviation of what it leaves.

    The shares sum to one, so squares and products of two make every quadratic function of the triangle.
    """
    first, second = np.triu_indices(3)
    terms = shares[:, first] * shares[:, second]
    fitted = terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    freedom = len(values) - terms.shape[1]
    return fitted, float(np.sqrt(((values - fitted) ** 2).sum() / freedom))
