"""A grid of experiments, as a TOML file says it."""

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes import recipe_named
from sparsekit.utils.settings import from_plain


@dataclass(frozen=True)
class Grid:
    """Experiments, and for each the settings in which the grid's file says that they differ."""

    experiments: list[Experiment]
    settings: list[dict[str, Any]]


def read_grid(path: str | Path, *, root: Path | None = None) -> Grid:
    """Read a grid of experiments from a TOML file.

    `recipe` names a recipe or a data set. All other keys are arguments of the recipe, that is its own and the fields of
    `Experiment`. The table `[grid]` has a list for each setting that varies, and the grid has an experiment for each
    choice of one from every list. The last list varies fastest. Schedules and other objects are tables with `kind` and
    `name`.

    ```toml
    recipe = "digits-mlp"
    epochs = 20
    rule_settings.every = 50

    [grid]
    rule = ["set", "rigl"]
    density = [0.05, 0.02]
    seed = [0, 1, 2]
    ```

    Args:
        path: the file.
        root: the data folder, for a data set without a recipe.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no TOML, lacks a recipe or a list, or an experiment's settings do not fit each other. The
            message says which.
    """
    path = Path(path)
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a TOML file, got another: {error}. Mend that line") from error
    axes = dict(_axes(plain.pop("grid", {}), path))
    settings = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return Grid([_experiment(plain, choice, path, root) for choice in settings], settings)


def _axes(table: Any, path: Path, prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and values of each setting that varies, of tables inside tables with dots in the name."""
    if not isinstance(table, Mapping):
        raise ValueError(f"grid of {path} must be a table, got {table!r}. Write [grid] above its lists")
    for name, values in table.items():
        if isinstance(values, Mapping):
            yield from _axes(values, path, f"{prefix}{name}.")
        elif isinstance(values, list) and values:
            yield f"{prefix}{name}", values
        else:
            raise ValueError(
                f"{prefix}{name} in [grid] of {path} must be a list of values, got {values!r}. Put what all runs have "
                "in common above [grid]"
            )


def _experiment(fixed: Mapping[str, Any], choice: Mapping[str, Any], path: Path, root: Path | None) -> Experiment:
    settings = dict(fixed)
    for name, value in choice.items():
        settings = _with(settings, name, value)
    recipe = settings.pop("recipe", None)
    try:
        if not isinstance(recipe, str):
            raise ValueError(f'recipe must be the name of one, got {recipe!r}. Write recipe = "digits-mlp"')
        return recipe_named(recipe, root)(**{name: from_plain(value) for name, value in settings.items()})
    except (TypeError, ValueError) as error:
        where = ", ".join(f"{name} = {value!r}" for name, value in choice.items()) or "no setting that varies"
        raise ValueError(f"every experiment of {path} must be possible, got one with {where}. {error}") from error


def _with(settings: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return settings with another one, whose name may lead into a table of settings."""
    first, dot, rest = name.partition(".")
    return {**settings, first: _with(settings.get(first, {}), rest, value) if dot else value}
