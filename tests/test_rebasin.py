"""Hidden units in another order: the function stays, planted orders come back exactly, and strangers come nearer."""

import pytest
import torch
from torch import nn

import sparsekit as sk
from sparsekit.tickets import rebasin
from sparsekit.tickets.rebasin import reordered
from sparsekit.tickets.units import units_of

IMAGE = {"input_shape": (3, 16, 16), "num_classes": 4}
NETWORKS = {
    "mlp": lambda: sk.models.build("mlp", input_shape=(12,), num_classes=4, hidden=(10, 8)),
    "small-cnn": lambda: sk.models.build("small-cnn", **IMAGE),
    "resnet20": lambda: sk.models.build("resnet20", **IMAGE, width=8),
    "resnet18": lambda: sk.models.build("resnet18", **IMAGE, width=8),
    "mobilenet": lambda: sk.models.build("mobilenet", **IMAGE, width=8),
}


def sparse(name: str, seed: int = 0, storage: str = "masked") -> nn.Module:
    """Return a sparse network whose batch norms are no two alike."""
    torch.manual_seed(seed)
    plain = NETWORKS[name]()
    for tensor in [*plain.parameters(), *plain.buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=seed), storage=storage)


def shuffled(ticket: sk.Ticket, model: nn.Module, seed: int = 0) -> sk.Ticket:
    """Return a ticket with every group of units in a random order."""
    units, generator = units_of(model), torch.Generator().manual_seed(seed)
    order = {unit: unit for side in units.sides for unit in side.units}
    for group in units.groups:
        drawn = torch.randperm(len(group), generator=generator).tolist()
        order |= {unit: group[number] for unit, number in zip(group, drawn, strict=True)}
    return reordered(ticket, units, order)


def inputs_of(name: str) -> torch.Tensor:
    return torch.rand(5, 12) if name == "mlp" else torch.rand(5, 3, 16, 16)


@pytest.mark.parametrize("name", NETWORKS)
def test_units_in_another_order_compute_the_same(name):
    model = sparse(name).eval()
    ticket = sk.Ticket.of(model, step=0)
    other = shuffled(ticket, model)
    assert other.topology != ticket.topology
    assert [layer.count for layer in other.topology.values()] == [layer.count for layer in ticket.topology.values()]
    x = inputs_of(name)
    torch.testing.assert_close(other.model_like(model).eval()(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "by"), [*((name, "values") for name in NETWORKS), ("mlp", "topology"), ("small-cnn", "topology")]
)
def test_a_planted_order_comes_back_exactly(name, by):
    model = sparse(name)
    ticket = sk.Ticket.of(model, step=0)
    again = rebasin(shuffled(ticket, model), ticket, model, by=by)
    assert again.topology == ticket.topology
    for layer, values in ticket.values.items():
        torch.testing.assert_close(again.values[layer], values, rtol=0, atol=0)


def test_both_storages_and_plain_networks_have_the_same_units():
    models = [sparse("resnet20"), sparse("resnet20", storage="csr"), sk.densify(sparse("resnet20"))]
    first, *others = (units_of(model) for model in models)
    assert all(other == first for other in others)


def test_units_that_are_added_move_together_and_those_that_padding_adds_later_do_not():
    units = units_of(NETWORKS["resnet20"]())
    ends = {side.name: list(side.units) for side in units.sides if side.dim == 0}
    stream, wider = ends["stage1.0.conv2.weight"], ends["stage2.0.conv2.weight"]
    assert stream == ends["stage1.2.conv2.weight"] == ends["conv1.weight"]
    assert wider[4:12] == stream  # eight channels between four and four new ones
    assert not {*wider[:4], *wider[12:]} & set(stream)


def test_inputs_and_classes_stay_where_they_are():
    units = units_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)))
    assert [len(group) for group in units.groups] == [4]


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(torch.cat([hidden, hidden], dim=1))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Doubling(), "cannot be followed through .*cat"),
        (nn.Sequential(nn.Linear(3, 4), nn.MultiheadAttention(4, 2)), "cannot be followed through MultiheadAttention"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "groups must be 1 or as many as channels"),
        (nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), "a layer with weights must come before"),
    ],
)
def test_networks_whose_units_cannot_be_followed_are_refused(model, said):
    with pytest.raises(ValueError, match=said):
        units_of(model)


def test_other_layers_and_unknown_ways_to_compare_are_refused():
    model = sparse("mlp")
    ticket, other = sk.Ticket.of(model, step=0), sk.Ticket.of(sparse("small-cnn"), step=0)
    with pytest.raises(ValueError, match="by must be values or topology, got 'luck'"):
        rebasin(ticket, ticket, model, by="luck")
    with pytest.raises(ValueError, match="layers"):
        rebasin(ticket, other, model)
