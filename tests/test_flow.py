"""The pass of ones through models of every make: functions as modules, attention, embeddings, masks, several inputs."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import STORAGES, capture, made, sparse
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.analysis.dynamics.score_collapse import conservation_table
from sparsekit.rewiring.flow import all_ones_flow, ones_for
from sparsekit.rules import GSE
from sparsekit.rules import SynFlow as Guide
from sparsekit.scores import SynFlow, prune, score_whole

pytestmark = pytest.mark.filterwarnings("ignore:left dense:sparsekit.layers.LeftDenseWarning")

LABELS = torch.zeros(2, dtype=torch.int64)


def scores_of(model: nn.Module, inputs) -> dict[str, Tensor]:
    return score_whole(model, SynFlow(), batches=[(inputs, LABELS)])


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name in first:
        assert first[name].any()
        torch.testing.assert_close(first[name], second[name], rtol=1e-10, atol=0)


# --- what bends is left out, however it is written --------------------------------------------------------------------


class Between(nn.Module):
    """Two layers with something between them: a module, or the same as a function."""

    def __init__(self, between):
        super().__init__()
        self.first, self.between, self.last = nn.Linear(6, 8), between, nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Swish(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)


class OldGELU(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class OwnRMSNorm(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class OwnReLU(nn.Module):
    def forward(self, x):
        return F.relu(x, inplace=True)


BENDING = {
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "method tanh": Tensor.tanh,
    "sigmoid": torch.sigmoid,
    "in place": torch.relu_,
    "silu": F.silu,
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "log softmax": lambda x: F.log_softmax(x, -1),
    "layer norm": lambda x: F.layer_norm(x, (8,)),
    "group norm": lambda x: F.group_norm(x, 2),
    "rms norm": lambda x: F.rms_norm(x, (8,)),
    "batch norm": lambda x: F.batch_norm(x, torch.full((8,), 3.0), torch.full((8,), 4.0)),
    "length of one": lambda x: F.normalize(x, dim=-1),
    "to single precision": lambda x: x.float().to(torch.float32).relu().type(torch.float32),
    "to half precision": lambda x: x.half(),
    "module": nn.Sequential(nn.LayerNorm(8), nn.Hardtanh(), nn.RMSNorm(8)),
    "own activation": QuickGELU(),
    "own activation with a weight": Swish(),
    "own activation of old": OldGELU(),
    "own normalisation": OwnRMSNorm(),
    "own, in place": OwnReLU(),
}


@pytest.mark.parametrize("between", BENDING.values(), ids=BENDING)
def test_what_bends_counts_as_the_identity_whether_it_is_a_module_or_a_function(between):
    plain, other = made(lambda: Between(nn.Identity())), made(lambda: Between(between))
    assert_same(scores_of(plain, torch.zeros(2, 6)), scores_of(other, torch.zeros(2, 6)))
    for storage in STORAGES:
        flows = [all_ones_flow(sparse(one, storage), (torch.ones(2, 6),)) for one in (plain, other)]
        assert list(flows[0]) == list(flows[1]) == ["last", "first"]
        for name, sums in flows[0].items():
            for one, again in zip(sums, flows[1][name], strict=True):
                torch.testing.assert_close(one, again, rtol=1e-10, atol=0)


class Halving(nn.Module):
    def forward(self, x):
        return x / 2


class Nothing(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def test_what_is_straight_is_not_taken_for_something_that_bends():
    plain, half = (scores_of(made(lambda m=m: Between(m)), torch.zeros(2, 6)) for m in (nn.Identity(), Halving()))
    assert_same({name: score / 2 for name, score in plain.items()}, half)
    with pytest.raises(ValueError, match="a score other than 0"):
        scores_of(made(lambda: Between(Nothing())), torch.zeros(2, 6))


def test_trying_out_a_users_module_draws_no_random_numbers_of_ours():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    state = torch.get_rng_state()
    scores_of(made(lambda: Between(Noise())), torch.zeros(2, 6))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layer", [nn.LSTM(8, 8), nn.GRU(8, 8), nn.RNN(8, 8), nn.LSTMCell(8, 8)])
def test_a_recurrent_model_is_refused_by_name(layer):
    def between(x):
        return layer(x.flatten(0, -2) if isinstance(layer, nn.LSTMCell) else x)[0]

    model = Between(between)
    model.layer = layer
    with pytest.raises(ValueError, match=r"straight without activations, got (lstm|gru|rnn_tanh)"):
        scores_of(model.double(), torch.zeros(2, 4, 6))


# --- attention --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """What `nn.TransformerEncoderLayer` does, each product by hand; a copy of its weights."""

    def __init__(self, layer: nn.TransformerEncoderLayer):
        super().__init__()
        width = layer.linear1.in_features
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        for part, weight in zip(
            (self.query, self.key, self.value), layer.self_attn.in_proj_weight.chunk(3), strict=True
        ):
            part.weight.data = weight.detach().clone()
        self.output.weight.data = layer.self_attn.out_proj.weight.detach().clone()
        self.linear1, self.linear2, self.softmax = layer.linear1, layer.linear2, nn.Softmax(-1)

    def forward(self, x, is_seen=None):
        query, key, value = (
            part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        compared = query @ key.transpose(-2, -1)
        if is_seen is not None:
            compared = compared.masked_fill(~is_seen, -torch.inf)
        x = x + self.output((self.softmax(compared) @ value).transpose(1, 2).flatten(2))
        return x + self.linear2(self.linear1(x).relu())


class Model(nn.Module):
    """A layer, a block, and a head; the block is called as it is told."""

    def __init__(self, block, **how):
        super().__init__()
        self.first, self.block, self.head, self.how = nn.Linear(6, 8), block, nn.Linear(8, 3), how

    def forward(self, x):
        return self.head(self.block(self.first(x), **self.how).mean(1))


def encoder_layer(**how) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True, **how)


def of_common_layers(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {name.replace("block.layers.0", "block"): score for name, score in scores.items()}
    return {name: named[name] for name in ("first", "block.linear1", "block.linear2", "head")}


CAUSAL = torch.ones(5, 5).tril().bool()


@pytest.mark.parametrize("mask", [None, "causal", "of words"])
@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("whole", [False, True], ids=["layer", "encoder"])
def test_an_encoder_of_torch_s_own_flows_as_the_same_products_by_hand(norm_first, activation, mask, whole):
    layer = made(lambda: encoder_layer(norm_first=norm_first, activation=activation))
    products = Block(layer)
    by_hand = made(lambda: Model(products))
    block = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False) if whole else layer
    own = made(lambda: Model(block))
    is_seen = {"causal": CAUSAL, "of words": CAUSAL[3].expand(1, 1, 5, 5)}.get(mask)
    masks = {"causal": {"mask" if whole else "src_mask": ~CAUSAL}, "of words": {"src_key_padding_mask": ~CAUSAL[3:4]}}
    by_hand.how, own.how = {"is_seen": is_seen}, masks.get(mask, {})
    x = torch.zeros(2, 5, 6)
    assert_same(of_common_layers(scores_of(by_hand, x)), of_common_layers(scores_of(own, x)))


class Fused(nn.Module):
    """Attention in one function, or in three."""

    def __init__(self, **how):
        super().__init__()
        width = how.pop("width", 8)
        self.query, self.key, self.value = nn.Linear(6, 8), nn.Linear(6, width), nn.Linear(6, width)
        self.head, self.how, self.is_fused = nn.Linear(8, 3), how, True

    def forward(self, x):
        query, key, value = (
            part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        if self.is_fused:
            seen = F.scaled_dot_product_attention(query, key, value, **self.how)
        else:
            key, value = (part.expand_as(query) for part in (key, value))
            compared = query @ key.transpose(-2, -1)
            mask = CAUSAL if self.how.get("is_causal") else self.how.get("attn_mask", torch.ones(5, 5)) > -1e3
            seen = F.softmax(compared.masked_fill(~mask, -math.inf), dim=-1) @ value
        return self.head(seen.transpose(1, 2).flatten(2).mean(1))


FUSED = {
    "whole": {},
    "causal": {"is_causal": True},
    "masked": {"attn_mask": CAUSAL},
    "masked by numbers": {"attn_mask": torch.zeros(5, 5).double().masked_fill(~CAUSAL, -1e9)},
    "scaled": {"scale": 7.0},
    "groups of heads": {"enable_gqa": True, "width": 4},
}


@pytest.mark.parametrize("how", FUSED.values(), ids=FUSED)
def test_attention_in_one_function_flows_as_in_three(how):
    model = made(lambda: Fused(**dict(how)))
    fused = scores_of(model, torch.zeros(2, 5, 6))
    model.is_fused = False
    assert_same(fused, scores_of(model, torch.zeros(2, 5, 6)))
    if not how:
        parts = torch.stack([fused[name].sum() for name in ("query", "key", "value")])
        torch.testing.assert_close(parts, parts[:1].expand(3), rtol=1e-10, atol=0)


# --- words, and several inputs ----------------------------------------------------------------------------------------


class Words(nn.Module):
    """Begins with an embedding of one kind or another."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding, self.first, self.last = embedding, nn.Linear(8, 5, bias=False), nn.Linear(5, 3, bias=False)

    def forward(self, words):
        return self.last(F.relu(self.first(self.embedding(words))))


