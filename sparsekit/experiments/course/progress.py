"""What a reader has done so far: guesses, solved exercises and the best network, in one small file.

The file lies in the folder of the reader's copies of the notebooks, which `sparsekit course open` makes. Elsewhere
nothing is written, and what was done is known until the kernel ends.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.turns import alone

FILE = "progress.json"
MARK = ".copies.json"  # in a folder of copies
BUDGET = 1690  # connections that the reader's networks may have, 2 % of those of the recipe digits-mlp

Record = dict[str, Any]

_in_memory: Record = {}


def empty() -> Record:
    """Return the record of a reader who begins."""
    return {"guesses": {}, "exercises": {}, "best": None}


def progress_file(folder: Path | None = None) -> Path | None:
    """Return the file of the folder that we work in, or None where no copies of the notebooks are."""
    folder = Path.cwd() if folder is None else folder
    return folder / FILE if (folder / MARK).exists() else None


def read_progress(path: Path | None = None) -> tuple[Record, str]:
    """Return what a reader has done, and a sentence to tell if the file was damaged, else an empty text.

    A damaged file is kept beside, under another name.

    Args:
        path: the file, by default that of the folder that we work in.
    """
    path = progress_file() if path is None else path
    if path is None:
        return copy.deepcopy(_in_memory) or empty(), ""
    try:
        record = read_json(path)
        _check(record)
        return record, ""
    except FileNotFoundError:
        return empty(), ""
    except (ValueError, OSError):
        return empty(), _put_aside(path)


def change_progress(change: Callable[[Record], None], path: Path | None = None) -> tuple[Record, str]:
    """Change the record, one process at a time, and return it with what `read_progress` has to tell.

    A disk that is full or not to be written to costs the record, and never the reader's cell.
    """
    path = progress_file() if path is None else path
    if path is None:
        record, notice = read_progress()
        change(record)
        _in_memory.clear()
        _in_memory.update(record)
        return record, notice
    try:
        with alone(path) as may_write:
            record, notice = read_progress(path)
            change(record)
            may_write()
            write_json(path, record)
    except OSError as error:
        record, notice = read_progress(path)
        change(record)
        notice = f"{notice} Your progress could not be saved ({error}).".strip()
    return record, notice


def keep_guess(question: str, choice: str, is_right: bool | None, path: Path | None = None) -> tuple[Record, str]:
    """Record a reader's first guess. Whether it is right may become known later."""

    def change(record: Record) -> None:
        guess = record["guesses"].setdefault(question, {"choice": choice, "is_right": None})
        if is_right is not None and guess["is_right"] is None:
            guess["is_right"] = is_right

    return change_progress(change, path)


def keep_attempt(name: str, is_right: bool, path: Path | None = None) -> tuple[Record, str]:
    """Record an answer to an exercise. What was solved once stays solved."""

    def change(record: Record) -> None:
        exercise = record["exercises"].setdefault(name, {"attempts": 0, "solved": False})
        exercise["attempts"] += 0 if exercise["solved"] else 1
        exercise["solved"] |= is_right

    return change_progress(change, path)


def keep_best(accuracy: float, by: str, connections: int, path: Path | None = None) -> tuple[Record, str]:
    """Record a network of the reader's, if it reads more than any before within the budget of connections.

    Args:
        accuracy: share of the test digits that it reads, 0 to 1.
        by: how it was trained.
        connections: how many it has.
        path: the file, by default that of the folder that we work in.

    Raises:
        ValueError: if it has more connections than the budget, or the accuracy is no share.
    """
    if not (isinstance(accuracy, float | int) and math.isfinite(accuracy) and 0 <= accuracy <= 1):
        raise ValueError(f"accuracy must be a share from 0 to 1, got {accuracy}. Divide percent by 100")
    if not 1 <= connections <= BUDGET:
        raise ValueError(f"your network must have 1 to {BUDGET} connections, got {connections}. Lower the density")

    def change(record: Record) -> None:
        best = record["best"]
        if best is None or accuracy > best["accuracy"]:
            record["best"] = {"accuracy": float(accuracy), "by": by, "connections": int(connections)}

    return change_progress(change, path)


def _check(record: Record) -> None:
    """Raise ValueError if a record is of another version."""
    fits = isinstance(record.get("guesses"), dict) and isinstance(record.get("exercises"), dict) and "best" in record
    if not fits:
        raise ValueError(f"a record must hold guesses, exercises and best, got {sorted(record)}. Delete the file")


def _put_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"progress-damaged-{number}.json")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        return f"Your progress file {path.name} cannot be read ({error}). We count from here on."
    return f"Your progress file was damaged. We keep it as {aside.name}, and count from here on."
