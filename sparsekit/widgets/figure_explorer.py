"""Controls stand above a figure, and a pure function draws it anew when one of them moves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsekit.plots.vector import drawing_of, image_of
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.call_source import call_with_state
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.frames import Drawing, Frames, frames_of, settings_of
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import CopyCode, read_state


class FigureExplorer(StaticPreview):
    """Show the figure that a function draws from the values of controls.

    The figure is a drawing, which follows the theme and stays sharp. If the controls have few settings, we draw them
    all at first, and the browser then changes the figure by itself.

    Args:
        draw: takes the controls' values by name and returns axes of a figure that nobody else holds. Their title is the
            sentence that says what the figure shows.
        fields: the controls.
        values: of the controls at first.
        title: spoken name of the controls.
        state: a text that *Copy as code* wrote. It overrides the values.

    Raises:
        ValueError: if the function refuses the initial values, or the state names other controls. Later the
            error stands beside the control that moved, and the last figure stays.

    Example:
        >>> from matplotlib.figure import Figure
        >>> def draw(power):
        ...     ax = Figure().subplots()
        ...     ax.set_title(f"x to the power of {power}")
        ...     return ax
        >>> explorer = FigureExplorer(draw, [Field(name="power", kind="range", low=0, high=3)], {"power": 1})
        >>> explorer.choose(power=2)
        >>> explorer
        x to the power of 2
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        fields: Sequence[Field],
        values: Mapping[str, Any],
        *,
        title: str = "What to draw",
        state: str = "",
    ):
        self._draw, values = draw, read_state(state, values)
        self._ax = draw(**values)
        self.controls = Controls(fields, dict(values), title=title)
        settings = settings_of(fields)
        self._has_all = settings is not None
        drawings = frames_of(self._drawing_of, [{**values, **one} for one in [*(settings or ()), dict(values)]])
        self.image = Frames(self.controls, drawings)
        # Readers who cannot see the image get the same in words, which a screen reader announces.
        self.words = Controls([Field(name="words", kind="text")], {"words": self.sentence()}, title="In words")
        self.told = ipywidgets.jslink((self.image, "words"), (self.words, "values"))
        self.copying = CopyCode(call_with_state(FigureExplorer), self.controls.values)
        self.link = ipywidgets.jslink((self.controls, "values"), (self.copying, "values"))
        self.controls.observe(self._refresh, "values")
        self.view = ipywidgets.VBox([self.controls, self.image, self.copying, self.words])

    def choose(self, **values: Any) -> None:
        """Move controls from code, while the others stay."""
        self.controls.set(**values)

    def sentence(self) -> str:
        """Say what the figure shows, in the words of its title."""
        return _title_of(self._ax)

    def as_code(self) -> str:
        """Return the cell that rebuilds the figure with its controls as they are."""
        return self.copying.sentence()

    def snapshot(self) -> StaticImage:
        """Return the figure as it is now."""
        return StaticImage(image_of(_figure_of(self._ax)), self.sentence())

    def _drawing_of(self, values: Mapping[str, Any]) -> Drawing:
        """Draw the figure for some values."""
        return _drawing(self._draw(**values))

    def _refresh(self, change: Any) -> None:
        self.copying.values = change.new
        names_changed = [name for name, value in change.new.items() if value != change.old.get(name)]
        try:
            self._ax = self._draw(**change.new)
        except ValueError as problem:
            self._set_error(names_changed[:1], str(problem))
            return
        self._set_error([], "")
        if not self._has_all:
            self.image.show(change.new, _drawing(self._ax))
        self.words.set(words=self.sentence())

    def _set_error(self, control_names: Sequence[str], problem: str) -> None:
        for field in self.controls.fields:
            error = problem if field["name"] in control_names else ""
            if field["error"] != error:
                self.controls.change(field["name"], error=error)

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _title_of(ax: Axes) -> str:
    return ax.get_title("left") or ax.get_title()


def _drawing(ax: Axes) -> Drawing:
    words = _title_of(ax)
    return Drawing(drawing_of(_figure_of(ax), words), words)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
