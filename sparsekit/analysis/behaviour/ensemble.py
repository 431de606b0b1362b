"""Several networks that answer together: the mean of their probabilities."""

import math
from collections.abc import Callable, Sequence

import pandas as pd
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.analysis.behaviour.calibration import brier, calibration_error, nll, without_padding
from sparsekit.analysis.behaviour.prediction_diversity import network_names


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    outputs, labels = without_padding(outputs, labels)
    return float((outputs.argmax(-1) == labels).double().mean())


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": _accuracy,
    "nll": nll,
    "ece": calibration_error,
    "brier": brier,
}


def ensemble(outputs: Float[Tensor, "t n classes"]) -> Float[Tensor, "n classes"]:
    """Return the log of the mean probabilities of several networks: outputs of the ensemble, before softmax.

    Probabilities are averaged, not outputs. Therefore the ensemble's negative log-likelihood is at most the mean of its
    members' (Jensen's inequality), whatever they are.

    Raises:
        ValueError: if there is no network.

    Example:
        >>> import torch
        >>> two = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).log()
        >>> ensemble(two).exp().round(decimals=6).tolist()
        [[0.7, 0.3]]

    Source: Lakshminarayanan et al. (2017), Simple and scalable predictive uncertainty estimation using deep ensembles,
        arXiv:1612.01474, section 2.4.
    """
    if len(outputs) == 0:
        raise ValueError("an ensemble needs at least one network, got none")
    return outputs.double().log_softmax(-1).logsumexp(0) - math.log(len(outputs))


def ensemble_table(
    outputs: Float[Tensor, "t n classes"], labels: Int64[Tensor, " n"], names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return how good each network is, their mean, the best of them, and the ensemble.

    Args:
        outputs: before softmax, of several networks on the same samples.
        labels: the right classes.
        names: of the networks, or numbers if None.

    Returns:
        A row for each network, then `"mean"`, `"best"` (in each column the best value among them) and `"ensemble"`.
        The columns are `accuracy`, `nll`, `ece` (expected calibration error) and `brier`.

    Raises:
        ValueError: if there is no network, or another number of names.
    """
    together = _row(ensemble(outputs), labels)
    rows = {name: _row(one, labels) for name, one in zip(network_names(names, len(outputs)), outputs, strict=True)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    best = {name: table[name].max() if name == "accuracy" else table[name].min() for name in table}
    summary = pd.DataFrame.from_dict({"mean": table.mean(), "best": best, "ensemble": together}, orient="index")
    return pd.concat([table, summary]).rename_axis("network")


def _row(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    return {name: measure(outputs, labels) for name, measure in MEASURES.items()}
