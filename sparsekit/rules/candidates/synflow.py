"""Consider missing connections where much could flow from inputs to outputs."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.guided import Guide, Guided, by_group
from sparsekit.utils.registry import register


@register("candidates", "synflow")
@dataclass(frozen=True, kw_only=True)
class SynFlow(Guided):
    """Inputs by what arrives at them, outputs by what they pass on, where all inputs are 1 and all weights positive.

    This costs one extra pass through a copy of the whole model (see `flow.all_ones_flow`). Of the data only the shape
    is used, which is taken from the captured forward pass.

    Source: the released code of Heddes et al. (2024), arXiv:2401.06898, after Tanaka et al. (2020), arXiv:2006.05467.
    """

    needs_gradients: ClassVar[bool] = True

    def guide(self, view: LayerView, generator: torch.Generator) -> Guide:
        inputs, outputs = view.captured.flow()
        return by_group(view, inputs), outputs
