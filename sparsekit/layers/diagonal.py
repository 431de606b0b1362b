"""A linear layer of wrapped diagonals, of which training chooses the best: DynaDiag.

Legend: `o` outputs, `i` inputs, `l` the longer of both, `s` the shorter. There are l diagonals of s positions each, and
together they have every position of the weight once.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.topology import LayerTopology
from sparsekit.topology.allocation import check_density
from sparsekit.utils.checks import check_integer

HOTTEST, COLDEST = 5.0, 0.05  # temperatures at the beginning and at the end, as in the released code


class DiagonalLinear(nn.Module):
    """A linear layer that is a sum of wrapped diagonals, each with a score that says how much of it is used.

    Diagonal d is used with the factor `min(K softmax(scores / T)_d, 1)`, where K is the number of diagonals in the end.
    While the temperature T is high, all have nearly the same factor. As it falls, K of them win. `freeze` keeps those,
    with factor 1, to which the factors of the winners rise. A transposed diagonal is a diagonal, so the backward pass
    of a kernel for diagonals would be as fast as the forward pass. We have none, so this layer saves no time.

    It needs the memory of the dense weight all along, because every diagonal has values until `freeze`.

    Args:
        in_features: number of inputs.
        out_features: number of outputs.
        density: share of the weight that exists in the end, which is rounded up to whole diagonals.
        bias: whether the layer adds one.

    Raises:
        TypeError: if a number of features is no integer.
        ValueError: if one is below 1, or the density is not in (0, 1].

    Source: DynaDiag, Tyagi et al. (2025), arXiv:2506.11449, and its released code. The range of the initial
        values is ours. It fits the beginning, where all diagonals share K. A range that fits the end left signals so
        weak that no diagonal won.

    Example:
        >>> layer = DiagonalLinear(8, 4, density=0.25)
        >>> layer.count, layer(torch.ones(3, 8)).shape
        (2, torch.Size([3, 4]))
        >>> layer.freeze()
        >>> layer.topology().density
        0.25
    """

    diagonal: Tensor
    entry: Tensor
    temperature: Tensor
    chosen: Tensor

    def __init__(self, in_features: int, out_features: int, *, density: float, bias: bool = True):
        super().__init__()
        for name, number in (("in_features", in_features), ("out_features", out_features)):
            check_integer(name, number, least=1)
        self.in_features, self.out_features = in_features, out_features
        self.count = diagonals_at(density, in_features, out_features)
        long, short = max(in_features, out_features), min(in_features, out_features)
        self.values = nn.Parameter(torch.empty(long, short))
        self.scores = nn.Parameter(torch.zeros(long))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        diagonal, entry = wrapped_diagonals(out_features, in_features)
        self.register_buffer("diagonal", diagonal, persistent=False)
        self.register_buffer("entry", entry, persistent=False)
        self.register_buffer("temperature", torch.tensor(HOTTEST))
        self.register_buffer("chosen", torch.zeros(long, dtype=torch.bool))  # none before `freeze`
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw values uniformly, so that the weight has the range that torch gives a dense layer at first."""
        reach = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.values, -reach, reach)
        with torch.no_grad():
            self.values.mul_(len(self.scores) / self.count)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -reach, reach)
        nn.init.zeros_(self.scores)

    @property
    def is_frozen(self) -> bool:
        """Whether the diagonals have been chosen for good."""
        return bool(self.chosen.any())

    @property
    def factors(self) -> Float[Tensor, " l"]:
        """How much of each diagonal is used, from 0 to 1."""
        if self.is_frozen:
            return self.chosen.to(self.values)
        return (self.count * torch.softmax(self.scores / self.temperature, 0)).clamp(max=1)

    def weight(self) -> Float[Tensor, "o i"]:
        """Return the dense weight that the layer uses."""
        return (self.values * self.factors[:, None])[self.diagonal, self.entry]

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight(), self.bias)

    def set_progress(self, progress: float) -> None:
        """Cool down along half a cosine wave, where the progress is 0 at the beginning and 1 where it freezes."""
        share = min(max(progress, 0.0), 1.0)
        self.temperature.fill_(COLDEST + (HOTTEST - COLDEST) * (1 + math.cos(math.pi * share)) / 2)

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the diagonals of the highest scores for good, with factor 1.

        The scores are no longer trained then, and a second call does nothing.
        """
        if self.is_frozen:
            return
        best = self.scores.topk(self.count).indices
        self.chosen[best] = True
        self.scores.requires_grad_(False)

    def topology(self) -> LayerTopology:
        """Return the positions of the diagonals that are used, all of them before `freeze`."""
        return LayerTopology.of_mask((self.factors != 0)[self.diagonal])

    def to_linear(self) -> nn.Linear:
        """Return a plain layer with the same weight, which `from_pruned` makes sparse after `freeze`."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device=self.values.device)
        with torch.no_grad():
            plain.weight.copy_(self.weight())
            if self.bias is not None:
                plain.bias.copy_(self.bias)
        return plain

    def extra_repr(self) -> str:
        state = "frozen" if self.is_frozen else "all of which are trained"
        return f"{self.in_features}, {self.out_features}, {self.count} of {len(self.scores)} diagonals, {state}"


def diagonals_at(density: float, in_features: int, out_features: int) -> int:
    """Return how many wrapped diagonals a density needs, rounded up.

    Raises:
        ValueError: if the density is not in (0, 1].

    Example:
        >>> diagonals_at(0.1, 64, 256)
        26
    """
    check_density(density)
    positions = density * in_features * out_features
    return math.ceil(round(positions / min(in_features, out_features), 9))


def wrapped_diagonals(outputs: int, inputs: int) -> tuple[Int64[Tensor, "o i"], Int64[Tensor, "o i"]]:
    """Return for each position of a weight on which diagonal it lies, and as which entry.

    Example:
        >>> [part.tolist() for part in wrapped_diagonals(2, 3)]
        [[[0, 1, 2], [2, 0, 1]], [[0, 0, 0], [1, 1, 1]]]
    """
    row, column = torch.meshgrid(torch.arange(outputs), torch.arange(inputs), indexing="ij")
    if inputs >= outputs:
        return (column - row) % inputs, row
    return (row - column) % outputs, column
