"""Copies of notebooks keep what a reader has changed, progress survives damage, and handouts hold what they should."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sparsekit import cli
from sparsekit.cli.course import copies, lab
from sparsekit.cli.course.copies import Update, reset_copy, update_copies
from sparsekit.cli.course.handout import build_student, build_teacher, predictions_in
from sparsekit.experiments.course import progress
from sparsekit.utils.notebook_files import HOOK, drop_dead_views
from sparsekit.widgets import Contents

ROOT = Path(__file__).parents[1]
TEXT = "# 0. Start here\n\n**15 minutes** · needs: Python"
PREDICT = 'guess = widgets.Predict(\n    "How many?", ["few", "many"], 1, "We counted."\n)'
CHECK_YOURSELF = (
    "## Check yourself\n\n<details><summary>Why?</summary>\nBecause\nit is so.\n</details>\n\n## Go further"
)
SOLUTION = "<details><summary>Solution</summary>\n\nsecret\n</details>"


def write(path: Path, *cells: tuple[str, str]) -> Path:
    """Write a notebook of (kind, source) cells."""
    made = [{"cell_type": kind, "source": source, "outputs": [{"x": 1}]} for kind, source in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": made, "nbformat": 4}))
    return path


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "notebooks"
    markdown = [("markdown", text) for text in (TEXT, SOLUTION, CHECK_YOURSELF)]
    write(folder / "00_start_here.ipynb", *markdown, ("code", PREDICT))
    write(folder / "03_guided.ipynb", ("markdown", "# 3. Guided\n\n**40 minutes**"))
    (folder / "solutions.py").write_text("secret")
    return folder


@pytest.fixture
def mine(originals, tmp_path):
    folder = tmp_path / "work"
    update_copies(originals, folder)
    return folder


# --- copies -------------------------------------------------------------------------------------------------------


def test_notebooks_are_copied_once_and_nothing_else_is(originals, mine):
    assert sorted(path.name for path in mine.iterdir()) == [".copies.json", "00_start_here.ipynb", "03_guided.ipynb"]
    assert update_copies(originals, mine) == Update()


def test_a_copy_that_nobody_has_changed_follows_its_original(originals, mine):
    newer = write(originals / "03_guided.ipynb", ("markdown", "# 3. Newer"))
    assert update_copies(originals, mine) == Update(renewed=("03_guided.ipynb",))
    assert (mine / "03_guided.ipynb").read_bytes() == newer.read_bytes()


def test_a_copy_that_was_changed_stays_and_the_reader_hears_of_a_newer_original(originals, mine):
    own = write(mine / "03_guided.ipynb", ("code", "my answer"))
    before = own.read_bytes()
    assert update_copies(originals, mine) == Update()
    write(originals / "03_guided.ipynb", ("markdown", "# 3. Newer"))
    assert update_copies(originals, mine) == update_copies(originals, mine) == Update(outdated=("03_guided.ipynb",))
    assert own.read_bytes() == before


@pytest.mark.parametrize("damage", ["gone", "{"])
def test_without_a_list_every_copy_counts_as_changed(originals, mine, damage):
    own = write(mine / "03_guided.ipynb", ("code", "my answer"))
    (mine / copies.LIST).unlink()
    if damage != "gone":
        (mine / copies.LIST).write_text(damage)
    assert update_copies(originals, mine) == Update(renewed=("00_start_here.ipynb",), outdated=("03_guided.ipynb",))
    assert "my answer" in own.read_text()


def test_a_reset_keeps_the_reader_s_copy_each_time(originals, mine):
    for number in (1, 2):
        write(mine / "03_guided.ipynb", ("code", f"answer {number}"))
        kept = reset_copy(originals, mine, "03")
        assert kept == mine / copies.BEFORE / f"03_guided-{number}.ipynb"
        assert f"answer {number}" in kept.read_text()
    assert (mine / "03_guided.ipynb").read_bytes() == (originals / "03_guided.ipynb").read_bytes()
    assert update_copies(originals, mine) == Update()


@pytest.mark.parametrize("beginning", ["0", "77", "../03", ""])
def test_a_reset_needs_one_notebook(originals, mine, beginning):
    with pytest.raises(ValueError, match="beginning of one notebook's name, got .* 00_start_here, 03_guided"):
        reset_copy(originals, mine, beginning)


def test_copies_have_a_folder_of_their_own_and_originals_must_exist(originals, tmp_path):
    with pytest.raises(ValueError, match="in a folder of their own"):
        update_copies(originals, originals)
    with pytest.raises(ValueError, match="in a folder of their own"):
        reset_copy(originals, originals, "03")
    assert not (originals / copies.BEFORE).exists()
    with pytest.raises(ValueError, match="must hold the course's notebooks, got none"):
        update_copies(tmp_path, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_the_server_opens_the_copy_and_its_hook_exists(mine):
    command = lab.lab_command(mine, "00_start_here.ipynb", ["--no-browser"])
    assert f"--ServerApp.root_dir={mine.parent}" in command
    assert any(word.endswith("/tree/work/00_start_here.ipynb") for word in command)
    assert command[-1] == "--no-browser"
    module, _, name = HOOK.rpartition(".")
    assert (module, name) == (drop_dead_views.__module__, drop_dead_views.__name__)


def test_the_server_asks_nobody_about_news_and_keeps_the_reader_s_own_settings():
    path = lab.lab_environment({"JUPYTER_CONFIG_PATH": "mine", "HOME": "here"})
    assert path["JUPYTER_CONFIG_PATH"] == f"{lab.SETTINGS}{os.pathsep}mine"
    assert path["HOME"] == "here"
    settings = json.loads((lab.SETTINGS / "labconfig" / "default_setting_overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_the_folder_of_copies_is_ignored_by_git():
    assert "/work/" in (ROOT / ".gitignore").read_text().splitlines()


# --- progress -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(mine, monkeypatch):
    monkeypatch.chdir(mine)
    return mine / progress.FILE


def test_progress_is_kept_among_copies_and_only_there(file, tmp_path, monkeypatch):
    progress.keep_attempt("count_of", False)
    progress.keep_attempt("count_of", True)
    progress.keep_attempt("count_of", False)
    assert progress.read_progress(file)[0]["exercises"] == {"count_of": {"attempts": 2, "solved": True}}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_in_memory", {})
    progress.keep_guess("How many?", "few", None)
    assert not (tmp_path / progress.FILE).exists()
    assert progress.read_progress()[0]["guesses"] == {"How many?": {"choice": "few", "is_right": None}}


def test_the_first_guess_stays_in_the_record(file):
    progress.keep_guess("How many?", "few", None)
    progress.keep_guess("How many?", "many", True)
    assert progress.read_progress()[0]["guesses"]["How many?"] == {"choice": "few", "is_right": True}


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"checksum": "00000000"}', b"\xff\xfe"])
def test_a_damaged_file_is_kept_aside_and_said(file, damage):
    file.write_bytes(damage)
    record, notice = progress.keep_attempt("count_of", True)
    assert notice == "Your progress file was damaged. We keep it as progress-damaged-1.json, and count from here on."
    assert file.with_name("progress-damaged-1.json").read_bytes() == damage
    assert progress.read_progress() == (record, "")


def test_a_full_disk_costs_the_record_and_not_the_cell(file, monkeypatch):
    def full(path, values):
        raise OSError(28, "no space")

    monkeypatch.setattr(progress, "write_json", full)
    record, notice = progress.keep_best(0.9, "SET", 1690)
    assert record["best"]["accuracy"] == 0.9
    assert notice.startswith("Your progress could not be saved")


def test_the_contents_show_what_was_done(originals, file, mine):
    assert "keeps one of at most 1,690 connections" in Contents(mine)._repr_html_()
    progress.keep_attempt("count_of", True)
    progress.keep_attempt("frugal_subset", False)
    progress.keep_best(0.953, "<b>RigL</b>", 1690)
    page = Contents(mine)
    assert repr(page) == ("2 notebooks. 1 of 5 exercises solved, 0 of 0 guesses right. Your best network reads 95.3 %.")
    html = page._repr_html_()
    assert '<a href="03_guided.ipynb">Guided</a>' in html
    assert html.count('class="sk-is-solved"') == html.count('class="sk-is-tried"') == 1
    assert "<b>RigL" not in html
    assert "--sk-paper" in html


# --- handouts -----------------------------------------------------------------------------------------------------


def test_students_get_no_solutions(originals, tmp_path):
    files = build_student(originals, tmp_path / "out")
    assert [path.name for path in files] == ["00_start_here.ipynb", "03_guided.ipynb"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in files]
    assert "secret" not in "".join(path.read_text() for path in files)


def test_teachers_get_a_guide_with_times_questions_mistakes_and_discussion(originals, tmp_path):
    *notebooks, guide = build_teacher(originals, tmp_path / "out")
    assert "secret" in notebooks[0].read_text()
    text = guide.read_text()
    assert "take 0.9 hours in all" in text
    assert "**How many?**\n\n- few\n- many (right)\n\nWe counted." in text
    assert "- A part of a connection cannot exist, so a count is an integer. Round it." in text
    assert "3. A number of connections is an integer" in text
    assert "- **Why?** Because it is so." in text


def test_a_handout_overwrites_nothing(originals, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for build in (build_student, build_teacher):
        with pytest.raises(ValueError, match="new or empty folder"):
            build(originals, tmp_path / "full")


def test_a_question_that_is_computed_is_left_out_of_the_guide():
    cells = ["%magic", "widgets.Predict(question, options)", "widgets.Predict('a?', ['b', 'c'], because='d')"]
    notebook = {"cells": [{"cell_type": "code", "source": cell} for cell in cells]}
    assert list(predictions_in(notebook)) == [("a?", ["b", "c"], None, "d")]


def test_the_real_notebooks_give_a_guide(tmp_path):
    *_, guide = build_teacher(ROOT / "notebooks", tmp_path / "out")
    assert guide.read_text().count("### Exercises, and answers to expect") >= 11


# --- the commands -------------------------------------------------------------------------------------------------


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["course", *words], env={"COLUMNS": "200"})


def test_open_copies_and_starts_the_server_with_what_it_does_not_know(originals, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(lab, "run_lab", lambda command: started.append(command) or 3)
    folder = tmp_path / "work"
    result = invoke("open", "--notebooks", str(originals), "--folder", str(folder), "--port", "8899")
    assert result.exit_code == 3
    assert "copied 2 notebooks" in result.output
    assert started[0][-2:] == ["--port", "8899"]
    write(folder / "03_guided.ipynb", ("code", "mine"))
    write(originals / "03_guided.ipynb", ("code", "newer"))
    said = invoke("open", "--notebooks", str(originals), "--folder", str(folder)).output
    assert "03_guided.ipynb has a newer original. To get it: sparsekit course reset 03" in said


def test_reset_says_where_the_reader_s_copy_lies(originals, mine):
    places = ("--notebooks", str(originals), "--folder", str(mine))
    assert f"Your copy lies in {mine / copies.BEFORE / '03_guided-1.ipynb'}" in invoke("reset", "03", *places).output
    assert "must be the beginning of one notebook's name" in str(invoke("reset", "0", *places).exception)


def test_build_asks_for_whom(originals, tmp_path):
    out = tmp_path / "out"
    assert invoke("build", str(out), "--notebooks", str(originals)).exit_code == 2
    assert not out.exists()
    result = invoke("build", str(out), "--teacher", "--notebooks", str(originals))
    assert f"wrote {out / 'teachers_guide.md'}" in result.output
