# needs: timm
"""Fine-tune a pruned network of timm, and let a rule move its connections.

    python examples/timm_pruned.py [STEPS]

Nothing is downloaded. A short dense training on the digits 0 to 4 stands in for `pretrained=True`. Then torch prunes
nine tenths of the weights, `from_pruned` takes what is left as a topology, and the network learns all ten digits.
"""

import sys
from itertools import islice

import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torch.nn.utils import prune

import sparsekit as sk

DATA = sk.datasets.load("digits", flat=False)


def images(inputs: torch.Tensor) -> torch.Tensor:
    """Return digits of 8 × 8 as images of 32 × 32 pixels."""
    return interpolate(DATA.prepare(inputs), size=32, mode="bilinear")


def train(model: nn.Module, steps: int, classes: int, rule: sk.rules.Rule | None = None) -> None:
    """Train on the first classes, with the optimizer of timm and with a rule if there is one."""
    optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3)
    if rule:
        sk.attach(model, optimizer, rule)
    for inputs, labels in islice(sk.datasets.stream(DATA, 64, seed=0), steps):
        known = labels < classes
        cross_entropy(model.train()(images(inputs[known])), labels[known]).backward()
        optimizer.step()
        optimizer.zero_grad()


def main(steps: int = 150) -> None:
    """Train dense, prune, fine-tune, and read the test digits."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, in_chans=1, num_classes=10)
    train(model, steps, classes=5)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=0.9)
    sparse = sk.from_pruned(model)
    print(sk.coverage(sparse))
    before = sk.topology_of(sparse)
    train(sparse, steps, classes=10, rule=sk.rules.RigL(stop=3 * steps // 4, every=10))
    found = sk.evaluate(sparse, [(images(DATA.test.inputs), DATA.test.labels)])
    moved = f"{(sk.topology_of(sparse) - before).count:,} of {before.count:,} connections moved"
    print(f"{moved}, and it reads {found.accuracy:.1%} of the test digits")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
