"""Do DynaDiag, NeuroTrails, SMET, Sign-In, AC/DC's reset and chain removal help a small MLP on MNIST-1D?

Each method is held against the same training without it. All networks of a seed see the same examples, and have as many
connections. The table has test accuracies on 10,000 examples. Runs of recipes are saved, all others take part anew.

    python studies/recent.py --seeds 5
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import datasets
from sparsekit.analysis import assess_claim
from sparsekit.evaluation import evaluate
from sparsekit.experiments import run
from sparsekit.experiments.recipes import mnist1d_mlp
from sparsekit.experiments.smet import smet
from sparsekit.layers.diagonal import DiagonalLinear
from sparsekit.models import build
from sparsekit.models.trails import heads_loss, with_heads
from sparsekit.rules import ChainRemoval, RigL
from sparsekit.schedules import Cosine
from sparsekit.train import training
from sparsekit.tricks import SignIn
from sparsekit.utils.seeds import generator, seeded_rng

RATE, BATCH, FROZEN_AT = 0.1, 64, 0.3  # DynaDiag's published share of the training, 30 of 100 epochs
CHAIN = ("fc1", "fc2", "head")
# What is compared with what.
PAIRS = (
    ("DynaDiag", "random topology"),
    ("DynaDiag", "RigL"),
    ("NeuroTrails", "RigL"),
    ("SMET", "SET under Adam, shared step counts"),
    ("Sign-In", "static"),
    ("Sign-In, beta = 0.1", "static"),
    ("AC/DC", "AC/DC, optimizer state stays"),
    ("CHTs with chain removal", "CHTs"),
)


@dataclass(frozen=True)
class Study:
    """How each network is trained, and where runs are kept."""

    epochs: int
    density: float
    tests: int
    folder: Path

    def rows(self, seed: int) -> dict[str, float]:
        """Return the test accuracy of everything at a seed."""
        data = datasets.load("mnist1d", num_test=self.tests)
        return {**self.of_recipes(seed), **self.of_layers(seed, data)}

    def of_recipes(self, seed: int) -> dict[str, float]:
        """Train what is a rule, an optimizer or a trick in the recipe."""
        common = {"seed": seed, "epochs": self.epochs, "data_settings": {"num_test": self.tests}}
        common["density"] = self.density
        chts, adam = mnist1d_mlp(rule="chts", **common), smet(mnist1d_mlp, **common)
        experiments = {
            "static": mnist1d_mlp(rule="static", **common),
            "Sign-In": mnist1d_mlp(rule="static", tricks=("sign-in",), **common),
            "Sign-In, beta = 0.1": mnist1d_mlp(rule="static", tricks=(SignIn(beta=0.1),), **common),
            "SMET": adam,
            "SET under Adam, shared step counts": replace(adam, step_count="shared"),
            "AC/DC": mnist1d_mlp(rule="ac-dc", **common),
            "AC/DC, optimizer state stays": mnist1d_mlp(
                rule="ac-dc", rule_settings={"resets_optimizer": False}, **common
            ),
            "CHTs": chts,
            "CHTs with chain removal": replace(chts, rule=ChainRemoval(base=chts.rule, chain=CHAIN)),
        }
        histories = {name: run(one, self.folder, progress=False) for name, one in experiments.items()}
        return {name: history.last("test accuracy") for name, history in histories.items()}

    def of_layers(self, seed: int, data: datasets.Dataset) -> dict[str, float]:
        """Train what is a network of its own, and what it is held against, with layers of one density."""
        steps = self.epochs * len(list(batches(data, seed, 0)))
        rigl = RigL(stop=3 * steps // 4, every=50)
        plain = network(data, seed)
        topology = sk.random_topology(sk.shapes_of(plain), self.density, allocation="uniform", seed=seed)
        heads = network(data, seed, lambda model: with_heads(model, "fc2"))
        size = sum(layer.size for layer in topology.values())
        shapes = sk.shapes_of(heads)
        share = self.density * size / sum(torch.Size(shape).numel() for shape in shapes.values())
        trails = sk.sparsify(heads, sk.random_topology(shapes, share, allocation="uniform", seed=seed))
        diagonals = network(data, seed, lambda model: with_diagonals(model, self.density))
        return {
            "random topology": self.accuracy(sk.sparsify(plain, topology), data, seed),
            "RigL": self.accuracy(sk.sparsify(plain, topology), data, seed, rule=rigl),
            "NeuroTrails": self.accuracy(trails, data, seed, rule=rigl, loss_fn=heads_loss),
            "DynaDiag": self.accuracy(diagonals, data, seed, after=lambda step: cool(diagonals, step, steps)),
        }

    def accuracy(
        self,
        model: nn.Module,
        data: datasets.Dataset,
        seed: int,
        *,
        rule: sk.rules.Rule | None = None,
        loss_fn: Callable[..., Any] = nn.functional.cross_entropy,
        after: Callable[[int], None] = lambda step: None,
    ) -> float:
        """Train a network by SGD with a cosine, and return its test accuracy."""
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
        stream = [batch for epoch in range(self.epochs) for batch in batches(data, seed, epoch)]
        rates = Cosine(RATE, 0.0).lasting(len(stream))
        acting = rule or sk.rules.Static()
        steps = training(model.train(), optimizer, stream, loss_fn, acting, seed=seed, learning_rate=rates)
        for step, _, _ in steps:
            after(step + 1)
        return evaluate(model, [(data.prepare(data.test.inputs), data.test.labels)]).accuracy


def network(data: datasets.Dataset, seed: int, change: Callable[[Any], nn.Module] = lambda model: model) -> nn.Module:
    """Return the recipe's network with the initial weights of a seed, or what a change makes of it."""
    with seeded_rng(generator(seed, "model")):
        return change(build("mlp", input_shape=data.shape, num_classes=data.num_classes, hidden=(256, 256)))


