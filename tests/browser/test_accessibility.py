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
from sparsekit import plots, widgets
from sparsekit.topology.selection import random_topology

torch.set_num_threads(1)
shapes = {"first": (32, 64), "last": (10, 32)}
topology = random_topology(shapes, 0.1, seed=0)
scores = {"random": {name: torch.rand(shape) for name, shape in shapes.items()}}
""",
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


@pytest.fixture
def page(notebook):
    """Return the page, and leave the server's theme as it was, because the other tests share it."""
    page = notebook("scratch_accessibility.ipynb", cells=CELLS).run_all().page
    yield page
    set_theme(page, next(iter(THEMES)))


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
        image = PIL.Image.open(io.BytesIO(drawing.screenshot())).convert("RGB")
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((3, 3))) == palette["paper"]
