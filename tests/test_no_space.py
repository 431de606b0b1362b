"""A full disk, or a limit on files: the error says so, what was there before stays, and a later call continues."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from test_resume import RIGL, assert_same_run
from test_resume import _dropout_model as _dropout_model  # a fixture that every test here uses
from training_helpers import OPTIMIZERS, tiny

from sparsekit import cli
from sparsekit.analysis.landscape import planes as landscape
from sparsekit.experiments import read_run, run, save_initial_state
from sparsekit.layers import topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.tickets import Ticket, write_ticket
from sparsekit.train import save_checkpoint
from sparsekit.train.history import Row, append_rows, write_rows
from sparsekit.utils import files
from sparsekit.utils.files import append, write_json, write_text

NO_SPACE = r"there must be room to write .*{name}, got no space \(File too large\)\. What was there before is whole"


@contextmanager
def room_for(size: int):
    """Let no file grow beyond so many bytes. What the system then says is handled like what a full disk says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoint(path, seed):
    model = tiny()
    save_checkpoint(path, model, OPTIMIZERS["sgd"](model.parameters()), step=seed)


def journal(path, seed):
    Journal.create(path, topology_of(tiny()))


ROWS = [Row(step, 0, "train loss", 0.5) for step in range(50)]
WRITERS = {
    "checkpoint": checkpoint,
    "ticket": lambda path, seed: write_ticket(Ticket.of(tiny(), step=seed), path),
    "journal": journal,
    "rows": lambda path, seed: write_rows(path, [row._replace(epoch=seed) for row in ROWS]),
    "more rows": lambda path, seed: append_rows(path, [row._replace(epoch=seed) for row in ROWS]),
    "text": lambda path, seed: write_text(path, f"{seed}" * 5000),
    "json": lambda path, seed: write_json(path, {"seed": [seed] * 5000}),
    "surface": lambda path, seed: landscape._write(path, "mark", [np.full((90, 2), seed)]),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("is_there", [True, False], ids=["over an old one", "for the first time"])
def test_whatever_is_written_says_that_there_is_no_space_and_keeps_the_old_file(kind, is_there, tmp_path):
    write, path = WRITERS[kind], tmp_path / "file"
    if is_there:
        write(path, 1)
    before = path.read_bytes() if is_there else None
    with (
        room_for(300 if before is None or kind != "more rows" else len(before) + 300),
        pytest.raises(OSError, match=NO_SPACE.format(name="file")),
    ):
        write(path, 2)
    assert list(tmp_path.iterdir()) == ([path] if is_there or path.exists() else [])
    assert before == (path.read_bytes() if is_there else None)
    if path.exists() and not is_there:
        assert path.read_bytes() == b""  # a file that grows is there from its first byte on


def test_a_state_says_that_there_is_no_space_and_is_not_taken_for_saved(tmp_path):
    with room_for(300), pytest.raises(OSError, match=NO_SPACE.format(name="safetensors")):
        save_initial_state(tmp_path, tiny())
    assert list((tmp_path / "initial_states").iterdir()) == []


def test_a_rewiring_that_could_not_be_recorded_is_neither_in_memory_nor_in_the_file(tmp_path):
    journal = Journal.create(tmp_path / "journal", topology_of(tiny()))
    none = TopologyUpdate({"0": torch.tensor([], dtype=torch.int64)}, {})
    size = journal.path.stat().st_size
    with room_for(size + 5), pytest.raises(OSError, match=NO_SPACE.format(name="journal")):
        journal.add(3, none)
    assert journal.steps == Journal.read(journal.path).steps == []
    journal.add(4, none)
    assert journal.steps == Journal.read(journal.path).steps == [4]


@pytest.mark.parametrize("room", [100, 4000])
def test_a_run_that_found_no_space_continues_when_there_is_some_and_ends_as_if_nothing_had_been(room, tmp_path):
    run(RIGL, tmp_path / "stopped", progress=False, until=4)
    folder = tmp_path / "stopped" / RIGL.folder_name
    before = (folder / "checkpoint.pt").read_bytes()
    with room_for(room), pytest.raises(OSError, match="got no space"):
        run(RIGL, tmp_path / "stopped", progress=False)
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert not list(folder.glob(".*.new"))
    assert len(read_run(folder).values("train loss")) >= 4
    again = run(RIGL, tmp_path / "stopped", progress=False)
    assert_same_run(again, run(RIGL, tmp_path / "whole", progress=False))


def test_another_error_while_writing_stays_what_it_is(tmp_path):
    def broken(_):
        raise ValueError("not about space")

    with pytest.raises(ValueError, match="not about space"):
        files.write_atomically(tmp_path / "a", broken)
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "a", "text")
    with pytest.raises(IsADirectoryError):
        append(tmp_path, b"text")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_in_one_sentence_that_there_is_no_space(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sparsekit", "train", "digits-mlp", "--folder", str(tmp_path), "--no-progress"])
    with room_for(3000), pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: ")
    assert "got no space (File too large)" in err
