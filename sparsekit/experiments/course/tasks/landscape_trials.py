"""Exercises of notebooks 08 to 10 that experiment: barriers, tricks, and what sparsity saves."""

import statistics
from collections.abc import Callable
from functools import cache
from itertools import islice

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit import datasets
from sparsekit.analysis import step_seconds, training_flops
from sparsekit.evaluation import evaluate
from sparsekit.experiments.course import arena
from sparsekit.experiments.course.swapped import UNITS, pair_with_swapped
from sparsekit.experiments.course.tasks.trials import SEEDS, Trial
from sparsekit.experiments.course.together import accuracy_percent, epochs_together, initial_models
from sparsekit.experiments.recipes import digits_small
from sparsekit.layers import shapes_of, sparsify
from sparsekit.models import build
from sparsekit.rules import RigL, Rule, Static
from sparsekit.rules.flops import Pass
from sparsekit.schedules import Constant
from sparsekit.topology import random_topology
from sparsekit.train import training
from sparsekit.tricks import GhostSkips, begin
from sparsekit.utils.seeds import seeded_rng

# --- 08, loss landscapes ------------------------------------------------------------------------------------------


def _have_a_barrier(count: float) -> tuple[bool, str]:
    return _of_pair(count, lambda barrier: barrier >= 10)


def _have_none(count: float) -> tuple[bool, str]:
    return _of_pair(count, lambda barrier: barrier <= 1)


def _of_pair(count: float, fits: Callable[[float], bool]) -> tuple[bool, str]:
    pair = pair_with_swapped(int(count))
    said = f"with {count:g} units of each hidden layer in another order, network and copy read {pair.accuracy:.1f} and"
    said = f"{said} {pair.other:.1f} of 100. Between them the error rises by {pair.barrier:.1f} points."
    return fits(pair.barrier), said


SWAPPED_UNITS = Trial(
    name="swapped_units",
    notebook="08",
    low=0,
    high=UNITS,
    what="your number of units",
    outside=f"Each hidden layer has {UNITS} of them.",
    measure=_have_a_barrier,
    whole=True,
    hints=(
        "What does the average do where unit 3 of one network is unit 7 of the other?",
        "A few units in another order cost little, because the others still do their work.",
        f"Try all {UNITS}.",
    ),
)

HARMLESS_UNITS = Trial(
    name="harmless_units",
    notebook="08",
    low=2,
    high=UNITS,
    what="your number of units",
    outside=f"With fewer than 2 nothing is reordered, and each hidden layer has {UNITS}.",
    measure=_have_none,
    whole=True,
    hints=(
        "How many of a network's units can do each other's work for a moment, before its answers change?",
        "Begin with the smallest number that changes anything.",
        "Try 2.",
    ),
)


# --- 09, training tricks ------------------------------------------------------------------------------------------


@cache
def _smoothed(amount: float) -> float:
    experiments = [digits_small(rule="rigl", epochs=20, seed=seed, label_smoothing=amount) for seed in SEEDS]
    models = initial_models(experiments, arena.digits())
    for _ in epochs_together(experiments, models, arena.digits()):
        pass
    return statistics.fmean(accuracy_percent(model.eval(), arena.digits()) for model in models)


def _smoothing_harms(amount: float) -> tuple[bool, str]:
    plain, smoothed = _smoothed(0.0), _smoothed(amount)
    said = f"with {amount:g} of the labels spread over all classes, it reads {smoothed:.1f} of 100"
    return smoothed <= plain - 5, f"{said}, and {plain:.1f} without (means of 3)."


@cache
def _leap(strength: float) -> tuple[float, float]:
    """Return the test loss before and after skips of one strength are cut, at step 300."""
    data, stop = arena.digits(), 300
    test = [(data.prepare(data.test.inputs), data.test.labels)]
    skips = GhostSkips(strength=Constant(strength), stop=stop)
    with seeded_rng(torch.Generator().manual_seed(0)):
        dense = build("mlp", input_shape=data.shape, num_classes=10, hidden=(256, 256))
        network = begin(sparsify(dense, random_topology(shapes_of(dense), 0.05)), [skips])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    batches = islice(datasets.stream(data, 64, seed=0), stop)
    losses = [
        evaluate(network, test).loss
        for step, _, _ in training(network, optimizer, batches, cross_entropy, Static(), tricks=[skips])
        if step >= stop - 2  # the skips are gone after the last step
    ]
    return losses[0], losses[1]


