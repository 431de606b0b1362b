"""Film, lab, landscape and map answer in JupyterLab, and the kernel hears what the reader did."""

import re

CELLS = [
    """import numpy as np, torch, sparsekit as sk
from sparsekit import analysis, widgets
from sparsekit.layers import shapes_of
from sparsekit.schedules import Triangular
plain = sk.models.build("mlp", input_shape=(8,), num_classes=3, hidden=(12,))
topologies = [sk.random_topology(shapes_of(plain), 0.4, seed=k) for k in range(4)]
nets = [sk.sparsify(plain, topology, init="dense") for topology in topologies]
tickets = [sk.Ticket.of(net, step=10 * (k + 1)) for k, net in enumerate(nets)]
x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
pair = (x, x[:, :3].argmax(1))""",
    "film = widgets.CollectionFilm(tickets[:3], Triangular(0.1, 1.0, cycle=10))\nfilm",
    "lab = widgets.TicketLab(tickets[:3], plain, test=pair, train=pair, parts=3)\nlab",
    "four = widgets.TicketLab(tickets, plain, test=pair, train=pair)\nfour",
    """plane = analysis.plane_through({f"net {k}": nets[k] for k in range(3)})
explorer = widgets.LandscapeExplorer(analysis.surface(plane, [pair], axes=plane.axes(7), progress=False))
explorer""",
    """people = widgets.DiversityMap(dict(zip("0123", topologies)), groups=["a", "a", "b", "b"])
people""",
]


def test_four_widgets_about_tickets_answer_and_the_kernel_hears_of_it(notebook):
    book = notebook("tickets.ipynb", cells=CELLS).run_all()
    page = book.page

    rate = page.get_by_role("slider", name="Moment of the cycles")
    book.press(rate, "Home")
    page.get_by_text("Ticket 0 is the network before the cycles").first.wait_for()
    book.press(rate, "ArrowRight")
    book.wait_for("film.moment == 1")
    book.press(rate, "End")
    page.get_by_text(re.compile("Superposed: .* own connections survive")).first.wait_for()

    page.get_by_role("checkbox", name="Use ticket 1").first.click()
    book.wait_for("lab.weights[1] == 0")
    book.press(page.get_by_role("application", name="Mix of three tickets"), "ArrowUp")
    book.wait_for("lab.weights[0] > 0.6")
    right = book.python("lab.trial.accuracies['superposed']")
    page.locator(".sk-hero", has_text=f"{100 * right:.1f} %").first.wait_for()

    page.get_by_role("checkbox", name="Use ticket 3").click()
    book.wait_for("four.measured['of'] == [1, 1, 1, 0]")
    page.get_by_text("3 tickets: superposed").first.wait_for()

    book.press(page.get_by_role("slider", name="Cut at"), "End")
    book.wait_for("explorer.cut == explorer.surface.y[-1]")
    page.get_by_role("radio", name="Landscape").click()
    book.press(page.get_by_role("slider", name="Direction of view"), "ArrowRight", times=2)
    book.wait_for("(explorer.view, explorer.turn) == ('landscape', -40)")

    page.get_by_role("radio", name="b", exact=True).click()
    page.locator("[data-name='3']").click()
    book.wait_for("(people.zoom, people.network) == ('b', '3')")
    page.get_by_text("By masks, 2 is nearest to 3").first.wait_for()
