"""The house has floors: a module imports only from lower levels, never sideways, and nothing imports in a circle.

`docs/architecture.md` explains the house to strangers, and what it says is checked here. The table of floors and the
functions that read imports are in `tools/house.py`. Imports are read from the source, so nothing is imported for it.
"""

import re
import subprocess
import sys
from functools import cache

import pytest
from draw_house import FIGURE, draw
from house import (
    EXEMPT,
    FLOORS_INSIDE,
    LEVELS,
    PACKAGE,
    READ_FIRST,
    ROOT,
    Imports,
    arrows_of,
    imports_of,
    rooms_inside,
    without_detours,
)

from sparsekit.rules import make_rule
from sparsekit.rules.parts import PARTS, members_of, part_of

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LEVEL_OF = {part: level for level, parts in LEVELS.items() for part in parts}
MOST_ENTRIES = 22  # of the package's folder: its rooms, `__init__.py`, `__main__.py` and `py.typed`
MOST_MODULES = 50  # that `import sparsekit` loads, most of them small parts of Python


@cache
def package_imports() -> Imports:
    """Return the imports of the package itself."""
    return imports_of(PACKAGE)


def complaints_of(imports: Imports) -> list[str]:
    """Say which imports break the order of levels, and which modules stand on no level."""
    complaints = []
    for name, targets in imports.items():
        part = name.partition(".")[0]
        if part in EXEMPT:
            continue
        if part not in LEVEL_OF:
            complaints.append(f"sparsekit.{name} stands on no level; give {part!r} one in FLOORS of tools/house.py")
            continue
        complaints += filter(None, (complaint(name, part, target, line) for target, line in targets.items()))
    return complaints


def complaint(name: str, part: str, target: str, line: int) -> str:
    """Return what is wrong with one import, or ""."""
    where = f"sparsekit/{name.replace('.', '/')} line {line}"
    to = target.partition(".")[0]
    if to == part:
        return ""
    if to in EXEMPT:
        return f"{where} imports from sparsekit itself; name the module that defines it"
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
    complaints = complaints_of(package_imports())
    assert not complaints, "\n".join(complaints)


def test_no_module_imports_itself_in_a_circle():
    circle = circle_in({name: targets for name, targets in package_imports().items() if name not in EXEMPT})
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
        ("helpers.py", "", "sparsekit.helpers stands on no level; give 'helpers' one in FLOORS"),
        ("rules/extra/odd.py", "from ...rewire_all import x", "imports from sparsekit itself"),
    ],
)
def test_looking_up_or_sideways_is_found(house, name, text, said):
    complaints = complaints_of(house({**RULES, name: text}))
    assert len(complaints) == 1
    assert said in complaints[0]


def test_a_circle_inside_a_package_is_found(house):
    late = "def f():\n    from . import base"
    imports = house({**RULES, "rules/base.py": "from sparsekit.rules import drop", "rules/drop.py": late})
    assert circle_in(imports) == ["rules.base", "rules.drop", "rules.base"]


def test_a_module_that_leans_on_its_own_package_init_is_a_circle(house):
    own = {"rules/__init__.py": "from .base import Rule", "rules/base.py": "from sparsekit.rules import names"}
    assert circle_in(house({**RULES, **own})) == ["rules", "rules.base", "rules"]


# --- the rooms inside a room, the root, and what an import costs ----------------------------------------------------


INSIDE = "must import lower floors only, got"


def complaints_inside(room: str, imports: Imports) -> list[str]:
    """Say which imports inside a room break the order of its own floors, and what stands on none of them."""
    level_of = {part: level for level, parts in enumerate(FLOORS_INSIDE[room]) for part in parts}
    arrows = arrows_of(imports, inside=room)
    complaints = [f"{room}.{part} stands on no floor of its room" for part in sorted(set(arrows) - set(level_of))]
    for part, ends in sorted(arrows.items()):
        known = [end for end in sorted(ends) if end in level_of and part in level_of]
        complaints += [f"{room}: {part} {INSIDE} {end}" for end in known if level_of[end] >= level_of[part]]
    return complaints


@pytest.mark.parametrize("room", FLOORS_INSIDE)
def test_rooms_inside_a_room_keep_their_own_order(room):
    assert not complaints_inside(room, package_imports())


def test_every_table_of_floors_names_rooms_that_exist():
    arrows = arrows_of(package_imports())
    assert set(LEVEL_OF) == set(arrows)
    for room, floors in FLOORS_INSIDE.items():
        assert {part for parts in floors for part in parts} == set(arrows_of(package_imports(), inside=room))


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        (
            {"analysis.costs.speed": {"analysis.structure.maps": 1}},
            "costs must import lower floors only, got structure",
        ),
        ({"analysis.observing": {"analysis.costs.speed": 1}}, f"observing {INSIDE} costs"),
        ({"analysis.costs": {"analysis.dynamics.evolution": 1}}, f"costs {INSIDE} dynamics"),
        ({"analysis.novelties.age": {"analysis.observing": 1}}, "analysis.novelties stands on no floor"),
    ],
)
def test_looking_up_or_sideways_inside_a_room_is_found(imports, said):
    (complaint,) = complaints_inside("analysis", imports)
    assert said in complaint


