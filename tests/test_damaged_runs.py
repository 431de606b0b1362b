"""Whatever bit flips in whatever file a run leaves behind: nothing that was not measured is ever returned."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_helpers import same

from sparsekit import cli
from sparsekit.experiments import (
    Experiment,
    load_initial_state,
    load_model,
    read_experiment,
    read_run,
    run,
    save_initial_state,
)
from sparsekit.experiments.record import write_experiment
from sparsekit.models import build
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import DeepR, RigL
from sparsekit.scores import Magnitude
from sparsekit.tickets import TicketBook, read_ticket
from sparsekit.train import CheckpointError, save_checkpoint
from sparsekit.train.history import append_rows, code_version, read_rows, write_rows
from sparsekit.utils import registry
from sparsekit.utils.files import write_json

FLIPS, CUTS = 12, 5
FINISHED = Experiment(
    recipe="finished",
    model_settings={"hidden": (8,)},
    density=0.3,
    rule=RigL(every=2, stop=5, drop_fraction=0.5),
    epochs=2,
    batch_size=400,
)


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    finished = run(FINISHED, tmp_path_factory.mktemp("runs"), progress=False)
    assert finished.journal.steps == [0, 2, 4]
    return finished


@pytest.fixture
def put(history):
    """`put("journal", data)` puts other bytes in a file's place, until the test has ended."""
    before = {path: path.read_bytes() for path in history.folder.iterdir()}

    def replace(name, data):
        (history.folder / name).write_bytes(data)

    yield replace
    for path, data in before.items():
        path.write_bytes(data)


def damaged(whole: bytes, seed: int):
    """Yield copies with a flipped bit each, and copies that were cut off."""
    draw = random.Random(seed)
    for _ in range(FLIPS):
        position = draw.randrange(len(whole))
        yield whole[:position] + bytes([whole[position] ^ 1 << draw.randrange(8)]) + whole[position + 1 :]
    for size in (0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(CUTS))):
        yield whole[:size]


READERS = {
    "experiment.json": [read_run, load_model, lambda folder: run(FINISHED, folder.parent, progress=False)],
    "metrics.jsonl": [read_run, lambda folder: run(FINISHED, folder.parent, progress=False)],
    "journal": [read_run, lambda folder: run(FINISHED, folder.parent, progress=False)],
    "checkpoint.pt": [read_run, load_model, lambda folder: run(FINISHED, folder.parent, progress=False)],
}


@pytest.mark.parametrize("name", READERS)
def test_no_flipped_bit_and_no_cut_in_a_finished_run_is_silent(name, history, put):
    for number, data in enumerate(damaged((history.folder / name).read_bytes(), seed=len(name))):
        put(name, data)
        read = READERS[name][number % len(READERS[name])]
        with pytest.raises(ValueError, match=rf"{name.replace('.', '[.]')} .*must .*, got .*[;.] ") as error:
            read(history.folder)
        assert str(history.folder / name) in str(error.value)


def test_metrics_cut_between_two_lines_are_missed_wherever_it_is(history, put):
    lines = (history.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for count in (0, int(0.6 * len(lines)), len(lines) - 1):
        put("metrics.jsonl", b"".join(lines[:count]))
        with pytest.raises(CheckpointError, match=rf"metrics\.jsonl must hold {len(lines)} rows, .* got {count},"):
            read_run(history.folder)
    (history.folder / "metrics.jsonl").unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl must hold .*, got 0, the last of step none\. Delete"):
        run(FINISHED, history.folder.parent, progress=False)


def test_a_journal_without_its_last_record_and_that_of_another_run_are_missed(history, put, tmp_path):
    other = Journal.create(tmp_path / "journal", history.journal.initial)
    for step, change in history.journal.entries[:-1]:
        other.add(step, change)
    put("journal", (tmp_path / "journal").read_bytes())
    with pytest.raises(CheckpointError, match=r"journal must hold 3 rewirings up to the checkpoint, got 2\. Delete"):
        read_run(history.folder)
    other.add(4, type(history.journal.entries[0][1])({}, {}))
    put("journal", (tmp_path / "journal").read_bytes())
    with pytest.raises(CheckpointError, match=r"journal must hold every rewiring .*, got 3 that lead to another"):
        run(FINISHED, history.folder.parent, progress=False)
    (history.folder / "journal").unlink()
    with pytest.raises(CheckpointError, match=r"a journal must exist at .*journal, got none. Give"):
        read_run(history.folder)


def test_a_row_that_was_changed_by_hand_is_refused_by_its_number(history, put):
    lines = (history.folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    put("metrics.jsonl", b"".join([*lines[:2], lines[2].replace(b'"value": ', b'"value": 9'), *lines[3:]]))
    with pytest.raises(CheckpointError, match=r"line 3 of .*metrics\.jsonl must be a row as it was written, got"):
        read_run(history.folder)


def test_rows_are_read_as_they_were_written_and_a_torn_one_is_left_out(history, tmp_path):
    write_rows(tmp_path / "m", history.rows[:2])
    append_rows(tmp_path / "m", history.rows[2:])
    assert read_rows(tmp_path / "m") == history.rows
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:-9])
    assert read_rows(tmp_path / "m") == history.rows[:-1]


