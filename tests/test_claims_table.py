"""The claims table: every fact once, measured rows that survive an interruption, and a page that hides nothing."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparsekit import cli
from sparsekit.analysis.evidence.claims import Claim, Exact
from sparsekit.experiments import claims
from sparsekit.experiments.claims import FACTS, Fact, Trials, page_of, path_of, rows_of
from sparsekit.experiments.claims.base import facts_in

FASTEST = (11, 21, 22, 26, 38, 48)
MEASURED = [number for number, fact in FACTS.items() if fact.measure]


def invoke(*words: str):
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, ["claims", *words])


def test_every_fact_is_there_once():
    assert list(FACTS) == list(range(1, 49))
    with pytest.raises(ValueError, match="every fact must have a number of its own, got two of"):
        facts_in([claims.costs, claims.costs])


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: str(fact.number))
def test_every_fact_has_source_setting_and_command(fact: Fact):
    assert fact.text.endswith(".")
    assert fact.source.endswith(".")
    assert fact.setting
    assert fact.minutes > 0
    assert fact.seeds >= 6
    assert bool(fact.measure) != bool(fact.lacks)
    assert fact.command() == (fact.decides or f"sparsekit claims --only {fact.number}")


@pytest.mark.parametrize("number", FASTEST)
def test_what_needs_no_chance_comes_out(number, tmp_path):
    rows = list(rows_of(FACTS[number].with_seeds(2), tmp_path))
    exact = [row.measurement for row in rows if isinstance(row.measurement, Exact)]
    assert exact
    assert all(one.is_reproduced for one in exact), list(map(str, exact))


def test_a_fact_that_trains_trains_every_seed_once(tmp_path):
    fact = FACTS[3].with_seeds(2)
    few = replace(fact, measure=lambda trials: [next(iter(fact.measure(trials)))])  # one of its claims
    (row,) = rows_of(few, tmp_path, epochs=1)
    assert isinstance(row.measurement, Claim)
    assert row.measurement.seeds == 2
    runs = [folder for folder in tmp_path.iterdir() if (folder / "experiment.json").exists()]
    assert len(runs) == 4
    assert list(rows_of(few, tmp_path, epochs=1)) == [row]
    assert not path_of(fact, tmp_path).exists()  # of the whole training nothing was measured


def counting(calls: list[int], stop_at: int = 99) -> Fact:
    """Return a fact of three rows that counts them, and is interrupted at one of them."""

    def measure(trials: Trials) -> Iterator[Exact]:
        for number in range(3):
            if number == stop_at:
                raise KeyboardInterrupt
            calls.append(number)
            yield Exact(text=f"row {number}", predicted=1.0, measured=1.0, tolerance=0.0)

    return replace(FACTS[5], measure=measure)


def test_an_interrupted_fact_is_measured_again_and_a_finished_one_is_read(tmp_path):
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        list(rows_of(counting(calls, stop_at=2), tmp_path))
    assert len(list(rows_of(counting(calls), tmp_path))) == 3
    assert len(list(rows_of(counting(calls), tmp_path))) == 3
    assert calls == [0, 1, 0, 1, 2]


def test_another_number_of_seeds_is_another_measurement(tmp_path):
    calls: list[int] = []
    list(rows_of(counting(calls), tmp_path))
    list(rows_of(counting(calls).with_seeds(3), tmp_path))
    assert len(calls) == 6


@pytest.mark.parametrize("damage", [b"", b"nonsense\n"])
def test_a_damaged_file_says_what_to_do(damage, tmp_path):
    fact = counting([])
    list(rows_of(fact, tmp_path))
    path = path_of(fact, tmp_path)
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        list(rows_of(fact, tmp_path))
    assert "measure the fact again" in str(error.value)


def test_a_flipped_digit_is_noticed(tmp_path):
    fact = counting([])
    list(rows_of(fact, tmp_path))
    path = path_of(fact, tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"measured": 1.0', b'"measured": 2.0', 1))
    with pytest.raises(ValueError, match="line 1 of .* must be a row as it was written"):
        list(rows_of(fact, tmp_path))


def test_a_fact_without_a_measurement_is_not_measured(tmp_path):
    with pytest.raises(ValueError, match="fact 20 must have a measurement to be measured, got none"):
        list(rows_of(FACTS[20], tmp_path))


def test_the_command_prints_each_row_and_writes_the_page(tmp_path):
    page, folder = tmp_path / "pages" / "claims.md", tmp_path / "runs"
    result = invoke("--only", "21", "--only", "38", "--folder", str(folder), "--page", str(page))
    assert result.exit_code == 0, (result.output, result.exception)
    assert len(re.findall(r"^(?:21|38)  reproduced: ", result.output, re.MULTILINE)) == 4
    lines = page.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("| 21 |") and "`sparsekit claims --only 21`" in line for line in lines) == 2
    assert all(any(line.startswith(f"| {number} |") for line in lines) for number in FACTS)


@pytest.mark.parametrize("words", [("--only", "21"), ("--only", "21", "--seeds", "2")])
def test_some_facts_do_not_replace_the_table_of_all(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "docs" / "claims.md"
    page.parent.mkdir()
    page.write_text("all facts", encoding="utf-8")
    assert invoke(*words).exit_code == 0
    assert page.read_text(encoding="utf-8") == "all facts"


def test_facts_that_are_not_measured_anew_keep_their_lines(tmp_path):
    page, first, second = tmp_path / "claims.md", str(tmp_path / "first"), str(tmp_path / "second")
    assert invoke("--only", "21", "--only", "38", "--folder", first, "--page", str(page)).exit_code == 0
    before = page.read_text(encoding="utf-8")
    assert invoke("--only", "38", "--folder", second, "--page", str(page)).exit_code == 0
    assert page.read_text(encoding="utf-8") == before


def test_a_line_of_another_setting_is_not_kept(tmp_path):
    facts = {5: counting([])}
    list(rows_of(facts[5], tmp_path))
    page = page_of(facts, tmp_path)
    assert "row 2" in page_of(facts, tmp_path / "empty", page)
    assert "row 2" not in page_of({5: replace(facts[5], setting="another")}, tmp_path / "empty", page)


def test_what_nothing_measures_is_said_and_never_decided(tmp_path):
    text = page_of(FACTS, tmp_path)
    assert "not run here: " in text
    assert "not measured yet: " in text
    assert not re.search(r"\*\*(reproduced|contradicted|undecided)\*\*", text)
    result = invoke("--only", "20", "--folder", str(tmp_path), "--page", str(tmp_path / "claims.md"))
    assert "20  not measured: the released code itself" in result.output


@pytest.mark.parametrize(("words", "message"), [(("--only", "49"), r"must have a number from 1 to 48, got \[49\]")])
def test_a_number_that_is_no_fact_is_refused(words, message, tmp_path):
    page: Path = tmp_path / "claims.md"
    result = invoke(*words, "--page", str(page))
    assert isinstance(result.exception, ValueError)
    assert re.search(message, str(result.exception))
    assert not page.exists()
