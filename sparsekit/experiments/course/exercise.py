"""An exercise runs an answer, and then assesses what came out. The two steps may happen in different processes.

So a teacher's process never runs a line of a student's, and a student's code has nothing to patch that counts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sparsekit.experiments.course.comparing import brief, difference

UNANSWERED = "You have not answered yet."
OPEN, RIGHT, WRONG = "open", "right", "wrong"

Results = list[tuple[str, Any]]  # ("value", what came), ("error", its text) or ("open", None), one for each run


@dataclass(frozen=True)
class Verdict:
    """What a check says of an answer. It is true if the answer is right.

    Args:
        is_right: whether it is.
        message: what to tell the reader.
        hints: to be opened one after the other, while the answer is not right.
        state: `"open"`, `"right"` or `"wrong"`.
    """

    is_right: bool
    message: str
    hints: tuple[str, ...] = ()
    state: str = WRONG

    def __bool__(self) -> bool:
        return self.is_right

    def _ipython_display_(self) -> None:
        """Show nothing at the end of a cell, because the check has shown its card already."""


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make, as a function of the same arguments, and what we tell those who make it."""

    answer: Callable
    message: str


@dataclass(frozen=True, kw_only=True)
class Exercise(ABC):
    """Something to answer, and how an answer is assessed.

    Args:
        name: of the function or value that the reader defines.
        notebook: the number that its notebook begins with.
        hints: three, of which each says more than the one before.
    """

    seconds: ClassVar[float] = 0  # that its answers may take where others may not

    name: str
    notebook: str
    hints: tuple[str, ...] = ()

    def without_answers(self) -> Self:
        """Return an exercise that can run answers, and holds nothing that tells the right one."""
        return replace(self, hints=())

    @abstractmethod
    def run(self, answer: Any) -> Results:
        """Run an answer, whatever it is, and return what came out."""

    @abstractmethod
    def assess(self, results: Results) -> Verdict:
        """Say what results are worth. No code of the reader's is called."""

    def check(self, answer: Any) -> Verdict:
        """Run and assess an answer. It never raises for what an answer does, so an unanswered notebook runs."""
        return self.assess(self.run(answer))

    def open(self) -> Verdict:
        """Return the verdict on a stub."""
        return Verdict(False, UNANSWERED, self.hints, OPEN)

    def wrong(self, message: str) -> Verdict:
        """Return the verdict on a wrong answer."""
        return Verdict(False, f"Not yet. {message}", self.hints, WRONG)

    def right(self, message: str) -> Verdict:
        """Return the verdict on a right answer."""
        return Verdict(True, f"Right, {message}", (), RIGHT)


@dataclass(frozen=True, kw_only=True)
class Cases(Exercise):
    """An exercise whose answer is a function, which is tried on cases.

    Args:
        cases: arguments and the value expected for them, `((arguments...), value)`.
        mistakes: wrong functions that we know. An answer that agrees with one everywhere gets its message.
        tolerance: how far numbers may be off, relative to the expected one (absolute below 1).
    """

    cases: Sequence[tuple[tuple, Any]]
    mistakes: tuple[Mistake, ...] = ()
    tolerance: float = 1e-5

    def without_answers(self) -> Self:
        """Keep the arguments of the cases only."""
        return replace(self, hints=(), mistakes=(), cases=[(arguments, None) for arguments, _ in self.cases])

    def run(self, answer: Any) -> Results:
        """Return what the function gives for the arguments of each case."""
        if answer is None or answer is ...:
            return [(OPEN, None)]
        return [_outcome(answer, arguments) for arguments, _ in self.cases]

    def assess(self, results: Results) -> Verdict:
        """Say what differs first, or which known mistake this is."""
        if any(kind == OPEN for kind, _ in results):
            return self.open()
        if len(results) != len(self.cases):
            return self.wrong(f"There must be {len(self.cases)} results, got {len(results)}.")
        problems = (self._problem(case, result) for case, result in zip(self.cases, results, strict=True))
        problem = next(filter(None, problems), None)
        if problem is None:
            return self.right(f"your answer fits {len(self.cases)} of {len(self.cases)} cases.")
        known = self._known_mistake(results)
        return self.wrong(f"{problem} {known}".strip())

    def _problem(self, case: tuple[tuple, Any], result: tuple[str, Any]) -> str:
        """Return what is wrong with one case, or an empty text."""
        (arguments, expected), (kind, value) = case, result
        where = f"For ({', '.join(map(brief, arguments))}) your answer"
        if kind == "error":
            return f"{where} raises {value}."
        location = difference(value, expected, self.tolerance)
        return "" if location is None else f"{where} gives {brief(value)}, but we expect {brief(expected)}{location}."

    def _known_mistake(self, results: Results) -> str:
        """Return the message of the first known mistake that would have given the same results."""
        return next((one.message for one in self.mistakes if self._agree(self.run(one.answer), results)), "")

    def _agree(self, ours: Results, theirs: Results) -> bool:
        pairs = zip(ours, theirs, strict=True)
        return all(
            a == b and (x == y if a == "error" else difference(y, x, self.tolerance) is None)
            for (a, x), (b, y) in pairs
        )


def error_text(error: BaseException) -> str:
    """Return an error's class and message as a reader's traceback would end.

    Example:
        >>> error_text(ValueError("no")), error_text(MemoryError())
        ('ValueError: no', 'MemoryError')
    """
    return f"{type(error).__name__}: {error}".removesuffix(": ")[:300]


def _outcome(answer: Any, arguments: tuple) -> tuple[str, Any]:
    """Call a function with copies of the arguments, since an answer may change what it gets."""
    try:
        result = answer(*deepcopy(arguments))
    except NotImplementedError:
        return OPEN, None
    except (Exception, SystemExit) as error:  # a traceback would stop the notebook, so it goes into the sentence
        return "error", error_text(error)
    return (OPEN, None) if result is NotImplemented or result is ... else ("value", result)
