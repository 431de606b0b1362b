"""Guided stochastic exploration: what guides, how much is sampled, and what the rule does with it."""

import copy
import math
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import (
    LAYERS,
    MODELS,
    OPTIMIZERS,
    STORAGES,
    batch_for,
    capture,
    counts_of,
    dense_gradients,
    made,
    mlp,
    random_layer,
    small_conv_net,
    sparse,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rewiring.flow import all_ones_flow
from sparsekit.rules import GSE, AllMissing, DropGrow, GraBo, GraEst, GSEReleased, Guided, RigL, SynFlow, Uniform
from sparsekit.schedules import Constant, Cosine
from sparsekit.topology import LayerTopology

GUIDES = {"uniform": Uniform, "grabo": GraBo, "graest": GraEst, "synflow": SynFlow}
NETS = {(model, storage): (*MODELS[model], storage) for model in MODELS for storage in STORAGES}

every_guide = pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
every_net = pytest.mark.parametrize(("make", "shape", "storage"), NETS.values(), ids=map("-".join, NETS))
every_layer = pytest.mark.parametrize("name", LAYERS)
both_storages = pytest.mark.parametrize("storage", STORAGES)


@dataclass(frozen=True, kw_only=True)
class Given(Guided):
    """Weights by hand."""

    inputs: tuple[float, ...]
    outputs: tuple[float, ...]

    def guide(self, view, generator):
        return torch.tensor([self.inputs]), torch.tensor(self.outputs)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def view_of(topology: LayerTopology) -> LayerView:
    return LayerView(name="fc", topology=topology, values=torch.ones(topology.count))


def positions_of(candidates, view: LayerView, generator: torch.Generator) -> torch.Tensor:
    parts = list(candidates(view, view.topology, 0, generator))
    return torch.cat([*parts, torch.empty(0, dtype=torch.int64)])


def seen(make, shape, storage, batches: int = 1) -> tuple[nn.Module, dict[str, LayerView]]:
    model = sparse(make(), storage)
    io = capture(model, *(batch_for(shape, seed=seed)[0] for seed in range(batches)))
    return model, sk.views(model, io)


def one_layer(name: str, storage: str = "csr", batches: int = 1) -> tuple[LayerView, torch.Tensor]:
    """A layer of every make after some backward passes, with the dense gradient `(O, F)`."""
    make, shape = LAYERS[name]
    plain = nn.Sequential(made(make))
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), storage, init="dense")
    inputs = [torch.randn(shape, generator=draws(seed)).double() for seed in range(batches)]
    view = sk.views(model, capture(model, *inputs))["0"]
    return view, dense_gradients(model, *inputs)["0"].view(view.topology.num_outputs, -1)


