"""Scores before training: a number for every weight of a plain model, and `prune`, which keeps the highest."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsekit.evaluation.adaptor import Adaptor, call
from sparsekit.evaluation.losses import LossFn, loss_of, shares
from sparsekit.layers import shapes_of, sparse_layers
from sparsekit.scores.asking import gradients_of
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import allocate, check_density
from sparsekit.topology.selection import keep_top_global, keep_top_per_layer
from sparsekit.utils.checks import check_types
from sparsekit.utils.seeds import generator as stream
from sparsekit.utils.seeds import seeded_rng
from sparsekit.utils.settings import check_range, setting

Batch = Any  # a pair of inputs and labels


@dataclass(frozen=True, kw_only=True)
class Score(ABC):
    """A number for each weight of a plain model; higher means keep.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"score"`, with `Source:` in their
    docstring. What all have in common is how `prune` uses them.

    Raises:
        ValueError: if a setting is out of range.
    """

    rounds: int = setting(1, "how often the score is taken, while the density falls step by step", range=(1, 1000))
    density_schedule: Literal["exponential", "linear"] = setting("exponential", "how the density falls over the rounds")
    allow_regrowth: bool = setting(False, "may a weight that an earlier round left out come back?")
    scope: Literal["global", "layer"] = setting("global", "one ranking of all layers, or each its allocated count")
    min_per_layer: int = setting(1, "connections that no layer falls below in one ranking", range=(0, 1000))

    def __post_init__(self):
        check_types(self)
        check_range(self, rounds=(1, float("inf")), min_per_layer=(0, float("inf")))

    @abstractmethod
    def __call__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss_fn: LossFn,
        generator: torch.Generator,
        *,
        kept: Topology,
    ) -> dict[str, Tensor]:
        """Return a tensor shaped like the weight for each layer of `kept`. Pure: the model stays as it is.

        Args:
            model: a plain model.
            batches: inputs and labels, on the model's device; several inputs are a tuple or a dict (see `Adaptor`).
            loss_fn: `(outputs, labels) -> mean loss`.
            generator: what the score may draw from.
            kept: the connections that exist in this round; the others count as zero.
        """

    def density_after(self, turn: int, density: float) -> float:
        """Return the density after a round (1 is the first) on the way from 1 to `density`.

        Example:
            >>> from sparsekit.scores import SNIP
            >>> round(SNIP(rounds=100).density_after(50, 0.02), 6)
            0.141421
        """
        share = turn / self.rounds
        return density**share if self.density_schedule == "exponential" else 1 - (1 - density) * share


def prune(
    model: nn.Module,
    score: Score,
    density: float,
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn = nn.functional.cross_entropy,
    allocation: str = "erk",
    exclude: tuple[str, ...] = (),
    seed: int = 0,
) -> Topology:
    """Return the connections with the highest scores: exactly `round(density * size)` of them.

    With `score.rounds` above 1 the score is taken again and again while the density falls: what a round leaves out
    counts as zero in the next ones, and stays out unless `score.allow_regrowth`. Parameters, buffers, training mode and
    random state of the model are as before. A layer that the forward pass does not use scores 0: it keeps
    `score.min_per_layer` connections.

    Args:
        model: plain; see `densify` for a sparse one.
        score: for example `SNIP()`.
        density: share of the weights to keep, in (0, 1].
        batches: what the score looks at, the same in all rounds; see `datasets.few_per_class`.
        loss_fn: `(outputs, labels) -> mean loss`.
        allocation: how many each layer gets, for scores of scope `"layer"`.
        exclude: layers to leave alone; `"first"` and `"last"` mean what they say.
        seed: of everything the score draws.

    Raises:
        TypeError: if the score is something else.
        ValueError: if the density is outside (0, 1], the model is sparse, or scores are not finite or all 0.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> model = nn.Linear(2, 1)
        >>> _ = nn.init.constant_(model.weight[:, 0], 3.0), nn.init.constant_(model.weight[:, 1], -4.0)
        >>> prune(nn.Sequential(model), Magnitude(), 0.5)["0"].indices.tolist()
        [1]
    """
    _check(model, score, density)
    batches = list(batches)
    kept = _whole(model, exclude)
    for turn in range(1, score.rounds + 1):
        draws = stream(seed, "score", turn)
        scores = _taken(score, model, batches, loss_fn, draws, kept)
        if not score.allow_regrowth:
            scores = {name: _only(kept[name].mask(), tensor) for name, tensor in scores.items()}
        kept = _best(score, scores, score.density_after(turn, density), allocation)
    return kept


def prune_each(
    model: nn.Module,
    score: Score,
    densities: Iterable[float],
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn = nn.functional.cross_entropy,
    allocation: str = "erk",
    exclude: tuple[str, ...] = (),
    seed: int = 0,
) -> Iterator[Topology]:
    """Yield what `prune` gives at each density; a score of a single round is taken once for all of them.

    Arguments and errors are those of `prune`.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> [kept.count for kept in prune_each(nn.Sequential(nn.Linear(8, 4)), Magnitude(), (0.5, 0.25))]
        [16, 8]
    """
    batches = list(batches)
    looks: dict[str, Any] = {"batches": batches, "loss_fn": loss_fn, "exclude": exclude, "seed": seed}
    scores = score_whole(model, score, **looks) if score.rounds == 1 else None
    for density in densities:
        _check(model, score, density)
        if scores is None:
            yield prune(model, score, density, allocation=allocation, **looks)
        else:
            yield _best(score, scores, density, allocation)


def score_whole(
    model: nn.Module,
    score: Score,
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn = nn.functional.cross_entropy,
    exclude: tuple[str, ...] = (),
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the score of every weight while none is pruned yet: what the first round of `prune` ranks.

    Arguments and errors are those of `prune`.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> model = nn.Sequential(nn.Linear(2, 1))
        >>> _ = nn.init.constant_(model[0].weight, -3.0)
        >>> score_whole(model, Magnitude())["0"].tolist()
        [[3.0, 3.0]]
    """
    _check(model, score, 1.0)
    whole = _whole(model, exclude)
    return _taken(score, model, list(batches), loss_fn, stream(seed, "score", 1), whole)


def masked_copy(model: nn.Module, kept: Topology) -> nn.Module:
    """Return a copy of a plain model, in training mode, whose weights outside of `kept` are zero."""
    twin = copy.deepcopy(model).train()
    for name, layer in kept.items():
        weight = twin.get_submodule(name).get_parameter("weight")
        weight.requires_grad_(True).data.mul_(layer.mask().to(weight.device))
    return twin


def weights_of(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights of the named layers."""
    return {name: model.get_submodule(name).get_parameter("weight") for name in names}


def mean_gradients(
    twin: nn.Module, batches: Sequence[Batch], loss_fn: LossFn, names: Iterable[str]
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over all samples, by the named layers' weights; nothing is masked.

    It is 0 in a layer that the forward pass does not use.
    """
    weights = weights_of(twin, names)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for share, loss in losses(twin, batches, loss_fn):
        for name, grad in zip(weights, gradients_of(loss, list(weights.values())), strict=True):
            total[name] += share * grad
    return total


def losses(twin: nn.Module, batches: Sequence[Batch], loss_fn: LossFn) -> Iterator[tuple[float, Tensor]]:
    """Yield what each batch's mean loss counts for in that of all samples, and the loss.

    Raises:
        ValueError: if there is no batch.
    """
    for share, (inputs, labels) in weighted_batches(twin, batches, loss_fn):
        yield share, loss_of(loss_fn, call(twin, inputs), labels)


def weighted_batches(twin: nn.Module, batches: Sequence[Batch], loss_fn: LossFn) -> Iterator[tuple[float, Batch]]:
    """Yield each batch with what its mean loss counts for in that of all samples; not those in which no label counts.

    Raises:
        ValueError: if there is none.
    """
    if not batches:
        raise ValueError(
            "this score must see examples, got no batch; give batches=[(inputs, labels)], for example from "
            "datasets.few_per_class(data, 10)"
        )
    pairs = [Adaptor().pair(batch) for batch in batches]
    with torch.no_grad():
        counts = shares(loss_fn, [labels for _, labels in pairs], lambda: call(twin, pairs[0][0]))
    yield from ((share, pair) for share, pair in zip(counts, pairs, strict=True) if share)


def drawing_from(generator: torch.Generator) -> seeded_rng:
    """Let what draws from torch's global stream (dropout) draw from a stream that a generator seeds."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return seeded_rng(torch.Generator().manual_seed(seed))


def _whole(model: nn.Module, exclude: tuple[str, ...]) -> Topology:
    shapes = shapes_of(model, exclude=exclude)
    return Topology({name: LayerTopology.full(shape) for name, shape in shapes.items()})


def _taken(
    score: Score,
    model: nn.Module,
    batches: Sequence[Batch],
    loss_fn: LossFn,
    generator: torch.Generator,
    kept: Topology,
) -> dict[str, Tensor]:
    """Take a score, whatever is switched off outside; where it is 0 for every weight it cannot rank any.

    In a later round that is a finding: the layers have collapsed, and no weight that is left does anything.
    """
    with torch.inference_mode(False), torch.enable_grad():
        scores = score(model, batches, loss_fn, generator, kept=kept)
    is_first = all(layer.count == layer.size for layer in kept.values())
    if is_first and scores and not any(bool(tensor.any()) for tensor in scores.values()):
        raise ValueError(
            f"at least one weight must have a score other than 0, got 0 for all of {', '.join(scores)}; outputs must "
            "depend on them, and no layer behind them may be all zeros (as last layers are that begin at 0): give it "
            "values first"
        )
    return scores


def _best(score: Score, scores: Mapping[str, Tensor], density: float, allocation: str) -> Topology:
    if score.scope == "layer":
        counts = allocate({name: tuple(tensor.shape) for name, tensor in scores.items()}, density, allocation)
        return keep_top_per_layer(scores, counts)
    size = sum(tensor.numel() for tensor in scores.values())
    return keep_top_global(scores, round(density * size), min_per_layer=score.min_per_layer)


def _only(mask: Tensor, scores: Tensor) -> Tensor:
    """What was left out before ranks last."""
    return scores.masked_fill(~mask.to(scores.device), -torch.inf)


def _check(model: nn.Module, score: Score, density: float) -> None:
    if not isinstance(score, Score):
        raise TypeError(f"score must be a Score, got {score!r}; call it, as in SNIP(), or get('score', 'snip')()")
    check_density(density)
    if sparse_layers(model):
        raise ValueError("scores before training need a plain model, got a sparse one; call densify on it first")
