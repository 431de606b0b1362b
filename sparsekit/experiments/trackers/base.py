"""What all trackers share: they find out what is new since they were called last, and pass it on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from sparsekit.analysis.structure.metrics import dead_outputs
from sparsekit.experiments.experiment import Experiment
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import Topology
from sparsekit.train.history import History, Row


class News(NamedTuple):
    """What a run has added since somebody looked.

    Args:
        rows: measured numbers, with those of single layers after each rewiring (see `topology_rows`), by step.
        is_first: nothing was told before, at least not in this process.
        is_last: the run is finished.
    """

    rows: list[Row]
    is_first: bool
    is_last: bool


@dataclass
class Tracker(ABC):
    """A callback that tells another tool what is new, and is told once.

    Subclass it and define `tell`. One tracker may follow several runs, each by the name of its folder.
    """

    _seen: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, experiment: Experiment, history: History) -> None:
        """Tell what is new. `run` calls this after every checkpoint."""
        name = experiment.folder_name
        news = news_since(self._seen.get(name), experiment, history)
        self.tell(name, news, experiment, history)
        self._seen[name] = (len(history.rows), len(history.journal))

    @abstractmethod
    def tell(self, name: str, news: News, experiment: Experiment, history: History) -> None:
        """Pass news on. The first news hold everything from step 0, so a resumed run is told from its beginning.

        Args:
            name: of the run.
            news: what was measured since the last call.
            experiment, history: of the run.
        """


def news_since(seen: tuple[int, int] | None, experiment: Experiment, history: History) -> News:
    """Return what a history holds beyond so many rows and rewirings.

    Args:
        seen: number of rows and of rewirings that are known, or None.
        experiment, history: of the run.
    """
    rows, rewirings = seen or (0, 0)
    new = [*history.rows[rows:], *topology_rows(history.journal, history.rows, since=rewirings)]
    return News(sorted(new, key=lambda row: row.step), seen is None, is_finished(experiment, history))


def topology_rows(journal: Journal, rows: list[Row], *, since: int = 0) -> Iterator[Row]:
    """Yield what each rewiring did to each layer, as rows that a tracker can plot.

    These are `LAYER/density`, `LAYER/churn` (share of its connections that are new, 0 to 1) and `LAYER/dead units`
    (number of its outputs that have no connection).

    Args:
        journal: of the run.
        rows: of the run, which say to which epoch a step belongs.
        since: number of rewirings to leave out.
    """
    epochs = {row.step: row.epoch for row in rows}
    for number, (before, after) in enumerate(pairwise(journal.topologies())):
        if number >= since:
            step = journal.steps[number]
            yield from (Row(step, epochs[step], name, value) for name, value in _numbers(before, after))


def is_finished(experiment: Experiment, history: History) -> bool:
    """Whether a run has been tested after its last epoch."""
    tested = [row.epoch for row in history.rows if row.name == "test accuracy"]
    return bool(tested) and tested[-1] == experiment.epochs - 1


def _numbers(before: Topology, after: Topology) -> Iterator[tuple[str, float]]:
    for name, layer in after.items():
        label = name or "layer"
        yield f"{label}/density", layer.density
        yield f"{label}/churn", (layer - before[name]).count / max(1, layer.count)
        yield f"{label}/dead units", float(dead_outputs(layer).sum())
