"""An output layer for very many classes, each of which has as many connections, and of which a step touches a few."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.layers.sampled_classes import SampledClasses, sampled_classes
from sparsekit.topology import LayerTopology
from sparsekit.utils.checks import check_integer

BLOCK = 1 << 21  # numbers of a dense block of rows: 8 MB, which fits into the cache of many processors


class WideOutput(nn.Module):
    """The last layer of a network with up to millions of classes, which each look at `fan_in` of the features.

    It is a csr matrix whose rows have equal lengths, so it stores no pointers. Training looks at the rows of a sample
    of the classes only, and their gradient is a sparse tensor with these rows. So a step with `torch.optim.Adagrad`,
    `SparseAdam` or `SGD` costs as much for a million classes as for a thousand.

    Each class has as many *candidates* besides, which are random features that it does not look at. While it trains,
    the layer sums the gradients that their weights would have had. `rewiring.rewire_output` swaps the weakest
    connections for the best candidates. No step and no rewiring makes anything as large as the dense layer.

    Args:
        features: of the network below.
        classes: how many there are.
        fan_in: connections of each class.
        generator: the source of the topology and the initial weights.
        candidates: of each class. Equally many as connections by default, and 0 for a layer that is never rewired.

    Raises:
        TypeError: if a size is no integer.
        ValueError: if a size is out of range, or connections and candidates are more than the features.

    Example:
        >>> output = WideOutput(32, 1000, fan_in=4, generator=torch.Generator().manual_seed(0))
        >>> output(torch.ones(2, 32)).shape, output.weight.shape
        (torch.Size([2, 1000]), torch.Size([1000, 4]))
        >>> loss = output.loss(torch.ones(2, 32), torch.tensor([3, 5]), 20, torch.Generator().manual_seed(0))
        >>> loss.backward()
        >>> output.weight.grad.coalesce().indices().shape[1] < 25
        True

    Source: a fixed fan-in for many classes is that of Schultheis and Babbar (2023), "Towards memory-efficient training
        for extremely large output spaces", and of Ullah et al. (2024), arXiv:2411.03171. A random subset of candidates
        is that of Heddes et al. (2024), arXiv:2401.06898. They draw it when they rewire, and we draw it before, so that
        each class sums the gradients of all steps that it took part in.
    """

    inputs: Tensor
    candidates: Tensor
    candidate_grads: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        fan_in: int,
        generator: torch.Generator,
        candidates: int | None = None,
    ):
        super().__init__()
        candidates = fan_in if candidates is None else candidates
        _check_sizes(features, classes, fan_in, candidates)
        self.features = features
        positions = torch.empty(classes, fan_in + candidates, dtype=_smallest_type(features))
        for rows in blocks_of(classes, features):
            scores = torch.rand(len(rows), features, generator=generator)
            positions[rows] = scores.topk(fan_in + candidates, dim=1).indices.to(positions.dtype)
        self.register_buffer("inputs", positions[:, :fan_in].clone())
        self.register_buffer("candidates", positions[:, fan_in:].clone())
        self.register_buffer("candidate_grads", torch.zeros(classes, candidates))
        bound = 1 / math.sqrt(fan_in)  # as nn.Linear initialises a layer with so many inputs
        self.weight = nn.Parameter(torch.empty(classes, fan_in).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(classes, 1))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.inputs)

    @property
    def topology(self) -> LayerTopology:
        """The connections that exist, as a new value: 8 bytes for each, so this is for analysis, not for training."""
        starts = torch.arange(self.classes, device=self.inputs.device).unsqueeze(1) * self.features
        return LayerTopology((self.classes, self.features), (starts + self.inputs).flatten().sort().values)

    def forward(self, hidden: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Return the scores of all classes, which are for few classes or few samples."""
        return torch.cat([self.scores(hidden, rows) for rows in self.blocks()], dim=1)

    def scores(self, hidden: Float[Tensor, "b f"], rows: Int64[Tensor, " r"]) -> Float[Tensor, "b r"]:
        """Return the scores of some classes, each of which is named once.

        Their rows become a small dense matrix for the product. Its gradient holds those of connections and candidates.

        Raises:
            ValueError: if there is not one row of features per sample.
        """
        if not isinstance(hidden, Tensor) or hidden.dim() != 2 or hidden.shape[1] != self.features:
            got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise ValueError(f"hidden must be of shape (batch, {self.features}), got {got}. Give a row per sample")
        values = functional.embedding(rows, self.weight, sparse=True)
        dense = values.new_zeros(len(rows), self.features).scatter(1, self.inputs[rows].long(), values)
        if self.training and dense.requires_grad and self.candidates.shape[1]:
            dense.register_hook(lambda grad: self._add_to_candidates(rows, grad))
        return hidden @ dense.T + functional.embedding(rows, self.bias, sparse=True).T

    def loss(
        self,
        hidden: Float[Tensor, "b f"],
        labels: Int64[Tensor, " b"],
        negatives: int,
        generator: torch.Generator,
        *,
        uniform: bool = False,
    ) -> Float[Tensor, ""]:
        """Return the mean cross entropy, in nats, estimated from the classes of the batch and a sample of the others.

        The score `s_c` of a drawn class becomes `s_c - log p_c`, where `p_c` is the probability that it is drawn at
        least once. So the sum of exponentials has the right mean (see `sampled_classes`). With as many negatives as
        classes, all classes take part and this is the whole cross entropy.

        Args:
            hidden: features of the network below, one row per sample.
            labels: classes of the samples.
            negatives: how many classes are drawn, with replacement.
            generator: the source of random numbers.
            uniform: draw all classes equally often. Otherwise low numbers are drawn more often, so the classes should
                be numbered by their frequency, the most frequent first.

        Raises:
            TypeError: if the number of negatives or the labels are no integers.
            ValueError: if a shape does not fit, a label is no class, or nothing is drawn.

        Source: importance sampling of Bengio and Senécal (2003), and Jean et al. (2015), arXiv:1412.2007, section 3.
        """
        sample: SampledClasses = sampled_classes(labels, self.classes, negatives, generator, uniform=uniform)
        scores = self.scores(hidden, sample.classes) - sample.log_probabilities
        return functional.cross_entropy(scores, sample.labels)

    @torch.no_grad()
    def best(self, hidden: Float[Tensor, "b f"], count: int = 1) -> Int64[Tensor, "b k"]:
        """Return the classes with the highest scores for each sample, the best first. It looks at all classes.

        Raises:
            ValueError: if there are fewer classes than `count`.
        """
        if not 1 <= check_integer("count", count) <= self.classes:
            raise ValueError(f"count must be 1 to {self.classes}, got {count}. Ask for fewer classes")
        scores = hidden.new_empty(len(hidden), 0)
        classes = torch.empty(len(hidden), 0, dtype=torch.int64, device=hidden.device)
        for rows in self.blocks():
            scores = torch.cat([scores, self.scores(hidden, rows)], dim=1)
            classes = torch.cat([classes, rows.expand(len(hidden), -1)], dim=1)
            scores, at = scores.topk(min(count, scores.shape[1]), dim=1)
            classes = classes.gather(1, at)
        return classes

    def blocks(self) -> Iterator[Int64[Tensor, " r"]]:
        """Yield the numbers of all classes in blocks, whose dense rows need little memory."""
        return blocks_of(self.classes, self.features, self.inputs.device)

    def extra_repr(self) -> str:
        return f"{self.features} to {self.classes:,} classes, {self.inputs.shape[1]} connections each"

    @torch.no_grad()
    def _add_to_candidates(self, rows: Tensor, grad: Tensor) -> None:
        sums = self.candidate_grads[rows] + grad.gather(1, self.candidates[rows].long())
        self.candidate_grads.index_copy_(0, rows, sums)


def blocks_of(classes: int, features: int, device: torch.device | str = "cpu") -> Iterator[Int64[Tensor, " r"]]:
    """Yield the numbers from 0 to `classes` in parts, which are as small as their dense rows must be.

    Example:
        >>> [len(rows) for rows in blocks_of(20_000, 256)]
        [8192, 8192, 3616]
    """
    rows = max(1, BLOCK // features)
    for first in range(0, classes, rows):
        yield torch.arange(first, min(first + rows, classes), device=device)


def _smallest_type(features: int) -> torch.dtype:
    return torch.int16 if features <= torch.iinfo(torch.int16).max else torch.int32


def _check_sizes(features: int, classes: int, fan_in: int, candidates: int) -> None:
    check_integer("features", features, least=1)
    check_integer("classes", classes, least=2)
    check_integer("fan_in", fan_in, least=1)
    check_integer("candidates", candidates, least=0)
    if fan_in + candidates > features:
        raise ValueError(
            f"connections and candidates of a class must be at most the {features} features, got {fan_in} and "
            f"{candidates}. Lower one of them"
        )
