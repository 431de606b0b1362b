"""Drop the weakest connections."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import DropScore
from sparsekit.utils.registry import register


@register("drop", "magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(DropScore):
    """A connection is worth the magnitude of its value, `|value|`.

    Source: Mocanu et al. (2018), arXiv:1707.04780, and Evci et al. (2020), arXiv:1911.11134, section 3.
    """

    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> Tensor:
        return view.values.abs()
