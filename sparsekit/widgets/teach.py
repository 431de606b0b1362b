"""Predict before you look, and check an answer: both work in a notebook that nobody has filled in yet."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float
from torch import Tensor

from sparsekit.widgets import rendering
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import StaticPreview

LONGEST = 80  # characters of a value in a message
MOST_SHOWN = 8  # numbers of an array that is written out


class Predict(StaticPreview):
    """A question with options; the answer opens only after a choice.

    Args:
        question: what to think about.
        options: the possible answers, all different.
        answer: place of the right one, from 0.
        because: why, shown after a choice.

    Raises:
        ValueError: if there are fewer than two options, equal ones, or no such answer.

    Example:
        >>> guess = Predict("2 + 2?", ["3", "4"], 1, "Two and two make four.")
        >>> guess.choose("3")
        >>> guess.revealed
        'Not quite: it is “4”. Two and two make four.'
    """

    def __init__(self, question: str, options: Sequence[str], answer: int, because: str):
        if len(options) < 2 or len(set(options)) < len(options):
            raise ValueError(f"a prediction needs two or more different options, got {list(options)}")
        if not 0 <= answer < len(options):
            raise ValueError(f"answer must lie in [0, {len(options) - 1}], a place in options, got {answer}")
        self.question, self.options, self.answer, self.because = question, list(options), answer, because
        fields = [
            Field(name="choice", kind="radio", label=question, options=tuple((text, text) for text in options)),
            Field(name="reveal", kind="text"),
        ]
        self.view = Controls(fields, {"choice": None, "reveal": ""}, title="Predict", flow="column")
        self.view.observe(self._reveal, "values")

    def choose(self, option: str) -> None:
        """Choose from code, as a reader does."""
        self.view.set(choice=option)

    @property
    def revealed(self) -> str:
        """What the reader was told; empty before a choice."""
        return self.view.values["reveal"]

    def sentence(self) -> str:
        """State the question and its options, and after a choice the answer."""
        options = " / ".join(self.options)
        return f"{self.question} {options}" + (f" {self.revealed}" if self.revealed else "")

    def snapshot(self) -> Picture:
        """Write question and options as text."""
        lines = [self.question, *(f"○ {option}" for option in self.options), *filter(None, [self.revealed])]
        return Picture(rendering.png(rendering.text(lines, bold=1)), self.sentence())

    def _reveal(self, change: Any) -> None:
        choice = change.new["choice"]
        if choice is None or choice == change.old["choice"]:
            return
        right = self.options[self.answer]
        verdict = "Yes." if choice == right else f"Not quite: it is “{right}”."
        self.view.set(reveal=f"{verdict} {self.because}")

    def _widget(self) -> ipywidgets.Widget:
        return self.view


@dataclass(frozen=True)
class Verdict:
    """What `Check` found; true if the answer is right. A notebook cell that ends in one shows nothing more."""

    is_right: bool
    message: str

    def __bool__(self) -> bool:
        return self.is_right

    def _ipython_display_(self) -> None:
        """Show nothing: the message is printed already."""


class Check:
    """Try an answer on cases; prints what differs first, and never raises, so that an unanswered notebook runs.

    Args:
        cases: arguments and the value expected for them, `((arguments...), value)`; numbers, texts, tensors, arrays,
            lists and dicts of these.
        hint: printed while the answer is not right.
        tolerance: how far numbers may be off, relative to the expected one (absolute below 1).

    Example:
        >>> check = Check([((784, 300, 0.1), 23520)], hint="Density is a share.")
        >>> _ = check(lambda rows, cols, density: rows * cols)
        Not yet: for (784, 300, 0.1) the answer gives 235200, expected 23520. Density is a share.
        >>> bool(check(lambda rows, cols, density: round(rows * cols * density)))
        Right: 1 of 1 cases.
        True
    """

    def __init__(self, cases: Sequence[tuple[tuple, Any]], hint: str = "", *, tolerance: float = 1e-5):
        self.cases, self.hint, self.tolerance = list(cases), hint, tolerance

    def __call__(self, answer: Callable | None) -> Verdict:
        """Print and return the verdict on an answer."""
        verdict = self._judge(answer)
        print(verdict.message)  # noqa: T201 - the reader's cell asked for it
        return verdict

    def _judge(self, answer: Callable | None) -> Verdict:
        if answer is None:
            return self._with_hint("Not answered yet.")
        for arguments, expected in self.cases:
            problem = self._try(answer, arguments, expected)
            if problem:
                return self._with_hint(problem)
        return Verdict(True, f"Right: {len(self.cases)} of {len(self.cases)} cases.")

    def _try(self, answer: Callable, arguments: tuple, expected: Any) -> str:
        """Return what is wrong with one case, or an empty text."""
        given = f"for ({', '.join(_brief(argument) for argument in arguments)})"
        try:
            got = answer(*arguments)
        except NotImplementedError:
            return "Not answered yet."
        except (
            Exception
        ) as error:  # a reader's error belongs in the sentence, not in a traceback that stops the notebook
            return f"Not yet: {given} the answer raises {type(error).__name__}: {error}."
        if got is NotImplemented or got is ...:
            return "Not answered yet."
        place = difference(got, expected, self.tolerance)
        if place is None:
            return ""
        return f"Not yet: {given} the answer gives {_brief(got)}, expected {_brief(expected)}{place}."

    def _with_hint(self, message: str) -> Verdict:
        return Verdict(False, f"{message} {self.hint}".strip())


def difference(got: Any, expected: Any, tolerance: float = 1e-5) -> str | None:
    """Return where two values differ (an empty text for the whole), or None where they agree.

    What cannot be compared differs.

    Example:
        >>> difference({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}), difference(0.1 + 0.2, 0.3)
        (', first different at ["a"][1]', None)
    """
    try:
        path = _differing_path(got, expected, tolerance)
    except Exception:  # an answer may be anything, an object that refuses to be compared too
        return ""
    return f", first different at {path}" if path else path


def _differing_path(got: Any, expected: Any, tolerance: float) -> str | None:
    if isinstance(expected, Mapping):
        fits = isinstance(got, Mapping) and set(got) == set(expected)
        return _differing_item(got, expected, list(expected), tolerance) if fits else ""
    if isinstance(expected, list | tuple):
        fits = isinstance(got, list | tuple) and len(got) == len(expected)
        return _differing_item(got, expected, list(range(len(expected))), tolerance) if fits else ""
    if isinstance(expected, Tensor | np.ndarray | np.number | int | float):
        return _differing_place(_numbers(got), _numbers(expected), tolerance)
    return None if bool(got == expected) else ""


def _differing_item(got: Any, expected: Any, keys: list, tolerance: float) -> str | None:
    for key in keys:
        inner = _differing_path(got[key], expected[key], tolerance)
        if inner is not None:
            return f'["{key}"]{inner}' if isinstance(key, str) else f"[{key}]{inner}"
    return None


def _differing_place(got: Float[np.ndarray, "..."], expected: Float[np.ndarray, "..."], tolerance: float) -> str | None:
    if got.shape != expected.shape:
        return ""
    close = np.asarray(np.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True))
    if close.all():
        return None
    return f"[{', '.join(str(number) for number in np.argwhere(~close)[0])}]" if close.ndim else ""


def _numbers(value: Any) -> Float[np.ndarray, "..."]:
    if isinstance(value, str):
        raise TypeError(f"numbers must not come as text, got {value!r}")  # numpy would read "3" as 3
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value).astype(np.float64)


def _brief(value: Any) -> str:
    """Write a value on one line: arrays as their shape unless they are small."""
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) > MOST_SHOWN:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
