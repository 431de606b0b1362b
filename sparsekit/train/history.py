"""What a training leaves behind: its numbers by step, and the journal of its rewirings."""

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from sparsekit.evaluate import Evaluation
from sparsekit.files import write_atomically
from sparsekit.journal import Journal
from sparsekit.layers import density_of, topology_of, used_topology
from sparsekit.topology import Topology
from sparsekit.train.loop import StepStats

if TYPE_CHECKING:
    import pandas as pd


class Row(NamedTuple):
    """One measured number."""

    step: int
    epoch: int
    name: str
    value: float


@dataclass
class History:
    """The numbers and rewirings of one training.

    Args:
        rows: measured numbers in order: `train loss` and `train accuracy` of every batch, `test loss`,
            `test accuracy` and `density` after every epoch. Accuracies and densities are shares, 0 to 1.
        journal: every rewiring.
        folder: where it is kept, or None.
    """

    rows: list[Row] = field(default_factory=list)
    journal: Journal = field(default_factory=lambda: Journal(Topology()))
    folder: Path | None = None

    def frame(self) -> "pd.DataFrame":
        """Return the rows as a table with the columns step, epoch, name, value."""
        import pandas as pd  # a second of import time that training itself does not need

        return pd.DataFrame(self.rows, columns=list(Row._fields))

    def values(self, name: str) -> list[float]:
        """Return every value of one number, in order.

        Raises:
            ValueError: if nothing of this name was measured; the message lists what was.
        """
        found = [row.value for row in self.rows if row.name == name]
        if not found:
            known = ", ".join(sorted({row.name for row in self.rows}))
            raise ValueError(f"the name must be one of {known or '(nothing measured)'}, got {name!r}")
        return found

    def last(self, name: str) -> float:
        """Return the last value of one number, for example `last("test accuracy")`."""
        return self.values(name)[-1]


def rows_of_step(step: int, epoch: int, stats: StepStats) -> list[Row]:
    """Return the rows that one training step adds."""
    return [
        Row(step, epoch, "train loss", stats.loss),
        Row(step, epoch, "train accuracy", stats.accuracy),
    ]


def rows_of_epoch(step: int, epoch: int, evaluation: Evaluation, model: nn.Module) -> list[Row]:
    """Return the rows that one evaluation adds; the density of a model without sparse layers is 1.

    Papers mean either density: of the layers that are sparse, or of all parameters.
    """
    topology, used = topology_of(model), used_topology(model)
    rows = [
        Row(step, epoch, "test loss", evaluation.loss),
        Row(step, epoch, "test accuracy", evaluation.accuracy),
        Row(step, epoch, "density", topology.density if topology else 1.0),
        Row(step, epoch, "density of all parameters", density_of(model)),
    ]
    # Some methods train more connections than they use.
    return rows if used.count == topology.count else [*rows, Row(step, epoch, "density used", used.density)]


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the end of a metrics file, one JSON object a line."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row._asdict()) + "\n" for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Read a metrics file; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # Everything after the last line break is empty, or the torn end of a write.
    return [Row(**json.loads(line)) for line in lines[:-1]]


def cut_rows(path: Path, step: int) -> None:
    """Forget the rows at or after a step: a resumed run measures them again."""
    kept = [row for row in read_rows(path) if row.step < step]
    write_atomically(path, lambda temporary: append_rows(temporary, kept))


def code_version() -> str:
    """Return which code and libraries a run was made with: the git commit where there is one, and versions."""
    here = Path(__file__).parent
    asked = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True)
    commit = asked.stdout.strip() or "not a git checkout"
    return f"sparsekit {commit}\ntorch {torch.__version__}\npython {platform.python_version()}\n"
