"""`sweep` carries out many experiments on workers. Each is an ordinary run, so nothing is ever trained twice."""

import itertools
import json
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.population.fitting import check_experiments
from sparsekit.experiments.record import own_definitions
from sparsekit.experiments.run import run
from sparsekit.experiments.sweeps.board import Board, showing
from sparsekit.experiments.sweeps.workers import client_or_local, outcomes
from sparsekit.utils.files import read_json, write_json, write_text
from sparsekit.utils.settings import to_plain

if TYPE_CHECKING:
    import pandas as pd

RESULT, ERROR = "result.json", "error.txt"  # in the run's folder: the last numbers, or why there are none


class Result(NamedTuple):
    """What a worker gives back: the last value of each number that the run measured, or the error that ended it."""

    values: dict[str, float]
    error: str = ""
    traceback: str = ""


def sweep(
    experiments: Iterable[Experiment],
    folder: str | Path = "runs",
    *,
    client: Any = None,
    workers: int | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
) -> "pd.DataFrame":
    """Carry out experiments on workers, each in a run folder of its own below `folder`, and return a table of results.

    Finished runs are read, and interrupted ones continue bit for bit, whoever began them. So you stop a sweep with
    Ctrl-C or the Stop button, and call it again to continue. An experiment that fails keeps its error in a file
    `error.txt` of its folder and in the table, and the others continue. Another call tries it again.

    Workers write into `folder`, so on other machines it must lie on a file system that all of them share. How many
    threads a worker has can change the last digits of what it computes, as for any run.

    Args:
        experiments: what to do. One that is named twice is done once.
        folder: where runs are kept.
        client: who does the work, namely a Dask client or any executor with `submit`. None starts processes on this
            machine (see `local_client`).
        workers: how many processes that is, one for each processor if None.
        root: the data folder, as in `datasets.load`.
        progress: show a table of what is running and done, which follows the work.
        checkpoint_seconds: save each run at least so often.

    Returns:
        A row for each experiment, in their order. `run` is the name of its folder, then come the settings in which the
        experiments differ, the last value of every measured number, and `error`, which is empty where all went well.

    Raises:
        TypeError: if one is no experiment, or the client cannot take work.
        ValueError: if there is none.
        BrokenExecutor: if an executor loses its workers. Call again with a new one.
        ConnectionError: if a scheduler is lost. Start it, and call again with a new client.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> grid = [digits_mlp(rule=rule, seed=seed) for rule in ("set", "rigl") for seed in range(3)]
        >>> table = sweep(grid, "runs", workers=2)  # doctest: +SKIP
        >>> table.groupby("rule.grow")["test accuracy"].mean()  # doctest: +SKIP
    """
    if isinstance(experiments, Experiment):
        raise TypeError("experiments must be a list of them, got Experiment. Write [experiment]")
    experiments = list(experiments)
    check_experiments(experiments)
    folder, root = Path(folder).resolve(), None if root is None else Path(root).resolve()
    names = [experiment.folder_name for experiment in experiments]
    plain = {name: to_plain(one) for name, one in dict(zip(names, experiments, strict=True)).items()}
    results = {name: Result(values) for name in plain if (values := read_result(folder / name)) is not None}
    todo = {name: one for name, one in zip(names, experiments, strict=True) if name not in results}
    if todo:
        carry_out = partial(_carry_out, folder=folder, root=root, checkpoint_seconds=checkpoint_seconds)
        with client_or_local(client, workers, len(todo)) as someone:
            link = getattr(someone, "dashboard_link", None) if find_spec("bokeh") else None  # which draws the page
            board = Board(folder, plain, results, link)
            _add_outcomes(results, someone, carry_out, todo, board, progress)
    return _table(names, plain, results)


def read_result(run_folder: Path) -> dict[str, float] | None:
    """Return the last value of each number that a run of a sweep has measured, or None if it is not finished.

    The run's own files say the same. So a file that is damaged counts as not there, and the run is read again.

    Example:
        >>> read_result(Path("no such folder")) is None
        True
    """
    try:
        return read_json(run_folder / RESULT)
    except (FileNotFoundError, ValueError):
        return None


def _carry_out(experiment: Experiment, *, folder: Path, root: Path | None, checkpoint_seconds: float) -> Result:
    """Carry out an experiment in a worker, and keep its result beside it."""
    try:
        history = run(experiment, folder, root=root, progress=False, checkpoint_seconds=checkpoint_seconds)
        values = {row.name: row.value for row in history.rows}
        write_json(folder / experiment.folder_name / RESULT, values)
    except Exception as error:  # whatever it is, the other runs continue
        return _failed(error)
    return Result(values)


def _failed(error: Exception) -> Result:
    return Result({}, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _add_outcomes(
    results: dict[str, Result],
    someone: Any,
    carry_out: Any,
    todo: Mapping[str, Experiment],
    board: Board,
    progress: bool,
) -> None:
    """Let workers carry out what is to be done, and keep the results, or the errors of what fails."""
    names, experiments = list(todo), list(todo.values())
    with showing(board, progress) as refresh:
        for outcome in outcomes(someone, carry_out, experiments, own_definitions(experiments)):
            if outcome is not None:
                # A worker that died, or that lacks a module, gives an error in place of a result.
                result = outcome.result if outcome.error is None else _failed(outcome.error)
                _keep_error(board.folder / names[outcome.number], result)
                results[names[outcome.number]] = result
            refresh()


def _keep_error(run_folder: Path, result: Result) -> None:
    """Write why a run failed into its folder, or remove what an earlier call wrote there."""
    with suppress(OSError):  # a full disk, which the error in the table may be about
        if not result.error:
            (run_folder / ERROR).unlink(missing_ok=True)
        else:
            run_folder.mkdir(parents=True, exist_ok=True)
            write_text(run_folder / ERROR, result.traceback)


def _table(
    names: Iterable[str], plain: Mapping[str, Mapping[str, Any]], results: Mapping[str, Result]
) -> "pd.DataFrame":
    """Return a row for each name, with the settings in which they differ."""
    import pandas as pd

    settings = {name: dict(_flat(one)) for name, one in plain.items()}
    keys = dict.fromkeys(itertools.chain(*settings.values()))
    varied = [key for key in keys if len({one.get(key) for one in settings.values()}) > 1]
    rows = [
        {"run": name, **{key: settings[name].get(key) for key in varied}, **results[name].values}
        | {"error": results[name].error}
        for name in names
    ]
    return pd.DataFrame(rows)


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings with names such as `rule.every`, and under `rule` the name of the rule."""
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key == "name" and "kind" in plain:
            yield prefix.removesuffix("."), value
        elif key != "kind":
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value
