"""How differently several networks decide, in matrices with a row and a column for each network.

All functions take outputs before softmax, of every network on the same samples. Two networks that are right equally
often may be wrong on the same samples or on different ones. Only in the second case do you gain from asking both.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.analysis.behaviour.calibration import without_padding
from sparsekit.evaluation.measuring import Batches, predictions

Matrix = Float[np.ndarray, "t t"]


def outputs_of(
    models: Sequence[nn.Module], batches: Batches
) -> tuple[Float[Tensor, "t n classes"], Int64[Tensor, " n"]]:
    """Return the outputs of every network on the same samples, in evaluation mode, and the labels.

    Args:
        models: with the same classes, of any architecture.
        batches: inputs and labels, in an order that stays.

    Raises:
        ValueError: if there is no network or no batch, or the labels come in another order each time.

    Example:
        >>> outputs, labels = outputs_of([nn.Linear(2, 3)] * 2, [(torch.ones(4, 2), torch.zeros(4).long())])
        >>> tuple(outputs.shape), len(labels)
        ((2, 4, 3), 4)
    """
    if not models:
        raise ValueError("there must be at least one network, got none")
    outputs, labels = zip(*(predictions(model, batches) for model in models), strict=True)
    if any(not torch.equal(other, labels[0]) for other in labels):
        raise ValueError("all networks must see the samples in one order, got another for each. Do not shuffle them")
    return torch.stack(outputs), labels[0]


def disagreement(outputs: Float[Tensor, "t n classes"]) -> Matrix:
    """Return the share of samples for which two networks choose different classes, 0 to 1.

    Example:
        >>> disagreement(torch.tensor([[[2.0, 1.0], [0.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]]])).tolist()
        [[0.0, 0.5], [0.5, 0.0]]

    Source: Fort et al. (2019), Deep ensembles: a loss landscape perspective, arXiv:1912.02757, section 4. The released
        code of FreeTickets adds 0.001 to the entries that are not zero, but we add nothing.
    """
    predicted = outputs.argmax(-1)
    return _numbers((predicted[:, None] != predicted[None]).double().mean(-1))


def disagreement_bounds(accuracies: Sequence[float]) -> tuple[Matrix, Matrix]:
    """Return the least and the most that networks of these accuracies can disagree.

    `|a1 - a2| <= disagreement <= (1 - a1) + (1 - a2)`, because two networks agree where both are right. A network does
    not disagree with itself, so both bounds are 0 on the diagonal.

    Raises:
        ValueError: if an accuracy lies outside [0, 1].

    Example:
        >>> low, high = disagreement_bounds([0.75, 0.5])
        >>> low[0, 1], high[0, 1]
        (np.float64(0.25), np.float64(0.75))
    """
    shares = np.asarray(accuracies, dtype=float)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"accuracies must be shares in [0, 1], got {list(accuracies)}")
    low = np.abs(shares[:, None] - shares[None])
    high = np.minimum(1.0, 2 - shares[:, None] - shares[None])
    np.fill_diagonal(high, 0.0)
    return low, high


def kl_divergence(outputs: Float[Tensor, "t n classes"]) -> Matrix:
    """Return `KL(row || column)` of the predicted probabilities, the mean over the samples, in nats.

    `KL(p || q) = sum_c p_c log(p_c / q_c)` is not symmetric.

    Example:
        >>> kl_divergence(torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]).log()).round(6).tolist()
        [[0.0, 0.510826], [0.368064, 0.0]]

    Source: Kullback and Leibler (1951), On information and sufficiency.
    """
    logs = outputs.double().log_softmax(-1)
    return _pairwise(logs, _divergence, symmetric=False)


def js_divergence(outputs: Float[Tensor, "t n classes"]) -> Matrix:
    """Return the Jensen-Shannon divergence of the predicted probabilities, the mean over the samples, 0 to ln 2.

    `(KL(p || m) + KL(q || m)) / 2` with `m = (p + q) / 2` is symmetric, and finite where one network excludes a class.

    Example:
        >>> js_divergence(torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]).log()).round(6).tolist()
        [[0.0, 0.101749], [0.101749, 0.0]]

    Source: Lin (1991), Divergence measures based on the Shannon entropy.
    """
    logs = outputs.double().log_softmax(-1)

    def divergence(first: Tensor, second: Tensor) -> Tensor:
        middle = torch.logaddexp(first, second) - np.log(2)
        return (_divergence(first, middle) + _divergence(second, middle)) / 2

    return _pairwise(logs, divergence)


def error_correlation(outputs: Float[Tensor, "t n classes"], labels: Int64[Tensor, " n"]) -> Matrix:
    """Return the correlation of two networks' errors over the samples, -1 to 1, or NaN if one always or never errs.

    Near 1 they fail on the same samples, so an average of the two repairs little.

    Example:
        >>> outputs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
        >>> error_correlation(outputs, torch.tensor([0, 0])).round(6).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    outputs, labels = without_padding(outputs, labels)
    wrong = (outputs.argmax(-1) != labels).double()
    deviations = wrong - wrong.mean(1, keepdim=True)
    norms = deviations.norm(dim=1)
    return _numbers(deviations @ deviations.T / (norms[:, None] * norms[None]))


