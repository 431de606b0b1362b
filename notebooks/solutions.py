"""This file has one right answer to every exercise of the notebooks, under the exercise's name.

The tests hand them to the notebooks' own checks.
"""

import math
from dataclasses import dataclass

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import RigL, Rule
from sparsekit.rules.base import DropScore

# --- numbers that do what the experiments ask for -----------------------------------------------------------------

enough_density = 0.14
telling_density = 0.01
losing_fraction = 0.9
frugal_subset = 0.5
parting_compression = 64
steady_examples = 40
patient_levels = 4
sturdy_level = 2
growing_rate = 0.2
wandering_explore = 0.8
parting_rate = 0.35
heard_weight = 0.7
swapped_units = 48
harmless_units = 2
gentle_strength = 0.1
harmful_smoothing = 0.97
no_gain_density = 0.5
affordable_every = 150
asked_density = 0.15
mendable_density = 0.07
checkpoint_every = 57
telling_seeds = 8

# --- 00_start_here ----------------------------------------------------------------------------------------------


def count_of(rows: int, columns: int, density: float) -> int:
    """Return the number of connections of a layer."""
    return round(rows * columns * density)


# --- 01_masks_and_budgets ---------------------------------------------------------------------------------------


def er_weight(num_inputs: int, num_outputs: int) -> float:
    """Return what the density of a layer is in proportion to, under Erdős–Rényi."""
    return (num_inputs + num_outputs) / (num_inputs * num_outputs)


def keep_top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mask of exactly the `count` highest scores."""
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[torch.argsort(scores, descending=True, stable=True)[:count]] = True
    return mask


# --- 02_topology_evolution --------------------------------------------------------------------------------------


def kept_positions(values: torch.Tensor, fraction: float) -> list[int]:
    """Return the positions of the connections that are not dropped."""
    num_kept = len(values) - int(fraction * len(values))
    return sorted(values.abs().argsort(descending=True)[:num_kept].tolist())


def grown_positions(gradient: torch.Tensor, taken: list[int], count: int) -> list[int]:
    """Return the positions where RigL grows."""
    score = gradient.abs()
    score[taken] = -1
    return sorted(score.argsort(descending=True)[:count].tolist())


# --- 03_guided_stochastic_exploration ---------------------------------------------------------------------------


def sampled_ratio(density: float, subset: float) -> float:
    """Return the candidates per connection that chance leaves."""
    return (1 - density) * (1 - math.exp(-subset * density)) / density


def gradient_bound(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Return GraBo's bound of every gradient's magnitude, a row per output."""
    return g.abs().sum(0)[:, None] * x.abs().sum(0)[None, :]


# --- 04_masks_before_training -----------------------------------------------------------------------------------


def snip_score(weight: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return SNIP's score of every weight."""
    return (weight * gradients.mean(0)).abs()


def synflow_first(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return SynFlow's score of every weight of the first of two layers."""
    return first.abs() * second.abs().sum(0)[:, None]


# --- 05_lottery_tickets -------------------------------------------------------------------------------------------


def connections_at(level: int, size: int, prune: float) -> int:
    """Return the number of connections that a level of a lottery has."""
    return round(size * (1 - prune) ** level)


# --- 06_cheap_tickets ---------------------------------------------------------------------------------------------


def triangle(step: int, low: float, high: float, cycle: int) -> float:
    """Return the learning rate within cycles."""
    position = (step % cycle) / cycle
    return low + (high - low) * (1 - abs(2 * position - 1))


# --- 07_superposition ---------------------------------------------------------------------------------------------


def superposed(tickets: torch.Tensor, count: int) -> list[float]:
    """Return the mean of tickets, pruned to a count."""
    mean = tickets.mean(0)
    pruned = torch.zeros_like(mean)
    positions = mean.abs().argsort(descending=True)[:count]
    pruned[positions] = mean[positions]
    return pruned.tolist()


# --- 08_loss_landscapes -----------------------------------------------------------------------------------------


def barrier_of(errors: torch.Tensor) -> float:
    """Return how high a path rises above the line between its ends."""
    return float((errors - torch.linspace(float(errors[0]), float(errors[-1]), len(errors))).max())


def curve_point(start: torch.Tensor, bend: torch.Tensor, end: torch.Tensor, t: float) -> torch.Tensor:
    """Return a point of a quadratic Bézier curve."""
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end


# --- 09_training_tricks -----------------------------------------------------------------------------------------


def fit_fan_in(weight: torch.Tensor) -> torch.Tensor:
    """Scale values that were drawn for the full width to each row's connections."""
    count = (weight != 0).sum(1, keepdim=True).clamp(min=1)
    return weight * (weight.shape[1] / count).sqrt()


def torchs_smoothing(amount: float, num_classes: int) -> float:
    """Return PyTorch's number for an amount that goes to the other classes."""
    return amount * num_classes / (num_classes - 1)


# --- 10_always_sparse_speed -------------------------------------------------------------------------------------


def csr_bytes(rows: int, columns: int, density: float) -> int:
    """Return the bytes of a layer in textbook CSR."""
    return 8 * round(rows * columns * density) + 4 * rows


def whole_speedup(share: float, speedup: float) -> float:
    """Return the speed-up of the whole step by Amdahl's law."""
    return 1 / ((1 - share) + share / speedup)


# --- 13_beat_rigl -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listened(DropScore):
    """A connection that the loss does not feel is worth nothing, however strong it is."""

    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> torch.Tensor:
        """Return the magnitudes, and 0 where the gradient is exactly zero."""
        return view.values.abs() * (view.grads != 0)


def my_rule(total_steps: int) -> Rule:
    """Return RigL that drops first what nobody listens to."""
    return RigL(stop=3 * total_steps // 4, every=25, drop=Listened())


# --- 14_sparse_language -----------------------------------------------------------------------------------------


def newcomer_step(count: int) -> float:
    """Return how many learning rates long Adam's first step of a new connection is, which shares a step count."""
    return (0.1 / (1 - 0.9**count)) / (0.001 / (1 - 0.999**count)) ** 0.5


def perplexity_of(losses: list[float], counts: list[int]) -> float:
    """Return the perplexity of a test from the mean loss of each batch and its number of characters."""
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    return math.exp(total / sum(counts))
