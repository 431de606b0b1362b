"""These tests of ghost skips ask where they lead, what they add and cost, and whether anything of them is left."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from training_helpers import STORAGES, batches_of, pictures_of, plain_cnn, plain_mlp, same, sparse, states
from trick_helpers import Functional, kinds_of, seeded, train, train_with

from sparsekit.analysis import forward_flops, ghost_cost
from sparsekit.layers import densify, fuse_relus, shapes_of, sparsify, topology_of
from sparsekit.models import build
from sparsekit.schedules import Constant, Cosine
from sparsekit.topology.selection import random_topology
from sparsekit.tricks import GhostNeurons, GhostSkips, Skip, SkipTarget, begin, find_skip_targets, ghosts_of, set_step
from sparsekit.tricks.ghost_skips import INITIAL_WEIGHT

WAYS = ("identity", "projection", "branch")
every_way = pytest.mark.parametrize("way", WAYS)


def residual(**settings):
    return build("resnet20", **{"input_shape": (2, 8, 8), "num_classes": 3, "width": 4, **settings})


def images(size=8):
    return seeded(torch.randn, 3, 2, size, size)


# --- where they lead --------------------------------------------------------------------------------------------


def test_a_skip_leads_from_a_layers_input_to_just_before_its_relu():
    net = build("small-cnn", input_shape=(1, 8, 8), num_classes=3, widths=(2, 3))
    assert find_skip_targets(net).layers == (SkipTarget("conv1", "bn1"), SkipTarget("conv2", "bn2"))
    assert find_skip_targets(net).others == {"head": "leads to no ReLU"}
    assert find_skip_targets(seeded(Functional)).layers == (
        SkipTarget("fc1", "fc1"),
        SkipTarget("fc2", "fc2"),
        SkipTarget("fc3", "fc3"),
    )


def test_branches_stay_in_residual_blocks():
    targets = find_skip_targets(build("resnet18", input_shape=(3, 8, 8), num_classes=3, width=2), blocks_only=True)
    assert len(targets.layers) == 16
    assert all(".conv" in target.first and target.first.startswith("stage") for target in targets.layers)
    assert targets.others["conv1"] == "in no residual block"
    assert targets.others["stage2.0.shortcut.conv"] == "leads to no ReLU"


def test_every_convolution_of_a_bottleneck_gets_a_branch():
    net = torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], 3)
    assert len(find_skip_targets(net, blocks_only=True).layers) == 12


def test_ghost_neurons_are_seen_as_relus():
    for model in (build("resnet20", input_shape=(1, 8, 8), num_classes=3, width=2), seeded(Functional)):
        layers = find_skip_targets(model).layers
        GhostNeurons(stop=3).apply(model)
        assert find_skip_targets(model).layers == layers


def test_a_layer_that_is_used_twice_gets_none():
    layer = nn.Linear(4, 4)
    net = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU())
    assert find_skip_targets(net).others == {"0": "used more than once"}


@pytest.mark.parametrize(
    ("model", "way", "reason"),
    [
        (torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 8, num_classes=2), "identity", "leads to no ReLU"),
        (plain_mlp(), "branch", r"need convolutions in residual blocks, got none .*in no residual block"),
        (nn.Sequential(nn.Tanh()), "identity", "need layers that lead to a ReLU, got none"),
    ],
    ids=["vit", "branches for an mlp", "no layers"],
)
def test_a_network_that_fits_no_skip_is_refused_with_the_reason(model, way, reason):
    kinds = kinds_of(model)
    with pytest.raises(ValueError, match=reason):
        GhostSkips(way=way, stop=3).apply(model)
    assert kinds_of(model) == kinds


# --- what they add ----------------------------------------------------------------------------------------------


def test_the_identity_adds_the_input_itself_where_it_fits():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    x = seeded(torch.randn, 5, 4)
    GhostSkips(strength=Constant(0.5), stop=3).apply(net)
    GhostSkips(strength=Constant(0.5), stop=3).at(net, 0)
    torch.testing.assert_close(net(x), (nn.functional.linear(x, net[0].weight, net[0].bias) + 0.5 * x).relu())


def test_the_identity_averages_where_it_does_not_fit():
    net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU())
    nn.init.zeros_(net[0].weight)
    trick = GhostSkips(stop=2)
    trick.apply(net)
    assert net(torch.tensor([[1.0, 3.0, 5.0, 9.0]])).tolist() == [[2.0, 7.0]]
    wider = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU())
    nn.init.zeros_(wider[0].weight)
    trick.apply(wider)
    assert wider(torch.tensor([[1.0, 3.0]])).tolist() == [[1.0, 1.0, 3.0, 3.0]]


def test_images_are_averaged_over_channels_rows_and_columns():
    net = nn.Sequential(nn.Conv2d(2, 1, 3, stride=2, padding=1, bias=False), nn.ReLU())
    nn.init.zeros_(net[0].weight)
    GhostSkips(stop=2).apply(net)
    x = seeded(torch.rand, 3, 2, 4, 4)
    torch.testing.assert_close(net(x), nn.functional.avg_pool2d(x.mean(1, keepdim=True), 2))


def test_a_branch_is_a_convolution_1_by_1_and_batch_norm_around_each_convolution():
    net = seeded(residual)
    block = copy.deepcopy(net.stage2[0])
    GhostSkips(way="branch", strength=Constant(1.0), stop=3).apply(net)
    ghosted, x = net.stage2[0], seeded(torch.randn, 3, 4, 8, 8)
    first, second = ghosted.bn1.ghost, ghosted.bn2.ghost
    assert first.conv.stride == (2, 2)
    assert torch.equal(first.conv.weight, torch.full_like(first.conv.weight, 1e-4))  # as in ToST's released code
    inner = (block.bn1(block.conv1(x)) + first.bn(first.conv(x))).relu()
    out = (block.bn2(block.conv2(inner)) + block.shortcut(x) + second.bn(second.conv(inner))).relu()
    torch.testing.assert_close(ghosted(x), out)


def test_a_branch_of_tiny_weights_is_not_small_because_a_norm_follows():
    """The spread of its output is sqrt(v / (v + 1e-5)), with v that of the tiny convolution."""
    net = nn.Sequential(seeded(residual).stage1[0])
    GhostSkips(way="branch", stop=3).apply(net)
    x = seeded(torch.randn, 64, 4, 8, 8) * 4
    branch = net[0].bn1.ghost
    spread = branch.conv(x)[:, 0].var(correction=0)
    torch.testing.assert_close(branch.bn(branch.conv(x))[:, 0].std(correction=0), (spread / (spread + 1e-5)).sqrt())
    assert torch.equal(branch.conv(x)[:, 0], branch.conv(x)[:, 1])  # all channels begin alike


def test_the_strength_falls_along_a_line_or_a_cosine_to_the_end():
    for strength, half in ((GhostSkips().strength, 0.5), (Cosine(1.0, 0.0), 0.5)):
        trick, net = GhostSkips(strength=strength, stop=4), plain_mlp()
        trick.apply(net)
        strengths = []
        for step in range(4):
            trick.at(net, step)
            strengths += {module.strength for module in net.modules() if isinstance(module, Skip)}
        assert strengths[0] == 1
        assert strengths[2] == pytest.approx(half)
        assert strengths == sorted(strengths, reverse=True)


@every_way
@pytest.mark.parametrize("storage", STORAGES)
def test_at_strength_0_and_after_the_removal_outputs_are_those_of_the_plain_network(way, storage):
    plain = seeded(residual)
    net = sparsify(plain, random_topology(shapes_of(plain), 0.3), storage, init="dense").eval()
    fuse_relus(net)
    x, kinds, keys = images(), kinds_of(net), list(net.state_dict())
    count, before = sum(p.numel() for p in net.parameters()), net(x)
    trick = GhostSkips(way=way, strength=Constant(0.0), stop=3)
    trick.apply(net)
    assert topology_of(net) == topology_of(sparsify(plain, random_topology(shapes_of(plain), 0.3), init="dense"))
    trick.at(net, 0)
    torch.testing.assert_close(net(x), before, rtol=1e-5, atol=1e-6)
    trick.at(net, 3)
    assert torch.equal(net(x), before)
    assert (kinds_of(net), list(net.state_dict()), sum(p.numel() for p in net.parameters())) == (kinds, keys, count)
    assert not ghosts_of(net)
    assert not any("forward" in vars(module) for module in net.modules())


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@every_way
def test_a_torchvision_resnet_gets_skips_and_is_itself_again(block, way):
    net = seeded(torchvision.models.ResNet, block, [1, 1, 1, 1], 3).eval()
    x = seeded(torch.randn, 2, 3, 32, 32)
    before, trick = net(x), GhostSkips(way=way, stop=3)
    trick.apply(net)
    assert not torch.equal(net(x), before)
    trick.at(net, 3)
    assert torch.equal(net(x), before)


# --- what is left -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", STORAGES)
def test_the_optimizer_forgets_branches_and_trains_on_as_if_they_had_never_been(storage):
    batches = [(x, y) for x, y in pictures_of(9)]
    net = nn.Sequential(residual(input_shape=(2, 5, 5)))
    net = sparsify(net, random_topology(shapes_of(net), 0.3), storage, init="dense")
    empty = copy.deepcopy(net)
    model, optimizer = train_with(net, [GhostSkips(way="branch", stop=5)], batches[:5])
    clean = torch.optim.SGD(empty.parameters(), lr=0.1, momentum=0.9)
    of_model, of_optimizer = states(model, optimizer)
    empty.load_state_dict(of_model)
    clean.load_state_dict(of_optimizer)
    train(model, [], batches[5:], optimizer=optimizer, first_step=5)
    train(empty, [], batches[5:], optimizer=clean, first_step=5)
    assert same(states(model, optimizer), states(empty, clean))


def test_branches_are_trained_while_they_live():
    model = begin(seeded(residual, input_shape=(2, 5, 5)), [GhostSkips(way="branch", stop=50)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train(model, [GhostSkips(way="branch", stop=50)], pictures_of(3), optimizer=optimizer)
    weights = [p for name, p in model.named_parameters() if "ghost.conv" in name]
    assert weights
    assert all((weight != INITIAL_WEIGHT).any() for weight in weights)


def test_a_projection_is_fixed_and_not_saved():
    first, second = (begin(plain_mlp(), [GhostSkips(way="projection", stop=3)]) for _ in range(2))
    assert list(first.state_dict()) == list(plain_mlp().state_dict())
    assert torch.equal(first[0].ghost.matrix, second[0].ghost.matrix)
    assert len(list(first.parameters())) == len(list(plain_mlp().parameters()))


@pytest.mark.parametrize(("inputs", "outputs"), [(400, 100), (100, 400)])
def test_a_projection_keeps_the_magnitude_of_its_input(inputs, outputs):
    """Each output is a sum over the inputs, so the variance of its weights is 1 / inputs, however many outputs."""
    net = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())
    GhostSkips(way="projection", stop=3).apply(net)
    x = seeded(torch.randn, 50, inputs)
    added = nn.functional.linear(x, net[0].ghost.matrix)
    assert float(added.std()) == pytest.approx(float(x.std()), rel=0.05)
    assert float(net[0].ghost.matrix.std()) == pytest.approx(inputs**-0.5, rel=0.02)


def test_skips_and_neurons_may_leave_at_different_steps():
    model = sparse(plain_cnn(), "csr").eval()
    fuse_relus(model)
    x = pictures_of(1)[0][0]
    before, kinds = model(x), kinds_of(model)
    tricks = [GhostNeurons(stop=2), GhostSkips(stop=4)]
    begin(model, tricks)
    set_step(model, tricks, 3)
    assert {type(ghost).__name__ for ghost in ghosts_of(model).values()} == {"SparseConv2d", "FeatureMajorBatchNorm2d"}
    set_step(model, tricks, 4)
    assert torch.equal(model(x), before)
    assert kinds_of(model) == kinds


def test_a_copy_has_skips_of_its_own():
    model = plain_mlp()
    x = batches_of(1)[0][0]
    before, trick = model(x), GhostSkips(stop=3)
    trick.apply(model)
    ghosted, clone = model(x), copy.deepcopy(model)
    trick.at(clone, 3)
    assert torch.equal(clone(x), before)
    assert torch.equal(model(x), ghosted)


def test_skips_are_put_in_once_and_before_they_are_set():
    model = plain_mlp()
    with pytest.raises(ValueError, match="must be put in before step 0, got a model without"):
        GhostSkips(stop=3).at(model, 0)
    GhostSkips(stop=3).apply(model)
    with pytest.raises(ValueError, match="once, got one that has some"):
        GhostSkips(stop=3).apply(model)
    with pytest.raises((ValueError, TypeError), match="way"):
        GhostSkips(way="around")


@pytest.mark.parametrize("storage", STORAGES)
@every_way
def test_the_plain_copy_of_a_network_has_its_skips(way, storage):
    net = seeded(residual)
    model = sparsify(net, random_topology(shapes_of(net), 0.3), storage, init="dense").eval()
    trick = GhostSkips(way=way, stop=3)
    trick.apply(model)
    clone = densify(model)
    torch.testing.assert_close(clone(images()), model(images()), rtol=1e-4, atol=1e-5)
    trick.at(clone, 3)
    assert not ghosts_of(clone)
    assert ghosts_of(model)


# --- what they cost ---------------------------------------------------------------------------------------------


def test_branches_of_resnet_18_have_the_golden_number_of_weights():
    with torch.device("meta"):
        net = build("resnet18", input_shape=(3, 32, 32), num_classes=10)
        convolutions = sum(p.numel() for p in net.parameters() if p.dim() == 4)
    GhostSkips(way="branch", stop=3).apply(net)
    added = sum(p.numel() for name, p in net.named_parameters() if "ghost.conv" in name)
    assert (added, convolutions) == (1_220_608, 11_159_232)
    times = [added / (convolutions * density) for density in (0.10, 0.05, 0.02)]
    assert times == pytest.approx([1.09, 2.19, 5.47], abs=0.005)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_cost_of_branches_is_set_against_the_sparse_budget(storage):
    net = residual()
    net = sparsify(net, random_topology(shapes_of(net), 0.1), storage, init="dense")
    assert ghost_cost(net, images()).weights == 0
    before = float(forward_flops(net, images())["sparse"].sum())
    GhostSkips(way="branch", stop=3).apply(net)
    cost = ghost_cost(net, images())
    added = [p for name, p in net.named_parameters() if "ghost" in name]
    assert cost.weights == sum(p.numel() for p in added if p.dim() == 4)
    assert cost.parameters == sum(p.numel() for p in added)
    assert cost.budget == topology_of(net).count
    assert cost.share == cost.weights / cost.budget
    assert cost.network_flops == before
    # the first block's first branch: 2 operations a weight at each of 8 x 8 pixels
    assert cost.flops > 2 * 4 * 4 * 64
    assert f"{cost.share:.2f} times the budget" in str(cost)


def test_skips_without_parameters_cost_no_weights():
    net = begin(plain_mlp(), [GhostSkips(stop=3)])
    cost = ghost_cost(net, batches_of(1)[0][0])
    assert (cost.weights, cost.parameters, cost.flops) == (0, 0, 0)
    assert cost.budget == sum(p.numel() for p in plain_mlp().parameters() if p.dim() == 2)
