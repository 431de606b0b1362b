# needs: lightning
"""Train a sparse network in Lightning. The only new line stands in `configure_optimizers`.

    python examples/lightning_digits.py [EPOCHS] [FOLDER]

Lightning calls the optimizer with a closure, clips gradients, and writes checkpoints. All of this works as before. The
checkpoint holds the topology and the number of the step, so a training that is resumed rewires at the right steps.
"""

import sys

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import sparsekit as sk


class Digits(lightning.LightningModule):
    """A network with 5 % of its weights, which RigL moves."""

    def __init__(self, steps: int):
        super().__init__()
        plain = sk.models.build("mlp", input_shape=(64,), num_classes=10, hidden=(256, 256))
        self.network = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density=0.05, seed=0))
        self.rule = sk.rules.RigL(stop=3 * steps // 4, every=25)

    def training_step(self, batch: list[torch.Tensor], _number: int) -> torch.Tensor:
        """Return the loss of a batch."""
        inputs, labels = batch
        return cross_entropy(self.network(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer, and let the rule rewire the network whenever it steps."""
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.attached = sk.attach(self.network, optimizer, self.rule)
        return optimizer


def main(epochs: int = 20, folder: str = "runs/lightning") -> None:
    """Train, and read the test digits."""
    lightning.seed_everything(0, verbose=False)
    data = sk.datasets.load("digits")
    pairs = TensorDataset(data.prepare(data.train.inputs), data.train.labels)
    loader = DataLoader(pairs, batch_size=64, shuffle=True)
    module = Digits(epochs * len(loader))
    trainer = lightning.Trainer(
        max_epochs=epochs, default_root_dir=folder, gradient_clip_val=1.0, logger=False, enable_progress_bar=False
    )
    trainer.fit(module, loader)
    found = sk.evaluate(module.network, [(data.prepare(data.test.inputs), data.test.labels)])
    print(f"rewired {len(module.attached.journal.entries)} times, reads {found.accuracy:.1%} of the test digits")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
