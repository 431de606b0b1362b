"""Scores before training: a number for every weight of a plain model, and `prune`, which keeps the highest."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.losses import LossFn
from sparsekit.layers import shapes_of, sparse_layers
from sparsekit.scores.view import Batch, ScoreView
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import allocate, check_density
from sparsekit.topology.selection import keep_top_global, keep_top_per_layer
from sparsekit.utils.checks import check_types
from sparsekit.utils.seeds import generator as stream
from sparsekit.utils.settings import check_range, setting


@dataclass(frozen=True, kw_only=True)
class Score(ABC):
    """A number for each weight of a plain model, where higher means keep.

    Subclasses are frozen keyword-only dataclasses, registered under the kind `"score"`, with `Source:` in their
    docstring. What all have in common is how `prune` uses them.

    Attributes:
        sees: what of the batches it looks at: `"examples"`, the `"shape"` of an input, or `"nothing"`.
        passes: what a round costs for one example (for one input where it sees shapes only), in forward passes. A
            backward pass counts as two. NaN for a score that does not say.

    Raises:
        ValueError: if a setting is out of range.
    """

    sees: ClassVar[Literal["examples", "shape", "nothing"]] = "examples"
    passes: ClassVar[float] = math.nan

    rounds: int = setting(1, "how often the score is taken, while the density falls step by step", range=(1, 1000))
    density_schedule: Literal["exponential", "linear"] = setting("exponential", "how the density falls over the rounds")
    allow_regrowth: bool = setting(False, "may a weight that an earlier round left out regrow?")
    scope: Literal["global", "layer"] = setting("global", "one ranking of all layers, or each its allocated count")
    min_per_layer: int = setting(1, "connections that no layer falls below in one ranking", range=(0, 1000))

    def __post_init__(self):
        check_types(self)
        check_range(self, rounds=(1, float("inf")), min_per_layer=(0, float("inf")))

    @abstractmethod
    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        """Return a tensor shaped like the weight for each layer of `view.topology`. Pure: the model stays as it is."""

    def density_after(self, turn: int, density: float) -> float:
        """Return the density after a round (1 is the first) on the way from 1 to `density`.

        Example:
            >>> from sparsekit.scores import SNIP
            >>> round(SNIP(rounds=100).density_after(50, 0.02), 6)
            0.141421
        """
        share = turn / self.rounds
        return density**share if self.density_schedule == "exponential" else 1 - (1 - density) * share

    def flops(self, dense: float, *, samples: int) -> float:
        """Return the operations of all rounds, or NaN if the score does not say.

        Args:
            dense: operations of the dense forward pass, per sample.
            samples: how many samples the batches hold.

        Example:
            >>> from sparsekit.scores import SNIP
            >>> SNIP(rounds=2).flops(10.0, samples=4)
            240.0
        """
        return float(self.passes * (samples if self.sees == "examples" else 1) * self.rounds * dense)


def prune(
    model: nn.Module,
    score: Score,
    density: float,
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn | None = None,
    adaptor: Adaptor | None = None,
    allocation: str = "erk",
    exclude: tuple[str, ...] = (),
    seed: int = 0,
) -> Topology:
    """Return the connections with the highest scores: exactly `round(density * size)` of them.

    With `score.rounds` above 1 the score is taken again and again while the density falls. What a round leaves out
    counts as zero in the next ones, and stays out unless `score.allow_regrowth`. Parameters, buffers, training mode and
    random state of the model are as before. A layer that the forward pass does not use scores 0, so it keeps
    `score.min_per_layer` connections.

    Args:
        model: a plain one. See `densify` for a sparse one.
        score: for example `SNIP()`.
        density: share of the weights to keep, in (0, 1].
        batches: what the score looks at, the same in all rounds. See `datasets.few_per_class`.
        loss_fn: `(outputs, labels) -> mean loss`. None takes the loss that outputs hold, or else cross entropy.
        adaptor: how to read batches and outputs of other forms. A dict with `labels` needs none.
        allocation: how many each layer gets, for scores of scope `"layer"`.
        exclude: layers to leave alone. `"first"` and `"last"` mean what they say.
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
    view = _first_view(model, batches, loss_fn, adaptor, exclude, seed)
    for turn in range(1, score.rounds + 1):
        view = replace(view, generator=stream(seed, "score", turn))
        scores = _scores_of(score, view)
        if not score.allow_regrowth:
            scores = {name: _only(view.topology[name].mask(), tensor) for name, tensor in scores.items()}
        view = replace(view, topology=_best(score, scores, score.density_after(turn, density), allocation))
    return view.topology