def test_an_experiment_of_another_run_in_the_folder_is_refused(history, put, tmp_path):
    from dataclasses import replace

    write_experiment(tmp_path, replace(FINISHED, seed=3))
    put("experiment.json", (tmp_path / "experiment.json").read_bytes())
    with pytest.raises(CheckpointError, match=r"experiment\.json must be of the experiment .*, got another\. Delete"):
        run(FINISHED, history.folder.parent, progress=False)


def test_a_checkpoint_that_no_run_wrote_cannot_vouch_for_one(history, put):
    model = load_model(history.folder)
    save_checkpoint(history.folder / "checkpoint.pt", model, torch.optim.SGD(model.parameters()), step=6)
    with pytest.raises(CheckpointError, match="must hold its number of rows, got .*. It is not one that run wrote"):
        read_run(history.folder)


def test_a_checkpoint_of_another_network_is_refused(history, put):
    model = build("mlp", input_shape=(64,), num_classes=10, hidden=(9,))
    save_checkpoint(history.folder / "checkpoint.pt", model, torch.optim.SGD(model.parameters()), step=6)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt must be of the network in experiment\.json, got"):
        load_model(history.folder)


# --- tickets, states, costs -----------------------------------------------------------------------------------------


def test_no_flipped_bit_and_no_cut_in_a_ticket_or_a_saved_state_is_silent(history, tmp_path):
    model = load_model(history.folder)
    book = TicketBook(tmp_path)
    book.add(model, step=6, accuracy=0.5)
    name = save_initial_state(tmp_path, model)
    for path, read in {
        book.path_of(6): lambda: book.at(6),
        tmp_path / "initial_states" / f"{name}.safetensors": lambda: load_initial_state(tmp_path, name, model),
    }.items():
        whole = path.read_bytes()
        for data in damaged(whole, seed=1):
            path.write_bytes(data)
            with pytest.raises(ValueError, match=rf"{path.name} must .*, got .*[;.] "):
                read()
        path.write_bytes(whole)
        read()


def test_a_ticket_is_in_memory_whatever_becomes_of_its_file(history, tmp_path):
    book = TicketBook(tmp_path)
    book.add(load_model(history.folder), step=6)
    ticket = read_ticket(book.path_of(6))
    before = {name: values.clone() for name, values in ticket.values.items()}
    with book.path_of(6).open("r+b") as file:  # in place, as no careful program writes
        file.write(b"\xff" * book.path_of(6).stat().st_size)
    assert same(dict(ticket.values), before)
    book.path_of(6).write_bytes(b"")
    assert same(dict(ticket.values), before)
    ticket.values["head"].zero_()


def test_a_ticket_under_the_name_of_another_step_and_one_without_a_step_are_refused(history, tmp_path):
    book = TicketBook(tmp_path)
    book.add(load_model(history.folder), step=6)
    book.path_of(6).rename(book.path_of(7))
    with pytest.raises(ValueError, match=r"ticket-000000007.safetensors must hold the ticket of step 7, got .* step 6"):
        list(book)
    book.path_of(7).rename(tmp_path / "ticket-best.safetensors")
    with pytest.raises(ValueError, match=r"must be called ticket-STEP.safetensors, got .*ticket-best.safetensors"):
        len(book)


def test_what_a_run_took_is_refused_where_it_is_damaged(tmp_path):
    from sparsekit.experiments.compare import COST_FILE, _timed_runs

    ((_, seconds),) = _timed_runs([FINISHED], tmp_path, None).values()
    assert _timed_runs([FINISHED], tmp_path, None)[FINISHED.folder_name][1] == seconds
    path = tmp_path / FINISHED.folder_name / COST_FILE
    path.write_text('{"seconds": 0.1}')
    with pytest.raises(ValueError, match=r"cost\.json must hold what sparsekit wrote .*, got .*. Put a good copy"):
        _timed_runs([FINISHED], tmp_path, None)


# --- the command line -----------------------------------------------------------------------------------------------


