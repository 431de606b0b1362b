"""`run` carries out an experiment once. Finished work is read, and interrupted work continues bit for bit."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.feed import check_steps, data_of
from sparsekit.experiments.options import Callback, RunOptions
from sparsekit.experiments.work import Work, having_turn
from sparsekit.train.history import History
from sparsekit.utils.devices import choose_device, compiles
from sparsekit.utils.seeds import generator, seeded_rng


def run(
    experiment: Experiment,
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    checkpoint_steps: int | None = None,
    until: int | None = None,
    keep_states: bool = False,
    device: str | None = None,
    compile: bool | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train an experiment, in a folder of its own below `folder`.

    The folder holds `experiment.json`, `metrics.jsonl`, `journal`, `checkpoint.pt` and `code.txt`. If the run is there
    and finished, it is read and returned. If it was interrupted, at whatever step, it continues from its last
    checkpoint and ends bit for bit as if it had never stopped. Another process may train the same run, for example from
    a second notebook, or on another machine that shares the file system. Then this process waits, and continues with
    what the other has left.

    Args:
        experiment: what to do.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar.
        checkpoint_seconds: save at least as often as this, and also after every epoch.
        checkpoint_steps: save every so many steps as well.
        until: stop after this many steps for now. Another call continues.
        keep_states: keep the state after every rewiring too, from which `branch` continues. Each takes as much space as
            a checkpoint. A run that is finished already gets none.
        device: `auto`, `cpu`, `cuda`, or None to go by `utils.devices`. A run that began on one continues on another.
        compile: let torch compile the network, which changes numbers by rounding. None goes by `utils.devices`.
        callbacks: functions of the experiment and its history, called after every checkpoint, and once for a run that
            was finished already. `experiments.trackers` has some that tell TensorBoard, MLflow, Weights & Biases or a
            table. What a callback raises ends this call, and another call continues from the checkpoint.

    Raises:
        TypeError: if it is no experiment.
        ValueError: if settings do not fit each other or the data. No folder is made then.
        FloatingPointError: if the loss is not finite. The last checkpoint stays.
        CheckpointError: if the folder's checkpoint is damaged or its record lags behind. Nothing is touched.
        OSError: if there is no space, which the message says. The last checkpoint stays, and another call continues.
        LostClaimError: if this process was stopped for minutes, and another has taken the run over. It writes nothing.
    """
    options = RunOptions(
        root=root,
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
        checkpoint_steps=checkpoint_steps,
        until=until,
        keep_states=keep_states,
        device=device,
        compile=compile,
        callbacks=tuple(callbacks),
    )
    return run_with(options, experiment, folder)


def run_with(options: RunOptions, experiment: Experiment, folder: str | Path) -> History:
    """Train an experiment as `run` does, with options that are one value.

    Raises:
        TypeError: if it is no experiment.
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(f"run takes an Experiment, got {type(experiment).__name__}. Call recipes.digits_mlp()")
    check_steps(checkpoint_steps=options.checkpoint_steps, until=options.until)
    choose_device(options.device, storage=experiment.storage)  # refused before anybody waits for a turn
    run_folder = Path(folder) / experiment.folder_name
    with having_turn(run_folder, tell=options.progress) as may_write:
        return carry_out(experiment, run_folder, may_write, options)


def carry_out(experiment: Experiment, folder: Path, may_write: Callable[[], None], options: RunOptions) -> History:
    """Train in a folder that nobody else writes into."""
    with seeded_rng(generator(experiment.seed, "before training")):
        data = data_of(experiment, options.root)
        work = Work.begin(experiment, folder, data, options)
    if compiles(options.compile):
        work.model.compile()
    work.may_write = may_write
    if work.done >= work.end:
        work.tell()
    work.train_on()
    return work.history()