def batches(data: datasets.Dataset, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of an epoch in random order."""
    order = torch.randperm(len(data.train), generator=generator(seed, "order", epoch))
    inputs = data.prepare(data.train.inputs)
    for part in order.split(BATCH):
        yield inputs[part], data.train.labels[part]


def with_diagonals(model: nn.Module, density: float) -> nn.Module:
    """Return a network whose linear layers are sums of wrapped diagonals."""
    for name, module in list(model.named_children()):
        if isinstance(module, nn.Linear):
            setattr(model, name, DiagonalLinear(module.in_features, module.out_features, density=density))
    return model


def cool(model: nn.Module, step: int, steps: int) -> None:
    """Lower the temperature of all layers, and freeze them after a share of the training."""
    progress = step / (FROZEN_AT * steps)
    for layer in model.modules():
        if isinstance(layer, DiagonalLinear):
            layer.freeze() if progress >= 1 else layer.set_progress(progress)


def table_of(frame: pd.DataFrame) -> str:
    """Return two Markdown tables: accuracies in per cent, and differences in points with t and verdict."""
    lines = ["| network | accuracy, % |", "|---|---|"]
    lines += [f"| {name} | {100 * frame[name].mean():.2f} ± {100 * frame[name].sem():.2f} |" for name in frame]
    if len(frame) < 2:
        return "\n".join(lines)
    lines += ["", "| claim | difference, points | t | verdict |", "|---|---|---|---|"]
    for name, rival in PAIRS:
        text = f"{name} beats {rival}"
        claim = assess_claim(text, frame[name].tolist(), frame[rival].tolist())
        lines.append(
            f"| {text} | {100 * claim.mean:+.2f} ± {100 * claim.error:.2f} | {claim.t:.1f} | {claim.verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train, measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=1400)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--tests", type=int, default=10_000, help="test examples")
    parser.add_argument("--folder", type=Path, default=Path("runs/recent"), help="where the runs are saved")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(**{name: getattr(options, name) for name in ("epochs", "density", "tests", "folder")})
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    frame = pd.DataFrame([study.rows(seed) for seed in seeds])
    print(table_of(frame))
    print(f"\nn = {len(frame)} seeds")


if __name__ == "__main__":
    main()