def products(view: LayerView, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """What input and output sums say of every place of a layer, `(O, F)`: an output reads the inputs of its group."""
    by_group = inputs.view(-1, view.topology.num_inputs)
    return outputs[:, None] * by_group.repeat_interleave(len(outputs) // len(by_group), 0)


# --- sums -----------------------------------------------------------------------------------------------------------


@every_layer
def test_sums_over_samples_and_positions_are_those_of_the_unfolded_matrices(name):
    view, _ = one_layer(name)
    kind, (x, g) = view.io.layer.kind, view.io.pairs[0]
    x_matrix, g_matrix = kind.input_matrix(x), kind.output_matrix(g)
    signs = torch.randint(2, (x_matrix.shape[1],), generator=draws()) * 2 - 1
    for own_signs in (None, signs):
        by_hand = signs.double() if own_signs is not None else torch.ones(len(signs)).double()
        torch.testing.assert_close(kind.input_sums(x, own_signs), x_matrix @ by_hand, rtol=0, atol=1e-12)
        torch.testing.assert_close(kind.output_sums(g, own_signs), g_matrix @ by_hand, rtol=0, atol=1e-12)


# --- GraBo ----------------------------------------------------------------------------------------------------------


@every_layer
@both_storages
def test_grabo_is_an_upper_bound_of_every_gradient(storage, name):
    view, dense = one_layer(name, storage, batches=2)
    bound = products(view, *view.io.magnitudes())
    assert (dense.abs() <= bound + 1e-12).all()
    torch.testing.assert_close(bound, products(view, view.io.x().abs().sum(0), view.io.g().abs().sum(0)))


@pytest.mark.parametrize("name", ["linear on one sample", "a picture as large as the kernel"])
def test_grabo_is_the_gradient_s_size_where_there_is_one_sample_and_one_position(name, monkeypatch):
    monkeypatch.setitem(
        LAYERS, "a picture as large as the kernel", (lambda: nn.Conv2d(4, 6, 3, groups=2), (1, 4, 3, 3))
    )
    view, dense = one_layer(name)
    torch.testing.assert_close(products(view, *view.io.magnitudes()), dense.abs(), rtol=0, atol=1e-12)


@both_storages
def test_grabo_adds_up_over_micro_batches(storage):
    model = sparse(small_conv_net(), storage)
    x = batch_for((2, 6, 6), size=8)[0]
    whole, parts = capture(model, x), None
    model.zero_grad()
    parts = capture(model, *x.split(3))
    for name in whole:
        for one, other in zip(whole[name].magnitudes(), parts[name].magnitudes(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


# --- GraEst ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize(
    "name", ["linear", "linear on sequences", "conv", "stride", "groups", "circular", "same, dilated", "uneven"]
)
def test_the_sketch_is_on_average_the_gradient(name, batches):
    """Fails for signs that differ between inputs and outputs, start anew with a micro-batch, or miss positions."""
    view, dense = one_layer(name, batches=batches)
    generator, count = draws(1), 1000
    total, squares = torch.zeros_like(dense), torch.zeros_like(dense)
    for _ in range(count):
        product = products(view, *view.io.sketch(generator))
        total, squares = total + product, squares + product**2
    error = (squares / count - (total / count) ** 2).clamp(min=0).sqrt() / math.sqrt(count)
    distance = (total / count - dense).abs() / error
    # Of a hundred places one is further off than 4 standard errors once in 160 runs.
    assert distance.max() < 4.5
    assert distance.square().mean() < 3  # not 1: places share inputs and outputs
    assert dense.abs().max() > 10 * error.max()


def test_the_sketch_of_a_single_sample_is_the_gradient_itself():
    view, dense = one_layer("linear on one sample")
    torch.testing.assert_close(products(view, *view.io.sketch(draws())), dense, rtol=0, atol=1e-12)


def test_every_sketch_has_signs_of_its_own():
    view, _ = one_layer("conv")
    generator = draws()
    first, second = (torch.cat(view.io.sketch(generator)) for _ in range(2))
    assert not torch.allclose(first, second)
    assert torch.equal(first, torch.cat(view.io.sketch(draws())))


# --- SynFlow --------------------------------------------------------------------------------------------------------


def positive(model: nn.Module) -> nn.Module:
    """The dense model with absolute weights, no biases and the identity for activations."""
    twin = sk.densify(model)
    for name, parameter in twin.named_parameters():
        parameter.data = parameter.data.abs() if name.endswith("weight") else torch.zeros_like(parameter)
    return nn.Sequential(*(nn.Identity() if isinstance(m, nn.Tanh | nn.BatchNorm2d) else m for m in twin)).eval()


@every_net
def test_the_flow_of_ones_is_what_arrives_and_what_is_passed_on_with_positive_weights(make, shape, storage):
    model, views = seen(make, shape, storage)
    by_hand = positive(model)
    x = torch.ones(8, *shape).double()
    with_sums = sk.sparsify(by_hand, sk.topology_of(model), "masked", init="dense")
    with sk.capture_io(with_sums) as io:
        with_sums(x).sum().backward()
    for name, view in views.items():
        found, expected = view.io.flow(), io[name].magnitudes()
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.float64
            torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def with_everything(storage: str) -> nn.Module:
    """Norms, activations, dropout and a change in place, in single precision, half-way through training."""
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 9), nn.ReLU(True)
    )
    plain.append(nn.Sequential(nn.LayerNorm(9), nn.Linear(9, 3), nn.Softmax(1)))
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), storage, init="dense")


@both_storages
def test_the_pass_of_ones_leaves_the_model_as_it_is(storage):
    model = with_everything(storage).train()
    model(torch.randn(3, 2, 6, 6)).pow(2).sum().backward()
    state, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    grads, stream = [p.grad.clone() for p in model.parameters()], torch.get_rng_state()
    flow = all_ones_flow(model, (torch.ones(1, 2, 6, 6),))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(sums.dtype == torch.float64 for pair in flow.values() for sums in pair)


@both_storages
def test_flow_is_linear_in_every_layer_although_norms_and_activations_are_not(storage):
    """Half of all weights: half arrives at the second, a quarter at the third, and outputs pass on less alike."""
    model = with_everything(storage)
    ones = (torch.ones(1, 2, 6, 6),)
    before = all_ones_flow(model, ones)
    torch.rand(1)  # dropout would now leave out others
    with torch.no_grad():
        for layer in sk.sparse_layers(model).values():
            layer.param.mul_(-0.5)
    after = all_ones_flow(model, ones)
    assert list(before) == list(after) == ["7.1", "5", "0"]
    for name, arrives, passes_on in (("0", 1, 1 / 4), ("5", 1 / 2, 1 / 2), ("7.1", 1 / 4, 1)):
        torch.testing.assert_close(after[name][0], before[name][0] * arrives)
        torch.testing.assert_close(after[name][1], before[name][1] * passes_on)


