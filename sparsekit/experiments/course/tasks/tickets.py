"""Exercises of notebooks 04 to 07: scores before training, lottery levels, cycles and superposition."""

import torch
from torch import Tensor

from sparsekit.experiments.course.exercise import Cases, Mistake

SNIP_SCORE = Cases(
    name="snip_score",
    notebook="04",
    cases=[
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[[3.0, 6.0]]])), torch.tensor([[3.0, 12.0]])),
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[[3.0, 1.0]], [[-3.0, 5.0]]])), torch.tensor([[0.0, 6.0]])),
    ],
    hints=(
        "SNIP asks how the mean loss changes when a weight is taken away.",
        "Gradients of different samples may cancel out, so take the mean first and the magnitude after.",
        "Multiply the weight by gradients.mean(0), and take the magnitude of the product.",
    ),
    mistakes=(
        Mistake(
            lambda weight, gradients: (weight * gradients).abs().mean(0),
            "You take magnitudes sample by sample, so nothing cancels out. SNIP takes the gradient of the mean loss.",
        ),
        Mistake(
            lambda weight, gradients: gradients.mean(0).abs(),
            "You leave the weight out. What a removal changes grows with the weight that is removed.",
        ),
        Mistake(
            lambda weight, gradients: weight * gradients.mean(0),
            "The sign is still there. SNIP keeps what changes the loss most, in either direction.",
        ),
        Mistake(
            lambda weight, gradients: (weight * gradients.sum(0)).abs(),
            "You sum over the samples. The loss of a batch is a mean, so take the mean of the gradients.",
        ),
    ),
)

SYNFLOW_FIRST = Cases(
    name="synflow_first",
    notebook="04",
    cases=[
        ((torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[4.0, 5.0]])), torch.tensor([[4.0, 8.0], [0.0, 15.0]])),
        ((torch.tensor([[-1.0], [2.0]]), torch.tensor([[3.0, -1.0], [-4.0, 0.0]])), torch.tensor([[7.0], [2.0]])),
    ],
    hints=(
        "With positive weights, R is the sum over all paths of the product of their weights.",
        "A path through a weight of the first layer continues through one weight of the second. Which ones may follow?",
        "Multiply |first| by the sum of |second| over its rows, one number for each hidden unit.",
    ),
    mistakes=(
        Mistake(
            lambda first, second: first * second.sum(0)[:, None],
            "SynFlow makes every weight positive first, so that paths cannot cancel out.",
        ),
        Mistake(
            lambda first, second: first.abs() * second.sum(0).abs()[:, None],
            "You sum the second layer with its signs. Take magnitudes before you sum.",
        ),
        Mistake(
            lambda first, second: second.abs().sum(0)[:, None].expand_as(first),
            "This is the gradient of R. The score multiplies it by the weight's magnitude.",
        ),
    ),
)

CONNECTIONS_AT = Cases(
    name="connections_at",
    notebook="05",
    cases=[((0, 1000, 0.2), 1000), ((1, 1000, 0.2), 800), ((16, 84480, 0.2), 2378), ((8, 84480, 0.4), 1419)],
    hints=(
        "After one level the share 1 - prune stays. What stays after several?",
        "Each level removes a share of what the level before has left, and not of the first network.",
        "Multiply the size by (1 - prune) ** level, and round.",
    ),
    mistakes=(
        Mistake(
            lambda level, size, prune: round(size * (1 - level * prune)),
            "You remove a share of the first network at every level. A level removes a share of what is left.",
        ),
        Mistake(
            lambda level, size, prune: round(size * prune**level),
            "This is what would be left if a level kept the share prune. It removes it.",
        ),
        Mistake(
            lambda level, size, prune: round(size * (1 - prune) ** (level + 1)),
            "You are one level ahead. Level 0 is the dense network.",
        ),
        Mistake(
            lambda level, size, prune: size * (1 - prune) ** level,
            "A number of connections is an integer, so round it.",
        ),
    ),
)

TRIANGLE = Cases(
    name="triangle",
    notebook="06",
    cases=[((0, 1.0, 5.0, 8), 1.0), ((2, 1.0, 5.0, 8), 3.0), ((4, 1.0, 5.0, 8), 5.0), ((15, 1.0, 5.0, 8), 2.0)],
    hints=(
        "Where in its cycle is the step, from 0 to 1?",
        "How far is that from the middle of the cycle?",
        "With position = (step % cycle) / cycle, the height is 1 - abs(2 * position - 1).",
    ),
    mistakes=(
        Mistake(
            lambda step, low, high, cycle: low + (high - low) * (step % cycle) / cycle,
            "Your rate climbs to the end of the cycle and then falls at once. A triangle returns to low.",
        ),
        Mistake(
            lambda step, low, high, cycle: low + (high - low) * (1 - abs(2 * step / cycle - 1)),
            "Your rate knows only one cycle. Take the step within its own cycle, step % cycle.",
        ),
        Mistake(
            lambda step, low, high, cycle: high - (high - low) * (1 - abs(2 * (step % cycle) / cycle - 1)),
            "Your triangle stands on its tip. A cycle begins and ends at low.",
        ),
        Mistake(
            lambda step, low, high, cycle: high * (1 - abs(2 * (step % cycle) / cycle - 1)),
            "Your rate begins at 0. It must begin at low.",
        ),
    ),
)


def _pruned(mean: Tensor, order: Tensor, count: int) -> list[float]:
    pruned = torch.zeros_like(mean)
    pruned[order[:count]] = mean[order[:count]]
    return pruned.tolist()


SUPERPOSED = Cases(
    name="superposed",
    notebook="07",
    cases=[
        ((torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 3.0, 0]]), 1), [0.0, 2.0, 0.0]),
        ((torch.tensor([[-4.0, 1.0, 0, 0], [0, 1.0, 0, 3.0]]), 2), [-2.0, 0.0, 0.0, 1.5]),
    ],
    hints=(
        "What is the mean of a weight that only one of the tickets has?",
        "Take mean(0), then the positions of the largest absolute values.",
        "Start with zeros, and copy the mean at these positions. Everything else stays 0.",
    ),
    mistakes=(
        Mistake(
            lambda tickets, count: _pruned(tickets.mean(0), tickets.mean(0).argsort(descending=True), count),
            "You rank the mean with its sign, so a strong negative weight is lost. Compare magnitudes.",
        ),
        Mistake(
            lambda tickets, count: _pruned(tickets.sum(0), tickets.sum(0).abs().argsort(descending=True), count),
            "You sum the tickets. A superposition is their mean.",
        ),
        Mistake(
            lambda tickets, count: tickets.mean(0).tolist(),
            "The mean has the connections of all tickets. Prune it to the budget.",
        ),
    ),
)

EXERCISES = (SNIP_SCORE, SYNFLOW_FIRST, CONNECTIONS_AT, TRIANGLE, SUPERPOSED)
