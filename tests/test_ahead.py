"""Kernels that are compiled ahead are all that a training needs."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sparsekit.cli import app
from sparsekit.kernels import ahead

pytest.importorskip("numba")

TRAINING = """
import gc, sys
import torch
from numba.core.dispatcher import Dispatcher
from torch import nn
import sparsekit as sk
from sparsekit.kernels import ahead

threads = int(sys.argv[1])
for name in ahead.GROUPS:
    ahead.compile_group(name, threads)

def compiled():
    functions = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {(one.py_func.__qualname__, types) for one in functions for types in one.signatures}

before = compiled()
torch.set_num_threads(threads)
net = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, bias=False),
    nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 40), nn.ReLU(), nn.Linear(40, 10),
)
tokens = nn.Sequential(nn.Linear(72, 40), nn.LayerNorm(40), nn.GELU(), nn.Linear(40, 10))
for plain, x in ((net, torch.rand(40, 3, 8, 8)), (net[-3:], torch.rand(40, 72)), (tokens, torch.rand(800, 72))):
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.4, seed=0), "csr")
    nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long)).backward()
print(sorted(str(one) for one in compiled() - before), len(before))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_compiles_nothing_more(threads):
    done = subprocess.run([sys.executable, "-c", TRAINING, str(threads)], capture_output=True, text=True, check=True)
    more, _, count = done.stdout.strip().rpartition(" ")
    assert more == "[]"
    assert int(count) > 10


def test_the_command_says_what_is_ready(monkeypatch):
    monkeypatch.setattr(ahead, "GROUPS", {"batch norms": ahead.GROUPS["batch norms"]})
    result = CliRunner().invoke(app, ["warm-up", "--threads", "1", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "ready: batch norms" in result.output
    assert "1/1" in result.output


@pytest.mark.parametrize("settings", [{"threads": 0}, {"threads": 1, "workers": 0}])
def test_no_thread_or_no_worker_is_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1, got .*Leave workers away"):
        next(ahead.compile_ahead(**settings))
