"""Exercises of notebooks 08 to 10: barriers and curves, tricks, and what sparsity saves."""

import torch

from sparsekit.experiments.course.exercise import Cases, Mistake

BARRIER_OF = Cases(
    name="barrier_of",
    notebook="08",
    cases=[
        ((torch.tensor([0.1, 0.5, 0.1]),), 0.4),
        ((torch.tensor([0.1, 0.3, 0.3, 0.4]),), 0.1),
        ((torch.tensor([0.2, 0.1, 0.2]),), 0.0),
    ],
    hints=(
        "A barrier is what a path has above the straight line between its two ends.",
        "torch.linspace from the first to the last error gives the straight line.",
        "Subtract the line from the errors, and take the largest difference.",
    ),
    mistakes=(
        Mistake(
            lambda errors: float(errors.max() - errors[0]),
            "You measure from the first end. Where the ends differ, the line between them climbs as well.",
        ),
        Mistake(
            lambda errors: float(errors.max() - errors.min()),
            "You measure from the lowest point. A path that runs through a valley would have a barrier then.",
        ),
        Mistake(
            lambda errors: float(errors.max() - (errors[0] + errors[-1]) / 2),
            "You measure from the mean of the ends, which is the line's height in the middle only.",
        ),
        Mistake(
            lambda errors: float(errors.max() - torch.maximum(errors[0], errors[-1])),
            "You measure from the higher end. We ask how far a path rises above the line.",
        ),
    ),
)

CORNERS = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
CURVE_POINT = Cases(
    name="curve_point",
    notebook="08",
    cases=[((*CORNERS, 0.0), CORNERS[0]), ((*CORNERS, 0.5), torch.tensor([1.0, 1.0])), ((*CORNERS, 1.0), CORNERS[2])],
    hints=(
        "Where is the share t of the way from start to bend, and where from bend to end?",
        "Take a point from start to bend and one from bend to end, and then a point on the line between the two.",
        "The weights of start, bend and end are (1 - t)², 2 t (1 - t) and t².",
    ),
    mistakes=(
        Mistake(lambda start, bend, end, t: (1 - t) * start + t * end, "This is the straight line, without the bend."),
        Mistake(
            lambda start, bend, end, t: (1 - t) ** 2 * start + t * (1 - t) * bend + t**2 * end,
            "The three weights must sum to 1, and yours do not. The bend counts twice.",
        ),
        Mistake(
            lambda start, bend, end, t: (
                start + 2 * t * (bend - start) if t < 0.5 else bend + (2 * t - 1) * (end - bend)
            ),
            "This runs along two straight lines through the bend. The curve is drawn towards it and does not reach it.",
        ),
    ),
)


def _scaled(weight: torch.Tensor, count: torch.Tensor, power: float) -> torch.Tensor:
    return weight * (weight.shape[1] / count.clamp(min=1)) ** power


FIT_FAN_IN = Cases(
    name="fit_fan_in",
    notebook="09",
    cases=[
        ((torch.tensor([[1.0, 0.0, 0.0, 0.0]]),), torch.tensor([[2.0, 0.0, 0.0, 0.0]])),
        ((torch.tensor([[3.0, -1.0], [0.0, 2.0]]),), torch.tensor([[3.0, -1.0], [0.0, 2.0 * 2**0.5]])),
        ((torch.zeros(1, 3),), torch.zeros(1, 3)),
    ],
    hints=(
        "The variance of a unit's input is a sum over its connections. By which factor are there too few of them?",
        "The variance must grow by the full width over the row's count, so values grow by the root of that.",
        "Count the nonzeros of each row, at least 1, and multiply the row by the root of width over count.",
    ),
    mistakes=(
        Mistake(
            lambda weight: weight * (weight.numel() / weight.count_nonzero().clamp(min=1)).sqrt(),
            "You scale all rows alike. Units have different numbers of connections, so each row has a factor.",
        ),
        Mistake(
            lambda weight: _scaled(weight, (weight != 0).sum(1, keepdim=True), 1.0),
            "You scale values by the factor of the variance. Values grow by its root.",
        ),
        Mistake(
            lambda weight: weight * (weight.shape[1] / (weight != 0).sum(1, keepdim=True)).sqrt(),
            "A row without connections gives 0 / 0. Count it as one connection.",
        ),
        Mistake(
            lambda weight: _scaled(weight, (weight != 0).sum(0, keepdim=True), 0.5),
            "You count along columns. The fan-in of a unit is the number of connections in its row.",
        ),
    ),
)

