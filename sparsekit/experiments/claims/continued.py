"""Facts on trainings that begin from a saved state: neighbouring topologies, and leaving a minimum."""

import copy
from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from sparsekit import datasets
from sparsekit.analysis import assess_claim, barrier_matrix, topological_distance
from sparsekit.analysis.evidence.claims import Claim
from sparsekit.experiments.claims.base import Trials, fact, run_all
from sparsekit.experiments.experiment import Experiment, build_model
from sparsekit.experiments.initial_state import save_initial_state
from sparsekit.experiments.load import load_model
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.rewiring import rewire, views
from sparsekit.rules import SET
from sparsekit.schedules import Constant
from sparsekit.topology import Topology
from sparsekit.train import History
from sparsekit.utils.seeds import generator

ONE_IN_A_HUNDRED = 0.01  # connections that two neighbours do not share


def begun_from(trials: Trials, experiment: Experiment, state: nn.Module) -> History:
    """Train an experiment from a state, or read what it has left behind."""
    name = save_initial_state(trials.folder, state)
    (history,) = run_all([replace(experiment, init_from=name)], trials.folder, root=trials.root)
    return history


@fact(33, setting="digits-mlp, density 0.05, two SET trainings of each seed that differ in 1 % at first", minutes=3)
def neighbours_part(trials: Trials) -> Iterator[Claim]:
    """Topologies that differ in one connection of a hundred become very different ones of equal accuracy.

    Source: Liu et al. (2020), arXiv:2006.14085, section 4, and its released code.
    """
    pairs = [_neighbours(trials, seed) for seed in trials.seeds]
    before, after = ([_distance(*(one.journal[at] for one in pair)) for pair in pairs] for at in (0, -1))
    yield assess_claim("neighbours move apart, by more than 0.1", after, before, above=0.1, unit="of distance")
    ends = [first.journal[-1] for first, _ in pairs]
    strangers = [_distance(end, other) for end, other in zip(ends, [*ends[1:], ends[0]], strict=True)]
    text = "neighbours end at more than half of the distance between seeds"
    yield assess_claim(text, after, [0.5 * distance for distance in strangers], unit="of distance")
    gaps = [abs(first.last("test accuracy") - second.last("test accuracy")) for first, second in pairs]
    yield assess_claim("their accuracies differ by less than a point", [0.01] * len(gaps), gaps)


def _neighbours(trials: Trials, seed: int) -> tuple[History, History]:
    experiment = digits_mlp(rule="set", density=0.05, seed=seed, epochs=trials.epochs)
    first = _untrained(trials, experiment)
    second, rule = copy.deepcopy(first), SET(stop=None, every=1, drop_fraction=Constant(ONE_IN_A_HUNDRED))
    rewire(second, rule.propose(views(second), 0, generator(seed, "claims", "neighbour")))
    return begun_from(trials, experiment, first), begun_from(trials, experiment, second)


def _untrained(trials: Trials, experiment: Experiment) -> nn.Module:
    data = datasets.load(experiment.data, root=trials.root)
    return build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)


def _distance(first: Topology, second: Topology) -> float:
    return float(topological_distance(first, second)["distance"].iloc[-1])


@fact(43, setting="digits-mlp, density 0.02, static 60 epochs, then RigL or static for 60 more from its end", minutes=3)
def rewiring_leaves_the_minimum(trials: Trials) -> Iterator[Claim]:
    """RigL leaves the minimum of a static training for a better one, and a barrier lies on the straight line between.

    Source: Evci et al. (2020), arXiv:1911.11134, section 4.3, from memory.
    """
    by_rule: dict[str, list[History]] = {"rigl": [], "static": []}
    barriers = []
    for history in trials.histories(digits_mlp, rule="static", density=0.02):
        end, seed = _model_of(trials, history), trials.seeds[len(barriers)]
        for rule, histories in by_rule.items():
            experiment = digits_mlp(rule=rule, density=0.02, seed=seed, epochs=trials.epochs)
            histories.append(begun_from(trials, experiment, end))
        barriers.append(_barrier(trials, end, _model_of(trials, by_rule["rigl"][-1])))
    rigl, static = ([one.last("test accuracy") for one in histories] for histories in by_rule.values())
    yield assess_claim("RigL from the static minimum beats static from there", rigl, static)
    losses = [[one.last("test loss") for one in by_rule[rule]] for rule in ("static", "rigl")]
    yield assess_claim("RigL from the static minimum ends at a lower loss", *losses, unit="of loss")
    nothing = [0.0] * len(barriers)
    yield assess_claim("a barrier lies between the minimum and where RigL ends", barriers, nothing, unit="of loss")


def _model_of(trials: Trials, history: History) -> nn.Module:
    assert history.folder is not None
    return load_model(history.folder, root=trials.root)


def _barrier(trials: Trials, first: nn.Module, second: nn.Module) -> float:
    data = datasets.load("digits", root=trials.root)
    batch = [(data.prepare(data.train.inputs), data.train.labels)]
    return float(barrier_matrix([first, second], batch)[0, 1])
