"""These tests of initialisations are about learnt scales, true fan-in, and how signals propagate afterwards."""

import copy
import warnings
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from training_helpers import STORAGES, batches_of, largest_difference, plain_cnn, plain_mlp, same, sparse, states
from trick_helpers import seeded

from sparsekit.analysis import gradient_norm, signal_propagation
from sparsekit.experiments import Experiment, build_model
from sparsekit.experiments.recipes import digits_mlp, wide_mlp
from sparsekit.experiments.record import read_experiment, write_experiment
from sparsekit.layers import (
    TrainedWeightsWarning,
    densify,
    fit_to_fan_in,
    shapes_of,
    sparse_layers,
    sparsify,
    topology_of,
)
from sparsekit.rules import TopKAST, prepare_layers
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.tricks import RescaledInit, TrickContext, begin
from sparsekit.tricks.rescaled_init import _TwoStepAdam
from sparsekit.utils.files import read_json, write_json
from sparsekit.utils.registry import get

FAST = RescaledInit(iterations=6, rate=0.1)
CONTEXT = TrickContext(batches=batches_of(5))
both_storages = pytest.mark.parametrize("storage", STORAGES)


def cosine(a, b):
    return float(nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


# --- learnt scales ----------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("variant", ["masked", "published"])
def test_zeros_stay_zero_and_every_tensor_keeps_its_direction(variant, storage):
    before = sparse(plain_mlp(), storage)
    after = replace(FAST, variant=variant).apply(copy.deepcopy(before), CONTEXT)
    assert topology_of(after) == topology_of(before)
    dense_before, dense_after = densify(before).state_dict(), densify(after).state_dict()
    for name, tensor in dense_before.items():
        assert torch.equal(tensor == 0, dense_after[name] == 0)
        assert cosine(tensor, dense_after[name]) == pytest.approx(1)
    assert any(not torch.equal(tensor, dense_after[name]) for name, tensor in dense_before.items())


def test_both_storages_learn_the_same_scales():
    masked, csr = (FAST.apply(sparse(plain_mlp(), storage), CONTEXT) for storage in STORAGES)
    assert largest_difference(masked, csr) < 1e-6


def test_the_model_is_left_alone_while_scales_are_learnt():
    model = sparse(plain_mlp(dropout=0.5))
    before = states(model)
    scales = FAST.scales(model, batches_of(5))
    assert same(states(model), before)
    assert set(scales) == {name for name, _ in densify(model).named_parameters()}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_parameter_outside_the_loss_keeps_its_scale():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.spare = plain_mlp(), nn.Linear(2, 2)

        def forward(self, x):
            return self.net(x)

    for limit in (0.0, 1e9):  # both kinds of step
        scales = replace(FAST, limit=limit).scales(seeded(Spare), batches_of(5))
        assert scales["spare.weight"] == scales["spare.bias"] == 1
        assert scales["net.0.weight"] != 1


def test_attention_that_is_fused_can_be_rescaled():
    """The fused kernels of a CPU have no second derivative."""
    net = seeded(torchvision.models.VisionTransformer, 8, 4, 1, 2, 8, 8, num_classes=3)
    batch = seeded(torch.randn, 4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    scales = replace(FAST, iterations=1, limit=0.0).scales(net, [batch])
    assert scales["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"] != 1


def without_first_input():
    """A layer that reads only two of three inputs, and the small dense layer that is the same function."""
    wide, small = seeded(nn.Linear, 3, 2), nn.Linear(2, 2)
    small.load_state_dict({"weight": wide.weight[:, 1:].detach(), "bias": wide.bias.detach()})
    mask = torch.tensor([[False, True, True]]).expand(2, 3)
    sparse_net = sparsify(nn.Sequential(wide), Topology({"0": LayerTopology.of_mask(mask)}), init="dense")
    return sparse_net, nn.Sequential(small)


def loud_batches():
    """The input that is not read is a hundred times as loud."""
    draws = torch.Generator().manual_seed(0)
    inputs = [torch.randn(8, 3, generator=draws) * torch.tensor([100.0, 1.0, 1.0]) for _ in range(4)]
    return [(x, (x[:, 1] > 0).long()) for x in inputs]


@pytest.mark.parametrize("limit", [0.0, 100.0], ids=["gradient falls", "loss falls"])
def test_masked_a_network_learns_what_it_would_if_missing_connections_were_not_there(limit):
    masked, small = without_first_input()
    trick = replace(FAST, limit=limit)
    batches = loud_batches()
    learnt = trick.scales(masked, batches)
    assert learnt == pytest.approx(trick.scales(small, [(x[:, 1:], y) for x, y in batches]))
    assert any(scale != 1 for scale in learnt.values())


@pytest.mark.parametrize("limit", [0.0, 100.0], ids=["gradient falls", "loss falls"])
def test_as_published_missing_connections_have_their_say(limit):
    """A virtual step that forgets the mask must not pass for the masked one."""
    masked, _ = without_first_input()
    trick = replace(FAST, limit=limit, variant="published")
    batches = loud_batches()
    ours = replace(trick, variant="masked").scales(masked, batches)
    theirs = trick.scales(masked, batches)
    assert max(abs(ours[name] - theirs[name]) for name in ours) > 1e-3


def test_a_plain_network_has_one_variant():
    scales = [replace(FAST, variant=variant).scales(plain_mlp(), batches_of(5)) for variant in ("masked", "published")]
    assert scales[0] == scales[1]


def test_the_scales_stay_above_their_least():
    scales = replace(FAST, rate=10.0).scales(sparse(plain_mlp()), batches_of(5))
    assert min(scale for name, scale in scales.items() if "weight" in name) >= 0.01 - 1e-8
    assert min(scales.values()) >= 0


def test_tensors_of_zeros_have_no_scale():
    model = plain_mlp()
    nn.init.zeros_(model[0].bias)
    assert "0.bias" not in FAST.scales(model, batches_of(5))


def test_a_steep_network_becomes_flatter():
    model = sparse(plain_mlp())
    with torch.no_grad():
        for layer in sparse_layers(model).values():
            layer.param.mul_(6)
    batch = batches_of(1, size=64, seed=5)[0]
    before = gradient_norm(model, batch)
    RescaledInit(iterations=40, rate=0.05).apply(model, TrickContext(batches=batches_of(5)))
    assert gradient_norm(model, batch) < before / 2


def test_one_step_of_training_helps_more_afterwards():
    model, batch = sparse(plain_mlp()), batches_of(1, size=128, seed=5)[0]
    rescaled = RescaledInit(iterations=60, rate=0.05, limit=100.0).apply(
        copy.deepcopy(model), TrickContext(batches=batches_of(8, size=32))
    )
    assert _after_one_step(rescaled, batch) < _after_one_step(model, batch) - 0.05


def _after_one_step(model, batch, reach=0.1):
    model, (x, y) = densify(model), batch
    loss = nn.functional.cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    norm = sum(float(grad.square().sum()) for grad in grads) ** 0.5
    with torch.no_grad():
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter -= reach * grad / norm
        return float(nn.functional.cross_entropy(model(x), y))


def test_before_a_batch_norm_a_scale_changes_no_function():
    def net():
        return seeded(
            lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 3))
        )

    scaled = net()
    scaled[0].weight.data *= 3.0
    x = batches_of(1)[0][0]
    torch.testing.assert_close(scaled(x), net()(x), rtol=1e-3, atol=1e-3)


