"""TensorBoard: `tensorboard --logdir FOLDER` shows the curves of all runs below a folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.trackers.base import News, Tracker
from sparsekit.train.history import History
from sparsekit.utils.optional import require


@dataclass
class TensorBoard(Tracker):
    """Write event files to `FOLDER/RUN`, with the experiment as a text.

    The first news of a process replace the run's earlier event files, because they tell the run from its beginning.

    Args:
        folder: where the event files are written.

    Raises:
        ImportError: if tensorboard is not installed.

    Example:
        >>> run(recipes.digits_mlp(epochs=1), callbacks=[TensorBoard("logs")], progress=False)  # doctest: +SKIP

    Source: the event files of torch.utils.tensorboard.
    """

    folder: str | Path
    _writers: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        require("tensorboard", install="tensorboard")

    def tell(self, name: str, news: News, experiment: Experiment, history: History) -> None:
        """Write the rows as scalars."""
        if news.is_first:
            self._writers[name] = self._begin(Path(self.folder) / name, experiment)
        writer = self._writers[name]
        for row in news.rows:
            writer.add_scalar(row.name, row.value, row.step)
        writer.flush()
        if news.is_last:
            writer.close()

    @staticmethod
    def _begin(folder: Path, experiment: Experiment) -> Any:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        writer = require("torch.utils.tensorboard", install="tensorboard").SummaryWriter(folder)
        writer.add_text("experiment", repr(experiment), 0)
        return writer
