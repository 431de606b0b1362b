"""A run in progress: its network, optimizer, journal and rows, from the first step to the last checkpoint."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from sparsekit import datasets
from sparsekit.datasets.windows import characters_per_token
from sparsekit.evaluation.measuring import Evaluation, evaluate
from sparsekit.experiments.draws import drawing
from sparsekit.experiments.experiment import Experiment, build_model, build_optimizer
from sparsekit.experiments.feed import (
    Data,
    batches_of,
    check_fits,
    endless_batches,
    is_text,
    loaded_batches,
    outputs_of,
    steps_of_epoch,
    test_batches_of,
    total_steps,
)
from sparsekit.experiments.initial_state import load_initial_state
from sparsekit.experiments.load import load_beside
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.record import kept_state, num_records, read_experiment, read_record, write_experiment
from sparsekit.layers import topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from sparsekit.train.history import (
    History,
    Row,
    append_rows,
    code_version,
    rows_of_epoch,
    rows_of_step,
    rows_of_text,
    write_rows,
)
from sparsekit.train.loop import StepStats, training
from sparsekit.tricks.base import Trick, TrickContext, begin, resume
from sparsekit.utils.devices import choose_device
from sparsekit.utils.files import write_text
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import to_plain
from sparsekit.utils.turns import alone

EVALUATION_BATCH = 1000


def having_turn(folder: Path, *, tell: bool) -> AbstractContextManager[Callable[[], None]]:
    """Be the only one that trains a run, and perhaps tell the user if we wait for another process (see `alone`)."""
    message = f"{folder.name}: another process trains it, so we wait until it is done"
    return alone(folder, partial(tqdm.write, message) if tell else lambda: None)


@dataclass
class Work:
    """A run in progress, which is the only mutable state of `run`. A population has one for each member."""

    experiment: Experiment
    folder: Path
    data: Data
    model: nn.Module
    optimizer: torch.optim.Optimizer
    journal: Journal
    options: RunOptions
    tricks: tuple[Trick, ...]
    done: int
    draws: torch.Generator
    rows: list[Row] = field(default_factory=list)
    saved_rows: list[Row] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)
    may_write: Callable[[], None] = lambda: None
    prints: list[int] = field(default_factory=list)  # of the batches of this epoch that a loader has given
    print_before: int | None = None  # of the last batch before an interruption

    @classmethod
    def begin(cls, experiment: Experiment, folder: Path, data: Data, options: RunOptions) -> "Work":
        """Build everything first, so that a bad setting leaves no folder behind. Then create or resume the run."""
        check_fits(experiment, data)
        device = choose_device(options.device, storage=experiment.storage)
        state = load_checkpoint(folder / "checkpoint.pt") if (folder / "checkpoint.pt").exists() else None
        is_new = state is None and experiment.init_from is None
        for_score = data if is_new and isinstance(data, datasets.Dataset) else None
        model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes, data=for_score)
        if state is None and experiment.init_from is not None:
            load_initial_state(folder.parent, experiment.init_from, model)
        tricks = experiment.tricks_over(total_steps(experiment, data))
        load = partial(load_beside, folder.parent, options.root, device=device)
        context = TrickContext(batches=endless_batches(experiment, data), load=load)
        if state is None and experiment.first_step == 0:
            model = begin(model, tricks, context)
        else:  # with values of a training that has begun
            model = resume(model, tricks, experiment.first_step if state is None else state["step"], context)
        model, data = model.to(device), data.to(device)  # built on the CPU, so that it is the same everywhere
        optimizer = build_optimizer(experiment, model)
        journal, draws = Journal(topology_of(model).to("cpu")), generator(experiment.seed, "torch")
        work = cls(experiment, folder, data, model, optimizer, journal, options, tricks, experiment.first_step, draws)
        work._create() if state is None else work._resume(state)
        return work

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        self.journal = Journal.create(self.folder / "journal", topology_of(self.model))
        write_text(self.folder / "code.txt", _code_of_process())
        write_experiment(self.folder, self.experiment)

    def _resume(self, state: dict[str, Any]) -> None:
        if to_plain(read_experiment(self.folder)) != to_plain(self.experiment):
            raise CheckpointError(
                f"{self.folder}/experiment.json must be of the experiment that the folder is named after, got another. "
                "Delete the folder to start this run again"
            )
        history = read_record(self.folder, state)
        self.done = restore(state, self.model, self.optimizer, generator=self.draws)
        self.journal, self.saved_rows = history.journal, history.rows
        if self.done >= self.end:
            return
        self._sweep()
        # The training writes again what it wrote after the checkpoint.
        self.journal.cut_at(self.done)
        self.print_before = state["extra"].get("batches")
        self.saved_rows = history.rows[: state["extra"]["rows"]]
        write_rows(self.folder / "metrics.jsonl", self.saved_rows)

    def _sweep(self) -> None:
        """Remove the files that a killed process was just writing."""
        for half_written in self.folder.rglob(".*.new"):
            half_written.unlink()

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches."""
        return steps_of_epoch(self.experiment, self.data)

    @property
    def end(self) -> int:
        """Number of steps after which we stop for now."""
        steps = total_steps(self.experiment, self.data)
        return min(steps, self.options.until or steps)

    def train_on(self) -> None:
        """Train to the end of the run, or until step `until`."""
        hidden, first, begun = not self.options.progress, self.done, time.monotonic()
        bar = tqdm(total=self.end, initial=first, desc=self.folder.name, disable=hidden, unit="step")
        self.model.train()
        with bar, drawing(self.experiment, self.model, self.draws):
            for postfix in self.steps():
                bar.update()
                speed = (self.done - first) * self.experiment.batch_size / (time.monotonic() - begun)
                bar.set_postfix(postfix | {"examples/s": f"{speed:.0f}"}, refresh=False)

    def steps(self) -> Iterator[dict]:
        """Train step by step, and yield after each what a bar may show."""
        while self.done < self.end:
            yield from self._epoch()

    def _epoch(self) -> Iterator[dict]:
        """Train to the end of the current epoch, or to the last step if that comes first."""
        experiment = self.experiment
        epoch, skip = divmod(self.done, self.steps_per_epoch)
        steps = training(
            self.model,
            self.optimizer,
            self._batches(epoch, skip),
            partial(nn.functional.cross_entropy, label_smoothing=experiment.label_smoothing),
            experiment.rule,
            seed=experiment.seed,
            first_step=self.done,
            learning_rate=experiment.learning_rate_over(total_steps(experiment, self.data)),
            micro_batches=experiment.micro_batches,
            autocast=experiment.autocast_type,
            tricks=self.tricks,
            adaptor=outputs_of(self.data),
        )
        for step, stats, update in steps:
            self.record(step, epoch, stats, update)
            epoch_ends = self.done % self.steps_per_epoch == 0
            if epoch_ends and experiment.is_tested_after(epoch):
                self.rows += self._rows_of_test(step, epoch)
            if update is not None and self.options.keep_states:
                self._write_state(kept_state(self.folder, self.done))
            if epoch_ends or self._is_time_to_save():
                self.save()
            yield {"loss": f"{stats.loss:.3f}"}
            if self.done == self.end and not epoch_ends:
                return

    def _batches(self, epoch: int, skip: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of an epoch, and say so if a loader gives others than before the run was interrupted."""
        experiment = self.experiment
        if not isinstance(self.data, datasets.Loaders):
            yield from batches_of(experiment, self.data, seed=experiment.seed, epoch=epoch, skip=skip)
            return
        self.prints.clear()
        for batch in loaded_batches(self.data, seed=experiment.seed, epoch=epoch, prints=self.prints, skip=skip):
            if self.print_before not in (None, self.prints[skip - 1]):
                warnings.warn(
                    f"{self.folder.name} must see the batches that it saw before it was interrupted, got others. It "
                    "continues, but not bit for bit. Let the data set draw with torch only",
                    stacklevel=2,
                )
            self.print_before = None
            yield batch

    def _is_time_to_save(self) -> bool:
        """Whether the last step calls for a checkpoint, or the last checkpoint lies back far enough."""
        every = self.options.checkpoint_steps
        on_step = self.done == self.end or (every is not None and self.done % every == 0)
        return on_step or time.monotonic() - self.saved_at > self.options.checkpoint_seconds

    def record(self, step: int, epoch: int, stats: StepStats, update: TopologyUpdate | None) -> None:
        """Keep what a step gave."""
        self.done = step + 1
        self.rows += rows_of_step(step, epoch, stats)
        if update is not None:
            self.may_write()
            self.journal.add(step, update)

    def history(self) -> History:
        """Return what was measured. It was checked when the run was resumed, and written since."""
        return History([*self.saved_rows, *self.rows], self.journal, self.folder)

    def _rows_of_test(self, step: int, epoch: int) -> list[Row]:
        """Return what a test measures, for text also by the character, so that models of other tokens compare."""
        measured = self.evaluate()
        rows = rows_of_epoch(step, epoch, measured, self.model)
        if not is_text(self.data):
            return rows
        characters = characters_per_token(self.data.test, self.data.tokenizer)
        return rows + rows_of_text(step, epoch, measured, characters)

    def evaluate(self) -> Evaluation:
        """Measure the model on the test examples."""
        return evaluate(self.model, self.test_batches(), adaptor=outputs_of(self.data))

    def test_batches(self, size: int = EVALUATION_BATCH) -> Iterator[tuple[Any, Any]]:
        """Yield the test examples as the network takes them."""
        return test_batches_of(self.data, size)

    def save(self) -> None:
        """Write rows and checkpoint, from which the run continues."""
        self.may_write()
        append_rows(self.folder / "metrics.jsonl", self.rows)
        self.saved_rows += self.rows
        self.rows.clear()
        self._write_state(self.folder / "checkpoint.pt")
        self.tell()
        self.saved_at = time.monotonic()

    def tell(self) -> None:
        """Call whoever wants to know what is saved."""
        for callback in self.options.callbacks:
            callback(self.experiment, self.history())

    def _write_state(self, path: Path) -> None:
        self.may_write()
        records = num_records(len(self.saved_rows) + len(self.rows), self.journal)
        if self.prints and (last := self.done % self.steps_per_epoch):
            records["batches"] = self.prints[last - 1]
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, self.model, self.optimizer, step=self.done, extra=records, generator=self.draws)


@cache
def _code_of_process() -> str:
    """Return the version of the code that this process has imported, whatever happens to the checkout later."""
    return code_version()