def test_the_two_kinds_of_step_share_the_mean_square_only():
    adam = _TwoStepAdam(0.1, torch.zeros(1))
    slope = torch.tensor([2.0])
    assert float(adam.step(slope, "objective")) == pytest.approx(0.1)
    assert float(adam.step(slope, "constraint")) == pytest.approx(0.1)  # a fresh mean, corrected for its own one step
    assert float(adam.step(-slope, "objective")) < 0.1
    assert adam.counts == {"objective": 2, "constraint": 1}


def test_wrong_settings_and_missing_batches_are_refused():
    with pytest.raises(ValueError, match="must see batches, got none. Give TrickContext"):
        FAST.apply(sparse(plain_mlp()))
    with pytest.raises(ValueError, match=r"iterations must lie in \[1"):
        RescaledInit(iterations=0)
    with pytest.raises(ValueError, match="reach must be above 0, got 0"):
        RescaledInit(reach=0.0)
    with pytest.raises((ValueError, TypeError), match="variant"):
        RescaledInit(variant="dense")


# --- true fan-in ------------------------------------------------------------------------------------------------


@both_storages
def test_each_neuron_is_scaled_by_its_own_fan_in(storage):
    before = sparse(plain_mlp(), storage)
    after = fit_to_fan_in(copy.deepcopy(before))
    for name, layer in sparse_layers(after).items():
        old = sparse_layers(before)[name]
        for neuron in range(layer.topology.num_outputs):
            mine = layer.topology.rows == neuron
            if count := int(mine.sum()):
                factor = (layer.topology.num_inputs / count) ** 0.5
                torch.testing.assert_close(layer.values()[mine], old.values()[mine] * factor)
        assert same(layer.bias.detach(), old.bias.detach())
    assert topology_of(after) == topology_of(before)


