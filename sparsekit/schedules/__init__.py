"""Schedules are numbers that change during training, as functions `step -> float`.

Learning rates, drop fractions, densities, label smoothing and ghost strengths are all schedules. Each one is a frozen
value. Where `steps` is None its owner says how long it lasts. For example, a rule with `stop=500` evaluates
`schedule.lasting(500)`, and lets its density run `schedule.between(start, 500)`.
"""

from sparsekit.schedules.base import Constant, Joined, Schedule, Warmup
from sparsekit.schedules.shapes import Cosine, Cubic, Geometric, Linear, Piecewise, Sigmoid, Stages, Triangular

__all__ = [
    "Constant",
    "Cosine",
    "Cubic",
    "Geometric",
    "Joined",
    "Linear",
    "Piecewise",
    "Schedule",
    "Sigmoid",
    "Stages",
    "Triangular",
    "Warmup",
]
