"""A process that trains keeps the memory it frees, says so once, and can be told not to."""

import logging
import math
import os
import subprocess
import sys

import pytest

from sparsekit.utils import memory
from sparsekit.utils.memory import keep_freed_memory, page_faults

TRAINED = """
import torch
from torch import nn
from sparsekit.train import fit
from sparsekit.utils.memory import page_faults

model = nn.Linear(4, 2)
batches = [(torch.ones(3, 4), torch.zeros(3).long())]
fit(model, torch.optim.SGD(model.parameters(), lr=0.1), batches, epochs=1, progress=False)
faults = []
for _ in range(3):
    before = page_faults()
    torch.ones(2**24)  # 64 MiB, more than the C library keeps by itself
    faults.append(page_faults() - before)
print(min(faults))
"""


def faults_after_training(**environment: str) -> float:
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0", **environment}
    command = [sys.executable, "-c", TRAINED]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not keep_freed_memory(), reason="only the GNU C library can be told to keep memory")
def test_who_trains_keeps_memory_unless_the_environment_forbids_it():
    assert faults_after_training() < 100 < faults_after_training(SPARSEKIT_KEEP_MEMORY="0")


def test_it_is_said_once_and_not_as_a_warning(caplog, monkeypatch):
    monkeypatch.delenv(memory.KEEP, raising=False)
    memory._say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="sparsekit"):
        can = keep_freed_memory(), keep_freed_memory()
    assert [record.levelname for record in caplog.records] == ["INFO"] * can[0]


def test_nothing_is_kept_and_said_where_the_environment_forbids_it(caplog, monkeypatch):
    monkeypatch.setenv(memory.KEEP, "0")
    memory._say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="sparsekit"):
        assert not keep_freed_memory()
    assert not caplog.records


def test_page_faults_are_counted_or_not_known(monkeypatch):
    before = page_faults()
    assert math.isnan(before) or page_faults() >= before
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(page_faults())
