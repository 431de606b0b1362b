"""Keep the weights through which most could flow, data or no data: SynFlow."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from sparsekit.evaluation.adaptor import call
from sparsekit.rewiring.flow import flow_through, ones_for, positive_copy
from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView, part_of
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("score", "synflow")
@dataclass(frozen=True, kw_only=True)
class SynFlow(Score):
    """A weight is worth `|dR/dweight * weight|`, where R is the sum of outputs of ones through positive weights.

    The scores of what enters a unit and of what leaves it have the same sum, and so have those of all layers of a
    chain. This is why in many rounds no layer can be emptied while another is full. The flow is computed in double
    precision and evaluation mode, without biases and positions. Normalisations and activations count as the identity,
    modules and functions alike. Attention's softmax counts as a division by the sum, without which it would cube the
    flow. A model of words gets the mean of all rows of its embedding, whatever the words.

    Source: Tanaka et al. (2020), Pruning neural networks without any data, arXiv:2006.05467, algorithm 1.
    """

    sees = "shape"
    passes = 3

    rounds: int = setting(100, "how often the score is taken, while the density falls step by step", range=(1, 1000))

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        network = positive_copy(view.model)
        view.restrict(network)
        ones = _ones_like_one_of(view)
        with view.rng:
            flow = flow_through(lambda: _logits_or_all(call(network, ones)))
        if not bool(flow.isfinite()):
            raise ValueError(f"the flow through the network must be finite, got {flow.item()}. Scale its weights down")
        weights, grads = view.weights_of(network), view.gradients(network, flow)
        return {name: (grads[name] * weight.detach()).abs() for name, weight in weights.items()}


def _logits_or_all(outputs: Any) -> Any:
    logits = part_of(outputs, "logits")
    return logits if isinstance(logits, Tensor) else outputs


def _ones_like_one_of(view: ScoreView) -> Any:
    if not view.batches:
        raise ValueError("SynFlow must know the shape of an input, got no batch. Give any, its contents do not matter")
    inputs = view.inputs_alone(view.batches[0])
    return ones_for(tree_map(lambda x: x[:1] if isinstance(x, Tensor) and x.ndim else x, inputs))
