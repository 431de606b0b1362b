"""The buttons and sliders of a running training work in a real notebook while a cell waits for it."""

SET_UP = """
import itertools, time
import torch
from torch import nn
from sparsekit.layers import sparsify
from sparsekit.rules import RigL
from sparsekit.topology.selection import random_topology
from sparsekit.widgets import Control, LivePanel, Predict, RulePicker, Run, live_training

torch.set_num_threads(1)
torch.manual_seed(0)
shapes = {"0": (32, 16), "2": (4, 32)}
model = sparsify(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), random_topology(shapes, 0.2))
inputs = torch.randn(64, 16)
labels = (inputs[:, :4]).argmax(1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
control = Control(RigL(stop=100_000, every=50))

def slowly(batch):
    while True:
        time.sleep(0.002)
        yield batch

steps = live_training(
    model, optimizer, slowly((inputs, labels)), nn.functional.cross_entropy, control, steps=100_000
)
run = Run(steps, total=100_000)
"""
REPEAT = """
control = Control(RigL(stop=60, every=20))
def training():
    return live_training(
        model, optimizer, itertools.repeat((inputs, labels)), nn.functional.cross_entropy, control, steps=60
    )
run = Run(training, total=60)
"""
PANEL = "panel = LivePanel(run, control=control)\npanel"
WAIT = "last = run.wait(timeout=100)"
QUESTION = 'guess = Predict("How many?", ["few", "many"], 1, "There are a hundred.")\nguess'
STATUS = ".sk-text[role=status]"


def wait_for(book, state: str) -> None:
    book.page.wait_for_function(
        "([selector, state]) => document.querySelector(selector)?.textContent.startsWith(state)", arg=[STATUS, state]
    )


def steps_said(book) -> int:
    return int(book.page.get_by_text("of 100,000 steps").first.inner_text().split()[0].replace(",", ""))


def test_a_training_is_steered_paused_and_stopped_while_a_cell_waits_for_it(notebook):
    book = notebook("scratch_live.ipynb", cells=[SET_UP, PANEL, WAIT]).run_all(wait=False)
    page = book.page
    wait_for(book, "running")
    page.wait_for_function("() => Number(document.querySelector('canvas.sk-curve')?.dataset.points) > 20")
    book.press(page.get_by_role("slider", name="Interval"), "Home")
    book.press(page.get_by_role("slider", name="Drop fraction"), "End")
    page.get_by_role("button", name="Pause").click()
    wait_for(book, "paused")
    page.wait_for_timeout(200)
    count = steps_said(book)
    page.wait_for_timeout(400)
    assert steps_said(book) == count
    page.get_by_role("button", name="Resume").click()
    wait_for(book, "running")
    page.get_by_role("button", name="Stop").click()
    wait_for(book, "stopped")
    book.settle()
    assert book.python("[run.state, last.step + 1 == run.count, run.count < 100_000]") == ["stopped", True, True]
    assert book.python("run.count") >= count
    page.get_by_text("follows Cosine").wait_for(state="detached")
    assert book.python("[control.rule.every, control.rule.drop_fraction.value]") == [1, 0.9]
    assert page.locator("canvas.sk-mask").count() == 2
    assert page.locator("h3.sk-title").first.inner_text().startswith(("accuracy ", "loss "))


def test_a_panel_does_not_grow_at_the_start_and_begins_anew(notebook):
    cells = [SET_UP, REPEAT, "panel = LivePanel(run, control=control)\npanel", "print('ready')"]
    book = notebook("scratch_again.ipynb", cells=cells).run_all()
    page = book.page
    page.locator("canvas.sk-mask").nth(1).wait_for()
    page.get_by_text("connections wait for Start").wait_for()
    height = "() => document.querySelector('.sk-panel').getBoundingClientRect().height"
    before = page.evaluate(height)
    page.get_by_role("button", name="Start", exact=True).click()
    again = page.get_by_role("button", name="Again", exact=True)
    again.wait_for()
    assert abs(page.evaluate(height) - before) <= 30  # the line that explains the colours is new
    again.click()
    book.wait_for("run.state == 'done' and len(run.past) == 1")
    assert book.python("[run.count, run.rewirings]") == [60, [0, 20, 40]]


def test_pickers_and_questions_answer_beside_what_was_chosen(notebook):
    cells = [SET_UP, "picker = RulePicker(total_steps=1000)\npicker", QUESTION]
    book = notebook("scratch_picker.ipynb", cells=cells).run_all()
    stop = book.page.get_by_label("stop", exact=True)
    stop.fill("")
    book.page.keyboard.press("Tab")
    alert = book.page.get_by_role("alert")
    alert.wait_for()
    assert "must know its end" in alert.inner_text()
    assert book.python("picker.value.stop") == 750
    stop.fill("500")
    book.page.keyboard.press("Tab")
    alert.wait_for(state="detached")
    assert book.python("picker.value.stop") == 500
    book.page.get_by_label("Rule", exact=True).select_option("static")
    stop.wait_for(state="detached")
    assert book.python("type(picker.value).__name__") == "Static"
    assert book.page.get_by_role("status").get_by_text("There are a hundred.").count() == 0
    book.page.get_by_role("radio", name="many").check()
    book.page.get_by_role("status").get_by_text("Yes. There are a hundred.").wait_for()
    texts = ["".join(output["data"]["text/plain"]) for output in book.outputs() if "data" in output]
    assert texts == ["DropGrow(stop=750)", "How many? few / many"]  # no address, so that nbval can compare
    assert all("image/png" in output["data"] for output in book.outputs())
