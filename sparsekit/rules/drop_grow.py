"""Drop and grow: give up some connections, take as many new ones. Many published methods are settings of it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Candidates, DropScore, GrowScore, Rule
from sparsekit.rules.candidates.all_missing import AllMissing
from sparsekit.rules.drop.magnitude import Magnitude
from sparsekit.rules.flops import Pass, mean_step, sparse_step
from sparsekit.rules.grow.gradient import Gradient
from sparsekit.rules.parts import HasCandidateState, State, part_of
from sparsekit.schedules import Cosine, Schedule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import check_density, share_out
from sparsekit.topology.selection import topk_indices
from sparsekit.topology.sorted_sets import true_positions
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting

ROUNDINGS = {"down": math.floor, "up": math.ceil, "nearest": round}


@register("rule", "drop-grow", is_method=False)  # its presets are the methods
@dataclass(frozen=True, kw_only=True)
class DropGrow(Rule):
    """Every so many steps, drop the connections with the lowest drop scores and grow as many elsewhere.

    With the defaults this is RigL. After every rewiring the number of connections is exact, for each layer (scope
    `"layer"`) or for the whole network (`"global"`). Where there are fewer candidates than positions to fill, fewer
    connections are exchanged.

    Raises:
        ValueError: if a setting is out of range, or `drop_fraction` decays and nothing says until when.

    Source: Evci et al. (2020), arXiv:1911.11134, algorithm 1, with its choices made settings.

    Example:
        >>> rule = DropGrow(every=10, stop=100)
        >>> [step for step in range(40) if rule.is_due(step)], round(rule.drop_fraction_at(50), 3)
        ([0, 10, 20, 30], 0.15)
    """

    every_step: ClassVar[bool] = False

    drop: DropScore = setting(Magnitude(), "what a connection must score low in to be dropped")
    grow: GrowScore = setting(Gradient(), "what a candidate must score high in to be grown")
    candidates: Candidates = setting(AllMissing(), "which missing connections are considered for growth")
    drop_fraction: Schedule = setting(
        Cosine(0.3, 0.0), "share of the connections exchanged at a rewiring", range=(0, 1)
    )
    density: Schedule | None = setting(None, "density, from start to stop. None leaves it as it is", range=(0, 1))
    scope: Literal["layer", "global"] = setting("layer", "rank within each layer, or over all layers at once")
    shrink: Literal["per-layer", "global"] = setting(
        "per-layer", "where a falling density takes from: every layer alike, or the lowest scores of one ranking"
    )
    allow_regrowth: bool = setting(True, "may a connection dropped now regrow at once? (no: growing comes first)")
    rounding: Literal["down", "up", "nearest"] = setting(
        "down", "the number exchanged, where the fraction is no integer"
    )
    probe_batches: int = setting(1, "batches whose gradients growth looks at. 1 is that of the step", range=(1, 100))
    replaces_step: bool = setting(True, "a rewiring takes the place of the weight update of its step")
    every: int = setting(100, "steps between rewirings. 1 leaves none to train if they replace it", range=(1, 10_000))
    start: int = setting(0, "first rewiring step", range=(0, 1_000_000))
    stop: int | None = setting(None, "last step at which the topology may change. None never stops")

    def __post_init__(self):
        super().__post_init__()
        check_range(self, every=(1, math.inf), start=(0, math.inf), probe_batches=(1, math.inf))
        if self.stop is None and self.drop_fraction.lasting(1) != self.drop_fraction:
            raise ValueError(
                f"a fraction that decays must know its end, got {self.drop_fraction} and stop=None. "
                "Give stop=STEPS (RigL: 0.75 of the training), or drop_fraction=Constant(0.3) to continue for ever"
            )
        if self.stop is None and self.density is not None and self.density.lasting(1) != self.density:
            raise ValueError(
                f"a density that changes must know its end, got {self.density} and stop=None. Give stop=STEPS"
            )
        if self.stop is not None and self.stop < self.start:
            raise ValueError(
                f"stop must be None or at least start, got stop={self.stop} and start={self.start}. "
                "Use Static() for a topology that never changes"
            )
        for step in (0, self.stop or 0):
            self.drop_fraction_at(step)
            self.density_at(step)

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether a backward pass must be captured for this rule."""
        return any(part.needs_gradients for part in (self.drop, self.grow, self.candidates))

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step: `start`, and every `every` steps until `stop`, which is included.

        With a density schedule `stop` itself is always one. Otherwise a schedule whose end falls between two rewirings
        would never arrive, as in GraNet's released code.
        """
        if step < self.start or (self.stop is not None and step > self.stop):
            return False
        arrives = self.density is not None and step == self.stop
        return arrives or (step - self.start) % self.every == 0

    def drop_fraction_at(self, step: int) -> float:
        """Return the share of connections exchanged at a step.

        Raises:
            ValueError: if the schedule leaves [0, 1].
        """
        drop_fraction = self.drop_fraction.lasting(self.stop)(step)
        if not 0 <= drop_fraction <= 1:
            raise ValueError(f"the fraction exchanged must lie in [0, 1], got {drop_fraction} at step {step}. Lower it")
        return drop_fraction

    def density_at(self, step: int) -> float | None:
        """Return the target density at a step, or None where it is left as it is.

        A schedule of open length runs from `start` to `stop` and has its first value before.
        """
        if self.density is None:
            return None
        density = self.density.between(self.start, self.stop)(step)
        check_density(density)
        return density

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return the topology after this rewiring. See `Rule.propose`."""
        all_views = list(views.values())
        targets = self._targets(all_views, step, generator)
        groups = [[view] for view in all_views] if self.scope == "layer" else [all_views]
        new = {}
        for group in groups:
            target = sum(targets[view.name] for view in group)
            new.update(self._rewire_group(group, target, step, generator))
        return Topology({name: new[name] for name in views})

    def _rewire_group(self, group: Sequence[LayerView], target: int, step: int, generator: torch.Generator) -> dict:
        """Rewire layers that share one budget and one ranking, which are a single layer or all of them."""
        old = {view.name: view.topology for view in group}
        count = _count(old)
        num_kept = min(count, target) - self._num_exchanged(min(count, target), step)
        if num_kept == count == target:
            return old
        drop_scores = torch.cat([self.drop(view, step, generator) for view in group])
        taken = _cut(old, topk_indices(drop_scores, num_kept)) if self.allow_regrowth else old
        grown = self._grow(group, taken, target - num_kept, step, generator)
        if self.allow_regrowth:
            new = _united(taken, grown)
            if _count(new) == target:
                return new
        # What was grown is not dropped. Where candidates ran short, the best of the dropped stay.
        rest = true_positions(torch.cat([grown[name].position_of(layer.indices) < 0 for name, layer in old.items()]))
        best = topk_indices(drop_scores.index_select(0, rest), min(target - _count(grown), rest.numel()))
        stay = _cut(old, rest.index_select(0, best))
        return _united(stay, grown)

    def _num_exchanged(self, count: int, step: int) -> int:
        """Return how many connections are exchanged, which are fewer where candidates run short."""
        return ROUNDINGS[self.rounding](exact_fraction(self.drop_fraction_at(step)) * count)

    def initial_density(self, density: float) -> float:
        """Return the density at step 0, where a schedule says what it is: nothing changes before the first rewiring."""
        first = self.density_at(0)
        return density if first is None else first

    def training_flops(self, cost: Pass) -> float:
        """Count a sparse step, and once in `every` steps the gradients of the candidates, if growth looks at them.

        RigL needs those of all weights, GSE those of its draws, and SET none. Several batches to look at are steps of
        their own.

        Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
        """
        step = sparse_step(cost)
        if not self.grow.needs_gradients:
            return step
        look = self.candidates.step_flops(cost)
        rewiring = look if self.probe_batches == 1 else step + self.probe_batches * look
        return mean_step(step, rewiring, self.every)

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        """Return the state of candidates that have one."""
        part = part_of(self.candidates, HasCandidateState)
        return {} if part is None else {name: part.init_state(view) for name, view in views.items()}

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        """Return the new state of candidates that have one."""
        part = part_of(self.candidates, HasCandidateState)
        return {} if part is None else {name: part.update_state(view) for name, view in views.items()}

    def _targets(self, views: Sequence[LayerView], step: int, generator: torch.Generator) -> Mapping[str, int]:
        """Return how many connections each layer gets, which are as many as now unless the density changes."""
        density, counts = self.density_at(step), {view.name: view.topology.count for view in views}
        if density is None:
            return counts
        sizes = {view.name: view.topology.size for view in views}
        target = max(1, round(density * sum(sizes.values())))
        if self.shrink == "global" and target < sum(counts.values()):
            return self._best_of_network(views, target, step, generator)
        return share_out(target, counts, sizes)

    def _best_of_network(
        self, views: Sequence[LayerView], target: int, step: int, generator: torch.Generator
    ) -> Mapping[str, int]:
        """Count the highest drop scores of the whole network in each layer. No layer loses its last connection."""
        scores_of = {view.name: self.drop(view, step, generator).clone() for view in views}
        for scores in filter(torch.numel, scores_of.values()):
            scores[scores.argmax()] = math.inf
        best = topk_indices(torch.cat(list(scores_of.values())), target)
        chosen = _cut({view.name: view.topology for view in views}, best)
        return {name: layer.count for name, layer in chosen.items()}

    def _grow(
        self,
        group: Sequence[LayerView],
        taken: Mapping[str, LayerTopology],
        count: int,
        step: int,
        generator: torch.Generator,
    ) -> dict[str, LayerTopology]:
        """Keep the `count` best of all candidates while they come in parts."""
        best = (torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        missing = {name: layer.size - layer.count for name, layer in taken.items()}
        counts_to_grow = share_out(min(count, sum(missing.values())), missing, missing)
        for number, view in enumerate(group):
            layer = taken[view.name]
            after_drop = replace(view, remaining=layer)
            for part in self.candidates(view, layer, counts_to_grow[view.name], generator):
                # Each part is cut down before it is compared: what is not among its own best is not among all.
                scores = self.grow(after_drop, part, step, generator)
                new = _best_of((scores, torch.full_like(part, number), part), count)
                best = _best_of([torch.cat([b.to(n), n]) for b, n in zip(best, new, strict=True)], count)
        _, owner, positions = best
        counts = torch.bincount(owner, minlength=len(group)).tolist()
        return {
            view.name: LayerTopology(view.topology.shape, part.to(view.topology.indices))
            for view, part in zip(group, positions.split(counts), strict=True)
        }


def _best_of(scored: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """Keep the candidates with the highest scores, which come first, in the order they are in."""
    first = topk_indices(scored[0], min(count, scored[0].numel()))
    return scored if first.numel() == scored[0].numel() else [tensor.index_select(0, first) for tensor in scored]


def _count(layers: Mapping[str, LayerTopology]) -> int:
    return sum(layer.count for layer in layers.values())


def _united(survivors: Mapping[str, LayerTopology], grown: Mapping[str, LayerTopology]) -> dict[str, LayerTopology]:
    return {name: layer | grown[name] for name, layer in survivors.items()}


def _cut(layers: Mapping[str, LayerTopology], positions: Tensor) -> dict[str, LayerTopology]:
    """Keep the chosen positions, in increasing order, of the layers' concatenated connections."""
    ends = list(itertools.accumulate((layer.count for layer in layers.values()), initial=0))
    cuts = torch.searchsorted(positions, torch.tensor(ends, device=positions.device)).tolist()
    return {
        name: LayerTopology(layer.shape, layer.indices.index_select(0, positions[first:last] - start))
        for (name, layer), start, first, last in zip(layers.items(), ends, cuts, cuts[1:], strict=False)
    }
