"""Exercises of notebook 14: perplexity, and Adam's first step of a new connection."""

import math

from sparsekit.experiments.course.exercise import Cases, Mistake

FIRST, SECOND = 0.9, 0.999  # how much of Adam's two averages stays at each step


def _step(count: int, *, corrected: bool = True) -> float:
    first, second = (1 - FIRST**count, 1 - SECOND**count) if corrected else (1.0, 1.0)
    return ((1 - FIRST) / first) / math.sqrt((1 - SECOND) / second)


NEWCOMER_STEP = Cases(
    name="newcomer_step",
    notebook="14",
    cases=[((1,), 1.0), ((400,), 1.81608), ((100_000,), 3.16228)],
    tolerance=1e-3,
    hints=(
        "Put m = 0.1 g and v = 0.001 g² into both formulas. The gradient g falls out in the end.",
        "The corrected averages are 0.1 g / (1 - 0.9^t) and 0.001 g² / (1 - 0.999^t).",
        "Divide the first by the square root of the second.",
    ),
    mistakes=(
        Mistake(
            lambda count: _step(count, corrected=False),
            "You left out the corrections 1 - β^t, so your step does not depend on the count.",
        ),
        Mistake(
            lambda count: (0.1 / (1 - 0.9**count)) / (0.001 / (1 - 0.999**count)),
            "Adam divides by the square root of the second average.",
        ),
        Mistake(lambda count: 1.0, "This is the step of a connection that counts from its birth. Ours shares a count."),
    ),
)


def _mean(losses: list[float], counts: list[int]) -> float:
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


PERPLEXITY_OF = Cases(
    name="perplexity_of",
    notebook="14",
    cases=[(([2.0], [640]), 7.38906), (([1.0, 3.0], [300, 100]), 4.48169), (([0.0, 0.0], [5, 7]), 1.0)],
    tolerance=1e-3,
    hints=(
        "Take the mean loss of all characters first, and the exponential last.",
        "A batch with three times as many characters counts three times as much.",
        "Sum losses times counts, divide by the number of all characters, and take the exponential.",
    ),
    mistakes=(
        Mistake(
            lambda losses, counts: math.exp(sum(losses) / len(losses)),
            "You count all batches alike. Weigh each loss by its number of characters.",
        ),
        Mistake(
            lambda losses, counts: (
                sum(count * math.exp(loss) for loss, count in zip(losses, counts, strict=True)) / sum(counts)
            ),
            "You take the mean of perplexities. The exponential comes after the mean of the losses.",
        ),
        Mistake(_mean, "This is the loss. Its exponential is the perplexity."),
    ),
)

EXERCISES = (NEWCOMER_STEP, PERPLEXITY_OF)
