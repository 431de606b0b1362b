"""Exercises of notebooks 04 to 07 that experiment: masks before training, lottery levels, cycles and superposition."""

import statistics
from functools import cache

import torch
from torch import Tensor, nn

from sparsekit.analysis import effective_topology
from sparsekit.datasets import few_per_class
from sparsekit.experiments.course import cycles, lotteries
from sparsekit.experiments.course.arena import digits
from sparsekit.experiments.course.tasks.trials import SEEDS, Trial
from sparsekit.experiments.sup_tickets import grown_magnitudes
from sparsekit.models import build
from sparsekit.scores import make_score, prune
from sparsekit.tickets import superpose
from sparsekit.topology import Topology
from sparsekit.utils.seeds import seeded_rng

DEEP, WIDE = (96,) * 5, (100, 100)  # hidden units of the two networks in notebook 04


# --- 04, masks before training ------------------------------------------------------------------------------------


def _network(hidden: tuple[int, ...], seed: int) -> nn.Module:
    with seeded_rng(torch.Generator().manual_seed(seed)):
        return build("mlp", input_shape=digits().shape, num_classes=10, hidden=hidden)


@cache
def _mask(name: str, compression: float) -> Topology:
    score = make_score(name, min_per_layer=0)
    return prune(_network(DEEP, 0), score, 1 / compression, batches=[few_per_class(digits(), 10)])


def _parts_scores(compression: float) -> tuple[bool, str]:
    empty = sum(layer.count == 0 for layer in _mask("magnitude", compression).values())
    useful = effective_topology(_mask("snip", compression)).count
    said = f"at 1/{compression:g} of the weights, magnitude leaves {empty} of 6 layers empty"
    return empty > 0 and useful >= 100, f"{said}, and SNIP has {useful} connections on a path."


