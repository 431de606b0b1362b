"""The real notebooks in JupyterLab: sliders draw what they name, Stop stops, the film scrubs, questions answer."""

from sparsekit.widgets.colours import INK


def test_the_first_notebook_trains_and_answers(notebook):
    book = notebook("00_start_here.ipynb").run_all()
    assert "done after 1500 steps with 4224 connections" in book.printed()
    page = book.page
    page.get_by_role("radio", name="about 93").check()
    page.get_by_role("status").get_by_text("Yes. Ten runs gave").wait_for()
    # The masks on the screen are those of the model in the kernel.
    wanted = book.python("[layer.count for layer in sk.topology_of(model).values()]")
    canvases = page.locator("canvas.sk-mask")
    assert canvases.count() == len(wanted)
    assert [book.count_pixels(canvases.nth(k), INK) for k in range(len(wanted))] == wanted
