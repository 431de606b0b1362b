"""In pickers every field of a settings object gets its control, and `value` is always a valid object."""

import typing
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sparsekit.rules import DropGrow, Gradient, Magnitude, Random, RigL, make_rule
from sparsekit.schedules import Constant, Cosine, Cubic, Linear, Schedule, Warmup
from sparsekit.tricks import GhostNeurons, LabelSmoothing, make_trick
from sparsekit.utils.registry import get, names
from sparsekit.utils.settings import setting
from sparsekit.widgets import Controls, Field, RulePicker, SettingsPicker, TrickPicker
from sparsekit.widgets.form_state import build, code_of, controls_of, form_state_of, methods_for, values_of, with_value


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = setting(0.5, "how fast", range=(0, 1))


@dataclass(frozen=True, kw_only=True)
class Everything:
    """One field of each kind."""

    is_on: bool = setting(True, "on or off")
    few: int = setting(3, "a small number", range=(1, 9))
    many: int = setting(30, "a large number", range=(1, 1_000_000))
    share: float = setting(0.25, "a share", range=(0, 1))
    open_ended: float = setting(2.0, "no range")
    maybe: int | None = setting(None, "a number or none")
    way: Literal["up", "down"] = setting("up", "a word")
    plan: Schedule = setting(Constant(0.1), "over time", range=(0, 1))
    plan_or_none: Schedule | None = setting(None, "over time or never", range=(0, 1))
    inner: Inner = setting(Inner(), "settings inside")
    sides: tuple[int, ...] = setting((1, 2), "what no control can show")

    def __post_init__(self):
        if self.way == "down" and self.few > 5:
            raise ValueError(f"few must be at most 5 on the way down, got {self.few}")


@pytest.fixture
def picker():
    return SettingsPicker(Everything())


def field(picker: SettingsPicker, name: str) -> dict:
    """Return one control as the browser gets it."""
    return next(one for one in picker.controls.fields if one["name"] == name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("is_on", "check"),
        ("few", "range"),
        ("many", "number"),
        ("share", "range"),
        ("open_ended", "number"),
        ("maybe", "number"),
        ("way", "choice"),
        ("plan", "choice"),
        ("plan.value", "range"),
        ("plan_or_none", "choice"),
        ("inner.rate", "range"),
        ("sides", "text"),
    ],
)
def test_each_kind_of_field_gets_its_control(picker, name, kind):
    assert field(picker, name)["kind"] == kind


def test_help_and_range_come_from_the_field(picker):
    few = field(picker, "few")
    assert (few["help"], few["low"], few["high"], few["step"]) == ("a small number", 1, 9, 1)


def test_numbers_inside_a_schedule_inherit_the_range_of_its_field(picker):
    inner = field(picker, "plan.value")
    assert (inner["low"], inner["high"], inner["depth"]) == (0, 1, 1)


def test_a_number_that_may_be_missing_can_be_left_empty(picker):
    assert field(picker, "maybe")["optional"]
    picker.choose("maybe", 7)
    assert picker.value.maybe == 7
    picker.choose("maybe", None)
    assert picker.value.maybe is None


@pytest.mark.parametrize(
    ("name", "control_value", "value"),
    [("is_on", False, False), ("few", 4, 4), ("share", 1, 1.0), ("way", "down", "down"), ("inner.rate", 0.75, 0.75)],
)
def test_a_moved_control_changes_the_value_and_nothing_else(picker, name, control_value, value):
    before = picker.value
    picker.choose(name, control_value)
    got = picker.value
    for part in name.split("."):
        got = getattr(got, part)
    assert (got, type(got)) == (value, type(value))
    changed = [key for key in values_of(form_state_of(before)) if not _same_at(before, picker.value, key)]
    assert changed in ([name], [name.partition(".")[0], name])


def _same_at(first: Any, second: Any, path: str) -> bool:
    for part in path.split("."):
        first, second = getattr(first, part), getattr(second, part)
    return first == second


def test_the_methods_of_a_kind_can_be_chosen_and_bring_their_own_settings(picker):
    picker.choose("plan", "cosine")
    assert picker.value.plan == Cosine(0.1)  # what both have, the first number, stays
    assert "plan.value" not in picker.controls.values
    picker.choose("plan.end", 0.05)
    picker.choose("plan.steps", 40)
    assert picker.value.plan == Cosine(0.1, 0.05, 40)
    picker.choose("plan", "linear")
    assert picker.value.plan == Linear(0.1, 0.05, 40)


def test_a_setting_can_be_none_and_something_again(picker):
    picker.choose("plan_or_none", "cubic")
    assert isinstance(picker.value.plan_or_none, Cubic)
    picker.choose("plan_or_none", "none")
    assert picker.value.plan_or_none is None


