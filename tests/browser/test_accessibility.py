"""Widgets and figures serve readers who see little, use no mouse, or read on a dark page."""

import importlib.resources
import io

import PIL.Image
import pytest

from sparsekit.plots.palette import DARK, LIGHT

THEMES = {"JupyterLab Light": LIGHT, "JupyterLab Dark": DARK}
CELLS = [
    """
import torch
import sparsekit as sk
from sparsekit import plots, run, widgets
from sparsekit.experiments.recipes import digits_small
from sparsekit.topology.selection import random_topology

torch.set_num_threads(1)
shapes = {"first": (32, 64), "last": (10, 32)}
topology = random_topology(shapes, 0.1, seed=0)
scores = {"random": {name: torch.rand(shape) for name, shape in shapes.items()}}
plain = sk.models.build("mlp", input_shape=(8,), num_classes=3, hidden=(12,))
nets = [sk.sparsify(plain, random_topology(sk.shapes_of(plain), 0.4, seed=k), init="dense") for k in range(3)]
tickets = [sk.Ticket.of(net, step=10 * (k + 1)) for k, net in enumerate(nets)]
pair = (torch.rand(60, 8), torch.arange(60) % 3)
digits = sk.datasets.load("digits")
network = sk.models.build("mlp", input_shape=digits.shape, num_classes=10, hidden=(8,))
""",
    """race = widgets.Race(digits_small, ("static", "rigl"), seeds=2, epochs=2, folder="axe")
race.wait()
race""",
    """view = widgets.Branches(run(digits_small(epochs=2), "axe", progress=False, keep_states=True))
view.continue_from(0, rule="set").wait()
view""",
    "widgets.TicketLab(tickets, plain, test=pair, train=pair, parts=3)",
    "widgets.NetworkView(network, digits)",
    "widgets.LivePanel(widgets.Run([]), control=widgets.Control(sk.rules.RigL(stop=40)))",
    """field = widgets.Field(name="density", kind="range", label="Density", low=0.1, high=0.3, step=0.1)
widgets.FigureExplorer(
    lambda density: plots.titled(plots.plot_masks(random_topology(shapes, density)), f"Density {density}"),
    [field],
    {"density": 0.1},
)""",
    "widgets.MaskTiles(topology)",
    "widgets.MaskExplorer(scores, allocation='uniform')",
    'widgets.Predict("How many?", ["few", "many"], 1, "There are a hundred.")',
    "widgets.RulePicker(total_steps=1000)",
    'plots.titled(plots.plot_masks(topology), "A tenth of the connections")',
]
AUDIT = """() => axe.run({ include: [['.sk']] }, { resultTypes: ['violations'] }).then(found => found.violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => `${one.id}: ${one.help}, as in ${one.nodes.slice(0, 3).map(node => node.html).join(' and ')}`))"""
SET_THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })"
IS_DARK = "dark => document.body.dataset.jpThemeLight === String(!dark)"
DRAWING = ".jp-RenderedSVG img"
FILL = "drawing => getComputedStyle(drawing.querySelector('path')).fill"
NARROW = """async () => {
  const wide = [];
  for (const stage of document.querySelectorAll('.sk-stage')) {
    stage.style.width = '374px';
    const isWide = () => stage.scrollWidth > stage.clientWidth + 1;
    // Canvases follow the width in a later frame.
    for (let frame = 0; frame < 60 && isWide(); frame++) await new Promise(requestAnimationFrame);
    if (isWide()) wide.push(`${stage.className} ${stage.scrollWidth}`);
    stage.style.width = '';
  }
  return wide;
}"""


@pytest.fixture
def page(notebook):
    """Return the page, and leave the server's theme as it was, because the other tests share it."""
    page = notebook("scratch_accessibility.ipynb", cells=CELLS).run_all().page
    yield page
    set_theme(page, next(iter(THEMES)))


def as_rgb(colour: str) -> str:
    """Write a colour as a browser does."""
    return f"rgb({', '.join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))})"


def set_theme(page, theme: str) -> None:
    page.evaluate(SET_THEME, theme)
    page.wait_for_function(IS_DARK, arg=theme.endswith("Dark"))


def test_readers_with_assistive_tools_meet_no_serious_obstacle_and_figures_follow_the_theme(page):
    page.evaluate(importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    drawing = page.locator(DRAWING).last
    for theme, palette in THEMES.items():
        set_theme(page, theme)
        found = page.evaluate(AUDIT)
        assert not found, f"in {theme}:\n" + "\n".join(found)
        assert page.locator(".sk-frame svg").evaluate(FILL) == as_rgb(palette["paper"])
        image = PIL.Image.open(io.BytesIO(drawing.screenshot())).convert("RGB")
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((3, 3))) == palette["paper"]


def test_no_widget_scrolls_sideways_on_a_phone(page):
    assert page.locator(".sk-stage").count() > 6
    assert page.evaluate(NARROW) == []
