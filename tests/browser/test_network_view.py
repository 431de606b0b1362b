"""In a real notebook the living network answers without the kernel, which hears of what the reader did."""

TRAIN = """
from sparsekit.experiments.recipes import digits_small
from sparsekit.widgets import NetworkView, film_of

film = film_of(digits_small(rule="rigl", density=0.05, epochs=4, rule_settings={"every": 10}))
"""
SHOW = """
view = NetworkView(film)
view
"""
STROKE = [(0.3, 0.25), (0.5, 0.22), (0.7, 0.25), (0.62, 0.45), (0.5, 0.65), (0.45, 0.85)]


def wait_for_text(book, selector: str, text: str) -> None:
    """Wait until an element says a text."""
    book.page.wait_for_function(
        "([selector, text]) => document.querySelector(selector).textContent.includes(text)", arg=[selector, text]
    )


def draw(book, points: list[tuple[float, float]]) -> None:
    """Draw one stroke on the pad with the mouse."""
    box, mouse = book.page.locator(".sk-net-pad").bounding_box(), book.page.mouse
    (x, y), *others = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in points]
    mouse.move(x, y)
    mouse.down()
    for x, y in others:
        mouse.move(x, y, steps=3)
    mouse.up()


def test_the_network_scrubs_prunes_loses_units_and_reads_a_drawing(notebook):
    book = notebook("scratch_network.ipynb", cells=[TRAIN, SHOW]).run_all()
    page = book.page
    page.locator(".sk-net-stage[data-seq]").wait_for()
    whole = book.python("round(100 * film.frames[-1].accuracy, 1)")
    wait_for_text(book, ".sk-net .sk-hero", f"{whole} %")
    book.press(page.get_by_role("slider", name="Rewiring"), "Home")
    wait_for_text(book, ".sk-net .sk-title", "293 random connections read nothing yet")
    book.wait_for("view.state.startswith('step=0')")
    book.press(page.get_by_role("slider", name="Rewiring"), "End")
    graph = page.get_by_role("application")
    book.press(graph, "ArrowDown")
    page.keyboard.press("Enter")
    wait_for_text(book, ".sk-net .sk-title", "One cut")
    book.wait_for("len(view.cut_units) == 1")
    page.get_by_role("button", name="Restore").click()
    wait_for_text(book, ".sk-net .sk-hero", f"{whole} %")
    book.press(page.get_by_role("slider", name="Connections kept"), "PageDown", times=5)
    wait_for_text(book, ".sk-net .sk-title", "193 of 293 trained connections are left")
    book.wait_for("view.kept == 193")
    draw(book, STROKE)
    wait_for_text(book, ".sk-net-under", "Centred and scaled")
    book.wait_for("len(view.drawn) == 64 and 5 < sum(view.drawn) < 40")
    state = book.python("view.state")
    book.python("setattr(view, 'state', 'step=0&example=3')")
    wait_for_text(book, ".sk-net .sk-title", "read nothing yet")
    book.python(f"setattr(view, 'state', {state!r})")
    wait_for_text(book, ".sk-net .sk-title", "193 of 293 trained connections are left")
    page.get_by_role("button", name="Copy as code").click()
    page.get_by_text("Copied").or_(page.get_by_text("Copy it by hand")).first.wait_for()
    copied = page.locator(".sk-code").text_content()
    assert copied.startswith("NetworkView(film, state=")
    assert book.python(f"({copied}).state == view.state") is True
    page.locator(".sk-net-details summary").click()
    wait_for_text(book, ".sk-net-details", "of column 1")
