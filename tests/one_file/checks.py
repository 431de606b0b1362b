"""What a user sees of new things: `test_one_file.py` lets this run where each is one new file of the package."""

import math

import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn
from typer.testing import CliRunner

from sparsekit import analysis, plots
from sparsekit.cli import app
from sparsekit.experiments.compare import compare, methods, table_of
from sparsekit.utils.registry import kinds, names
from sparsekit.widgets import RulePicker, ScoreExplorer

KINDS = {"rule": "rules", "score": "scores", "grow": "grows", "data": "data", "method": "methods"}
METHODS = ("brand-new-rule", "brand-new-score", "brand-new-method")
DATA = "brand-new-data"


def called(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_lists_it(kind):
    assert kind in kinds()
    assert f"\nbrand-new-{kind} " in called("list", KINDS[kind]).replace("\n ", "\n")


@pytest.mark.parametrize(
    "settings",
    [("--rule", "brand-new-rule"), ("--score", "brand-new-score"), ("--rule", "set", "--set", "grow=brand-new-grow")],
    ids=["rule", "score", "grow"],
)
def test_the_command_line_trains_it_on_the_new_data(settings, tmp_path):
    text = called("train", DATA, *settings, "--epochs", 2, "--density", 0.2, "--folder", tmp_path, "--no-progress")
    assert "mlp on brand-new-data" in text
    assert "test accuracy" in text


def test_the_command_line_compares_it_with_its_costs_in_a_table_and_a_figure(tmp_path):
    words = [word for name in (*METHODS, "rigl") for word in ("--method", name)]
    text = called(
        "compare", "--data", DATA, *words, "--seeds", 1, "--epochs", 1, "--density", 0.2, "--folder", tmp_path
    )
    for name in METHODS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| 0.2 | {name} |")]
        assert " - " not in row, "neither seconds nor operations may be missing"
    assert {f"{DATA}.csv", f"{DATA}.md", f"{DATA}-0.2.png"} <= {path.name for path in tmp_path.iterdir()}
    cells = compare(DATA, [*METHODS, "rigl"], densities=[0.2], seeds=1, folder=tmp_path, epochs=1)
    ax = plots.plot_methods(table_of(cells))
    assert len({to_hex(line.get_color()) for line in ax.lines}) == 4


def test_it_takes_part_where_all_methods_do():
    assert set(METHODS) < set(methods())


def test_pickers_offer_it():
    rules = RulePicker(total_steps=100)
    rules.choose("grow", "brand-new-grow")
    assert type(rules.value.grow).__name__ == "BrandNewGrow"
    rules.choose("method", "brand-new-rule")
    rules.choose("every", 7)
    assert (type(rules.value).__name__, rules.value.every, rules.value.stop) == ("BrandNewRule", 7, 75)
    examples = [(torch.randn(8, 6), torch.arange(8) % 4)]
    explorer = ScoreExplorer(
        nn.Sequential(nn.Linear(6, 4)), batches=examples, halvings=1, score="brand-new-score", halving=1
    )
    assert "brand-new-score" in explorer.score_names
    assert repr(explorer).startswith("brand-new-score, 50.0 % sparsity: 12 of 24 connections")


def test_figures_tell_it_from_all_others():
    styles = plots.styles_of([*methods(), "brand-new-grow"])
    assert len(set(styles.values())) == len(styles)
    few = plots.styles_of([*METHODS, "rigl", "set", "gse"])
    assert len({style.colour for style in few.values()}) == 6
    assert len(set(plots.styles_of(names("score")).values())) == len(names("score"))


def test_its_operations_are_counted():
    cost = analysis.Pass(dense=1.0, sparse=0.1)
    assert analysis.training_flops("brand-new-rule", cost) == pytest.approx(0.3)
    table = analysis.training_flops_table(cost)
    assert math.isfinite(table.loc["brand-new-rule", "relative_to_dense"])
    assert "brand-new-rule" in [tick.get_text() for tick in plots.plot_flops(table).get_yticklabels()]
    assert analysis.one_off_flops("brand-new-score", 1.0, samples=10) == 30
