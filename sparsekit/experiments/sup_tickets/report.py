"""Measure every way to make one network of several tickets, beside the tickets themselves and their ensemble."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from sparsekit import datasets
from sparsekit.analysis import ensemble, outputs_of
from sparsekit.datasets import Dataset
from sparsekit.evaluation.measuring import Batch, evaluate
from sparsekit.tickets import Ticket, ema_weights, superpose

if TYPE_CHECKING:
    import pandas as pd

BATCH = 1000
WAYS: dict[str, Callable[[Sequence[Ticket]], Ticket]] = {
    "mean, not pruned": partial(superpose, prune="never"),
    "superposed": superpose,
    "pruned each time": partial(superpose, prune="each"),
    "active-only": partial(superpose, average="active"),
    "active-only, pruned each time": partial(superpose, average="active", prune="each"),
    "EMA": lambda tickets: superpose(tickets, weights=ema_weights(len(tickets))),
    "EMA, pruned each time": lambda tickets: superpose(tickets, weights=ema_weights(len(tickets)), prune="each"),
    "within layers": partial(superpose, scope="layer"),
}


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
    "superposed" is the mean pruned once, the method of the paper's figure.

    Args:
        tickets: at least one, in the order of their training.
        model: with the layers of the tickets, and it stays as it is.
        data: training images to refresh batch norm with, test images to measure on.
        controls: further sets of tickets by name, as `run_controls` returns them. Each is superposed alike, and adds
            the rows "superposed, NAME" and "ensemble, NAME".

    Returns:
        A row per network, by name, with its accuracy and mean loss (cross-entropy) after and before the batch-norm
        statistics are refreshed (the same where there is no batch norm), connections, and density. "mean of tickets"
        averages the rows of the tickets.

    Raises:
        ValueError: if there is no ticket, or they are not alike.

    Source: the controls of Yin et al. (2022), arXiv:2205.15322, and of stochastic weight averaging, Izmailov et al.
        (2018), arXiv:1803.05407.
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
        rows[f"superposed, {name}"] = _measured(superpose(others), model, train, test)
        rows[f"ensemble, {name}"] = _ensemble(others, model, test)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


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
