"""What every registered score must keep. New ones are checked without being named here."""

import copy
import dataclasses
import json

import pytest
import torch
from helpers import MODELS, batch_for, made
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparsekit as sk
from sparsekit.scores import ScoreView, make_score, prune, score_whole
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils import registry
from sparsekit.utils.settings import from_plain, to_plain

SCORES = registry.names("score")
LOOKING = [name for name in SCORES if make_score(name).sees != "nothing"]
every_score = pytest.mark.parametrize("name", SCORES)
every_model = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)


def unruly() -> nn.Module:
    """Everything a score might disturb: batch norm's statistics, dropout's random numbers, one frozen layer."""
    model = made(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(64, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        )
    )
    model[7].requires_grad_(False)
    return model


def few(name: str, **settings):
    """The score in few rounds, so that tests are fast."""
    score = make_score(name)
    return dataclasses.replace(score, **{"rounds": min(3, score.rounds), **settings})


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_score
def test_a_score_says_what_it_is_and_where_it_comes_from_and_survives_json(name):
    thing = registry.get("score", name)
    assert registry.summary_of(thing).endswith(".")
    assert registry.source_of(thing)
    score = make_score(name)
    assert from_plain(json.loads(json.dumps(to_plain(score)))) == score
    for field in dataclasses.fields(score):
        assert field.kw_only
        assert field.metadata["help"]


@every_score
@every_model
def test_scores_are_finite_numbers_for_every_weight_and_depend_on_the_seed_only(name, make, shape):
    model, batches = make(), [batch_for(shape)]
    kept = Topology({layer: LayerTopology.full(size) for layer, size in sk.shapes_of(model).items()})
    score, view = make_score(name), ScoreView(model=model, topology=kept, generator=seeded(3), batches=batches)
    first, again = (score(dataclasses.replace(view, generator=seeded(3))) for _ in range(2))
    assert {layer: tuple(tensor.shape) for layer, tensor in first.items()} == sk.shapes_of(model)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert not any(tensor.requires_grad for tensor in first.values())
    assert all(torch.equal(tensor, again[layer]) for layer, tensor in first.items())


@every_score
@pytest.mark.parametrize("training", [True, False])
def test_pruning_leaves_the_model_and_the_random_state_bit_for_bit_as_they_were(name, training):
    model = unruly().train(training)
    state, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    inputs, labels = batch_for((2, 6, 6))
    before = inputs.clone()
    prune(model, few(name), 0.3, batches=[(inputs, labels)])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))
    assert not model[7].weight.requires_grad
    assert model[5].weight.requires_grad
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(inputs, before)


@every_score
@settings(max_examples=15, deadline=None)
@given(density=st.floats(0.03, 1.0), scope=st.sampled_from(["global", "layer"]), seed=st.integers(0, 9))
def test_the_budget_is_exact_for_any_density_and_no_layer_is_emptied(name, density, scope, seed):
    make, shape = MODELS["linear"]
    model = make()
    kept = prune(model, few(name, scope=scope), density, batches=[batch_for(shape)], seed=seed)
    assert kept.shapes == sk.shapes_of(model)
    assert kept.count == round(density * kept.size)
    if scope == "global" and round(density * kept.size) >= 2:
        assert min(layer.count for layer in kept.values()) >= 1


@every_score
@every_model
def test_more_rounds_only_take_away_unless_weights_may_regrow(name, make, shape):
    score = few(name, rounds=1)
    model, batches = make(), [batch_for(shape)]
    if score.allow_regrowth:
        return
    two = prune(model, dataclasses.replace(score, rounds=2), 0.25, batches=batches)
    half = prune(model, score, 0.5, batches=batches)
    assert all((two[layer] - half[layer]).count == 0 for layer in two)


@every_score
def test_excluded_layers_are_left_alone(name):
    make, shape = MODELS["linear"]
    assert list(prune(make(), few(name), 0.5, batches=[batch_for(shape)], exclude=("last",))) == ["0"]


