"""The scripts that measure accuracy print whole tables, say what is shown, and go on where they were."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "studies"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"study_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def printed(monkeypatch, capsys):
    """`printed("tricks", "--seeds", "2")` returns what the script prints."""

    def call(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        script(name, monkeypatch).main()
        return capsys.readouterr().out

    return call


def test_tricks_are_compared_with_intervals_and_read_the_second_time(printed, tmp_path):
    words = ("--densities", "0.2", "0.1", "--seeds", "2", "--epochs", "1", "--folder", str(tmp_path))
    told = printed("tricks", "--cells", "none", "labels", *words)
    assert "## digits, random, density 0.2" in told
    assert [line.split(" |")[0] for line in told.splitlines() if line.endswith(" 2 |")] == 2 * ["| none", "| labels"]
    assert told.count("label smoothing helps (") == 2
    assert "labels: more at density 0.1 than at 0.2" in told
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")}
    assert len(kept) == 8
    assert printed("tricks", "--cells", "none", "labels", *words) == told
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")}


def test_a_cell_of_an_unknown_trick_is_refused_before_anything_is_trained(printed, tmp_path):
    with pytest.raises(SystemExit, match="cells must name tricks among neurons, skips, init, labels, got luck"):
        printed("tricks", "--cells", "skips+luck", "--folder", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_tricks_that_were_only_switched_together_are_not_told_apart(printed, tmp_path):
    words = ("--densities", "0.2", "0.1", "--seeds", "2", "--epochs", "1", "--folder", str(tmp_path))
    told = printed("tricks", "--cells", "none", "init+labels", *words)
    assert told.count("| init+labels |") == 2
    assert "effect" not in told
    assert "helps" not in told
    assert "more at density" not in told


def test_the_latest_methods_stand_beside_what_they_are_compared_with(printed, tmp_path):
    words = ("--epochs", "1", "--tests", "100", "--folder", str(tmp_path))
    told = printed("recent", *words, "--seeds", "1")
    names = [line.split(" |")[0].removeprefix("| ") for line in told.splitlines() if line.startswith("| ")]
    assert {"DynaDiag", "NeuroTrails", "SMET", "Sign-In", "CHTs with chain removal"} < set(names)
    assert "claim" not in told
    assert "nan |" in told


def test_masks_of_a_lottery_carry_tricks_too(printed, tmp_path):
    words = ("--cells", "none", "skips", "--seeds", "1", "--epochs", "1", "--folder", str(tmp_path))
    told = printed("tricks", "--masks", "imp", "--densities", "0.1", *words)
    assert "## digits, imp, density 0.1" in told
    assert "| skips |" in told


def test_cheap_tickets_are_told_beside_their_controls_as_far_as_they_were_trained(printed, tmp_path):
    split = ("--epochs", "2", "--cycle-rate", "0.5", "--cycle-epochs", "1", "--folder", str(tmp_path))
    few = ("--bases", "set", "--densities", "0.1", "--no-usual", "--strangers", "0")
    told = printed("sup_tickets", "digits-mlp", "--seeds", "2", *few, *split)
    assert "## digits-mlp, density 0.1, 2 seeds" in told
    assert "**superposed** (mean, pruned once)" in told
    assert "set: superposed beats plain sparse averaging (" in told
    assert "training" not in told.partition("| network |")[2]
    single = printed("sup_tickets", "digits-mlp", "--seeds", "1", *few, *split)  # too few to judge by
    assert "superposed beats" not in single
    assert "nan" not in single


def test_grown_state_is_told_in_pairs_and_written_as_a_table(printed, tmp_path):
    words = ("--rules", "set", "--rates", "0.01", "--density", "0.03", "--seeds", "2", "--epochs", "3")
    told = printed("grown_state", *words, "--folder", str(tmp_path), "--table", str(tmp_path / "table.md"))
    (row,) = (line for line in told.splitlines() if line.startswith("| set |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["set", "0.01"]
    assert row.count("n = 2") == 2
    means = [float(cell.split()[0]) for cell in cells[2:]]
    assert means[3:] == pytest.approx([means[1] - means[0], means[2] - means[0]], abs=0.011)
    assert means[1] != means[0] != means[2], "the choice changes something"
    assert "For 2 pairs Student's t at 97.5 % is 12.71" in told
    assert (tmp_path / "table.md").read_text() == told


def test_a_difference_of_pairs_is_told_with_its_t(monkeypatch):
    difference = script("grown_state", monkeypatch).difference
    assert difference([0.02, 0.04, 0.03], [0.01, 0.01, 0.01]) == "+2.00 ± 0.58 (t = 3.5, n = 3, undecided)"
    assert difference([0.02, 0.02], [0.01, 0.01]) == "+1.00 ± 0.00 (t = inf, n = 2, reproduced)"


def test_networks_of_several_sizes_and_densities_give_a_law(printed, tmp_path):
    sizes = ("--widths", "8", "12", "16", "--densities", "0.3", "0.6", "1", "--epochs", "1")
    told = printed("scaling", "digits-mlp", *sizes, "--folder", str(tmp_path), "--figure", str(tmp_path / "law.png"))
    rows = [line.split() for line in told.splitlines() if line.split()[:1] in (["8"], ["12"], ["16"])]
    assert [(row[0], row[2]) for row in rows] == [
        (w, d) for w in ("8", "12", "16") for d in ("0.300", "0.600", "1.000")
    ]
    assert re.search(r"^floor \S+ ± \S+$", told, re.MULTILINE)
    assert "(root mean square of 9 networks)" in told
    assert (tmp_path / "law.png").stat().st_size > 5000


def test_strangers_are_averaged_as_they_are_and_in_the_order_of_each_other(printed, tmp_path):
    words = ("--density", "0.3", "--pairs", "2", "--epochs", "3", "--folder", str(tmp_path))
    told = printed("strangers", "digits-small", *words)
    names = ["mean member", "as they are", "by values", "by topology"]
    assert all(name in told.splitlines()[0] for name in names)
    assert len([line for line in told.splitlines() if line.startswith(("mean ", "sem "))]) == 2
    assert told.count("n = 2 seeds)") == 3
