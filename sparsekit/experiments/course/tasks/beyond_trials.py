"""Exercises of notebooks 11 and 12 that experiment: own networks, checkpoints, and how many runs are enough."""

import random
import statistics
import warnings
from functools import cache

import torch
from torch import nn

from sparsekit.analysis.evidence.claims import assess_claim
from sparsekit.experiments.course import arena
from sparsekit.experiments.course.tasks.trials import SEEDS, Trial
from sparsekit.experiments.course.together import accuracy_percent, epochs_together, initial_models
from sparsekit.experiments.recipes import digits_small
from sparsekit.layers import LeftDenseWarning, density_of, shapes_of, sparsify
from sparsekit.rules import SET, RigL
from sparsekit.topology import keep_top_global, random_topology
from sparsekit.utils.seeds import seeded_rng

# --- 11, bring your own -------------------------------------------------------------------------------------------

TUNING_EPOCHS = 10


def language_model() -> nn.Module:
    """Return a small language model, whose table of words is more than a quarter of its parameters."""
    with seeded_rng(torch.Generator().manual_seed(0)):
        return nn.Sequential(
            nn.Embedding(500, 64), nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), nn.Linear(64, 500)
        )


def _of_all_parameters(density: float) -> tuple[bool, str]:
    plain = language_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftDenseWarning)  # that is what the exercise is about
        exist = density_of(sparsify(plain, random_topology(shapes_of(plain), density, seed=0)))
    return 0.38 <= exist <= 0.42, f"with density {density:g} in the sparse layers {exist:.1%} of all parameters exist."


@cache
def _cut_and_mended(density: float) -> tuple[float, float]:
    """Return what trained networks read after the cut, and after fine-tuning by RigL, as means of three."""
    data, count = arena.digits(), round(density * 5856)
    rule = RigL(stop=3 * TUNING_EPOCHS * 19 // 4, every=10)  # 19 batches in an epoch
    models = [sparsify(dense, keep_top_global(_magnitudes(dense), count), init="dense") for dense in _trained_dense()]
    after_cut = _mean_accuracy(models)
    tuning = [digits_small(rule=rule, epochs=TUNING_EPOCHS, density=density, seed=seed) for seed in SEEDS]
    for _ in epochs_together(tuning, models, data):
        pass
    return after_cut, _mean_accuracy(models)


@cache
def _trained_dense() -> tuple[nn.Module, ...]:
    experiments = [digits_small(rule="dense", epochs=30, seed=seed) for seed in SEEDS]
    models = initial_models(experiments, arena.digits())
    for _ in epochs_together(experiments, models, arena.digits()):
        pass
    return tuple(models)


def _magnitudes(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: model.get_parameter(f"{name}.weight").detach().abs() for name in shapes_of(model)}


def _mean_accuracy(models: list[nn.Module]) -> float:
    return statistics.fmean(accuracy_percent(model, arena.digits()) for model in models)


def _is_mended(density: float) -> tuple[bool, str]:
    cut, mended = _cut_and_mended(density)
    said = f"with {100 * density:g} % of its weights it reads {cut:.1f} of 100 after the cut"
    return cut <= 75 and mended >= 90, f"{said}, and {mended:.1f} after fine-tuning (means of 3)."


ASKED_DENSITY = Trial(
    name="asked_density",
    notebook="11",
    low=0.001,
    high=1,
    what="your density",
    outside="A density is a share, so 5 % is 0.05.",
    measure=_of_all_parameters,
    hints=(
        "The table of 500 words, the biases and the norms stay dense. How many parameters are that?",
        "They are 29 % of all. So which share of all parameters may come from the other 71 %?",
        "Sparse layers may give 11 % of all parameters, of 71 %. Divide.",
    ),
)

MENDABLE_DENSITY = Trial(
    name="mendable_density",
    notebook="11",
    low=0.01,
    high=0.5,
    what="your density",
    outside="A density is a share, so 5 % is 0.05, and we look for one of at most 0.5.",
    measure=_is_mended,
    hints=(
        "At 10 % the cut still leaves a network that reads about 80 of 100. Which way must you go?",
        "At 3 % ten epochs are not enough to mend it.",
        "Try 0.07.",
    ),
)

# --- 12, beyond the laptop ----------------------------------------------------------------------------------------

RUN_STEPS, WRITE, DEATH_EVERY, RESTART = 2000, 4, 400, 20  # all in steps of the training
LIVES = range(200)


def steps_with_deaths(every: int, seed: int) -> float:
    """Return how long a run of 2,000 steps takes whose worker dies now and then, counted in steps.

    A checkpoint takes as long as 4 steps, a worker dies every 400 steps on average, and a new one takes 20 to start.
    What was done after the last checkpoint is lost.

    Example:
        >>> steps_with_deaths(100, seed=0) > 2000
        True
    """
    draws, clock, done = random.Random(seed), 0.0, 0
    death = draws.expovariate(1 / DEATH_EVERY)
    while done < RUN_STEPS:
        length = min(every, RUN_STEPS - done)
        if clock + length + WRITE <= death:
            clock, done = clock + length + WRITE, done + length
        else:
            clock = death + RESTART
            death = clock + draws.expovariate(1 / DEATH_EVERY)
    return clock


def _is_thrifty(every: float) -> tuple[bool, str]:
    more = statistics.fmean(steps_with_deaths(int(every), seed) for seed in LIVES) / RUN_STEPS - 1
    said = f"with a checkpoint every {every:g} steps a run takes {more:.0%} longer than without deaths and checkpoints"
    return more <= 0.25, f"{said} (mean of {len(LIVES)})."


@cache
def _verdict(seeds: int) -> tuple[bool, str]:
    rules = {"SET": SET(stop=3 * arena.STEPS // 4, every=25), "RigL": arena.rigl()}
    scores = arena.compete(rules, range(seeds))
    ours, theirs = ([one / 100 for one in scores[name].accuracies] for name in ("RigL", "SET"))
    claim = assess_claim("RigL beats SET", ours, theirs)
    _, difference, t, threshold = claim.cells
    said = f"from {seeds} seeds RigL is ahead of SET by {difference}, t = {t} with a threshold of {threshold}"
    return claim.verdict == "reproduced", f"{said}, which is {claim.verdict}."


CHECKPOINT_EVERY = Trial(
    name="checkpoint_every",
    notebook="12",
    low=1,
    high=2000,
    what="your number of steps",
    outside="The run has 2000 steps.",
    measure=_is_thrifty,
    whole=True,
    hints=(
        "If you write seldom, a death costs many steps. If you write often, what do the checkpoints cost?",
        "Each step pays 4 / every for checkpoints. Each death costs about every / 2 steps, once in 400.",
        "The sum of both is least near the root of 2 · 4 · 400 (Young 1974).",
    ),
)

TELLING_SEEDS = Trial(
    name="telling_seeds",
    notebook="12",
    low=2,
    high=10,
    what="your number of seeds",
    outside="One seed has no spread, and more than 10 are more than we need.",
    measure=lambda seeds: _verdict(int(seeds)),
    whole=True,
    hints=(
        "With 2 seeds t must exceed 12.7. What does it take with 5?",
        "The standard error falls with the root of the number of seeds, and the threshold falls as well.",
        "Try 8.",
    ),
)

EXERCISES = (ASKED_DENSITY, MENDABLE_DENSITY, CHECKPOINT_EVERY, TELLING_SEEDS)
