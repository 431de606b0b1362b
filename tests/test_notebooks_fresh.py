"""The committed notebooks are what their sources say and keep the course's habits; the builder keeps its word."""

import json

import build_notebooks
import nbformat
import pytest
from build_notebooks import LIVE, NOTEBOOKS, build, built_path, digest, main, why_stale

pytestmark = pytest.mark.notebook
BUILT = sorted(NOTEBOOKS.glob("*.ipynb"))
SOURCES = sorted((NOTEBOOKS / "src").glob("*.py"))
MAX_CELL = 15  # lines: a cell is one thought, and what is longer belongs in the library


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_notebook_was_built_from_its_source(source):
    assert not why_stale(source), f"{source.stem}: {why_stale(source)}; run make notebooks"


def test_no_notebook_is_without_a_source():
    assert not build_notebooks.orphans(NOTEBOOKS)


@pytest.mark.parametrize("path", BUILT, ids=lambda path: path.stem)
class TestCommitted:
    def test_it_is_valid_and_ran_from_top_to_bottom(self, path):
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))

    def test_its_cells_are_short(self, path):
        long = [
            cell.source.partition("\n")[0]
            for cell in nbformat.read(path, 4).cells
            if cell.cell_type == "code" and len(cell.source.splitlines()) > MAX_CELL
        ]
        assert not long

    def test_it_names_its_kernel_only_and_keeps_no_state(self, path):
        assert set(nbformat.read(path, 4).metadata) == {"kernelspec", "sparsekit"}
        assert LIVE not in path.read_text(encoding="utf-8")


# --- the builder --------------------------------------------------------------------------------------------------

SOURCE = """# %% [markdown]
# # A heading
# %%
import os
print(os.path.basename(os.getcwd()))
# %% tags=["nbval-ignore-output"]
import ipywidgets
slider = ipywidgets.IntSlider()
out = ipywidgets.Output()
with out:
    print("inside")
slider
# %%
1 + 1
"""


