"""A run's folder: its experiment, and its numbers and rewirings as its checkpoint vouches for them."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.kernels.positions import as_positions
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint
from sparsekit.train.history import History, Row, read_rows
from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.registry import get, is_registered
from sparsekit.utils.settings import from_plain, to_plain

NAMED = ("data", "model", "optimizer", "allocation")  # settings that are the name of something registered


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Write what a run is, and which modules of the user's own must be imported to read it."""
    plain = to_plain(experiment)
    write_json(folder / "experiment.json", {"modules": _modules_of(plain), **plain})


def read_experiment(folder: str | Path) -> Experiment:
    """Return the experiment of a run folder.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the file is damaged, or names something that a module of the user's own has yet to register.
    """
    path = Path(folder) / "experiment.json"
    if not path.exists():
        raise FileNotFoundError(
            f"a run folder must hold experiment.json, got {path.parent} without; give a run's folder"
        )
    plain = read_json(path, remedy="delete the run's folder to train it again")
    for module, things in plain.pop("modules", {}).items():
        if missing := [thing for thing in things if not is_registered(*thing.split(" ", 1))]:
            way = "run the code that defines" if module == "__main__" else f"import {module}, which defines"
            raise ValueError(f"{path} must find {', '.join(missing)} registered, got none; {way} it, and call again")
    try:
        return from_plain(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be an experiment of this version, got another ({error}); use the version that wrote it, or "
            "delete the run's folder to train it again"
        ) from error


def read_run(folder: str | Path) -> History:
    """Return what a run has measured so far.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if a file is damaged, or the numbers and rewirings are not all that the checkpoint vouches for.
    """
    folder = Path(folder)
    read_experiment(folder)
    # The checkpoint first: while a run goes on, rows and rewirings are written before it.
    path = folder / "checkpoint.pt"
    return read_record(folder, load_checkpoint(path) if path.exists() else None)


def read_record(folder: Path, state: Mapping[str, Any] | None) -> History:
    """Return the numbers and rewirings of a run, checked against its checkpoint where there is one.

    After a power failure the checkpoint may have reached the disk, and what was written before it not.

    Raises:
        CheckpointError: if there is a checkpoint and they are not all that were written before it.
        ValueError: if a file is damaged.
    """
    if state is None:
        return History(read_rows(folder / "metrics.jsonl"), Journal.read(folder / "journal"), folder)
    try:
        history = History(read_rows(folder / "metrics.jsonl"), Journal.read(folder / "journal"), folder)
    except (ValueError, FileNotFoundError) as error:
        raise CheckpointError(f"{error}; the checkpoint alone cannot tell what was measured") from error
    _check_rows(history.rows, state, folder / "metrics.jsonl")
    _check_journal(history.journal, state, folder / "journal")
    return history


def num_records(rows: int, journal: Journal) -> dict[str, int]:
    """Return what a checkpoint keeps, so that nothing can get lost of what was written before it."""
    return {"rows": rows, "rewirings": len(journal)}


def _check_rows(rows: list[Row], state: Mapping[str, Any], path: Path) -> None:
    wanted, done = _kept(state, "rows"), state["step"]
    past = [row for row in rows if row.step < done]
    if len(past) != wanted or (past and past[-1].step != done - 1):
        last = past[-1].step if past else "none"
        raise _lagging(path, f"{wanted} rows, the last of step {done - 1},", f"{len(past)}, the last of step {last}")


def _check_journal(journal: Journal, state: Mapping[str, Any], path: Path) -> None:
    wanted, done = _kept(state, "rewirings"), state["step"]
    past = Journal(journal.initial, [(step, change) for step, change in journal.entries if step < done])
    if len(past) != wanted:
        raise _lagging(path, f"{wanted} rewirings", f"{len(past)}")
    if past[-1] != _topology_in(state["model"], journal.initial):
        raise _lagging(path, "every rewiring", f"{len(past)} that lead to another topology")


def _kept(state: Mapping[str, Any], what: str) -> int:
    if what not in state["extra"]:
        raise CheckpointError(
            f"the checkpoint of a run must hold its number of {what}, got {sorted(state['extra'])}; it is not one that "
            "run wrote: delete the folder to start this run again"
        )
    return state["extra"][what]


def _topology_in(state: Mapping[str, Any], like: Topology) -> Topology | None:
    """Return the topology that a model's state holds, or None if it is that of other layers."""
    keys = {name: f"{name}.indices" if name else "indices" for name in like}
    if not set(keys.values()) <= set(state):
        return None
    return Topology({name: LayerTopology(like[name].shape, as_positions(state[key])) for name, key in keys.items()})


def _modules_of(plain: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the modules, not of this package, that define what an experiment names, each with what it defines."""
    named = [(kind, plain[kind]) for kind in NAMED]
    modules: dict[str, list[str]] = {}
    for kind, name in sorted({*named, *_registered_in(plain)}):
        thing = get(kind, name)
        module = getattr(thing.func if isinstance(thing, partial) else thing, "__module__", None) or "__main__"
        if module.partition(".")[0] not in ("sparsekit", "torch"):
            modules.setdefault(module, []).append(f"{kind} {name}")
    return modules


def _registered_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if {"kind", "name"} <= set(value):
            yield value["kind"], value["name"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _registered_in(item)


def _lagging(path: Path, wanted: str, got: str) -> CheckpointError:
    return CheckpointError(
        f"{path} must hold {wanted} up to the checkpoint, got {got}; delete the folder to start this run again"
    )
