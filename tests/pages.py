"""The examples of pages and docstrings, as several test modules run them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page: str, language: str = "python") -> list[str]:
    """Return the blocks of code of a page in `docs/`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_only_block(page: str) -> None:
    """Run the one block of Python that a page has."""
    (block,) = code_blocks(page)
    exec(compile(block, page, "exec"), {})


@contextmanager
def new_widgets_closed() -> Iterator[Callable[[], set[str]]]:
    """List the new widgets, and close them in the end, since they live on in their process, where others meet them."""
    try:
        from ipywidgets.widgets.widget import _instances as alive
    except ImportError:
        alive = {}
    before = set(alive)
    try:
        yield lambda: set(alive) - before
    finally:
        for name in set(alive) - before:
            if name in alive:  # it is gone if another that held it was closed before
                alive[name].close()