def test_a_full_network_is_left_as_it_is():
    model = sparse(plain_mlp(), density=1.0)
    assert largest_difference(fit_to_fan_in(copy.deepcopy(model)), model) == 0


def test_a_neuron_without_inputs_stays_without():
    empty = LayerTopology((2, 3), torch.tensor([3]))
    model = sparsify(nn.Sequential(nn.Linear(3, 2)), {"0": empty}, init="dense")
    assert fit_to_fan_in(model)[0].values().isfinite().all()


def test_a_plain_network_is_refused():
    with pytest.raises(ValueError, match="needs a topology to say which inputs there are, got none"):
        fit_to_fan_in(plain_mlp())


@both_storages
@pytest.mark.parametrize("allocation", ["uniform", "er", "erk"])
@pytest.mark.parametrize("plain", [plain_mlp, plain_cnn])
def test_new_models_are_fitted_by_default_whatever_the_allocation(plain, allocation, storage):
    model = plain()
    topology = random_topology(shapes_of(model), 0.2, allocation=allocation, seed=1)
    for name, layer in sparse_layers(sparsify(model, topology, storage)).items():
        drawn = model.get_submodule(name).weight.detach().flatten()[layer.indices]
        factors = (layer.topology.num_inputs / layer.topology.fan_in()[layer.topology.rows]).sqrt()
        torch.testing.assert_close(layer.values(), drawn * factors)


@both_storages
def test_the_dense_draw_keeps_every_value_and_so_does_density_1(storage):
    model, full = plain_cnn(), Topology({n: LayerTopology.full(s) for n, s in shapes_of(plain_cnn()).items()})
    for topology, init in ((full, "fan-in"), (random_topology(full.shapes, 0.2, seed=0), "dense")):
        for name, layer in sparse_layers(sparsify(model, topology, storage, init=init)).items():
            assert same(layer.values(), model.get_submodule(name).weight.detach().flatten()[layer.indices])


def test_an_initialisation_that_is_unknown_or_has_nothing_to_keep_is_refused():
    with pytest.raises(ValueError, match="init must be one of fan-in, dense, got 'fan_in'. Choose one of them"):
        sparsify(plain_mlp(), {}, init="fan_in")
    with torch.device("meta"):
        without_values = nn.Linear(4, 2)
    with pytest.raises(ValueError, match="must have values for init='dense', got one on the meta device"):
        sparsify(without_values, {"": LayerTopology.full((2, 4))}, init="dense")
    with pytest.raises(ValueError, match="init must be one of fan-in, dense, gse, got 'he'"):
        Experiment(init="he")


def test_scaling_a_model_that_was_just_trained_warns_and_keeping_its_values_does_not():
    model, half = plain_mlp(), random_topology(shapes_of(plain_mlp()), 0.5, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for inputs, labels in batches_of(40):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    with pytest.warns(TrainedWeightsWarning, match="trained or pruned. Give init='dense' to keep its values"):
        sparsify(model, half)
    normalised = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    normalised[1].num_batches_tracked.fill_(100)
    with pytest.warns(TrainedWeightsWarning):
        sparsify(normalised, random_topology(shapes_of(normalised), 0.5, seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsify(model, half, init="dense")
        sparsify(model, {name: LayerTopology.full(shape) for name, shape in half.shapes.items()})
        new = torchvision.models.mobilenet_v3_small(num_classes=10)
        sparsify(new, random_topology(shapes_of(new), 0.5, seed=0))


@both_storages
def test_a_sparse_model_that_was_made_dense_is_not_scaled_again_silently(storage):
    plain = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 4))
    topology = random_topology(shapes_of(plain), 0.3, seed=0)
    sparse = sparsify(plain, topology, storage)
    with pytest.warns(TrainedWeightsWarning, match="trained or pruned"):
        sparsify(densify(sparse), topology, storage)
    again = sparsify(densify(sparse), topology, storage, init="dense")
    assert same(again.state_dict(), sparse.state_dict())


@pytest.mark.parametrize("init", ["fan-in", "dense"])
def test_top_kast_scales_all_weights_of_a_row_alike(init):
    plain = nn.Linear(20, 10)
    topology = random_topology({"": (10, 20)}, 0.2, seed=0)
    sparse = sparsify(plain, topology, init=init)
    prepare_layers(TopKAST(stop=10), sparse, plain=plain)
    fitted = fit_to_fan_in(plain, topology) if init == "fan-in" else plain
    assert torch.equal(sparse.rule_state["weights"], fitted.weight.detach().flatten())


def test_what_needs_weights_is_refused_where_none_are_drawn():
    experiment = Experiment(data="mnist1d", rule=TopKAST(stop=10), init="gse")
    with pytest.raises(ValueError, match="Top-KAST needs a value for every weight, got a model without any"):
        build_model(experiment, input_shape=(40,), num_classes=10)
    with pytest.raises(ValueError, match="a score needs the weights of the dense draw, got init='gse'"):
        Experiment(score=get("score", "snip")(), init="gse")


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        ({"typo": LayerTopology.full((4, 8))}, "the topology must name layers among 0, got 'typo'"),
        ({"0": LayerTopology.full((4, 2))}, r"0: the topology must have the weight's shape \(4, 8\), got \(4, 2\)"),
    ],
)
def test_fitting_refuses_a_topology_of_another_model(topology, message):
    with pytest.raises(ValueError, match=message):
        fit_to_fan_in(nn.Sequential(nn.Linear(8, 4)), topology)


