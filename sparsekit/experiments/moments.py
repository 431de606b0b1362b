"""Networks at chosen steps of a run, as tickets beside its checkpoint."""

from dataclasses import replace
from pathlib import Path

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.work import Work, having_turn
from sparsekit.tickets import TicketBook
from sparsekit.utils.seeds import generator, seeded_rng

TICKETS = "tickets"  # folder of the tickets, inside that of the run
SAVE_SECONDS = 60.0  # between two checkpoints, besides the one at every moment


def take_moments(
    experiment: Experiment, folder: Path, steps: list[int], *, root: str | Path | None, progress: bool
) -> TicketBook:
    """Train a run from moment to moment, take the network at each, and return the book of all of them.

    It happens within one process, because to save and resume a run may take longer than the steps between two moments.

    Args:
        experiment: what to train.
        folder: where runs are kept.
        steps: when to take the network, in increasing order.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each part of the training.

    Raises:
        ValueError: if the run has gone past a moment that is missing.
    """
    book = TicketBook(folder / experiment.folder_name / TICKETS)
    if not set(steps) - set(book.steps):
        return book
    with having_turn(book.folder.parent, tell=progress) as may_write:
        with seeded_rng(generator(experiment.seed, "before training")):
            data = datasets.load(experiment.data, root=root, **experiment.data_settings)
            options = RunOptions(root=root, progress=progress, checkpoint_seconds=SAVE_SECONDS, device="cpu")
            work = Work.begin(experiment, book.folder.parent, data, options)
        work.may_write = may_write
        due = [step for step in steps if step not in book.steps]  # another process may have taken them while we waited
        if due and work.done > due[0]:
            raise ValueError(
                f"a run must stop at step {due[0]} for its moment, got {work.folder} at step {work.done}. Delete the "
                "folder to train anew"
            )
        for step in due:
            work.options = replace(options, until=step)
            work.train_on()
            book.add(work.model, step=work.done)
    return book
