"""Arithmetic of a training step, method by method, from the dense and the sparse cost of a forward pass.

A backward pass costs twice the forward pass (gradients of inputs and of weights), so a step costs three. A rule's
`training_flops` says what it costs, and a score's `passes` do. Whatever is neither is a function with a
`register("training-flops", name)` line.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd

from sparsekit.rules import DropGrow, Rule, make_rule, settings_of
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.scores import Score, make_score
from sparsekit.utils.checks import number
from sparsekit.utils.registry import get, names, register


def training_flops(method: str | Rule, cost: Pass) -> float:
    """Return the mean operations of one training step per sample, or NaN for a rule that does not say.

    Args:
        method: a rule, or a name such as `"dense"`, `"static"` or `"rigl"`, which is one of
            `registry.names("training-flops")`, or of a rule. A named rule has its default settings, and `cost.every`.
        cost: the cost of a forward pass and the method's settings.

    Raises:
        ValueError: if the method is unknown. The message lists the known ones.
        TypeError: if what a rule of your own says is no number.

    Example:
        >>> cost = Pass(dense=1.0, sparse=0.01)
        >>> [round(training_flops(method, cost) / 3, 5) for method in ("static", "gse", "rigl", "snfs")]
        [0.01, 0.01003, 0.01327, 0.34]
    """
    if isinstance(method, Rule):
        return float(number(f"training_flops of {type(method).__name__}", method.training_flops(cost)))
    is_new_rule = method in set(names("rule")) - set(names("training-flops"))
    return (_of_rule(method) if is_new_rule else get("training-flops", method))(cost)


def training_flops_table(cost: Pass, methods: Iterable[str] | None = None) -> pd.DataFrame:
    """Return each method's operations per step, also relative to dense and to static sparse training.

    Args:
        cost: the cost of a forward pass and the methods' settings.
        methods: which ones, or all known ones if None.

    Raises:
        ValueError: if a method is unknown. The message lists the known ones.

    Example:
        >>> table = training_flops_table(Pass(dense=1.0, sparse=0.01), ["rigl", "gse"])
        >>> table["relative_to_static"].round(4).to_dict()
        {'rigl': 1.3267, 'gse': 1.0033}
    """
    rows = {name: training_flops(name, cost) for name in (methods or names("training-flops"))}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["per_step"]).rename_axis("method")
    table["relative_to_dense"] = table["per_step"] / dense(cost)
    table["relative_to_static"] = table["per_step"] / sparse_step(cost) if cost.sparse else float("nan")
    return table


DEFAULT_STEPS = 1000  # of a rule that is only named, because what a step costs does not depend on it


def one_off_flops(score: str | Score, dense: float, *, samples: int = 1, rounds: int | None = None) -> float:
    """Return the operations of a score that is taken before training, or NaN if it does not say.

    In each round `"snip"` and `"taylor"` cost a forward and a backward pass over the samples. `"grasp"` with its
    Hessian-vector product costs about 8 forward passes. `"synflow"` sees one input of ones, whatever the samples.
    `"random"` and `"magnitude"` cost nothing.

    Args:
        score: a score, or its name.
        dense: operations of the dense forward pass, per sample.
        samples: how many samples the score sees.
        rounds: how often it is taken, or None for the score's own number, which is 100 for SynFlow.

    Raises:
        ValueError: if the score is unknown. The message lists the known ones.

    Example:
        >>> one_off_flops("snip", 10.0, samples=4), one_off_flops("synflow", 10.0)
        (120.0, 3000.0)
    """
    score = make_score(score) if isinstance(score, str) else score
    return (score if rounds is None else replace(score, rounds=rounds)).flops(dense, samples=samples)


@register("training-flops", "dense")
def dense(cost: Pass) -> float:
    """Forward once, backward twice: `3 f_D`.

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    return 3 * cost.dense


@register("training-flops", "lottery-tickets")
def lottery_tickets(cost: Pass) -> float:
    """All rounds of training and pruning, laid on the steps of one training.

    The sum of `3 f_D kept ** j` over the rounds j from 0.

    Source: Frankle and Carbin (2019), arXiv:1803.03635, section 1.
    """
    return sum(3 * cost.dense * cost.kept**level for level in range(cost.rounds))


def _of_rule(name: str) -> Callable[[Pass], float]:
    """Return what a named rule says of its cost, with its default settings."""

    def per_step(cost: Pass) -> float:
        every = {"every": cost.every} if "every" in settings_of(name) else {}
        return make_rule(name, total_steps=DEFAULT_STEPS, **every).training_flops(cost)

    rule = get("rule", name)
    per_step.__doc__ = (rule if isinstance(rule, type) else DropGrow).training_flops.__doc__
    return per_step


for _name in names("rule"):
    register("training-flops", _name)(_of_rule(_name))
