"""How well the confidence of a network agrees with its accuracy: the calibration."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

BINS = 15  # Guo et al. (2017), section 4. FreeTickets asks for 15 edges, which gives 14 bins


def without_padding(outputs: Float[Tensor, "*t n classes"], labels: Int64[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """Return the outputs and labels of the samples whose label is a class, because padding does not count.

    Example:
        >>> without_padding(torch.zeros(3, 2), torch.tensor([0, -100, 1]))[1].tolist()
        [0, 1]
    """
    is_class = (labels >= 0) & (labels < outputs.shape[-1])
    return outputs[..., is_class, :], labels[is_class]


def nll(outputs: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """Return the mean negative log-likelihood of the right class, in nats: the cross-entropy.

    Example:
        >>> round(nll(torch.zeros(1, 2), torch.tensor([0])), 6)
        0.693147
    """
    outputs, labels = without_padding(outputs, labels)
    return float(nn.functional.cross_entropy(outputs.double(), labels))


def brier(outputs: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """Return the mean squared distance of the probabilities from the truth, summed over the classes, 0 to 2.

    Example:
        >>> brier(torch.zeros(1, 2), torch.tensor([0]))
        0.5

    Source: Brier (1950), Verification of forecasts expressed in terms of probability.
    """
    outputs, labels = without_padding(outputs, labels)
    truth = nn.functional.one_hot(labels, outputs.shape[-1]).double()
    return float((outputs.double().softmax(-1) - truth).square().sum(-1).mean())


def reliability(outputs: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], *, bins: int = BINS) -> pd.DataFrame:
    """Return how often a network is right among samples of which it is equally sure: the reliability diagram.

    Args:
        outputs: before softmax.
        labels: the right classes. Other numbers do not count.
        bins: parts of equal width into which the largest probability, 0 to 1, is split.

    Returns:
        One row per bin. The columns are `low`, `high` (its edges), `count` (samples), `confidence` (their mean largest
        probability) and `accuracy`. The last two are NaN where there is no sample.

    Raises:
        ValueError: if there is no sample, or fewer than one bin.

    Example:
        >>> reliability(torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0, 1]), bins=2).round(3).loc[1]
        low           0.5
        high          1.0
        count         2.0
        confidence    0.9
        accuracy      0.5
        Name: 1, dtype: float64

    Source: Guo et al. (2017), On calibration of modern neural networks, arXiv:1706.04599, section 2.
    """
    outputs, labels = without_padding(outputs, labels)
    confidence, predicted = outputs.double().softmax(-1).max(-1)
    return reliability_of_confidences(confidence, predicted == labels, bins=bins)


def reliability_of_confidences(
    confidence: Float[Tensor, " n"], is_right: Bool[Tensor, " n"], *, bins: int = BINS
) -> pd.DataFrame:
    """Return the table of `reliability` from confidences, 0 to 1, and whether each was justified.

    A confidence on the edge of two bins belongs to the lower one.

    Raises:
        ValueError: if there is no sample, or fewer than one bin.
    """
    if bins < 1 or len(confidence) == 0:
        raise ValueError(f"calibration needs a bin and a sample at least, got {bins} bins, {len(confidence)} samples")
    edges = np.linspace(0, 1, bins + 1)
    bin_of_sample = torch.bucketize(confidence.double(), torch.from_numpy(edges[1:-1]).to(confidence.device))
    counts = torch.bincount(bin_of_sample, minlength=bins)
    sums: dict[str, Any] = {
        name: torch.bincount(bin_of_sample, weights=values.double(), minlength=bins).cpu().numpy()
        for name, values in (("confidence", confidence), ("accuracy", is_right))
    }
    bin_sizes = counts.cpu().numpy()
    with np.errstate(invalid="ignore"):
        means = {name: total / bin_sizes for name, total in sums.items()}
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": bin_sizes, **means})


def calibration_error(outputs: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], *, bins: int = BINS) -> float:
    """Return the expected calibration error (ECE), 0 to 1: how far confidence and accuracy are apart in a bin.

    It is `sum_b (n_b / n) |accuracy_b - confidence_b|`.

    Args:
        outputs: before softmax.
        labels: the right classes.
        bins: as for `reliability`.

    Raises:
        ValueError: if there is no sample, or fewer than one bin.

    Example:
        >>> round(calibration_error(torch.tensor([[0.9, 0.1], [0.9, 0.1]]).log(), torch.tensor([0, 1])), 6)
        0.4

    Source: Guo et al. (2017), On calibration of modern neural networks, arXiv:1706.04599, section 2.
    """
    return calibration_error_of_table(reliability(outputs, labels, bins=bins))


def calibration_error_of_table(table: pd.DataFrame) -> float:
    """Return the expected calibration error from the table of `reliability`.

    Example:
        >>> right = torch.tensor([True, False, True, True])
        >>> table = reliability_of_confidences(torch.tensor([0.95, 0.95, 0.55, 0.65]), right, bins=10)
        >>> round(calibration_error_of_table(table), 6)
        0.425
    """
    gaps = np.abs(table["accuracy"].to_numpy() - table["confidence"].to_numpy())
    return float(np.average(np.nan_to_num(gaps), weights=table["count"].to_numpy()))


def best_temperature(outputs: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> float:
    """Return the number by which the outputs must be divided for the least negative log-likelihood.

    Above 1 the network is too sure of itself. Accuracy does not change. The number is searched between 1/1000 and 1000,
    so that it fits these samples best. Choose it on other samples than those on which you assess it.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 1])  # right three times in four
        >>> best = best_temperature(torch.tensor([[9.0, 0.0]] * 4), labels)
        >>> torch.tensor([9.0 / best, 0.0]).softmax(0).round(decimals=3).tolist()
        [0.75, 0.25]

    Source: Guo et al. (2017), On calibration of modern neural networks, arXiv:1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar  # here, as the import costs a second

    outputs = outputs.double()
    widest = float(np.log(1000))
    optimum: Any = minimize_scalar(
        lambda power: nll(outputs / float(np.exp(power)), labels), bounds=(-widest, widest), method="bounded"
    )
    return float(np.exp(optimum.x))
