"""The table that follows a sweep stands in the notebook once, is brought up to date there, and follows the theme."""

SET_THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })"
IS_DARK = "dark => document.body.dataset.jpThemeLight === String(!dark)"
LIGHTNESS = """cell => { // from 0 to 255, of the text and of the page behind it
  const page = getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor;
  const mean = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part) / 3, 0);
  return [mean(getComputedStyle(cell).color), mean(page)];
}"""
CELLS = [
    """import time
from pathlib import Path
from sparsekit.experiments.sweeps import board
from sparsekit.experiments.sweeps.sweeping import Result

results = {}
table = board.Board(Path("none"), [f"run-{number}" for number in range(4)], results, "http://127.0.0.1:8787/status")""",
    """with board.showing(table, True) as refresh:
    results["run-0"] = Result({"test accuracy": 0.5})
    time.sleep(2 * board.REFRESH)
    refresh()
    results |= {"run-1": Result({"test accuracy": 0.75}), "run-2": Result({}, "ValueError: no")}""",
]


def test_the_table_of_a_sweep_is_one_table_that_ends_up_to_date_and_is_read_in_both_themes(notebook):
    page = notebook("scratch_sweep_board.ipynb", cells=CELLS).run_all().page
    table = page.locator(".jp-OutputArea-output table")
    page.get_by_text("best: run-1").wait_for()
    assert table.count() == 1
    assert table.locator("td").all_inner_texts()[:5] == ["2", "1", "0", "1", "75.00 %"]
    assert page.locator(".jp-OutputArea-output progress").get_attribute("value") == "3"
    assert page.get_by_role("link", name="Dask's dashboard").get_attribute("href").endswith("/status")
    contrasts = []
    for theme in ("JupyterLab Dark", "JupyterLab Light"):  # the light one last, as other tests find it
        page.evaluate(SET_THEME, theme)
        page.wait_for_function(IS_DARK, arg=theme.endswith("Dark"))
        page.locator("#jupyterlab-splash").wait_for(state="detached")  # the next change would take it away as well
        text, behind = table.locator("td").first.evaluate(LIGHTNESS)
        contrasts.append(abs(text - behind))
    assert min(contrasts) > 150
