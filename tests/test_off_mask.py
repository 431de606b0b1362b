"""A masked layer leaves out the product with its mask where that changes nothing, and only there."""

import copy

import pytest
import torch
from torch import nn

import sparsekit as sk
from sparsekit.layers import MaskedLinear, off_mask
from sparsekit.layers.transition import Transition
from sparsekit.rules import RigL
from sparsekit.rules.initial import prepare_layers
from sparsekit.topology import LayerTopology


@pytest.fixture(autouse=True)
def layers_that_are_large_enough(monkeypatch):
    monkeypatch.setattr(off_mask, "MANY_WEIGHTS", 1)


def network(seed: int = 0, density: float = 0.2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 40),
            nn.ReLU(),
            nn.Linear(40, 3),
        )
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=seed)).eval()


def images(seed: int = 0, size: int = 2) -> torch.Tensor:
    return torch.randn(size, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def by_products(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the network gives if each layer multiplies its weight by its mask anew, made from the saved positions."""
    plain = sk.densify(model).to(x.dtype)
    for name, layer in sk.sparse_layers(model).items():
        mask = torch.zeros(layer.shape).flatten()
        mask[layer.stored_indices.long()] = 1
        plain.get_submodule(name).weight.data = layer.param.detach() * mask.view(layer.shape).to(x.dtype)
    with torch.no_grad():
        return plain(x)


def check(model: nn.Module, x: torch.Tensor | None = None) -> None:
    x = images() if x is None else x
    with torch.no_grad():
        assert torch.equal(model(x), by_products(model, x))


def trained(model: nn.Module, steps: int = 3) -> None:
    """Train, with a rewiring in every step, and evaluate after each."""
    optimizer, draws = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), torch.Generator().manual_seed(0)
    rule = RigL(every=1, stop=9)
    prepare_layers(rule, model, plain=model)
    for step in range(steps):
        model.train()
        batch = (images(step, 6), torch.arange(6) % 3)
        sk.train_step(model, optimizer, batch, nn.functional.cross_entropy, rule, step, draws)
        check(model.eval())


def rewired(model: nn.Module) -> None:
    layer = sk.sparse_layers(model)["3"]
    layer.set_topology(Transition(layer.topology, LayerTopology(layer.shape, torch.arange(70, 900))))


def noise_like(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)


def assigned_twice(model: nn.Module) -> None:
    """The second weight may come to lie where the first one was."""
    for _ in range(2):
        for parameter in model.parameters():
            parameter.data = parameter.data + noise_like(parameter)


def averaged_in_place(model: nn.Module) -> None:
    for one, other in zip(model.parameters(), network(seed=1).parameters(), strict=True):
        one.data.add_(other.data).div_(2)


def replaced(model: nn.Module) -> None:
    layer = sk.sparse_layers(model)["3"]
    layer._parameters["weight"] = nn.Parameter(noise_like(layer.param))


def written_by_numpy(model: nn.Module) -> None:
    layer = sk.sparse_layers(model)["3"]
    layer.param.detach().numpy()[layer.mask.numpy()] = 0.25


def each(write):
    def change(model: nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                write(parameter)

    return change


CHANGES = {
    "a training that rewires": trained,
    "a new topology": rewired,
    "weights in place": each(lambda p: p.mul_(2)),
    "weights through .data": each(lambda p: p.data.mul_(2)),
    "noise everywhere": each(lambda p: p.add_(noise_like(p))),
    "noise everywhere through .data": each(lambda p: p.data.add_(noise_like(p))),
    "dense weights through .data": each(lambda p: p.data.copy_(noise_like(p))),
    "another tensor as .data": assigned_twice,
    "another model's weights": averaged_in_place,
    "another parameter": replaced,
    "the state of another network": lambda model: model.load_state_dict(network(seed=1).state_dict()),
    "the same state, assigned": lambda model: model.load_state_dict(network(seed=0).state_dict(), assign=True),
    "layer.weight": lambda model: model[3].weight.data.copy_(noise_like(model[3].weight)),
    "an initialisation": lambda model: nn.init.uniform_(model[3].weight),
    "its own initial weights": lambda model: model[3].reset_parameters(),
    "NumPy": written_by_numpy,
    "nan off the mask": each(lambda p: p.data.fill_(torch.nan)),
    "shared memory": lambda model: model.share_memory(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_any_change_the_outputs_are_those_of_a_new_product(change):
    model = network()
    check(model)
    check(model)
    CHANGES[change](model)
    if change == "nan off the mask":
        assert model(images()).isnan().all()
        return
    check(model)
    check(model)


def test_one_number_that_is_written_off_the_mask_is_not_used():
    model = network()
    check(model)
    layer = sk.sparse_layers(model)["3"]
    with torch.no_grad():
        layer.param.view(-1)[layer.topology.missing()[17]] = 9.0
    check(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_type_of_numbers_is_followed_and_back(dtype):
    model = network()
    check(model)
    check(model.to(dtype), images().to(dtype))
    check(model.float())


def test_a_weight_whose_channels_lie_last_is_followed_too():
    # A flat view of it is a copy, in which no later write would be seen.
    plain = nn.Sequential(nn.Conv2d(4, 8, 3))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.2, seed=0))
    model.to(memory_format=torch.channels_last)
    x = images().view(1, 4, 4, 4)
    check(model, x)
    with torch.no_grad():
        model[0].param.data.fill_(0.5)
    check(model, x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_both_ways_to_record_no_gradients_give_the_same(mode):
    model = network()
    with mode():
        first = model(images())
        sk.sparse_layers(model)["3"].param.data.mul_(2)
        assert not torch.equal(model(images()), first)
        assert torch.equal(model(images()).clone(), by_products(model, images()))


def test_a_copy_has_what_is_its_own():
    model = network()
    check(model)
    other = copy.deepcopy(model)
    each(lambda p: p.data.add_(noise_like(p)))(other)
    check(other)
    check(model)


def test_gradients_reach_existing_connections_only_in_evaluation_mode_too():
    model = network()
    check(model)
    model(images()).sum().backward()
    for layer in sk.sparse_layers(model).values():
        assert layer.param.grad[~layer.mask].count_nonzero() == 0


def test_training_mode_without_gradients_gives_the_same_as_evaluation_mode():
    model = network()
    check(model)
    check(model.train())


def test_under_autocast_a_write_through_data_is_seen():
    model = network()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        first = model(images())
        each(lambda p: p.data.mul_(3))(model)
        assert not torch.equal(model(images()), first)


def no_product(self, *, read=False):
    raise AssertionError("the product with the mask was computed")


def test_the_product_is_left_out_while_nothing_changes_and_for_few_inputs_only(monkeypatch):
    model = network()
    check(model)
    monkeypatch.setattr(MaskedLinear, "effective_weight", no_product)
    with torch.no_grad():
        model(images())
        with pytest.raises(AssertionError):
            model(images(size=off_mask.FEW_INPUTS))
    with pytest.raises(AssertionError):
        model(images())
    each(lambda p: p.data.add_(1))(model)
    with torch.no_grad(), pytest.raises(AssertionError):
        model(images())
    monkeypatch.setattr(off_mask, "MANY_WEIGHTS", 2**15)
    with torch.no_grad(), pytest.raises(AssertionError):
        network()(images())


@pytest.mark.parametrize("density", [1.0, 0.001])
def test_full_and_nearly_empty_layers_are_followed_as_well(density):
    model = network(density=density)
    check(model)
    each(lambda p: p.data.add_(noise_like(p)))(model)
    check(model)
