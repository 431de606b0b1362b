"""Options that a study hands to each of its runs."""

from dataclasses import dataclass
from pathlib import Path

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.run import run
from sparsekit.train import History


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the runs of a study are carried out. No option changes what is measured.

    Args:
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each run.
        checkpoint_seconds: save at least so often.
        checkpoint_steps: save every so many steps as well.
    """

    root: str | Path | None
    progress: bool
    checkpoint_seconds: float
    checkpoint_steps: int | None

    def run(self, experiment: Experiment, folder: Path, *, until: int | None = None) -> History:
        """Carry out an experiment, or read what it has left behind."""
        return run(
            experiment,
            folder,
            root=self.root,
            progress=self.progress,
            checkpoint_seconds=self.checkpoint_seconds,
            checkpoint_steps=self.checkpoint_steps,
            until=until,
        )
