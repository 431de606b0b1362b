"""Chain removal: units that lost all inputs or all outputs lose everything, and layers keep their counts."""

import pytest
import torch
from helpers import batch_for, mlp, random_layer, train
from torch import nn

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import SET, ChainRemoval, CHTs, CHTss, RigL, Static
from sparsekit.rules.chain_removal import _filled, without_one_sided_units
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology

CHAIN = ("0", "2", "4")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_paths(masks: list[torch.Tensor]) -> list[torch.Tensor]:
    """Connections whose two units, where these lie between layers, have an input and an output that is on a path."""
    forward, backward = (
        [torch.ones(masks[0].shape[1], dtype=torch.bool)],
        [torch.ones(len(masks[-1]), dtype=torch.bool)],
    )
    for mask in masks:
        forward.append((mask & forward[-1]).any(1))
    for mask in reversed(masks):
        backward.append((mask & backward[-1][:, None]).any(0))
    backward.reverse()
    return [mask & forward[n][None, :] & backward[n + 1][:, None] for n, mask in enumerate(masks)]


def test_a_small_chain_is_what_one_works_out_by_hand():
    # Unit 1 has no output and unit 2 no input. With it goes the last input of unit b1, whose output goes too.
    a = LayerTopology.of_mask(torch.tensor([[1, 0], [1, 1], [0, 0]]) == 1)
    b = LayerTopology.of_mask(torch.tensor([[1, 0, 0], [0, 0, 1]]) == 1)
    c = LayerTopology.of_mask(torch.tensor([[1, 1]]) == 1)
    rest = without_one_sided_units({"a": a, "b": b, "c": c})
    assert {name: layer.indices.tolist() for name, layer in rest.items()} == {"a": [0], "b": [0], "c": [0]}


@pytest.mark.parametrize("counts", [(6, 8, 5), (12, 9, 10), (40, 56, 21)])
@pytest.mark.parametrize("seed", range(5))
def test_what_stays_are_the_connections_on_a_path_from_input_to_output(counts, seed):
    shapes = ((8, 5), (7, 8), (3, 7))
    layers = {
        str(n): random_layer(shape, count, seed) for n, (shape, count) in enumerate(zip(shapes, counts, strict=True))
    }
    rest = without_one_sided_units(layers)
    expected = on_paths([layer.mask() for layer in layers.values()])
    assert all(torch.equal(layer.mask(), mask) for layer, mask in zip(rest.values(), expected, strict=True))


def test_a_channel_is_a_unit_of_a_convolution():
    first, second = torch.zeros(3, 1, 3, 3, dtype=torch.bool), torch.zeros(2, 3, 3, 3, dtype=torch.bool)
    first[0, 0, 1, 1] = first[1, 0, 0, 2] = second[0, 0, 2, 2] = second[1, 2, 0, 0] = True
    rest = without_one_sided_units({"a": LayerTopology.of_mask(first), "b": LayerTopology.of_mask(second)})
    assert rest["a"].mask().nonzero().tolist() == [[0, 0, 1, 1]]
    assert rest["b"].mask().nonzero().tolist() == [[0, 0, 2, 2]]


def trained(rule, density: float = 0.12) -> nn.Module:
    plain = mlp(12, 20, 20, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), density, seed=1, allocation="uniform"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(12):
        x, y = batch_for((12,), seed=step, classes=4)
        sk.train_step(model, optimizer, (x, y), nn.functional.cross_entropy, rule, step, draws(step))
    return model


def one_sided(model: nn.Module) -> int:
    """Connections of the hidden units with an empty side."""
    layers = {name: sk.topology_of(model)[name] for name in CHAIN}
    return sum(x.count for x in layers.values()) - sum(x.count for x in without_one_sided_units(layers).values())


def test_chts_alone_leaves_connections_of_one_sided_units_and_chain_removal_leaves_few():
    base = CHTs(stop=11, every=2, drop_fraction=Constant(0.3))
    alone, together = trained(base), trained(ChainRemoval(base=base, chain=CHAIN))
    counts = [{name: layer.count for name, layer in sk.topology_of(model).items()} for model in (alone, together)]
    assert counts[0] == counts[1]
    assert 0 <= one_sided(together) < one_sided(alone) / 2


def test_each_layer_grows_as_many_as_it_dropped_where_every_unit_has_both_sides():
    layers = {"0": random_layer((30, 30), 300, 1), "2": random_layer((30, 30), 300, 2)}
    values = torch.rand(300, generator=draws()) + 1
    views = {name: LayerView(name=name, topology=layer, values=values) for name, layer in layers.items()}
    base = SET(stop=9, every=1, drop_fraction=Constant(0.2))
    new = ChainRemoval(base=base, chain=("0", "2")).propose(views, 0, draws())
    weakest = values.sort().indices[:60]
    for name, layer in layers.items():
        assert new[name].count == 300
        assert (layer - new[name]).count > 45  # a few are drawn again
        assert set((layer - new[name]).indices.tolist()) <= set(layer.indices[weakest].tolist())


def test_where_candidates_run_short_the_largest_that_went_return():
    layer = random_layer((9, 9), 40)
    view = LayerView(name="0", topology=layer, values=torch.arange(1.0, 41.0))
    filled = _filled(LayerTopology((9, 9), layer.indices[:30]), view, 35)
    assert torch.equal(filled.indices, torch.cat([layer.indices[:30], layer.indices[35:]]))
    assert _filled(layer, view, 40) == layer


def test_a_falling_density_is_met():
    rule = ChainRemoval(base=CHTss(stop=10, every=2, final=0.1), chain=CHAIN)
    assert sk.topology_of(trained(rule, density=0.5)).count == round(0.1 * (240 + 400 + 80))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"base": Static()}, TypeError, "base must be a DropGrow, got Static"),
        ({"base": RigL(stop=9, scope="global")}, ValueError, "scope"),
        ({"chain": ("0",)}, ValueError, "two or more layers"),
        ({"chain": ("0", "0")}, ValueError, "each once"),
    ],
)
def test_what_cannot_be_a_chain_is_refused(given, error, says):
    with pytest.raises(error, match=says):
        ChainRemoval(**{"base": CHTs(stop=9), "chain": CHAIN, **given})


@pytest.mark.parametrize(
    ("chain", "says"), [(("0", "9"), "got 9. Rename"), (("0", "4"), "20 outputs of 0 and 8 inputs")]
)
def test_a_chain_must_be_there_and_fit(chain, says):
    plain = mlp(12, 20, 8, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.3))
    with pytest.raises(ValueError, match=says):
        train(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            ChainRemoval(base=CHTs(stop=9, every=1), chain=chain),
            (12,),
            steps=1,
        )
