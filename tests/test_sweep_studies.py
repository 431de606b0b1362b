"""`compare`, the lottery and Sup-tickets with several workers give what they give with one."""

import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
from test_sweep import Here
from typer.testing import CliRunner

from sparsekit import cli
from sparsekit.cli import superpositions
from sparsekit.experiments.compare import compare
from sparsekit.experiments.sweeps import workers


@pytest.fixture
def crew(monkeypatch):
    """Workers that are this process. Returns the calls that they get, and how many workers were asked for."""
    client, asked = Here(), []

    @contextmanager
    def workers_or_none(count, threads=None):
        asked.append(count)
        yield client if count > 1 else None

    monkeypatch.setattr(workers, "POLL", 0.001)
    for module in (cli, superpositions, sys.modules["sparsekit.cli.compare"]):  # the package names a function so
        monkeypatch.setattr(module, "workers_or_none", workers_or_none)
    return client, asked


def printed(*words: str) -> str:
    result = CliRunner().invoke(cli.app, [*words, "--no-progress"], env={"COLUMNS": "40"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_methods_compared_by_workers_are_those_compared_here(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "POLL", 0.001)
    settings = {"densities": [0.1, 0.2], "seeds": 2, "epochs": 1, "batch_size": 500}
    here = list(compare("digits-mlp", ["static", "set"], folder=tmp_path / "here", **settings))
    client = Here()
    there = list(compare("digits-mlp", ["static", "set"], folder=tmp_path / "there", client=client, **settings))
    assert [[one.seed for one in group] for group in client.calls] == [[0, 1]] * 4
    assert [replace(one, seconds=0.0) for one in there] == [replace(one, seconds=0.0) for one in here]


def test_the_command_hands_workers_and_their_threads_to_the_comparison(crew, tmp_path, monkeypatch):
    clients = []
    monkeypatch.setattr(
        "sparsekit.experiments.compare.compare", lambda *_, client, **__: clients.append(client) or 1 / 0
    )
    for count in ("1", "3"):
        CliRunner().invoke(cli.app, ["compare", "--workers", count, "--folder", str(tmp_path)])
    assert clients == [None, crew[0]]
    assert crew[1] == [1, 3]


def test_controls_of_a_lottery_are_trained_by_workers(crew, tmp_path):
    words = ("lottery", "digits-mlp", "--epochs", "1", "--levels", "1", "--prune", "0.5")
    words += ("--control", "signs", "--control", "reinit", "--folder", str(tmp_path))
    assert printed(*words, "--workers", "2") == printed(*words)
    assert crew == (crew[0], [2, 1])
    assert crew[0].calls == ["signs", "reinit"]


def test_seeds_of_sup_tickets_and_their_controls_are_trained_by_workers(crew, tmp_path):
    words = ("sup-tickets", "digits-mlp", "--density", "0.3", "--epochs", "5", "--cycle-rate", "0.4")
    words += ("--cycle-epochs", "1", "--controls", "--seeds", "2", "--folder", str(tmp_path))
    told = printed(*words, "--workers", "2")
    shares = [[(one.experiment.seed, one.explore) for one in share] for share in crew[0].calls]
    assert shares == [[(0, 0.5), (2, 0.5), (0, 0.0)], [(1, 0.5), (3, 0.5), (1, 0.0)]]
    assert printed(*words) == told


def test_the_command_starts_no_process_for_one_worker():
    with cli.workers_or_none(1) as client:
        assert client is None
