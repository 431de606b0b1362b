"""In a real notebook the mask explorer and the film draw every connection as one dark pixel, at any sparsity."""

from sparsekit.plots.palette import LIGHT
from sparsekit.widgets.colours import BORN, DROPPED, KEPT

SET_UP = """
import torch
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.topology.selection import draw_distinct, random_topology
from sparsekit.widgets import MaskExplorer, TopologyFilm

shapes = {"fc1": (64, 32), "conv": (8, 4, 3, 3), "head": (10, 64)}
generator = torch.Generator().manual_seed(0)
"""
EXPLORER = """
scores = {kind: {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()} for kind in "ab"}
explorer = MaskExplorer(scores, density=0.1, accuracy=lambda topology: topology.count / 2976)
explorer
"""
FILM = """
journal = Journal(random_topology(shapes, 0.2))
for number in range(8):
    dropped, grown = {}, {}
    for name, layer in journal[number].items():
        dropped[name] = layer.indices[draw_distinct(layer.count, layer.count // 4, generator)]
        grown[name] = layer.missing_at(draw_distinct(layer.size - layer.count, layer.count // 4, generator))
    journal.add(100 * (number + 1), TopologyUpdate(dropped, grown))
film = TopologyFilm(journal)
film
"""
COUNT_MESSAGES = """() => {
  window.sparsekitSent = 0;
  window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.anyMessage.connect((_, message) => {
    if (message.msg.header.msg_type.startsWith('comm')) window.sparsekitSent += 1;
  });
}"""


def canvas_of(book, layer: str):
    return book.page.locator(f'canvas.sk-mask[data-layer="{layer}"]')


def painted(book) -> dict[str, int]:
    """Count the dark pixels of every layer."""
    return {layer: book.count_pixels(canvas_of(book, layer), LIGHT["ink"]) for layer in ("fc1", "conv", "head")}


def counted(book) -> dict[str, int]:
    """Ask the kernel how many connections each layer has."""
    return book.python("{name: layer.count for name, layer in explorer.topology.items()}")


def wait_for_kernel(book, sparsity: str) -> None:
    """Wait until the figure shows this sparsity and its accuracy has come from the kernel."""
    dial = book.page.get_by_role("slider", name="Sparsity")
    book.wait_until(dial, "aria-valuetext", f"{sparsity} sparsity")
    book.wait_until(dial, "aria-valuetext", "correct")


def test_every_connection_is_one_dark_pixel_whatever_is_chosen(notebook):
    explorer = notebook("scratch_explorer.ipynb", cells=[SET_UP, EXPLORER]).run_all()
    canvas_of(explorer, "fc1").wait_for()
    for layer, size in (("fc1", [32, 64]), ("conv", [36, 8]), ("head", [64, 10])):
        assert canvas_of(explorer, layer).evaluate("canvas => [canvas.width, canvas.height]") == size
    wait_for_kernel(explorer, "90 %")
    assert painted(explorer) == counted(explorer)
    slider = explorer.page.get_by_role("slider", name="Sparsity")
    for key, times, sparsity in (("ArrowRight", 3, "91.6 %"), ("PageDown", 1, "88.8 %"), ("End", 1, "99.9 %")):
        explorer.press(slider, key, times=times)
        wait_for_kernel(explorer, sparsity)
        assert painted(explorer) == counted(explorer)
    assert sum(counted(explorer).values()) == 3  # of 2,976 positions
    cells = explorer.page.locator(".sk-table tbody tr").evaluate_all("rows => rows.map(r => r.children[2].textContent)")
    assert cells == ["1", "1", "1", "3"]
    explorer.page.get_by_role("button", name="Try 98 % ERK").click()
    wait_for_kernel(explorer, "98 %")
    assert explorer.page.get_by_role("radio", name="erk", exact=True).get_attribute("aria-checked") == "true"
    assert painted(explorer) == counted(explorer)
    assert sum(counted(explorer).values()) == round(0.02 * 2976)
    canvas = canvas_of(explorer, "fc1")
    before, count = canvas.evaluate("canvas => canvas.toDataURL()"), painted(explorer)
    explorer.page.get_by_role("radio", name="b", exact=True).click()
    explorer.page.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before]
    )
    explorer.wait_for("explorer.choice['score'] == 'b'")
    assert painted(explorer) == count == counted(explorer)
    explorer.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    explorer.page.get_by_text("The kernel was restarted.").wait_for()
    explorer.press(slider, "End")
    explorer.wait_until(slider, "aria-valuetext", "99.9 % sparsity")  # the masks still follow


def show(book, rewiring: int) -> None:
    """Wait until a rewiring is painted."""
    start = f"Rewiring {rewiring} of" if rewiring else "Before"
    book.page.wait_for_function(
        "start => document.querySelector('.sk-film-mask').getAttribute('aria-label').startsWith(start)", arg=start
    )


def frame(book) -> list[int]:
    """Count born, kept and dropped pixels."""
    canvas = book.page.locator("canvas.sk-film-mask")
    return [book.count_pixels(canvas, colour) for colour in (BORN, KEPT, DROPPED)]


def test_the_film_scrubs_exactly_and_without_the_kernel_and_plays(notebook):
    film = notebook("scratch_film.ipynb", cells=[SET_UP, FILM]).run_all()
    film.page.locator("canvas.sk-film-mask").wait_for()
    film.page.evaluate(COUNT_MESSAGES)
    slider = film.page.get_by_role("slider", name="Rewiring")
    frames = []
    for key, rewiring in (("ArrowRight", 1), ("ArrowRight", 2), ("End", 8), ("ArrowLeft", 7), ("Home", 0)):
        film.press(slider, key)
        show(film, rewiring)
        frames.append((rewiring, frame(film)))
    film.page.get_by_label("Layer", exact=True).select_option("head")
    film.press(slider, "End")
    show(film, 8)
    head = frame(film)
    canvas = film.page.locator("canvas.sk-film-mask")
    before = canvas.get_attribute("data-seq")
    film.page.get_by_role("checkbox", name="Kept").uncheck()
    film.page.wait_for_function(
        "([canvas, before]) => canvas.dataset.seq !== before", arg=[canvas.element_handle(), before]
    )
    without_kept = frame(film)
    assert film.page.evaluate("() => window.sparsekitSent") == 0
    counts = film.python("{name: one.counts for name, one in film.films.items()}")
    assert frames == [(rewiring, counts["fc1"][rewiring]) for rewiring, _ in frames]
    assert head == counts["head"][8]
    assert without_kept == [head[0], 0, head[2]]
    film.page.get_by_role("checkbox", name="Kept").check()
    film.page.get_by_label("Layer", exact=True).select_option("fc1")
    film.press(slider, "Home")
    film.page.get_by_role("button", name="Play").click()
    film.page.get_by_role("button", name="Pause").wait_for()
    show(film, 2)  # the test's reader wants less motion, so it plays one rewiring per second
    film.page.get_by_role("button", name="Pause").click()
    label = film.page.locator("canvas.sk-film-mask").get_attribute("aria-label")
    film.page.wait_for_timeout(1300)
    assert film.page.locator("canvas.sk-film-mask").get_attribute("aria-label") == label
    film.press(slider, "End")
    film.press(slider, "ArrowLeft")
    film.page.get_by_role("button", name="Play").click()
    show(film, 8)
    film.page.get_by_role("button", name="Play").wait_for()
    film.python("setattr(film, 'rewiring', 5)")
    show(film, 5)
    assert frame(film) == film.python("film.films['fc1'].counts[5]")
