"""Layers of constant fan-in, condensed for inference."""

import pytest
import torch
from helpers import STORAGES, batch_for, made, mlp, random_layer
from torch import nn

import sparsekit as sk
from sparsekit.layers.condensed import CondensedLinear, condense
from sparsekit.rules import SRSTE, SRigL
from sparsekit.rules.initial import prepare_layers
from sparsekit.topology import LayerTopology, Topology


def regular(plain: nn.Module, density: float = 0.3, storage: str = "masked") -> nn.Module:
    drawn = sk.random_topology(sk.shapes_of(plain), density, seed=0)
    return sk.sparsify(
        plain, SRigL(stop=9).initial_topology(drawn, torch.Generator().manual_seed(0)), storage, init="dense"
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(8, 6), (2, 3, 6), (1, 6)])
def test_a_condensed_network_gives_what_the_sparse_one_gives(storage, shape):
    model = regular(mlp(6, 20, 20, 3), storage=storage).eval()
    small = condense(model)
    inputs = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(small(inputs), model(inputs), rtol=1e-12, atol=1e-14)
    assert all(isinstance(small[place], CondensedLinear) for place in (0, 2, 4))


def test_neurons_that_were_given_up_give_their_bias():
    layer = LayerTopology((3, 6), torch.tensor([0, 1, 13, 14]))
    model = sk.sparsify(nn.Sequential(nn.Linear(6, 3)).double(), {"0": layer}, init="dense")
    small = condense(model)
    inputs = batch_for((6,))[0]
    torch.testing.assert_close(small(inputs), model(inputs))
    assert torch.equal(small(inputs)[:, 1], small[0].bias[1].expand(8))
    assert small[0].values.shape == (2, 2)


def test_without_a_bias_they_give_nothing():
    model = sk.sparsify(
        made(lambda: nn.Sequential(nn.Linear(6, 3, bias=False))),
        {"0": LayerTopology((3, 6), torch.tensor([0, 1]))},
        init="dense",
    )
    assert condense(model)(batch_for((6,))[0])[:, 1:].count_nonzero() == 0


def test_layers_of_uneven_fan_in_and_convolutions_stay_as_they_are():
    plain = made(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(64, 8)))
    model = sk.sparsify(
        plain, Topology({"0": random_layer((4, 2, 3, 3), 20), "2": random_layer((8, 64), 50)}), init="dense"
    )
    small = condense(model)
    assert [type(module).__name__ for module in small] == ["MaskedConv2d", "Flatten", "MaskedLinear"]
    with pytest.raises(ValueError, match="one fan-in"):
        CondensedLinear(sk.sparse_layers(model)["2"])


def test_of_a_layer_that_trains_more_than_it_uses_only_what_is_used_counts():
    plain = mlp(8, 20, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 1.0), init="dense")
    prepare_layers(SRSTE(stop=9), model, plain=plain)
    small, inputs = condense(model), batch_for((8,))[0]
    assert isinstance(small[0], CondensedLinear)
    torch.testing.assert_close(small(inputs), model(inputs))


def test_condensing_leaves_the_model_as_it_was():
    model = regular(mlp(6, 20, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    condense(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
