"""How long does one rewiring take, both the rule's proposal and carrying it out?

We measure median milliseconds of `rule.propose` and of `rewire`, in one process. The layers are `n x n` in csr storage,
with a constant number of connections per output. They are drawn without ever making the dense layer, and trained by
SGD with momentum. SET exchanges a fifth of the connections, as many as guided stochastic exploration does in a layer.
Constant work per connection shows as a slope of 1 between two widths on logarithmic scales. The last row is a small
masked network.

    python benchmarks/rewire_time.py [--widths 1024 4096 16384 65536] [--rounds 7] [--output rewirings.json]
"""

import argparse
import itertools
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsekit import models
from sparsekit.layers import shapes_of, sparsify
from sparsekit.layers.csr import SparseLinear
from sparsekit.layers.kinds import LinearKind
from sparsekit.rewiring.capture import capture_io, views
from sparsekit.rewiring.update import rewire
from sparsekit.rules import SET, RigL, Rule
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import draw_distinct, random_topology
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import check_threads

WIDTHS = (1024, 4096, 16384, 65536)
PER_OUTPUT = 32  # connections of each output, as in the measurements of our design
FRACTION = Constant(0.2)
BATCH = 128


def wide_layer(width: int) -> nn.Module:
    """Return one square csr layer with 32 connections per output, on the average."""
    draws = generator(0, "topology", width)
    topology = LayerTopology((width, width), draw_distinct(width**2, PER_OUTPUT * width, draws))
    return nn.Sequential(SparseLinear(LinearKind(), topology, torch.randn(topology.count, generator=draws), None))


def small_network() -> nn.Module:
    """Return LeNet 784-300-100 at density 0.05, masked."""
    plain = models.build("mlp", input_shape=(784,), num_classes=10, hidden=(300, 100))
    return sparsify(plain, random_topology(shapes_of(plain), 0.05, seed=0))


def measure(model: nn.Module, rule: Rule, rounds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each proposal and of each rewiring."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9)
    batch = torch.randn(BATCH, 784, generator=generator(0, "batch")) if rule.needs_gradients else None
    proposing, rewiring = [], []
    for step in range(-1, rounds):
        with capture_io(model, enabled=rule.needs_gradients) as io:
            give_gradients(model, batch)
        optimizer.step()
        start = time.perf_counter()
        new = rule.propose(views(model, io), step + 1, generator(0, "rewire", step))
        middle = time.perf_counter()
        rewire(model, new, optimizer)
        end = time.perf_counter()
        if step >= 0:  # momentum, compiled code and torch's own caches are made in the first
            proposing.append(1000 * (middle - start))
            rewiring.append(1000 * (end - middle))
    return proposing, rewiring


def give_gradients(model: nn.Module, batch: torch.Tensor | None) -> None:
    """Run a batch backward, or fill in numbers without one, as the time of a rewiring does not depend on them."""
    if batch is not None:
        model(batch).square().sum().backward()
    else:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)


def row_of(name: str, times: tuple[list[float], list[float]]) -> dict[str, Any]:
    """Return what is written about one network."""
    propose, carry_out = (round(statistics.median(part), 3) for part in times)
    return {"network": name, "propose_ms": propose, "rewire_ms": carry_out, "ms": round(propose + carry_out, 3)}


def slope_between(first: dict[str, Any], last: dict[str, Any]) -> float:
    """Return by which power of the width the whole time grows."""
    return math.log(last["ms"] / first["ms"]) / math.log(last["width"] / first["width"])


def main() -> None:
    """Print a row as soon as it is measured, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--threads", type=int, default=1, help="that torch may use")
    parser.add_argument("--rounds", type=int, default=7, help="rewirings of each network")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    if options.threads < 1 or options.rounds < 1:
        parser.error(f"there must be at least 1 thread and 1 round, got {options.threads} and {options.rounds}")
    torch.set_num_threads(check_threads(options.threads))
    print("| network | rule | propose, ms | rewire, ms | together, ms |\n|---|---|---|---|---|", flush=True)
    found = [wide_row(width, options.rounds) for width in options.widths]
    for first, last in itertools.pairwise(found):
        print(f"slope from {first['width']} to {last['width']}: {slope_between(first, last):.2f}", flush=True)
    for rule in (SET(stop=None, every=1, drop_fraction=FRACTION), RigL(stop=None, every=1, drop_fraction=FRACTION)):
        name = "set" if not rule.needs_gradients else "rigl"
        found.append(shown("LeNet 784-300-100, masked", name, measure(small_network(), rule, 10 * options.rounds)))
    if options.output:
        about = {"torch": torch.__version__, "python": platform.python_version(), "threads": options.threads}
        options.output.write_text(json.dumps({**about, "rewirings": found}, indent=2) + "\n", encoding="utf-8")


def wide_row(width: int, rounds: int) -> dict[str, Any]:
    """Measure one width with SET."""
    times = measure(wide_layer(width), SET(stop=None, every=1, drop_fraction=FRACTION), rounds)
    return {"width": width, **shown(f"{width} x {width}, csr", "set", times)}


def shown(name: str, rule: str, times: tuple[list[float], list[float]]) -> dict[str, Any]:
    """Print one row and return it."""
    row = {"rule": rule, **row_of(name, times)}
    cells = [row["network"], rule, *(f"{row[key]:.3g}" for key in ("propose_ms", "rewire_ms", "ms"))]
    print(f"| {' | '.join(cells)} |", flush=True)
    return row


if __name__ == "__main__":
    main()
