"""Comparing all methods: every cell once, honest costs, a table and a figure."""

import math
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from typer.testing import CliRunner

import sparsekit as sk
from sparsekit.cli import app
from sparsekit.experiments import read_run, run
from sparsekit.experiments.compare import Cell, compare, experiment_of, markdown_of, methods, table_of
from sparsekit.experiments.work import Work
from sparsekit.plots import plot_methods
from sparsekit.rules import Static
from sparsekit.rules.periodic import Periodic
from sparsekit.scores import SNIP
from sparsekit.train.history import read_rows, write_rows
from sparsekit.utils import registry


def cell(**given) -> Cell:
    usual = {
        "method": "set",
        "target_density": 0.1,
        "seed": 0,
        "accuracy": 0.5,
        "density": 0.1,
        "seconds": 1.0,
        "flops": 0.1,
    }
    return Cell(**{**usual, "bytes": 100, **given})


def test_every_rule_and_every_score_takes_part_by_itself():
    known = {*registry.names("rule"), *registry.names("score"), *registry.names("method")}
    assert "dense" in known
    for_trained_networks = {"lamp", "ria", "wanda"}
    assert set(methods()) == known - {"drop-grow", "random", *for_trained_networks}
    assert len(methods()) == len(set(methods())) >= 26


@pytest.mark.parametrize("method", methods())
def test_each_method_trains_and_says_what_it_cost(method, tmp_path):
    how = {"densities": [0.1], "seeds": 1, "folder": tmp_path, "epochs": 2}
    first = list(compare("digits-mlp", [method], **how))
    assert [(one.method, one.seed, one.target_density) for one in first] == [(method, 0, 0.1)]
    assert 0 < first[0].accuracy < 1
    # Two epochs are few: 60 rounds of SNIP over 100 of the 1197 examples cost more than they do.
    score = experiment_of(method, "digits-mlp", 0.1, 0).score
    assert 0 < first[0].flops <= (3 if score and score.sees == "examples" and score.rounds > 1 else 1)
    assert first[0].bytes > 0
    exact = {"str": None, "dense": 1.0}.get(method, 0.1)
    assert exact is None or first[0].density == pytest.approx(exact, abs=0.012)
    again = list(compare("digits-mlp", [method], **how))
    assert again == first, "a finished cell is read, with the seconds it took then"


def test_flops_follow_the_formulas(tmp_path):
    density = experiment_of("gmp", "digits-mlp", 0.1, 0, epochs=4).rule.density_at
    # Of 76 steps those after 25, 50 and 57 have what was left then.
    pruned = (26 * 1.0 + 25 * density(25) + 7 * density(50) + 18 * 0.1) / 76
    wanted = {"static": 0.1, "set": 0.1, "gmp": pruned, "rigl": 0.1 + 0.9 / 3 / 26, "dense": 1.0}
    cells = compare("digits-mlp", list(wanted), densities=[0.1], seeds=1, folder=tmp_path, epochs=4)
    flops = {one.method: one.flops for one in cells}
    for method, number in wanted.items():
        assert flops[method] == pytest.approx(number, rel=0.01)


def test_flops_of_gradual_pruning_are_dense_until_it_starts(tmp_path):
    late = {"rule_settings": {"start": 30, "every": 9}, "epochs": 4}
    (one,) = compare("digits-mlp", ["gmp"], densities=[0.1], seeds=1, folder=tmp_path, **late)
    # Of 76 steps those up to 39 are dense, those after 39, 48 and 57 have what the cubic from 30 to 57 left.
    pruned = (40 + 9 * (0.1 + 0.9 * (2 / 3) ** 3) + 9 * (0.1 + 0.9 / 27) + 18 * 0.1) / 76
    assert one.flops == pytest.approx(pruned, rel=1e-3)


@dataclass(frozen=True, kw_only=True)
class Mine(Periodic):
    """Exchange nothing, in a way of one's own."""

    def propose(self, views, step, generator):
        return sk.Topology({name: view.topology for name, view in views.items()})


class Counted(Mine):
    """The same, and it says what it costs."""

    def training_flops(self, cost):
        return 2 * cost.dense


@pytest.fixture
def my_rules(monkeypatch):
    monkeypatch.setitem(registry._registered["rule"], "mine", Mine)
    monkeypatch.setitem(registry._registered["rule"], "counted", Counted)


def test_a_rule_of_ones_own_takes_part_and_its_flops_are_what_it_says(my_rules, tmp_path):
    how = {"densities": [0.1], "seeds": 2, "folder": tmp_path, "epochs": 1}
    cells = list(compare("digits-mlp", ["mine", "counted", "static"], **how))
    mine, counted, static = (cells[at : at + 2] for at in (0, 2, 4))
    assert [one.accuracy for one in mine] == [one.accuracy for one in counted] == [one.accuracy for one in static]
    assert all(math.isnan(one.flops) for one in mine)
    assert [one.flops for one in counted] == pytest.approx([2 / 3] * 2)
    assert [one.bytes for one in mine] == [one.bytes for one in static]
    table = table_of(cells)
    assert math.isnan(table.set_index("method").loc["mine", "flops"])
    assert "| mine |" in markdown_of(table)
    assert "nan" not in markdown_of(table)
    assert {text.get_text() for text in plot_methods(table).get_yticklabels()} == {"mine", "counted", "static"}
    assert "mine" in methods()
    assert [one.accuracy for one in compare("digits-mlp", ["mine"], **how)] == [one.accuracy for one in mine]