def kappa(outputs: Float[Tensor, "t n classes"]) -> Matrix:
    """Return Cohen's kappa: how far two networks agree beyond chance, from 0 for chance to 1 for always.

    By chance each network chooses its classes as often as it does, but on random samples. The result is NaN where
    networks that choose by chance always agree.

    Example:
        >>> predicted = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1]])
        >>> kappa(torch.nn.functional.one_hot(predicted).double())[0].tolist()
        [1.0, 0.0, 1.0]

    Source: Cohen (1960), A coefficient of agreement for nominal scales.
    """
    predicted = nn.functional.one_hot(outputs.argmax(-1), outputs.shape[-1]).double()
    shares = predicted.mean(1)
    chance = shares @ shares.T
    agree = 1 - torch.from_numpy(disagreement(outputs)).to(chance.device)
    return _numbers((agree - chance) / (1 - chance))


def diversity_table(
    outputs: Float[Tensor, "t n classes"], labels: Int64[Tensor, " n"], names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return every measure for each pair of networks, a row a pair.

    Args:
        outputs: before softmax, of several networks on the same samples.
        labels: the right classes.
        names: of the networks, or numbers if None.

    Returns:
        The columns are `first`, `second`, `disagreement`, `least` and `most` (its bounds at these accuracies),
        `per_error` (the disagreement over the mean error of the two, 0 for networks that agree, at most 2), `kl`
        (first || second), `kl_back`, `js`, `error_correlation` and `kappa`.

    Raises:
        ValueError: if there is another number of names.
    """
    names = network_names(names, len(outputs))
    accuracies = (outputs.argmax(-1) == labels).double().mean(1).tolist()
    least, most = disagreement_bounds(accuracies)
    forth = kl_divergence(outputs)
    matrices = {
        "disagreement": disagreement(outputs),
        "least": least,
        "most": most,
        "kl": forth,
        "kl_back": forth.T,
        "js": js_divergence(outputs),
        "error_correlation": error_correlation(outputs, labels),
        "kappa": kappa(outputs),
    }
    rows, columns = np.triu_indices(len(names), 1)
    pairs = {"first": [names[row] for row in rows], "second": [names[column] for column in columns]}
    table = pd.DataFrame({**pairs, **{name: matrix[rows, columns] for name, matrix in matrices.items()}})
    errors = 1 - np.asarray(accuracies)
    with np.errstate(invalid="ignore"):
        table.insert(5, "per_error", 2 * table["disagreement"] / (errors[rows] + errors[columns]))
    return table


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return `KL(first || second)` of log-probabilities. A class without probability adds nothing."""
    shares = first.exp()
    return torch.where(shares > 0, shares * (first - second), 0.0).sum(-1).mean()


def _pairwise(logs: Tensor, measure: Callable[[Tensor, Tensor], Tensor], *, symmetric: bool = True) -> Matrix:
    matrix = np.zeros((len(logs), len(logs)))
    for row, column in np.ndindex(matrix.shape):
        if row < column or (row > column and not symmetric):
            matrix[row, column] = max(0.0, float(measure(logs[row], logs[column])))  # rounding may go below 0
    return np.maximum(matrix, matrix.T) if symmetric else matrix


def network_names(names: Sequence[str] | None, count: int) -> list[str]:
    """Return the names of so many networks, which are their numbers if there are none.

    Raises:
        ValueError: if there is another number of names.
    """
    listed = [str(number) for number in range(count)] if names is None else list(names)
    if len(listed) != count:
        raise ValueError(f"there must be a name for each of {count} networks, got {len(listed)}")
    return listed


def _numbers(matrix: Tensor) -> Matrix:
    return matrix.cpu().numpy()
