"""Which units of a model stay silent on data, and which filters have only tiny weights."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparsekit.analysis.observing import inputs_of, observed, weighted_layers
from sparsekit.layers import SparseLayer

ACTIVATIONS = frozenset(
    {
        *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.prelu),
        *(F.hardtanh, F.hardswish, F.sigmoid, F.tanh, torch.relu, torch.relu_, torch.sigmoid, torch.tanh),
        *(Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh),
    }
)


def activity(model: nn.Module, batches: Iterable[Any], *, near_zero: float = 1e-2) -> pd.DataFrame:
    """Return, for each activation function of a model, how many of its units are silent on the data.

    Args:
        model: any model. It is not changed, and runs in evaluation mode.
        batches: the whole evaluation set, as inputs or as tuples that begin with inputs.
        near_zero: an activation counts as zero if its magnitude is at most this. The default is that of ToST's
            released code.

    Returns:
        One row per activation function, named after the last layer with weights before it. The columns are `units`
        (features or channels), `silent` (units whose output was exactly 0 for every sample and position) and
        `near_zero_share` (of all outputs, 0 to 1).

    Raises:
        ValueError: if there is no batch.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> activity(net, [torch.ones(4, 1)]).loc["0"].to_dict()
        {'units': 2.0, 'silent': 1.0, 'near_zero_share': 0.5}

    Source: activation sparsity as in the released code of ToST, Jaiswal et al. (2022), ICML.
    """
    recorder = _Recorder(near_zero)
    with observed(model) as model_copy:
        for name, module in weighted_layers(model_copy).items():
            module.register_forward_hook(recorder.hook_for(name))
        for inputs in inputs_of(batches):
            recorder.run(model_copy, inputs)
    if not recorder.batches:
        raise ValueError("activity needs data to be measured on, got no batch. Give the evaluation set's batches")
    rows = {name: tally.row() for name, tally in recorder.tallies.items()}
    columns = ["units", "silent", "near_zero_share"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("activation")


def small_filters(model: nn.Module, *, threshold: float = 1e-5, share: float = 0.9) -> pd.DataFrame:
    """Return how many outputs of each layer have (nearly) only tiny weights.

    An output (a convolution's filter) is small if at least `share` of its weights are smaller than `threshold` in
    magnitude. Missing connections are weights of 0.

    Args:
        model: any model. It is not changed.
        threshold: magnitudes below it are tiny. The default is that of ToST's released code.
        share: of an output's weights, in (0, 1]. ToST's released code uses 0.9 and 0.95.

    Raises:
        ValueError: if the share lies outside (0, 1].

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2))
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 1.0], [0.0, 1e-6]]))
        >>> small_filters(net).loc["0"].to_dict()
        {'outputs': 2, 'small': 1}

    Source: the released code of ToST, Jaiswal et al. (2022), ICML.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}. For example, 0.9 means nine weights in ten")
    rows = {}
    for name, module in weighted_layers(model).items():
        tiny = _tiny_weights(module, threshold)
        rows[name] = {"outputs": tiny.numel(), "small": int((tiny >= share).sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _tiny_weights(module: Any, threshold: float) -> Tensor:
    """Return the share of tiny weights of each output, without making a sparse layer dense."""
    if not isinstance(module, SparseLayer):
        return (module.weight.detach().flatten(1).abs() < threshold).double().mean(1)
    topology = module.topology
    large = topology.rows[module.values().abs() >= threshold]
    return 1 - torch.bincount(large, minlength=topology.num_outputs).double() / topology.num_inputs


@dataclass(kw_only=True)
class _Tally:
    ever_active: Bool[Tensor, " units"]
    near_zero: Int64[Tensor, ""]
    outputs: int

    def row(self) -> tuple[int, int, float]:
        return self.ever_active.numel(), int((~self.ever_active).sum()), int(self.near_zero) / max(1, self.outputs)


class _Recorder(TorchFunctionMode):
    """Watches every activation function that runs, as a module or as a function."""

    def __init__(self, near_zero: float):
        super().__init__()
        self.near_zero = near_zero
        self.tallies: dict[str, _Tally] = {}
        self.batches = 0
        self._last_layer, self._uses = "input", Counter()

    def run(self, model: nn.Module, inputs: Tensor) -> None:
        self._last_layer, self._uses = "input", Counter()
        self.batches += 1
        with self:
            model(inputs)

    def hook_for(self, name: str) -> Callable:
        def record_name(*_):
            self._last_layer = name

        return record_name

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func in ACTIVATIONS:
            self._add(output)
        return output

    def _add(self, output: Tensor) -> None:
        self._uses[self._last_layer] += 1
        times = self._uses[self._last_layer]
        name = self._last_layer if times == 1 else f"{self._last_layer} ({times})"
        is_active = _by_unit(output != 0).any(0)
        near_zero = (output.abs() <= self.near_zero).sum()
        old = self.tallies.get(name, _Tally(ever_active=is_active, near_zero=near_zero * 0, outputs=0))
        self.tallies[name] = _Tally(
            ever_active=old.ever_active | is_active,
            near_zero=old.near_zero + near_zero,
            outputs=old.outputs + output.numel(),
        )


def _by_unit(values: Tensor) -> Tensor:
    """Return one column per unit: channels of images, features of vectors and of sequences."""
    last = values if values.dim() in (2, 3) else values.movedim(1, -1)
    return last.reshape(-1, last.shape[-1])