def said(capsys, monkeypatch, *words) -> str:
    monkeypatch.setattr(sys, "argv", ["sparsekit", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_tickets_of_a_folder_without_any_are_an_error_that_says_where_they_are(history, capsys, monkeypatch, tmp_path):
    assert "got " + str(tmp_path / "none") + " with no such folder. Give" in said(
        capsys, monkeypatch, "tickets", tmp_path / "none"
    )
    assert "with no ticket in it. Give the one that" in said(capsys, monkeypatch, "tickets", history.folder)
    book = TicketBook(tmp_path / "run" / "tickets")
    book.add(load_model(history.folder), step=6)
    assert f"Give {book.folder}" in said(capsys, monkeypatch, "tickets", tmp_path / "run")
    book.path_of(6).write_bytes(b"\xff" * 40)
    assert "6.safetensors must be a whole ticket file" in said(capsys, monkeypatch, "tickets", book.folder)


@pytest.mark.parametrize("name", ["experiment.json", "metrics.jsonl", "journal", "checkpoint.pt"])
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\n\n"])
def test_a_run_with_a_foreign_file_gets_one_sentence_with_its_name(name, content, history, put, capsys, monkeypatch):
    put(name, content)
    assert name in said(capsys, monkeypatch, "show", history.folder)


def test_results_that_are_damaged_get_one_sentence_with_their_name(tmp_path):
    from sparsekit.analysis.costs.benchmark import load

    head = '{"about": {}, "rows": 1}\n'
    for content in ("", "[]", '{"about": {}}', head, head + "{}\n", '{"about": [], "rows": 0}\n'):
        (tmp_path / "layers.jsonl").write_text(content)
        with pytest.raises(ValueError, match=r"layers\.jsonl must hold results that bench wrote, got .*\. Put a good"):
            load(tmp_path / "layers.jsonl")


# --- what a run was made with ---------------------------------------------------------------------------------------


class Mine(Magnitude):
    """A score of a user's own."""


def my_data(**_):
    raise NotImplementedError


def test_a_run_with_things_of_the_users_own_says_which_module_to_import(tmp_path, monkeypatch):
    registry.names("score"), registry.names("data")
    for kind, name, thing in (("score", "mine", Mine), ("data", "my-data", my_data), ("model", "here", my_data)):
        registry.names(kind)
        monkeypatch.setitem(registry._registered[kind], name, thing)
    monkeypatch.setattr(Mine, "__module__", "my_scores")
    monkeypatch.setattr(my_data, "__module__", "__main__")
    experiment = Experiment(data="my-data", model="here", score=Mine(), rule=DeepR(stop=4), density=0.1)
    write_experiment(tmp_path, experiment)
    assert read_experiment(tmp_path) == experiment
    del registry._registered["score"]["mine"]
    with pytest.raises(ValueError, match=r"json must find score mine registered, got none\. Import my_scores, which"):
        read_experiment(tmp_path)
    registry._registered["score"]["mine"] = Mine
    del registry._registered["data"]["my-data"], registry._registered["model"]["here"]
    with pytest.raises(
        ValueError, match=r"must find data my-data, model here registered, got none\. Run the code that"
    ):
        read_experiment(tmp_path)


def test_an_experiment_of_another_version_is_refused_with_its_file(tmp_path):
    write_json(tmp_path / "experiment.json", {"kind": "experiment", "name": "experiment", "unheard_of": 3})
    with pytest.raises(ValueError, match=r"experiment\.json must be an experiment of this version, got .*unheard_of"):
        read_experiment(tmp_path)


def test_a_run_starts_without_git_and_says_that_it_knows_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git" in code_version() or "unknown commit" in code_version()
    history = run(FINISHED, tmp_path, progress=False, until=1)
    assert (history.folder / "code.txt").read_text().startswith("sparsekit ")


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), PermissionError("git"), subprocess.TimeoutExpired("git", 20)]
)
def test_a_git_that_cannot_be_asked_stops_no_run(error, monkeypatch):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(subprocess, "run", failing)
    assert code_version().startswith("sparsekit of an unknown commit\n")


def test_a_package_inside_somebody_elses_project_does_not_take_over_its_commit(tmp_path, monkeypatch):
    import importlib

    module = importlib.import_module("sparsekit.train.history")
    inside = tmp_path / "project" / "venv" / "site-packages" / "sparsekit" / "train"
    inside.mkdir(parents=True)
    (tmp_path / "project" / ".git").mkdir()
    monkeypatch.setattr(module, "__file__", str(inside / "history.py"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("asked git"))
    assert code_version().startswith("sparsekit not a git checkout\n")
