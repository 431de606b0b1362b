"""Predict before you look, and check your answer. Both work in a notebook that nobody has filled in yet."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float
from torch import Tensor

from sparsekit.widgets import rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.rendering import StaticImage

MAX_LENGTH = 80  # characters of a value in a message
MAX_NUMBERS = 8  # of an array that we write out
UNANSWERED = "You have not answered yet."


class Predict(StaticPreview):
    """Ask a question with options, and open the answer only after a choice.

    Args:
        question: what to think about.
        options: the possible answers, all different.
        answer: index of the right one, from 0.
        because: why, for the reader who has chosen.

    Raises:
        ValueError: if there are fewer than two options, equal ones, or no such answer.

    Example:
        >>> guess = Predict("2 + 2?", ["3", "4"], 1, "Two and two make four.")
        >>> guess.choose("3")
        >>> guess.revealed
        'Not quite, it is “4”. Two and two make four.'
    """

    def __init__(self, question: str, options: Sequence[str], answer: int, because: str):
        if len(options) < 2 or len(set(options)) < len(options):
            raise ValueError(
                f"a prediction needs two or more different options, got {list(options)}. Add or change some"
            )
        if not 0 <= answer < len(options):
            raise ValueError(f"answer must lie in [0, {len(options) - 1}], got {answer}. Give the index of an option")
        self.question, self.options, self.answer, self.because = question, list(options), answer, because
        fields = [
            Field(name="choice", kind="radio", label=question, options=tuple((text, text) for text in options)),
            Field(name="reveal", kind="text"),
        ]
        self.view = Controls(fields, {"choice": None, "reveal": ""}, title="Predict", flow="column")
        self.view.observe(self._on_choice, "values")

    def choose(self, option: str) -> None:
        """Choose from code, as you would in the notebook."""
        self.view.set(choice=option)

    @property
    def revealed(self) -> str:
        """What the reader sees after a choice, and an empty text before."""
        return self.view.values["reveal"]

    def sentence(self) -> str:
        """State the question and its options, and after a choice the answer."""
        options = " / ".join(self.options)
        return f"{self.question} {options}" + (f" {self.revealed}" if self.revealed else "")

    def snapshot(self) -> StaticImage:
        """Write question and options as text."""
        lines = [self.question, *(f"○ {option}" for option in self.options), *filter(None, [self.revealed])]
        return StaticImage(rendering.png(rendering.text(lines, bold=1)), self.sentence())

    def _on_choice(self, change: Any) -> None:
        choice = change.new["choice"]
        if choice is None or choice == change.old["choice"]:
            return
        right = self.options[self.answer]
        verdict = "Yes." if choice == right else f"Not quite, it is “{right}”."
        self.view.set(reveal=f"{verdict} {self.because}")

    def _widget(self) -> ipywidgets.Widget:
        return self.view


@dataclass(frozen=True)
class Verdict:
    """A verdict of `Check` is true if the answer is right. A notebook cell that ends in one shows nothing more."""

    is_right: bool
    message: str

    def __bool__(self) -> bool:
        return self.is_right

    def _ipython_display_(self) -> None:
        """Show nothing, because the message is printed already."""


class Check:
    """Try an answer on cases and print what differs first. It never raises, so an unanswered notebook runs.

    Args:
        cases: arguments and the value expected for them, `((arguments...), value)`. Values are numbers, texts, tensors,
            arrays, lists and dicts of these.
        hint: what to print while the answer is not right.
        tolerance: how far numbers may be off, relative to the expected one (absolute below 1).

    Example:
        >>> check = Check([((784, 300, 0.1), 23520)], hint="Density is a share.")
        >>> _ = check(lambda rows, cols, density: rows * cols)
        Not yet. For (784, 300, 0.1) your answer gives 235200, but we expect 23520. Density is a share.
        >>> bool(check(lambda rows, cols, density: round(rows * cols * density)))
        Right, your answer fits 1 of 1 cases.
        True
    """

    def __init__(self, cases: Sequence[tuple[tuple, Any]], hint: str = "", *, tolerance: float = 1e-5):
        self.cases, self.hint, self.tolerance = list(cases), hint, tolerance

    def __call__(self, answer: Callable | None) -> Verdict:
        """Print and return the verdict on an answer."""
        verdict = self._assess(answer)
        print(verdict.message)  # noqa: T201 - the reader's cell asked for it
        return verdict

    def _assess(self, answer: Callable | None) -> Verdict:
        if answer is None:
            return self._with_hint(UNANSWERED)
        for arguments, expected in self.cases:
            problem = self._try_case(answer, arguments, expected)
            if problem:
                return self._with_hint(problem)
        return Verdict(True, f"Right, your answer fits {len(self.cases)} of {len(self.cases)} cases.")

    def _try_case(self, answer: Callable, arguments: tuple, expected: Any) -> str:
        """Return what is wrong with one case, or an empty text."""
        case = f"For ({', '.join(_brief(argument) for argument in arguments)})"
        try:
            result = answer(*arguments)
        except NotImplementedError:
            return UNANSWERED
        except Exception as error:  # a reader's error belongs in the sentence, because a traceback stops the notebook
            return f"Not yet. {case} your answer raises {type(error).__name__}: {error}."
        if result is NotImplemented or result is ...:
            return UNANSWERED
        location = difference(result, expected, self.tolerance)
        if location is None:
            return ""
        return f"Not yet. {case} your answer gives {_brief(result)}, but we expect {_brief(expected)}{location}."

    def _with_hint(self, message: str) -> Verdict:
        return Verdict(False, f"{message} {self.hint}".strip())


def difference(result: Any, expected: Any, tolerance: float = 1e-5) -> str | None:
    """Return where two values differ (an empty text for the whole), or None where they agree.

    What cannot be compared differs.

    Example:
        >>> difference({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}), difference(0.1 + 0.2, 0.3)
        (', which differs first at ["a"][1]', None)
    """
    try:
        path = _differing_path(result, expected, tolerance)
    except Exception:  # an answer may be anything, even an object that refuses comparison
        return ""
    return f", which differs first at {path}" if path else path


def _differing_path(result: Any, expected: Any, tolerance: float) -> str | None:
    if isinstance(expected, Mapping):
        fits = isinstance(result, Mapping) and set(result) == set(expected)
        return _differing_item(result, expected, list(expected), tolerance) if fits else ""
    if isinstance(expected, list | tuple):
        fits = isinstance(result, list | tuple) and len(result) == len(expected)
        return _differing_item(result, expected, list(range(len(expected))), tolerance) if fits else ""
    if isinstance(expected, Tensor | np.ndarray | np.number | int | float):
        return _differing_index(_numbers(result), _numbers(expected), tolerance)
    return None if bool(result == expected) else ""


def _differing_item(result: Any, expected: Any, keys: list, tolerance: float) -> str | None:
    for key in keys:
        inner = _differing_path(result[key], expected[key], tolerance)
        if inner is not None:
            return f'["{key}"]{inner}' if isinstance(key, str) else f"[{key}]{inner}"
    return None


def _differing_index(first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."], tolerance: float) -> str | None:
    if first.shape != second.shape:
        return ""
    is_close = np.asarray(np.isclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True))
    if is_close.all():
        return None
    return f"[{', '.join(str(number) for number in np.argwhere(~is_close)[0])}]" if is_close.ndim else ""


def _numbers(value: Any) -> Float[np.ndarray, "..."]:
    if isinstance(value, str):
        raise TypeError(f"numbers must not come as text, got {value!r}")  # because numpy would read "3" as 3
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value).astype(np.float64)


def _brief(value: Any) -> str:
    """Write a value on one line, with arrays as their shape unless they are small."""
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) > MAX_NUMBERS:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"
