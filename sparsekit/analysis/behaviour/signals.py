"""How strong signals are on their way through a network: activations forward, gradients backward."""

import copy
from typing import Any

import pandas as pd
from torch import Tensor, nn

from sparsekit.analysis.observing import weighted_layers
from sparsekit.layers import SparseLayer
from sparsekit.utils.seeds import generator, seeded_rng


def signal_propagation(
    model: nn.Module, batch: tuple[Tensor, Tensor], loss_fn: Any = nn.functional.cross_entropy
) -> pd.DataFrame:
    """Return, for each layer in the order of the model, how strong its outputs and its weights' gradients are.

    With initial weights that were drawn for dense layers, both shrink by about `sqrt(density)` from layer to layer.

    Args:
        model: sparse or plain. A copy of it runs in training mode.
        batch: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.

    Returns:
        One row per layer. The columns are `output_std` (standard deviation over the samples, before any activation) and
        `gradient_norm` (of existing connections). The deviation is the root mean square over units, so biases, which
        all samples have in common, are no signal.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> list(signal_propagation(net, (torch.ones(3, 2), torch.tensor([0, 1, 0]))).index)
        ['0', '2']
    """
    spread: dict[str, float] = {}
    with seeded_rng(generator(0, "signals")):
        model_copy = copy.deepcopy(model).train()
        for name, module in weighted_layers(model_copy).items():
            module.register_forward_hook(_recorder(spread, name))
        inputs, labels = batch
        loss_fn(model_copy(inputs), labels).backward()
    rows = {name: (spread.get(name, 0.0), _norm(module)) for name, module in weighted_layers(model_copy).items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["output_std", "gradient_norm"]).rename_axis("layer")


def gradient_norm(model: nn.Module, batch: tuple[Tensor, Tensor], loss_fn: Any = nn.functional.cross_entropy) -> float:
    """Return the norm of the loss's gradient by the weights of all layers, existing connections only.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 2))
        >>> gradient_norm(net, (torch.zeros(3, 2), torch.tensor([0, 1, 0])))
        0.0
    """
    table = signal_propagation(model, batch, loss_fn)
    return float((table["gradient_norm"].to_numpy() ** 2).sum() ** 0.5)


def _recorder(spread: dict[str, float], name: str):
    def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        spread[name] = float(output.detach().var(0, correction=0).mean().sqrt())

    return record


def _norm(module: Any) -> float:
    grads = module.grads() if isinstance(module, SparseLayer) else module.weight.grad
    return 0.0 if grads is None else float(grads.norm())