def _leaves_gently(strength: float) -> tuple[bool, str]:
    before, after = _leap(strength)
    said = f"skips of strength {strength:g} that are cut lift the test loss from {before:.2f} to {after:.2f} nats"
    return after - before < 0.1, f"{said}, a leap of {after - before:.2f}."


HARMFUL_SMOOTHING = Trial(
    name="harmful_smoothing",
    notebook="09",
    low=0,
    high=1,
    what="your amount",
    outside="It is a share of the label, so 10 % is 0.1.",
    measure=_smoothing_harms,
    hints=(
        "What is left of a label if all of it is spread over the classes?",
        "At 0.1 the trick does hardly any harm. The true class keeps nine tenths of the label then.",
        "Try 0.97.",
    ),
)

GENTLE_STRENGTH = Trial(
    name="gentle_strength",
    notebook="09",
    low=0.1,
    high=1,
    what="your strength",
    outside="At strength 0 there are no skips, so we look for one of at least 0.1.",
    measure=_leaves_gently,
    hints=(
        "What have the weights learned to rely on while the skips were there?",
        "At strength 1 the loss leaps by more than one nat. Halve the strength, and look again.",
        "Try 0.1.",
    ),
)


# --- 10, speed ----------------------------------------------------------------------------------------------------


def _milliseconds(density: float) -> tuple[float, float]:
    """Return what a training step of a layer takes, dense and as csr."""
    with seeded_rng(torch.Generator().manual_seed(0)):
        layer, example = nn.Linear(1024, 1024), torch.randn(128, 1024)
    seconds = step_seconds(layer, density, example)
    return 1000 * seconds["dense"], 1000 * seconds["csr"]


def _gains_nothing(density: float) -> tuple[bool, str]:
    dense, csr = _milliseconds(density)
    said = (
        f"with {100 * density:g} % of the connections csr takes {csr:.1f} ms on this machine, and dense {dense:.1f} ms."
    )
    return csr >= dense, said


def _affordable(every: float) -> tuple[bool, str]:
    rule = RigL(stop=3 * arena.STEPS // 4, every=int(every))
    cost = Pass(dense=1.0, sparse=arena.DENSITY)
    more = training_flops(rule, cost) / training_flops(Static(), cost) - 1
    accuracy = _accuracy_of(rule)
    said = (
        f"rewiring every {every:g} steps costs {more:.1%} more operations than a fixed mask, and reads {accuracy:.1f}"
    )
    return more <= 0.05 and accuracy >= 89, f"{said} of 100 (mean of 3)."


@cache
def _accuracy_of(rule: Rule) -> float:
    return arena.compete({"RigL": rule}, SEEDS)["RigL"].mean


NO_GAIN_DENSITY = Trial(
    name="no_gain_density",
    notebook="10",
    low=0.001,
    high=0.9,
    what="your density",
    outside="A density is a share, so 5 % is 0.05, and we look for one of at most 0.9.",
    measure=_gains_nothing,
    hints=(
        "A connection of csr needs its column as well as its value. What does that cost?",
        "The promise is one divided by the density. At which density does it promise little?",
        "Try 0.6.",
    ),
)

AFFORDABLE_EVERY = Trial(
    name="affordable_every",
    notebook="10",
    low=1,
    high=800,
    what="your number of steps",
    outside="Rewiring ends at step 855, so with more than 800 there is hardly one.",
    measure=_affordable,
    whole=True,
    hints=(
        "A rewiring costs two sparse passes and one dense one. On how many steps can you spread its price?",
        "Every 25 steps costs a quarter more than a fixed mask. Which number brings that below a twentieth?",
        "Try 150.",
    ),
)

EXERCISES = (SWAPPED_UNITS, HARMLESS_UNITS, HARMFUL_SMOOTHING, GENTLE_STRENGTH, NO_GAIN_DENSITY, AFFORDABLE_EVERY)
