"""Try out a superposition: its settings decide accuracy, density, and which connections survive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis import ensemble, outputs_of
from sparsekit.evaluation.losses import num_correct
from sparsekit.evaluation.measuring import Batch, evaluate, refresh_batch_norm
from sparsekit.tickets import Ticket
from sparsekit.tickets.superpose import Stack, superpose_stack
from sparsekit.topology import Topology


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one choice of tickets and weights gives.

    Args:
        accuracies: shares of right answers, 0 to 1, by name, of every ticket, of the ensemble of the chosen ones, of
            their mean without pruning, and of the superposition.
        chosen: which tickets take part.
        density: of the superposition.
        union_density: of everything that any chosen ticket has.
        votes: `votes[k]` connections are in exactly k of the chosen tickets, so `votes[0]` is 0.
        survivors: how many of them stay.
    """

    accuracies: Mapping[str, float]
    chosen: tuple[int, ...]
    density: float
    union_density: float
    votes: tuple[int, ...]
    survivors: tuple[int, ...]

    def sentence(self) -> str:
        """Summarise the trial in words."""
        return (
            f"{len(self.chosen)} tickets: superposed {self.accuracies['superposed']:.1%} at density "
            f"{self.density:.2%}, union {self.union_density:.2%}, ensemble {self.accuracies['ensemble']:.1%}"
        )


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Tickets with everything that does not change between trials, so that a trial is fast.

    Args:
        tickets: of networks with the same layers.
        model: with those layers, and it stays as it is.
        test: examples to measure on.
        train: examples to refresh batch norm with.
        outputs: of each ticket's network on the test examples, before softmax.
    """

    tickets: Sequence[Ticket]
    model: nn.Module
    test: Batch
    train: Batch
    outputs: Float[Tensor, "t n classes"]
    _stacks: dict[tuple[int, ...], Stack] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tickets: Sequence[Ticket], model: nn.Module, *, test: Batch, train: Batch) -> "Lab":
        """Measure every ticket once.

        Raises:
            ValueError: if there is no ticket.
        """
        if not tickets:
            raise ValueError("a lab needs at least one ticket, got none. Collect some first")
        outputs, _ = outputs_of([one.model_like(model) for one in tickets], [test])
        return cls(tickets=list(tickets), model=model, test=test, train=train, outputs=outputs)

    def try_out(self, weights: Sequence[float], *, average: str = "mean", prune: str = "once") -> Trial:
        """Superpose the tickets with these weights, without those of weight 0.

        Args:
            weights: one per ticket, not negative.
            average, prune: as for `superpose`.

        Raises:
            ValueError: if all weights are 0, there is not one per ticket, or a word is unknown.
        """
        if len(weights) != len(self.tickets) or not any(weights):
            count = len(self.tickets)
            raise ValueError(
                f"weights must be {count} numbers, not all of them 0, got {list(weights)}. Give one a ticket"
            )
        chosen = tuple(number for number, weight in enumerate(weights) if weight)
        stack, chosen_weights = self._stack(chosen), [weights[number] for number in chosen]
        best, union = (
            superpose_stack(stack, chosen_weights, density=None, average=average, prune=when, scope="global")
            for when in (prune, "never")
        )
        accuracies = {f"ticket {number}": self._right(outputs) for number, outputs in enumerate(self.outputs)}
        accuracies |= {"ensemble": self._right(ensemble(self.outputs[list(chosen)]))}
        accuracies |= {"mean, not pruned": self._accuracy(union), "superposed": self._accuracy(best)}
        votes, survivors = count_votes(stack, best.topology)
        return Trial(
            accuracies=accuracies,
            chosen=chosen,
            density=best.density,
            union_density=union.density,
            votes=votes,
            survivors=survivors,
        )

    def _stack(self, chosen: tuple[int, ...]) -> Stack:
        """Return the chosen tickets side by side. To lay them out again for every new weight would take longest."""
        if chosen not in self._stacks:
            self._stacks.clear()
            self._stacks[chosen] = Stack.of([self.tickets[number] for number in chosen])
        return self._stacks[chosen]

    def _accuracy(self, ticket: Ticket) -> float:
        network = ticket.model_like(self.model)
        refresh_batch_norm(network, [self.train])
        return evaluate(network, [self.test]).accuracy

    def _right(self, outputs: Tensor) -> float:
        correct, total = num_correct(outputs, self.test[1])
        return correct / total


def count_votes(stack: Stack, kept: Topology) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count all connections, and those that were kept, by the number of tickets that have them.

    Args:
        stack: the tickets, side by side.
        kept: some of the connections of their union.

    Returns:
        Two tuples, whose entry k tells how many connections are in exactly k of the tickets.

    Raises:
        ValueError: if a connection that was kept is in none of the tickets.
    """
    length = len(stack.tickets) + 1
    votes, survivors = torch.zeros(length, dtype=torch.int64), torch.zeros(length, dtype=torch.int64)
    for name, layer in kept.items():
        counts, entries = stack.present[name].sum(0), stack.union[name].position_of(layer.indices)
        if entries.numel() and int(entries.min()) < 0:
            raise ValueError(f"{name}: kept connections must be among those of the tickets, got others")
        votes += torch.bincount(counts, minlength=length)
        survivors += torch.bincount(counts[entries], minlength=length)
    return tuple(votes.tolist()), tuple(survivors.tolist())