@every_score
def test_a_sparse_model_or_a_wrong_density_is_refused(name):
    make, shape = MODELS["linear"]
    sparse = sk.sparsify(make(), sk.random_topology(sk.shapes_of(make()), 0.5), init="dense")
    with pytest.raises(ValueError, match="plain model"):
        prune(sparse, few(name), 0.2, batches=[batch_for(shape)])
    with pytest.raises(ValueError, match="density"):
        prune(make(), few(name), 0.0, batches=[batch_for(shape)])


@pytest.mark.parametrize("name", LOOKING)
def test_a_score_that_needs_examples_says_so(name):
    with pytest.raises(ValueError, match="got no"):
        prune(MODELS["linear"][0](), few(name), 0.5)


@every_score
@every_model
def test_what_was_pruned_can_be_trained_in_both_storages(name, make, shape):
    model = make()
    kept = prune(model, few(name), 0.4, batches=[batch_for(shape)])
    for storage in ("masked", "csr"):
        sparse = sk.sparsify(model, kept, storage, init="dense")
        inputs, labels = batch_for(shape)
        nn.functional.cross_entropy(sparse(inputs), labels).backward()
        assert sk.topology_of(sparse) == kept


# --- models of another make: layers nobody calls, losses that say nothing, other inputs -----------------------------


class Resting(nn.Module):
    """A layer that the forward pass does not use, between two that it does."""

    def __init__(self):
        super().__init__()
        self.first, self.unused, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.first(x).relu())


# Scores that grow with the share of the samples that come through. GraSP's gradient is that of all samples.
IN_PROPORTION = ("snip", "iterative-snip", "force", "taylor")


class Sometimes(Resting):
    """A layer that only some batches come through."""

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.last(self.unused(hidden).relu() if len(x) > 5 else hidden)


every_looking_score = pytest.mark.parametrize("name", LOOKING)


@every_looking_score
def test_a_layer_that_the_forward_pass_does_not_use_scores_nothing_and_keeps_the_least_a_layer_may_have(name):
    model, batches = made(Resting), [batch_for((6,), size=16)]
    scores = score_whole(model, few(name), batches=batches)
    assert not scores["unused"].any()
    assert scores["first"].any()
    assert scores["last"].any()
    for least in (0, 1, 3):
        kept = prune(model, few(name, min_per_layer=least), 0.3, batches=batches)
        assert kept["unused"].count == least
        assert kept.count == round(0.3 * kept.size)


@pytest.mark.parametrize("name", [name for name in LOOKING if make_score(name).sees == "examples"])
def test_a_layer_that_some_batches_do_not_use_is_scored_by_those_that_do(name):
    model = made(Sometimes)
    batches = [batch_for((6,), size=9, seed=1), batch_for((6,), size=3, seed=2)]
    together, alone = (score_whole(model, few(name), batches=given)["unused"] for given in (batches, batches[:1]))
    assert together.count_nonzero() == alone.count_nonzero() > 0
    if name in IN_PROPORTION:  # 9 of 12 samples come through
        torch.testing.assert_close(together, 0.75 * alone, rtol=1e-10, atol=1e-14)


@every_looking_score
def test_scores_that_are_all_zero_rank_nothing_and_are_refused(name):
    model = made(Resting)
    nn.init.zeros_(model.last.weight)
    nn.init.zeros_(model.first.weight)
    kept = Topology({layer: LayerTopology.full(size) for layer, size in sk.shapes_of(model).items()})
    view = ScoreView(model=model, topology=kept, generator=seeded(0), batches=[batch_for((6,))])
    if any(score.any() for score in make_score(name)(view).values()):  # a score without the weight as a factor
        return
    with pytest.raises(ValueError, match="at least one weight must have a score other than 0, got 0 for all of first"):
        prune(model, few(name), 0.3, batches=[batch_for((6,))])


