"""What a guided sampling of candidates yields: how many, how one-sided, and how many of the best ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.kernels.sampling import draw_in_turn, sample_positions
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import AllMissing, Candidates, Guided, Uniform
from sparsekit.topology import LayerTopology
from sparsekit.topology.allocation import check_density
from sparsekit.topology.selection import draw_distinct, topk_indices
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import exact_fraction

RATIO_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # from few draws that repeat to many


@dataclass(frozen=True, kw_only=True)
class SampleCounts:
    """The numbers of one sampling in a layer.

    Args:
        connections: how many exist.
        draws: how many positions were drawn.
        distinct: different positions among the draws.
        candidates: those of them that are missing.
    """

    connections: int
    draws: int
    distinct: int
    candidates: int

    @property
    def ratio(self) -> float:
        """Candidates per existing connection, `|S| / |A|`: what growth costs in gradients."""
        return self.candidates / self.connections if self.connections else math.nan

    @property
    def duplicates(self) -> float:
        """Share of the draws that repeat another one, 0 to 1."""
        return 1 - self.distinct / self.draws if self.draws else math.nan


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """What guided one sampling in a layer, and where it led.

    Args:
        topology: connections that exist.
        inputs: probability of each input, `(F,)`, the mean over the groups of a grouped convolution.
        outputs: probability of each output, `(O,)`.
        candidates: missing positions that were drawn.
        best: as many missing positions with the largest gradients as are to be grown.
    """

    topology: LayerTopology
    inputs: Float[Tensor, " f"]
    outputs: Float[Tensor, " o"]
    candidates: LayerTopology
    best: LayerTopology

    @property
    def recall(self) -> float:
        """Share of the best positions that are candidates, or NaN where none is to be grown."""
        return (self.best & self.candidates).count / self.best.count if self.best.count else math.nan


def guidance(view: LayerView, candidates: Guided, *, fraction: float = 0.2, seed: int = 0) -> Guidance:
    """Return one sampling of a layer in full: what guides it, what it draws, and what it should find.

    Args:
        view: the layer, after a captured backward pass.
        candidates: how they are drawn.
        fraction: share of the connections that are to be grown.
        seed: of the draws, as in `guidance_table`.
    """
    old, fresh_draws = view.topology, lambda: generator(seed, "guidance", view.name)
    count = math.ceil(exact_fraction(fraction) * old.count)
    inputs, outputs = candidates.guide(view, fresh_draws())
    positions = torch.cat([*candidates(view, old, count, fresh_draws()), old.indices[:0]])
    return Guidance(
        topology=old,
        inputs=_shares(inputs).mean(0),
        outputs=_shares(outputs),
        candidates=LayerTopology(old.shape, positions),
        best=LayerTopology(old.shape, _largest_gradients(view, count, fresh_draws())),
    )


def guided_draws(view: LayerView, candidates: Guided, num_draws: int, *, seed: int = 0) -> Int64[Tensor, " m"]:
    """Return the positions that a guide draws in a layer, one after the other and with repetitions.

    A first part of them is what a smaller subset draws, so one call serves every subset.

    Args:
        view: the layer, after a captured backward pass.
        candidates: what guides.
        num_draws: number of draws.
        seed: of the draws.
    """
    inputs, outputs = candidates.guide(view, generator(seed, "guidance", view.name))
    return draw_in_turn(inputs, outputs, num_draws, generator(seed, "guided-draws", view.name))


def sample_counts(view: LayerView, candidates: Guided, generator: torch.Generator) -> SampleCounts:
    """Return how many candidates a sampling would find in a layer, and in how many draws.

    Args:
        view: the layer, with what was captured where the candidates need it.
        candidates: how they are drawn.
        generator: the state of a rewiring gives the candidates that it would consider.

    Example:
        >>> from sparsekit.rules import Uniform
        >>> view = LayerView(name="fc", topology=LayerTopology((8, 8), torch.arange(8)), values=torch.ones(8))
        >>> sample_counts(view, Uniform(sampler="exact"), torch.Generator().manual_seed(0)).ratio
        1.0
    """
    old = view.topology
    if candidates.considers_all(view, old) or candidates.sampler == "exact":
        count = sum(part.numel() for part in candidates(view, old, 0, generator))
        return SampleCounts(connections=old.count, draws=count, distinct=count, candidates=count)
    draws = candidates.num_draws(old)
    nothing = LayerTopology(old.shape, old.indices[:0])
    distinct = sample_positions(*candidates.guide(view, generator), draws, nothing, generator)
    missing = int((old.position_of(distinct) < 0).sum())
    return SampleCounts(connections=old.count, draws=draws, distinct=distinct.numel(), candidates=missing)


def sampled_ratio_expected(density: float, subset: float = 1.0) -> float:
    """Return `|S| / |A|` for uniform draws over all positions: `(1 - d)(1 - exp(-subset d)) / d`.

    This is the `gamma` of `Pass` in the count of operations. Guiding weights make it smaller.

    Args:
        density: of the layer, in (0, 1].
        subset: draws per existing connection.

    Raises:
        ValueError: if the density is outside (0, 1].

    Example:
        >>> round(sampled_ratio_expected(0.05), 3)
        0.927

    Source: sampling with replacement as in Heddes et al. (2024), arXiv:2401.06898. The formula is ours.
    """
    check_density(density)
    return (1 - density) * -math.expm1(-subset * density) / density


def sampled_ratios(
    subset: float, densities: Sequence[float] = RATIO_DENSITIES, *, width: int = 300, seed: int = 0
) -> pd.DataFrame:
    """Return `|S| / |A|` as measured in random square layers of these densities, beside what the formula says.

    Args:
        subset: draws per existing connection.
        densities: of the layers.
        width: inputs, and outputs, of each layer.
        seed: of connections and draws.

    Returns:
        Columns `measured` and `expected`, one row per density.

    Example:
        >>> sampled_ratios(1.0, [0.05]).round(2).to_dict("list")
        {'measured': [0.94], 'expected': [0.93]}
    """
    draws, rows = generator(seed, "sampled-ratios"), {}
    for density in densities:
        positions = draw_distinct(width * width, round(density * width * width), draws)
        layer = LayerTopology((width, width), positions)
        view = LayerView(name="", topology=layer, values=torch.ones(layer.count))
        rows[density] = (
            sample_counts(view, Uniform(subset=subset), draws).ratio,
            sampled_ratio_expected(layer.density, subset),
        )
    return pd.DataFrame.from_dict(rows, orient="index", columns=["measured", "expected"]).rename_axis("density")


def relative_entropy(weights: Float[Tensor, " n"]) -> float:
    """Return the entropy of weights, taken as probabilities, as a share of the largest possible, 0 to 1.

    1 means that they are all alike and guide nowhere, and 0 that a single one has all the weight. Weights that are all
    zero or not finite count as alike, as they do in sampling.

    Example:
        >>> relative_entropy(torch.tensor([1.0, 1.0, 0.0, 0.0]))
        0.5
    """
    total = float(weights.double().sum())
    if not (math.isfinite(total) and total > 0) or weights.numel() == 1:
        return 1.0
    return float(torch.special.entr(weights.double() / total).sum()) / math.log(weights.numel())


def growth_recall(view: LayerView, candidates: Candidates, count: int, generator: torch.Generator) -> float:
    """Return which share of the missing positions with the `count` largest gradients is among the candidates, 0 to 1.

    This is for analysis only, because the gradients of all missing positions are computed. That happens in parts, so
    nothing as large as the dense layer is ever made. As growth takes the best candidates, this is also the share of
    RigL's growth that the candidates make possible. It is NaN where nothing is missing or nothing is to be grown.
    """
    best = _largest_gradients(view, count, generator)
    parts = candidates(view, view.topology, count, generator)
    hits = sum(int((LayerTopology(view.topology.shape, part).position_of(best) >= 0).sum()) for part in parts)
    return hits / best.numel() if best.numel() else math.nan


def network_recall(
    views: Mapping[str, LayerView], candidates: Candidates, *, fraction: float = 0.2, seed: int = 0
) -> float:
    """Return which share of all layers' largest missing gradients is among the candidates, 0 to 1.

    Args:
        views: what a rule sees after a captured backward pass.
        candidates: how they are drawn, guided or not.
        fraction: share of each layer's connections that are to be grown.
        seed: of the draws.
    """
    counts = {name: math.ceil(exact_fraction(fraction) * view.topology.count) for name, view in views.items()}
    hits = [
        counts[name] * growth_recall(view, candidates, counts[name], generator(seed, "guidance", name))
        for name, view in views.items()
        if counts[name]
    ]
    return sum(hits) / sum(counts.values()) if hits else math.nan


def guidance_table(
    views: Mapping[str, LayerView], candidates: Guided, *, fraction: float = 0.2, seed: int = 0
) -> pd.DataFrame:
    """Return for each layer what a sampling finds, beside what uniform draws would find.

    Args:
        views: what a rule sees after a captured backward pass.
        candidates: how they are drawn.
        fraction: share of the connections whose growth `recall` is about.
        seed: of the draws.

    Returns:
        The columns `ratio`, `expected` (of uniform draws), `duplicates`, `input_entropy` and `output_entropy` (as
        shares of the uniform distribution's), and `recall`.
    """
    rows = {name: _row(view, candidates, fraction, seed) for name, view in views.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _row(view: LayerView, candidates: Guided, fraction: float, seed: int) -> dict[str, float]:
    inputs, outputs = candidates.guide(view, generator(seed, "guidance", view.name))
    sampling = sample_counts(view, candidates, generator(seed, "guidance", view.name))
    topology = view.topology
    count = math.ceil(exact_fraction(fraction) * topology.count)
    return {
        "ratio": sampling.ratio,
        "expected": sampled_ratio_expected(topology.density, candidates.subset) if topology.count else math.nan,
        "duplicates": sampling.duplicates,
        "input_entropy": relative_entropy(inputs.flatten()),
        "output_entropy": relative_entropy(outputs),
        "recall": growth_recall(view, candidates, count, generator(seed, "guidance", view.name)),
    }


def _shares(weights: Float[Tensor, "*groups n"]) -> Float[Tensor, "*groups n"]:
    """Return weights as probabilities, which are equal where the weights allow no draw, as in sampling."""
    total = weights.sum(-1, keepdim=True)
    usable = total.isfinite() & (total > 0)
    return torch.where(usable, weights / total, 1 / weights.shape[-1])


def _largest_gradients(view: LayerView, count: int, generator: torch.Generator) -> Int64[Tensor, " c"]:
    """Return the positions of the largest gradients among the missing ones, sorted."""
    old = view.topology
    scores, positions = torch.empty(0, device=old.indices.device), old.indices[:0]
    for part in AllMissing()(view, old, count, generator):
        new = view.grad_at(part).abs()
        scores, positions = torch.cat([scores.to(new), new]), torch.cat([positions, part])
        best = topk_indices(scores, min(count, scores.numel()))
        scores, positions = scores[best], positions[best]
    return positions
