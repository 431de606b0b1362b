"""What scores after training look at: the inputs of each layer, and rankings within rows or groups of a weight."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.layers.kinds import Conv2dKind, Kind, LinearKind
from sparsekit.layers.matrices import matrices_of
from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.settings import check_range, setting

# The modules whose inputs are those of their weight. Attention and recurrent modules compute with theirs by themselves.
SEEN: dict[type[nn.Module], type[Kind]] = {nn.Linear: LinearKind, nn.Conv2d: Conv2dKind}

Measure = Callable[[Float[Tensor, "groups f n"]], Tensor]


@dataclass(frozen=True, kw_only=True)
class RankedScore(Score):
    """A score that compares weights of one output only. Subclasses say by what.

    The result is a rank above 0 and up to 1, so every row of every layer keeps the same share.
    """

    group: int = setting(0, "inputs that are compared, for n of m, where 0 compares a whole row", range=(0, 1024))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, group=(0, float("inf")))

    @abstractmethod
    def importance(self, view: ScoreView) -> dict[str, Tensor]:
        """Return a tensor shaped like the weight for each layer. It is all 0 where a layer took no part."""

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        return {
            name: ranks_in_groups(scores, self.group) * bool(scores.any())
            for name, scores in self.importance(view).items()
        }


def ranks_in_groups(scores: Float[Tensor, "o *f"], group: int) -> Float[Tensor, "o *f"]:
    """Return each score's rank among so many neighbouring inputs of its output, 1 for the highest and above 0.

    Ties go to the lower position. In a convolution neighbours are channels at one position of the kernel, as in
    `keep_n_of_m`. With a group of 0 all inputs and positions of an output are compared.

    Example:
        >>> ranks_in_groups(torch.tensor([[5.0, 1.0, 2.0, 3.0]]), 2).tolist()
        [[1.0, 0.5, 0.5, 1.0]]
    """
    last = scores.movedim(1, -1) if group else scores.flatten(1)
    width = group or last.shape[-1]
    padded = nn.functional.pad(last, (0, -last.shape[-1] % width), value=-torch.inf).unflatten(-1, (-1, width))
    order = padded.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    ranks = ((width - order) / width).to(scores.dtype).flatten(-2)[..., : last.shape[-1]]
    return ranks.movedim(-1, 1) if group else ranks.view(scores.shape)


def input_norms(view: ScoreView) -> dict[str, Tensor]:
    """Return the norm of each weight's input over all samples and positions, shaped like the weight.

    It is 0 in a layer that the forward pass does not use. It is 1 in modules that compute with their weights by
    themselves, such as attention and recurrent ones, because nobody sees their inputs.
    """
    with_inputs, squares = visible(view), sums_over_inputs(view, lambda x: x.square().sum(-1))
    norms = {}
    for name, weight in view.weights.items():
        if name in squares:
            rows = squares[name].sqrt().repeat_interleave(len(weight) // len(squares[name]), 0)
            norms[name] = rows.view(weight.shape).to(weight.dtype)
        else:
            norms[name] = torch.zeros_like(weight) if name in with_inputs else torch.ones_like(weight)
    return norms


def visible(view: ScoreView) -> set[str]:
    """Return the layers whose inputs can be seen."""
    matrices = matrices_of(view.model)
    return {name for name in view.topology if type(matrices[name].owner) in SEEN}


def sums_over_inputs(view: ScoreView, measure: Measure) -> dict[str, Tensor]:
    """Return what `measure` gives for the inputs of each layer, added up over all batches.

    Layers whose inputs nobody sees, and those that the forward pass does not use, are left out. The forward passes are
    those of a trained network, in evaluation mode.

    Args:
        view: the model, and its batches.
        measure: a function of the inputs `(groups, inputs per output, samples and positions)`.
    """
    network, totals = view.masked_copy().eval(), {}
    matrices = matrices_of(network)
    for name in visible(view):
        matrices[name].owner.register_forward_pre_hook(partial(_record, totals, name, measure))
    with torch.no_grad(), view.rng:
        for _, (inputs, _) in view.weighted_batches(network):
            view.run(network, inputs)
    return totals


def _record(totals: dict[str, Tensor], name: str, measure: Measure, module: nn.Module, args: tuple) -> None:
    kind = SEEN[type(module)].of(module)
    x = args[0].detach()
    matrix = kind.input_matrix(x.to(torch.promote_types(x.dtype, torch.float32)))
    part = measure(matrix.view(kind.num_groups, -1, matrix.shape[1]))
    totals[name] = totals[name] + part if name in totals else part
