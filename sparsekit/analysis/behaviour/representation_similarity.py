"""How alike the representations of two networks are, whatever the order and scale of their units."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis.observing import inputs_of, observed, weighted_layers
from sparsekit.evaluation.measuring import Batches


def linear_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, debiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two sets of features of the same samples.

    It is `|Y'X|^2 / (|X'X| |Y'Y|)` in Frobenius norms, with centred columns. It lies between 0 and 1, and is 1 where
    one set is a rotated and scaled copy of the other.

    Args:
        x, y: a row per sample, in the same order.
        debiased: estimate without the bias that makes few samples look alike. You need this with fewer than about ten
            samples per feature. The estimate may fall below 0, and is NaN if a set is constant.

    Raises:
        ValueError: if there are fewer samples than the estimate needs: 2, or 4 without bias.

    Example:
        >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0], [2.0], [3.0]])
        >>> round(linear_cka(x, y), 6)
        0.474342

    Source: Kornblith et al. (2019), Similarity of neural network representations revisited, arXiv:1905.00414,
        section 3. The estimate without bias is that of Song et al. (2012), Feature selection via dependence
        maximization, JMLR 13.
    """
    least = 4 if debiased else 2
    if len(x) < least:
        raise ValueError(f"this similarity needs at least {least} samples, got {len(x)}")
    return _cka(_gram(x, debiased=debiased), _gram(y, debiased=debiased))


def cka_table(first: nn.Module, second: nn.Module, batches: Batches, *, debiased: bool = True) -> pd.DataFrame:
    """Return how alike each layer of one network is to each of another: a row and a column for each layer.

    Args:
        first, second: of any architecture. They stay as they are, and run in evaluation mode.
        batches: inputs and labels of some hundred samples, in an order that stays.
        debiased: as for `linear_cka`.

    Raises:
        ValueError: if there are fewer samples than the estimate needs.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> batches = [(torch.randn(20, 3), torch.zeros(20).long())]
        >>> cka_table(net, net, batches).shape
        (2, 2)
    """
    batches = list(batches)
    rows, columns = (_grams(layer_outputs(net, batches), debiased=debiased) for net in (first, second))
    values = [[_cka(row, column) for column in columns.values()] for row in rows.values()]
    return pd.DataFrame(
        values, index=pd.Index(list(rows), name="first"), columns=pd.Index(list(columns), name="second")
    )


def cka_matrix(
    models: Sequence[nn.Module], batches: Batches, *, layer: str, debiased: bool = True
) -> Float[np.ndarray, "t t"]:
    """Return how alike one layer's outputs are in every pair of networks, as a symmetric matrix.

    Args:
        models: each with a layer of this name.
        batches: inputs and labels of some hundred samples, in an order that stays.
        layer: with weights, for example `"fc1"`.
        debiased: as for `linear_cka`.

    Raises:
        ValueError: if a network has no such layer, or there are fewer samples than the estimate needs.
    """
    batches, grams = list(batches), []
    for model in models:
        outputs = layer_outputs(model, batches)
        if layer not in outputs:
            raise ValueError(f"layer must be one of {', '.join(outputs)}, got {layer!r}")
        grams.append(_grams({layer: outputs[layer]}, debiased=debiased)[layer])
    return np.array([[_cka(one, other) for other in grams] for one in grams])


def layer_outputs(model: nn.Module, batches: Batches) -> dict[str, Float[Tensor, "n p"]]:
    """Return the outputs of every layer with weights, before any activation, a flattened row per sample.

    The model stays as it is, and runs in evaluation mode.

    Raises:
        ValueError: if there is no batch.
    """
    outputs_of_layer: dict[str, list[Tensor]] = {}

    def record(name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        outputs_of_layer.setdefault(name, []).append(output.detach().flatten(1))

    with observed(model) as model_copy:
        for name, module in weighted_layers(model_copy).items():
            module.register_forward_hook(partial(record, name))
        for inputs in inputs_of(batches):
            model_copy(inputs)
    if not outputs_of_layer:
        raise ValueError("the outputs of layers need at least one batch and one layer with weights, got none")
    return {name: torch.cat(parts) for name, parts in outputs_of_layer.items()}


def _grams(outputs: dict[str, Tensor], *, debiased: bool) -> dict[str, Tensor]:
    least, count = (4 if debiased else 2), len(next(iter(outputs.values())))
    if count < least:
        raise ValueError(f"this similarity needs at least {least} samples, got {count}")
    return {name: _gram(output, debiased=debiased) for name, output in outputs.items()}


def _gram(x: Tensor, *, debiased: bool) -> Float[Tensor, "n n"]:
    """Return the products of all samples, centred so that the inner product of two such matrices is their HSIC."""
    x = x.double() - x.double().mean(0)
    gram = x @ x.T
    if not debiased:
        return gram
    # U-centring: without the diagonal, every row adds up to 0.
    count = len(gram)
    gram = gram - gram.diag().diag()
    means = gram.sum(1) / (count - 2)
    gram = gram - means[:, None] - means[None] + means.sum() / (count - 1)
    return gram - gram.diag().diag()


def _cka(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum() / (first.norm() * second.norm()))
