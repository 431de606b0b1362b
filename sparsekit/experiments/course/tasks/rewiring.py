"""Exercises of notebooks 02 and 03: what is dropped, what is grown, and among which candidates."""

import math

import torch
from torch import Tensor

from sparsekit.experiments.course.exercise import Cases, Mistake


def _kept(values: Tensor, count: int) -> list[int]:
    return sorted(values.argsort(descending=True)[:count].tolist())


KEPT_POSITIONS = Cases(
    name="kept_positions",
    notebook="02",
    cases=[
        ((torch.tensor([0.5, -0.1, 0.3, -0.9]), 0.25), [0, 2, 3]),
        ((torch.tensor([0.2, -0.8, 0.1, 0.4, -0.3]), 0.5), [1, 3, 4]),
        ((torch.tensor([1.0, 2.0]), 0.0), [0, 1]),
    ],
    hints=(
        "Which of the weights 0.1 and −0.9 does more to the output?",
        "A large negative weight is a strong one, so compare magnitudes.",
        "Of n weights int(fraction * n) are dropped. Sort the positions of the others.",
    ),
    mistakes=(
        Mistake(
            lambda values, fraction: _kept(values, len(values) - int(fraction * len(values))),
            "You compare weights with their signs. A weight of −0.9 is a strong one, so compare magnitudes.",
        ),
        Mistake(
            lambda values, fraction: _kept(-values.abs(), len(values) - int(fraction * len(values))),
            "You keep the weakest and drop the strongest.",
        ),
        Mistake(
            lambda values, fraction: _kept(values.abs(), int(fraction * len(values))),
            "The fraction says how many are dropped, and you keep that many.",
        ),
        Mistake(
            lambda values, fraction: (
                values.abs().argsort(descending=True)[: len(values) - int(fraction * len(values))].tolist()
            ),
            "The positions are right, but positions of a topology are sorted.",
        ),
    ),
)

GROWN_POSITIONS = Cases(
    name="grown_positions",
    notebook="02",
    cases=[
        ((torch.tensor([0.1, -0.9, 0.4, 0.2]), [1], 1), [2]),
        ((torch.tensor([0.3, 0.0, -0.5, 0.4, 0.1]), [3], 2), [0, 2]),
        ((torch.tensor([5.0, -6.0, 7.0]), [0, 2], 1), [1]),
    ],
    hints=(
        "RigL grows where the loss would change most. Does the direction matter?",
        "Taken positions cannot be grown again, and the sign of a gradient does not matter.",
        "Set the magnitudes at taken positions to −1, and then take the largest.",
    ),
    mistakes=(
        Mistake(
            lambda gradient, taken, count: _kept(gradient.abs(), count),
            "You grow where connections exist already. Taken positions are no candidates.",
        ),
        Mistake(
            lambda gradient, taken, count: _kept(gradient.index_fill(0, torch.tensor(taken), -math.inf), count),
            "A strongly negative gradient is as good a reason to grow as a positive one. Compare magnitudes.",
        ),
        Mistake(
            lambda gradient, taken, count: sorted(
                gradient.abs().index_fill(0, torch.tensor(taken), math.inf).argsort()[:count].tolist()
            ),
            "You grow where the gradient is smallest, where a new connection would change least.",
        ),
    ),
)

SAMPLED_RATIO = Cases(
    name="sampled_ratio",
    notebook="03",
    cases=[((0.05, 1.0), 0.926641), ((0.3, 2.0), 1.052772), ((1.0, 1.0), 0.0)],
    tolerance=1e-4,
    hints=(
        "We draw subset × density × n positions among n. How often is a position drawn at least once?",
        "A position is drawn at least once with probability 1 - exp(-subset * density), and must not be taken.",
        "Multiply that probability by the free share 1 - density, and divide by the density.",
    ),
    mistakes=(
        Mistake(
            lambda density, subset: subset,
            "This counts draws. Some positions are drawn twice, and others are taken already.",
        ),
        Mistake(
            lambda density, subset: (1 - density) * subset,
            "You leave out that some positions are drawn more than once.",
        ),
        Mistake(
            lambda density, subset: (1 - math.exp(-subset * density)) / density,
            "You leave out that the draws also hit connections that exist.",
        ),
        Mistake(
            lambda density, subset: (1 - density) * (1 - math.exp(-subset * density)),
            "This is a share of all positions. We ask for candidates for each connection.",
        ),
    ),
)

GRADIENT_BOUND = Cases(
    name="gradient_bound",
    notebook="03",
    cases=[
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0]])), torch.tensor([[3.0, 6.0]])),
        ((torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0, 2.0], [1.0, 0.0]])), torch.tensor([[4.0, 4.0]]).T),
    ],
    hints=(
        "The gradient of a weight is a sum over samples. What may happen to its terms?",
        "Take magnitudes first and sum after, because what cancels out in the gradient must not do so in its bound.",
        "Sum the magnitudes of g and of x over the samples, and multiply each output by each input.",
    ),
    mistakes=(
        Mistake(
            lambda x, g: (g.sum(0)[:, None] * x.sum(0)[None, :]).abs(),
            "You sum before you take magnitudes, so samples cancel out. A bound must not lose them.",
        ),
        Mistake(
            lambda x, g: (g.T @ x).abs(),
            "This is the magnitude of the gradient itself, which costs a dense product. The bound is cheaper.",
        ),
        Mistake(
            lambda x, g: g.abs().T @ x.abs(),
            "This pairs magnitudes sample by sample, which is a closer bound, but as dear as the gradient.",
        ),
        Mistake(
            lambda x, g: x.abs().sum(0)[:, None] * g.abs().sum(0)[None, :],
            "Your rows are inputs. A weight has a row for each output.",
        ),
    ),
)

EXERCISES = (KEPT_POSITIONS, GROWN_POSITIONS, SAMPLED_RATIO, GRADIENT_BOUND)
