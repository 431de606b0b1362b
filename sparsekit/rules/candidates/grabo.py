"""Consider missing connections where a bound of the gradient is large."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.guided import Guide, Guided, by_group
from sparsekit.utils.registry import register


@register("candidates", "grabo")
@dataclass(frozen=True, kw_only=True)
class GraBo(Guided):
    """Gradient bound: inputs by `sum |x|`, outputs by `sum |output gradient|`, over samples and positions.

    `|gradient| = |sum_n x_n g_n| <= sum_n |x_n| * sum_n |g_n|`, with equality for a single sample. Positions of a
    convolution are samples of their own.

    Source: Heddes et al. (2024), arXiv:2401.06898, section 3 ("GraBo").
    """

    needs_gradients: ClassVar[bool] = True

    def guide(self, view: LayerView, generator: torch.Generator) -> Guide:
        inputs, outputs = view.captured.magnitudes()
        return by_group(view, inputs), outputs