def prune_each(
    model: nn.Module,
    score: Score,
    densities: Iterable[float],
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn | None = None,
    adaptor: Adaptor | None = None,
    allocation: str = "erk",
    exclude: tuple[str, ...] = (),
    seed: int = 0,
) -> Iterator[Topology]:
    """Yield what `prune` gives at each density. A score of a single round is taken once for all of them.

    Arguments and errors are those of `prune`.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> [kept.count for kept in prune_each(nn.Sequential(nn.Linear(8, 4)), Magnitude(), (0.5, 0.25))]
        [16, 8]
    """
    batches = list(batches)
    anew = partial(prune, model, score, batches=batches, loss_fn=loss_fn, adaptor=adaptor, exclude=exclude, seed=seed)
    whole = partial(score_whole, model, score, batches=batches, loss_fn=loss_fn, adaptor=adaptor)
    scores = whole(exclude=exclude, seed=seed) if score.rounds == 1 else None
    for density in densities:
        _check(model, score, density)
        yield anew(density, allocation=allocation) if scores is None else _best(score, scores, density, allocation)


def score_whole(
    model: nn.Module,
    score: Score,
    *,
    batches: Iterable[Batch] = (),
    loss_fn: LossFn | None = None,
    adaptor: Adaptor | None = None,
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
    return _scores_of(score, _first_view(model, batches, loss_fn, adaptor, exclude, seed))


def _first_view(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFn | None,
    adaptor: Adaptor | None,
    exclude: tuple[str, ...],
    seed: int,
) -> ScoreView:
    """Return what the first round sees, in which all connections exist."""
    topology = Topology({name: LayerTopology.full(shape) for name, shape in shapes_of(model, exclude=exclude).items()})
    return ScoreView(
        model=model,
        topology=topology,
        batches=list(batches),
        loss_fn=loss_fn,
        adaptor=adaptor,
        generator=stream(seed, "score", 1),
    )


def _scores_of(score: Score, view: ScoreView) -> dict[str, Tensor]:
    """Take a score, with gradients on. A first score that is 0 for every weight is refused, as it cannot rank any.

    In a later round this is no mistake, because the layers have collapsed and no remaining weight does anything.
    """
    with torch.inference_mode(False), torch.enable_grad():
        scores = score(view)
    is_first = all(layer.count == layer.size for layer in view.topology.values())
    if is_first and scores and not any(bool(tensor.any()) for tensor in scores.values()):
        raise ValueError(
            f"at least one weight must have a score other than 0, got 0 for all of {', '.join(scores)}. Outputs must "
            "depend on them, and no layer behind them may be all zeros (as last layers are that begin at 0). Give it "
            "other values first"
        )
    return scores


def _best(score: Score, scores: Mapping[str, Tensor], density: float, allocation: str) -> Topology:
    if score.scope == "layer":
        counts = allocate({name: tuple(tensor.shape) for name, tensor in scores.items()}, density, allocation)
        return keep_top_per_layer(scores, counts)
    size = sum(tensor.numel() for tensor in scores.values())
    return keep_top_global(scores, round(density * size), min_per_layer=score.min_per_layer)


def _only(mask: Tensor, scores: Tensor) -> Tensor:
    """Return scores in which what was left out before ranks last."""
    return scores.masked_fill(~mask.to(scores.device), -torch.inf)


def _check(model: nn.Module, score: Score, density: float) -> None:
    if not isinstance(score, Score):
        raise TypeError(f"score must be a Score, got {score!r}. Call it, as in SNIP(), or use get('score', 'snip')()")
    check_density(density)
    if sparse_layers(model):
        raise ValueError("scores before training need a plain model, got a sparse one. Call densify on it first")
