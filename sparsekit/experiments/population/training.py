"""Members of a population are trained as one wide network: a step of it is a step of every member."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from sparsekit.evaluation.measuring import Evaluation, evaluating
from sparsekit.experiments.population.blocks import joined, part_of_features, per_member, split, wide_model
from sparsekit.experiments.population.exchange import MOMENTUM, Exchange, topologies_of
from sparsekit.experiments.population.views import MemberModel, Pairs, member_io, recording
from sparsekit.kernels.layout import from_rows, rows_of
from sparsekit.layers import SparseLayer, sparse_layers
from sparsekit.rewiring.capture import LayerView, NoState
from sparsekit.rewiring.update import TopologyUpdate, check_fits, rewire
from sparsekit.rules.base import Rule
from sparsekit.rules.initial import with_initial_state
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train.loop import StepStats, set_learning_rate
from sparsekit.train.rule_step import replaces_update, update_state
from sparsekit.utils.seeds import generator

Outcome = tuple[StepStats, TopologyUpdate | None] | FloatingPointError


@dataclass(frozen=True, eq=False)
class Member:
    """A network with what trains it, as for `sparsekit.train.training`. The optimizer is an SGD."""

    model: nn.Module
    optimizer: Optimizer
    rule: Rule
    seed: int


@dataclass(frozen=True, eq=False)
class Population:
    """Members as one wide network. What they were made of is up to date again after `scatter`.

    Args:
        members: who is trained.
        model: the wide network.
        optimizer: of the wide network.
        exchange: moves numbers between both.
        topologies: of each layer by name, a member each.
        layers: sparse layers of each member by name.
    """

    members: Sequence[Member]
    model: nn.Module
    optimizer: Optimizer
    exchange: Exchange
    topologies: dict[str, list[LayerTopology]]
    layers: Sequence[Mapping[str, SparseLayer]]

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        """Make the wide network, with the members' topologies, numbers and momentum.

        Raises:
            TypeError: if the networks cannot be laid side by side.
        """
        models, optimizers = [member.model for member in members], [member.optimizer for member in members]
        own = [topologies_of(model) for model in models]
        topologies = {name: [layers[name] for layers in own] for name in own[0]}
        wide = wide_model(models[0], topologies)
        optimizer = SGD(wide.parameters(), **optimizers[0].defaults)
        exchange = Exchange.between(wide, optimizer, models, optimizers)
        exchange.gather()
        return cls(members, wide, optimizer, exchange, topologies, [sparse_layers(model) for model in models])

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.members)

    def scatter(self) -> None:
        """Hand everything that was trained back to the members' models and optimizers."""
        self.exchange.scatter(self.topologies)

    def scatter_densities(self) -> None:
        """Give the members' models as many connections as they have by now, which is all that densities depend on."""
        self.exchange.scatter_topologies(self.topologies, of_other_size=True)

    def step(
        self, inputs: Tensor, labels: Tensor, step: int, learning_rate: float, *, label_smoothing: float = 0.0
    ) -> list[Outcome]:
        """Train on one batch of each member, and rewire those whose rules are due.

        Args:
            inputs: the members' batches side by side, see `blocks.side_by_side`.
            labels: `(B, members)`.
            step: number of this batch, from 0.
            learning_rate: of this step.
            label_smoothing: share of the target spread over all classes.

        Returns:
            For each member what `train_step` gives. It is an error in place of that for a member whose loss or
            gradients are not finite. That member is spoiled then, and the others are as if it were not there.
        """
        due = [number for number, member in enumerate(self.members) if member.rule.is_due(step)]
        looks = any(self.members[number].rule.needs_gradients for number in due)
        set_learning_rate(self.optimizer, learning_rate)
        with recording(self.model, enabled=looks) as pairs:
            stats = self._backward(inputs, labels, label_smoothing)
        outcomes: list[Outcome] = [_checked(one) for one in stats]
        self._update_weights(resting=[number for number in due if replaces_update(self.members[number].rule)])
        if due:
            self._rewire(due, outcomes, pairs, inputs, step)
        self.optimizer.zero_grad(set_to_none=True)
        return outcomes

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Evaluation]:
        """Measure all members on the same examples, see `evaluate`."""
        losses, hits, count = torch.zeros(self.size, dtype=torch.float64), torch.zeros(self.size), 0
        with evaluating(self.model), torch.no_grad():
            for inputs, labels in batches:
                rows = rows_of(inputs)
                repeats = [1] * (rows.dim() - 2) + [self.size, 1]
                outputs = per_member(self.model(from_rows(rows.repeat(repeats))), self.size)
                targets = labels.expand(self.size, -1)
                losses += F.cross_entropy(outputs, targets, reduction="none").double().sum(1)
                hits += _hits(outputs, targets)
                count += len(labels)
        pairs = zip((losses / count).tolist(), (hits.double() / count).tolist(), strict=True)
        return [Evaluation(loss=loss, accuracy=accuracy, count=count) for loss, accuracy in pairs]

    def _backward(self, inputs: Tensor, labels: Tensor, label_smoothing: float) -> list[StepStats]:
        outputs, targets = per_member(self.model(inputs), self.size), labels.T.contiguous()
        losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing).mean(1)
        losses.sum().backward()
        hits, count = _hits(outputs.detach(), targets), len(labels)
        return [
            StepStats(loss=loss, correct=float(correct), count=count)
            for loss, correct in zip(losses.tolist(), hits.tolist(), strict=True)
        ]

    @torch.no_grad()
    def _update_weights(self, resting: Sequence[int]) -> None:
        """Take an optimizer step, which leaves some members as they are."""
        if len(resting) == self.size:
            return
        trained = self._trained() if resting else ()
        before = [(parts[number], parts[number].clone()) for parts in trained for number in resting]
        self.optimizer.step()
        for part, copy in before:
            part.copy_(copy)

    def _trained(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the members' parts of everything that the optimizer changes."""
        for slot in self.exchange.slots:
            yield slot.parts(slot.wide, self.topologies)
            if (momentum := self.optimizer.state[slot.wide].get(MOMENTUM)) is not None:
                yield slot.parts(momentum, self.topologies)

    def _rewire(self, due: Sequence[int], outcomes: list[Outcome], pairs: Pairs, inputs: Tensor, step: int) -> None:
        """Ask rules for proposals, carry out all of them at once, and add each member's update to its outcome."""
        seen = self._seen()
        draws = {number: generator(self.members[number].seed, "rewire", step) for number in due}
        views: dict[int, dict[str, LayerView]] = {}
        proposals: dict[int, Topology] = {}
        for number in due:
            rule = self.members[number].rule
            if isinstance(outcomes[number], FloatingPointError):
                continue
            views[number] = self._views(number, seen, pairs, inputs)
            try:
                proposals[number] = rule.propose(views[number], step, draws[number])
            except FloatingPointError as error:
                outcomes[number] = error
                continue
            check_fits(self.layers[number], proposals[number])
        for number, update in self._carry_out(proposals).items():
            stats, _ = outcomes[number]  # type: ignore[misc]  # it is no error, or there would be no proposal
            outcomes[number] = (stats, update)
            member = self.members[number]
            update_state(member.model, member.rule, views[number], step, draws[number])

    def _carry_out(self, proposals: Mapping[int, Topology]) -> dict[int, TopologyUpdate]:
        updates = {
            number: TopologyUpdate.between({name: self.topologies[name][number] for name in proposal}, proposal)
            for number, proposal in proposals.items()
        }
        for number, proposal in proposals.items():
            for name, layer in proposal.items():
                self.topologies[name][number] = layer
        rewire(self.model, {name: joined(layers) for name, layers in self.topologies.items()}, self.optimizer)
        return updates

    def _seen(self) -> dict[str, tuple[Sequence[Tensor], Sequence[Tensor]]]:
        """Return copies of the values and gradients of each layer, member by member."""
        counts = {name: [layer.count for layer in layers] for name, layers in self.topologies.items()}
        return {
            name: (split(layer.values(), counts[name]), split(cast(Tensor, layer.grads()), counts[name]))
            for name, layer in sparse_layers(self.model).items()
        }

    def _views(
        self, number: int, seen: Mapping[str, tuple[Sequence[Tensor], Sequence[Tensor]]], pairs: Pairs, inputs: Tensor
    ) -> dict[str, LayerView]:
        """Return what a member's rule may see."""
        member, layers = self.members[number], self.layers[number]
        whole = MemberModel(member.model, part_of_features(inputs, number, self.size), self.scatter)
        io = member_io(pairs, layers, whole, number, self.size) if member.rule.needs_gradients else {}
        views = {
            name: LayerView(
                name=name,
                topology=self.topologies[name][number],
                values=seen[name][0][number],
                existing_grads=seen[name][1][number],
                io=io.get(name),
                state=layer.rule_state or NoState(),
            )
            for name, layer in layers.items()
        }
        return with_initial_state(member.rule, views)


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return how many labels each member predicts correctly."""
    return (outputs.max(1).indices == targets).sum(1)  # many times as fast as argmax(1)


def _checked(stats: StepStats) -> Outcome:
    """Return an outcome without an update, or an error if the loss is not finite."""
    if math.isfinite(stats.loss):
        return stats, None
    return FloatingPointError(
        f"the loss must be finite, got {stats.loss}. Lower the learning rate or look at the inputs"
    )