def test_operations_that_are_no_number_are_known_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(Static, "training_flops", lambda rule, cost: None)
    with pytest.raises(TypeError, match="training_flops of Static must be a number, got None"):
        next(compare("digits-mlp", ["static"], seeds=1, folder=tmp_path, epochs=1))
    assert list(tmp_path.iterdir()) == []


def test_the_flops_of_a_method_are_those_of_its_settings(tmp_path):
    given = {"gse": {"subset": 3.0, "every": 5}, "set": {"every": 5}, "rigl": {"every": 5}}
    flops = {}
    for name, settings in given.items():
        (one,) = compare(
            "digits-mlp", [name], densities=[0.1], seeds=1, folder=tmp_path, epochs=1, rule_settings=settings
        )
        flops[name] = one.flops
    assert flops["set"] == pytest.approx(0.1, rel=1e-3)
    assert flops["gse"] == pytest.approx(0.1 + 0.1 * 3 / 3 / 6, rel=1e-3)
    assert flops["rigl"] == pytest.approx(0.1 + 0.9 / 3 / 6, rel=1e-3)


def test_scores_pay_once_for_what_they_look_at(tmp_path):
    # Passes of one example each, with 10 of each of 10 classes; SynFlow looks at ones. Training: 3 * 2 * 1197.
    once = {"snip": 3 * 100, "force": 60 * 3 * 100, "grasp": 8 * 100, "synflow": 100 * 3, "taylor": 300, "magnitude": 0}
    for one in compare("digits-mlp", list(once), densities=[0.1], seeds=1, folder=tmp_path, epochs=2):
        (history,) = [read_run(tmp_path / experiment_of(one.method, "digits-mlp", 0.1, 0, epochs=2).folder_name)]
        assert one.flops == pytest.approx(history.last("density") + once[one.method] / (3 * 2 * 1197), rel=1e-3)


def test_a_score_of_unknown_cost_takes_part_without_a_wrong_number(monkeypatch, tmp_path):
    monkeypatch.setattr(SNIP, "passes", math.nan)
    (one,) = compare("digits-mlp", ["snip"], densities=[0.1], seeds=1, folder=tmp_path, epochs=1)
    assert math.isnan(one.flops)
    assert "| - |" in markdown_of(table_of([one, replace(one, seed=1)]))
    known = table_of([one, replace(one, seed=1, flops=0.5)])
    assert known["flops"].tolist() == [0.5]


def test_the_accuracy_is_that_of_the_end_though_it_was_better_before(tmp_path):
    how = {"densities": [0.1], "seeds": 1, "folder": tmp_path, "epochs": 2}
    (first,) = compare("digits-mlp", ["static"], **how)
    (metrics,) = tmp_path.glob("*/metrics.jsonl")
    rows = read_rows(metrics)
    early = next(place for place, row in enumerate(rows) if row.name == "test accuracy")
    write_rows(metrics, [*rows[:early], rows[early]._replace(value=1.0), *rows[early + 1 :]])
    assert list(compare("digits-mlp", ["static"], **how)) == [first]


def test_memory_is_that_of_the_densest_moment(tmp_path):
    cells = compare("digits-mlp", ["static", "gmp"], densities=[0.05], seeds=1, folder=tmp_path, epochs=2)
    sizes = {one.method: one.bytes for one in cells}
    assert sizes["gmp"] == 84_480 * 8  # a value and a momentum for each weight
    assert sizes["static"] < sizes["gmp"] / 5


def test_memory_counts_what_a_rule_remembers_with_the_layers(tmp_path):
    chosen = ["static", "set", "snfs", "deepr", "sr-ste", "top-kast"]
    cells = compare("digits-mlp", chosen, densities=[0.05], seeds=1, folder=tmp_path, epochs=1)
    sizes = {one.method: one.bytes for one in cells}
    assert sizes["set"] == sizes["static"]
    assert sizes["sr-ste"] == 84_480 * 8
    assert sizes["snfs"] == sizes["sr-ste"] + 84_480 * 4  # the momentum of all weights
    assert sizes["top-kast"] == sizes["sr-ste"] + 84_480 * 4  # the values of all weights beside those in training
    assert sizes["deepr"] == sizes["static"] + 4224 * (8 + 1)  # a place and a sign for each connection


