# needs: nothing
"""Train a sparse network on two processes, in a loop of your own with torch's DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/ddp_loop.py [EPOCHS]

DDP averages the gradients. The rule sees the averages and draws from one seed, so all processes exchange the same
connections, and nobody has to send a mask. The script compares the masks in the end.
"""

import sys

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sparsekit as sk


def main(epochs: int = 20) -> None:
    """Train this process's share of every batch, and print what all found."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    data = sk.datasets.load("digits")
    pairs = TensorDataset(data.prepare(data.train.inputs), data.train.labels)
    sampler = DistributedSampler(pairs, seed=0)
    loader = DataLoader(pairs, batch_size=64 // dist.get_world_size(), sampler=sampler)

    plain = sk.models.build("mlp", input_shape=(64,), num_classes=10, hidden=(256, 256))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density=0.05, seed=0))
    together = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(together.parameters(), lr=0.1, momentum=0.9)
    attached = sk.attach(together, optimizer, sk.rules.RigL(stop=15 * epochs, every=25), seed=0)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for inputs, labels in loader:
            cross_entropy(together(inputs), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    topologies = [None] * dist.get_world_size()
    dist.all_gather_object(topologies, sk.topology_of(model))
    if dist.get_rank() == 0:
        found = sk.evaluate(model, [(data.prepare(data.test.inputs), data.test.labels)])
        same = all(one == topologies[0] for one in topologies)
        print(f"{len(topologies)} processes rewired {len(attached.journal.entries)} times, equal masks: {same}")
        print(f"they read {found.accuracy:.1%} of the test digits")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
