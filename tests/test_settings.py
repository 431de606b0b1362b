"""Settings and their way to JSON and back."""

import dataclasses
import json
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.rules import DropGrow, Magnitude, Static
from sparsekit.schedules import (
    Constant,
    Cosine,
    Cubic,
    Geometric,
    Joined,
    Linear,
    Piecewise,
    Sigmoid,
    Stages,
    Triangular,
    Warmup,
)
from sparsekit.utils import registry
from sparsekit.utils.settings import check_range, exact_fraction, from_plain, setting, to_plain

SCHEDULES = {
    "constant": Constant(0.3),
    "linear": Linear(0.3, 0.1, 5),
    "cosine": Cosine(0.3),
    "cubic": Cubic(1.0, 0.05, 100),
    "sigmoid": Sigmoid(0.5, 0.05, 100),
    "geometric": Geometric(0.5, 0.05, 100),
    "triangular": Triangular(0.1, 0.2, cycle=8),
    "joined": Joined(Constant(0.1), at=10, then=Triangular(0.1, 0.2, cycle=8)),
    "piecewise": Piecewise(0.1, (10, 20)),
    "stages": Stages((0.2, 0.1, 0.0), (0.5, 1.0)),
    "warmup": Warmup(Cosine(0.1, steps=10), steps=4, first=0.5),
}


@dataclass
class Share:
    """A value that nobody has checked."""

    value: float


def there_and_back(value):
    return from_plain(json.loads(json.dumps(to_plain(value))))


def test_every_schedule_has_an_example_here():
    assert set(SCHEDULES) == set(registry.names("schedule"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_survives_json(name):
    assert there_and_back(SCHEDULES[name]) == SCHEDULES[name]
    assert to_plain(SCHEDULES[name])["name"] == name


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_schedule_survives_json_inside_a_rule(schedule):
    rule = DropGrow(drop_fraction=schedule, density=Constant(0.1), stop=100, scope="global", every=7, start=3)
    assert there_and_back(rule) == rule


def test_plain_values_stay_as_they_are_and_tuples_regrow_as_tuples():
    value = {"a": None, "b": True, "c": 1, "d": 0.5, "e": "x", "f": (1, (2, "y")), "g": {"h": Magnitude()}}
    assert there_and_back(value) == value
    assert there_and_back(True) is True


def test_what_json_cannot_hold_is_refused_by_its_type():
    with pytest.raises(TypeError, match="settings must be numbers, texts, lists or registered dataclasses, got set"):
        to_plain({"a": {1, 2}})


def test_a_dataclass_nobody_registered_is_refused():
    @dataclass(frozen=True)
    class Mine(Static):
        pass

    with pytest.raises(TypeError, match=r"Mine must be registered to be written as JSON. Decorate it with @register"):
        to_plain(Mine())


def test_unknown_names_in_a_file_list_the_known_ones():
    with pytest.raises(ValueError, match=r"schedule must be one of constant, cosine, .*got 'sine'"):
        from_plain({"kind": "schedule", "name": "sine", "value": 1.0})


def test_no_registered_setting_is_called_kind_or_name():
    """Those two words say in the file what the thing is."""
    for kind in registry.kinds():
        for name in registry.names(kind):
            thing = registry.get(kind, name)
            if dataclasses.is_dataclass(thing):
                assert not {"kind", "name"} & {field.name for field in dataclasses.fields(thing)}, (kind, name)


@pytest.mark.parametrize(
    ("share", "meant"),
    [
        (0.29, Fraction(29, 100)),
        (12 / 112, Fraction(3, 28)),
        (1 / 3, Fraction(1, 3)),
        (1 - 0.8, Fraction(1, 5)),
        (1 - 0.95, Fraction(1, 20)),
        (3 * 0.1, Fraction(3, 10)),
        (0.1234567, Fraction(1234567, 10**7)),
        (1e-9, Fraction(1, 10**9)),
        (math.cos(math.pi / 2), Fraction(0)),
        (2.5, Fraction(5, 2)),
        (1, Fraction(1)),
        (np.float64(0.1), Fraction(1, 10)),
    ],
)
def test_a_float_stands_for_the_fraction_nearby(share, meant):
    assert exact_fraction(share) == meant


@pytest.mark.parametrize("share", [math.nan, math.inf])
def test_a_share_that_is_no_number_stands_for_nothing(share):
    with pytest.raises(ValueError, match="a share must be finite, got"):
        exact_fraction(share)


@given(st.floats(0, 4), st.integers(0, 10**9))
@settings(max_examples=200)
def test_the_fraction_meant_is_as_near_as_floats_are(share, count):
    assert float(exact_fraction(share)) == pytest.approx(share, rel=1e-14, abs=1e-15)
    assert abs(exact_fraction(share) * count - Fraction(share) * count) < 1e-5


def test_a_setting_carries_its_help_and_range():
    @dataclass
    class Settings:
        share: float = setting(0.5, "a share", range=(0, 1))

    (field,) = dataclasses.fields(Settings)
    assert Settings().share == 0.5
    assert dict(field.metadata) == {"help": "a share", "range": (0, 1)}


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_the_ends_of_a_range_are_inside(value):
    check_range(Share(value), value=(0, 1))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_values_out_of_range_are_named_with_owner_range_and_value(value):
    with pytest.raises(ValueError, match=rf"Share.value must lie in \[0, 1\], got {value}"):
        check_range(Share(value), value=(0, 1))


def test_a_range_without_an_end_is_one_of_finite_numbers():
    check_range(Share(10**9), value=(0, math.inf))
    with pytest.raises(ValueError, match=r"Share.value must lie in \[0, inf\], got inf"):
        check_range(Share(math.inf), value=(0, math.inf))