def entries(folder) -> list[str]:
    """Return what lies in a folder, without what Python or an editor leaves there."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "__pycache__")))


def test_the_root_of_the_package_holds_rooms_and_little_else():
    assert len(entries(PACKAGE)) <= MOST_ENTRIES, entries(PACKAGE)


def test_what_lies_in_a_folder_is_counted_without_leftovers(tmp_path):
    for name in ("__init__.py", "__pycache__", ".DS_Store", "rules"):
        (tmp_path / name).mkdir()
    assert entries(tmp_path) == ["__init__.py", "rules"]


IMPORTED = """import sys
before = set(sys.modules)
import sparsekit
print(*set(sys.modules) - before)"""


def test_importing_the_package_imports_little():
    """Everything is imported on first use, so what is slow (torch, matplotlib) is not imported yet."""
    words = [sys.executable, "-c", IMPORTED]
    imported = subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"sparsekit"}
    assert len(imported) <= MOST_MODULES, sorted(imported)


# --- docs/architecture.md -------------------------------------------------------------------------------------------


def rows_of(heading: str, page: str = PAGE) -> list[list[str]]:
    """Return the cells of the first table below a heading of the page, without its head."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def code_in(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def test_the_figure_of_the_house_is_what_the_code_gives_today():
    drawn = draw(arrows_of(package_imports()))
    assert drawn == FIGURE.read_text(encoding="utf-8"), "the rooms or their imports have changed; run `make house`"


def test_the_figure_changes_with_an_import():
    arrows = arrows_of(package_imports())
    more = {**arrows, "plots": arrows["plots"] | {"tickets"}}
    assert draw(more) != draw(arrows)


def test_every_room_and_every_room_inside_is_in_the_figure():
    figure = FIGURE.read_text(encoding="utf-8")
    for room in LEVEL_OF:
        assert f">{room}<" in figure
        assert all(name in figure for name in rooms_inside(room))


def test_an_arrow_that_a_longer_way_shows_is_left_out_and_no_other():
    arrows = {"cli": {"plots", "utils", "rules"}, "plots": {"rules"}, "rules": {"utils"}, "models": {"utils"}}
    assert without_detours(arrows) == {"cli": {"plots"}, "plots": {"rules"}, "rules": {"utils"}, "models": {"utils"}}


def test_the_page_puts_every_room_on_its_floor():
    floors = {int(floor): set(code_in(rooms)) for floor, rooms in rows_of("The floors")}
    assert floors == LEVELS
    assert list(floors) == sorted(floors, reverse=True)


def test_the_page_names_the_files_to_read_in_order():
    section = PAGE.partition("## Read these six files")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\d\. \[`([^`]+)`\]", section, re.MULTILINE)) == READ_FIRST
    levels = [LEVEL_OF[path.partition("/")[0]] for path in READ_FIRST]
    assert levels == sorted(levels)


def test_the_page_lists_every_part_of_a_rule_with_its_members_and_a_rule_that_has_it():
    rows = rows_of("The contract of a rule")
    assert [code_in(part) for part, *_ in rows] == [[part.__name__] for part in PARTS]
    for part, (_, members, _, example) in zip(PARTS, rows, strict=True):
        assert sorted(code_in(members)) == sorted(members_of(part))
        (name,) = code_in(example)
        assert part_of(make_rule(name, total_steps=100), part), f"{name} has no {part.__name__}"


def missing_paths(text: str) -> list[str]:
    """Return the paths in backticks that lead nowhere, from the root or from the package."""
    paths = [path for path in code_in(text) if re.fullmatch(r"[\w./]+(\.\w+|/)", path) and "NN_" not in path]
    return [path for path in paths if not ((PACKAGE / path).exists() or (ROOT / path).exists())]


def test_every_path_on_the_page_exists():
    assert not missing_paths(PAGE)


def test_a_path_that_leads_nowhere_is_found():
    assert missing_paths("`rules/base.py`, `tests/helpers.py`, `make house`, `rules/bass.py` and `cellar/`") == [
        "rules/bass.py",
        "cellar/",
    ]


def test_the_page_answers_ten_questions_and_each_with_a_file():
    rows = rows_of("Where do I change ...?")
    assert len(rows) >= 10
    assert all(question.endswith("?") and any("/" in code for code in code_in(answer)) for question, answer in rows)
