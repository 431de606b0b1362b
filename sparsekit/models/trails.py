"""NeuroTrails: several heads in one network, which share its first modules and answer together."""

import copy
import math
from collections import OrderedDict

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.utils.checks import check_integer


class Trails(nn.Module):
    """A network that splits into several heads after a shared part.

    In training it returns the outputs of all heads, for `heads_loss`. In evaluation it returns the logarithm of the
    mean of their softmax outputs, which are class scores as those of any network. So `evaluate` measures the ensemble.

    Args:
        shared: the first modules.
        heads: the networks that continue from what the shared part returns.
    """

    def __init__(self, shared: nn.Module, heads: list[nn.Module]):
        super().__init__()
        self.shared, self.heads = shared, nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        features = self.shared(x)
        outputs = torch.stack([head(features) for head in self.heads], dim=-1)
        if self.training:
            return outputs
        return outputs.log_softmax(1).logsumexp(-1) - math.log(len(self.heads))


def with_heads(model: nn.Sequential, at: str, *, heads: int = 3) -> Trails:
    """Split a network at a module, and give it several heads from there on, each newly initialised.

    Call `sparsify` on the result, so that the shared part and all heads become sparse. Give it the density of one
    network times the dense size of that over its own, and the comparison with one network is fair.

    Args:
        model: a sequence of modules, which stays as it is.
        at: name of the first module of the heads.
        heads: how many.

    Raises:
        TypeError: if the number is no integer.
        ValueError: if there is no such module, nothing is before it, or there are no heads.

    Source: NeuroTrails, Grooten et al. (2025), arXiv:2505.17909, and its released code, where three heads have the
        last blocks of a ResNet and everything is rewired by RigL at density 0.2.

    Example:
        >>> from sparsekit.models import build
        >>> trails = with_heads(build("mlp", input_shape=(64,), num_classes=10), "fc2")
        >>> trails.train()(torch.zeros(5, 64)).shape, trails.eval()(torch.zeros(5, 64)).shape
        (torch.Size([5, 10, 3]), torch.Size([5, 10]))
    """
    check_integer("heads", heads, least=1)
    names = [name for name, _ in model.named_children()]
    if at not in names[1:]:
        raise ValueError(f"heads must begin at one of {', '.join(names[1:])}, got {at!r}. Choose one of them")
    parts = list(model.named_children())
    before, after = parts[: names.index(at)], parts[names.index(at) :]
    shared = copy.deepcopy(nn.Sequential(OrderedDict(before)))
    return Trails(shared, [_drawn_anew(nn.Sequential(OrderedDict(after))) for _ in range(heads)])


def heads_loss(outputs: Float[Tensor, "b c *h"], labels: Int64[Tensor, " b"]) -> Tensor:
    """Return the sum of the heads' cross-entropies, or the cross-entropy where the heads have answered together.

    Example:
        >>> float(heads_loss(torch.zeros(2, 10, 3), torch.tensor([0, 1]))) / 3  # ln(10) for each head
        2.3025851249694824
    """
    each = outputs.unbind(-1) if outputs.dim() > labels.dim() + 1 else [outputs]
    return torch.stack([nn.functional.cross_entropy(one, labels) for one in each]).sum()


heads_loss.batch_weight = len  # type: ignore[attr-defined]  # it is a mean over the labels of a batch


def _drawn_anew(head: nn.Sequential) -> nn.Sequential:
    """Return a copy whose modules have drawn their initial values again."""
    new = copy.deepcopy(head)
    for module in new.modules():
        if callable(draw := getattr(module, "reset_parameters", None)):
            draw()
    return new