def test_synflow_follows_the_paths_that_exist():
    plain = mlp(3, 2, 2)
    topology = {"0": LayerTopology((2, 3), torch.tensor([0, 4])), "2": LayerTopology((2, 2), torch.tensor([1]))}
    model = sk.sparsify(plain, topology, "csr", init="dense")
    view = sk.views(model, capture(model, batch_for((3,))[0]))["0"]
    inputs, outputs = SynFlow().guide(view, draws())
    assert inputs.tolist() == [[8.0, 8.0, 8.0]]
    assert outputs[0] == 0  # nothing reads it
    assert outputs[1] > 0


def test_a_model_that_is_called_by_name_says_what_synflow_needs():
    model = sparse(mlp(3, 4, 2), "csr")
    with sk.capture_io(model) as io:
        model(input=batch_for((3,))[0]).sum().backward()
    with pytest.raises(ValueError, match=r"needs the shape of the model's input, got no call .*. Run model\(x\)"):
        SynFlow().guide(sk.views(model, io)["0"], draws())


def test_capturing_leaves_no_hook_behind():
    before = dict(nn.modules.module._global_forward_pre_hooks)
    model = sparse(mlp(3, 4, 2), "csr")
    capture(model, batch_for((3,))[0])
    assert dict(nn.modules.module._global_forward_pre_hooks) == before


# --- how much is sampled --------------------------------------------------------------------------------------------

# |S| / |A| by density and subset: formula of the paper's sampling, methods' table.
RATIOS = {
    0.01: (0.247, 0.494, 0.985, 1.474, 1.960),
    0.02: (0.244, 0.488, 0.970, 1.448, 1.921),
    0.05: (0.236, 0.469, 0.927, 1.373, 1.808),
    0.1: (0.222, 0.439, 0.857, 1.254, 1.631),
    0.2: (0.195, 0.381, 0.725, 1.037, 1.319),
    0.3: (0.169, 0.325, 0.605, 0.845, 1.053),
}


@pytest.mark.parametrize("density", RATIOS)
def test_as_many_are_sampled_as_chance_says(density):
    side = 1000
    topology = random_layer((side, side), round(density * side**2))
    for subset, expected in zip((0.25, 0.5, 1.0, 1.5, 2.0), RATIOS[density], strict=True):
        found = positions_of(Uniform(subset=subset), view_of(topology), draws()).numel()
        # Occupied boxes among N, each missing with probability 1 - d.
        load = subset * density
        occupied = side**2 * (1 - math.exp(-load))
        variance = side**2 * (math.exp(-load) - (1 + load) * math.exp(-2 * load)) * (1 - density) ** 2
        error = math.sqrt(variance + occupied * density * (1 - density)) / topology.count
        assert found / topology.count == pytest.approx(expected, abs=4 * error + 0.0006)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 8), st.floats(0, 1), st.integers(0, 99)),
    st.floats(0.1, 4),
    st.integers(0, 9),
)
@settings(max_examples=150)
def test_the_exact_sampler_finds_as_many_different_missing_positions_as_asked_for(drawn, subset, seed):
    taken = random_layer(drawn[:2], round(drawn[2] * drawn[0] * drawn[1]), drawn[3])
    wanted = min(math.ceil(subset * taken.count), taken.size - taken.count)
    for candidates in (
        Uniform(subset=subset, sampler="exact"),
        Given(subset=subset, sampler="exact", inputs=(1.0,) * drawn[1], outputs=(1.0,) * drawn[0]),
    ):
        found = positions_of(candidates, view_of(taken), draws(seed))
        assert (found.diff() > 0).all()
        assert (taken.position_of(found) == -1).all()
        assert found.numel() <= wanted
        assert found.numel() == wanted or isinstance(candidates, Given)


def test_the_exact_sampler_draws_missing_positions_in_proportion_to_their_weight():
    taken = LayerTopology((2, 3), torch.tensor([0]))
    candidates = Given(sampler="exact", inputs=(8.0, 1.0, 3.0), outputs=(1.0, 2.0))
    counts = torch.zeros(6)
    for seed in range(1000):
        counts[positions_of(candidates, view_of(taken), draws(seed))] += 1
    weights = torch.tensor([0.0, 1.0, 3.0, 16.0, 2.0, 6.0])
    assert counts.sum() == 1000
    assert chisquare(counts[1:].numpy(), (weights / weights.sum() * 1000)[1:].numpy(), sum_check=False).pvalue > 1e-3


