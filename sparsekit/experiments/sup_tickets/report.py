"""Measure every way to make one network of several tickets, beside the tickets themselves and their ensemble."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sparsekit import datasets
from sparsekit.analysis import assess_claim, ensemble, outputs_of
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.datasets import Dataset
from sparsekit.evaluation.measuring import Batch, evaluate
from sparsekit.experiments.sup_tickets.controls import STILL
from sparsekit.tickets import Ticket, ema_weights, superpose

if TYPE_CHECKING:
    import pandas as pd

BATCH = 1000
GROWN = 1 / 3  # of the kept connections' median magnitude, which that of new ones must reach
AT_CHANCE = 0.1  # of the way from chance to no error, which a network that has learned has behind it
NEAR = 0.05  # around ln(classes), as a share of it
WAYS: dict[str, Callable[[Sequence[Ticket]], Ticket]] = {
    "mean, not pruned": partial(superpose, prune="never"),
    "superposed": superpose,
    "pruned each time": partial(superpose, prune="each"),
    "active-only": partial(superpose, average="active"),
    "active-only, pruned each time": partial(superpose, average="active", prune="each"),
    "EMA": lambda tickets: superpose(tickets, weights=ema_weights(len(tickets))),
    "EMA, pruned each time": lambda tickets: superpose(tickets, weights=ema_weights(len(tickets)), prune="each"),
    "LAWA": lambda tickets: superpose(tickets[-math.ceil(len(tickets) / 2) :]),
    "within layers": partial(superpose, scope="layer"),
}
AVERAGES = ("superposed", "EMA", "LAWA")  # that a control without exploration gets too


def superpositions(
    tickets: Sequence[Ticket],
    model: nn.Module,
    data: Dataset,
    *,
    controls: Mapping[str, Sequence[Ticket]] | None = None,
) -> "pd.DataFrame":
    """Measure tickets, their ensemble and their superpositions on the test data.

    The ensemble averages the softmax outputs of all tickets, and costs as many networks. In both kinds of columns each
    has the batch-norm statistics of its own training, because nothing was averaged that would need fresh ones.
    "superposed" is the mean pruned once, the method of the paper's figure. "EMA" is an exponential moving average, and
    "LAWA" (latest weight averaging) the mean of the later half of the tickets.

    Args:
        tickets: at least one, in the order of their training.
        model: with the layers of the tickets, and it stays as it is.
        data: training images to refresh batch norm with, test images to measure on.
        controls: further sets of tickets by name, as `run_controls` returns them. Each is superposed alike, and adds
            the rows "superposed, NAME" and "ensemble, NAME". That without exploration, which is plain SWA, adds those
            of EMA and LAWA as well, so that all averages stand in one table.

    Returns:
        A row per network, by name, with its accuracy and mean loss (cross-entropy) after and before the batch-norm
        statistics are refreshed (the same where there is no batch norm), connections, and density. "mean of tickets"
        averages the rows of the tickets.

    Raises:
        ValueError: if there is no ticket, or they are not alike.

    Source: the controls of Yin et al. (2022), arXiv:2205.15322, and of stochastic weight averaging, Izmailov et al.
        (2018), arXiv:1803.05407. LAWA is that of Kaddour (2022), arXiv:2209.14981.
    """
    import pandas as pd

    tickets = list(tickets)
    train, test = _batches(data.train, data), _batches(data.test, data)
    networks = {f"ticket {number}": ticket for number, ticket in enumerate(tickets)}
    networks |= {name: way(tickets) for name, way in WAYS.items()}
    rows = {name: _measured(ticket, model, train, test) for name, ticket in networks.items()}
    singles = pd.DataFrame.from_dict({name: rows[name] for name in list(rows)[: len(tickets)]}, orient="index")
    rows["mean of tickets"] = singles.mean().to_dict()
    rows["ensemble"] = _ensemble(tickets, model, test)
    for name, others in (controls or {}).items():
        for way in AVERAGES if name == STILL else AVERAGES[:1]:
            rows[f"{way}, {name}"] = _measured(WAYS[way](others), model, train, test)
        rows[f"ensemble, {name}"] = _ensemble(others, model, test)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def has_learned(accuracy: float, loss: float, num_classes: int) -> bool:
    """Whether a network is better than chance, as a ticket must be.

    It must have a tenth of the way from chance to no error behind it. Before half of that way, its loss must also lie
    5 % away from ln(classes), the loss of a network that gives every class the same chance.

    Args:
        accuracy: share of right answers on test data, 0 to 1.
        loss: mean cross-entropy on test data.
        num_classes: number of classes.

    Example:
        >>> has_learned(0.74, 1.1, 10), has_learned(0.11, 2.0, 10), has_learned(0.3, 2.3, 10)
        (True, False, False)
    """
    chance, uniform = 1 / num_classes, math.log(num_classes)
    way = (accuracy - chance) / (1 - chance)
    is_uniform = abs(loss - uniform) < NEAR * uniform
    return way > 1 / 2 or (way > AT_CHANCE and not is_uniform)


def rivals_of(table: "pd.DataFrame") -> dict[str, float]:
    """Return the accuracies that a superposition must exceed to be worth its cycles, by name.

    The best ticket is the best on the test data, so it has an advantage. Plain averaging is there where the table has
    the control without exploration.

    Args:
        table: as `superpositions` returns it.
    """
    accuracy = table["accuracy"].to_dict()
    tickets = [value for name, value in accuracy.items() if str(name).startswith("ticket ")]
    rivals = {
        "the mean ticket": accuracy["mean of tickets"],
        "the last ticket": tickets[-1],
        "the best ticket": max(tickets),
    }
    plain = accuracy.get(f"superposed, {STILL}")
    return rivals if plain is None else {**rivals, "plain averaging": plain}


def assess_superposition(tables: "Sequence[pd.DataFrame]") -> list[Claim]:
    """Return what several seeds say about the claims that the superposition beats each of its rivals.

    Args:
        tables: as `superpositions` returns them, one per seed, with the same rows.

    Raises:
        ValueError: if there are fewer than two.

    Source: the claims of Yin et al. (2022), arXiv:2205.15322.
    """
    ours = [float(table.at["superposed", "accuracy"]) for table in tables]
    theirs = [rivals_of(table) for table in tables]
    rivals = list(theirs[0]) if theirs else ["its rivals"]
    return [
        assess_claim(f"the superposition beats {rival}", ours, [accuracies[rival] for accuracies in theirs])
        for rival in rivals
    ]


class GrownMagnitudes(NamedTuple):
    """Magnitudes in later tickets, each of shape (e,).

    Args:
        new: of the connections that ticket 0 does not have.
        kept: of those that it has.
    """

    new: Tensor
    kept: Tensor

    @property
    def ratio(self) -> float:
        """The median magnitude of new connections over that of the kept ones, NaN where there are no new ones."""
        return float(self.new.median() / self.kept.median()) if len(self.new) and len(self.kept) else math.nan

    @property
    def have_grown(self) -> bool:
        """Whether the ratio is at least a third. Otherwise a superposition is little more than ticket 0."""
        return self.ratio >= GROWN


def grown_magnitudes(tickets: Sequence[Ticket]) -> GrownMagnitudes:
    """Return how large new connections have become in the cycles, beside those that the ordinary training left.

    Args:
        tickets: in the order of their training. The first is that before the cycles.

    Raises:
        ValueError: if there is no ticket.

    Source: the check is ours. Cycles that are too short, or whose learning rate is too low, fail it.

    Example:
        >>> grown_magnitudes(collected.tickets).ratio  # doctest: +SKIP
        0.62
    """
    if not tickets:
        raise ValueError("there must be a ticket to compare later ones with, got none. Collect some first")
    new, kept = [torch.empty(0)], [torch.empty(0)]
    for ticket in tickets[1:]:
        for name, layer in ticket.topology.items():
            is_new = tickets[0].topology[name].position_of(layer.indices) < 0
            magnitudes = ticket.values[name].abs().float()
            new.append(magnitudes[is_new])
            kept.append(magnitudes[~is_new])
    return GrownMagnitudes(torch.cat(new), torch.cat(kept))


def _measured(ticket: Ticket, model: nn.Module, train: list[Batch], test: list[Batch]) -> dict[str, float]:
    network = ticket.model_like(model)
    fresh, stale = evaluate(network, test, refresh_with=train), evaluate(network, test)
    size = {"connections": ticket.count, "density": ticket.density}
    return _row(fresh.accuracy, fresh.loss, stale.accuracy, stale.loss) | size


def _ensemble(tickets: Sequence[Ticket], model: nn.Module, test: list[Batch]) -> dict[str, float]:
    outputs, labels = outputs_of([ticket.model_like(model) for ticket in tickets], test)
    mean = ensemble(outputs)
    accuracy, loss = float((mean.argmax(1) == labels).double().mean()), float(nn.functional.nll_loss(mean, labels))
    size = {"connections": sum(t.count for t in tickets), "density": sum(t.density for t in tickets)}
    return _row(accuracy, loss, accuracy, loss) | size


def _row(accuracy: float, loss: float, stale_accuracy: float, stale_loss: float) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "loss": loss,
        "accuracy, not refreshed": stale_accuracy,
        "loss, not refreshed": stale_loss,
    }


def _batches(split: datasets.Split, data: Dataset) -> list[Batch]:
    return [(data.prepare(x), y) for x, y in datasets.batches_in_order(split, BATCH)]
