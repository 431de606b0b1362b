"""How does accuracy grow with wall-clock time and memory? We train ResNet-20 on CIFAR-10.

It is dense, or RigL in storage masked, or GSE in csr. Each training has a process of its own, so that its peak memory
is its own. A row is printed after every part of an epoch. It gives seconds of training (evaluation not counted), test
accuracy, and the process's peak memory. The dense network is channels-last, torch's fastest format. All keep freed
memory and ask for large pages, as the command line does.

    SPARSEKIT_DATA=... python benchmarks/wall_clock.py --densities 0.1 0.05 --epochs 2 --threads 1
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from sparsekit import datasets
from sparsekit.cli.output import keep_freed_memory
from sparsekit.datasets import CropFlip
from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import Experiment, build_model, build_optimizer
from sparsekit.experiments.recipes import cifar10_resnet20
from sparsekit.layers import sparse_layers
from sparsekit.train import training
from sparsekit.utils.settings import check_threads

METHODS = {"dense": ("dense", "masked"), "rigl masked": ("rigl", "masked"), "gse csr": ("gse", "csr")}


def experiment_of(method: str, density: float, epochs: int) -> Experiment:
    """Return what is trained, with equally many rewirings in all."""
    rule, storage = METHODS[method]
    settings = {} if rule == "dense" else {"drop_fraction": 0.3, "every": 100}
    return cifar10_resnet20(rule=rule, density=density, epochs=epochs, storage=storage, rule_settings=settings)


def measured(experiment: Experiment, parts: int) -> Iterator[dict]:
    """Train, and yield what was reached after each part of an epoch."""
    data = datasets.load(experiment.data)
    model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes)
    if not sparse_layers(model):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's type lacks it
    optimizer = build_optimizer(experiment, model)
    steps = datasets.count_batches(len(data.train), experiment.batch_size)
    rate = experiment.learning_rate_over(experiment.epochs * steps)
    batches = islice(
        datasets.stream(data, experiment.batch_size, seed=0, augment=CropFlip()), experiment.epochs * steps
    )
    seconds, start = 0.0, time.perf_counter()
    for step, stats, _ in training(model, optimizer, batches, cross_entropy, experiment.rule, learning_rate=rate):
        if (step + 1) % (steps // parts) == 0:
            seconds += time.perf_counter() - start
            in_order = ((data.prepare(x), y) for x, y in datasets.batches_in_order(data.test, 500))
            accuracy = evaluate(model, in_order, cross_entropy).accuracy
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            yield {"step": step + 1, "seconds": seconds, "accuracy": accuracy, "loss": stats.loss, "GiB": memory}
            model.train()
            start = time.perf_counter()


def main() -> None:
    """Train each method, or the one that is named in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.05])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--parts", type=int, default=2, help="measurements in an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--method", choices=list(METHODS), help="only this one, in this process")
    options = parser.parse_args()
    torch.set_num_threads(check_threads(options.threads))
    if options.method:
        keep_freed_memory()
        for row in measured(experiment_of(options.method, options.densities[0], options.epochs), options.parts):
            print(json.dumps({"method": options.method, "density": options.densities[0], **row}), flush=True)
        return
    for method in METHODS:
        for density in [1.0] if method == "dense" else options.densities:
            words = ["--method", method, "--densities", str(density), "--epochs", str(options.epochs)]
            words += ["--parts", str(options.parts), "--threads", str(options.threads)]
            large_pages = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
            subprocess.run([sys.executable, str(Path(__file__)), *words], check=True, env=large_pages)


if __name__ == "__main__":
    main()
