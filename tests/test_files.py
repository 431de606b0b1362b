"""Names that stay in their folder, files that are whole or refused, and a folder of one's own for locks."""

import io
import random
from pathlib import Path

import numpy as np
import pytest

from sparsekit.cli.output import write_comparison
from sparsekit.experiments import Experiment, run, save_initial_state
from sparsekit.experiments.initial_state import load_initial_state
from sparsekit.tricks import Distillation
from sparsekit.utils import files
from sparsekit.utils.files import append, is_sealed, read_arrays, read_json, sealed, write_json

# --- names ------------------------------------------------------------------------------------------------------

LEADING_OUT = ["../../x", "/x", "a/b", "a\\b", "..", ".", "", "C:x", "a\0b", "a\nb", " ", "x.", ".x"]
TOO_LONG = ["x" * 151, "é" * 76]


@pytest.mark.parametrize("name", LEADING_OUT + TOO_LONG)
def test_a_recipe_whose_name_would_leave_the_folder_of_runs_is_refused(name):
    with pytest.raises(ValueError, match=r"recipe must be a plain name .*, got .*. Use letters"):
        Experiment(recipe=name)


@pytest.mark.parametrize("name", ["digits-mlp", "Mein Lauf 2", "été", "a.b", "x" * 150])
def test_plain_names_are_taken_in_any_language(name):
    assert Experiment(recipe=name).folder_name.startswith(name)


def test_a_recipe_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="recipe"):
        Experiment(recipe=5)  # type: ignore[arg-type]


def test_a_start_a_teacher_and_a_table_stay_in_their_folders_too(tmp_path):
    import torch

    model = torch.nn.Linear(2, 2)
    name = save_initial_state(tmp_path / "other", model)
    for outside in (f"../../other/initial_states/{name}", str(tmp_path / "other" / "initial_states" / name)):
        with pytest.raises(ValueError, match="init_from must be a plain name"):
            Experiment(init_from=outside)
        with pytest.raises(ValueError, match="the name of a state must be a plain name"):
            load_initial_state(tmp_path / "runs", outside, model)
    pupil = Experiment(density=1.0, epochs=1, tricks=(Distillation(teacher="../elsewhere"),))
    with pytest.raises(ValueError, match="the name of a run to learn from must be a plain name"):
        run(pupil, tmp_path / "runs", progress=False)
    with pytest.raises(ValueError, match="recipe must be a plain name"):
        write_comparison(None, tmp_path / "runs", "../x")  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


# --- checksums ----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_and_every_cut_of_a_sealed_text_shows(tmp_path):
    write_json(tmp_path / "a.json", {"name": "checksum", "list": [1, 2.5, None], '"checksum": "00000000"': 3})
    whole = (tmp_path / "a.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"name": "checksum", "list": [1, 2.5, None], '"checksum": "00000000"': 3}
    for place in range(len(whole)):
        assert not is_sealed(whole[:place])
        for bit in range(8):
            assert not is_sealed(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])


def test_a_text_without_a_place_for_its_checksum_cannot_be_sealed():
    with pytest.raises(ValueError, match='must hold the entry "checksum", got none. Put CHECKSUM'):
        sealed(b"{}")


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b'{"checksum": "12345678"}'])
def test_json_that_is_damaged_or_foreign_is_refused_by_name(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json must hold what sparsekit wrote .*, got .*. Put a good copy"):
        read_json(tmp_path / "a.json")


def test_no_flipped_bit_in_an_array_file_gives_other_arrays(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"mark": np.array("abc"), "rows": np.arange(24.0).reshape(4, 3, 2)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    whole, draw, refused = path.read_bytes(), random.Random(0), 0
    shape = whole.index(b"(4, 3, 2)")  # of which numpy would believe that it is smaller
    for place in [*range(shape, shape + 9), *(draw.randrange(len(whole)) for _ in range(150))]:
        bit = 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            read = read_arrays(path)
        except ValueError:
            refused += 1
        else:  # a bit that means nothing, as those of the time in a zip file
            assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    assert refused > 80


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no arrays"])
def test_a_foreign_array_file_is_refused_by_name_and_a_missing_one_is_missing(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz must be a whole \.npz file, got a damaged or foreign one"):
        read_arrays(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "b.npz")


def test_the_images_that_ship_with_the_project_are_checked_when_they_are_read(tmp_path):
    from sparsekit.datasets import load

    np.savez(tmp_path / "fashion_mini.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match=r"fashion_mini\.npz must be that of the project, got one without 'train_in"):
        load("fashion-mini", root=tmp_path)
    (tmp_path / "fashion_mini.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"fashion_mini\.npz must be a whole \.npz file"):
        load("fashion-mini", root=tmp_path)


def test_what_could_not_be_appended_is_taken_away_again(tmp_path, monkeypatch):
    path = tmp_path / "log"
    append(path, b"first\n")

    class Breaking(io.FileIO):
        def write(self, data):
            super().write(data[:3])
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", lambda path, mode: Breaking(path, mode))
        with pytest.raises(OSError, match="Input/output error"):
            append(path, b"second\n")
    assert path.read_bytes() == b"first\n"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OSError, match="a cache must have a folder, got no home. Set XDG_CACHE_HOME"):
        files.cache_folder()
