"""One more rule, score, grow score, data set or method is one new file, and nothing else knows its name.

`tests/one_file` holds one of each, where its file lies in the package. They are laid into a copy of the package, and
`tests/one_file/checks.py` runs there, as do the contract tests for the new names.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEW = ROOT / "tests" / "one_file"
CHECKS = "test_new_things.py"
CONTRACTS = ("test_rules_contract.py", "test_scores_contract.py")
HELPERS = ("helpers.py", "rule_helpers.py")


def new_files() -> list[Path]:
    return [path for path in sorted(NEW.rglob("*.py")) if path.name != "checks.py"]


def copy_of_the_package(folder: Path) -> None:
    """Compiled code is copied with the files it belongs to, so that nothing is compiled again."""
    shutil.copytree(ROOT / "sparsekit", folder / "sparsekit")
    (folder / "tests").mkdir()
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in (*HELPERS, *CONTRACTS):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    shutil.copy(NEW / "checks.py", folder / "tests" / CHECKS)


def passed(folder: Path, *words: str) -> int:
    """Return how many tests pass in the copy, of which none may fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *words]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1].split()[0])


@pytest.mark.slow
def test_one_more_of_each_is_one_file_and_first_class_everywhere(tmp_path):
    copy_of_the_package(tmp_path)
    for file in new_files():
        target = tmp_path / "sparsekit" / file.relative_to(NEW)
        assert not target.exists()
        shutil.copy(file, target)
    names = " or ".join(file.stem.replace("_", "-") for file in new_files())
    everything = [f"tests/{name}" for name in (CHECKS, *CONTRACTS)]
    assert passed(tmp_path, *everything, "-k", f"test_new_things or {names}") >= 50


@pytest.mark.parametrize("file", new_files(), ids=lambda file: file.stem)
def test_nothing_in_the_package_knows_its_name(file):
    words = (file.stem, file.stem.replace("_", "-"))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "sparsekit").rglob("*.py")]
    assert not any(word in text for text in texts for word in words)
