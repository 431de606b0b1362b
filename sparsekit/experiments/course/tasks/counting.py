"""Exercises of notebooks 00 and 01: counts, budgets and masks."""

import torch
from torch import Tensor

from sparsekit.experiments.course.exercise import Cases, Mistake

COUNT_OF = Cases(
    name="count_of",
    notebook="00",
    cases=[((256, 64, 0.05), 819), ((30, 7, 0.29), 61), ((3, 3, 1.0), 9)],
    hints=(
        "How many positions has a layer of rows × columns, whether they hold a connection or not?",
        "A density is a share of all rows × columns positions.",
        "A number of connections is an integer, so round the product of all three.",
    ),
    mistakes=(
        Mistake(
            lambda rows, columns, density: rows * columns * density,
            "A part of a connection cannot exist, so a count is an integer. Round it.",
        ),
        Mistake(
            lambda rows, columns, density: int(rows * columns * density),
            "You cut off what stands behind the decimal point. Round to the nearest integer.",
        ),
        Mistake(
            lambda rows, columns, density: round(rows * columns * (1 - density)),
            "This counts the missing connections. The density is the share of those that exist.",
        ),
        Mistake(
            lambda rows, columns, density: round((rows + columns) * density),
            "A layer has a position for each pair of a row and a column, so multiply instead of adding.",
        ),
    ),
)

ER_WEIGHT = Cases(
    name="er_weight",
    notebook="01",
    cases=[((784, 300), 0.004609), ((100, 10), 0.11), ((1, 1), 2.0)],
    tolerance=1e-3,
    hints=(
        "Under Erdős–Rényi a layer gets connections in proportion to the sum of its sides. How many positions has it?",
        "A density is connections over positions.",
        "Divide the sum of the two sides by their product.",
    ),
    mistakes=(
        Mistake(
            lambda inputs, outputs: 1 / (inputs * outputs),
            "Your number falls with the product only. The number of connections grows with the sum of the sides.",
        ),
        Mistake(
            lambda inputs, outputs: inputs + outputs,
            "This is in proportion to the number of connections. A density is that number over all positions.",
        ),
        Mistake(
            lambda inputs, outputs: (inputs * outputs) / (inputs + outputs),
            "Your fraction stands upside down, so large layers would be the densest.",
        ),
        Mistake(
            lambda inputs, outputs: 1 - (inputs + outputs) / (inputs * outputs),
            "This is a sparsity. We ask for the density, which is one minus it.",
        ),
    ),
)


def _top(scores: Tensor, count: int, *, descending: bool = True) -> Tensor:
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[torch.argsort(scores, descending=descending, stable=True)[:count]] = True
    return mask


KEEP_TOP = Cases(
    name="keep_top",
    notebook="01",
    cases=[
        ((torch.tensor([0.1, 0.9, 0.5, 0.3]), 2), torch.tensor([False, True, True, False])),
        ((torch.tensor([1.0, 1.0, 1.0, 1.0]), 3), torch.tensor([True, True, True, False])),
        ((torch.tensor([0.0, 2.0, 0.0]), 2), torch.tensor([True, True, False])),
    ],
    hints=(
        "Sort the positions by their scores. Which of equal scores comes first?",
        "torch.argsort(scores, descending=True, stable=True) keeps the order of equal scores.",
        "Start with a mask of zeros, and set it to True at the first `count` of the sorted positions.",
    ),
    mistakes=(
        Mistake(
            lambda scores, count: scores >= scores.sort(descending=True).values[count - 1],
            "A threshold keeps all equal scores, so there are too many connections where scores tie. Count positions.",
        ),
        Mistake(
            lambda scores, count: scores > scores.sort(descending=True).values[count - 1],
            "A strict threshold drops the last score that should stay, and all that equal it.",
        ),
        Mistake(
            lambda scores, count: _top(scores, count, descending=False),
            "You keep the lowest scores. Sort from the highest.",
        ),
        Mistake(
            lambda scores, count: torch.argsort(scores, descending=True, stable=True)[:count],
            "These are the positions. A mask has one truth value for every position.",
        ),
    ),
)

EXERCISES = (COUNT_OF, ER_WEIGHT, KEEP_TOP)
