"""Facts on operations and on the clock."""

from collections.abc import Iterator

import torch
from torch import nn

from sparsekit.analysis import assess_claim, step_seconds, training_flops
from sparsekit.analysis.costs.training_flops import Pass
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import Trials, fact
from sparsekit.utils.seeds import generator

WIDTHS = (256, 1024)
BATCH = 128


@fact(38, setting="formulas at density 0.01, a rewiring every 100 steps", minutes=0.1, trains=False)
def rigl_pays_a_third(trials: Trials) -> Iterator[Exact]:
    """At 99 % the dense gradients cost RigL a third more operations than a fixed mask, and GSE 0.3 % more.

    Source: derived from the appendix on operations of Evci et al. (2020), arXiv:1911.11134.
    """
    cost = Pass(dense=1.0, sparse=0.01)
    static = training_flops("static", cost)
    for rule, extra, tolerance in (("rigl", 0.33, 0.01), ("gse", 0.003, 0.001)):
        measured = training_flops(rule, cost) / static - 1
        yield Exact(text=f"more operations of {rule}", predicted=extra, measured=measured, tolerance=tolerance)


@fact(39, setting="one linear layer, batch 128, forward and backward, one thread, repeated", minutes=2, trains=False)
def csr_needs_sparsity(trials: Trials) -> Iterator[Claim]:
    """Compressed rows beat dense products on a CPU only where few connections are left, 8 to 20 % for torch's.

    Source: our estimate for the sparse products of torch. Here the kernels of this package are measured.
    """
    for width in WIDTHS:
        for density in (0.5, 0.2, 0.05):
            times = [_times(width, density, seed) for seed in trials.seeds]
            dense, csr = zip(*times, strict=True)
            text = f"csr is faster than dense, width {width}, density {density}"
            yield assess_claim(text, [d / c for d, c in zip(dense, csr, strict=True)], [1.0] * len(dense), unit="times")


def _times(width: int, density: float, seed: int) -> tuple[float, float]:
    example = torch.randn(BATCH, width, generator=generator(seed, "claims", "speed"))
    times = step_seconds(nn.Linear(width, width), density, example, seed=seed, rounds=2)
    return times["dense"], times["csr"]
