"""One of two processes that train together; run by `test_distributed.py`, which compares what both found."""

import contextlib
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from training_helpers import OPTIMIZERS, RULES, STORAGES, batches_of, tiny, train, values_of

from sparsekit.layers import sparse_layers
from sparsekit.rewiring.capture import LayerIO
from sparsekit.rules import GSE, DropGrow, GraBo, GraEst, Static, SynFlow, Uniform
from sparsekit.train import attach

STEPS, SIZE = 6, 8
GUIDES = {"uniform": Uniform(), "grabo": GraBo(), "graest": GraEst(), "synflow": SynFlow()}
WAYS = ("train_step", "attach", "accumulated")
GATHERING = ("all_gather", "all_gather_into_tensor", "all_gather_object", "gather", "scatter", "all_to_all")
REDUCING = ("all_reduce", "all_reduce_coalesced", "reduce", "reduce_scatter", "reduce_scatter_tensor")
COLLECTIVES = (*GATHERING, *REDUCING, "broadcast", "broadcast_object_list", "send", "recv", "barrier")


def work(rank: int, num_processes: int, folder: str) -> None:
    """Train every combination and write down what happened."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num_processes)
    found = {
        (storage, rule, way): trained(storage, RULES[rule], way, rank)
        for storage in STORAGES
        for rule in RULES
        for way in WAYS
    }
    for storage in STORAGES:
        found[storage, "static", "train_step"] = trained(storage, Static(), "train_step", rank)
        for name, guide in GUIDES.items():
            gse = GSE(every=2, stop=9, drop_fraction=0.5, candidates=guide)
            found[storage, name, "train_step"] = trained(storage, gse, "train_step", rank, uneven=True)
        with scores_of_this_process_only():
            found[storage, "local", "train_step"] = trained(storage, RULES["rigl"], "train_step", rank)
        found[storage, "global"] = rewired_over_all_layers(storage)
        found[storage, "unwrapped"] = trained_without_wrapper(storage)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def trained(storage, rule, way, rank, *, uneven=False) -> dict:
    """Train on this process's half of every batch, or on a smaller part."""
    model = tiny(storage, dtype=torch.float64)
    together = DistributedDataParallel(model)
    optimizer = OPTIMIZERS["sgd"](together.parameters())
    handle = None if way == "train_step" else attach(together, optimizer, rule, seed=0)
    topologies, profile = [], torch.autograd.profiler.profile()
    counts_transfers = (storage, way) == ("masked", "train_step")  # elsewhere nobody asks, and reading one takes 2 s
    watched = profile if counts_transfers else contextlib.nullcontext()
    with counted_collectives() as python_calls, watched:
        for step, (inputs, labels) in enumerate(batches_of(STEPS, size=SIZE, dtype=torch.float64)):
            half = inputs[rank::2], labels[rank::2]
            half = tuple(part[: len(part) - rank] for part in half) if uneven else half
            if handle is None:
                train(together, optimizer, [half], rule, first_step=step)
            else:
                own_step(together, optimizer, half, parts=2 if way == "accumulated" else 1)
            topologies.append(connections(model))
    return {
        "topologies": topologies,
        "values": values_of(model),
        "python calls": dict(python_calls),
        "transfers": num_transfers(profile) if counts_transfers else None,
        "off": sum(int(layer.param[~layer.topology.mask()].count_nonzero()) for layer in masked_layers(model)),
    }


def num_transfers(profile) -> int:
    """Count all transfers, those that DistributedDataParallel makes in C++ among them."""
    return sum(event.count for event in profile.key_averages() if event.key.startswith(("gloo:", "c10d::")))


def rewired_over_all_layers(storage) -> str:
    """Let the layers' numbers of connections change; return the error, if there is one."""
    together = DistributedDataParallel(tiny(storage))
    optimizer = OPTIMIZERS["sgd"](together.parameters())
    try:
        train(together, optimizer, batches_of(3), DropGrow(every=2, stop=9, scope="global", allow_regrowth=False))
    except ValueError as error:
        return str(error)
    return ""


def trained_without_wrapper(storage) -> str:
    """Train the model itself where its wrapper belongs; return the error, if there is one."""
    model = tiny(storage)
    try:
        train(model, OPTIMIZERS["sgd"](model.parameters()), batches_of(1), RULES["rigl"])
    except ValueError as error:
        return str(error)
    return ""


def own_step(together, optimizer, batch, *, parts) -> None:
    pairs = list(zip(*(tensor.chunk(parts) for tensor in batch), strict=True))
    for number, (inputs, labels) in enumerate(pairs, start=1):
        with contextlib.nullcontext() if number == parts else together.no_sync():
            (cross_entropy(together(inputs), labels) / parts).backward()
    optimizer.step()
    optimizer.zero_grad()


def connections(model) -> list[torch.Tensor]:
    """The positions that the next forward pass will use, derived anew from the masks where there are masks."""
    return [
        (layer.mask.flatten().nonzero().flatten() if layer.storage == "masked" else layer.indices).clone()
        for layer in sparse_layers(model).values()
    ]


def masked_layers(model) -> list:
    return [layer for layer in sparse_layers(model).values() if layer.storage == "masked"]


@contextlib.contextmanager
def counted_collectives():
    """Count the calls of Python code; DDP's own transfers are made in C++."""
    calls: Counter = Counter()
    originals = {name: getattr(dist, name) for name in COLLECTIVES}

    def counting(name):
        def call(*args, **kwargs):
            calls[name] += 1
            return originals[name](*args, **kwargs)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


@contextlib.contextmanager
def scores_of_this_process_only():
    """The mistake that must not be made: growth scores from local gradients."""
    original = LayerIO.grad_at
    LayerIO.grad_at = LayerIO._from_activations
    try:
        yield
    finally:
        LayerIO.grad_at = original
