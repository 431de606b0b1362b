"""Pages without a kernel: nothing leaves them, nothing fails in them, and links keep a state."""

import importlib.resources
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser.conftest import ROOT
from browser.driving import write_notebook
from browser.test_accessibility import CELLS
from site_links import broken_links

import sparsekit as sk
from sparsekit.cli.site.bodies import PARTS
from sparsekit.cli.site.pages import pages_of, write_site
from sparsekit.cli.site.recording import recorded
from sparsekit.cli.site.run_page import write_film_page, write_run_page
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
FORWARD = """async ([models, inputs, count]) => {
  const code = [...document.scripts].find(one => one.text.includes('export function forward(')).text;
  const script = document.createElement('script');
  script.type = 'module';
  const answered = new Promise(done => { window.answer = done; });
  script.textContent = `${code}\n${models}
    const recorded = JSON.parse(document.getElementById('widgets').textContent);
    const parts = await Promise.all(recorded.bytes.map(inflate));
    const { networks } = Object.values(recorded.models).map(one => revive(one.traits, parts)).find(one => one.networks);
    const chain = chainOf(networks[0].shapes), frames = readFrames(bytesOf(networks[0].film)), last = frames.at(-1);
    window.answer([chain, linksOf(chain, last, frames.at(-2)), last.biases, forward]);`;
  document.body.append(script);
  const [chain, links, biases, forward] = await answered;
  return [...forward(chain, links, biases, new Float32Array(inputs), count).slice(chain.outputs * count)];
}"""
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
    files = sorted(site.rglob("*.html"))
    assert len(files) == 4
    for file in files:
        check_page(opened(file), file)
    assert broken_links(site) == []


def check_page(page, file: Path) -> None:
    """Check that a page is small, that axe finds nothing in either scheme, and that it fits a phone. Then close it."""
    assert file.stat().st_size < MOST_BYTES, file
    page.evaluate(importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.wait_for_function("is => document.body.dataset.jpThemeLight === is", arg=str(scheme == "light").lower())
        assert not (found := page.evaluate(AUDIT)), f"{file} in {scheme}:\n" + "\n".join(found)
    assert page.evaluate(BROKEN_ANCHORS) == [], file
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(f"({SIDEWAYS})() <= 0", timeout=10_000)
    page.close()


def test_the_reference_serves_every_reader_and_is_searched(opened, site, tmp_path):
    pytest.importorskip("pdoc", reason='the reference needs pdoc. Run: pip install "sparsekit-lab[notebooks]"')
    from sparsekit.cli.site.reference import reference_pages

    pages = [page for page in reference_pages() if page.file.endswith(("sparsekit.html", "plots.html"))]
    course = site.parent / "notebooks" / STILL[0]
    write_site([*pages_of([course], {}, site.parent), *pages], tmp_path)
    page = opened(tmp_path / "reference" / "sparsekit.plots.html")
    page.get_by_role("combobox", name="Search the course").fill("random_topology")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/reference/sparsekit.html#random_topology")
    assert page.locator(":target").text_content().startswith("random_topology")
    page.close()
    for file in sorted((tmp_path / "reference").glob("*.html")):
        check_page(opened(file), file)


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


@pytest.fixture(scope="session")
def run_page(site) -> tuple[Path, Path]:
    """Return the folder of a run with a rewiring at every other step, and its page."""
    experiment = digits_small(epochs=2, seed=1, rule_settings={"every": 1})
    run = run_experiment(experiment, site.parent / "runs", progress=False)
    page = site.parent / "run.html"  # not among the pages of the course, which another test counts
    write_run_page(run.folder, page)
    return run.folder, page


def test_a_run_is_one_page_with_its_network_and_its_film(opened, run_page):
    page = opened(run_page[1])
    page.get_by_role("slider", name="Rewiring").last.press("Home")
    page.get_by_text(re.compile("Before the first rewiring there are")).first.wait_for()
    assert page.locator(".sk-net").count() == 1
    assert page.get_by_role("combobox", name="Search the course").count() == 0


def test_a_film_is_a_page_of_its_own(opened, run_page, tmp_path):
    file = tmp_path / "film.html"
    write_film_page(run_page[0], file)
    page = opened(file)
    page.get_by_role("slider", name="Rewiring").press("Home")
    page.get_by_text(re.compile("Before the first rewiring there are")).first.wait_for()
    page.get_by_role("button", name="Play").click()
    page.get_by_text(re.compile("Before the first rewiring there are")).first.wait_for(state="hidden")
    check_page(page, file)


def test_a_film_says_at_every_position_what_python_says(opened, run_page):
    from sparsekit.experiments import read_run
    from sparsekit.widgets import TopologyFilm

    folder, file = run_page
    expect = pytest.importorskip("playwright.sync_api", reason="install playwright").expect
    captions = TopologyFilm(read_run(folder).journal).layers[0]["captions"]
    assert len(captions) > 20
    page = opened(file)
    film = page.locator(".sk-film")
    for position in random.Random(0).sample(range(len(captions)), 20):
        film.get_by_role("slider", name="Rewiring").fill(str(position))
        expect(film.locator(".sk-caption")).to_have_text(captions[position])


def test_the_network_in_a_page_computes_what_torch_computes(opened, run_page):
    folder, file = run_page
    data = sk.datasets.load("digits")
    inputs = data.prepare(data.test.inputs[:30]).flatten(1)
    models = (PARTS / "models.js").read_text(encoding="utf-8")
    page = opened(file)
    logits = page.evaluate(FORWARD, [models, inputs.T.flatten().tolist(), len(inputs)])
    with torch.no_grad():
        expected = sk.load_model(folder).eval()(inputs)
    assert len(logits) == expected.numel()
    assert (torch.tensor(logits).view(10, -1).T - expected).abs().max() < 1e-5


def test_the_search_leads_to_a_section_of_another_page(opened):
    page = opened("00_alive.html")
    page.get_by_role("combobox", name="Search the course").fill("allocation uniform")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/01_masks_and_budgets.html#*")
    heading = page.locator(":target")
    assert "uniform" in page.locator("main").text_content()
    assert heading.count() == 1