def test_a_schedule_around_a_schedule_takes_in_the_one_that_was_there(picker):
    picker.choose("plan", "warmup")
    assert isinstance(picker.value.plan, Warmup)
    assert picker.value.plan.then == Constant(0.1)


def test_a_combination_that_cannot_be_is_answered_beside_the_control_and_the_value_stays(picker):
    picker.choose("few", 8)
    good = picker.value
    picker.choose("way", "down")
    assert field(picker, "way")["error"] == "few must be at most 5 on the way down, got 8"
    assert picker.error == field(picker, "way")["error"]
    assert picker.value is good
    picker.choose("few", 4)
    assert picker.error == ""
    assert (picker.value.few, picker.value.way) == (4, "down")


def test_a_fraction_where_an_integer_belongs_is_refused(picker):
    picker.choose("many", 2.5)
    assert "many must be an integer, got 2.5" in picker.error
    assert picker.value.many == 30


def test_an_empty_number_that_must_be_there_is_refused(picker):
    picker.choose("open_ended", None)
    assert "open_ended must be a number" in picker.error
    assert picker.value.open_ended == 2.0


def test_a_refused_value_is_never_heard_of(picker):
    values = []
    picker.observe(lambda change: values.append(change.new), "value")
    picker.choose("many", 2.5)
    picker.choose("many", 2)
    assert [one.many for one in values] == [2]


def test_moving_a_slider_never_sends_its_value_back(picker, monkeypatch):
    messages = []
    monkeypatch.setattr(Controls, "send_state", lambda self, key=None: messages.append((self.title, key)))
    picker.controls.set_trait("values", {**picker.controls.values, "share": 0.3})
    assert ("Settings", "values") not in messages[1:]  # the first is the test's own change
    assert not [key for title, key in messages[1:] if title == "Settings" and key and "values" in key]


def test_what_no_control_can_show_stays_when_its_text_regrows():
    state = form_state_of(Everything())
    assert build(with_value(state, "sides", values_of(state)["sides"])) == Everything()


def test_an_unknown_control_is_refused(picker):
    with pytest.raises(ValueError, match="control must be one of is_on, few"):
        picker.choose("speed", 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("way", "sideways", "way must be one of up, down, got 'sideways'"),
        ("plan", "circle", r"plan must be one of constant, .*, got 'circle'"),
        ("plan_or_none", ["none"], r"plan_or_none must be one of none, constant, .*, got \['none'\]"),
    ],
)
def test_what_a_list_does_not_offer_is_refused(picker, path, value, message):
    before = picker.value
    with pytest.raises(ValueError, match=message):
        picker.choose(path, value)
    assert picker.value is before


def test_a_picker_of_rules_lists_them_where_one_is_unknown():
    picker = RulePicker(total_steps=100)
    with pytest.raises(ValueError, match=r"method must be one of .*rigl.*, got 'fast'"):
        picker.choose("method", "fast")


def test_what_no_control_can_show_is_set_from_code(picker):
    picker.choose("sides", [3, 4])
    assert (picker.value.sides, picker.error) == ([3, 4], "")


def test_what_is_no_dataclass_is_refused():
    with pytest.raises(TypeError, match="instance of a dataclass"):
        SettingsPicker({"every": 100})


def test_the_code_below_the_controls_makes_the_value(picker):
    picker.choose("few", 4)
    picker.choose("plan", "linear")
    assert picker.code.values["code"] == "Everything(few=4, plan=Linear(start=0.1))"
    assert eval(picker.code.values["code"], globals() | {"Linear": Linear}) == picker.value


@pytest.mark.parametrize("name", names("rule"))
def test_every_rule_can_be_taken_apart_and_put_together_again(name):
    rule = make_rule(name, total_steps=100)
    state = form_state_of(rule)
    assert build(state) == rule
    assert [control.name for control in controls_of(state)] == list(values_of(state))


@pytest.mark.parametrize("kind", ["drop", "grow", "candidates", "schedule"])
def test_every_registered_part_of_a_rule_is_offered(kind):
    hints = typing.get_type_hints(DropGrow)
    field_type = hints["drop_fraction" if kind == "schedule" else kind]
    classes = [name for name in names(kind) if isinstance(get(kind, name), type)]
    assert set(classes) <= set(methods_for(field_type))


