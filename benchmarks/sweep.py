"""What does a sweep cost, and what does it gain?

First we carry out runs one after the other and then by a sweep, and compare the times on the clock. Then we sweep
experiments whose runs do nothing, to see what handing them out costs. At last we sweep them once more, when all of them
are finished, so that only the folder is read.

    python benchmarks/sweep.py [--workers 2] [--runs 8] [--epochs 20] [--cells 10000]
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import sparsekit as sk
from sparsekit.experiments import Experiment
from sparsekit.experiments.sweeps import local_client, sweeping
from sparsekit.experiments.sweeps.sweeping import RESULT, Result
from sparsekit.utils.files import write_json


def main() -> None:
    """Measure, and print a line for each number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10_000])
    options = parser.parse_args()
    print(f"{platform.machine()}, {options.workers} workers")
    if options.runs:
        measure_gain(
            options.workers, [sk.recipes.digits_mlp(seed=s, epochs=options.epochs) for s in range(options.runs)]
        )
    for cells in options.cells:
        measure_cost(options.workers, [replace(Experiment(), seed=seed) for seed in range(cells)])


def measure_gain(workers: int, experiments: list[Experiment]) -> None:
    """Compare a sweep with runs one after the other."""
    with tempfile.TemporaryDirectory() as folder, local_client(workers) as client:
        warm = [replace(experiments[0], seed=-1 - number) for number in range(workers)]
        sk.sweep(warm, folder, client=client, progress=False)  # workers load what they need
        with timed(f"{len(experiments)} runs by a sweep"):
            sk.sweep(experiments, folder, client=client, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        sk.run(warm[0], folder, progress=False)
        with timed(f"{len(experiments)} runs one after the other"):
            for experiment in experiments:
                sk.run(experiment, folder, progress=False)


def measure_cost(workers: int, experiments: list[Experiment]) -> None:
    """Sweep experiments whose runs do nothing, and then read them."""
    carry_out = sweeping._carry_out
    sweeping._carry_out = do_nothing
    try:
        with tempfile.TemporaryDirectory() as folder, local_client(workers) as client:
            with timed(f"{len(experiments)} runs that do nothing", len(experiments)):
                sk.sweep(experiments, folder, client=client, progress=False)
            for experiment in experiments:
                (Path(folder) / experiment.folder_name).mkdir()
                write_json(Path(folder) / experiment.folder_name / RESULT, {"test accuracy": 0.5})
            with timed(f"{len(experiments)} finished runs read", len(experiments)):
                sk.sweep(experiments, folder, client=client, progress=False)
    finally:
        sweeping._carry_out = carry_out


def do_nothing(_experiment: Experiment, **_settings: object) -> Result:
    """Stand in for a training."""
    return Result({"test accuracy": 0.5})


@contextmanager
def timed(what: str, cells: int | None = None) -> Iterator[None]:
    """Print the seconds on the clock and of this process, and what of that is a single cell's."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    each = "" if cells is None else f", {1000 * wall / cells:.2f} ms and {1000 * processor / cells:.2f} ms each"
    print(f"{what}: {wall:.1f} s, of which this process computed {processor:.1f} s{each}", flush=True)


if __name__ == "__main__":
    main()
