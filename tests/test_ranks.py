"""Processes that train one run together do what one process does with as many micro-batches, even if one is killed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparsekit.experiments import recipes, run, run_on_ranks
from sparsekit.experiments.ranks import cpu_for, fit_to
from sparsekit.utils.ranks import Ranks, ranks_for, sharing_micro_batches

WORKER = Path(__file__).with_name("ranks_worker.py")
TINY = {"density": 0.2, "epochs": 2, "rule_settings": {"every": 7}}
EXPERIMENTS = (
    recipes.digits_small(rule="rigl", **TINY),
    recipes.digits_small(rule="gse", storage="csr", seed=1, **TINY),
)


def launched(folder, *, processes: int = 2) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{WORKER.parents[1]}:{WORKER.parent}"}
    command += ["--max-restarts=1", "--monitor-interval=0.1", str(WORKER), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    done = launched(folder)
    assert done.returncode == 0, done.stderr
    assert "SIGKILL" in done.stderr or "-9" in done.stderr
    return folder


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: f"{one.storage}-{type(one.rule).__name__}")
def test_two_processes_of_which_one_was_killed_do_what_one_does_bit_for_bit(together, experiment, tmp_path):
    alone = run(replace(experiment, micro_batches=2), tmp_path, progress=False)
    both = run(replace(experiment, micro_batches=2), together, progress=False)
    assert both.rows == alone.rows
    assert both.journal.entries[-1][0] == alone.journal.entries[-1][0]
    assert list(both.journal.topologies()) == list(alone.journal.topologies())
    assert len(alone.journal) >= 3
    states = [torch.load(one.folder / "checkpoint.pt", weights_only=True)["model"] for one in (both, alone)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_nothing_is_left_beside_the_run(together):
    assert sorted(path.name for path in together.iterdir()) == sorted(
        replace(one, micro_batches=2).folder_name for one in EXPERIMENTS
    )


def test_without_a_launcher_it_is_run(tmp_path):
    experiment = replace(EXPERIMENTS[0], epochs=1, rule=recipes.digits_small(rule="static").rule)
    assert (
        run_on_ranks(experiment, tmp_path / "a", progress=False).rows
        == run(experiment, tmp_path / "b", progress=False).rows
    )


def test_the_number_of_micro_batches_must_be_that_of_the_processes():
    with pytest.raises(ValueError, match="micro_batches must be 1 or the number of processes, 4, got 2. Leave it out"):
        fit_to(replace(EXPERIMENTS[0], micro_batches=2), Ranks(0, 4))
    assert fit_to(EXPERIMENTS[0], Ranks(3, 4)).micro_batches == 4


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_several_processes_refuse_a_device_that_is_no_cpu_before_they_meet(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0"), monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=f"several processes must train on CPUs, .* got device {name}. Choose cpu"):
        run_on_ranks(EXPERIMENTS[0], tmp_path / "runs", device=name)
    monkeypatch.setenv("SPARSEKIT_DEVICE", name)
    with pytest.raises(ValueError, match="several processes must train on CPUs"):
        run_on_ranks(EXPERIMENTS[0], tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_several_processes_take_the_cpu_where_the_device_is_left_to_them(monkeypatch):
    monkeypatch.delenv("SPARSEKIT_DEVICE", raising=False)
    assert [cpu_for(name) for name in (None, "auto", "cpu")] == ["cpu"] * 3
    with pytest.raises(ValueError, match="device must be one of"):
        cpu_for("tpu")


def test_an_option_that_run_does_not_have_is_refused(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        run_on_ranks(EXPERIMENTS[0], tmp_path, colour="red")


def test_a_pass_that_is_captured_is_computed_whole():
    with sharing_micro_batches(Ranks(1, 3)):
        assert [ranks_for(capture=True).computes(number) for number in range(3)] == [True] * 3
        assert [ranks_for(capture=False).computes(number) for number in range(3)] == [False, True, False]
    assert ranks_for(capture=False) == Ranks()
