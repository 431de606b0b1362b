"""What a series of measurements says: where sparse begins to win, and how cost grows."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np


def break_even(speedups: Mapping[float, float]) -> float | None:
    """Return the sparsity from which on a method is faster than the baseline, or None if no measurement brackets it.

    Interpolated between neighbours, straight in the logarithms of density and speed-up: a step's time is about
    proportional to its connections.

    Args:
        speedups: speed-up by density; 1 is as fast as the baseline.

    Example:
        >>> break_even({0.4: 0.5, 0.1: 2.0})
        0.8
    """
    for (dense, slow), (thin, fast) in pairwise(sorted(speedups.items(), reverse=True)):
        if slow < 1 <= fast:
            share = math.log(slow) / (math.log(slow) - math.log(fast))
            return round(1 - math.exp((1 - share) * math.log(dense) + share * math.log(thin)), 3)
    return None


def break_even_text(speedups: Mapping[float, float]) -> str:
    """Say in words from which sparsity on a method is faster.

    Example:
        >>> break_even_text({0.4: 0.5, 0.1: 2.0}), break_even_text({0.5: 1.1}), break_even_text({0.5: 0.7})
        ('80 %', 'below 50 %', 'above 50 %')
    """
    found = break_even(speedups)
    if found is not None:
        return f"{100 * found:.0f} %"
    is_always_faster = min(speedups.values()) >= 1
    edge = max(speedups) if is_always_faster else min(speedups)
    return f"{'below' if is_always_faster else 'above'} {100 * (1 - edge):.0f} %"


def slope(costs: Mapping[int, float]) -> float:
    """Return the exponent with which cost grows with size: the least-squares slope of both logarithms.

    Args:
        costs: cost by size, at least two.

    Example:
        >>> round(slope({1: 3.0, 10: 300.0}), 3)
        2.0
    """
    sizes, values = np.log(list(costs)), np.log(list(costs.values()))
    return float(np.polyfit(sizes, values, 1)[0])
