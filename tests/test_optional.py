"""What a core install lacks: everything but the widgets works without it, and what needs it says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from sparsekit.cli import main
from sparsekit.utils.optional import require

WITHOUT = (
    "anywidget",
    "ipywidgets",
    "IPython",
    "jupyterlab",
    "seaborn",
    "traitlets",
    "ipykernel",
    "dask",
    "distributed",
)
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CORE = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {without}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import sparsekit as sk

for module in pkgutil.walk_packages(sk.__path__, "sparsekit."):
    if not module.name.startswith("sparsekit.widgets") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
sk.run(sk.recipes.digits_small(epochs=1), {folder!r}, progress=False)
try:
    sk.widgets
except ImportError as error:
    print(error)
"""


def test_all_but_the_widgets_works_without_the_packages_of_notebooks(tmp_path):
    code = CORE.format(without=WITHOUT, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("widgets need the packages of notebooks, got No module named")
    assert done.stdout.endswith('Run: pip install "sparsekit-lab[notebooks]"\n')


def test_the_course_says_what_it_needs_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsekit", "course", "open", "--notebooks", str(NOTEBOOKS)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "Error: jupyterlab must be installed, got" in capsys.readouterr().err


def test_a_module_that_is_there_is_returned():
    assert require("json", install="json").loads("1") == 1
