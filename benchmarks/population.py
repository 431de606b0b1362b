"""How much faster do small networks train as a population than one by one?

We train whole runs with everything that belongs to them, that is batches, rewirings, evaluation and files. A population
of K seeds and a single `run` take turns, each time with other seeds, so that whatever else the machine does slows down
both alike. We take the median of the processor's time on one thread, and print steps of single members per second. The
speed-up is that of a member's step over a step of the single run.

    python benchmarks/population.py [--recipe mnist1d-mlp] [--members 1 3 6 12 24] [--density 0.05] [--rounds 3]
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from sparsekit.experiments import Experiment, run, run_population
from sparsekit.experiments.compare import experiment_of
from sparsekit.utils.settings import check_threads


def seconds_of_step(experiments: list[Experiment], folder: str, *, together: bool) -> float:
    """Train experiments in a new folder, and return the processor's seconds for a step of one of them."""
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        start = time.process_time()
        if together:
            histories = run_population(experiments, runs, progress=False)
        else:
            histories = [run(experiment, runs, progress=False) for experiment in experiments]
        seconds = time.process_time() - start
    return seconds / sum(len(history.values("train loss")) for history in histories)


def measure(options: argparse.Namespace, size: int, folder: str) -> tuple[float, float]:
    """Return the median seconds of a member's step, in a population and alone."""
    together, alone = [], []
    for number in range(-1, options.rounds):  # in the first round kernels are loaded
        experiments = list(experiments_of(options, range((number + 1) * size, (number + 2) * size)))
        times = (
            seconds_of_step(experiments, folder, together=True),
            seconds_of_step(experiments[:1], folder, together=False),
        )
        if number >= 0:
            together.append(times[0])
            alone.append(times[1])
    return statistics.median(together), statistics.median(alone)


def experiments_of(options: argparse.Namespace, seeds: Iterable[int]) -> Iterable[Experiment]:
    """Return one experiment for each seed."""
    for seed in seeds:
        settings = {"epochs": options.epochs, "storage": options.storage}
        yield experiment_of(options.method, options.recipe, options.density, seed, **settings)


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mnist1d-mlp")
    parser.add_argument("--method", default="rigl")
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--storage", default="masked", help="of the runs, and so of the single one")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 3, 6, 12, 24])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    check_threads(1)
    torch.set_num_threads(1)
    print(f"{options.method} on {options.recipe}, density {options.density:g}, {options.epochs} epochs, ", end="")
    print(f"median of {options.rounds}, 1 thread, {processor()}, torch {torch.__version__}\n")
    print("| members | steps of a member per second | alone | speed-up |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.members:
            together, alone = measure(options, size, folder)
            print(f"| {size} | {1 / together:,.0f} | {1 / alone:,.0f} | {alone / together:.2f} |", flush=True)


if __name__ == "__main__":
    main()
