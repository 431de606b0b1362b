"""Film a living network while it trains, for the top of the README: `python tools/film_network.py`.

It trains the recipe `digits-small` with RigL at 5 % of the weights, seed 0. It puts the widget `NetworkView` on a page,
and writes what Chromium shows at some of the steps to docs/figures/living_network.gif.
"""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from time_network_view import find_program, page_of

from sparsekit.experiments.recipes import digits_small
from sparsekit.widgets import NetworkView, film_of

TARGET = Path(__file__).parents[1] / "docs" / "figures" / "living_network.gif"
EVERY = 10  # steps between two frames of the film. There are 130 of them, with those after a rewiring
SHOWN = [
    *range(0, 24),
    *range(24, 60, 3),
    *range(60, 129, 8),
    129,
]  # frames, most of them from where the network changes most
MILLISECONDS, PAUSE = 110, 2600  # of a picture, and of the last one
WIDTH, COLOURS = 980, 64
STILL = """
.sk-net-bar .sk-group, .sk-net-row, .sk-net-dials > :last-child, .sk-net-foot, .sk-net details, .sk-net .sk-main {
  display: none !important
}
.sk-net-dials { display: block !important }
* { outline: none !important }
*, *::before, *::after { transition: none !important; animation: none !important }
"""


def pictures(page: Page) -> Iterator[Image.Image]:
    """Move the film along its frames, and yield what the page shows at those that we chose."""
    slider = page.locator(".sk-chart[aria-label=Rewiring]")
    slider.press("Home")
    for frame in range(SHOWN[-1] + 1):
        if frame in SHOWN:
            page.wait_for_timeout(60)
            yield Image.open(io.BytesIO(page.locator(".sk-net").screenshot())).convert("RGB")
        slider.press("ArrowRight")


def write(shown: list[Image.Image], target: Path) -> None:
    """Write pictures as a GIF that all share the colours of the last one, and so change only where the network does."""
    colours = shown[-1].quantize(COLOURS)
    first, *others = (picture.quantize(COLOURS, palette=colours, dither=Image.Dither.NONE) for picture in shown)
    times = [MILLISECONDS] * len(others) + [PAUSE]
    first.save(target, save_all=True, append_images=others, duration=times, loop=0, optimize=True)


def main() -> None:
    """Train, film, and say how large the file is."""
    film = film_of(digits_small(rule="rigl", density=0.05, seed=0), every=EVERY)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page_of(NetworkView(film)), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=find_program(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, reduced_motion="reduce")
        page.goto(path.as_uri())
        page.add_style_tag(content=STILL)
        write(list(pictures(page)), TARGET)
        browser.close()
    print(f"{TARGET.name}: {len(SHOWN)} pictures, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
