"""What a guided sampling of candidates found: how many, how one-sided, and how much of what matters."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.kernels.sampling import sample_positions
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import AllMissing, Candidates, Guided, Uniform
from sparsekit.topology import LayerTopology
from sparsekit.topology.allocation import check_density
from sparsekit.topology.selection import draw_distinct, topk_indices
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import exact_fraction

RATIO_DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # from where nothing repeats to where much is taken


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What one sampling found in a layer.

    Args:
        connections: how many exist.
        draws: how often was drawn.
        distinct: different places among the draws.
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
        inputs: probability of each input, `(F,)`; the mean over the groups of a grouped convolution.
        outputs: probability of each output, `(O,)`.
        candidates: missing places that were drawn.
        best: as many missing places with the largest gradients as are to be grown.
    """

    topology: LayerTopology
    inputs: Float[Tensor, " f"]
    outputs: Float[Tensor, " o"]
    candidates: LayerTopology
    best: LayerTopology

    @property
    def recall(self) -> float:
        """Share of the best places that are candidates; NaN where none is wanted."""
        return (self.best & self.candidates).count / self.best.count if self.best.count else math.nan


def guidance(view: LayerView, candidates: Guided, *, fraction: float = 0.2, seed: int = 0) -> Guidance:
    """Return one sampling of a layer in full: what guides it, what it draws, and what it should find.

    Args:
        view: the layer, after a captured backward pass.
        candidates: how they are drawn.
        fraction: share of the connections that are to be grown.
        seed: of the draws; the same as in `guidance_table`.
    """
    old, draws = view.topology, lambda: generator(seed, "guidance", view.name)
    count = math.ceil(exact_fraction(fraction) * old.count)
    inputs, outputs = candidates.guide(view, draws())
    drawn = torch.cat([*candidates(view, old, count, draws()), old.indices[:0]])
    return Guidance(
        topology=old,
        inputs=_shares(inputs).mean(0),
        outputs=_shares(outputs),
        candidates=LayerTopology(old.shape, drawn),
        best=LayerTopology(old.shape, _largest_gradients(view, count, draws())),
    )


def sampled(view: LayerView, candidates: Guided, generator: torch.Generator) -> Sampled:
    """Return what these candidates would be in a layer, in numbers.

    Args:
        view: the layer, with what was captured where the candidates need it.
        candidates: how they are drawn.
        generator: the same state gives the candidates that a rewiring would consider.

    Example:
        >>> from sparsekit.rules import Uniform
        >>> view = LayerView(name="fc", topology=LayerTopology((8, 8), torch.arange(8)), values=torch.ones(8))
        >>> sampled(view, Uniform(sampler="exact"), torch.Generator().manual_seed(0)).ratio
        1.0
    """
    old = view.topology
    if candidates.considers_all(view, old) or candidates.sampler == "exact":
        count = sum(part.numel() for part in candidates(view, old, 0, generator))
        return Sampled(connections=old.count, draws=count, distinct=count, candidates=count)
    draws = candidates.num_draws(old)
    nothing = LayerTopology(old.shape, old.indices[:0])
    distinct = sample_positions(*candidates.guide(view, generator), draws, nothing, generator)
    missing = int((old.position_of(distinct) < 0).sum())
    return Sampled(connections=old.count, draws=draws, distinct=distinct.numel(), candidates=missing)


