"""Find things by name: rules, scores, allocations, models, data sets, recipes.

A file registers what it defines; `discover` imports every file of a package, so that a new method is one new file
and no list anywhere has to be edited.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Where each kind of thing is defined. A kind is imported when it is first asked for, so that looking up a rule does not
# load every data set, and `import sparsekit` stays quick. Kinds of your own need no entry.
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
_facts: dict[tuple[str, str], dict[str, Any]] = {}


def register(kind: str, name: str, **facts: Any) -> Callable[[T], T]:
    """Give a class or function a name under which users find it.

    Args:
        kind: what it is, for example `"rule"`, `"model"`, `"data"`.
        name: lower case, words joined by hyphens, for example `"rigl"`.
        facts: what others must know about this name. All may be left out. `colour`, in figures (any of matplotlib's).
            `is_method=False`, for a rule or score that `compare` leaves out. `trains`, the data set that a recipe
            trains in the shortest time.

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
        known = _registered.setdefault(kind, {})
        if name in known and _origin(known[name]) != _origin(thing):
            raise ValueError(f"{kind} names must be unique, got {name!r} twice; rename {_origin(thing)}")
        known[name] = thing
        _facts[kind, name] = facts
        return thing

    return add


def get(kind: str, name: str) -> Any:
    """Return what was registered under this name.

    Raises:
        ValueError: if there is no such name; the message lists the known ones.
    """
    known = _known(kind)
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"{kind} must be one of {', '.join(names(kind)) or '(none)'}, got {name!r}; choose one of them"
        )
    return known[name]


def fact(kind: str, name: str, about: str, default: Any = None) -> Any:
    """Return what was registered about a name, or the default where nothing was.

    Example:
        >>> fact("score", "random", "is_method", True), fact("score", "snip", "is_method", True)
        (False, True)
    """
    return _facts.get((kind, name), {}).get(about, default) if is_registered(kind, name) else default


def is_registered(kind: str, name: str) -> bool:
    """Whether there is something of this kind and name."""
    return name in _known(kind)


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    return sorted(_known(kind))


def kinds() -> list[str]:
    """Return every kind of thing that can be looked up, sorted."""
    return sorted({*HOMES, *_registered})


def num_registered() -> int:
    """Return how many things have a name so far: whoever keeps a list of them sees when it is out of date."""
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


def _known(kind: str) -> dict[str, Any]:
    if kind in HOMES:
        importlib.import_module(HOMES[kind])
    return _registered.get(kind, {})


def _origin(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', thing)}"
