"""Arithmetic of a training step, method by method, from the dense and the sparse cost of a forward pass.

A backward pass costs twice the forward pass (gradients of inputs and of weights), so a step costs three.
Methods differ in when they need gradients of connections that do not exist. A new method is one function with
a `register("training-flops", name)` line.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from sparsekit.registry import get, names, register


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What a forward pass costs, and the settings that the methods' formulas need.

    Args:
        dense: operations of the dense forward pass, per sample (the sum of `forward_flops(...)["dense"]`).
        sparse: operations of the sparse one. Where the density changes during training, its mean over the
            steps: all formulas are linear in it.
        every: steps between two rewirings. The default is RigL's.
        gamma: GSE's candidates per existing connection, |S| / |A|. At most its subset size, 1 in its paper: draws that
            repeat or hit what exists do not count; `sampled_ratio_expected(density, subset)` says how many remain.
        backward: Top-KAST's operations for the larger set of weights that it updates; None: as `sparse`.
        rounds: of training and pruning, for lottery tickets; 20 rounds of 20 % leave 1.2 %.
        kept: share of connections that each lottery round leaves, 0.8 in Frankle and Carbin (2019).
    """

    dense: float
    sparse: float
    every: int = 100
    gamma: float = 1.0
    backward: float | None = None
    rounds: int = 20
    kept: float = 0.8

    def __post_init__(self):
        if not 0 <= self.sparse <= self.dense:
            raise ValueError(f"sparse must lie in [0, dense={self.dense}], got {self.sparse}; give both per sample")
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}")


def training_flops(method: str, cost: Pass) -> float:
    """Return the mean operations of one training step per sample.

    Args:
        method: `"dense"`, `"static"`, `"set"`, `"rigl"`, `"gse"`, ...: one of
            `registry.names("training-flops")`.
        cost: the cost of a forward pass and the method's settings.

    Raises:
        ValueError: if the method is unknown; the message lists the known ones.

    Example:
        >>> cost = Pass(dense=1.0, sparse=0.01)
        >>> [round(training_flops(method, cost) / 3, 5) for method in ("static", "gse", "rigl", "snfs")]
        [0.01, 0.01003, 0.01327, 0.34]
    """
    return get("training-flops", method)(cost)


def training_flops_table(cost: Pass, methods: Iterable[str] | None = None) -> pd.DataFrame:
    """Return each method's operations per step, also relative to dense and to static sparse training.

    Args:
        cost: the cost of a forward pass and the methods' settings.
        methods: which; all known ones if None.

    Raises:
        ValueError: if a method is unknown; the message lists the known ones.

    Example:
        >>> table = training_flops_table(Pass(dense=1.0, sparse=0.01), ["rigl", "gse"])
        >>> table["relative_to_static"].round(4).to_dict()
        {'rigl': 1.3267, 'gse': 1.0033}
    """
    rows = {name: training_flops(name, cost) for name in (methods or names("training-flops"))}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["per_step"]).rename_axis("method")
    table["relative_to_dense"] = table["per_step"] / dense(cost)
    table["relative_to_static"] = table["per_step"] / static(cost) if cost.sparse else float("nan")
    return table


# Forward passes that a score costs per sample in each of its rounds; a backward pass counts as two.
PASSES_OF_SCORE = {
    "random": 0,
    "magnitude": 0,
    "snip": 3,
    "iterative-snip": 3,
    "force": 3,
    "taylor": 3,
    "grasp": 8,
    "synflow": 3,
}


def one_off_flops(score: str, dense: float, *, samples: int = 1, rounds: int | None = None) -> float:
    """Return the operations of a score that is taken before training.

    Args:
        score: `"snip"`, `"iterative-snip"`, `"force"` and `"taylor"` (in each round a forward and a backward pass over
            the samples), `"grasp"` (with the Hessian-vector product about 8 forward passes) or `"synflow"` (one input
            of ones, whatever the samples); `"random"` and `"magnitude"` cost none.
        dense: operations of the dense forward pass, per sample.
        samples: how many samples the score sees.
        rounds: how often it is taken; the score's own default if None, 100 for SynFlow.

    Raises:
        ValueError: if the score is unknown; the message lists the known ones.

    Example:
        >>> one_off_flops("snip", 10.0, samples=4), one_off_flops("synflow", 10.0)
        (120.0, 3000.0)
    """
    if score not in PASSES_OF_SCORE:
        raise ValueError(f"score must be one of {', '.join(PASSES_OF_SCORE)}, got {score!r}; choose one of them")
    seen = 1 if score == "synflow" else samples
    turns = get("score", score)().rounds if rounds is None else rounds
    return float(PASSES_OF_SCORE[score] * seen * turns * dense)


@register("training-flops", "dense")
def dense(cost: Pass) -> float:
    """Forward once, backward twice: `3 f_D`.

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    return 3 * cost.dense


@register("training-flops", "static")
def static(cost: Pass) -> float:
    """A fixed topology: `3 f_S`.

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    return 3 * cost.sparse


# Their growth needs no gradient, so they cost what a static topology costs; for GMP, which is dense at first,
# `sparse` is the mean over the steps.
for _name in ("set", "set-itop", "deepr", "dsr", "mest", "mest-soft", "gmp"):
    register("training-flops", _name)(static)


@register("training-flops", "snfs")
def snfs(cost: Pass) -> float:
    """The dense weight gradient at every step, for its momentum: `2 f_S + f_D`.

    Source: Dettmers and Zettlemoyer (2019), arXiv:1907.04840, as counted by arXiv:1911.11134.
    """
    return 2 * cost.sparse + cost.dense


# They use few weights and train all: the gradients of all weights at every step, those of the inputs sparse.
for _name in ("sr-ste", "str"):
    register("training-flops", _name)(snfs)


@register("training-flops", "rigl")
def rigl(cost: Pass) -> float:
    """The dense weight gradient once in `every` steps: `(3 f_S every + 2 f_S + f_D) / (every + 1)`.

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    return (3 * cost.sparse * cost.every + snfs(cost)) / (cost.every + 1)


for _name in ("rigl-itop", "granet", "srigl", "dynamic-n-of-m", "drop-grow"):
    register("training-flops", _name)(rigl)


@register("training-flops", "gse")
def gse(cost: Pass) -> float:
    """Gradients of `gamma` candidates per connection once in `every` steps, beside the usual ones.

    `(3 f_S every + (3 + gamma) f_S) / (every + 1)`: an upper estimate, since the paper's algorithm leaves out
    the gradients of existing connections on a rewiring step. Sampling itself (a few numbers per unit) is not
    counted.

    Source: Heddes et al. (2024), arXiv:2401.06898, algorithm 2; the count is ours.
    """
    return (3 * cost.sparse * cost.every + (3 + cost.gamma) * cost.sparse) / (cost.every + 1)


register("training-flops", "gse-released")(gse)


@register("training-flops", "top-kast")
def top_kast(cost: Pass) -> float:
    """Small set forward and for the input gradient, larger set for the weight gradient.

    `2 f(D) + f(D + M)`.

    Source: Jayakumar et al. (2020), arXiv:2106.03517; the count is ours.
    """
    return 2 * cost.sparse + (cost.sparse if cost.backward is None else cost.backward)


@register("training-flops", "lottery-tickets")
def lottery_tickets(cost: Pass) -> float:
    """All rounds of training and pruning, laid on the steps of one training.

    The sum of `3 f_D kept ** j` over the rounds j from 0.

    Source: Frankle and Carbin (2019), arXiv:1803.03635, section 1.
    """
    return sum(3 * cost.dense * cost.kept**level for level in range(cost.rounds))
