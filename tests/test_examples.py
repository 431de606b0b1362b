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
WORDS = {
    "accelerate_loop.py": ("2",),
    "ddp_loop.py": ("2",),
    "hf_trainer.py": ("30", "runs"),
    "lightning_digits.py": ("2", "runs"),
    "optuna_pruning.py": ("4", "2", "runs"),
    "timm_pruned.py": ("20",),
}
# What starts an example that python alone does not start.
LAUNCHERS = {"ddp_loop.py": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")}
# What an example must say, whatever its few steps have learned.
SAYS = {
    "accelerate_loop.py": r"38 steps, rewired at 2 of them",
    "ddp_loop.py": r"2 processes rewired 2 times, equal masks: True",
    "hf_trainer.py": r"98\.2 % of the weights .*rewired 2 times, 9,830 connections as before",
    "lightning_digits.py": r"rewired 2 times, reads \d",
    "optuna_pruning.py": r"\d of 4 trials were pruned",
    "timm_pruned.py": r"[1-9][\d,]* of 37,128 connections moved",
}


def needs(path: Path) -> list[str]:
    """Return the packages that the first line of an example names, as in `# needs: optuna, torch`."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    match = re.fullmatch(r"# needs: ([\w, -]+)", first)
    assert match, f"{path.name} must begin with a line like '# needs: optuna' or '# needs: nothing', got {first!r}"
    return [] if match[1] == "nothing" else match[1].split(", ")


def test_there_are_examples_and_all_words_belong_to_one():
    assert EXAMPLES
    names = {path.name for path in EXAMPLES}
    assert names == set(SAYS)
    assert set(WORDS) | set(LAUNCHERS) <= names


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
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *LAUNCHERS.get(path.name, ()), str(path), *WORDS.get(path.name, ())]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert re.search(SAYS[path.name], result.stdout, re.DOTALL), result.stdout