def sampled_ratio_expected(density: float, subset: float = 1.0) -> float:
    """Return `|S| / |A|` as chance gives it where all places are drawn alike: `(1 - d)(1 - exp(-subset d)) / d`.

    This is the `gamma` of `Pass` in the count of operations. Guiding weights make it smaller.

    Args:
        density: of the layer, in (0, 1].
        subset: draws per existing connection.

    Raises:
        ValueError: if the density is outside (0, 1].

    Example:
        >>> round(sampled_ratio_expected(0.05), 3)
        0.927

    Source: sampling with replacement as in Heddes et al. (2024), arXiv:2401.06898; the formula is ours.
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
        places = draw_distinct(width * width, round(density * width * width), draws)
        layer = LayerTopology((width, width), places)
        view = LayerView(name="", topology=layer, values=torch.ones(layer.count))
        rows[density] = (
            sampled(view, Uniform(subset=subset), draws).ratio,
            sampled_ratio_expected(layer.density, subset),
        )
    return pd.DataFrame.from_dict(rows, orient="index", columns=["measured", "expected"]).rename_axis("density")


def relative_entropy(weights: Float[Tensor, " n"]) -> float:
    """Return the entropy of weights, taken as probabilities, as a share of the largest possible, 0 to 1.

    1 means that they are all alike and guide nowhere, 0 that a single one has all the weight. Weights that are all zero
    or not finite count as alike, as they do in sampling.

    Example:
        >>> relative_entropy(torch.tensor([1.0, 1.0, 0.0, 0.0]))
        0.5
    """
    total = float(weights.double().sum())
    if not (math.isfinite(total) and total > 0) or weights.numel() == 1:
        return 1.0
    return float(torch.special.entr(weights.double() / total).sum()) / math.log(weights.numel())


def growth_recall(view: LayerView, candidates: Candidates, count: int, generator: torch.Generator) -> float:
    """Return which share of the missing places with the `count` largest gradients is among the candidates, 0 to 1.

    For analysis only: the gradients of all missing places are computed, in parts, so that nothing as large as the
    dense layer is ever made. As growth takes the best of what is considered, this is also the share of RigL's growth
    that the candidates make possible. NaN where nothing is missing or wanted.
    """
    best = _largest_gradients(view, count, generator)
    parts = candidates(view, view.topology, count, generator)
    found = sum(int((LayerTopology(view.topology.shape, part).position_of(best) >= 0).sum()) for part in parts)
    return found / best.numel() if best.numel() else math.nan


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
    found = [
        counts[name] * growth_recall(view, candidates, counts[name], generator(seed, "guidance", name))
        for name, view in views.items()
        if counts[name]
    ]
    return sum(found) / sum(counts.values()) if found else math.nan


def guidance_table(
    views: Mapping[str, LayerView], candidates: Guided, *, fraction: float = 0.2, seed: int = 0
) -> pd.DataFrame:
    """Return for each layer what a sampling finds, beside what chance would.

    Args:
        views: what a rule sees after a captured backward pass.
        candidates: how they are drawn.
        fraction: share of the connections whose growth `recall` is about.
        seed: of the draws.

    Returns:
        Columns `ratio`, `expected` (of uniform draws), `duplicates`, `input_entropy` and `output_entropy` (as shares of
        the uniform distribution's), `recall`.
    """
    rows = {name: _row(view, candidates, fraction, seed) for name, view in views.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def _row(view: LayerView, candidates: Guided, fraction: float, seed: int) -> dict[str, float]:
    inputs, outputs = candidates.guide(view, generator(seed, "guidance", view.name))
    found = sampled(view, candidates, generator(seed, "guidance", view.name))
    count = math.ceil(exact_fraction(fraction) * view.topology.count)
    return {
        "ratio": found.ratio,
        "expected": sampled_ratio_expected(view.topology.density, candidates.subset) if found.connections else math.nan,
        "duplicates": found.duplicates,
        "input_entropy": relative_entropy(inputs.flatten()),
        "output_entropy": relative_entropy(outputs),
        "recall": growth_recall(view, candidates, count, generator(seed, "guidance", view.name)),
    }


def _shares(weights: Float[Tensor, "*groups n"]) -> Float[Tensor, "*groups n"]:
    """Weights as probabilities; equal ones where nothing can be drawn from them, as in sampling."""
    total = weights.sum(-1, keepdim=True)
    usable = total.isfinite() & (total > 0)
    return torch.where(usable, weights / total, 1 / weights.shape[-1])


def _largest_gradients(view: LayerView, count: int, generator: torch.Generator) -> Int64[Tensor, " c"]:
    """Positions of the largest gradients among the missing places, sorted."""
    old = view.topology
    scores, places = torch.empty(0, device=old.indices.device), old.indices[:0]
    for part in AllMissing()(view, old, count, generator):
        new = view.grad_at(part).abs()
        scores, places = torch.cat([scores.to(new), new]), torch.cat([places, part])
        first = topk_indices(scores, min(count, scores.numel()))
        scores, places = scores[first], places[first]
    return places