def test_weights_without_a_count_of_updates_become_sparse_as_others():
    with torch.inference_mode():
        plain = nn.Linear(8, 4)
    assert sparsify(plain, random_topology({"": (4, 8)}, 0.5, seed=0)).values().isfinite().all()


@both_storages
def test_experiments_fit_their_first_weights_and_say_so_in_their_folder(storage, tmp_path):
    models = {}
    for init in ("fan-in", "dense", "gse"):
        experiment = Experiment(data="mnist1d", density=0.1, storage=storage, init=init)
        models[init] = build_model(experiment, input_shape=(40,), num_classes=10)
        write_experiment(tmp_path, experiment)
        assert read_experiment(tmp_path) == experiment
    assert same(fit_to_fan_in(copy.deepcopy(models["dense"])).state_dict(), models["fan-in"].state_dict())
    fan_in = sparse_layers(models["gse"])["fc2"].topology.fan_in()
    reach = sparse_layers(models["gse"])["fc2"].values().abs() / (3 / fan_in[models["gse"].fc2.topology.rows]).sqrt()
    assert 0.9 < reach.max() <= 1
    assert not models["gse"].fc2.bias.any()


def test_runs_from_before_there_was_a_choice_keep_their_names_and_are_read_as_what_they_were(tmp_path):
    dense = digits_mlp(rule="rigl", density=0.02, init="dense")
    assert dense.folder_name == "digits-mlp-e8b42002bb"
    assert wide_mlp(width=128).folder_name == "wide-mlp-da0dbf54ae"
    write_experiment(tmp_path, dense)
    path = tmp_path / "experiment.json"
    for old, new in ((True, "dense"), (False, "gse")):
        plain = {key: value for key, value in read_json(path, remedy="").items() if key not in ("init", "dense_init")}
        write_json(path, plain | {"dense_init": old})
        assert read_experiment(tmp_path) == replace(dense, init=new)


def test_weights_that_a_rule_keeps_for_later_are_scaled_like_those_that_it_trains():
    experiment = Experiment(data="mnist1d", density=0.1, rule=TopKAST(stop=10))
    model = build_model(experiment, input_shape=(40,), num_classes=10)
    layer = sparse_layers(model)["fc2"]
    kept = layer.rule_state["weights"].view(layer.shape)
    assert same(kept.flatten()[layer.indices], layer.values())
    per_output = kept.abs().amax(1) * layer.topology.fan_in().clamp(min=1).sqrt()
    assert per_output.max() / per_output.min() < 1.2  # each row reaches as far as the root of its fan-in says


def deep(density):
    net = seeded(
        lambda: nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(200, 200, bias=False), nn.ReLU())])
    )
    return sparsify(net, random_topology(shapes_of(net), density, seed=0), init="dense")


def test_signals_shrink_by_the_root_of_the_density_from_layer_to_layer_unless_scaled():
    x, y = seeded(torch.randn, 256, 200), torch.zeros(256, dtype=torch.long)
    dense, unscaled, scaled = (
        signal_propagation(model, (x, y))["output_std"] for model in (deep(1.0), deep(0.04), fit_to_fan_in(deep(0.04)))
    )
    per_layer = (unscaled / dense).to_numpy()
    assert per_layer == pytest.approx([0.2**layer for layer in range(1, 7)], rel=0.4)
    assert (scaled / dense).to_numpy() == pytest.approx([1] * 6, rel=0.4)


def test_signal_propagation_leaves_the_model_alone_and_takes_both_storages():
    batch = batches_of(1)[0]
    tables = []
    for storage in STORAGES:
        model = sparse(plain_mlp(), storage)
        before = states(model)
        tables.append(signal_propagation(model, batch))
        assert same(states(model), before)
        assert all(parameter.grad is None for parameter in model.parameters())
    assert tables[0].to_numpy() == pytest.approx(tables[1].to_numpy(), rel=1e-4)
    assert begin(plain_mlp(), [])[0].weight.grad is None
