"""A reader saves, closes and opens a notebook again. First guesses are kept, and hints open one by one."""

import pytest

from sparsekit.experiments.course.progress import FILE, MARK

SAVE_AND_END = """async () => {
  const { commands, shell } = window.jupyterapp;
  await commands.execute('docmanager:save');
  await shell.currentWidget.sessionContext.shutdown();
}"""
ANSWER = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells[1].source"
FILM = """
from sparsekit import widgets
guess = widgets.Predict("How many connections?", ["few", "many"], 1, "We counted them.")
guess
"""
CHECK = """
def count_of(rows, columns, density):
    return rows * columns * density
widgets.check(count_of)
"""


@pytest.fixture
def book(notebook):
    return notebook("course.ipynb", cells=[FILM, CHECK, "print('end')"]).run_all()


def test_a_saved_notebook_shows_its_stills_and_no_error_when_it_is_opened_again(book, lab, notebook):
    page = book.page
    page.get_by_role("radio", name="few").wait_for()
    page.evaluate(SAVE_AND_END)
    assert "widget-view" not in (lab.folder / "course.ipynb").read_text()
    again = notebook("course.ipynb")
    stills = again.page.locator(".jp-OutputArea img")
    stills.nth(1).wait_for()
    assert stills.count() == 2
    assert again.page.get_by_text("Error displaying widget").count() == 0
    assert again.page.get_by_text("model not found").count() == 0


@pytest.fixture
def readers_folder(lab):
    """Let the folder be one of a reader's copies, where progress is kept in a file."""
    (lab.folder / MARK).write_text('{"made_of": {}}')
    yield
    for name in (MARK, FILE):
        (lab.folder / name).unlink(missing_ok=True)


@pytest.mark.usefixtures("readers_folder")
def test_guess_and_answer_are_there_again_when_the_notebook_is_opened_on_another_day(book, notebook):
    page = book.page
    book.press(page.get_by_role("radio", name="few"), "Enter")
    page.get_by_role("status").get_by_text("Not quite, it is “many”.").wait_for()
    page.evaluate(SAVE_AND_END)
    again = notebook("course.ipynb")
    again.page.locator(".jp-OutputArea img").nth(1).wait_for()
    assert "return rows * columns * density" in again.page.evaluate(ANSWER)
    again.run_all()
    few, many = (again.page.get_by_role("radio", name=name) for name in ("few", "many"))
    assert [few.get_attribute("aria-checked"), many.get_attribute("aria-checked")] == ["true", "false"]
    again.page.get_by_role("status").get_by_text("Not quite, it is “many”.").wait_for()
    again.page.get_by_role("group", name="Not yet.").get_by_text("A part of a connection cannot exist").wait_for()


def test_a_guess_stays_and_hints_open_one_by_one(book):
    page = book.page
    few, many = (page.get_by_role("radio", name=name) for name in ("few", "many"))
    few.focus()
    page.keyboard.press("ArrowDown")
    assert many.get_attribute("aria-checked") == "false"  # an arrow moves, and does not choose
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Not quite, it is “many”. We counted them.").wait_for()
    many.dispatch_event("click")  # which comes too late
    assert book.python("guess.chosen") == "few"
    card = page.get_by_role("group", name="Not yet.")
    assert "A part of a connection cannot exist" in card.inner_text()
    assert card.get_by_role("listitem").count() == 0
    for label in ("Give me a hint", "Another hint", "The last hint"):
        card.get_by_role("button", name=label).click()
    assert card.get_by_role("listitem").count() == 3
    assert card.get_by_role("button").count() == 0
