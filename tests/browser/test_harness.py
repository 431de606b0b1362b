"""The harness sees moves that arrive, cells that fail, scripts that break and requests that leave."""

import pytest

SLIDER = """
import ipywidgets
moved = []
slider = ipywidgets.IntSlider(value=3, max=20, description="Connections")
slider.observe(lambda change: moved.append(change["new"]), "value")
slider
"""
CANVAS = """
import anywidget, traitlets
class Bars(anywidget.AnyWidget):
    _esm = '''export default { render({ model, el }) {
      const canvas = document.createElement('canvas');
      canvas.setAttribute('role', 'img');
      const draw = () => {
        canvas.width = 40; canvas.height = 10;
        const c = canvas.getContext('2d');
        c.fillStyle = '#12355b'; c.fillRect(0, 0, model.get('count'), 10);
        canvas.setAttribute('aria-label', `${model.get('count')} bars`);
      };
      model.on('change:count', draw); draw(); el.appendChild(canvas);
    } }'''
    count = traitlets.Int(4).tag(sync=True)
bars = Bars()
bars
"""
BROKEN = """
import anywidget
class Broken(anywidget.AnyWidget):
    _esm = "export default { render() { setTimeout(() => { throw new Error('the widget broke') }) } }"
Broken()
"""


def test_a_key_reaches_the_kernel_and_a_change_there_is_drawn_pixel_by_pixel(notebook):
    book = notebook("harness.ipynb", cells=[SLIDER, CANVAS, "print('kept', 3)"]).run_all()
    slider = book.page.locator(".widget-hslider", has_text="Connections").get_by_role("slider")
    book.press(slider, "ArrowRight", times=4)
    book.wait_until(slider, "aria-valuenow", "7")
    book.wait_for("moved and moved[-1] == 7")
    assert book.printed() == "kept 3\n"
    canvas = book.page.get_by_role("img", name="4 bars")
    assert book.count_pixels(canvas, "#12355b") == 40
    assert book.python("setattr(bars, 'count', 9)") is None
    changed = book.page.get_by_role("img", name="9 bars")
    changed.wait_for()
    assert book.count_pixels(changed, "#12355b") == 90


def test_a_second_notebook_of_the_same_name_gets_a_fresh_kernel(notebook):
    book = notebook("harness.ipynb", cells=["print('moved' in globals(), 'bars' in globals())"]).run_all()
    assert book.printed() == "False False\n"


def test_a_part_is_run_and_a_failing_cell_and_a_failing_expression_are_seen(notebook):
    book = notebook("failing.ipynb", cells=["print(1)", "print(2)", "1 / 0"])
    assert book.run_to("print(2)").printed() == "1\n2\n"
    with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
        book.run_all()
    with pytest.raises(AssertionError, match="NameError"):
        book.python("nowhere")


def test_a_script_that_breaks_in_the_page_is_seen(notebook, watch):
    book = notebook("broken.ipynb", cells=[BROKEN])
    with book.page.expect_event("pageerror"):
        book.run_all()
    with pytest.raises(AssertionError, match="the widget broke"):
        watch.check()
    watch.errors.clear()


def test_a_request_that_leaves_the_machine_is_seen(notebook, watch):
    book = notebook("leaving.ipynb", cells=[])
    for script in ("fetch('http://203.0.113.1/font.css')", "new WebSocket('ws://203.0.113.1/live')"):
        book.page.evaluate(f"() => {{ try {{ Promise.resolve({script}).catch(() => 0) }} catch {{}} }}")
        book.page.wait_for_timeout(200)
        with pytest.raises(AssertionError, match=r"must need no network.*203\.0\.113\.1"):
            watch.check()
        watch.requests.clear()
