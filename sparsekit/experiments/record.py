"""A run's folder holds its experiment, and the numbers and rewirings that its checkpoint vouches for."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sparsekit.experiments.experiment import Experiment
from sparsekit.kernels.positions import as_positions
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint
from sparsekit.train.history import History, Row, read_rows
from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.registry import get, is_registered, register
from sparsekit.utils.settings import from_plain, to_plain

NAMED = ("data", "model", "optimizer", "allocation")  # settings that are the name of something registered


class Definition(NamedTuple):
    """Something registered that an experiment names."""

    kind: str
    name: str
    thing: Any

    @property
    def module(self) -> str:
        """The module that defines it."""
        definition = self.thing.func if isinstance(self.thing, partial) else self.thing
        return getattr(definition, "__module__", None) or "__main__"


def write_experiment(folder: Path, experiment: Experiment) -> None:
    """Write what a run is, and which modules of a user's own must be imported to read it."""
    plain = to_plain(experiment)
    write_json(folder / "experiment.json", {"modules": _modules_of(plain), **plain})


def read_experiment(folder: str | Path) -> Experiment:
    """Return the experiment of a run folder.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the file is damaged, or names something that a user's own module has yet to register.
    """
    path = Path(folder) / "experiment.json"
    if not path.exists():
        raise FileNotFoundError(
            f"a run folder must hold experiment.json, got {path.parent} without. Give a run's folder"
        )
    plain = _in_today_s_words(read_json(path, remedy="delete the run's folder to train it again"))
    for module, definitions in plain.pop("modules", {}).items():
        if missing := [one for one in definitions if not is_registered(*one.split(" ", 1))]:
            advice = "Run the code that defines" if module == "__main__" else f"Import {module}, which defines"
            raise ValueError(f"{path} must find {', '.join(missing)} registered, got none. {advice} it, and call again")
    try:
        return from_plain(plain)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be an experiment of this version, got another ({error}). Use the version that wrote it, or "
            "delete the run's folder to train it again"
        ) from error


def _in_today_s_words(plain: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment that may have been written before version 0.3, in which `init` was `dense_init`."""
    if "dense_init" not in plain:
        return plain
    others = {key: value for key, value in plain.items() if key != "dense_init"}
    return others | {"init": "dense" if plain["dense_init"] else "gse"}


def read_run(folder: str | Path) -> History:
    """Return what a run has measured so far.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if a file is damaged, or numbers and rewirings are missing that the checkpoint vouches for.
    """
    folder = Path(folder)
    read_experiment(folder)
    # We read the checkpoint first, because a run in progress writes rows and rewirings before it.
    path = folder / "checkpoint.pt"
    return read_record(folder, load_checkpoint(path) if path.exists() else None)


def read_record(folder: Path, state: Mapping[str, Any] | None) -> History:
    """Return the numbers and rewirings of a run. Where there is a checkpoint, they are checked against it.

    After a power failure the checkpoint may have reached the disk although what was written before it did not.

    Raises:
        CheckpointError: if there is a checkpoint, and numbers or rewirings are missing that were written before it.
        ValueError: if a file is damaged.
    """
    if state is None:
        return History(read_rows(folder / "metrics.jsonl"), Journal.read(folder / "journal"), folder)
    try:
        history = History(read_rows(folder / "metrics.jsonl"), Journal.read(folder / "journal"), folder)
    except (ValueError, FileNotFoundError) as error:
        raise CheckpointError(f"{error}. The checkpoint alone cannot tell what was measured") from error
    _check_rows(history.rows, state, folder / "metrics.jsonl")
    _check_journal(history.journal, state, folder / "journal")
    return history


def kept_state(folder: Path, step: int) -> Path:
    """Return where a run keeps the state that it had after so many steps, if it keeps that one."""
    return folder / "states" / f"{step:08d}.pt"


def steps_done(folder: Path) -> int:
    """Return how many steps a run has saved, 0 if it has not begun."""
    checkpoint = folder / "checkpoint.pt"
    return load_checkpoint(checkpoint)["step"] if checkpoint.exists() else 0


def num_records(rows: int, journal: Journal) -> dict[str, int]:
    """Return how many records a checkpoint vouches for, so that a lost one is noticed."""
    return {"rows": rows, "rewirings": len(journal)}


def _check_rows(rows: list[Row], state: Mapping[str, Any], path: Path) -> None:
    num_rows, step = _num_recorded(state, "rows"), state["step"]
    past = [row for row in rows if row.step < step]
    if len(past) != num_rows or (past and past[-1].step != step - 1):
        last = past[-1].step if past else "none"
        raise _lagging(path, f"{num_rows} rows, the last of step {step - 1},", f"{len(past)}, the last of step {last}")


def _check_journal(journal: Journal, state: Mapping[str, Any], path: Path) -> None:
    num_rewirings, done = _num_recorded(state, "rewirings"), state["step"]
    past = Journal(journal.initial, [(step, update) for step, update in journal.entries if step < done])
    if len(past) != num_rewirings:
        raise _lagging(path, f"{num_rewirings} rewirings", f"{len(past)}")
    if past[-1] != _topology_in(state["model"], journal.initial):
        raise _lagging(path, "every rewiring", f"{len(past)} that lead to another topology")


def _num_recorded(state: Mapping[str, Any], what: str) -> int:
    if what not in state["extra"]:
        raise CheckpointError(
            f"the checkpoint of a run must hold its number of {what}, got {sorted(state['extra'])}. It is not one that "
            "run wrote, so delete the folder to start this run again"
        )
    return state["extra"][what]


def _topology_in(state: Mapping[str, Any], like: Topology) -> Topology | None:
    """Return the topology that a model's state holds, or None if it is that of other layers."""
    keys = {name: f"{name}.indices" if name else "indices" for name in like}
    if not set(keys.values()) <= set(state):
        return None
    return Topology({name: LayerTopology(like[name].shape, as_positions(state[key])) for name, key in keys.items()})


def own_definitions(experiments: Iterable[Experiment]) -> list[Definition]:
    """Return what modules outside of this package define of experiments.

    Example:
        >>> own_definitions([Experiment()])
        []
    """
    return list({definition[:2]: definition for one in experiments for definition in _own(to_plain(one))}.values())


def _own(plain: Mapping[str, Any]) -> list[Definition]:
    by_name = [(kind, plain[kind]) for kind in NAMED]
    named = [Definition(kind, name, get(kind, name)) for kind, name in sorted({*by_name, *_registered_in(plain)})]
    return [one for one in named if one.module.partition(".")[0] not in ("sparsekit", "torch")]


def register_again(definitions: Iterable[Definition]) -> None:
    """Register in a worker what a notebook or a script defines, which came there with an experiment."""
    for kind, name, thing in definitions:
        if not is_registered(kind, name) or get(kind, name) is not thing:
            register(kind, name)(thing)


def _modules_of(plain: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which modules outside of this package define what an experiment names, and what each defines."""
    modules: dict[str, list[str]] = {}
    for one in _own(plain):
        modules.setdefault(one.module, []).append(f"{one.kind} {one.name}")
    return modules


def _registered_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        if {"kind", "name"} <= set(value):
            yield value["kind"], value["name"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _registered_in(item)


def _lagging(path: Path, expected: str, got: str) -> CheckpointError:
    return CheckpointError(
        f"{path} must hold {expected} up to the checkpoint, got {got}. Delete the folder to start this run again"
    )
