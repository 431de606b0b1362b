"""Effective connections, activity and operations of models; and that looking at a model never changes it."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsekit import analysis
from sparsekit.analysis.behaviour.activity import activity, small_filters
from sparsekit.analysis.costs.forward_flops import NotCountedWarning, output_positions
from sparsekit.layers import matrices_of, shapes_of, sparsify, topology_of
from sparsekit.rules import GSE, Candidates, Draw, Random, RigL, Static, make_rule, settings_of
from sparsekit.rules.cycles import Cycles
from sparsekit.schedules import Cubic
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import random_topology
from sparsekit.utils import registry
from sparsekit.utils.registry import names


class Residual(nn.Module):
    """Two convolutions around which the signal may pass, with everything in it that bends values."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.second = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        torch.rand(1)  # some models draw numbers in evaluation too
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = F.max_pool2d(x, 2)
        x = x + torch.sigmoid(self.second(F.gelu(self.first(x))))
        return F.log_softmax(self.head(self.drop(x).mean((2, 3))), dim=1)


class Attention(nn.Module):
    def __init__(self, *, has_token: bool = True):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6)) if has_token else None
        self.query, self.key, self.value, self.out = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        x = x if self.token is None else torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = F.layer_norm(x, (6,))
        mixed = F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.out(mixed).mean(1)


