"""Where sparse begins to win in a series of measurements."""

import math
from collections.abc import Mapping
from itertools import pairwise


def break_even_sparsity(speedups: Mapping[float, float]) -> float | None:
    """Return the sparsity from which on a method is faster than the baseline, or None if no measurement brackets it.

    It is interpolated between neighbours, straight in the logarithms of density and speed-up, because the time of a
    step is about proportional to its connections.

    Args:
        speedups: speed-up by density, where 1 is as fast as the baseline.

    Example:
        >>> break_even_sparsity({0.4: 0.5, 0.1: 2.0})
        0.8
    """
    for (denser, slow), (sparser, fast) in pairwise(sorted(speedups.items(), reverse=True)):
        if slow < 1 <= fast:
            share = math.log(slow) / (math.log(slow) - math.log(fast))
            return round(1 - math.exp((1 - share) * math.log(denser) + share * math.log(sparser)), 3)
    return None


def break_even_text(speedups: Mapping[float, float]) -> str:
    """Say in words from which sparsity on a method is faster.

    Example:
        >>> break_even_text({0.4: 0.5, 0.1: 2.0}), break_even_text({0.5: 1.1}), break_even_text({0.5: 0.7})
        ('80 %', 'below 50 %', 'above 50 %')
    """
    sparsity = break_even_sparsity(speedups)
    if sparsity is not None:
        return f"{100 * sparsity:.0f} %"
    is_always_faster = min(speedups.values()) >= 1
    edge = max(speedups) if is_always_faster else min(speedups)
    return f"{'below' if is_always_faster else 'above'} {100 * (1 - edge):.0f} %"