@pytest.fixture(autouse=True, scope="module")
def little_patience():
    """A reply that came unnoticed, seen once, is found when the client's patience ends; 300 s are long for a test."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(build_notebooks, "TIMEOUT", 30)
        yield


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "notebooks"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "01_small.py").write_text(SOURCE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "notebooks"
    (folder / "src").mkdir(parents=True)
    source = folder / "src" / "01_small.py"
    source.write_text(SOURCE, encoding="utf-8")
    return source, build(source).read_text(encoding="utf-8")


@pytest.fixture
def built(built_once, folder):
    """Return the path of a source whose notebook was built."""
    source = folder / "src" / "01_small.py"
    built_path(source).write_text(built_once[1], encoding="utf-8")
    return source


def edit(path, change) -> None:
    """Change a built notebook as somebody does who saves it by hand."""
    notebook = nbformat.read(path, 4)
    change(notebook)
    nbformat.write(notebook, path)


def test_a_build_runs_the_cells_in_the_notebooks_folder(built_once):
    notebook = json.loads(built_once[1])
    assert notebook["cells"][1]["outputs"][0]["text"] == ["notebooks\n"]
    assert notebook["cells"][3]["outputs"][0]["data"]["text/plain"] == ["2"]


def test_a_build_keeps_no_widget_no_time_and_no_machine(built_once):
    notebook = json.loads(built_once[1])
    assert set(notebook["metadata"]) == {"kernelspec", "sparsekit"}
    assert LIVE not in built_once[1]
    assert "text/plain" in notebook["cells"][2]["outputs"][0]["data"]
    assert [cell["metadata"] for cell in notebook["cells"]] == [{}, {}, {"tags": ["nbval-ignore-output"]}, {}]


PAINTED = """# %%
from sparsekit.widgets import Predict
kept, moved = (Predict(question, ["few", "many"], 1, "Told.") for question in ("Kept?", "Moved?"))
# %% tags=["first-still"]
kept
# %%
moved
# %%
kept.choose("few")
moved.choose("many")
"""


def test_a_widget_is_shown_as_it_looks_in_the_end_unless_its_cell_says_otherwise(folder, monkeypatch):
    monkeypatch.setattr(build_notebooks, "TIMEOUT", 120)  # a slow machine takes its time to import the widgets
    source = folder / "src" / "02_painted.py"
    source.write_text(PAINTED, encoding="utf-8")
    cells = nbformat.read(build(source), 4).cells
    assert len(cells) == 4
    kept, moved = (cell.outputs[0].data for cell in cells[1:3])
    assert kept["text/plain"] == "Kept? few / many"
    assert moved["text/plain"] == "Moved? few / many Yes. Told."
    assert moved["image/png"] != kept["image/png"]


def test_an_inserted_cell_renames_no_other():
    import jupytext

    before, after = jupytext.reads(SOURCE, "py:percent"), jupytext.reads("# %%\n0\n" + SOURCE, "py:percent")
    for notebook in (before, after):
        build_notebooks.name_cells(notebook)
    assert [cell.id for cell in after.cells[1:]] == [cell.id for cell in before.cells]


def test_equal_cells_get_different_names():
    import jupytext

    notebook = jupytext.reads("# %%\n1\n# %%\n1\n", "py:percent")
    build_notebooks.name_cells(notebook)
    assert len({cell.id for cell in notebook.cells}) == 2


def test_a_fresh_notebook_is_not_built_again(built, folder, monkeypatch, capsys):
    monkeypatch.setattr(build_notebooks, "build", None)
    assert main([], folder=folder) == 0
    assert main(["--check"], folder=folder) == 0
    assert "0 of 1 notebooks built\n1 notebooks are fresh" in capsys.readouterr().out


def test_force_and_a_prefix_say_what_is_built(built, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(build_notebooks, "_build_aloud", asked.append)
    main(["--force"], folder=folder)
    main(["--force", "02"], folder=folder)
    assert asked == [built]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda book: book.metadata.pop("sparsekit"), "its source changed"),
        (lambda book: book.cells[3].update(source="1 + 2"), "edited the built file"),
        (lambda book: book.cells.pop(), "edited the built file"),
        (lambda book: book.cells[2].metadata.pop("tags"), "edited the built file"),
        (lambda book: book.metadata.update(widgets={}), "saved the built file with live widgets"),
        (lambda book: book.cells[2].outputs[0].data.update({LIVE: {}}), "saved the built file with live widgets"),
    ],
)
def test_a_notebook_edited_by_hand_is_stale(built, folder, capsys, change, reason):
    edit(built_path(built), change)
    assert main(["--check"], folder=folder) == 1
    assert reason in capsys.readouterr().out


def test_a_notebook_never_built_and_one_without_a_source_are_reported(built, folder, capsys):
    (folder / "src" / "02_new.py").write_text("# %%\n1\n")
    built_path(built).rename(folder / "03_orphan.ipynb")
    assert main(["--check"], folder=folder) == 1
    said = capsys.readouterr().out
    assert "02_new: it was never built" in said
    assert "03_orphan: it has no source" in said


def test_a_changed_source_is_stale(built):
    built.write_text(SOURCE.replace("1 + 1", "2 + 1"))
    assert why_stale(built) == "its source changed"


def test_the_hash_ignores_line_endings_and_trailing_blanks(built):
    before = digest(built)
    built.write_bytes(SOURCE.replace("\n", "  \r\n").encode() + b"\r\n")
    assert digest(built) == before
    assert not why_stale(built)


def test_a_cell_that_warns_cannot_be_built(folder):
    source = folder / "src" / "01_small.py"
    source.write_text("# %%\nimport warnings\nwarnings.warn('old')\n")
    with pytest.raises(ValueError, match="must not write to stderr"):
        build(source)
    assert not built_path(source).exists()
