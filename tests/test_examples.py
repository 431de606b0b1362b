"""Every file in examples/ runs. It is short, and says in its first line which packages it needs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MOST_LINES = 60
# What makes an example small enough for a test, where it would train for longer.
WORDS = {"optuna_pruning.py": ("4", "2", "runs")}


def needs(path: Path) -> list[str]:
    """Return the packages that the first line of an example names, as in `# needs: optuna, torch`."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    match = re.fullmatch(r"# needs: ([\w, -]+)", first)
    assert match, f"{path.name} must begin with a line like '# needs: optuna' or '# needs: nothing', got {first!r}"
    return [] if match[1] == "nothing" else match[1].split(", ")


def test_there_are_examples_and_all_words_belong_to_one():
    assert EXAMPLES
    assert set(WORDS) <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_needs(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    assert needs(path) or needs(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    for package in needs(path):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"install {package} to test examples/{path.name}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(path), *WORDS.get(path.name, ())]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
