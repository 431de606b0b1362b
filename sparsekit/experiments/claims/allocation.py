"""Facts on how connections are shared among layers."""

import statistics
from collections.abc import Iterator

import torch

from sparsekit import models
from sparsekit.analysis import assess_claim, effective_density, forward_flops
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.recipes import digits_mlp, mnist1d_mlp
from sparsekit.layers import shapes_of
from sparsekit.topology import Topology, random_topology
from sparsekit.utils.seeds import generator

SMALL = {"fc1": (256, 64), "fc2": (256, 256), "head": (10, 256)}
# Shares of useful connections at densities 0.1, 0.02 and 0.005, computed for the collection of these facts (30 draws).
USEFUL = {"uniform": (0.728, 0.251, 0.029), "er": (1.0, 0.821, 0.179)}


@fact(2, setting="digits-mlp at density 0.02 and 0.1, 60 epochs", minutes=8)
def allocation_matters(trials: Trials) -> Iterator[Claim]:
    """At 2 % the allocation of connections matters more than the rule that grows them.

    Source: figure 5 of the supplement of GSE, arXiv:2401.06898, measured from the drawing.
    """
    runs = {
        (rule, share, density): trials.accuracies(digits_mlp, rule=rule, allocation=share, density=density)
        for density in (0.02, 0.1)
        for rule in ("set", "rigl", "gse")
        for share in ("er", "uniform")
    }
    for (rule, share, density), ours in runs.items():
        if share == "er":
            text = f"{rule}: ER beats uniform at density {density}"
            yield assess_claim(text, ours, runs[rule, "uniform", density])
    pairs = zip(runs["rigl", "er", 0.02], runs["rigl", "uniform", 0.02], strict=True)
    by_rule = zip(runs["rigl", "er", 0.02], runs["gse", "er", 0.02], strict=True)
    text = "ER against uniform (RigL) is more than RigL against GSE (ER), at 0.02"
    yield assess_claim(text, [a - b for a, b in pairs], [abs(a - b) for a, b in by_rule])


@fact(7, setting="mnist1d-mlp, density 0.05, GSE, 40 epochs", minutes=3)
def global_scope_moves_layers(trials: Trials) -> Iterator[Claim | Exact]:
    """One ranking over all layers makes the first and the last layer denser and the wide middle thinner.

    Source: figure 9 of the supplement of GSE, arXiv:2401.06898, measured from the drawing.
    """
    by_layer = trials.histories(mnist1d_mlp, rule="gse", density=0.05)
    moved = max(abs(change) for history in by_layer for change in _changes(history.journal))
    yield Exact(text="layers keep their densities in rankings of their own", predicted=0, measured=moved, tolerance=0)
    overall = trials.histories(mnist1d_mlp, rule="gse", density=0.05, rule_settings={"scope": "global"})
    first, middle, last = zip(*(_changes(history.journal) for history in overall), strict=True)
    nothing = [0.0] * len(first)
    yield assess_claim("one ranking makes the first layer denser", first, nothing, unit="points of density")
    yield assess_claim("one ranking makes the middle layer thinner", nothing, middle, unit="points of density")
    yield assess_claim("one ranking makes the last layer denser", last, nothing, unit="points of density")


def _changes(journal) -> list[float]:
    """Return how much denser each layer became during a training, in points."""
    before, after = journal.initial, journal[-1]
    return [100 * (after[name].density - layer.density) for name, layer in before.items()]


@fact(22, setting="100 draws of 200 of 10,000 connections", minutes=0.1, trains=False)
def bernoulli_masks_miss_the_budget(trials: Trials) -> Iterator[Exact]:
    """Masks drawn position by position miss their budget by 14 of 200 connections, and exact sampling never.

    Source: our derivation, the standard deviation of a binomial count. Several released codes draw so.
    """
    draws = generator(trials.seeds[0], "claims", "bernoulli")
    counts = [float((torch.rand(10_000, generator=draws) < 0.02).sum()) for _ in range(100)]
    text = "the standard deviation of the count of a mask drawn position by position"
    yield Exact(text=text, predicted=14.0, measured=statistics.stdev(counts), tolerance=3.0)  # its own error is 1
    exact = [float(random_topology({"fc": (100, 100)}, 0.02, seed=seed).count) for seed in range(100)]
    text = "the standard deviation of the count of exact sampling"
    yield Exact(text=text, predicted=0.0, measured=statistics.stdev(exact), tolerance=0.0)


@fact(40, setting="ResNet-50 for images of 32 x 32, density 0.2, formula", minutes=1, trains=False)
def erk_costs_more_operations(trials: Trials) -> Iterator[Exact]:
    """With as many parameters ERK needs about 1.8 times the operations of a uniform allocation.

    Source: Evci et al. (2020), arXiv:1911.11134, table 2, for ResNet-50 at 80 % (0.42 against 0.23 of dense).
    """
    model, example = models.build("resnet50", input_shape=(3, 32, 32), num_classes=1000), torch.zeros(1, 3, 32, 32)
    shapes = shapes_of(model)
    columns = {share: forward_flops(model, example, _drawn(shapes, share)) for share in ("erk", "uniform")}
    erk, uniform, dense = (sum(columns[share][name].tolist()) for share, name in COUNTED)
    # Without the published network's stem, a dense 3 % of all operations, 0.42 is 0.403 and 0.23 is 0.2 of the rest.
    yield Exact(text="operations with ERK, in dense ones", predicted=0.403, measured=erk / dense, tolerance=0.01)
    yield Exact(text="operations with ERK over uniform", predicted=2.01, measured=erk / uniform, tolerance=0.05)


COUNTED = (("erk", "sparse"), ("uniform", "sparse"), ("erk", "dense"))


def _drawn(shapes, share: str) -> Topology:
    return random_topology(shapes, 0.2, allocation=share, seed=0)


@fact(45, setting="random masks of an MLP 64-256-256-10. Then digits-mlp, density 0.02, 60 epochs", minutes=2)
def many_connections_are_useless(trials: Trials) -> Iterator[Claim | Exact]:
    """Many connections of a sparse random mask lie on no path, Erdos-Renyi repairs most of it, and rewiring helps.

    Source: our computation for networks of these shapes. That rewiring helps is our prediction.
    """
    for share, predicted in USEFUL.items():
        for density, useful in zip((0.1, 0.02, 0.005), predicted, strict=True):
            drawn = [random_topology(SMALL, density, allocation=share, seed=seed) for seed in trials.seeds]
            measured = statistics.fmean(map(_useful, drawn))
            text = f"share of useful connections, {share}, density {density}"
            yield Exact(text=text, predicted=useful, measured=measured, tolerance=0.02)
    for rule in ("set", "rigl"):
        journals = [history.journal for history in trials.histories(digits_mlp, rule=rule, density=0.02)]
        after, before = ([_useful(journal[at]) for journal in journals] for at in (-1, 0))
        yield assess_claim(f"{rule} makes more of the connections useful, at 0.02", after, before)


def _useful(topology: Topology) -> float:
    return effective_density(topology) / topology.density
