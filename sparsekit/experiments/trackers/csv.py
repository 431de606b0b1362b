"""Comma-separated values: one file per run, which every spreadsheet opens."""

import csv
from dataclasses import dataclass
from pathlib import Path

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.trackers.base import News, Tracker
from sparsekit.train.history import History, Row


@dataclass
class CSV(Tracker):
    """Write `FOLDER/RUN.csv` with the columns step, epoch, name, value.

    The first news of a process write the file anew, and later ones add to it.

    Args:
        folder: where the files are written. It is made if it is not there.

    Example:
        >>> run(recipes.digits_mlp(epochs=1), callbacks=[CSV("tables")], progress=False)  # doctest: +SKIP
    """

    folder: str | Path

    def tell(self, name: str, news: News, experiment: Experiment, history: History) -> None:
        """Write the rows."""
        path = Path(self.folder) / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if news.is_first else "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if news.is_first:
                writer.writerow(Row._fields)
            writer.writerows(news.rows)
