"""Explorers redraw in the browser, so a reader never waits for the kernel, whether it is idle or busy."""

SET_UP = """
import time
import torch
from torch import nn
import sparsekit as sk
from sparsekit.scores import Magnitude
from sparsekit.widgets import GuidanceExplorer, MaskExplorer, ScoreExplorer

torch.set_num_threads(1)
shapes = {"fc1": (300, 784), "fc2": (100, 300), "head": (10, 100)}  # LeNet-300-100
scores = {"random": {name: torch.rand(shape) for name, shape in shapes.items()}}
plain = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
sparse = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.05, seed=0))
with sk.capture_io(sparse) as io:
    sparse(torch.randn(8, 64)).square().mean().backward()

def slow_accuracy(topology):
    time.sleep(0.3)
    return topology.density
"""
MASKS = "MaskExplorer(scores, accuracy=slow_accuracy)"
SCORES = 'scored = ScoreExplorer(plain, {"magnitude": Magnitude(min_per_layer=0)}, halvings=6, halving=1)\nscored'
GUIDANCE = "scored.run.wait()\nGuidanceExplorer(sk.views(sparse, io))"
BUSY = """
try:
    while True:
        sum(range(1000))
except KeyboardInterrupt:
    print("interrupted")
"""
INTERRUPT = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
KEYS = ["ArrowRight", "ArrowRight", "PageUp", "ArrowLeft", "PageDown"] * 6


def summary(times: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile of sorted times."""
    return times[len(times) // 2], times[int(0.95 * len(times))]


def measure(book, kind: str) -> None:
    """Print how fast each figure answers, which no assertion can say on a machine that others use too."""
    for number, name in enumerate(("masks", "scores", "guidance")):
        stage = book.page.locator(".sk-explorer").nth(number)
        median, late = summary(book.reactions(stage, KEYS[: 30 if number == 0 else 15]))
        print(f"{name}, {kind} kernel: {median:.0f} ms from key to pixels, 95 % within {late:.0f} ms")


def test_pixels_follow_a_key_whether_the_kernel_is_idle_or_busy(notebook):
    book = notebook("scratch_reactions.ipynb", cells=[SET_UP, MASKS, SCORES, GUIDANCE]).run_all()
    book.page.get_by_text("7 of 7 masks are computed").wait_for()
    book.page.get_by_text("largest gradients").first.wait_for()
    measure(book, "idle")
    book.execute(BUSY)
    measure(book, "busy")  # it would wait for ever if a figure needed the kernel's main thread
    book.page.evaluate(INTERRUPT)
    book.wait_for("True")
