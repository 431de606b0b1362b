"""Weights & Biases: runs with their settings, curves and files, without a network unless you ask for one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.trackers.base import News, Tracker
from sparsekit.train.history import History, Row
from sparsekit.utils.optional import require
from sparsekit.utils.settings import to_plain


@dataclass
class WandB(Tracker):
    """Log to Weights & Biases. Nothing leaves your machine until you say `wandb sync` or mode="online".

    Args:
        project: name of the project.
        mode: "offline", or "online" to send everything at once.
        folder: where the files are written. They lie in its subfolder `wandb`.

    Raises:
        ImportError: if wandb is not installed.
        ValueError: if the mode is another.

    Example:
        >>> run(recipes.digits_mlp(epochs=1), callbacks=[WandB("sparse")], progress=False)  # doctest: +SKIP

    Source: the client of Weights & Biases, `wandb.init` and `Run.log`.
    """

    project: str = "sparsekit"
    mode: str = "offline"
    folder: str | Path = "."
    _runs: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.mode not in ("offline", "online"):
            raise ValueError(f"mode must be offline or online, got {self.mode!r}. Choose one of them")
        require("wandb", install="wandb")

    def tell(self, name: str, news: News, experiment: Experiment, history: History) -> None:
        """Log the rows, all of a step at once, and the run's files at its end."""
        if news.is_first:
            self._runs[name] = self._begin(name, experiment)
        run = self._runs[name]
        for step, numbers in by_step(news.rows):
            run.log(numbers, step=step)
        if news.is_last:
            if history.folder is not None:
                run.log_artifact(self._files(name, history.folder))
            run.finish()

    def _begin(self, name: str, experiment: Experiment) -> Any:
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        return require("wandb", install="wandb").init(
            project=self.project,
            name=name,
            dir=str(self.folder),
            mode=self.mode,
            config=to_plain(experiment),
            reinit="create_new",
        )

    @staticmethod
    def _files(name: str, folder: Path) -> Any:
        artifact = require("wandb", install="wandb").Artifact(name, type="run")
        for file in ("experiment.json", "journal"):
            artifact.add_file(str(folder / file))
        return artifact


def by_step(rows: Sequence[Row]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each step with its numbers, as tools want them that take no step twice."""
    for step, same in groupby(rows, key=lambda row: row.step):
        yield step, {row.name: row.value for row in same}