def test_only_missing_cells_are_run(tmp_path, monkeypatch):
    list(compare("digits-mlp", ["static"], densities=[0.1], seeds=1, folder=tmp_path, epochs=1))
    made = []
    monkeypatch.setattr(
        Work,
        "_create",
        lambda self: made.append(self.experiment.seed) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        list(compare("digits-mlp", ["static"], densities=[0.1], seeds=2, folder=tmp_path, epochs=1))
    assert made == [1]


@pytest.mark.parametrize("until", [1, None])
def test_seconds_that_nobody_took_are_not_told(until, tmp_path):
    how = {"densities": [0.1], "seeds": 1, "folder": tmp_path, "epochs": 1}
    run(experiment_of("static", "digits-mlp", 0.1, 0, epochs=1), tmp_path, progress=False, until=until)
    (first,) = compare("digits-mlp", ["static"], **how)
    (again,) = compare("digits-mlp", ["static"], **how)
    assert math.isnan(first.seconds)
    assert math.isnan(again.seconds)
    assert table_of([first, cell(seed=1, method="static", seconds=3.0)])["seconds"].tolist() == [3.0]
    assert markdown_of(table_of([first])).splitlines()[-1].split(" | ")[5] == "-"


def test_unknown_methods_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="method must be one of dense, "):
        list(compare("digits-mlp", ["static", "magic"], folder=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", methods())
def test_every_method_trains_under_the_same_protocol(method):
    """A warm-up, another optimizer or more epochs for some would be no comparison."""
    mine, static = (experiment_of(name, "digits-mlp", 0.1, 3) for name in (method, "static"))
    assert replace(mine, rule=static.rule, score=None, density=static.density) == static


def test_a_mask_from_before_training_stays_as_it_is():
    for score in registry.names("score"):
        if score in methods():
            assert isinstance(experiment_of(score, "digits-mlp", 0.1, 0).rule, Static)


def test_patterns_get_the_group_that_comes_nearest_to_the_density():
    groups = {0.1: (1, 10), 0.05: (1, 20), 0.02: (1, 50), 0.4: (2, 5), 0.7: (7, 10), 0.75: (3, 4), 1.0: (1, 1)}
    for density, group in groups.items():
        for method in ("dynamic-n-of-m", "sr-ste"):
            rule = experiment_of(method, "digits-mlp", density, 0).rule
            assert (rule.n, rule.m) == group


def test_a_run_of_a_pattern_keeps_its_folder():
    of_patterns = [
        experiment_of(method, "digits-mlp", 0.05, 0, init="dense") for method in ("dynamic-n-of-m", "sr-ste")
    ]
    names = {experiment.folder_name for experiment in of_patterns}
    assert names == {"digits-mlp-afe4d19c7f", "digits-mlp-aa1489661c"}


def test_the_table_has_means_errors_and_medians_best_first():
    cells = [cell(seed=s, accuracy=a, seconds=t) for s, a, t in ((0, 0.4, 1.0), (1, 0.6, 2.0), (2, 0.5, 9.0))]
    table = table_of([*cells, cell(method="rigl", accuracy=0.9)])
    assert list(table["method"]) == ["rigl", "set"]
    row = table.iloc[1]
    assert row["accuracy"] == pytest.approx(0.5)
    assert row["error"] == pytest.approx(0.1 / math.sqrt(3))
    assert (row["seeds"], row["seconds"]) == (3, 2.0)
    assert math.isnan(table.iloc[0]["error"])
    assert "| 0.1 | set | 50.00 ± 5.77 | 3 |" in markdown_of(table)
    assert "| 0.1 | rigl | 90.00 | 1 |" in markdown_of(table)


def test_the_figure_has_a_point_for_each_method_and_refuses_several_densities():
    table = table_of([cell(), cell(seed=1, accuracy=0.7), cell(method="rigl")])
    ax = plot_methods(table)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["rigl", "set"]
    with pytest.raises(ValueError, match="one row per method"):
        plot_methods(pd.concat([table, table]))
    with pytest.raises(ValueError, match="table_of"):
        plot_methods(table.drop(columns="error"))


def test_the_command_writes_a_table_and_figures(tmp_path):
    words = ["compare", "--method", "static", "--method", "snip", "--density", "0.1", "--seeds", "1", "--epochs", "1"]
    done = CliRunner().invoke(app, [*words, "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "| 0.1 | snip |" in done.output
    assert {"digits-mlp.csv", "digits-mlp.md", "digits-mlp-0.1.png"} <= {path.name for path in tmp_path.iterdir()}
    assert list(pd.read_csv(tmp_path / "digits-mlp.csv")["seeds"]) == [1, 1]


def test_the_command_names_what_it_does_not_know(tmp_path):
    done = CliRunner().invoke(app, ["compare", "--data", "mars", "--folder", str(tmp_path)])
    assert "data must be one of cifar10, cifar100, digits, fashion-mini, " in str(done.exception)


def test_a_name_with_a_bar_leaves_the_table_a_table():
    lines = markdown_of(table_of([cell(method="a|b")])).splitlines()
    assert lines[-1].replace(r"\|", "").count("|") == lines[0].count("|")
    assert r"| a\|b |" in lines[-1]
