"""Sliders exchange a rule or trick while a training reads it."""

import dataclasses
import threading
from typing import Any, Generic, TypeVar

from sparsekit.schedules import Constant, Schedule

R = TypeVar("R")


class Control(Generic[R]):
    """Hold a rule (or a trick) that sliders may exchange as a whole, thread-safe, while a training reads it.

    Example:
        >>> from sparsekit.rules import RigL
        >>> control = Control(RigL(stop=500))
        >>> control.change(every=50, drop_fraction=0.1).drop_fraction
        Constant(value=0.1)
    """

    def __init__(self, rule: R):
        self._rule, self._lock = rule, threading.Lock()

    @property
    def rule(self) -> R:
        """The rule that holds now. Read it once per step."""
        return self._rule

    def change(self, **settings: Any) -> R:
        """Replace settings of the rule and return the new one. A number for a schedule holds from now on.

        Raises:
            ValueError: if the rule does not allow the value. The old rule stays.
            TypeError: if it has no such setting.
        """
        with self._lock:
            new_settings = {name: self._as_setting(name, value) for name, value in settings.items()}
            self._rule = dataclasses.replace(self._rule, **new_settings)  # type: ignore[type-var]
            return self._rule

    def _as_setting(self, name: str, value: Any) -> Any:
        is_schedule = isinstance(getattr(self._rule, name, None), Schedule)
        return Constant(value) if is_schedule and not isinstance(value, Schedule) else value
