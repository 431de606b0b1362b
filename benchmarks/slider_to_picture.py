"""How long does a reader wait between a move of the sparsity slider and the new image of all masks?

We show twenty masks of 512 x 512 (5.2 million positions) in a real JupyterLab and Chromium. A step goes from a key to
the canvas, without the kernel (compare ranks, count, paint). It ends when the frame after the drawing begins, so the
image is on the screen then. We measure with an idle kernel, and with one that computes all the time.

    python benchmarks/slider_to_picture.py [--output slider.json]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import conftest as harness  # noqa: E402 - the tests' JupyterLab and Chromium
from browser.driving import Notebook, write_notebook  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

NUM_MASKS, SIDE, MOVES = 20, 512, 80
CELL = f"""
import time
import torch
from sparsekit.widgets import MaskExplorer
generator = torch.Generator().manual_seed(0)
scores = {{"random": {{f"layer{{k}}": torch.rand({SIDE}, {SIDE}, generator=generator) for k in range({NUM_MASKS})}}}}
explorer = MaskExplorer(scores, density=0.5)
explorer
"""

BUSY = """
try:
    while True:
        sum(range(1000))
except KeyboardInterrupt:
    pass
"""


@contextmanager
def notebook() -> Iterator[Notebook]:
    """Yield a notebook with the explorer, in a JupyterLab of its own."""
    home = Path(tempfile.mkdtemp())
    (home / "notebooks").mkdir()
    write_notebook(home / "notebooks" / "slider.ipynb", [CELL])
    harness.write_settings(home / "settings")
    port = harness.free_port()
    flags = [*harness.LAB_FLAGS, f"--port={port}", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags], env=harness.lab_environment(home), stdout=log, stderr=log
        )
    try:
        harness.wait_for_server(server, f"http://127.0.0.1:{port}", home / "lab.log")
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=harness.find_chromium(), args=harness.FLAGS)
            page = chromium.new_page(viewport={"width": 1280, "height": 1400})
            yield Notebook(page).open(f"http://127.0.0.1:{port}", "slider.ipynb").run_all()
            chromium.close()
    finally:
        harness.stop(server)


def moves(book: Notebook) -> list[float]:
    """Move the slider, one step at a time, and return sorted times in milliseconds."""
    stage = book.page.locator(".sk-explorer")
    book.reactions(stage, ["ArrowRight"])  # the first move warms up
    return sorted(book.reactions(stage, ["ArrowRight", "ArrowLeft"] * (MOVES // 2)))


def measure() -> dict:
    """Return times in milliseconds with an idle and with a busy kernel."""
    with notebook() as book:
        book.page.locator("canvas.sk-mask").nth(NUM_MASKS - 1).wait_for()
        idle = moves(book)
        book.execute(BUSY)
        steps = {"idle": idle, "busy": moves(book)}
    return {
        "masks": NUM_MASKS,
        "side": SIDE,
        "median_ms": {kernel: round(statistics.median(times), 1) for kernel, times in steps.items()},
        "p95_ms": {kernel: round(times[int(0.95 * len(times))], 1) for kernel, times in steps.items()},
        "steps_ms": {kernel: [round(step, 1) for step in times] for kernel, times in steps.items()},
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    options = parser.parse_args()
    if not harness.find_chromium():
        sys.exit("no Chromium here. Install it (apt-get install chromium on Debian) or set CHROMIUM to its path")
    result = measure()
    for kernel, median in result["median_ms"].items():
        late = result["p95_ms"][kernel]
        print(
            f"{NUM_MASKS} masks of {SIDE} x {SIDE}, {kernel} kernel: median {median} ms from key to image, 95 % "
            f"within {late} ms"
        )
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
