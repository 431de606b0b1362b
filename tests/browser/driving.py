"""Drive a notebook in a browser test: run it, wait, press keys, ask the kernel and count pixels."""

import json
import re
import time
from pathlib import Path

import nbformat

PATIENCE = 240_000  # ms, although a notebook needs 60 s at most, because slow and busy machines test too

READY = """() => { // idle too, because a connected kernel may never have said a word
  const context = window.jupyterapp?.shell?.currentWidget?.sessionContext, kernel = context?.session?.kernel;
  return Boolean(context?.isReady) && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
RUN = """last => { // the index of the last cell to run, or null for all
  window.sparsekitRun = { done: false };
  const finish = () => { window.sparsekitRun.done = true; };
  if (last !== null) window.jupyterapp.shell.currentWidget.content.activeCellIndex = last + 1;
  const command = last === null ? 'runmenu:run-all' : 'notebook:run-all-above';
  window.jupyterapp.commands.execute(command).then(finish, finish);
}"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
ASK = """async code => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  let text = '';
  future.onIOPub = message => { if (message.header.msg_type === 'stream') text += message.content.text; };
  const reply = (await future.done).content;
  return reply.status === 'ok' ? { text } : { error: `${reply.ename}: ${reply.evalue}` };
}"""
COUNT_PIXELS = """(canvas, [red, green, blue]) => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += data[i] === red && data[i + 1] === green && data[i + 2] === blue;
  return count;
}"""
REACT = """async ([dial, stage, keys]) => {
  const times = [];
  dial.focus();
  for (const key of keys) {
    const start = performance.now();
    const shown = new Promise(done => { // the frame after the drawing begins when the drawing is on the screen
      const finish = () => { watcher.disconnect(); requestAnimationFrame(() => done(performance.now() - start)); };
      const watcher = new MutationObserver(finish);
      watcher.observe(stage, { attributes: true, attributeFilter: ['data-seq'] });
    });
    dial.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    times.push(await shown);
    await new Promise(done => setTimeout(done, 7));
  }
  return times;
}"""
EXECUTE = (
    """code => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute({ code }); }"""
)
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
HEIGHT = """() => Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-outer')].map(e => e.scrollHeight))"""

IMAGE = "__import__('hashlib').sha256({}.image.value.encode()).hexdigest()"


class Notebook:
    """One notebook is open in JupyterLab. `page` is playwright's, for everything that has no method here."""

    def __init__(self, page):
        self.page = page
        page.set_default_timeout(PATIENCE)

    def open(self, url: str, name: str) -> "Notebook":
        """Open a notebook of the server's folder, and wait until its kernel answers."""
        self.page.goto(f"{url}/doc/tree/{name}?reset")
        self.page.wait_for_function(READY)
        return self

    def run_all(self, *, wait: bool = True) -> "Notebook":
        """Run every cell. Do not wait where a cell itself waits for somebody to press something."""
        self.page.evaluate(RUN, None)
        return self.settle() if wait else self

    def run_to(self, code: str, *, wait: bool = True) -> "Notebook":
        """Run the cells up to the first one that contains some code, which must not be the last one."""
        cells = self.page.evaluate(CELLS)
        self.page.evaluate(RUN, next(index for index, cell in enumerate(cells) if code in "".join(cell["source"])))
        return self.settle() if wait else self

    def settle(self) -> "Notebook":
        """Wait until the run is over, and check that no cell has failed."""
        self.page.wait_for_function("() => window.sparsekitRun.done")
        failed = [output for output in self.outputs() if output["output_type"] == "error"]
        assert not failed, "cells failed: " + ", ".join(f"{output['ename']}: {output['evalue']}" for output in failed)
        return self

    def outputs(self) -> list[dict]:
        """Return the outputs of all cells, in order, as the notebook format writes them."""
        return [output for cell in self.page.evaluate(CELLS) for output in cell.get("outputs", ())]

    def printed(self) -> str:
        """Return what all cells printed."""
        texts = [output["text"] for output in self.outputs() if output["output_type"] == "stream"]
        return "".join("".join(text) for text in texts)

    def python(self, expression: str):
        """Ask the kernel for the value of an expression, which comes as JSON, with tensors and arrays as lists."""
        code = f"print(__import__('json').dumps({expression}, default=lambda value: value.tolist()))"
        reply = self.page.evaluate(ASK, code)
        assert "error" not in reply, f"the kernel could not say {expression}: {reply['error']}"
        return json.loads(reply["text"])

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the kernel, which hears of a key a moment after the page."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not self.python(f"bool({expression})"):
            assert time.monotonic() < deadline, f"it never became true that {expression}"
            self.page.wait_for_timeout(50)

    def image_hash(self, widget: str) -> str:
        """Return the hash of the image that a widget shows."""
        return self.python(IMAGE.format(widget))

    def wait_for_another_image(self, widget: str, before: str) -> None:
        """Wait until a widget shows another image than the one with this hash."""
        self.wait_for(f"{IMAGE.format(widget)} != {before!r}")

    def press(self, control, key: str, *, times: int = 1) -> None:
        """Focus a control and press a key, as you do without a mouse. It is exact, and it tests just that."""
        control.focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def wait_until(self, control, attribute: str, text: str) -> None:
        """Wait until an attribute of an element (`aria-label`, `data-seq`, ...) contains a text."""
        self.page.wait_for_function(
            "([element, name, text]) => (element.getAttribute(name) ?? '').includes(text)",
            arg=[control.element_handle(), attribute, text],
        )

    def count_pixels(self, canvas, colour: str) -> int:
        """Count a 2-D canvas' pixels of exactly this colour, `#rrggbb`."""
        red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
        return canvas.evaluate(COUNT_PIXELS, [red, green, blue])

    def reactions(self, stage, keys: list[str]) -> list[float]:
        """Press keys on a figure's curve, and return the milliseconds from each key to its pixels, sorted."""
        dial = stage.locator(".sk-chart")
        return sorted(self.page.evaluate(REACT, [dial.element_handle(), stage.element_handle(), keys]))

    def execute(self, code: str) -> None:
        """Let the kernel run some code, and do not wait for it."""
        self.page.evaluate(EXECUTE, code)

    def screenshot(self, path: Path) -> None:
        """Keep an image of the whole notebook, for which the window grows to its height."""
        width = self.page.viewport_size["width"]
        height = min(int(self.page.evaluate(HEIGHT)) + 200, 16_000)
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_timeout(300)  # no assertion depends on this pause, only images for people
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def shut_down(self) -> None:
        """End the kernel, because the server would hand it to the next test that opens the same file."""
        self.page.evaluate(SHUT_DOWN)


def write_notebook(path: Path, cells: list[str]) -> None:
    """Write a scratch notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def file_name(*words: str) -> str:
    """Return words as a safe file name."""
    return re.sub(r"[^\w.-]+", "_", "-".join(words)).strip("_")
