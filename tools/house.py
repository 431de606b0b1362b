"""The rooms of the package, the floors they stand on, and who imports from whom.

`tests/test_architecture.py` holds the package against this table, and `draw_house.py` draws it. Imports are read from
the source, those inside functions too, so a lazy import is no back door. Nothing of the package is imported here.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sparsekit"

FLOORS: tuple[dict[str, str], ...] = (  # from the lowest to the highest: room -> what a stranger finds in it
    {"utils": "names, checks, files, seeds, the clock"},
    {
        "datasets": "images and labels",
        "models": "plain dense networks",
        "topology": "which connections exist",
        "schedules": "a number per step",
        "evaluation": "loss and accuracy",
    },
    {"kernels": "sparse arithmetic"},
    {"layers": "sparse layers"},
    {"rewiring": "how a topology changes"},
    {"scores": "masks before training", "rules": "masks during training", "tricks": "help for any mask"},
    {"tickets": "networks as values", "analysis": "measurements", "train": "the loop"},
    {"experiments": "whole studies", "plots": "figures"},
    {"widgets": "panels of the notebooks", "cli": "the command line"},
)
FLOORS_INSIDE: dict[str, tuple[set[str], ...]] = {  # room -> the floors of its own rooms and modules
    "analysis": ({"observing"}, {"behaviour", "costs", "evidence", "landscape", "structure"}, {"dynamics"}),
}
LEVELS: dict[int, set[str]] = {level: set(rooms) for level, rooms in enumerate(FLOORS)}
READ_FIRST = (  # the six files that explain the rest, in this order
    "topology/sets.py",
    "layers/base.py",
    "rewiring/update.py",
    "rules/base.py",
    "train/loop.py",
    "experiments/run.py",
)
EXEMPT = {"", "__main__"}  # "" is sparsekit/__init__.py, where everything comes together

Imports = dict[str, dict[str, int]]  # module -> imported module -> line, and names lack the leading "sparsekit."


def imports_of(package: Path) -> Imports:
    """Read which module of the package imports which."""
    files = {name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: dict(read_imports(path, name, files, package.name)) for name, path in files.items()}


def name_of(path: Path, package: Path) -> str:
    """Return the dotted name of a file inside the package, "" for its `__init__`."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(path: Path, name: str, files: dict[str, Path], package: str) -> Iterator[tuple[str, int]]:
    """Yield (imported module, line) for each import of this package's own modules."""
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = base_of(node, name, package, is_package)
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target == package or target.startswith(f"{package}."):
                yield nearest(target.removeprefix(package).removeprefix("."), files), node.lineno


def base_of(node: ast.ImportFrom, name: str, package: str, is_package: bool) -> str:
    """Return the absolute name of what a `from ... import` names, for relative ones too."""
    if not node.level:
        return node.module or ""
    parts = [package, *filter(None, name.split("."))]
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *filter(None, [node.module])])


def nearest(target: str, files: dict[str, Path]) -> str:
    """Return the module that a dotted name lies in, which is the name itself or what it is an attribute of."""
    while target and target not in files:
        target = target.rpartition(".")[0]
    return target


def arrows_of(imports: Imports, inside: str = "") -> dict[str, set[str]]:
    """Return which rooms each room imports from, or which rooms inside a room."""
    arrows: dict[str, set[str]] = {}
    for name, targets in imports.items():
        if name in EXEMPT or not (room := room_of(name, inside)):
            continue
        others = {room_of(target, inside) for target in targets if target not in EXEMPT}
        arrows.setdefault(room, set()).update(others - {room, ""})
    return arrows


def room_of(name: str, inside: str = "") -> str:
    """Return the room that a module lies in: the first part of its name, or of what follows the name of a room."""
    if not inside:
        return name.partition(".")[0]
    return name.removeprefix(f"{inside}.").partition(".")[0] if name.startswith(f"{inside}.") else ""


def without_detours(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave out each arrow whose end can also be reached by a longer way along other arrows.

    Example:
        >>> without_detours({"c": {"b", "a"}, "b": {"a"}, "a": set()})
        {'c': {'b'}, 'b': {'a'}, 'a': set()}
    """
    below = {room: reached(room, arrows) for room in arrows}
    return {
        room: {end for end in ends if not any(end in below.get(other, ()) for other in ends)}
        for room, ends in arrows.items()
    }


def reached(room: str, arrows: dict[str, set[str]]) -> set[str]:
    """Return every room that arrows lead to from this one."""
    ends = arrows.get(room, set())
    return ends.union(*(reached(end, arrows) for end in ends))


def rooms_inside(room: str, package: Path = PACKAGE) -> list[str]:
    """Return the names of the packages that lie directly inside a room."""
    return sorted(path.parent.name for path in (package / room).glob("*/__init__.py"))
