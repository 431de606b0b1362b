"""What was measured of a fact is kept in one small file, a measurement a line, which is written when it is complete."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparsekit.analysis.costs.benchmark.machine import about_machine
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments.claims.base import FIRST_SEED, Fact, Measurement, Trials
from sparsekit.utils.files import CHECKSUM, is_sealed, sealed, write_bytes

KINDS: dict[str, type[Claim] | type[Exact]] = {"claim": Claim, "exact": Exact}
ROWS = "rows"  # the folder of the files, below that of the runs


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """One measurement of a fact, and where it was made.

    Args:
        measurement: with its verdict.
        processor: of the machine.
    """

    measurement: Measurement
    processor: str


def rows_of(fact: Fact, folder: Path, *, root: Path | None = None, epochs: int | None = None) -> Iterator[MeasuredRow]:
    """Yield what was measured of a fact, one row as soon as it is there. A finished measurement is read.

    Args:
        fact: one that has a measurement.
        folder: where runs and rows are kept.
        root: the data folder, as in `datasets.load`.
        epochs: see `Trials`. Rows of shorter trainings are kept apart from the others.

    Raises:
        ValueError: if the file is damaged, or the fact has no measurement.
    """
    if fact.measure is None:
        raise ValueError(f"fact {fact.number} must have a measurement to be measured, got none. It lacks {fact.lacks}")
    path = path_of(fact, folder, epochs)
    if path.exists():
        yield from read(path)
        return
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + fact.seeds))
    processor, rows = about_machine()["processor"], []
    for measurement in fact.measure(Trials(seeds=seeds, folder=folder, root=root, epochs=epochs)):
        rows.append(MeasuredRow(measurement=measurement, processor=processor))
        yield rows[-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, b"".join(map(_line_of, rows)))


def path_of(fact: Fact, folder: Path, epochs: int | None = None) -> Path:
    """Return the file of a fact's rows, whose name says with how many seeds they were measured."""
    shortened = "" if epochs is None else f"-epochs-{epochs}"
    return folder / ROWS / f"fact-{fact.number:02d}-seeds-{fact.seeds}{shortened}.jsonl"


def read(path: Path) -> list[MeasuredRow]:
    """Read the rows of a fact.

    Raises:
        ValueError: if a line is damaged.
    """
    lines = path.read_bytes().splitlines()
    if not lines:
        raise ValueError(f"{path} must hold the rows of a fact, got an empty file. Delete it to measure the fact again")
    return [_row_of(line, f"line {number} of {path}") for number, line in enumerate(lines, start=1)]


def _line_of(row: MeasuredRow) -> bytes:
    kind = "claim" if isinstance(row.measurement, Claim) else "exact"
    values = {**CHECKSUM, "kind": kind, "processor": row.processor, **asdict(row.measurement)}
    return bytes(sealed(json.dumps(values).encode())) + b"\n"


def _row_of(line: bytes, where: str) -> MeasuredRow:
    if not is_sealed(line):
        raise ValueError(
            f"{where} must be a row as it was written, got one that is damaged or changed by hand. Put a good copy of "
            "the file in its place, or delete it to measure the fact again"
        )
    values: dict[str, Any] = json.loads(line)
    del values["checksum"]
    kind, processor = KINDS[values.pop("kind")], values.pop("processor")
    return MeasuredRow(measurement=kind(**values), processor=processor)
