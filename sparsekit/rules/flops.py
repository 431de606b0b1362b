"""Arithmetic of a training step: what its parts cost, from the dense and the sparse cost of a forward pass.

A backward pass costs twice the forward pass (gradients of inputs and of weights), so a step costs three. Rules differ
in when they need gradients of connections that do not exist. Each says it in its `training_flops`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What a forward pass costs, and the settings that the methods' formulas need.

    Args:
        dense: operations of the dense forward pass, per sample (the sum of `forward_flops(...)["dense"]`).
        sparse: operations of the sparse one. If the density changes during training, give the mean over the steps,
            because all formulas are linear in it.
        every: steps between two rewirings, for a rule that is only named. Any other rule knows its own. The default is
            RigL's.
        gamma: GSE's candidates per existing connection, |S| / |A|. None takes its subset size, 1 in its paper. This is
            an upper bound, because draws that repeat or hit what exists do not count.
            `sampled_ratio_expected(density, subset)` says how many remain.
        backward: Top-KAST's operations for the larger set of weights that it updates. None takes `sparse`.
        rounds: of training and pruning, for lottery tickets. 20 rounds of 20 % leave 1.2 %.
        kept: share of connections that each lottery round leaves, 0.8 in Frankle and Carbin (2019).
    """

    dense: float
    sparse: float
    every: int = 100
    gamma: float | None = None
    backward: float | None = None
    rounds: int = 20
    kept: float = 0.8

    def __post_init__(self):
        if not 0 <= self.sparse <= self.dense:
            raise ValueError(f"sparse must lie in [0, dense={self.dense}], got {self.sparse}. Give both per sample")
        if self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}. Choose 1 to rewire at each")


def sparse_step(cost: Pass) -> float:
    """Return the operations of a step with the existing connections only: `3 f_S`."""
    return 3 * cost.sparse


def dense_gradient_step(cost: Pass) -> float:
    """Return the operations of a step that needs the gradients of all weights: `2 f_S + f_D`."""
    return 2 * cost.sparse + cost.dense


def mean_step(ordinary: float, rewiring: float, every: int) -> float:
    """Return the mean operations of `every` ordinary steps and one on which the topology changes.

    Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
    """
    return (ordinary * every + rewiring) / (every + 1)
