"""What a change of topology costs as a layer grows wider at a constant number of connections per neuron."""

from collections.abc import Sequence

import torch
from torch import nn

from sparsekit.layers.csr import SparseLinear
from sparsekit.layers.kinds import LinearKind
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rewiring.update import rewire
from sparsekit.rules import Rule, make_rule
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import draw_distinct
from sparsekit.utils.registry import names

RULES = ("gse", "rigl", "set")
STEP = "training step"
FAN_IN = 32  # connections per neuron
BATCH = 128
FRACTION = 0.2  # share of the connections exchanged
WIDTHS = tuple(2**power for power in range(10, 17))
QUICK_WIDTHS = WIDTHS[:2]
MAX_SECONDS = 20.0  # of one update. A method that would take longer goes no wider


def missing_rules() -> list[str]:
    """Return the rules to measure that this version does not have."""
    return [name for name in RULES if name not in names("rule")]


def wide_layer(width: int) -> SparseLinear:
    """Return a square csr layer with `FAN_IN` connections per neuron at random positions, without a dense tensor."""
    draws = torch.Generator().manual_seed(0)
    count = FAN_IN * width
    topology = LayerTopology((width, width), draw_distinct(width * width, count, draws))
    values = torch.randn(count, generator=draws) / FAN_IN**0.5
    return SparseLinear(LinearKind(), topology, values, None)


def update_methods(width: int, rules: Sequence[str]) -> dict[str, "Step | Update"]:
    """Return what to time at a width: a training step, and one whole change of topology by each rule."""
    built = {name: make_rule(name, total_steps=1_000_000, drop_fraction=FRACTION) for name in rules}
    return {STEP: Step(width)} | {name: Update(rule, width) for name, rule in built.items()}


def too_slow(seconds: float, growth: float = 4.0) -> bool:
    """Whether an update at twice the width would take too long, if it grows with the square of the width."""
    return growth * seconds > MAX_SECONDS


class Step:
    """Each call is one training step of the bare layer, with which an update is compared."""

    def __init__(self, width: int):
        self.model, self.optimizer, self.x = _set_up(width)

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.model(self.x).square().mean().backward()
        self.optimizer.step()


class Update:
    """Each call does what a rewiring step adds: choose, move values and momentum, make the index arrays anew."""

    def __init__(self, rule: Rule, width: int):
        self.rule, self.draws = rule, torch.Generator().manual_seed(0)
        self.model, self.optimizer, x = _set_up(width)
        with capture_io(self.model) as self.io:
            self.model(x).square().mean().backward()
        self.optimizer.step()

    def __call__(self) -> None:
        """Change the topology once."""
        new = self.rule.propose(views(self.model, self.io), 0, self.draws)
        rewire(self.model, new, self.optimizer)
        layer = self.model[0]
        assert isinstance(layer, SparseLinear)
        _ = layer.structure.row_pointers, layer.structure.cols, layer.structure.columns


def _set_up(width: int) -> tuple[nn.Sequential, torch.optim.Optimizer, torch.Tensor]:
    model = nn.Sequential(wide_layer(width))
    x = torch.randn(width, BATCH, generator=torch.Generator().manual_seed(0)).T
    return model, torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), x
