"""Finding things by name."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import sparsekit
from sparsekit.experiments.recipes import recipe_for, recipe_named
from sparsekit.utils import registry
from sparsekit.utils.registry import get

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


def test_what_is_registered_about_a_name_is_found_again_and_the_rest_has_defaults(packages):
    def thing():
        """Greet."""

    registry.register("plugin-kind", "thing", colour="#123456", is_method=False)(thing)
    assert registry.facts_of("plugin-kind", "thing") == registry.Facts(colour="#123456", is_method=False)
    for kind, name in (("plugin-kind", "other"), ("no-such-kind", "x"), ("rule", "rigl")):
        assert registry.facts_of(kind, name) == registry.Facts()


def test_a_recipe_is_found_by_the_data_set_that_it_trains_in_the_shortest_time():
    for data, recipe in {
        "digits": "digits-mlp",
        "mnist1d": "mnist1d-mlp",
        "fashion-mini": "fashion-mini-cnn",
        "cifar10": "cifar10-resnet20",
        "cifar100": "cifar100",  # no recipe's: `recipe_named` makes one
    }.items():
        assert recipe_for(data) == recipe
    with pytest.raises(ValueError, match="data must be one of cifar10, .*, got 'mars'"):
        recipe_for("mars")
    with pytest.raises(ValueError, match="recipe must be one of cifar10-resnet18, .*, got 'mars'"):
        recipe_named("mars")


def test_a_data_set_without_a_recipe_is_trained_by_an_mlp_for_as_many_steps_as_it_has_batches(monkeypatch):
    monkeypatch.setitem(registry._registered["data"], "mine", partial(get("data", "digits")))
    experiment = recipe_named("mine")(epochs=8, density=0.1, seed=3)
    assert (experiment.data, experiment.model, experiment.folder_name[:9]) == ("mine", "mlp", "mine-mlp-")
    assert experiment.rule == recipe_named("digits")(epochs=8).rule
