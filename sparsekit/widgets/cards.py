"""A card says one thing in a notebook: how an answer stands, or what was measured."""

import textwrap
from collections.abc import Sequence

import traitlets as t

from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.rendering import StaticImage

LINE_LENGTH = 100  # characters of a line in the static image
MARKS = {"right": "✓ ", "wrong": "× ", "open": "○ ", "best": "★ ", "told": ""}


class Card(FrontEndWidget):
    """A title, a text, and hints that the reader opens one after the other. It needs no kernel once it is shown.

    Args:
        title: what it says in a few words.
        text: the rest.
        state: `"right"`, `"wrong"`, `"open"`, `"best"` or `"told"`, which is its mark.
        hints: to be opened on request.
        replies: what it says instead to each guess of a prediction, as title and state.

    Example:
        >>> Card("Right.", "Your answer fits 3 of 3 cases.", state="right")
        Right. Your answer fits 3 of 3 cases.
    """

    _esm = load_script("shared", "card")
    title = t.Unicode().tag(sync=True)
    text = t.Unicode().tag(sync=True)
    state = t.Enum(list(MARKS), default_value="told").tag(sync=True)
    hints = t.List(t.Unicode()).tag(sync=True)
    replies = t.List(t.List(t.Unicode())).tag(sync=True)
    guess = t.Int(-1, help="a guess of now, which the page alone sets").tag(sync=True)

    def __init__(
        self,
        title: str,
        text: str = "",
        *,
        state: str = "told",
        hints: tuple[str, ...] = (),
        replies: Sequence[tuple[str, str]] = (),
    ):
        shown = [list(reply) for reply in replies]
        super().__init__(title=title, text=text, state=state, hints=list(hints), replies=shown)

    def sentence(self) -> str:
        """Say title and text. Hints stay closed."""
        return f"{self.title} {self.text}".strip()

    def snapshot(self) -> StaticImage:
        """Write title and text."""
        lines = textwrap.wrap(self.text, LINE_LENGTH)
        return StaticImage(
            rendering.png(rendering.text([MARKS[self.state] + self.title, *lines], bold=1)), self.sentence()
        )


def show(title: str, text: str = "", *, state: str = "told", hints: tuple[str, ...] = ()) -> None:
    """Show a card in a notebook, and print its sentence elsewhere."""
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(f"{title} {text}".strip())  # noqa: T201 - the reader's call asked for it
    else:
        display(Card(title, text, state=state, hints=hints))
