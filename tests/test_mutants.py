"""The tool that tries the tests: its list fits the code, and it tells a defect that is noticed from one that is not."""

from collections import Counter
from pathlib import Path

import mutants
import pytest
from mutants import Mutant, Selection, read_mutants, report, try_all

ROOT = Path(__file__).resolve().parents[1]
MODULE = '''"""A module."""


def double(x):
    return 2 * x
'''
TESTS = """from sparsekit.numbers_of_ours import double


def test_four():
    assert double(2) == 4


def test_nothing():
    assert double


def test_that_fails_anyway():
    assert not double
"""


def mutant(new: str, tests: str, *, old: str = "2 * x", reason: str = "") -> Mutant:
    file, _, word = tests.partition(": ")
    return Mutant("sparsekit/numbers_of_ours.py", f"it says {new}", old, new, (Selection(file, word),), reason)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout of one module and three tests."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("sparsekit", "tests"):
        (root / folder).mkdir()
    (root / "sparsekit" / "__init__.py").touch()
    (root / "sparsekit" / "numbers_of_ours.py").write_text(MODULE)
    (root / "tests" / "test_numbers.py").write_text(TESTS)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n")
    return root


def test_every_piece_of_the_list_stands_in_its_file_once_and_every_test_file_is_there():
    assert not [f"{one}: {fault}" for one in read_mutants() if (fault := one.fault(ROOT))]


def test_the_list_has_defects_of_every_floor_and_names_each_once():
    found = read_mutants()
    assert len(found) >= 120
    assert not [name for name, times in Counter(map(str, found)).items() if times > 1]
    folders = {Path(one.file).parts[1].removesuffix(".py") for one in found}
    rooms = (
        "analysis datasets evaluation experiments kernels layers models plots rewiring rules schedules scores tickets"
    )
    rooms += " topology train tricks utils widgets"
    assert not set(rooms.split()) - folders


def test_a_defect_is_killed_by_the_test_that_notices_and_survives_the_others(checkout, capsys):
    tried = [
        mutant("3 * x", "test_numbers.py: four"),
        mutant("4 * x", "test_numbers.py: nothing"),
        mutant("x * 2", "test_numbers.py: four", reason="multiplication commutes"),
        mutant("5 * x", "test_numbers.py: of_this_name"),
        mutant("6 * x", "test_numbers.py: fails"),
    ]
    results = {result.mutant: result for result in try_all(tried, checkout, heavy=())}
    assert [results[one].outcome for one in tried] == ["killed", "survived", "equivalent", "broken", "broken"]
    assert "fails without the defect as well: test_that_fails_anyway" in results[tried[4]].why
    assert "no such tests" in results[tried[3]].why
    assert (checkout / "sparsekit" / "numbers_of_ours.py").read_text() == MODULE
    assert report([results[tried[0]], results[tried[2]]]) == 0
    assert report([results[tried[0]], results[tried[1]]]) == 1
    assert report([results[tried[3]]]) == 1
    assert "1 killed, 1 survived, 0 equivalent, 0 broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (mutant("x", "test_numbers.py", old="three"), "must stand in the file once, found 0 times"),
        (mutant("y", "test_numbers.py", old="x"), "must stand in the file once, found 2 times"),
        (mutant("2 *", "test_numbers.py"), "makes no Python"),
        (mutant("x", "test_of_nothing.py"), "there is no test_of_nothing.py"),
    ],
)
def test_a_defect_that_cannot_be_tried_is_broken_and_says_why(checkout, one, fault):
    (result,) = try_all([one], checkout, heavy=())
    assert result.outcome == "broken"
    assert fault in result.why


def test_a_word_that_no_defect_has_is_refused(capsys):
    with pytest.raises(SystemExit):
        mutants.main(["--only", "no defect has this name"])
    assert "must be part of a file or of a name" in capsys.readouterr().err
