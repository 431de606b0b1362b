"""The house has floors: a module imports only from lower levels, never sideways, and nothing imports in a circle.

The table is section "The house" of the design. Imports are read from the source, those inside functions too, so a
lazy import is no back door; nothing of the package is imported here.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sparsekit"
LEVELS = {
    0: {"utils"},
    1: {"topology", "schedules", "models", "datasets", "evaluation"},
    2: {"kernels"},
    3: {"layers"},
    4: {"rewiring"},
    5: {"rules", "scores", "tricks"},
    6: {"tickets", "analysis", "train"},
    7: {"experiments", "plots"},
    8: {"widgets", "cli"},
}
EXEMPT = {"", "_lazy", "__main__"}  # "" is sparsekit/__init__.py, where everything comes together
LEVEL_OF = {part: level for level, parts in LEVELS.items() for part in parts}

Imports = dict[str, dict[str, int]]  # module -> imported module -> line; names lack the leading "sparsekit."


def imports_of(package: Path) -> Imports:
    """Read which module of the package imports which."""
    files = {name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: dict(read_imports(path, name, files, package.name)) for name, path in files.items()}


def name_of(path: Path, package: Path) -> str:
    """Return the dotted name of a file inside the package, "" for its `__init__`."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_imports(path: Path, name: str, files: dict[str, Path], package: str):
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
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *filter(None, [node.module])])


def nearest(target: str, files: dict[str, Path]) -> str:
    """Return the module that a dotted name lies in: the name itself, or what it is an attribute of."""
    while target and target not in files:
        target = target.rpartition(".")[0]
    return target


def complaints_of(imports: Imports) -> list[str]:
    """Say which imports break the order of levels, and which modules stand on no level."""
    found = []
    for name, targets in imports.items():
        part = name.partition(".")[0]
        if part in EXEMPT:
            continue
        if part not in LEVEL_OF:
            found.append(f"sparsekit.{name} stands on no level; give {part!r} one in LEVELS and in the design's table")
            continue
        found += filter(None, (complaint(name, part, target, line) for target, line in targets.items()))
    return found


def complaint(name: str, part: str, target: str, line: int) -> str:
    """Return what is wrong with one import, or ""."""
    where = f"sparsekit/{name.replace('.', '/')} line {line}"
    to = target.partition(".")[0]
    if to == part:
        return ""
    if to in EXEMPT:
        return "" if to == "_lazy" else f"{where} imports from sparsekit itself; name the module that defines it"
    if to not in LEVEL_OF:
        return f"{where} imports {to!r}, which stands on no level"
    if LEVEL_OF[to] < LEVEL_OF[part]:
        return ""
    return f"{where}: {part} (level {LEVEL_OF[part]}) must import lower levels only, got {to} (level {LEVEL_OF[to]})"


def circle_in(imports: Imports) -> list[str]:
    """Return the modules of one import circle, or [] without any."""
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for target in imports.get(name, ()):
            if circle := visit(target, (*way, name)):
                return circle
        done.add(name)
        return []

    return next(filter(None, (visit(name, ()) for name in imports)), [])


def test_modules_import_lower_levels_only():
    found = complaints_of(imports_of(PACKAGE))
    assert not found, "\n".join(found)


def test_no_module_imports_itself_in_a_circle():
    circle = circle_in({name: targets for name, targets in imports_of(PACKAGE).items() if name not in EXEMPT})
    assert not circle, " -> ".join(circle)


@pytest.fixture
def house(tmp_path):
    """Write a small package: `house({"topology.py": "import torch", ...})`; return what `imports_of` reads in it."""

    def write(files: dict[str, str]) -> Imports:
        package = tmp_path / "sparsekit"
        for name, text in {"__init__.py": "", **files}.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return imports_of(package)

    return write


RULES = {"rules/__init__.py": "", "rules/base.py": "", "rules/drop.py": "", "topology/__init__.py": ""}
RULES |= {"layers/__init__.py": "", "layers/masked.py": ""}
DOWN = "must import lower levels only, got"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rules/base.py", "from sparsekit.layers.masked import MaskedLinear"),
        ("rules/base.py", "from ..topology import Topology\nfrom .drop import magnitude"),
        ("rules/base.py", "import torch, sparsekit.topology"),
        ("rules/__init__.py", "from . import base"),
        ("__init__.py", "from sparsekit.rules import base"),
    ],
)
def test_looking_down_or_beside_inside_a_package_is_allowed(house, name, text):
    assert not complaints_of(house({**RULES, name: text}))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "layers/masked.py",
            "from sparsekit.rules import base",
            f"layers (level 3) {DOWN} rules",
        ),
        ("layers/masked.py", "from ..rules.base import Rule", "got rules (level 5)"),
        ("layers/__init__.py", "from ..rules import base", "got rules (level 5)"),
        ("layers/masked.py", "def late():\n    import sparsekit.rules", "layers/masked line 2"),
        (
            "utils/seeds.py",
            "import sparsekit.topology",
            f"utils (level 0) {DOWN} topology (level 1)",
        ),
        ("layers/masked.py", "import sparsekit as sk", "name the module that defines it"),
        ("layers/masked.py", "from sparsekit import sparsify", "name the module that defines it"),
        ("helpers.py", "", "sparsekit.helpers stands on no level; give 'helpers' one in LEVELS"),
        ("rules/extra/odd.py", "from ...rewire_all import x", "imports from sparsekit itself"),
    ],
)
def test_looking_up_or_sideways_is_found(house, name, text, said):
    found = complaints_of(house({**RULES, name: text}))
    assert len(found) == 1
    assert said in found[0]


def test_a_circle_inside_a_package_is_found(house):
    late = "def f():\n    from . import base"
    imports = house({**RULES, "rules/base.py": "from sparsekit.rules import drop", "rules/drop.py": late})
    assert circle_in(imports) == ["rules.base", "rules.drop", "rules.base"]


def test_a_module_that_leans_on_its_own_package_init_is_a_circle(house):
    own = {"rules/__init__.py": "from .base import Rule", "rules/base.py": "from sparsekit.rules import names"}
    assert circle_in(house({**RULES, **own})) == ["rules", "rules.base", "rules"]
