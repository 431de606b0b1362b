"""Sliders for those settings of a rule or trick that a running training may change."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparsekit.schedules import Schedule
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.form_state import code_of
from sparsekit.widgets.sharing import read_state
from sparsekit.widgets.steering import Control

# The slider of each setting. The end of the interval's depends on the rule.
_SLIDERS = [
    Field(name="drop_fraction", kind="range", label="Drop fraction", low=0, high=0.9, step=0.01, format="share"),
    Field(name="every", kind="range", label="Interval", low=1, high=100, step=1, format="steps"),
    Field(name="beta", kind="range", label="Beta of ghost neurons", low=0, high=20, step=0.1),
    Field(name="strength", kind="range", label="Strength of ghost skips", low=0, high=1, step=0.01),
    Field(name="amount", kind="range", label="Label smoothing", low=0, high=0.5, step=0.01),
]
DIALS = {field.name: field for field in _SLIDERS}


def controls_of(control: Control | Sequence[Control] | None) -> dict[str, Control]:
    """Return the control of each setting that gets a slider."""
    controls = [control] if isinstance(control, Control) else control or []
    return {name: holder for holder in controls for name in DIALS if hasattr(holder.rule, name)}


def dials_for(controls: Mapping[str, Control]) -> Controls | None:
    """Make a slider for each setting."""
    values = {name: _value_at(control.rule, name, step=0) for name, control in controls.items()}
    fields = [_dial(name, control.rule) for name, control in controls.items()]
    title = "Rewiring, while it runs" if {"drop_fraction", "every"} >= set(values) else "Settings, while it runs"
    return Controls(fields, values, title=title, flow="column") if fields else None


def _dial(name: str, rule: Any) -> Field:
    is_constant = _value_at(rule, name, step=0) == _value_at(rule, name, step=10**9)
    follows = "" if is_constant else f"It follows {code_of(getattr(rule, name))} until you move it"
    high = max(100, 4 * rule.every) if name == "every" else DIALS[name].high
    return replace(DIALS[name], help=follows, high=high)


def _value_at(rule: Any, name: str, *, step: int) -> Any:
    setting = getattr(rule, name)
    num_steps = getattr(rule, "stop", None) or 1
    return round(setting.lasting(num_steps)(step), 4) if isinstance(setting, Schedule) else setting


def apply_state(state: str, controls: Mapping[str, Control]) -> None:
    """Set the rule's settings that a state names.

    Raises:
        ValueError: if the state names another setting, or the rule refuses its value. The old rule stays then.
    """
    defaults = {name: _value_at(control.rule, name, step=0) for name, control in controls.items()}
    for name, value in read_state(state, defaults).items():
        if value != defaults[name]:  # a schedule that nobody moved stays a schedule
            controls[name].change(**{name: value})
