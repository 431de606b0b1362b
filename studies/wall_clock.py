"""How does accuracy grow with time and memory? We train ResNet-20 on CIFAR-10.

Static, SET, RigL and GSE train in storage csr, and the dense network is channels-last, torch's fastest format. Each
training has a process of its own, so that its peak memory is its own. A row is printed and kept after every part of an
epoch. It gives seconds of training (evaluation not counted) by the clock and of the processor, test accuracy, and the
process's peak memory. The processor's seconds do not count what other programs take. All keep freed memory and ask for
large pages, as the command line does. Trainings that are already in the file are not repeated.

    SPARSEKIT_DATA=... python studies/wall_clock.py --densities 0.1 0.05 --epochs 4 --seeds 2
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
from sparsekit.analysis.costs.benchmark.machine import about_machine
from sparsekit.datasets import CropFlip
from sparsekit.evaluation.measuring import evaluate
from sparsekit.experiments import Experiment, build_model, build_optimizer
from sparsekit.experiments.recipes import cifar10_resnet20
from sparsekit.layers import sparse_layers
from sparsekit.train import training
from sparsekit.utils.memory import keep_freed_memory
from sparsekit.utils.settings import check_threads

METHODS = ("dense", "gse", "rigl", "set", "static")


def experiment_of(method: str, density: float, epochs: int, seed: int) -> Experiment:
    """Return what is trained, with equally many rewirings in all that rewire."""
    settings = {} if method in ("dense", "static") else {"drop_fraction": 0.3, "every": 100}
    storage = "masked" if method == "dense" else "csr"
    return cifar10_resnet20(
        rule=method, density=density, epochs=epochs, seed=seed, storage=storage, rule_settings=settings
    )


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
        datasets.stream(data, experiment.batch_size, seed=experiment.seed, augment=CropFlip()),
        experiment.epochs * steps,
    )
    steps_of_training = training(
        model, optimizer, batches, cross_entropy, experiment.rule, seed=experiment.seed, learning_rate=rate
    )
    seconds, processor, start, processor_start = 0.0, 0.0, time.perf_counter(), time.process_time()
    for step, stats, _ in steps_of_training:
        if (step + 1) % (steps // parts) == 0:
            seconds += time.perf_counter() - start
            processor += time.process_time() - processor_start
            in_order = ((data.prepare(x), y) for x, y in datasets.batches_in_order(data.test, 500))
            accuracy = evaluate(model, in_order, cross_entropy).accuracy
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            times = {"seconds": seconds, "processor seconds": processor}
            yield {"step": step + 1, **times, "accuracy": accuracy, "loss": stats.loss, "GiB": memory}
            model.train()
            start, processor_start = time.perf_counter(), time.process_time()


def main() -> None:
    """Train each method, or the one that is named in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.05])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--parts", type=int, default=1, help="measurements in an epoch")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--file", type=Path, default=Path("studies/results/wall_clock.jsonl"))
    parser.add_argument("--method", choices=METHODS, help="only this one, in this process")
    options = parser.parse_args()
    torch.set_num_threads(check_threads(options.threads))
    if options.method:
        train_one(options)
        return
    trained = {_key(row) for row in _rows(options.file) if row["step"] == row["steps"]}
    for seed in options.seeds:
        for method in METHODS:
            for density in [1.0] if method == "dense" else options.densities:
                if (method, density, seed, options.epochs) not in trained:
                    _in_a_process_of_its_own(options, method, density, seed)


def train_one(options: argparse.Namespace) -> None:
    """Train one method, and keep its rows when it has come to its end."""
    keep_freed_memory()
    (density, *_), (seed, *_) = options.densities, options.seeds
    setting = {"method": options.method, "density": density, "seed": seed, "epochs": options.epochs}
    setting |= {"threads": options.threads, "processor": about_machine()["processor"]}
    rows = []
    for row in measured(experiment_of(options.method, density, options.epochs, seed), options.parts):
        rows.append({**setting, **row})
        print(json.dumps(rows[-1]), flush=True)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    with options.file.open("a") as file:
        file.writelines(json.dumps(row | {"steps": rows[-1]["step"]}) + "\n" for row in rows)


def _in_a_process_of_its_own(options: argparse.Namespace, method: str, density: float, seed: int) -> None:
    words = ["--method", method, "--densities", str(density), "--epochs", str(options.epochs), "--seeds", str(seed)]
    words += ["--parts", str(options.parts), "--threads", str(options.threads), "--file", str(options.file)]
    large_pages = os.environ | {"THP_MEM_ALLOC_ENABLE": "1"}
    subprocess.run([sys.executable, str(Path(__file__)), *words], check=True, env=large_pages)


def _rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _key(row: dict) -> tuple:
    return row["method"], row["density"], row["seed"], row["epochs"]


if __name__ == "__main__":
    main()
