"""Facts on how much of the dense network a sparse training tries, and what stays."""

import statistics
from collections.abc import Iterator

import torch

from sparsekit.analysis import assess_claim, churn, exploration
from sparsekit.analysis.dynamics.exploration import coverage_expected
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import SET, DropGrow, Rule
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology, Topology, random_topology
from sparsekit.train import History
from sparsekit.utils.seeds import generator

COVERAGE = {1: 0.0744, 5: 0.1657, 10: 0.2673, 20: 0.4349, 50: 0.7408}  # by the number of rewirings, density 0.05, r 0.5
EDGE = 8  # pixels of a side of a digit


@fact(31, setting="digits-mlp, density 0.05, half exchanged to the end, 60 epochs", minutes=8)
def accuracy_follows_exploration(trials: Trials) -> Iterator[Claim]:
    """Accuracy follows exploration until connections get too little time, and SET explores more than RigL.

    Source: Liu et al. (2021), arXiv:2102.02887 (ITOP), section 4. The bend at short intervals is our prediction.
    """
    explored = {}
    for name in ("set-itop", "rigl-itop"):
        accuracies = {}
        for every in (2, 50, 250):
            settings = {"every": every, "drop_fraction": Constant(0.5)}
            histories = trials.histories(digits_mlp, rule=name, density=0.05, rule_settings=settings)
            accuracies[every] = [history.last("test accuracy") for history in histories]
            explored[name, every] = [_explored(history) for history in histories]
        for other in (2, 250):
            text = f"{name}: a rewiring every 50 steps beats one every {other}"
            yield assess_claim(text, accuracies[50], accuracies[other])
        text = f"{name}: every 2 steps explores more than every 250"
        yield assess_claim(text, explored[name, 2], explored[name, 250])
    text = "SET explores more than RigL at the same interval of 50"
    yield assess_claim(text, explored["set-itop", 50], explored["rigl-itop", 50])


def _explored(history: History) -> float:
    return float(exploration(history.journal.topologies())["network"].iloc[-1])


@fact(32, setting="a layer of 300 x 300, density 0.05, half exchanged at random", minutes=0.2, trains=False)
def random_growth_covers_as_computed(trials: Trials) -> Iterator[Exact]:
    """Random growth explores the share of positions that a formula gives.

    Source: our derivation for the random growth of Liu et al. (2021), arXiv:2102.02887.
    """
    curves = [_coverage(seed, max(COVERAGE)) for seed in trials.seeds]
    for rewirings, predicted in COVERAGE.items():
        measured = statistics.fmean(curve[rewirings] for curve in curves)
        text = f"share explored after {rewirings} rewirings"
        yield Exact(text=text, predicted=predicted, measured=measured, tolerance=0.005)
    formula = coverage_expected(0.05, 0.5, num_rewirings=50)
    yield Exact(text="the package's formula after 50 rewirings", predicted=0.7408, measured=formula, tolerance=5e-5)


def _coverage(seed: int, rewirings: int) -> list[float]:
    """Return the share explored after each rewiring of a layer whose values mean nothing."""
    draws, rule = generator(seed, "claims", "coverage"), SET(stop=None, every=1, drop_fraction=Constant(0.5))
    topologies = [random_topology({"fc": (300, 300)}, 0.05, seed=seed)]
    for step in range(rewirings):
        layer = topologies[-1]["fc"]
        view = LayerView(name="fc", topology=layer, values=torch.randn(layer.count, generator=draws))
        topologies.append(rule.propose({"fc": view}, step, draws))
    return exploration(topologies)["network"].tolist()


@fact(35, setting="digits-mlp, density 0.05, 60 epochs, connections of the 28 pixels at the border", minutes=2)
def inputs_move_to_the_centre(trials: Trials) -> Iterator[Claim | Exact]:
    """Rewiring takes connections from pixels at the border, where nothing is to be seen, and a fixed mask cannot.

    Source: Mocanu et al. (2018), arXiv:1707.04780, from memory, for MNIST.
    """
    for rule in ("set", "rigl"):
        journals = [history.journal for history in trials.histories(digits_mlp, rule=rule, density=0.05)]
        before, after = ([_at_border(journal[at]) for journal in journals] for at in (0, -1))
        yield assess_claim(f"{rule} takes connections from the border", before, after)
    journals = [history.journal for history in trials.histories(digits_mlp, rule="static", density=0.05)]
    moved = max(abs(_at_border(journal.initial) - _at_border(journal[-1])) for journal in journals)
    yield Exact(text="a fixed mask leaves the border as it is", predicted=0.0, measured=moved, tolerance=0.0)


def _at_border(topology: Topology) -> float:
    """Return the share of the first layer's connections that come from pixels at the border."""
    first: LayerTopology = next(iter(topology.values()))
    rows, columns = (first.indices % first.num_inputs) // EDGE, (first.indices % first.num_inputs) % EDGE
    is_border = (rows == 0) | (rows == EDGE - 1) | (columns == 0) | (columns == EDGE - 1)
    return float(is_border.double().mean())


@fact(36, setting="digits-mlp, density 0.05, RigL, 60 epochs", minutes=1)
def dropped_connections_regrow(trials: Trials) -> Iterator[Claim]:
    """Fewer connections really change than a rewiring exchanges, as what was just dropped regrows, and ever fewer.

    Source: our prediction, from the rule of RigL's code that what was dropped may regrow at once.
    """
    rule = digits_mlp(rule="rigl", density=0.05, epochs=trials.epochs).rule
    shares = [_real_shares(history, rule) for history in trials.histories(digits_mlp, rule=rule, density=0.05)]
    every, third = [statistics.fmean(share) for share in shares], len(shares[0]) // 3 or 1
    text = "less than all that is exchanged really changes"
    yield assess_claim(text, [1.0] * len(every), every)
    early, late = ([statistics.fmean(part) for part in parts] for parts in _thirds(shares, third))
    yield assess_claim("the share that really changes falls", early, late)


def _thirds(shares: list[list[float]], third: int) -> tuple[list[list[float]], list[list[float]]]:
    return [share[:third] for share in shares], [share[-third:] for share in shares]


def _real_shares(history: History, rule: Rule) -> list[float]:
    """Return what really changed at each rewiring, over what was exchanged, where that is more than 1 %."""
    assert isinstance(rule, DropGrow)
    exchanged = [rule.drop_fraction_at(step) for step in history.journal.steps]
    measured = churn(history.journal.topologies())["network"]
    return [real / share for real, share in zip(measured, exchanged, strict=True) if share > 0.01]
