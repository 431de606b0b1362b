"""Machine code that is kept between processes: damaged or out of date, it is compiled anew."""

import functools
import importlib.util
import itertools
import os
import random

import pytest

pytest.importorskip("numba")

SOURCE = """
from sparsekit.utils.compiling import compiled

@compiled()
def twice(x):
    return 2 * x
"""
number = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module()` loads a file with a compiled function anew, as another process would."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path)
    load = functools.partial(load_from, tmp_path)
    assert load()(3) == 6
    return load


def write(folder):
    (folder / "mine.py").write_text(SOURCE)
    (folder / "numba_neighbour.py").write_text("import numba")


def load_from(folder):
    from sparsekit.utils import compiling

    compiling._digest.cache_clear()
    spec = importlib.util.spec_from_file_location(f"mine_{next(number)}", folder / "mine.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.twice


def kept(tmp_path, ending):
    (file,) = (tmp_path / "cache" / "sparsekit" / "compiled").glob(f"*/*.{ending}")
    return file


def compiled_anew(function):
    assert function(3) == 6
    return sum(function.stats.cache_misses.values())


def test_what_was_compiled_once_is_loaded_afterwards(module):
    assert compiled_anew(module()) == 0


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_file_is_compiled_anew_and_replaced(ending, module, tmp_path):
    file = kept(tmp_path, ending)
    whole, draw = file.read_bytes(), random.Random(0)
    places = [len(whole) - 1, len(whole) // 2, draw.randrange(len(whole))]
    flips = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in places]
    for data in (b"", whole[: len(whole) // 2], whole[:-1], *flips):
        file.write_bytes(data)
        assert compiled_anew(module()) == 1
        assert compiled_anew(module()) == 0


def test_a_change_in_a_file_whose_functions_may_be_compiled_in_is_noticed(module, tmp_path):
    (tmp_path / "numba_neighbour.py").write_text("import numba  # and more")
    assert compiled_anew(module()) == 1
    (tmp_path / "other.py").write_text("# no compiled function")
    assert compiled_anew(module()) == 0


def test_where_code_cannot_be_kept_it_is_compiled_for_this_process(module, tmp_path, monkeypatch):
    kept(tmp_path, "nbi").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert compiled_anew(module()) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp.*"))


def test_two_environments_of_one_user_share_what_was_compiled(module, tmp_path):
    other = tmp_path / "another environment"
    other.mkdir()
    write(other)
    assert compiled_anew(load_from(other)) == 0


def test_without_a_folder_to_write_to_code_is_kept_beside_its_source(module, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiled_anew(module()) == 1
    assert compiled_anew(module()) == 0
    assert list((tmp_path / "__pycache__").glob("mine.*.nbc"))


def test_a_folder_that_the_user_names_is_used(module, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "named"))  # which Numba reads at its next chance
    assert compiled_anew(module()) == 1
    assert compiled_anew(module()) == 0
    assert list((tmp_path / "named").rglob("mine.*.nbc"))
