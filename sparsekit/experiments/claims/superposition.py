"""Facts on cheap tickets: their superposition, the paths between them, and what they have in common."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import torch

from sparsekit import datasets
from sparsekit.analysis import assess_claim, barrier_matrix, iou
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.datasets import Dataset
from sparsekit.experiments import fork, load_model, run
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.experiment import build_model
from sparsekit.experiments.recipes import digits_mlp, mnist1d_mlp
from sparsekit.experiments.sup_tickets import SupTickets, SupTicketsHistory, run_sup_tickets, superpositions
from sparsekit.experiments.sup_tickets.collect import ordinary_part, plan
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import SET
from sparsekit.schedules import Constant
from sparsekit.tickets import Ticket, TicketBook
from sparsekit.topology import Topology, random_topology
from sparsekit.utils.seeds import generator

SETTING = (
    "mnist1d-mlp, density 0.05, RigL every 100 steps, 100 ordinary epochs and 5 cycles of 6, learning rate "
    "0.01 to 0.1, half explored, 10,000 test examples"
)
SHAPES = {"fc1": (256, 40), "fc2": (256, 256), "head": (10, 256)}
CYCLES = 3


def collection(seed: int, *, explore: float = 0.5, epochs: int | None = None) -> SupTickets:
    """Return the collection of tickets that these facts are about."""
    experiment = mnist1d_mlp(
        rule="rigl",
        density=0.05,
        seed=seed,
        epochs=epochs or 130,
        rule_settings={"every": 100},
        data_settings={"num_test": 10_000},
    )
    return SupTickets(experiment=experiment, cycle_rate=30 / 130, cycle_epochs=6, low=0.01, high=0.1, explore=explore)


def collected(trials: Trials, *, explore: float = 0.5) -> list[SupTicketsHistory]:
    """Return the tickets of every seed, which are trained or read."""
    return [
        run_sup_tickets(
            collection(seed, explore=explore, epochs=trials.epochs), trials.folder, root=trials.root, progress=False
        )
        for seed in trials.seeds
    ]


def tables_of(trials: Trials, histories: list[SupTicketsHistory]) -> list[pd.DataFrame]:
    """Return what every way to make one network of the tickets gives, a table per seed."""
    return [superpositions(history.tickets, *_network(history, trials)) for history in histories]


def _network(history: SupTicketsHistory, trials: Trials):
    data = _data(history, trials)
    return build_model(history.sup.experiment, input_shape=data.shape, num_classes=data.num_classes), data


def _data(history: SupTicketsHistory, trials: Trials) -> Dataset:
    experiment = history.sup.experiment
    return datasets.load(experiment.data, root=trials.root, **experiment.data_settings)


def _accuracies(tables: list[pd.DataFrame], network: str) -> list[float]:
    return [float(table["accuracy"].to_dict()[network]) for table in tables]


@fact(14, setting=SETTING, minutes=15, seeds=6)
def superposed_tickets_are_better(trials: Trials) -> Iterator[Claim]:
    """The average of several tickets is better than each of them, without any more training.

    Source: abstract of Sup-tickets, Yin et al. (2022), arXiv:2205.15322. Plain averaging is our control.
    """
    tables = tables_of(trials, collected(trials))
    plain = tables_of(trials, collected(trials, explore=0.0))
    best = _accuracies(tables, "superposed")
    last = max(name for name in tables[0].index if name.startswith("ticket "))
    for text, network in (("the mean ticket", "mean of tickets"), ("the last ticket", last)):
        yield assess_claim(f"superposed beats {text}", best, _accuracies(tables, network))
    singles = [
        [_accuracies([table], name)[0] for name in table.index if name.startswith("ticket ")] for table in tables
    ]
    yield assess_claim("superposed beats the best ticket", best, [max(each) for each in singles])
    yield assess_claim("superposed beats plain sparse averaging", best, _accuracies(plain, "superposed"))


@fact(15, setting=SETTING + ", loss on the test examples along straight lines", minutes=5, seeds=6)
def tickets_of_one_run_are_connected(trials: Trials) -> Iterator[Claim]:
    """No barrier lies between tickets of one training, and a high one between independent trainings.

    Source: Frankle et al. (2020), arXiv:1912.05671, for independent runs, and Sup-tickets, arXiv:2205.15322.
    """
    histories = collected(trials)
    within = [_barrier(history, history.tickets[0], history.tickets[-1], trials) for history in histories]
    pairs = zip(histories[::2], histories[1::2], strict=False)  # no training is in two of them
    across = [_barrier(one, one.tickets[-1], other.tickets[-1], trials) for one, other in pairs]
    yield assess_claim("the barrier within a run is below 0.05", [0.05] * len(within), within, unit="of loss")
    if len(across) > 1:
        text = "the barrier between seeds is higher than within a run"
        yield assess_claim(text, across, within, paired=False, unit="of loss")


def _barrier(history: SupTicketsHistory, first: Ticket, second: Ticket, trials: Trials) -> float:
    model, data = _network(history, trials)
    batch = [(data.prepare(data.test.inputs[:2000]), data.test.labels[:2000])]
    return float(barrier_matrix([ticket.model_like(model) for ticket in (first, second)], batch)[0, 1])


@fact(16, setting="small CNN on digits, density 0.1, RigL, 48 epochs and 3 cycles of 4", minutes=6, seeds=6)
def batch_norm_must_be_refreshed(trials: Trials) -> Iterator[Claim]:
    """After averaging the statistics of batch norm must be computed anew, or accuracy is lost.

    Source: read in the released code of Sup-tickets, arXiv:2205.15322, which does so.
    """
    settings = {"model": "small-cnn", "data_settings": {"flat": False}}
    experiments = [digits_mlp(density=0.1, epochs=trials.epochs or 60, seed=seed, **settings) for seed in trials.seeds]
    plans = [SupTickets(experiment=one, cycle_rate=0.2, cycle_epochs=4, low=0.01, high=0.1) for one in experiments]
    histories = [run_sup_tickets(plan, trials.folder, root=trials.root, progress=False) for plan in plans]
    tables = tables_of(trials, histories)
    stale = [float(table["accuracy, not refreshed"].to_dict()["superposed"]) for table in tables]
    text = "refreshed statistics make the superposition more accurate"
    yield assess_claim(text, _accuracies(tables, "superposed"), stale)


@fact(17, setting="random rewirings of an MLP 40-256-256-10, density 0.05, and " + SETTING, minutes=5, seeds=6)
def unions_stay_below_their_bound(trials: Trials) -> Iterator[Claim]:
    """Tickets together have at most d (1 + p M) of the positions, and growth by gradient picks the same ones again.

    Source: our derivation for the cycles of Sup-tickets, arXiv:2205.15322. What is picked again is our prediction.
    """
    for share in (0.1, 0.5, 0.8):
        unions = [_random_union(seed, share) for seed in trials.seeds]
        bounds = [0.05 * (1 + share * CYCLES)] * len(unions)
        text = f"the union of {CYCLES} random cycles lies below its bound, p = {share}"
        yield assess_claim(text, bounds, unions, unit="of the positions")
    grown = [_common_growth(history) for history in collected(trials)]
    measured, chance = zip(*grown, strict=True)
    yield assess_claim("later cycles grow what an earlier one grew, more than by chance", measured, chance)


def _random_union(seed: int, share: float) -> float:
    """Return the density of everything that a network has in some cycle of random rewirings."""
    draws, rule = generator(seed, "claims", "union"), SET(stop=None, every=1, drop_fraction=Constant(share))
    topology = union = random_topology(SHAPES, 0.05, seed=seed)
    for step in range(CYCLES):
        views = {
            name: LayerView(name=name, topology=layer, values=torch.randn(layer.count, generator=draws))
            for name, layer in topology.items()
        }
        topology = rule.propose(views, step, draws)
        union = _united(union, topology)
    return union.density


def _united(first: Topology, second: Topology) -> Topology:
    return Topology({name: layer | second[name] for name, layer in first.items()})


def _common_growth(history: SupTicketsHistory) -> tuple[float, float]:
    """Return how alike the new connections of the first and the second cycle are, and how alike chance makes them."""
    before, first, second = (ticket.topology for ticket in history.tickets[:3])
    similarity = iou(first - before, second - before)
    return similarity.value, similarity.layer_matched_baseline


@fact(18, setting=SETTING, minutes=5, seeds=6)
def ways_to_superpose_differ_little(trials: Trials) -> Iterator[Claim]:
    """The mean with zeros, the mean of what is active and the moving average differ little, pruned once or each time.

    Source: our prediction for the variants in the released code of Sup-tickets, arXiv:2205.15322.
    """
    tables = tables_of(trials, collected(trials))
    best = _accuracies(tables, "superposed")
    for other in ("active-only", "EMA", "pruned each time", "within layers"):
        text = f"the mean pruned once loses less than 0.3 points against {other}"
        yield assess_claim(text, best, _accuracies(tables, other), above=-0.003)


@fact(47, setting=SETTING, minutes=5, seeds=6)
def an_ensemble_is_close(trials: Trials) -> Iterator[Claim]:
    """The ensemble of cheap tickets is slightly better than their weight average, for as many passes as tickets.

    Source: our prediction, after Izmailov et al. (2018), arXiv:1803.05407.
    """
    tables = tables_of(trials, collected(trials))
    ensemble, superposed = (_accuracies(tables, name) for name in ("ensemble", "superposed"))
    yield assess_claim("the ensemble beats the superposition", ensemble, superposed)
    losses = [[float(table["loss"].to_dict()[name]) for table in tables] for name in ("superposed", "ensemble")]
    yield assess_claim("the ensemble has a lower loss than the superposition", *losses, unit="of loss")


@fact(19, setting=SETTING + ", and tickets of the middle of each cycle", minutes=6, seeds=6)
def tickets_of_the_highest_rate_are_worse(trials: Trials) -> Iterator[Claim]:
    """Tickets that are saved at the highest learning rate are worse one by one, and less so after averaging.

    Source: our prediction for the released code of Sup-tickets, arXiv:2205.15322, whose defaults have the two rates
        swapped.
    """
    histories = collected(trials)
    usual = [superpositions(history.tickets[1:], *_network(history, trials)) for history in histories]
    peaks = [superpositions(_peak_tickets(history, trials), *_network(history, trials)) for history in histories]
    names = ("mean of tickets", "superposed")
    alone, averaged = ([_accuracies(tables, name) for tables in (usual, peaks)] for name in names)
    yield assess_claim("tickets of the lowest rate are better one by one", *alone)
    yield assess_claim("superposed tickets of the lowest rate are better", *averaged)
    lost_alone, lost_averaged = ([low - high for low, high in zip(*pair, strict=True)] for pair in (alone, averaged))
    yield assess_claim("one by one they gain more than superposed", lost_alone, lost_averaged)


def _peak_tickets(history: SupTicketsHistory, trials: Trials) -> list[Ticket]:
    """Train the same collection once more, and take a ticket in the middle of each cycle."""
    sup, num_train = history.sup, len(_data(history, trials).train)
    experiment, ends = plan(sup, num_train)
    again = replace(experiment, recipe=f"{experiment.recipe}-peaks")
    folder = trials.folder / again.folder_name
    book = TicketBook(folder / "tickets")
    if (common := ordinary_part(sup, num_train)) and not folder.exists():
        parent = run(common, trials.folder, root=trials.root, progress=False).folder
        assert parent is not None
        fork(parent, again, trials.folder, step=ends[0], root=trials.root)
    for middle in [(start + end) // 2 for start, end in pairwise(ends)]:
        if middle not in book.steps:
            run(again, trials.folder, until=middle, root=trials.root, progress=False)
            book.add(load_model(folder, root=trials.root), step=middle)
    return list(book)
