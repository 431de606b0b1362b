"""Pages without a kernel: nothing leaves them, nothing fails in them, and links keep a state."""

import importlib.resources
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.conftest import ROOT
from browser.driving import write_notebook
from browser.test_accessibility import CELLS

from sparsekit.cli.site.pages import pages_of, write_site
from sparsekit.cli.site.recording import recorded
from sparsekit.cli.site.run_page import write_run_page
from sparsekit.experiments import run as run_experiment
from sparsekit.experiments.recipes import digits_small

STILL = ("01_masks_and_budgets.ipynb", "03_guided_stochastic_exploration.ipynb")  # as committed, with still images
ALIVE = [cell.replace("widgets.Predict(", "guess = widgets.Predict(") for cell in CELLS]
ALIVE += ["guess", "guess.measured('There were 100.')", "widgets.check(count_of=None)"]
MOST_BYTES = 3_000_000
AUDIT = """() => axe.run(document, { resultTypes: ['violations'] }).then(found => found.violations
  .filter(one => ['serious', 'critical'].includes(one.impact))
  .map(one => `${one.id}: ${one.help}, as in ${one.nodes.slice(0, 3).map(node => node.html.slice(0, 200)).join()}`))"""
BROKEN_ANCHORS = """() => [...document.querySelectorAll('a[href^="#"]')].map(a => a.getAttribute('href').slice(1))
  .filter(name => name && !document.getElementById(decodeURIComponent(name)))"""
LINKS = """() => [...document.querySelectorAll('a[href]')].map(a => a.href).filter(href => href.startsWith('file:'))"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """Write a small course: a notebook with every widget, executed, and two of the course as they are committed."""
    project = tmp_path_factory.mktemp("site")
    folder = project / "notebooks"
    folder.mkdir()
    write_notebook(folder / "00_alive.ipynb", ALIVE)
    for name in STILL:
        shutil.copy(ROOT / "notebooks" / name, folder)
    sources = sorted(folder.glob("*.ipynb"))
    threads, os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1"), "1"
    recording = recorded(sources[0], project / "recordings", tell=lambda text: None)
    os.environ["OMP_NUM_THREADS"] = threads
    write_site(pages_of(sources, {sources[0]: recording}, project), project / "pages")
    return project / "pages"


@pytest.fixture
def opened(browser, site) -> Iterator:
    """Open `opened("00_alive.html")` offline, and check at the end what the page asked for and what failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce", offline=True)
    requests, errors = [], []
    context.on("request", lambda request: None if request.is_navigation_request() else requests.append(request.url))

    def watch(page) -> None:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

    context.on("page", watch)

    def open_page(name: str, state: str = ""):
        page = context.new_page()
        page.goto((site / name).as_uri() + state)
        if page.locator(".widget").count():
            page.locator('body[data-widgets="ready"]').wait_for()
        return page

    yield open_page
    context.close()
    assert not requests, f"pages must ask for nothing, they asked for {requests}"
    assert not errors, f"no script may fail in a page: {errors}"


def test_every_page_is_small_asks_for_nothing_and_serves_every_reader(opened, site):
    axe = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    assert len(names) == 4
    for name in names:
        assert (site / name).stat().st_size < MOST_BYTES, name
        page = opened(name)
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_function(
                "is => document.body.dataset.jpThemeLight === is", arg=str(scheme == "light").lower()
            )
            assert not (found := page.evaluate(AUDIT)), f"{name} in {scheme}:\n" + "\n".join(found)
        assert page.evaluate(BROKEN_ANCHORS) == [], name
        for link in page.evaluate(LINKS):
            assert Path(link.partition("#")[0].removeprefix("file://")).exists(), f"{name} links to {link}"
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function(f"({SIDEWAYS})() <= 0", timeout=10_000)
        page.close()


def test_a_copied_link_brings_the_widgets_back_as_the_reader_left_them(opened):
    page = opened("00_alive.html")
    sparsity, density = page.get_by_role("slider", name="Sparsity"), page.get_by_role("slider", name="Density")
    for _ in range(3):
        sparsity.press("ArrowRight")
    density.fill("0.3")
    title = page.locator(".sk-explorer .sk-title").first
    page.locator('.sk-text:text-is("Density 0.3")').wait_for()
    page.wait_for_timeout(200)  # the explorer tells its model a little later
    shown = title.text_content()
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("location.hash.includes('density')")
    again = opened("00_alive.html", page.evaluate("location.hash"))
    again.locator('.sk-text:text-is("Density 0.3")').wait_for()
    assert again.locator(".sk-explorer .sk-title").first.text_content() == shown
    fresh = opened("00_alive.html")
    assert fresh.locator(".sk-explorer .sk-title").first.text_content() != shown


def test_what_a_kernel_would_answer_is_recorded_and_what_needs_one_says_so(opened):
    page = opened("00_alive.html")
    card = page.locator(".sk-card").first
    assert "You have not guessed." in card.text_content()
    page.get_by_role("radio", name="few").first.click()
    page.get_by_text("Not quite, it is “many”. There are a hundred.").first.wait_for()
    assert "You guessed “few”." in card.text_content()
    assert page.get_by_text("Open this notebook in JupyterLab to answer.").count() == 1
    assert page.get_by_text("open this notebook in JupyterLab to use them").count() >= 1
    assert page.get_by_role("button", name="Continue from rewiring").is_disabled()
    assert page.get_by_role("button", name="Start", exact=True).count() == 0


def test_a_run_is_one_page_with_its_network_and_its_film(opened, site):
    run = run_experiment(digits_small(epochs=2, seed=1), site.parent / "runs", progress=False)
    write_run_page(run.folder, site / "run.html")
    page = opened("run.html")
    (site / "run.html").unlink()  # another test counts the pages of the course
    page.get_by_role("slider", name="Rewiring").last.press("Home")
    page.get_by_text(re.compile("Before the first rewiring there are")).first.wait_for()
    assert page.locator(".sk-net").count() == 1
    assert page.get_by_role("combobox", name="Search the course").count() == 0


def test_the_search_leads_to_a_section_of_another_page(opened):
    page = opened("00_alive.html")
    page.get_by_role("combobox", name="Search the course").fill("allocation uniform")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/01_masks_and_budgets.html#*")
    heading = page.locator(":target")
    assert "uniform" in page.locator("main").text_content()
    assert heading.count() == 1
