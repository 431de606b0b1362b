"""Checkpoints that other code has pruned are read as sparse models."""

import pytest
import torch
from helpers import made
from kinds import Attending, First, TiedHead, numbers, unchecked, words
from torch import nn
from torch.nn.utils import prune

import sparsekit as sk

pytestmark = pytest.mark.filterwarnings("ignore:left dense:sparsekit.layers.LeftDenseWarning")


def net() -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)))


def pruned() -> nn.Module:
    """A model pruned by torch, in which a weight that is kept happens to be zero."""
    model = net()
    prune.random_unstructured(model[0], "weight", 12)
    kept = model[0].weight_mask.flatten().nonzero()[0]
    model[0].weight_orig.data.view(-1)[kept] = 0
    return model


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_masks_of_torch_s_pruning_are_the_topology(storage):
    model, x = pruned(), numbers(3, 6)()
    sparse = sk.from_pruned(model, storage=storage)
    assert sk.topology_of(sparse)["0"].count == 18
    assert sk.topology_of(sparse)["2"].density == 1
    torch.testing.assert_close(sparse(x), model(x))
    assert sk.from_pruned(net(), model.state_dict())[0].topology == sparse[0].topology
    assert prune.is_pruned(model)  # it stays as it is


def test_zeros_of_a_state_are_what_does_not_exist():
    model = net()
    model[2].weight.data[1:3] = 0
    sparse = sk.from_pruned(net(), model.state_dict())
    assert sk.topology_of(sparse)["2"].fan_in().tolist() == [5, 0, 0, 5]
    x = numbers(3, 6)()
    torch.testing.assert_close(sparse(x), model(x))


def test_a_dense_state_gives_density_one():
    sparse = sk.from_pruned(net(), made(net, seed=3).state_dict())
    assert sk.topology_of(sparse).density == 1


def test_matrices_of_other_kinds_are_read_too():
    recurrent = made(lambda: First(nn.LSTM(5, 6)))
    prune.l1_unstructured(recurrent.module, "weight_hh_l0", 100)
    assert sk.topology_of(sk.from_pruned(made(lambda: First(nn.LSTM(5, 6))), recurrent.state_dict())).count == 264 - 100
    attending, x = made(Attending), numbers(2, 3, 8)()
    attending.attention.in_proj_weight.data[:8, ::2] = 0
    sparse = sk.from_pruned(attending)
    assert sk.topology_of(sparse)["attention.in_proj_weight.query"].density == 0.5
    torch.testing.assert_close(sparse(x), attending(x))


def test_embeddings_become_sparse_only_where_they_have_a_mask():
    padded = made(lambda: nn.Sequential(nn.Embedding(7, 6, padding_idx=0), nn.Linear(6, 2)))
    assert list(sk.topology_of(sk.from_pruned(padded))) == ["1"]
    prune.random_unstructured(padded[0], "weight", 10)
    assert sk.topology_of(sk.from_pruned(padded))["0"].count == 32
    assert list(sk.topology_of(sk.from_pruned(TiedHead()))) == ["hidden"]
    assert words(2)().shape == (2,)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"0.weight": torch.ones(2, 2)}, "the state must be that of this model, got another"),
        (
            {"0.weight_orig": torch.ones(5, 6), "0.weight_mask": torch.ones(5)},
            "its mask must have the weight",
        ),
        ({"0.weight_orig": torch.ones(5, 6)}, "the state must be that of this model"),
    ],
)
def test_states_of_other_models_are_refused_by_name(state, message):
    with pytest.raises(ValueError, match=message):
        sk.from_pruned(net(), state)


def test_what_is_no_plain_model_or_no_state_is_refused():
    with unchecked(), pytest.raises(TypeError, match=r"state must be .*Give what model.state_dict"):
        sk.from_pruned(net(), [1])
    sparse = sk.from_pruned(net())
    with pytest.raises(ValueError, match="needs a plain model, got one with sparse layers"):
        sk.from_pruned(sparse)
