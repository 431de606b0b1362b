"""Dynamic sparse reparameterization: one threshold for all layers, and connections that wander between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.rules.parts import State
from sparsekit.rules.periodic import Periodic, without
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import share_out
from sparsekit.topology.selection import draw_distinct
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting

TOO_MANY, TOO_FEW = Fraction(11, 10), Fraction(9, 10)  # of those aimed at: then the threshold is halved, or doubled


@register("rule", "dsr")
@dataclass(frozen=True, kw_only=True)
class DSR(Periodic):
    """Drop all values below a threshold that adapts, and grow as many at random, most where most are left.

    A layer keeps at least one connection. What was dropped now cannot regrow at once. The threshold is halved
    where many more than `drop_fraction` of the connections fell below it, and doubled where far fewer did.

    Source: Mostafa and Wang (2019), Parameter efficient training, arXiv:1902.05967, algorithm 1, with its code's
        factors. The code aims at a number of connections (600 of an MLP 300-100). A share of them is our choice, and
        its interval, which doubles three times, is constant here.

    Raises:
        ValueError: if `threshold` is 0, or a setting lies outside its range.

    Example:
        >>> DSR(stop=100).needs_gradients
        False
    """

    every_step: ClassVar[bool] = False

    drop_fraction: float = setting(0.05, "share of all connections that a rewiring aims at", range=(0, 1))
    threshold: float = setting(1e-3, "magnitude below which a value is dropped, at first", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, drop_fraction=(0, 1), threshold=(0, float("inf")))
        if self.threshold == 0:
            raise ValueError("threshold must be above 0, got 0, which stays 0 when doubled. Take a small one")

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        return {name: {"threshold": torch.tensor(self.threshold)} for name in views}

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        threshold = _threshold(views)
        connections = sum(view.topology.count for view in views.values())
        dropped = connections - sum(layer.count for layer in _survivors(views).values())
        target = exact_fraction(self.drop_fraction) * connections
        if dropped > TOO_MANY * target:
            threshold /= 2
        elif dropped < TOO_FEW * target:
            threshold *= 2
        return {name: {"threshold": torch.tensor(threshold)} for name in views}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        survivors = _survivors(views)
        dropped = sum(view.topology.count - survivors[name].count for name, view in views.items())
        free = {name: view.topology.size - view.topology.count for name, view in views.items()}
        grown = share_out(dropped, {name: layer.count for name, layer in survivors.items()}, free)
        new = {}
        for name, view in views.items():
            positions = view.topology.missing_at(
                draw_distinct(free[name], grown[name], generator).to(view.values.device)
            )
            new[name] = survivors[name] | LayerTopology(view.topology.shape, positions)
        return Topology(new)

    def training_flops(self, cost: Pass) -> float:
        """Existing connections only: `3 f_S`.

        Source: the same count as for SET in arXiv:1911.11134.
        """
        return sparse_step(cost)


def _threshold(views: Mapping[str, LayerView]) -> float:
    """Return the threshold, which is the same in all layers."""
    return float(next(iter(views.values())).state["threshold"])


def _survivors(views: Mapping[str, LayerView]) -> dict[str, LayerTopology]:
    threshold = _threshold(views)
    return without(views, {name: _below(view.values.abs(), threshold) for name, view in views.items()})


def _below(magnitudes: Tensor, threshold: float) -> Tensor:
    """Say which values do not reach the threshold. The strongest counts as if it did."""
    below = magnitudes < threshold
    if bool(below.all()) and magnitudes.numel():
        below[magnitudes.argmax()] = False
    return below