def test_every_part_of_a_rule_can_be_chosen():
    picker = RulePicker(total_steps=1000)
    for part, kind in (("drop", "drop"), ("grow", "grow"), ("candidates", "candidates")):
        for name in methods_for(typing.get_type_hints(DropGrow)[part]):
            picker.choose(part, name)
            assert picker.error == "", f"{kind} {name}"
            assert isinstance(getattr(picker.value, part), get(kind, name))


def test_a_rule_picker_offers_every_rule():
    picker = RulePicker(total_steps=1000)
    options = [value for value, _ in field(picker, "method")["options"]]
    assert options == names("rule")
    for name in options:
        picker.choose("method", name)
        assert picker.value == make_rule(name, total_steps=1000)


def test_a_rule_picker_starts_with_rigl_as_published():
    assert RulePicker(total_steps=1000).value == RigL(stop=750)


def test_a_trick_picker_offers_every_trick():
    picker = TrickPicker(total_steps=1000)
    options = [value for value, _ in field(picker, "method")["options"]]
    assert options == names("trick")
    for name in options:
        picker.choose("method", name)
        assert picker.error == ""
        assert picker.value == make_trick(name).lasting(1000)


def test_a_trick_picker_starts_with_ghosts_that_end_where_they_usually_do():
    picker = TrickPicker(total_steps=1000)
    assert picker.value == GhostNeurons(stop=400)
    assert TrickPicker(total_steps=1000, name="label-smoothing").value == LabelSmoothing(stop=1000)
    with pytest.raises(ValueError, match="ghost-neurons"):
        TrickPicker(total_steps=1000, name="ghosts")


def test_choosing_another_trick_shows_its_settings_and_what_cannot_be_is_answered_there():
    picker = TrickPicker(total_steps=1000)
    assert {"stop", "unit", "beta"} <= set(picker.controls.values)
    picker.choose("stop", 0)
    assert "stop must be at least 1" in field(picker, "stop")["error"]
    assert picker.value.stop == 400
    picker.choose("method", "label-smoothing")
    assert picker.error == ""
    assert "stop" in picker.controls.values
    assert "beta" not in picker.controls.values
    assert picker.code.values["code"].startswith("LabelSmoothing(")


def test_choosing_another_rule_shows_its_settings():
    picker = RulePicker(total_steps=1000)
    picker.choose("method", "set")
    assert (picker.controls.values["grow"], picker.controls.values["replaces_step"]) == ("random", False)
    picker.choose("method", "static")
    assert list(picker.controls.values) == ["method"]


def test_a_decay_without_an_end_is_answered_beside_its_control():
    picker = RulePicker(total_steps=1000)
    picker.choose("stop", None)
    assert "must know its end" in field(picker, "stop")["error"]
    assert picker.value.stop == 750
    picker.choose("drop_fraction", "constant")
    assert picker.error == ""
    assert (picker.value.stop, picker.value.drop_fraction) == (None, Constant(0.3))


def test_a_picker_is_widget_image_and_sentence():
    bundle = RulePicker(total_steps=1000)._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert bundle["text/plain"] == "DropGrow(stop=750)"


def test_code_leaves_out_what_is_as_it_would_be_anyway():
    assert code_of(DropGrow(stop=5)) == "DropGrow(stop=5)"
    assert code_of(DropGrow(drop=Magnitude(), grow=Gradient(), stop=5)) == "DropGrow(stop=5)"
    assert code_of(DropGrow(grow=Random(), drop_fraction=Constant(0.2))) == (
        "DropGrow(grow=Random(), drop_fraction=Constant(value=0.2))"
    )


# --- controls -------------------------------------------------------------------------------------


def test_a_disabled_button_cannot_be_pressed():
    pressed = []
    controls = Controls([Field(name="stop", kind="button", label="Stop", disabled=True)], {})
    controls.on_press(pressed.append)
    controls.press("stop")
    controls.change("stop", disabled=False)
    controls.press("stop")
    assert pressed == ["stop"]


def test_only_buttons_can_be_pressed():
    controls = Controls([Field(name="few", kind="range", label="Few", low=0, high=1)], {"few": 0})
    with pytest.raises(ValueError, match=r"button must be one of \(none\), got 'few'"):
        controls.press("few")


def test_strange_messages_of_a_browser_change_nothing():
    controls = Controls([Field(name="stop", kind="button", label="Stop")], {})
    pressed = []
    controls.on_press(pressed.append)
    for message in ("press", {"press": "start"}, {"click": "stop"}):
        controls._on_message(None, message, [])
    assert pressed == []


def test_controls_read_as_text():
    controls = Controls([Field(name="few", kind="range", label="Few", low=0, high=1)], {"few": 0.5})
    assert controls.sentence() == "Few: 0.5"
    assert controls.snapshot().alt == "Few: 0.5"