def _halves(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return two batches of so many examples of each class, which have none in common."""
    inputs, labels = few_per_class(digits(), 2 * count, seed=seed)
    is_first = torch.arange(len(labels)) % (2 * count) < count
    return [(inputs[part], labels[part]) for part in (is_first, ~is_first)]


@cache
def _agreement(count: int) -> float:
    shares = []
    for seed in SEEDS:
        network, halves = _network(WIDE, seed), _halves(count, seed)
        one, other = (prune(network, make_score("snip"), 0.1, batches=[half]) for half in halves)
        shares.append((one & other).count / (one | other).count)
    return statistics.fmean(shares)


def _is_steady(examples: float) -> tuple[bool, str]:
    share = _agreement(int(examples))
    said = f"two SNIP masks from {examples:g} examples of each class have {share:.0%} of their connections in common"
    return share >= 0.6, f"{said} (mean of 3)."


PARTING_COMPRESSION = Trial(
    name="parting_compression",
    notebook="04",
    low=1,
    high=4096,
    what="your compression",
    outside="It is one divided by the density, so 1 % is a compression of 100.",
    measure=_parts_scores,
    hints=(
        "Magnitude compares layers that begin with different scales. SNIP asks what the loss feels.",
        "At 16 magnitude still has connections in every layer. At 256 SNIP has no path any more.",
        "Try 64.",
    ),
)

STEADY_EXAMPLES = Trial(
    name="steady_examples",
    notebook="04",
    low=1,
    high=50,
    what="your number of examples",
    outside="The rarest digit has a little more than 100 training examples, and we need two sets of them.",
    measure=_is_steady,
    whole=True,
    hints=(
        "SNIP's score is a mean over examples. How does the error of a mean fall with their number?",
        "With 10 examples of each class the two masks share about half of their connections.",
        "Go beyond 30.",
    ),
)


# --- 05, lottery tickets ------------------------------------------------------------------------------------------


def _survives_shuffling(level: float) -> tuple[bool, str]:
    counts = tuple(round(lotteries.WEIGHTS * 0.6**number) for number in range(1, int(level) + 1))
    ticket, other = lotteries.accuracy_of_tickets(counts), lotteries.accuracy_of_shuffled(counts)
    said = f"at level {level:g} the ticket of {counts[-1]:,} connections reads {ticket:.1f} of 100"
    return other > ticket - 4, f"{said}, and a shuffled mask {other:.1f} (means of 3)."


def _is_patient_enough(levels: float) -> tuple[bool, str]:
    accuracy = lotteries.accuracy_of_tickets(lotteries.counts_of_levels(int(levels), 293))
    return (
        accuracy >= 89,
        f"a ticket of 293 connections after {levels:g} levels reads {accuracy:.1f} of 100 (mean of 3).",
    )


STURDY_LEVEL = Trial(
    name="sturdy_level",
    notebook="05",
    low=2,
    high=8,
    what="your level",
    outside="Level 1 is too easy, and level 8 has hardly a hundred connections left.",
    measure=_survives_shuffling,
    whole=True,
    hints=(
        "When does it matter which connections a layer has, if it has many, or if it has few?",
        "At level 4 the shuffled mask is about ten points behind. Which way must you go?",
        "Try level 2, which has 36 % of the weights.",
    ),
)

PATIENT_LEVELS = Trial(
    name="patient_levels",
    notebook="05",
    low=1,
    high=4,
    what="your number of levels",
    outside="We look for one of at most 4, because every level costs a training.",
    measure=_is_patient_enough,
    whole=True,
    hints=(
        "What does a network know about its weakest weights, before any of them was taken away?",
        "One cut from 5,856 to 293 connections reads about 83 of 100, and two cuts about 88.",
        "Three cuts are just enough, and four are safe.",
    ),
)


# --- 06, cheap tickets --------------------------------------------------------------------------------------------


def _makes_grow(high: float) -> tuple[bool, str]:
    collections = cycles.tickets_of(high, 0.2)
    ratio = statistics.fmean(grown_magnitudes(tickets).ratio for tickets in collections)
    first, last = (cycles.mean_accuracy([tickets[number] for tickets in collections]) for number in (0, -1))
    said = f"new connections reach {ratio:.0%} of the kept ones' median magnitude, and the last ticket reads {last:.1f}"
    return ratio >= 1 / 3 and last >= first - 1, f"{said} of 100, ticket 0 {first:.1f} (means of 3)."


def _wanders(explore: float) -> tuple[bool, str]:
    collections = cycles.tickets_of(0.1, explore)
    times = statistics.fmean((a.topology | b.topology | c.topology).count / a.count for a, b, c in collections)
    first, last = (cycles.mean_accuracy([tickets[number] for tickets in collections]) for number in (0, -1))
    said = f"the three tickets visit {times:.2f} times as many positions as one has, and the last one reads {last:.1f}"
    return times >= 1.7 and last >= first - 1, f"{said} of 100, ticket 0 {first:.1f} (means of 3)."


GROWING_RATE = Trial(
    name="growing_rate",
    notebook="06",
    low=0.02,
    high=1,
    what="your rate",
    outside="It is the learning rate in the middle of a cycle, which begins and ends at 0.01.",
    measure=_makes_grow,
    hints=(
        "A new connection begins at zero. What decides how far it gets in eight epochs?",
        "At 0.05 new connections stay small. At 0.5 they grow, and the tickets do not come back in time.",
        "Try 0.2.",
    ),
)

WANDERING_EXPLORE = Trial(
    name="wandering_explore",
    notebook="06",
    low=0,
    high=1,
    what="your share",
    outside="It is the share of the connections that a cycle exchanges, so half of them are 0.5.",
    measure=_wanders,
    hints=(
        "Three tickets visit at most 1 + 2 × explore times as many positions as one. Is the bound reached?",
        "With 0.5 they visit about 1.55 times as many. Regrown connections are the reason for the difference.",
        "Try 0.8.",
    ),
)


# --- 07, superposition --------------------------------------------------------------------------------------------


def _tears_apart(high: float) -> tuple[bool, str]:
    pairs = [(tickets[0], tickets[-1]) for tickets in cycles.tickets_of(high, 0.2)]
    average = statistics.fmean(cycles.accuracy_of(superpose(pair, prune="never")) for pair in pairs)
    first, last = (cycles.mean_accuracy([pair[number] for pair in pairs]) for number in (0, 1))
    said = (
        f"ticket 0 reads {first:.1f} of 100, the last ticket {last:.1f}, and their average {average:.1f} (means of 3)."
    )
    return last >= 75 and average < min(first, last) - 1, said


def _is_heard(weight: float) -> tuple[bool, str]:
    collections = cycles.tickets_of(0.1, 0.5)
    mixed = [cycles.mixed_with(tickets, weight) for tickets in collections]
    stay = statistics.fmean(cycles.own_survivors(*pair) for pair in zip(collections, mixed, strict=True))
    accuracy, first = (
        statistics.fmean(map(cycles.accuracy_of, mixed)),
        cycles.mean_accuracy([t[0] for t in collections]),
    )
    said = f"{stay:.0%} of the connections that only the last ticket has stay, and the superposition reads"
    return stay > 0.5 and accuracy > first + 1, f"{said} {accuracy:.1f} of 100, ticket 0 {first:.1f} (means of 3)."


PARTING_RATE = Trial(
    name="parting_rate",
    notebook="07",
    low=0.02,
    high=2,
    what="your rate",
    outside="It is the learning rate in the middle of a cycle, which begins and ends at 0.01.",
    measure=_tears_apart,
    hints=(
        "An average of two networks works where the loss stays low between them. What leads them out of a basin?",
        "At 0.1 the two tickets lie in one basin. At 1 the last ticket has not come back, and reads next to nothing.",
        "Try 0.35.",
    ),
)

HEARD_WEIGHT = Trial(
    name="heard_weight",
    notebook="07",
    low=0,
    high=1,
    what="your weight",
    outside="It is the last ticket's share of the average, and the two others share the rest.",
    measure=_is_heard,
    hints=(
        "With equal weights a connection that only the last ticket has is cut to a third. What must rise?",
        "At a weight of 1 the superposition is the last ticket, and all of its connections stay.",
        "Try 0.7.",
    ),
)

EXERCISES = (PARTING_COMPRESSION, STEADY_EXAMPLES, STURDY_LEVEL, PATIENT_LEVELS)
EXERCISES += (GROWING_RATE, WANDERING_EXPLORE, PARTING_RATE, HEARD_WEIGHT)
