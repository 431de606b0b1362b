"""Finding things by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sparsekit
from sparsekit.utils import registry

PLUGIN = """
from sparsekit.utils.registry import register

@register("plugin-kind", {name!r})
def thing():
    '''Greet.

    Source: nobody.
    '''
"""


def write_package(folder: Path, name: str, **modules: str) -> None:
    """A package with one registered function in each module; `a__b` is module b of subpackage a."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    for path, registered in modules.items():
        file = folder.joinpath(name, *path.split("__")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(PLUGIN.format(name=registered))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    registry._registered.pop("plugin-kind", None)
    for module in [name for name in sys.modules if name.startswith("found_by_tests")]:
        del sys.modules[module]


def test_every_file_of_a_package_is_found_by_itself(packages):
    write_package(packages, "found_by_tests", one="first", deeper__two="second")
    registry.discover("found_by_tests")
    assert registry.names("plugin-kind") == ["first", "second"]
    assert "plugin-kind" in registry.kinds()
    assert registry.get("plugin-kind", "second").__module__ == "found_by_tests.deeper.two"


def test_a_name_given_twice_is_refused_and_the_first_owner_stays(packages):
    write_package(packages, "found_by_tests", one="same", two="same")
    with pytest.raises(ValueError, match=r"plugin-kind names must be unique, got 'same' twice. Rename .*two.thing"):
        registry.discover("found_by_tests")
    assert registry.get("plugin-kind", "same").__module__ == "found_by_tests.one"


def test_the_same_module_may_be_loaded_again(packages):
    write_package(packages, "found_by_tests", one="again")
    registry.discover("found_by_tests")
    del sys.modules["found_by_tests.one"]
    registry.discover("found_by_tests")
    assert registry.names("plugin-kind") == ["again"]


def test_an_unknown_name_raises_and_lists_the_known_ones(packages):
    write_package(packages, "found_by_tests", one="first", two="second")
    registry.discover("found_by_tests")
    with pytest.raises(ValueError, match="plugin-kind must be one of first, second, got 'third'. Choose one of them"):
        registry.get("plugin-kind", "third")


def test_an_unknown_kind_raises_and_says_that_there_is_nothing():
    with pytest.raises(ValueError, match=r"no-such-kind must be one of \(none\), got 'x'"):
        registry.get("no-such-kind", "x")
    assert registry.names("no-such-kind") == []
    assert "no-such-kind" not in registry.kinds()


def test_a_new_rule_is_one_new_file(tmp_path):
    """The rule's file is dropped into a copy of the package; nothing else is edited."""
    copy = tmp_path / "sparsekit"
    shutil.copytree(Path(sparsekit.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    rule = (copy / "rules" / "static.py").read_text().replace('"static"', '"brand-new"').replace("Static", "BrandNew")
    (copy / "rules" / "brand_new.py").write_text(rule)
    ask = "import sparsekit; print(sparsekit.__file__); print(sparsekit.rules.make_rule('brand-new', total_steps=9))"
    told = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(copy / "__init__.py"), "BrandNew()"]


def test_summary_and_source_are_read_from_the_docstring():
    def method():
        """Do it well.

        Source: Somebody (2020),
        section 2.

        More.
        """

    assert registry.summary_of(method) == "Do it well."
    assert registry.source_of(method) == "Somebody (2020), section 2."
    assert registry.source_of(lambda: None) == registry.summary_of(lambda: None) == ""


@pytest.mark.parametrize(
    ("kind", "name"), [("recipe", "digits-mlp"), ("rule", "rigl"), ("model", "mlp"), ("grow", "random")]
)
def test_the_first_thing_a_program_does_may_be_a_look_up(kind, name):
    # In a process of its own: here everything is imported already.
    program = f"from sparsekit.utils.registry import get; get({kind!r}, {name!r})"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_home_registers_its_kind():
    assert all(registry.names(kind) for kind in registry.HOMES)
