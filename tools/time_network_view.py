"""Measure how fast the living network answers, in headless Chromium: `python tools/time_network_view.py`.

It trains three networks for a moment, puts the widget's own scripts on a page without JupyterLab, and prints frames per
second, and the median and the 95th percentile of milliseconds. The script of each frame is the work of the widget while
a hand drags the pruning chart. The other times go from a key or the pen to the end
of the drawing, with the wait for a screen frame.
"""

import base64
import json
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sparsekit.experiments.recipes import digits_mlp, digits_small
from sparsekit.widgets import NetworkView, film_of
from sparsekit.widgets.base import load_style

TRAITS = ("networks", "inputs", "labels", "facts", "frame", "state", "code", "shared_traits")
ROUNDS, EPOCHS = 40, 4
PAGE = """<!doctype html><meta charset="utf-8"><style>%s</style><body data-jp-theme-light="true"><main id="here"></main>
<script type="module">%s
const revive = (_, value) => value?.bytes === undefined ? value
  : new DataView(Uint8Array.from(atob(value.bytes), letter => letter.charCodeAt(0)).buffer);
const traits = JSON.parse(%s, revive);
const model = { get: name => traits[name], set(name, value) { traits[name] = value; }, on() {}, save_changes() {} };
render({ model, el: document.getElementById('here') });
</script>"""
COUNT = """(() => { // milliseconds of script in the callbacks of each screen frame, by its time stamp
  const request = window.requestAnimationFrame.bind(window);
  window.spent = new Map();
  window.requestAnimationFrame = call => request(stamp => {
    const start = performance.now();
    call(stamp);
    window.spent.set(stamp, (window.spent.get(stamp) ?? 0) + performance.now() - start);
  });
})()"""
TIME = """async ([selector, type, settings]) => {
  const element = document.querySelector(selector), stage = document.querySelector('.sk-net-stage');
  const before = stage.dataset.seq;
  const box = element.getBoundingClientRect(), at = { clientX: box.left + settings.x, clientY: box.top + settings.y };
  const kind = type.startsWith('key') ? KeyboardEvent : type === 'click' ? MouseEvent : PointerEvent;
  const start = performance.now();
  element.dispatchEvent(new kind(type, { bubbles: true, cancelable: true, pointerId: 1, ...settings, ...at }));
  while (stage.dataset.seq === before && performance.now() < start + 1000) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""
DRAG = """([selector, frames]) => new Promise(done => { // a key in every screen frame, as a hand that drags
  const element = document.querySelector(selector), script = [], start = performance.now();
  let last = null;
  const step = stamp => {
    if (last !== null) script.push(window.spent.get(last) ?? 0); // which has the key's own work in it
    if (script.length >= frames) {
      return done({ script, rate: 1000 * script.length / (performance.now() - start) });
    }
    last = stamp;
    const key = Math.floor(script.length / 60) % 2 ? 'PageUp' : 'PageDown';
    element.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""
FRAMES = """ms => new Promise(done => {
  const stage = document.querySelector('.sk-net-stage'), first = Number(stage.dataset.seq), start = performance.now();
  setTimeout(() => done(1000 * (stage.dataset.seq - first) / (performance.now() - start)), ms);
})"""


def page_of(view: NetworkView) -> str:
    """Return an HTML page that shows a view without a kernel."""
    traits = {name: getattr(view, name) for name in TRAITS}
    text = json.dumps(traits, default=lambda data: {"bytes": base64.b64encode(data).decode()})
    return PAGE % (load_style(), view._esm, json.dumps(text))


def find_program() -> str | None:
    """Return the path of Chromium, or of what is like it."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def summary(measured: list[float], digits: int = 0) -> str:
    """Return the median and the 95th percentile."""
    ordered = sorted(measured)
    return f"{statistics.median(ordered):.{digits}f} / {ordered[int(0.95 * len(ordered))]:.{digits}f}"


def times(page: Page, selector: str, kind: str, *, keys: tuple[str, ...] = ("",), xs: tuple[int, ...] = (0,)) -> str:
    """Return the median and the 95th percentile of some events, in milliseconds."""
    settings = [{"key": keys[k % len(keys)], "x": xs[k % len(xs)], "y": 60} for k in range(ROUNDS)]
    return summary([page.evaluate(TIME, [selector, kind, one]) for one in settings])


def play(page: Page) -> str:
    """Play the film from its start for two seconds, and return its frames per second."""
    slider = page.locator(".sk-chart[aria-label=Rewiring]")
    if not slider.is_visible():
        return "none"
    slider.press("Home")  # which pauses, so the button says Play
    page.locator(".sk-net .sk-main").click()
    rate = page.evaluate(FRAMES, 2000)
    slider.press("End")
    return f"{rate:.0f}"


def measure(page: Page) -> dict[str, str]:
    """Return all figures of the view on a page."""
    slider, graph = ".sk-chart[aria-label^=Conn]", ".sk-net-graph"
    rates = {"film, frames/s": play(page)}
    page.locator(slider).press("End")  # all connections
    page.wait_for_timeout(400)
    dragged = page.evaluate(DRAG, [slider, 3 * ROUNDS])
    rates["dragging, frames/s"] = f"{dragged['rate']:.0f}"
    rates["script of each frame"] = summary(dragged["script"], 1)
    rates["slider"] = times(page, slider, "keydown", keys=("PageDown",) * 30 + ("PageUp",) * 10)
    page.locator(slider).press("End")
    page.locator(graph).press("ArrowDown")
    rates["hover"] = times(page, graph, "keydown", keys=("ArrowDown",) * 3 + ("ArrowUp",) * 3)
    rates["lesion"] = times(page, graph, "keydown", keys=("Enter",))
    rates["pen"] = times(page, ".sk-net-pad", "pointerdown", xs=(40, 60, 80, 100))
    return rates


def main() -> None:
    """Print a row for each network."""
    films = {
        "293": film_of(digits_small(rule="rigl", density=0.05, epochs=EPOCHS)),
        "1,690": film_of(digits_mlp(rule="rigl", density=0.02, epochs=EPOCHS)),
        "5,856": film_of(digits_small(rule="dense", epochs=EPOCHS)),
    }
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=find_program(), args=["--no-sandbox", "--disable-gpu"])
        for name, film in films.items():
            path = Path(folder) / "page.html"
            path.write_text(page_of(NetworkView(film)), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            page.add_init_script(COUNT)
            page.goto(path.as_uri())
            page.wait_for_timeout(500)
            print(f"{name} connections:", ", ".join(f"{what} {value}" for what, value in measure(page).items()), "ms")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
