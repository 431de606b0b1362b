# needs: accelerate
"""Train a sparse network in a loop with accelerate, which brings gradient accumulation, devices and processes.

    python examples/accelerate_loop.py [EPOCHS]
    accelerate launch examples/accelerate_loop.py

`prepare` wraps the model, the optimizer and the loader. Hand `attach` the prepared ones. A step that accelerate skips,
because it accumulates gradients, is no step for the rule.
"""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import sparsekit as sk


def main(epochs: int = 20) -> None:
    """Train with 5 % of the weights, two batches to a step, and read the test digits."""
    set_seed(0)
    data = sk.datasets.load("digits")
    pairs = TensorDataset(data.prepare(data.train.inputs), data.train.labels)
    plain = sk.models.build("mlp", input_shape=(64,), num_classes=10, hidden=(256, 256))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density=0.05, seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    accelerator = Accelerator(gradient_accumulation_steps=2)
    loader = DataLoader(pairs, batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = epochs * len(loader) // 2
    attached = sk.attach(model, optimizer, sk.rules.RigL(stop=3 * steps // 4, every=25))

    for _ in range(epochs):
        for inputs, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(cross_entropy(model(inputs), labels))
                optimizer.step()
                optimizer.zero_grad()

    network = accelerator.unwrap_model(model).cpu()
    found = sk.evaluate(network, [(data.prepare(data.test.inputs), data.test.labels)])
    accelerator.print(f"{attached.step} steps, rewired at {len(attached.journal.entries)} of them")
    accelerator.print(f"it reads {found.accuracy:.1%} of the test digits")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
