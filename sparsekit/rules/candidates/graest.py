"""Consider missing connections where an estimate of the gradient is large."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.guided import Guide, Guided, by_group
from sparsekit.utils.registry import register


@register("candidates", "graest")
@dataclass(frozen=True, kw_only=True)
class GraEst(Guided):
    """Gradient estimate: inputs by `|sum_n s_n x_n|`, outputs by `|sum_n s_n g_n|`, with random signs `s`.

    Every sample and position has one sign, the same for inputs and outputs, so that the product of the two sums is on
    average the gradient. The average of its magnitude is not the gradient's magnitude, so the paper's
    "proportional in expectation" holds before the absolute values only.

    The released code takes, for convolutions, the output gradient of the first pixel of the first sample times the
    sum of all signs, and starts the signs anew with every batch. This is the estimator as the paper describes it.

    Source: Heddes et al. (2024), arXiv:2401.06898, section 3 ("GraEst").
    """

    needs_gradients: ClassVar[bool] = True

    def guide(self, view: LayerView, generator: torch.Generator) -> Guide:
        inputs, outputs = view.captured.sketch(generator)
        return by_group(view, inputs.abs()), outputs.abs()
