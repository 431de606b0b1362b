"""This module averages the weights of a sparse model over its training, whatever happens to its topology."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sparsekit.layers.convert import densify
from sparsekit.layers.entries import masks_of, weights_in
from sparsekit.utils.checks import number


class Averaged(AveragedModel):
    """The average of a sparse model's dense weights, which `averaged` returns.

    Everything of `torch.optim.swa_utils.AveragedModel` works, so you can call it, save its `state_dict` and hand it to
    `update_bn`. `module` is a plain model.
    """

    def __init__(self, model: nn.Module, decay: float | None = None):
        multi_avg_fn = None if decay is None else get_ema_multi_avg_fn(decay)
        super().__init__(densify(model), multi_avg_fn=multi_avg_fn)

    def update_parameters(self, model: nn.Module) -> None:
        """Take the present weights into the average. Call this after the optimizer's step.

        Args:
            model: the sparse model that is trained.
        """
        super().update_parameters(_Dense(model, self.module))

    @torch.inference_mode(False)  # a copy of the model must be one that can be loaded, and trained
    def projected(self, model: nn.Module) -> nn.Module:
        """Return a copy of a sparse model whose connections have the averaged values.

        The average of connections that were dropped meanwhile is left out. Layers keep their storage, so this is the
        average within the budget.

        Args:
            model: the sparse model that is trained, whose topology the copy has.
        """
        state = {key: value.clone() for key, value in self.module.state_dict().items()}
        for key, mask in masks_of(model).items():
            state[key] *= mask.to(state[key].device)
        state |= {key: x for key, x in model.state_dict().items() if key.rpartition(".")[2] == "indices"}
        new = copy.deepcopy(model)
        new.load_state_dict(state)
        return new


class _Dense(nn.Module):
    """A view of a sparse model that has the parameters and buffers of the plain model, in its order."""

    def __init__(self, model: nn.Module, plain: nn.Module):
        super().__init__()
        self._pair = (model, plain)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:  # type: ignore[override]
        model, plain = self._pair
        return (weights_in(model, name) for name, _ in plain.named_parameters())

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        model, plain = self._pair
        return (model.get_buffer(name) for name, _ in plain.named_buffers())


def averaged(model: nn.Module, *, decay: float | None = None) -> Averaged:
    """Return an average of a sparse model's weights, which `update_parameters(model)` feeds after each step.

    Weight by weight the average is that of the densified models, so a connection counts as zero while it does not
    exist. `torch.optim.swa_utils.AveragedModel` itself is right as long as no topology changes.

    Args:
        model: a sparse model, in any storage.
        decay: of an exponential moving average (EMA), in [0, 1), for example 0.999. None weighs all updates equally
            (stochastic weight averaging).

    Raises:
        TypeError: if the decay is no number.
        ValueError: if it lies outside [0, 1).

    Example:
        >>> from sparsekit.layers import shapes_of, sparsify
        >>> from sparsekit.topology.selection import random_topology
        >>> net = nn.Sequential(nn.Linear(4, 2))
        >>> model = sparsify(net, random_topology(shapes_of(net), 0.5))
        >>> average = averaged(model, decay=0.9)
        >>> average.update_parameters(model)
        >>> average.module[0].weight.equal(model[0].dense_weight())
        True

    Source: Polyak and Juditsky (1992), and for equal weights along a training Izmailov et al. (2018), arXiv:1803.05407.
    """
    if decay is not None and not 0 <= number("decay", decay) < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}. Usual is 0.999, and None weighs all updates equally")
    return Averaged(model, decay)
