"""Initial weights of networks with ReLU."""

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def he_initialised(model: M) -> M:
    """Give every convolution normal weights of variance `2 / fan_in`, in place, and return the model.

    A ReLU sets half of its inputs to zero, so the 2 keeps the signal as strong as it was.
    Source: He et al. (2015), arXiv:1502.01852, section 2.2. He et al. (2016) ask for it in section 4.2.

    Example:
        >>> he_initialised(nn.Conv2d(64, 64, 3)).weight.std().mul(100).round().item()  # sqrt(2 / 576)
        6.0
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