TORCHS_SMOOTHING = Cases(
    name="torchs_smoothing",
    notebook="09",
    cases=[((0.1, 10), 1 / 9), ((0.1, 100), 10 / 99), ((0.5, 2), 1.0)],
    hints=(
        "PyTorch spreads its number over all classes. What does the true class get of it?",
        "Of what PyTorch takes, the share 1 / num_classes returns to the true class.",
        "So amount = s * (1 - 1 / num_classes). Solve this for s.",
    ),
    mistakes=(
        Mistake(
            lambda amount, num_classes: amount * (num_classes - 1) / num_classes,
            "You go from PyTorch's number to the amount. We ask for the other direction.",
        ),
        Mistake(
            lambda amount, num_classes: amount,
            "PyTorch's number is larger than the amount, because a part of it returns to the true class.",
        ),
        Mistake(
            lambda amount, num_classes: amount / (num_classes - 1),
            "This is what one of the other classes gets. PyTorch asks for the whole.",
        ),
    ),
)

CSR_BYTES = Cases(
    name="csr_bytes",
    notebook="10",
    cases=[((1024, 1024, 0.5), 4198400), ((10, 100, 0.01), 120), ((3, 7, 0.0), 12)],
    hints=(
        "Textbook CSR keeps values, columns, and where each row begins. Which of them are there for each connection?",
        "The number of connections is rows * columns * density, rounded.",
        "A connection costs 4 + 4 bytes, and a row costs 4 more.",
    ),
    mistakes=(
        Mistake(
            lambda rows, columns, density: 8 * round(rows * columns * density),
            "You forget where the rows begin, which is one number for each row.",
        ),
        Mistake(
            lambda rows, columns, density: 4 * round(rows * columns * density) + 4 * rows,
            "You count values or columns, but a connection needs both.",
        ),
        Mistake(
            lambda rows, columns, density: 4 * rows * columns,
            "This is the dense layer. CSR keeps the connections only.",
        ),
        Mistake(
            lambda rows, columns, density: 12 * round(rows * columns * density),
            "This keeps a row for each connection, as the format COO does. CSR keeps a number for each row.",
        ),
    ),
)

WHOLE_SPEEDUP = Cases(
    name="whole_speedup",
    notebook="10",
    cases=[((1.0, 8.0), 8.0), ((0.5, 1e12), 2.0), ((0.9, 10.0), 5.263158)],
    hints=(
        "Take a step of one second. How long do the layers take now, and how long does the rest?",
        "Add up the new times of the rest and of the layers. (This is Amdahl's law.)",
        "The rest takes 1 - share, and the layers take share / speedup.",
    ),
    mistakes=(
        Mistake(
            lambda share, speedup: 1 - share + share * speedup,
            "You average speeds. Times add up, and speeds do not.",
        ),
        Mistake(
            lambda share, speedup: (1 - share) + share / speedup,
            "This is the new time. The speed-up is the old time over it.",
        ),
        Mistake(
            lambda share, speedup: speedup * share,
            "The rest of the step takes its time as well.",
        ),
        Mistake(
            lambda share, speedup: speedup,
            "This would be so if the layers were the whole step.",
        ),
    ),
)

EXERCISES = (BARRIER_OF, CURVE_POINT, FIT_FAN_IN, TORCHS_SMOOTHING, CSR_BYTES, WHOLE_SPEEDUP)
