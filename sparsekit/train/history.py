"""What a training leaves behind: its numbers by step, and the journal of its rewirings."""

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from sparsekit.evaluation.measuring import Evaluation
from sparsekit.layers import active_topology, density_of, topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import Topology
from sparsekit.train.loop import StepStats
from sparsekit.utils.files import CHECKSUM, append, is_sealed, sealed, write_bytes

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
            `test accuracy` and `density` after every epoch. Accuracies and densities are shares, 0 to 1. Language
            models have `test perplexity` and `test nats per character` too.
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
            ValueError: if nothing of this name was measured. The message lists what was.
        """
        measured = [row.value for row in self.rows if row.name == name]
        if not measured:
            known = ", ".join(sorted({row.name for row in self.rows}))
            raise ValueError(
                f"the name must be one of {known or '(nothing measured)'}, got {name!r}. Choose one of them"
            )
        return measured

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
    """Return the rows that one evaluation adds. The density of a model without sparse layers is 1.

    Papers mean either density: of the layers that are sparse, or of all parameters.
    """
    topology, used = topology_of(model), active_topology(model)
    rows = [
        Row(step, epoch, "test loss", evaluation.loss),
        Row(step, epoch, "test accuracy", evaluation.accuracy),
        Row(step, epoch, "density", topology.density if topology else 1.0),
        Row(step, epoch, "density of all parameters", density_of(model)),
    ]
    # Some methods train more connections than they use.
    return rows if used.count == topology.count else [*rows, Row(step, epoch, "density used", used.density)]


def rows_of_text(step: int, epoch: int, evaluation: Evaluation, characters: float) -> list[Row]:
    """Return the rows that an evaluation adds for a language model.

    Args:
        step, epoch: of the evaluation.
        evaluation: whose loss is in nats per token.
        characters: that a token stands for on average.
    """
    return [
        Row(step, epoch, "test perplexity", evaluation.perplexity),
        Row(step, epoch, "test nats per character", evaluation.loss / characters),
    ]


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the end of a metrics file, one JSON object a line, each with a checksum of its own.

    Raises:
        OSError: if there is no space. The message says so.
    """
    append(path, b"".join(map(_line_of, rows)))


def read_rows(path: Path) -> list[Row]:
    """Read a metrics file. A last line cut off by a crash is left out.

    Raises:
        ValueError: if a line is damaged, or the steps of a number do not increase.
    """
    if not path.exists():
        return []
    # Everything after the last line break is empty, or the torn end of a write.
    lines = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        if not is_sealed(line):
            raise _damaged(f"line {number} of {path}")
    # One call of json for the whole file takes a fifth of the time of one call a line.
    values = json.loads(b"[" + b",".join(lines) + b"]")
    rows = [Row(one["step"], one["epoch"], one["name"], one["value"]) for one in values]
    _check_increasing(rows, path)
    return rows


def _check_increasing(rows: Iterable[Row], path: Path) -> None:
    """Check that each number was measured once a step, as two processes that write into one run would not."""
    last: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if row.step <= last.get(row.name, -1):
            raise ValueError(
                f"the steps of {row.name} must increase, got {row.step} after {last[row.name]} in line {number} of "
                f"{path}. Two processes may have written into this run. Delete its folder to train it again"
            )
        last[row.name] = row.step


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a metrics file anew, as a whole or not at all."""
    write_bytes(path, b"".join(map(_line_of, rows)))


def _line_of(row: Row) -> bytes:
    values = f'"step": {row.step}, "epoch": {row.epoch}, "name": {_quoted(row.name)}, "value": {json.dumps(row.value)}'
    return bytes(sealed(f'{{"checksum": "{CHECKSUM["checksum"]}", {values}}}'.encode())) + b"\n"


_quoted = cache(json.dumps)  # of the few names that rows have


def _damaged(where: str) -> ValueError:
    return ValueError(
        f"{where} must be a row as it was written, got one that is damaged, changed by hand or of an older "
        "version. Put a good copy of the file in its place, or delete the run's folder to train it again"
    )


def code_version() -> str:
    """Return which code and libraries a run was made with: the git commit where there is one, and versions."""
    return f"sparsekit {_commit()}\ntorch {torch.__version__}\npython {platform.python_version()}\n"


def _commit() -> str:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():  # git itself would look further up, and find somebody else's project
        return "not a git checkout"
    try:
        words = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
        answer = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)
    except (OSError, subprocess.TimeoutExpired):  # no git, or none that answers
        return "of an unknown commit"
    return answer.stdout.strip() or "of an unknown commit"