def test_the_exact_sampler_gives_up_where_the_weights_allow_no_more():
    taken = random_layer((4, 5), 4, 2)
    few = positions_of(Given(sampler="exact", inputs=(1.0, 0, 0, 0, 0), outputs=(1.0,) * 4), view_of(taken), draws())
    assert set(few.tolist()) <= {0, 5, 10, 15}


@every_guide
@every_net
def test_an_infinite_subset_or_a_large_exact_one_considers_every_missing_place(make, shape, storage, guide):
    _, views = seen(make, shape, storage)
    for view in views.values():
        for candidates in (guide(subset=math.inf), guide(subset=50.0, sampler="exact"), guide(dense_from=0.01)):
            parts = list(candidates(view, view.topology, 0, draws()))
            assert torch.equal(torch.cat(parts), view.topology.missing())
            assert all(part.numel() <= max(1, view.topology.size // 4) for part in parts)


def test_only_layers_of_the_given_density_consider_everything():
    thin, thick = random_layer((20, 20), 199), random_layer((20, 20), 200)
    candidates = Uniform(dense_from=0.5)
    assert positions_of(candidates, view_of(thin), draws()).numel() < 201
    assert positions_of(candidates, view_of(thick), draws()).numel() == 200


def test_a_full_layer_has_no_candidates():
    assert positions_of(Uniform(), view_of(LayerTopology.full((3, 4))), draws()).numel() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subset": 0.0}, "subset must be above 0, got 0.0. Choose 1"),
        ({"subset": math.nan}, "subset must be above 0, got nan"),
        (
            {"sampler": "alias"},
            r"sampler must be 'replacement' or 'exact', got 'alias'|Literal\['replacement', 'exact'\]",
        ),
        ({"dense_from": 1.5}, r"dense_from must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):  # the tests' type checker is faster
        Uniform(**wrong)


# --- guided at last -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", [GraBo, GraEst, SynFlow])
@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_candidates_are_drawn_in_proportion_to_the_guide(make, shape, guide):
    """One draw at a time from layers of one connection: how often each missing place comes."""
    _, views = seen(make, shape, "csr")
    view = list(views.values())[1]
    few = LayerTopology(view.topology.shape, view.topology.indices[:1])
    fixed = Fixed(*guide().guide(view, draws()))
    counts = torch.zeros(few.size)
    for seed in range(1500):
        counts[next(fixed(view_of(few), few, 0, draws(seed)))] += 1
    weights = products(view, fixed.inputs.flatten(), fixed.outputs).flatten()
    assert counts[few.indices] == 0
    weights[few.indices] *= 0
    expected = weights / products(view, fixed.inputs.flatten(), fixed.outputs).sum() * 1500
    is_likely = expected > 5
    distance = (counts[is_likely] - expected[is_likely]) / expected[is_likely].sqrt()
    assert is_likely.sum() > 10
    assert distance.abs().max() < 4.5
    assert distance.square().mean() < 1.8


class Fixed(Guided):
    """Always the same weights, one draw."""

    def __init__(self, inputs, outputs):
        super().__init__()
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "outputs", outputs)

    def guide(self, view, generator):
        return self.inputs, self.outputs


@every_guide
def test_both_storages_guide_alike(guide):
    for make, shape in MODELS.values():
        (_, masked), (_, csr) = (seen(make, shape, storage, batches=2) for storage in STORAGES)
        for name, view in masked.items():
            for one, other in zip(guide().guide(view, draws()), guide().guide(csr[name], draws()), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# --- the rule -------------------------------------------------------------------------------------------------------


@every_guide
@every_net
@pytest.mark.parametrize("sampler", ["replacement", "exact"])
def test_with_every_missing_connection_sampled_gse_is_rigl_that_grows_first(make, shape, storage, guide, sampler):
    _, views = seen(make, shape, storage)
    subset = math.inf if sampler == "replacement" else 100.0
    gse = GSE(stop=100, candidates=guide(subset=subset, sampler=sampler), rounding="down")
    rigl = RigL(stop=100, drop_fraction=0.2, allow_regrowth=False)
    assert gse.propose(views, 10, draws()) == rigl.propose(views, 10, draws())


@every_guide
@every_net
@pytest.mark.parametrize("sampler", ["replacement", "exact"])
def test_the_best_of_the_sampled_are_grown_and_the_weakest_dropped(make, shape, storage, guide, sampler):
    model, views = seen(make, shape, storage)
    candidates = guide(subset=0.7, sampler=sampler)
    new = GSE(stop=100, drop_fraction=0.3, candidates=candidates).propose(views, 0, draws(4))
    generator = draws(4)
    assert counts_of(new) == counts_of(sk.topology_of(model))
    for name, view in views.items():
        sample, old = positions_of(candidates, view, generator), view.topology
        count = min(math.ceil(0.3 * old.count), sample.numel())
        best = sample[view.grad_at(sample).abs().topk(count).indices].sort().values
        weakest = old.indices[view.values.abs().topk(count, largest=False).indices].sort().values
        assert torch.equal((new[name] - old).indices, best)
        assert torch.equal((old - new[name]).indices, weakest)


def test_fewer_candidates_than_wanted_mean_that_fewer_are_exchanged():
    topology = random_layer((40, 50), 100)
    rule = DropGrow(
        stop=9,
        drop_fraction=Constant(0.9),
        candidates=Uniform(subset=0.1),
        grow=sk.rules.Random(),
        allow_regrowth=False,
    )
    new = rule.propose({"fc": view_of(topology)}, 0, draws())["fc"]
    assert new.count == 100
    assert 1 <= (new - topology).count <= 10


@every_guide
@both_storages
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_grown_connections_start_at_zero_in_value_and_optimizer_state(storage, guide, optimizer):
    make, shape = MODELS["conv"]
    model = sparse(make(), storage)
    updates = OPTIMIZERS[optimizer](model.parameters())
    rule = GSE(stop=100, every=2, candidates=guide())
    for step in range(1, 3):
        batch, loss = batch_for(shape, seed=step), nn.functional.cross_entropy
        _, change = sk.train_step(model, updates, batch, loss, rule, step, sk.generator(0, step))
    assert change.num_grown == change.num_dropped > 0
    for name, layer in sk.sparse_layers(model).items():
        grown = layer.topology.position_of(change.grown[name])
        assert not layer.values()[grown].any()
        for tensor in updates.state[layer.param].values():
            if tensor.shape == layer.param.shape:
                assert not layer.unpack(tensor)[grown].any()


@every_guide
@both_storages
def test_a_network_that_is_dead_is_still_rewired(storage, guide):
    """All inputs zero: nothing guides, every gradient is zero, and the run goes on."""
    model = sparse(mlp(6, 8, 3), storage)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    views = sk.views(model, capture(model, torch.zeros(4, 6).double()))
    new = GSE(stop=100, candidates=guide()).propose(views, 0, draws())
    assert counts_of(new) == counts_of(sk.topology_of(model))
    assert sum((layer - views[name].topology).count for name, layer in new.items()) > 0


def test_presets_are_the_algorithm_and_the_released_code():
    gse = GSE(stop=100)
    assert (gse.scope, gse.replaces_step, gse.allow_regrowth, gse.rounding, gse.probe_batches) == (
        "layer",
        True,
        False,
        "up",
        1,
    )
    assert gse.drop_fraction == Cosine(0.2, 0.0)
    assert gse.candidates == Uniform(subset=1.0)
    released = GSEReleased(stop=100, classes=1000)
    assert (released.scope, released.replaces_step, released.rounding) == ("global", False, "down")
    assert released.probe_batches == 79
    assert released.candidates == Uniform(dense_from=0.5)
    assert GSEReleased(stop=100).probe_batches == 1


def test_the_size_of_the_subset_can_be_given_beside_the_candidates():
    assert GSE(stop=9, subset=2.0, candidates=GraBo(sampler="exact")).candidates == GraBo(subset=2.0, sampler="exact")
    with pytest.raises(ValueError, match="a subset must come with candidates that are drawn from one, got AllMissing"):
        GSE(stop=9, subset=2.0, candidates=AllMissing())


def test_the_number_exchanged_can_be_rounded_up():
    topology = random_layer((10, 10), 17)
    for drop_fraction, exchanged in ((0.3, 6), (0.05, 1), (0.5, 9), (1.0, 17), (0.0, 0)):
        rule = replace(
            GSE(stop=9, candidates=AllMissing(), grow=sk.rules.Random()), drop_fraction=Constant(drop_fraction)
        )
        new = rule.propose({"fc": view_of(topology)}, 0, draws())["fc"]
        assert (new - topology).count == exchanged
    with pytest.raises((ValueError, TypeError), match=r"rounding must be 'down' or 'up', got 'even'|Literal"):
        GSE(stop=9, rounding="even")
