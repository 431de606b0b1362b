"""The race is started, watched, dragged and looked at in JupyterLab, and a run goes on in another way."""

CELLS = [
    "from sparsekit import run, widgets\nfrom sparsekit.experiments.recipes import digits_small",
    "race = widgets.Race(digits_small, ('static', 'rigl'), seeds=2, inits=('fan-in',), epochs=3, folder='race')\nrace",
    "history = run(digits_small(epochs=3), 'race', progress=False, keep_states=True)\n"
    "view = widgets.Branches(history)\nview",
]


def test_a_race_is_started_watched_and_dragged_and_a_run_branches(notebook):
    book = notebook("race.ipynb", cells=CELLS).run_all()
    page = book.page
    lanes = page.locator(".sk-race .sk-lane")
    assert lanes.count() == 2
    page.locator(".sk-race").get_by_role("button", name="Start", exact=True).click()
    page.locator(".sk-race").get_by_role("button", name="Play", exact=True).wait_for()
    assert book.python("race.state") == "done"
    time = page.locator(".sk-race").get_by_role("slider", name="Training step")
    assert time.get_attribute("aria-valuenow") == "57"
    assert "connections that may move" in page.locator(".sk-race .sk-title").text_content()
    book.press(time, "Home")
    page.wait_for_function("time => time.ariaValueNow === '0'", arg=time.element_handle())
    assert "times the same network" in page.locator(".sk-race .sk-title").text_content()
    moved = lanes.nth(1).locator("dd").nth(1)
    assert moved.text_content() == "0 %"
    book.press(time, "End")
    page.wait_for_function("moved => moved.textContent !== '0 %'", arg=moved.element_handle())

    part = page.locator(".sk-branches")
    book.press(part.get_by_role("slider"), "Home")
    part.get_by_label("Rule").select_option("set")
    part.get_by_role("button", name="Continue from rewiring 0").click()
    part.locator(".sk-lane").nth(1).get_by_text("SET from rewiring 0").wait_for()
    book.wait_for("len(view.branches) == 1")
    book.press(part.get_by_role("slider"), "End")  # the title compares the ends of both
    part.locator(".sk-title").get_by_text("of the connections in common").wait_for()
    assert book.python("view.branches[-1].folder != history.folder") is True