def words(seed: int = 0) -> Tensor:
    return torch.randint(11, (2, 4), generator=torch.Generator().manual_seed(seed))


EMBEDDINGS = {
    "embedding": lambda: nn.Embedding(11, 8),
    "with padding": lambda: nn.Embedding(11, 8, padding_idx=0),
    "bag": lambda: nn.EmbeddingBag(11, 8),
    "bag, summed": lambda: nn.EmbeddingBag(11, 8, mode="sum"),
    "of small numbers": lambda: nn.Embedding(11, 8, max_norm=0.1),
}


@pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_of_an_embedding_the_mean_of_all_rows_arrives_whatever_the_words(make):
    model = made(lambda: Words(make()))
    row = model.embedding.weight.detach().abs().mean(0)
    scores = scores_of(model, words())
    first, last = model.first.weight.detach().abs(), model.last.weight.detach().abs()
    number = 1 if getattr(model.embedding, "mode", "sum") == "mean" else 4
    torch.testing.assert_close(scores["first"], number * last.sum(0)[:, None] * first * row, rtol=1e-10, atol=0)
    torch.testing.assert_close(scores["last"], number * last * (first @ row), rtol=1e-10, atol=0)
    assert_same(scores, scores_of(model, words(1)))


@pytest.mark.parametrize("storage", STORAGES)
def test_the_flow_from_words_guides_the_growth_of_sparse_layers(storage):
    model = sparse(made(lambda: Words(nn.Embedding(11, 8))), storage)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs, outputs = all_ones_flow(model, ones_for((words(),)))["first"]
    plain = sk.densify(model)
    row = plain.embedding.weight.detach().abs().mean(0)
    torch.testing.assert_close(inputs, 8 * row, rtol=1e-10, atol=0)  # of two samples of four words
    torch.testing.assert_close(outputs, 8 * plain.last.weight.detach().abs().sum(0), rtol=1e-10, atol=0)
    io = capture(model, words())
    assert torch.equal(io["first"].flow()[0], inputs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("storage", STORAGES)
def test_guided_growth_trains_a_transformer_of_words(storage):
    class Sentences(Words):
        def __init__(self):
            super().__init__(nn.Embedding(11, 8))
            self.block = encoder_layer()

        def forward(self, words):
            return self.last(self.first(self.block(self.embedding(words)).mean(1)))

    model = sparse(made(Sentences), storage)
    count = sk.topology_of(model).count
    rule = GSE(candidates=Guide(), every=1, stop=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = sk.topology_of(model)
    for step in range(3):
        batch = (words(step), torch.arange(2) % 3)
        sk.train_step(model, optimizer, batch, F.cross_entropy, rule, step, sk.generator(0, "rewire", step))
    assert sk.topology_of(model).count == count
    assert sk.topology_of(model) != before


def test_a_flow_that_reaches_no_sparse_layer_is_refused():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 3)

        def forward(self, numbers):
            return self.first(numbers.double())

    with pytest.raises(ValueError, match="must reach at least one sparse layer, got none"):
        all_ones_flow(sparse(made(Blind), "masked"), ones_for((torch.ones(2, 4, dtype=torch.int64),)))
    assert all_ones_flow(sparse(made(Blind), "masked"), ones_for((torch.ones(2, 4, dtype=torch.uint8),)))


class TwoInputs(nn.Module):
    """Takes two inputs, returns two outputs, and one thing that is no tensor."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.Linear(4, 5), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, left, right):
        hidden = self.left(left) + self.right(right)
        return {"hidden": hidden, "logits": (self.last(hidden), "three classes")}


def test_all_outputs_of_a_model_with_several_inputs_count():
    model = made(TwoInputs)
    left, right, last = (model.get_submodule(name).weight.detach().abs() for name in ("left", "right", "last"))
    through = (1 + last.sum(0))[:, None]
    wanted = {"left": left * through, "right": right * through, "last": last * (left.sum(1) + right.sum(1))}
    inputs = {"left": torch.zeros(2, 4), "right": torch.zeros(2, 6)}
    assert_same(scores_of(model, inputs), wanted)
    assert_same(scores_of(model, tuple(inputs.values())), wanted)
    assert prune(model, SynFlow(rounds=3), 0.3, batches=[(inputs, LABELS)]).count == round(0.3 * 65)


def test_the_table_of_conserved_sums_takes_words_and_layers_that_rest():
    class Resting(Words):
        def __init__(self):
            super().__init__(nn.Embedding(11, 8))
            self.unused = nn.Linear(5, 5)

    table = conservation_table(made(Resting), [(words()[:, 0], LABELS)])
    assert table.loc["unused"].tolist() == [0, 0, 0]
    for column in ("signed", "synflow"):
        assert table.loc["first", column] == pytest.approx(table.loc["last", column], rel=1e-10)


class Placed(Words):
    """Adds positions of many makes to its words, and looks back only, by a mask that is called bias."""

    def __init__(self, *, is_placed: bool):
        super().__init__(nn.Embedding(11, 8))
        self.is_placed, self.position_embeddings = is_placed, nn.Embedding(4, 8)
        self.pos_embed = nn.Parameter(torch.ones(1, 4, 8))
        self.register_buffer("position", torch.ones(4, 8), persistent=False)
        self.register_buffer("bias", torch.ones(4, 4).tril())
        self.bias_table = nn.Parameter(torch.ones(4, 4))

    def forward(self, words):
        x = self.embedding(words)
        if self.is_placed:
            x = x + self.position_embeddings(torch.arange(4)) + self.pos_embed + self.position
        compared = x @ x.transpose(1, 2) + (self.bias_table if self.is_placed else 0)
        seen = compared.masked_fill(self.bias == 0, -math.inf).softmax(-1) @ x
        return self.last(self.first(seen))


def test_positions_count_for_nothing_and_masks_stay_masks():
    plain, placed = (scores_of(made(lambda p=p: Placed(is_placed=p)), words()) for p in (False, True))
    assert_same(plain, placed)
