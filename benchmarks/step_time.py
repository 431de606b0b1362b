"""How long does one training step take, dense, masked and csr, without rewiring and with?

We measure median milliseconds of `train_step` in one process. All variants of a network take turns, step by step, and
each round begins with another one. So whatever else the machine does just then slows down all of them alike. A
rewiring step is RigL's. It captures gradients of the missing connections and exchanges 30 % of the connections,
instead of the weight update. It happens at every step here, so csr also pays for its index arrays each time.
`x dense` is the ratio to the dense network's median.

    python benchmarks/step_time.py [--networks mlp lenet] [--threads 2] [--output steps.json]
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sparsekit import models
from sparsekit.layers import shapes_of, sparsify
from sparsekit.rules import RigL, Rule, Static
from sparsekit.schedules import Constant
from sparsekit.topology.selection import random_topology
from sparsekit.train import train_step
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import check_threads

DENSITIES = (0.1, 0.02)
STORAGES = ("masked", "csr")
CLASSES = 10
WARM_UP = 1  # steps before the clock runs: momentum, index arrays and torch's own caches are made in the first
REWIRING = RigL(every=1, stop=None, drop_fraction=Constant(0.3))  # Evci et al. (2020), section 4: 0.3


@dataclass(frozen=True, kw_only=True)
class Network:
    """This says what is trained, on how large a batch, for how many rounds, and in which of them csr takes part."""

    title: str
    model: str
    input_shape: tuple[int, ...]
    batch_size: int
    rounds: int
    csr_every: int = 1
    settings: dict[str, Any] = field(default_factory=dict)


NETWORKS = {
    "mlp": Network(title="MLP 64-256-256-10", model="mlp", input_shape=(64,), batch_size=64, rounds=200),
    "lenet": Network(
        title="LeNet 784-300-100",
        model="mlp",
        settings={"hidden": (300, 100)},
        input_shape=(784,),
        batch_size=128,
        rounds=150,
    ),
    # csr convolutions use the reference kernel, which takes seconds.
    "resnet20": Network(
        title="ResNet-20, 32 x 32", model="resnet20", input_shape=(3, 32, 32), batch_size=128, rounds=9, csr_every=3
    ),
}


class Variant:
    """This holds one way to train a network, and the milliseconds that its steps took."""

    def __init__(self, network: Network, storage: str, density: float, rule: Rule):
        self.storage, self.density, self.rule = storage, density, rule
        self.every = network.csr_every if storage == "csr" else 1
        self.model = made(network, storage, density)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
        self.batch = random_batch(network)
        self.times: list[float] = []
        for step in range(WARM_UP):
            self.step(step)

    @property
    def is_rewiring(self) -> bool:
        return self.rule.is_due(0)

    def step(self, number: int) -> None:
        draws = generator(0, "rewire", number)
        start = time.perf_counter()
        train_step(self.model, self.optimizer, self.batch, cross_entropy, self.rule, number, draws)
        self.times.append(1000 * (time.perf_counter() - start))

    @property
    def measured(self) -> list[float]:
        return self.times[WARM_UP:]

    @property
    def median(self) -> float:
        return statistics.median(self.measured)


def made(network: Network, storage: str, density: float) -> torch.nn.Module:
    """Return the network, with the same initial weights for every variant."""
    torch.manual_seed(0)
    plain = models.build(
        network.model, input_shape=network.input_shape, num_classes=CLASSES, **network.settings
    ).train()
    if storage == "dense":
        return plain
    return sparsify(plain, random_topology(shapes_of(plain), density, seed=0), storage)


def random_batch(network: Network) -> tuple[torch.Tensor, torch.Tensor]:
    """Return standard normal inputs and random labels."""
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(network.batch_size, *network.input_shape, generator=draws)
    return inputs, torch.randint(CLASSES, (network.batch_size,), generator=draws)


def measure(network: Network, rounds: int) -> list[Variant]:
    """Let all variants take turns, where the first one is the dense network."""
    variants = [Variant(network, "dense", 1.0, Static())]
    for density in DENSITIES:
        variants += [Variant(network, s, density, rule) for s in STORAGES for rule in (Static(), REWIRING)]
    for number in range(rounds):
        first = number % len(variants)
        for variant in variants[first:] + variants[:first]:
            if number % variant.every == 0:
                variant.step(WARM_UP + number)
    return variants


def numbers_of(network: Network, variant: Variant, dense: Variant) -> dict[str, Any]:
    """Return what is written about one variant."""
    lowest, highest = min(variant.measured), max(variant.measured)
    return {
        "network": network.title,
        "batch_size": network.batch_size,
        "storage": variant.storage,
        "density": variant.density,
        "rewiring": variant.is_rewiring,
        "steps": len(variant.measured),
        "ms_median": round(variant.median, 3),
        "ms_range": [round(lowest, 3), round(highest, 3)],
        "times_dense": round(variant.median / dense.median, 3),
    }


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    """Return a network's rows of the table, each with a variant's plain step and its rewiring step."""
    plain = [one for one in found if not one["rewiring"]]
    rewiring = {(one["storage"], one["density"]): one for one in found if one["rewiring"]}
    lines = []
    for one in plain:
        other = rewiring.get((one["storage"], one["density"]))
        cells = [one["network"], one["batch_size"], f"{one['density']:g}", one["storage"]]
        cells += [*shown(one), *(shown(other) if other else ("", "")), one["steps"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def shown(numbers: dict[str, Any]) -> tuple[str, str]:
    """Return milliseconds and ratio with three digits that count."""
    milliseconds, ratio = numbers["ms_median"], numbers["times_dense"]
    return (f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"), f"{ratio:.2f}"


def main() -> None:
    """Print the table, a network as soon as it is measured, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=1, help="that torch may use")
    parser.add_argument("--rounds", type=int, help="steps of each variant, instead of each network's own number")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    if options.threads < 1 or (options.rounds or 1) < 1:
        parser.error(f"there must be at least 1 thread and 1 round, got {options.threads} and {options.rounds}")
    torch.set_num_threads(check_threads(options.threads))
    print("| network | batch | density | storage | step, ms | x dense | rewiring step, ms | x dense | steps |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    found = []
    for network in (NETWORKS[name] for name in options.networks):
        variants = measure(network, options.rounds or network.rounds)
        numbers = [numbers_of(network, variant, variants[0]) for variant in variants]
        print(*lines_of(numbers), sep="\n", flush=True)
        found += numbers
    if options.output:
        about = {"torch": torch.__version__, "python": platform.python_version(), "threads": options.threads}
        about["system"] = platform.platform(terse=True)
        options.output.write_text(json.dumps({**about, "steps": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