class Constant(Resting):
    """Gives outputs that depend on no weight."""

    def forward(self, x):
        return x[:, :3]


@every_looking_score
def test_a_loss_that_depends_on_no_weight_is_refused_with_a_sentence(name):
    with pytest.raises(ValueError, match="got 0 for all of first, unused, last"):
        prune(made(Constant), few(name), 0.3, batches=[batch_for((6,))])


@every_score
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no grad", "inference"])
def test_a_score_is_the_same_where_gradients_are_switched_off_outside(name, mode):
    model, batches = made(Resting), [batch_for((6,))]
    wanted = prune(model, few(name), 0.3, batches=batches)
    with mode():
        assert prune(model, few(name), 0.3, batches=batches) == wanted
        assert not torch.is_grad_enabled()


class Failing(nn.Module):
    """Works, and then does not: a score is interrupted in the middle of its work."""

    def __init__(self, model, calls):
        super().__init__()
        self.model, self.calls = model, calls

    def forward(self, x):
        self.calls.append(1)
        if len(self.calls) > 1:
            torch.rand(3)
            raise KeyboardInterrupt
        return self.model(x)

    def __deepcopy__(self, memo):
        return Failing(copy.deepcopy(self.model, memo), self.calls)


def everything_of(model: nn.Module) -> list:
    """All that a score could leave behind on a model and on the process."""
    tensors = [*model.parameters(), *model.buffers()]
    modules = list(model.modules())
    return [
        [tensor.clone() for tensor in tensors] + [torch.get_rng_state()],
        [(id(tensor), tensor.dtype, tensor._version, tensor.requires_grad, id(tensor.grad)) for tensor in tensors],
        [(one.training, len(one._forward_hooks), len(one._forward_pre_hooks), sorted(vars(one))) for one in modules],
        [
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            len(torch.overrides._get_current_function_mode_stack()),
        ],
        [torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype()],
    ]


@every_looking_score
@pytest.mark.parametrize("training", [True, False])
def test_a_score_that_is_interrupted_leaves_everything_as_it_was(name, training):
    calls: list = []
    model = Failing(unruly(), calls).train(training)
    model.model[0].register_forward_hook(lambda *_: None)
    model.model[5].weight.grad = torch.ones_like(model.model[5].weight)
    model.model[1].running_mean.normal_(generator=torch.Generator().manual_seed(0))
    before = everything_of(model)
    inputs, labels = batch_for((2, 6, 6))
    with pytest.raises(KeyboardInterrupt):
        prune(model, few(name, rounds=2), 0.3, batches=[(inputs, labels)] * 2)
    after = everything_of(model)
    assert len(calls) == 2
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]


class Words(nn.Module):
    """Begins with an embedding, has attention of torch's own, and takes words and a mask."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, words, absent=None):
        return self.head(self.block(self.words(words), src_key_padding_mask=absent).mean(1))


def sentences(form):
    """Six sentences of five words and their labels, in one of the forms that inputs have."""
    draw = torch.Generator().manual_seed(0)
    words, absent = torch.randint(11, (6, 5), generator=draw), torch.arange(5).expand(6, 5) == 4
    return [
        (
            {"one": words, "several": (words, absent), "named": {"words": words, "absent": absent}}[form],
            torch.arange(6) % 3,
        )
    ]


@every_score
@pytest.mark.parametrize("form", ["one", "several", "named"])
def test_models_of_words_with_attention_and_several_inputs_are_scored(name, form):
    model = made(Words)
    kept = prune(model, few(name), 0.3, batches=sentences(form))
    assert list(kept) == list(sk.shapes_of(model))
    assert {"block.self_attn.in_proj_weight.query", "block.linear1", "block.linear2", "head"} <= set(kept)
    assert kept.count == round(0.3 * kept.size)
    assert min(layer.count for layer in kept.values()) > 0
