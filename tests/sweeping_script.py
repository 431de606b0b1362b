"""A script that sweeps tiny runs on two workers, for tests that kill these. Its rule and data exist nowhere else.

    python sweeping_script.py FOLDER LOG SECONDS [SCHEDULER.json]

Each step of each run adds a line to the log: the process, the run's seed and the step. A step takes so many seconds.
With the file of a scheduler it sweeps a few runs there, and once more on the next scheduler if that one is lost.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import sparsekit as sk
from sparsekit.datasets import Dataset, Split
from sparsekit.rules import SET, Rule
from sparsekit.rules.wrapper import WrappedRule

RUNS, STEPS = 24, 15


@sk.register("data", "logged-points")
def points(*, root: Path | None = None) -> Dataset:
    """Points in six dimensions. To load a library with other data would take a new worker seconds."""
    inputs = torch.randn(150, 6, generator=torch.Generator().manual_seed(0))
    whole, order = Split(inputs=inputs, labels=inputs[:, :3].argmax(1)), torch.arange(150)
    train, test = whole.at(order[:120]), whole.at(order[120:])
    return Dataset(name="logged-points", train=train, test=test, classes=("one", "two", "three"), source="made up")


@sk.register("rule", "logged", is_method=False)
@dataclass(frozen=True, kw_only=True)
class Logged(WrappedRule):
    """A rule that writes down who takes which step, where the environment names a log."""

    base: Rule
    seed: int

    def is_due(self, step: int) -> bool:
        if path := os.environ.get("STEPS_LOG"):
            file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.write(file, f"{os.getpid()} {self.seed} {step}\n".encode())
            os.close(file)
            time.sleep(float(os.environ["STEPS_SECONDS"]))
        return self.base.is_due(step)

    def propose(self, views, step, generator):
        return self.base.propose(views, step, generator)


def experiments(count: int = RUNS) -> list[sk.Experiment]:
    """Return runs of three steps an epoch."""
    tiny = sk.Experiment(
        recipe="logged",
        data="logged-points",
        density=0.5,
        epochs=STEPS // 3,
        batch_size=40,
        model_settings={"hidden": (12,)},
    )
    rule = SET(every=4, stop=STEPS, drop_fraction=0.5)
    return [replace(tiny, seed=seed, rule=Logged(base=rule, seed=seed)) for seed in range(count)]


def sweep_on(file: Path) -> object:
    """Sweep on the scheduler that a file names, and take the file away if it is lost."""
    from distributed import Client

    while not file.exists():
        time.sleep(0.05)
    try:
        with Client(scheduler_file=str(file)) as client:
            return sk.sweep(experiments(4), folder, client=client, progress=False, checkpoint_seconds=0.0)
    except ConnectionError as error:
        print(error, flush=True)
        file.unlink()
        return sweep_on(file)


def sweep_here() -> object:
    """Sweep on two workers. A worker that is started again has its libraries from the process it is forked from."""
    from distributed.utils import get_mp_context

    get_mp_context().set_forkserver_preload(["distributed", "sparsekit.experiments.sweeps.sweeping"])
    return sk.sweep(experiments(), folder, workers=2, checkpoint_seconds=0.0)


if __name__ == "__main__":
    folder, os.environ["STEPS_LOG"], os.environ["STEPS_SECONDS"], *scheduler = sys.argv[1:]
    table = sweep_on(Path(*scheduler)) if scheduler else sweep_here()
    print(len(table), "runs,", sum(table["error"] != ""), "errors")
