"""The checker around the package sees what it must see: one number per name of a dimension, results, fields."""

import dataclasses

import pytest
import torch
import type_checks
from jaxtyping import Float
from torch import Tensor

import sparsekit as sk


@type_checks.checked
def scaled(values: Float[Tensor, "n"], by: Float[Tensor, "n"], wrong: bool = False) -> Float[Tensor, "n"]:
    return torch.zeros(9) if wrong else values * by


@type_checks.checked
@dataclasses.dataclass
class Field:
    count: int


def test_a_name_of_a_dimension_is_one_number_within_a_call_and_may_be_another_in_the_next():
    assert scaled(torch.ones(2), torch.ones(2)).shape == (2,)
    assert scaled(torch.ones(3), torch.ones(3)).shape == (3,)
    with pytest.raises(TypeError, match="by"):
        scaled(torch.ones(3), torch.ones(2))
    with pytest.raises(TypeError, match="return"):
        scaled(torch.ones(3), torch.ones(3), wrong=True)


def test_fields_are_checked():
    assert Field(3).count == 3
    with pytest.raises(TypeError, match="count"):
        Field("three")  # pyright: ignore[reportArgumentType]


def test_it_is_put_around_the_package():
    with pytest.raises(TypeError, match="density"):
        sk.random_topology({"fc": (3, 4)}, "half", seed=0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="seed"):
        sk.recipes.digits_mlp(seed=0.5)  # pyright: ignore[reportArgumentType]
