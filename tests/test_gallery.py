"""The gallery has every plot and every widget, and the lines that it shows run."""

import ast
import re
from pathlib import Path

import pytest

from sparsekit import plots
from sparsekit.cli.site.recording import notebook_of

widgets = pytest.importorskip(
    "sparsekit.widgets", reason='widgets need the packages of notebooks. Run: pip install "sparsekit-lab[notebooks]"'
)
PAGE = Path(__file__).parents[1] / "docs" / "gallery.md"
# These draw nothing by themselves. The page of contents shows a folder of notebooks, and there is none beside the site.
PARTS = {"Check", "Contents", "Control", "Field", "LayerTable", "NetworkFilm", "RankedScores", "Run", "SettingsPicker"}
PARTS |= {"Snapshot", "StaticImage", "Verdict", "film_of", "live_speed", "live_training", "own_best"}
MOST_LINES = 10
PIECE = re.compile(r"^(?:#+ ([^\n]*)|```python\n(.*?)^```)$", re.DOTALL | re.MULTILINE)  # a heading or a block of code


def blocks() -> list[tuple[str, str]]:
    """Return the heading and the code of each block of the page."""
    found = PIECE.findall(PAGE.read_text(encoding="utf-8"))
    headings = [heading for heading, _ in found]
    return [(headings[at - 1], code) for at, (_, code) in enumerate(found) if code]


def shown(code: str, scope: dict) -> object:
    """Run a cell as Jupyter does, and return the value of its last line."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "gallery", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "gallery", "eval"), scope) if last else None


def test_every_plot_and_every_widget_has_a_few_lines_in_it():
    names = [heading for heading, _ in blocks()[1:]]
    drawing = {name for name in plots.__all__ if name.startswith(("plot_", "film_"))}
    assert sorted(names) == sorted(drawing | (set(widgets.__all__) - PARTS))
    for name, code in blocks()[1:]:
        assert f".{name}" in code, name
        assert code.count("\n") <= MOST_LINES, name


def test_all_of_its_lines_run_and_each_example_shows_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "__main__"}
    (_, common), *examples = blocks()
    shown(common, scope)
    silent = [name for name, code in examples if shown(code, scope) is None]
    assert silent == []


def test_on_the_site_its_blocks_are_the_cells_of_a_notebook():
    cells = notebook_of(PAGE.read_text(encoding="utf-8")).cells
    assert [cell.source for cell in cells if cell.cell_type == "code"] == [code.rstrip() for _, code in blocks()]
    assert cells[0].source.startswith("# Gallery")
    assert not any("```" in cell.source for cell in cells)