class Between(nn.Module):
    """Two layers with something written by hand between them."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(3, 4), nn.Linear(4, 2), function
        self.gain = nn.Parameter(torch.ones(4))
        self.square = nn.Parameter(torch.ones(4, 4))
        self.register_buffer("fixed", torch.tensor([1.0, 0.0, -1.0, 1.0]))

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


def layer_norm(net, x):
    return net.gain * (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)


def in_place(net, x):
    x = x.clone()
    x += net.gain
    x *= -2
    return x.clamp_(max=0)


def in_a_buffer(net, x):
    kept = torch.ones_like(x)
    kept[:, :2] = x[:, :2]
    kept[:, 2:] = -x[:, 2:]
    return kept


def without_gradients(net, x):
    with torch.no_grad():
        return 2 * x


def own_gradient(net, x):
    return Straight.apply(x)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, *grads):
        return -grads[0]


OF_SINGLE_VALUES = {
    "one minus a sigmoid": lambda net, x: 1 - torch.sigmoid(x),
    "an upper bound": lambda net, x: x.clamp(max=0.5),
    "both bounds": lambda net, x: torch.clamp(x, 0, 1),
    "a falling exponential": lambda net, x: torch.exp(-x),
    "a negative factor": lambda net, x: -2 * x,
    "a reciprocal": lambda net, x: 1 / x,
    "what is negative": lambda net, x: x * (x < 0),
    "a leaky rectifier": lambda net, x: torch.where(x > 0, x, 0.1 * x),
    "a swish": lambda net, x: x * torch.sigmoid(x),
    "one minus the gain": lambda net, x: x * (1 - net.gain),
    "a straight-through sign": lambda net, x: x + (torch.sign(x) - x).detach(),
    "a maximum with a constant": lambda net, x: torch.max(x, net.fixed),
    "another precision": lambda net, x: x.half().float(),
    "operations in place": in_place,
    "writing into a buffer": in_a_buffer,
}
OF_SEVERAL_VALUES = {
    "a layer norm": layer_norm,
    "a norm of the spread": lambda net, x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
    "a product with a parameter": lambda net, x: F.linear(x, net.square - net.square.mean(), net.gain),
    "the largest": lambda net, x: x - x.max(1, keepdim=True).values,
    "attention": lambda net, x: (torch.softmax(x[:, :, None] @ x[:, None] - 1, -1) @ x[..., None])[..., 0],
}
REFUSED = {
    "topk": lambda net, x: x.topk(4).values,
    "__bool__": lambda net, x: x if (x > 0).any() else -x,
    "item": lambda net, x: x * x.sum().item(),
    "numpy": lambda net, x: torch.from_numpy(x.detach().numpy()),
    "__getitem__": lambda net, x: x[x > 0],
    "fft": lambda net, x: torch.fft.fft(x).real,
    "mul without gradients": without_gradients,
    "sign without gradients": own_gradient,
}


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def thinned(model: nn.Module, density: float, *, storage: str = "masked", seed: int = 0) -> nn.Module:
    topology = random_topology(shapes_of(model), density, allocation="uniform", seed=seed)
    return sparsify(model, topology, storage=storage, init="dense")


def with_connections(model: nn.Module, **missing: list[int]) -> nn.Module:
    """Sparsify all layers but those inside attention, leaving out only the given positions."""
    called = {name for name, matrix in matrices_of(model).items() if type(matrix.owner) in (nn.Linear, nn.Conv2d)}
    shapes = {name: shape for name, shape in shapes_of(model).items() if name in called}
    full = {name: LayerTopology.full(shape) for name, shape in shapes.items()}
    cut = {
        name: layer - LayerTopology(layer.shape, torch.tensor(missing.get(name, []), dtype=torch.int64))
        for name, layer in full.items()
    }
    return sparsify(model, Topology(cut), init="dense")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.filterwarnings("ignore::sparsekit.layers.LeftDenseWarning")
class TestEffectiveInModels:
    @pytest.mark.parametrize("storage", ["masked", "csr"])
    @pytest.mark.parametrize("seed", range(5))
    def test_a_chain_gives_the_same_answer_asked_by_topology_or_by_model(self, storage, seed):
        model = thinned(mlp(12, 20, 20, 5), 0.1, storage=storage, seed=seed)
        expected = analysis.effective_topology(topology_of(model))
        assert expected.count < topology_of(model).count
        assert analysis.effective_topology_of_model(model, torch.zeros(3, 12)) == expected

    @pytest.mark.parametrize("storage", ["masked", "csr"])
    def test_a_chain_of_convolutions_gives_the_same_answer(self, storage):
        net = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 6, 3, padding=1, groups=3),
            nn.Tanh(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 4),
        )
        model = thinned(net, 0.12, storage=storage)
        expected = analysis.effective_topology(topology_of(model))
        assert expected.count < topology_of(model).count
        assert analysis.effective_topology_of_model(model, torch.zeros(1, 2, 8, 8)) == expected

    @pytest.mark.parametrize("storage", ["masked", "csr"])
    def test_removing_ineffective_connections_leaves_bias_free_outputs_unchanged(self, storage):
        plain, x = mlp(12, 30, 30, 5, bias=False).double(), torch.randn(7, 12).double()
        topology = random_topology(shapes_of(plain), 0.08, allocation="uniform", seed=1)
        effective = analysis.effective_topology_of_model(sparsify(plain, topology, storage=storage, init="dense"), x)
        assert 0 < effective.count < topology.count
        before, after = (sparsify(plain, kept, storage=storage, init="dense")(x) for kept in (topology, effective))
        assert torch.equal(before, after)

    def test_what_a_residual_branch_carries_is_effective_though_the_branch_in_between_is_cut(self):
        model = with_connections(Residual(), second=list(range(16)))
        effective = analysis.effective_topology_of_model(model, torch.zeros(2, 2, 8, 8))
        assert effective["stem"].density == 1
        assert effective["first"].count == 0
        assert effective["head"].density == 1

    def test_in_a_full_network_everything_is_effective_even_at_the_smallest_images(self):
        # Of the four equal places below a pool only one would get a gradient from a maximum.
        effective = analysis.effective_topology_of_model(with_connections(Residual()), torch.zeros(1, 2, 2, 2))
        assert effective["stem"].density == 1
        assert effective["second"].density == 1

    def test_kernel_positions_that_only_ever_see_padding_are_ineffective(self):
        effective = analysis.effective_topology_of_model(with_connections(Residual()), torch.zeros(1, 2, 2, 2))
        assert effective["first"].indices.tolist() == list(range(4, 72, 9))  # one pixel: the centre of each kernel

    def test_nothing_is_effective_behind_values_that_are_cut_not_even_for_a_token(self):
        dead_value = with_connections(Attention(), value=list(range(36)))
        assert analysis.effective_topology_of_model(dead_value, torch.zeros(1, 4, 6)).count == 0

    def test_queries_and_keys_matter_though_equal_tokens_get_equal_attention(self):
        # A softmax over equal numbers has no gradient; the paths are there all the same.
        one_feature = with_connections(Attention(has_token=False), key=list(range(6)))
        effective = analysis.effective_topology_of_model(one_feature, torch.zeros(1, 4, 6))
        assert effective["query"].indices.tolist() == list(range(6, 36))
        assert effective["value"].density == 1

    def test_a_deep_network_neither_overflows_nor_vanishes(self):
        model = thinned(mlp(*[100] * 190), 0.5)  # about 50 ** 189 paths, more than float64 counts
        assert analysis.effective_topology_of_model(model, torch.zeros(1, 100)) == topology_of(model)

    def test_a_learnt_gain_keeps_its_path_open(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.beta = nn.Linear(3, 3), nn.Parameter(torch.zeros(1))

            def forward(self, x):
                x = self.linear(x)
                return x * torch.sigmoid(self.beta * x)

        assert analysis.effective_topology_of_model(with_connections(Gated()), torch.zeros(1, 3)).density == 1

    @pytest.mark.parametrize("name", OF_SINGLE_VALUES | OF_SEVERAL_VALUES)
    def test_a_full_network_is_effective_whatever_is_written_between_its_layers(self, name):
        function = (OF_SINGLE_VALUES | OF_SEVERAL_VALUES)[name]
        assert analysis.effective_topology_of_model(with_connections(Between(function)), torch.zeros(2, 3)).density == 1

    @pytest.mark.parametrize("name", OF_SINGLE_VALUES)
    def test_a_function_of_single_values_neither_opens_nor_cuts_a_path(self, name):
        model = with_connections(Between(OF_SINGLE_VALUES[name]), first=[3, 4, 5], last=[0, 4])
        effective = analysis.effective_topology_of_model(model, torch.zeros(1, 3))
        assert effective["first"].indices.tolist() == [6, 7, 8, 9, 10, 11]  # unit 0 is not read, 1 hears nothing
        assert effective["last"].indices.tolist() == [2, 3, 6, 7]

    def test_a_unit_that_hears_nothing_gets_paths_by_what_is_taken_from_all_units(self):
        model = with_connections(Between(layer_norm), first=[3, 4, 5])
        effective = analysis.effective_topology_of_model(model, torch.zeros(1, 3))
        assert effective["last"].density == 1
        assert effective["first"].indices.tolist() == [0, 1, 2, 6, 7, 8, 9, 10, 11]

    def test_a_constant_factor_of_zero_cuts_and_a_constant_beside_the_signal_brings_nothing(self):
        masked = with_connections(Between(lambda net, x: x * net.fixed))
        effective = analysis.effective_topology_of_model(masked, torch.zeros(1, 3))
        assert effective["last"].indices.tolist() == [0, 2, 3, 4, 6, 7]
        beside = with_connections(Between(lambda net, x: torch.cat([x[:, :2], net.gain[None, :2]], 1)))
        assert analysis.effective_topology_of_model(beside, torch.zeros(1, 3))["last"].indices.tolist() == [0, 1, 4, 5]

    def test_a_gate_that_hears_nothing_leaves_its_channel_open(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.signal, self.gate, self.last = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(2, 1)

            def forward(self, x):
                return self.last(self.signal(x) * torch.sigmoid(self.gate(x)))

        effective = analysis.effective_topology_of_model(with_connections(Gated(), gate=[0, 1, 2]), torch.zeros(1, 3))
        assert effective["signal"].density == 1  # its gate is a constant 0.5
        assert effective["gate"].indices.tolist() == [3, 4, 5]

    def test_a_deep_transformer_of_torch_is_effective(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 12, enable_nested_tensor=False))
        effective = analysis.effective_topology_of_model(with_connections(model), torch.zeros(1, 5, 3))
        assert effective.density == 1

    def test_queries_from_elsewhere_matter_in_the_attention_of_torch(self):
        class Cross(nn.Module):
            def __init__(self):
                super().__init__()
                self.ask, self.tell = nn.Linear(3, 4), nn.Linear(3, 4)
                self.attention = nn.MultiheadAttention(4, 2)

            def forward(self, x):
                told = self.tell(x)
                return self.attention(self.ask(x), told, told)[0]

        assert analysis.effective_topology_of_model(with_connections(Cross()), torch.zeros(5, 1, 3)).density == 1
        nothing_told = with_connections(Cross(), tell=list(range(12)))
        assert analysis.effective_topology_of_model(nothing_told, torch.zeros(5, 1, 3)).count == 0

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_not_known_to_let_paths_through_is_refused_by_name(self, name):
        model = with_connections(Between(REFUSED[name]))
        with pytest.raises(ValueError, match=f"known to let paths through, got .*{name}"):
            analysis.effective_topology_of_model(model, torch.zeros(1, 3))
        with pytest.raises(ValueError, match=f"known to let paths through, got .*{name}"):
            analysis.log10_num_paths_of_model(model, torch.zeros(1, 3))

    def test_nothing_is_effective_behind_a_constant(self):
        model = with_connections(Between(lambda net, x: net.gain[None]))
        assert analysis.effective_topology_of_model(model, torch.zeros(1, 3)).count == 0

    def test_an_output_that_is_a_constant_is_refused(self):
        class Constant(nn.Linear):
            def forward(self, x):
                return self.weight

        model = nn.Sequential(nn.Linear(3, 3), Constant(3, 3))
        with pytest.raises(ValueError, match="depend on its input, got none"):
            analysis.effective_topology_of_model(with_connections(model), torch.zeros(1, 3))

    def test_a_plain_model_is_refused(self):
        with pytest.raises(ValueError, match="must have a sparse layer"):
            analysis.effective_topology_of_model(mlp(2, 2), torch.zeros(1, 2))

    @pytest.mark.parametrize("storage", ["masked", "csr"])
    def test_paths_of_a_model_are_those_of_its_topology(self, storage):
        model = thinned(mlp(12, 20, 20, 5), 0.3, storage=storage)
        found = analysis.log10_num_paths_of_model(model, torch.zeros(4, 12))
        assert found == pytest.approx(analysis.log10_num_paths(topology_of(model)))

    def test_a_model_whose_paths_are_cut_has_none(self):
        model = with_connections(mlp(2, 2, 1), **{"2": [0, 1]})
        assert analysis.log10_num_paths_of_model(model, torch.zeros(1, 2)) == -math.inf

    def test_more_paths_than_a_float_holds_are_refused(self):
        with pytest.raises(ValueError, match="less than 1e308"):
            analysis.log10_num_paths_of_model(mlp(*[100] * 160), torch.zeros(1, 100))


class TestActivity:
    def test_silent_units_and_near_zeros_are_counted_over_all_batches(self):
        net = mlp(1, 3, 1, bias=False)
        net[0].weight.data = torch.tensor([[1.0], [-1.0], [0.005]])
        one = activity(net, [torch.ones(2, 1)]).loc["0"]
        both = activity(net, [torch.ones(2, 1), -torch.ones(2, 1)]).loc["0"]
        assert one.tolist() == [3, 1, pytest.approx(2 / 3)]
        assert both.tolist() == [3, 0, pytest.approx(4 / 6)]

    def test_functions_are_seen_as_well_as_modules_and_named_after_the_layer_before(self):
        table = activity(Residual(), [(torch.randn(5, 2, 8, 8), torch.zeros(5))])
        assert table.index.tolist() == ["stem", "first", "second"]
        assert table["units"].tolist() == [4, 4, 4]

    def test_two_activations_after_one_layer_keep_apart(self):
        net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Tanh())
        assert activity(net, [torch.ones(2, 2)] * 2).index.tolist() == ["0", "0 (2)"]

    def test_units_of_sequences_are_their_features(self):
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        assert activity(net, [torch.randn(2, 5, 4)]).loc["0", "units"] == 6

    def test_an_empty_evaluation_set_is_refused(self):
        with pytest.raises(ValueError, match="got no batch"):
            activity(mlp(1, 1), [])

    @pytest.mark.parametrize("storage", ["masked", "csr"])
    def test_filters_with_nine_tiny_weights_in_ten_are_small(self, storage):
        net = nn.Sequential(nn.Conv2d(10, 3, 1))
        weight = torch.zeros(3, 10, 1, 1)
        weight[0, :2] = 1.0  # eight in ten are tiny
        weight[1, 0] = 1.0
        weight[2] = 9e-6
        net[0].weight.data = weight
        full = sparsify(
            net, Topology({"0": LayerTopology((3, 10, 1, 1), torch.tensor([0, 1, 10, 20]))}), storage, init="dense"
        )
        for model in (net, full):
            assert small_filters(model).loc["0"].tolist() == [3, 2]
            assert small_filters(model, share=0.95).loc["0"].tolist() == [3, 1]

    def test_a_share_outside_its_range_is_refused(self):
        with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got 90"):
            small_filters(mlp(1, 1), share=90)


class TestForwardFlops:
    def test_operations_of_strided_and_grouped_convolutions_follow_from_shapes(self):
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.Conv2d(8, 12, 5, groups=4),
            nn.Flatten(),
            nn.Linear(12 * 16, 10),
        )
        table = analysis.forward_flops(net, torch.zeros(2, 3, 16, 16))
        assert table["dense"].tolist() == [2 * 27 * 8 * 64, 2 * 25 * 2 * 12 * 16, 2 * 192 * 10]
        assert table["positions"].tolist() == [64, 16, 1]

    @pytest.mark.slow  # torch loads its decompositions for this
    def test_they_agree_with_what_torch_counts_while_it_runs(self):
        model, x = Residual().eval(), torch.randn(1, 2, 12, 12)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(x)
        assert analysis.forward_flops(model, x)["dense"].sum() == counter.get_total_flops()

    @pytest.mark.parametrize("storage", ["masked", "csr"])
    def test_a_sparse_layer_costs_its_density(self, storage):
        model = thinned(Residual(), 0.25, storage=storage)
        table = analysis.forward_flops(model, torch.zeros(1, 2, 8, 8))
        topology = topology_of(model)
        for name, layer in topology.items():
            assert table.loc[name, "sparse"] == 2 * layer.count * table.loc[name, "positions"]
            assert table.loc[name, "density"] == layer.density

    def test_another_topology_can_be_counted_on_the_same_model(self):
        net = mlp(10, 10, 2)
        other = random_topology(shapes_of(net), 0.1)
        table = analysis.forward_flops(net, torch.zeros(1, 10), other)
        assert table["sparse"].sum() == 2 * other.count
        assert table["dense"].sum() == 2 * other.size

    def test_weights_that_attention_multiplies_itself_are_named(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
        with pytest.warns(NotCountedWarning, match=r"1\.self_attn\.in_proj_weight, 1\.self_attn\.out_proj\.weight\. "):
            table = analysis.forward_flops(model, torch.zeros(2, 5, 4))
        assert table["positions"].to_dict() == {"0": 5, "1.self_attn.out_proj": 0, "1.linear1": 5, "1.linear2": 5}

    @pytest.mark.parametrize(
        ("module", "missed"),
        [
            (nn.Bilinear(6, 6, 2), "last.weight"),
            (nn.ConvTranspose1d(6, 2, 1), "last.weight"),
            (nn.GRU(6, 2), "last.weight_ih_l0, last.weight_hh_l0"),
            (nn.MultiheadAttention(6, 2, kdim=6, vdim=6), "last.in_proj_weight, last.out_proj.weight"),
            (nn.MultiheadAttention(6, 2, kdim=6, vdim=5), "last.q_proj_weight, last.k_proj_weight, last.v_proj_weight"),
        ],
    )
    def test_matrices_of_other_modules_are_named(self, module, missed):
        class Wrapped(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(4, 6), module

            def forward(self, x):
                x = self.first(x)
                if isinstance(module, nn.ConvTranspose1d):
                    return self.last(x.transpose(-1, -2))
                inputs = {nn.Bilinear: [x, x], nn.MultiheadAttention: [x, x, x[..., : getattr(module, "vdim", 6)]]}
                return self.last(*inputs.get(type(module), [x]))

        with pytest.warns(NotCountedWarning, match=f"multiplies them: {missed}"):
            assert output_positions(Wrapped(), torch.zeros(3, 5, 4))["first"] == 5

    def test_a_weight_that_is_multiplied_by_hand_is_named_and_one_that_is_added_is_not(self):
        class ByHand(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.place = nn.Linear(4, 6), nn.Parameter(torch.ones(5, 6))
                self.matrix, self.tied = nn.Parameter(torch.ones(3, 6)), self.first.weight

            def forward(self, x):
                return (self.first(x) + self.place) @ self.matrix.T

        with pytest.warns(NotCountedWarning, match=r"multiplies them: matrix\."):
            analysis.forward_flops(ByHand(), torch.zeros(1, 5, 4))

    def test_a_layer_that_the_pass_does_not_reach_is_none_that_was_missed(self):
        class Spare(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.spare = nn.Linear(4, 6), nn.Linear(3, 3)

            def forward(self, x):
                return self.used(x)

        assert output_positions(Spare(), torch.zeros(1, 4)) == {"used": 1, "spare": 0}

    def test_a_layer_counts_once_for_every_token(self):
        assert analysis.forward_flops(mlp(6, 4), torch.zeros(3, 5, 6)).loc["0", "dense"] == 2 * 24 * 5

    def test_a_topology_of_another_model_is_refused(self):
        with pytest.raises(ValueError, match="among 0, 2, got fc"):
            analysis.forward_flops(mlp(2, 2, 2), torch.zeros(1, 2), Topology({"fc": LayerTopology.full((2, 2))}))


class TestTrainingFlops:
    @pytest.mark.parametrize(
        ("sparsity", "rigl", "gse", "snfs"),
        [
            (0.8, 0.20264, 0.20066, 0.4667),
            (0.9, 0.10297, 0.10033, 0.4),
            (0.95, 0.05314, 0.05017, 0.3667),
            (0.98, 0.02323, 0.02007, 0.3467),
            (0.99, 0.01327, 0.01003, 0.34),
        ],
    )
    def test_operations_relative_to_dense_training_have_their_golden_values(self, sparsity, rigl, gse, snfs):
        table = analysis.training_flops_table(analysis.Pass(dense=7.0, sparse=7.0 * (1 - sparsity)))
        found = table["relative_to_dense"]
        assert found["rigl"] == pytest.approx(rigl, abs=5e-6)
        assert found["gse"] == pytest.approx(gse, abs=5e-6)
        assert found["snfs"] == pytest.approx(snfs, abs=5e-5)
        assert found["static"] == found["set"] == pytest.approx(1 - sparsity)

    def test_rigl_pays_a_third_more_than_static_at_99_percent_and_gse_a_third_of_a_percent(self):
        table = analysis.training_flops_table(analysis.Pass(dense=1.0, sparse=0.01))["relative_to_static"]
        assert table["rigl"] - 1 == pytest.approx(0.3267, abs=1e-4)
        assert table["gse"] - 1 == pytest.approx(1 / 303, abs=1e-6)

    def test_gse_pays_for_what_was_sampled_and_not_for_repeated_draws(self):
        gamma = analysis.sampled_ratio_expected(0.3)
        cost = analysis.training_flops("gse", analysis.Pass(dense=1.0, sparse=0.3, gamma=gamma))
        assert cost / 0.9 - 1 == pytest.approx(0.605 / 303, abs=1e-5)

    def test_gradual_pruning_saves_three_quarters_of_its_final_sparsity(self):
        density = Cubic(1.0, 0.05, 10_000)
        mean = sum(density(step) for step in range(10_000)) / 10_000
        cost = analysis.training_flops("gmp", analysis.Pass(dense=1.0, sparse=mean)) / 3
        assert cost == pytest.approx(1 - 0.75 * 0.95, abs=1e-3)

    def test_sparse_methods_at_full_density_cost_what_dense_training_costs(self):
        cost = analysis.Pass(dense=1.0, sparse=1.0)
        for method in set(names("training-flops")) - {"lottery-tickets", "gse", "gse-released"}:
            assert analysis.training_flops(method, cost) == pytest.approx(3)

    def test_every_rule_of_the_package_says_what_it_costs_by_name_and_by_itself(self):
        cost = analysis.Pass(dense=1.0, sparse=0.1, every=10)
        for name in names("rule"):
            every = {"every": 10} if "every" in settings_of(name) else {}
            rule = make_rule(name, total_steps=100, **every)
            assert rule.training_flops(cost) == analysis.training_flops(rule, cost)
            assert rule.training_flops(cost) == analysis.training_flops(name, cost)
            assert 0.3 <= rule.training_flops(cost) <= 3

    @pytest.mark.parametrize(
        ("rule", "wanted"),
        [
            (RigL(stop=9, every=4), (0.3 * 4 + 1.2) / 5),
            (RigL(stop=9, every=4, probe_batches=3), (0.3 * 4 + 0.3 + 3 * 1.2) / 5),
            (RigL(stop=9, every=4, grow=Random()), 0.3),
            (GSE(stop=9, every=4), (0.3 * 4 + 0.4) / 5),
            (GSE(stop=9, every=4, subset=2.0), (0.3 * 4 + 0.5) / 5),
            (GSE(stop=9, every=4, subset=math.inf), (0.3 * 4 + 1.2) / 5),
            (GSE(stop=9, every=4, subset=50.0), (0.3 * 4 + 1.2) / 5),
            (RigL(stop=9, every=4, candidates=Draw()), (0.3 * 4 + 0.4) / 5),
            (Cycles(base=RigL(stop=9, every=4), after=10), (0.3 * 4 + 1.2) / 5),
        ],
    )
    def test_a_drop_and_grow_rule_pays_for_the_gradients_that_its_growth_looks_at(self, rule, wanted):
        assert rule.training_flops(analysis.Pass(dense=1.0, sparse=0.1)) == pytest.approx(wanted)

    def test_what_nobody_says_is_no_number(self):
        class Unsaid(Candidates):
            def __call__(self, view, taken, count, generator):
                yield from ()

        assert math.isnan(RigL(stop=9, candidates=Unsaid()).training_flops(analysis.Pass(dense=1.0, sparse=0.1)))

    def test_a_rule_of_ones_own_is_found_by_its_name(self, monkeypatch):
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Mine(Static):
            def training_flops(self, cost):
                return 7 * cost.sparse

        monkeypatch.setitem(registry._registered["rule"], "mine", Mine)
        assert analysis.training_flops("mine", analysis.Pass(dense=1.0, sparse=0.1)) == pytest.approx(0.7)
        assert analysis.training_flops_table(analysis.Pass(dense=1.0, sparse=0.1), ["mine"]).loc["mine", "per_step"] < 1

    def test_lottery_tickets_pay_for_every_round(self):
        cost = analysis.Pass(dense=1.0, sparse=0.1, rounds=3, kept=0.5)
        assert analysis.training_flops("lottery-tickets", cost) == 3 * (1 + 0.5 + 0.25)

    def test_top_kast_pays_for_the_weights_it_updates_without_using_them(self):
        cost = analysis.Pass(dense=1.0, sparse=0.1, backward=0.3)
        assert analysis.training_flops("top-kast", cost) == pytest.approx(0.5)

    def test_an_unknown_method_is_refused_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"dense.*got 'magic'"):
            analysis.training_flops("magic", analysis.Pass(dense=1.0, sparse=0.1))

    def test_scores_before_training_cost_their_passes(self):
        assert analysis.one_off_flops("grasp", 2.0, samples=10) == 160
        assert analysis.one_off_flops("magnitude", 2.0, samples=10) == 0
        assert analysis.one_off_flops("force", 2.0, samples=10) == 60 * 3 * 10 * 2
        assert analysis.one_off_flops("snip", 2.0, samples=10, rounds=5) == 5 * 3 * 10 * 2
        assert analysis.one_off_flops("synflow", 2.0, samples=10, rounds=5) == 5 * 3 * 2
        with pytest.raises(ValueError, match=r"snip.*got 'oracle'"):
            analysis.one_off_flops("oracle", 1.0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"sparse": 2.0}, r"\[0, dense=1.0\]"), ({"sparse": 0.1, "every": 0}, "1 step")],
    )
    def test_impossible_costs_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            analysis.Pass(dense=1.0, **settings)


LOOKS = {
    "activity": lambda model, x: activity(model, [x]),
    "small_filters": lambda model, x: small_filters(model),
    "forward_flops": analysis.forward_flops,
    "effective_topology_of_model": analysis.effective_topology_of_model,
    "log10_num_paths_of_model": analysis.log10_num_paths_of_model,
}


@pytest.mark.parametrize("storage", ["masked", "csr"])
@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_a_model_changes_nothing_of_it(look, storage):
    """Parameters, buffers, gradients, modes, hooks and the random stream stay bit for bit as they were."""
    model, x = thinned(Residual(), 0.5, storage=storage).train(), torch.randn(4, 2, 8, 8)
    model.head.eval()
    model(x).sum().backward()
    state = copy.deepcopy(model.state_dict())
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    wants = [parameter.requires_grad for parameter in model.parameters()]
    stream, picture = torch.get_rng_state(), x.clone()

    LOOKS[look](model, x)

    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wants
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(x, picture)
