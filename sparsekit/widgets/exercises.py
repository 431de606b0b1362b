"""Predict before you look, and check your answer. Both work in a notebook that nobody has filled in yet."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import traitlets as t

from sparsekit.experiments.course import progress
from sparsekit.experiments.course.exercise import OPEN, Cases, Exercise, Mistake, Verdict
from sparsekit.experiments.course.tasks import exercise
from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.cards import LINE_LENGTH, Card, show
from sparsekit.widgets.rendering import StaticImage


class Predict(FrontEndWidget):
    """Ask a question with options. The reader's first choice stays, and the answer opens only after it.

    The choice is in the reader's progress, so it is there again when the cell runs anew, even on another day.

    Args:
        question: what to think about.
        options: the possible answers, all different.
        answer: index of the right one, from 0. None leaves it open until `measured` says it.
        because: why, for the reader who has chosen.

    Raises:
        ValueError: if there are fewer than two options, equal ones, or no such answer.

    Example:
        >>> guess = Predict("2 + 2?", ["3", "4"], 1, "Two and two make four.")
        >>> guess.choose("3")
        >>> guess.revealed
        'Not quite, it is “4”. Two and two make four.'
    """

    _esm = load_script("shared", "predict")
    question = t.Unicode().tag(sync=True)
    options = t.List(t.Unicode()).tag(sync=True)
    first = t.Int(-1).tag(sync=True)
    right = t.Int(-1).tag(sync=True)  # unknown to the page until the reader has chosen
    reveal = t.Unicode().tag(sync=True)
    told = t.Dict(help="the right option and what to say to each, in a page without a kernel").tag(sync=True)

    def __init__(self, question: str, options: Sequence[str], answer: int | None = None, because: str = ""):
        if len(options) < 2 or len(set(options)) < len(options):
            raise ValueError(
                f"a prediction needs two or more different options, got {list(options)}. Add or change some"
            )
        self._check_option("answer", answer, len(options))
        self.answer, self.because = answer, because
        self._kept: int | None = None  # the first choice
        self._unanswered: list[Card] = []  # cards of measurements that came before a guess
        self._links: list[Any] = []
        super().__init__(question=question, options=list(options))
        self.observe(self._on_choice, "first")
        self._take_up()

    @staticmethod
    def _check_option(name: str, option: int | None, count: int) -> None:
        if option is not None and not 0 <= option < count:
            raise ValueError(f"{name} must lie in [0, {count - 1}], got {option}. Give the index of an option")

    def choose(self, option: str) -> None:
        """Choose from code, as you would in the notebook. Only the first choice counts.

        Raises:
            ValueError: if there is no such option.
        """
        if option not in self.options:
            raise ValueError(f"a choice must be one of {', '.join(self.options)}, got {option!r}. Copy one of them")
        if self.first < 0:
            self.first = self.options.index(option)

    @property
    def chosen(self) -> str | None:
        """What the reader chose first, or None before."""
        return self.options[self.first] if self.first >= 0 else None

    @property
    def revealed(self) -> str:
        """What the reader sees after a choice, and an empty text before."""
        return self.reveal

    def measured(self, what: str, option: int | None = None) -> Card:
        """Compare the reader's first choice with what the notebook has measured.

        Args:
            what: the measurement in words, with its number.
            option: index of the option that it supports, by default the answer.

        Raises:
            ValueError: if nobody says which option is right, or there is no such option.
        """
        self._check_option("option", option, len(self.options))
        right = self.answer if option is None else option
        if right is None:
            raise ValueError("a prediction must have a right option, got none. Give measured(..., option=INDEX)")
        text = f"The measurement supports “{self.options[right]}”. {what}"
        if self.first < 0:
            replies = [self._reply(guess, right) for guess in range(len(self.options))]
            self._unanswered.append(Card("You have not guessed.", text, state="open", replies=replies))
            return self._unanswered[-1]
        self._keep(right)
        with self.hold_sync():
            self.right, self.reveal = right, self.reveal or self._verdict(self.first, right)
        title, state = self._reply(self.first, right)
        return Card(title, text, state=state)

    def complete(self) -> None:
        """Hand over the answer, and tell the cards of measurements what is guessed. Nobody answers a page."""
        if self.answer is not None:
            reveals = [self._verdict(guess, self.answer) for guess in range(len(self.options))]
            self.told = {"right": self.answer, "reveals": reveals}
        self._links = [ipywidgets.jslink((self, "first"), (card, "guess")) for card in self._unanswered]

    def _reply(self, guess: int, right: int) -> tuple[str, str]:
        """Return the title and the state of a card for a guess."""
        if guess == right:
            return "You guessed right.", "right"
        return f"You guessed “{self.options[guess]}”.", "wrong"

    def sentence(self) -> str:
        """State the question and its options, and after a choice the answer."""
        options = " / ".join(self.options)
        return f"{self.question} {options}" + (f" {self.revealed}" if self.revealed else "")

    def snapshot(self) -> StaticImage:
        """Write question and options as text."""
        question = textwrap.wrap(self.question, LINE_LENGTH)
        options = [f"{'●' if number == self.first else '○'} {option}" for number, option in enumerate(self.options)]
        lines = [*question, *options, *textwrap.wrap(self.revealed, LINE_LENGTH)]
        return StaticImage(rendering.png(rendering.text(lines, bold=len(question))), self.sentence())

    def _take_up(self) -> None:
        """Choose what the reader has chosen before, unless the question has other options by now."""
        before = progress.read_progress()[0]["guesses"].get(self.question, {})
        if isinstance(before, dict) and before.get("choice") in self.options:
            self.choose(before["choice"])

    def _on_choice(self, change: Any) -> None:
        if self._kept is not None or not 0 <= change.new < len(self.options):
            self.first = -1 if self._kept is None else self._kept  # a page may send a second choice, or nonsense
            return
        self._kept = change.new
        self._keep(self.answer)
        if self.answer is not None:
            with self.hold_sync():
                self.right, self.reveal = self.answer, self._verdict(self.first, self.answer)

    def _verdict(self, guess: int, right: int) -> str:
        verdict = "Yes." if guess == right else f"Not quite, it is “{self.options[right]}”."
        return f"{verdict} {self.because}".strip()

    def _keep(self, right: int | None) -> None:
        progress.keep_guess(self.question, self.options[self.first], None if right is None else self.first == right)


class Check:
    """Try an answer on cases and show what differs first. It never raises, so an unanswered notebook runs.

    The exercises of the course have a name, and `check` knows them. This is for exercises of your own.

    Args:
        cases: arguments and the value expected for them, `((arguments...), value)`. Values are numbers, texts, tensors,
            arrays, lists and dicts of these.
        hint: what the reader may open while the answer is not right, one text or several.
        tolerance: how far numbers may be off, relative to the expected one (absolute below 1).
        mistakes: wrong functions, each with what to tell those whose answer agrees with it.

    Example:
        >>> check = Check([((784, 300, 0.1), 23520)], hint="Density is a share.")
        >>> _ = check(lambda rows, cols, density: rows * cols)
        Not yet. For (784, 300, 0.1) your answer gives 235200, but we expect 23520.
        >>> bool(check(lambda rows, cols, density: round(rows * cols * density)))
        Right. Your answer fits 1 of 1 cases.
        True
    """

    def __init__(
        self,
        cases: Sequence[tuple[tuple, Any]],
        hint: str | Sequence[str] = "",
        *,
        tolerance: float = 1e-5,
        mistakes: Sequence[tuple[Callable, str]] = (),
    ):
        hints = tuple(filter(None, [hint] if isinstance(hint, str) else hint))
        known = tuple(Mistake(answer, message) for answer, message in mistakes)
        self.exercise = Cases(name="", notebook="", cases=list(cases), hints=hints, mistakes=known, tolerance=tolerance)

    def __call__(self, answer: Callable | None) -> Verdict:
        """Show and return the verdict on an answer."""
        return _show(self.exercise.check(answer))


def check(*functions: Callable, **numbers: Any) -> Verdict:
    """Check an answer to one of the course's exercises, show the verdict and keep it in your progress.

    Args:
        functions: the function that you wrote, which has the name of its exercise.
        numbers: or the number that you found, under the name of its exercise, as in `check(losing_fraction=0.3)`.

    Raises:
        TypeError: if it is not one answer.
        ValueError: if there is no such exercise.

    Example:
        >>> def count_of(rows, columns, density):
        ...     return round(rows * columns * density)
        >>> verdict = check(count_of)
        Right. Your answer fits 3 of 3 cases.
    """
    answers = [(getattr(function, "__name__", str(function)), function) for function in functions]
    answers += list(numbers.items())
    if len(answers) != 1:
        raise TypeError(
            f"a check must get one answer, got {len(answers)}. Write check(your_function), or check(name=1)"
        )
    ((name, answer),) = answers
    task: Exercise = exercise(name)
    verdict = task.check(answer)
    notice = ""
    if verdict.state != OPEN:
        _, notice = progress.keep_attempt(name, verdict.is_right)
    return _show(verdict, notice)


def own_best(accuracy: float, by: str, connections: int = progress.BUDGET) -> None:
    """Show a network of the reader's beside the best one so far, and keep it if it is better.

    Args:
        accuracy: share of the test digits that it reads, 0 to 1.
        by: how it was trained, in a few words.
        connections: how many it has, at most 1,690.

    Raises:
        ValueError: if it has more connections than that, or the accuracy is no share.
    """
    before = progress.read_progress()[0]["best"]
    record, notice = progress.keep_best(accuracy, by, connections)
    best, text = record["best"], f"{by}, with {connections:,} connections."
    if before is None:
        title, text = f"Your network reads {_percent(accuracy)}.", f"{text} This is your best so far."
    elif best != before:
        title = f"A new best: {_percent(accuracy)}."
        text = f"{text} Before, it was {_percent(before['accuracy'])} ({before['by']})."
    else:
        title = f"This one reads {_percent(accuracy)}."
        text = f"{text} Your best so far is {_percent(best['accuracy'])} ({best['by']})."
    show(title, f"{text} {notice}".strip(), state="told" if best == before else "best")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _show(verdict: Verdict, notice: str = "") -> Verdict:
    title, text = _title_and_text(verdict.message)
    show(title, f"{text} {notice}".strip(), state=verdict.state, hints=verdict.hints)
    return verdict


def _title_and_text(message: str) -> tuple[str, str]:
    """Split off a message's first words, which become the card's title.

    Example:
        >>> _title_and_text("Right, your answer fits.")
        ('Right.', 'Your answer fits.')
    """
    for title in ("Not yet.", "Right,"):
        if message.startswith(title):
            text = message.removeprefix(title).strip()
            return title.rstrip(".,") + ".", text[:1].upper() + text[1:]
    return message, ""
