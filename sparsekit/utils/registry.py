"""Find things by name: rules, scores, allocations, models, data sets, recipes.

A file registers what it defines, and `discover` imports every file of a package. This is why a new method is one new
file, and no list anywhere has to be edited.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# Where each kind of thing is defined. A kind is imported when it is first asked for, so that looking up a rule does not
# load every data set, and `import sparsekit` stays fast. Kinds of your own need no entry.
HOMES = {
    "allocation": "sparsekit.topology.allocation",
    "augment": "sparsekit.datasets",
    "candidates": "sparsekit.rules",
    "cycles": "sparsekit.rules",
    "data": "sparsekit.datasets",
    "drop": "sparsekit.rules",
    "experiment": "sparsekit.experiments",
    "grow": "sparsekit.rules",
    "lottery": "sparsekit.experiments.lottery",
    "method": "sparsekit.experiments.methods",
    "model": "sparsekit.models",
    "optimizer": "sparsekit.experiments",
    "recipe": "sparsekit.experiments.recipes",
    "rule": "sparsekit.rules",
    "schedule": "sparsekit.schedules",
    "score": "sparsekit.scores",
    "sup-tickets": "sparsekit.experiments.sup_tickets",
    "training-flops": "sparsekit.analysis",
    "trick": "sparsekit.tricks",
}

_registered: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What others must know about a registered name.

    Args:
        colour: in figures, any of matplotlib's. None leaves it to `plots`.
        is_method: whether `compare` shows it, if it is a rule or a score.
        trains: the data set that a recipe trains in the shortest time.
        stop_fraction: share of the training after which a rule stops, where nobody says when.
    """

    colour: str | None = None
    is_method: bool = True
    trains: str | None = None
    stop_fraction: float | None = None


_facts: dict[tuple[str, str], Facts] = {}


def register(
    kind: str,
    name: str,
    *,
    colour: str | None = None,
    is_method: bool = True,
    trains: str | None = None,
    stop_fraction: float | None = None,
) -> Callable[[T], T]:
    """Give a class or function a name under which users find it.

    Args:
        kind: what it is, for example `"rule"`, `"model"`, `"data"`.
        name: lower case, words joined by hyphens, for example `"rigl"`.
        colour, is_method, trains, stop_fraction: see `Facts`.

    Raises:
        ValueError: if another object of this kind already has the name.

    Example:
        >>> @register("greeting", "hello")
        ... def hello():
        ...     return "hello"
        >>> get("greeting", "hello")()
        'hello'
    """

    def add(thing: T) -> T:
        entries = _registered.setdefault(kind, {})
        if name in entries and _origin(entries[name]) != _origin(thing):
            raise ValueError(f"{kind} names must be unique, got {name!r} twice. Rename {_origin(thing)}")
        entries[name] = thing
        _facts[kind, name] = Facts(colour=colour, is_method=is_method, trains=trains, stop_fraction=stop_fraction)
        return thing

    return add


def get(kind: str, name: str) -> Any:
    """Return what was registered under this name.

    Raises:
        ValueError: if there is no such name. The message lists the known ones.
    """
    entries = _entries(kind)
    if not isinstance(name, str) or name not in entries:
        raise ValueError(
            f"{kind} must be one of {', '.join(names(kind)) or '(none)'}, got {name!r}. Choose one of them"
        )
    return entries[name]


def facts_of(kind: str, name: str) -> Facts:
    """Return what is known about a name, or the defaults where it is not registered.

    Example:
        >>> facts_of("score", "random").is_method, facts_of("score", "snip").is_method
        (False, True)
    """
    return _facts.get((kind, name), Facts()) if is_registered(kind, name) else Facts()


def is_registered(kind: str, name: str) -> bool:
    """Whether there is something of this kind and name."""
    return name in _entries(kind)


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return sorted(_entries(kind))


def kinds() -> list[str]:
    """Return every kind of thing that can be looked up, sorted."""
    return sorted({*HOMES, *_registered})


def num_registered() -> int:
    """Return how many things have a name so far, which tells whoever keeps a list when it is out of date."""
    return sum(map(len, _registered.values()))


def discover(package: str) -> None:
    """Import every module below a package, so that each registers what it defines."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, prefix=f"{package}."):
        importlib.import_module(module.name)


def summary_of(thing: Any) -> str:
    """Return the first line of a thing's docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def source_of(thing: Any) -> str:
    """Return the `Source:` of a thing's docstring, or an empty string where none is named."""
    _, _, source = (inspect.getdoc(thing) or "").partition("Source:")
    return " ".join(source.partition("\n\n")[0].split())


def _entries(kind: str) -> dict[str, Any]:
    if kind in HOMES:
        importlib.import_module(HOMES[kind])
    return _registered.get(kind, {})


def _origin(thing: Any) -> str:
    # A worker process knows the script that started it by the name __mp_main__.
    module = getattr(thing, "__module__", "?").replace("__mp_main__", "__main__")
    return f"{module}.{getattr(thing, '__qualname__', thing)}"
