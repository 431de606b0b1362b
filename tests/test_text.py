"""Text: tokens and back, windows whose padding does not count, a GPT that sees no future, and runs that continue."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import code_blocks
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit.datasets import few_per_class, hold_out, load
from sparsekit.datasets.base import PADDING, Dataset, Split
from sparsekit.datasets.kjv import pieces_of
from sparsekit.datasets.tokens import BytePairs, Characters, learn_merges
from sparsekit.datasets.windows import characters_per_token, windows
from sparsekit.evaluation import Evaluation, evaluate
from sparsekit.experiments import Experiment, read_run, run
from sparsekit.experiments.writing import continue_text
from sparsekit.layers import coverage, shapes_of, sparsify, topology_of
from sparsekit.models import build
from sparsekit.models.generating import generate, surprise
from sparsekit.models.gpt import CausalAttention, rotated, rotations
from sparsekit.rules import RigL
from sparsekit.scores import SNIP
from sparsekit.topology.selection import random_topology
from sparsekit.train import train_step
from sparsekit.utils import registry

SENTENCE = "abababa cccc ababab\n"


@pytest.fixture(scope="module")
def kjv():
    return load("kjv-char")


def small(**how):
    torch.manual_seed(0)
    return build("gpt", input_shape=(8,), num_classes=11, **{"dim": 8, "depth": 2, "heads": 2, **how})


def tiny_text(*, root=None):
    """A text of a few words, so that a training takes a second."""
    tokenizer = Characters("abc \n")
    split = windows([tokenizer.encode(SENTENCE * 6)], context=8)
    return Dataset(
        name="tiny-text",
        train=split,
        test=split.take(7),
        classes=tokenizer.vocabulary,
        normalize=None,
        tokenizer=tokenizer,
        source="made up",
    )


@pytest.fixture(autouse=True)
def _tiny_text(monkeypatch):
    """Register the text for a while only: other tests look at everything that is registered."""
    registry.names("data")
    monkeypatch.setitem(registry._registered["data"], "tiny-text", tiny_text)


@pytest.fixture
def experiment(_tiny_text):
    return Experiment(
        recipe="text",
        data="tiny-text",
        model="gpt",
        model_settings={"dim": 8, "depth": 1, "heads": 2},
        density=0.5,
        rule=RigL(every=2, stop=6, drop_fraction=0.3),
        optimizer="adamw",
        epochs=2,
        batch_size=4,
    )


# -------------------------------------------------------------------------------------------------------------- tokens


@settings(max_examples=20, deadline=None)
@given(text=st.text(max_size=30), learnt=st.text(alphabet="aab c", max_size=40))
def test_byte_pairs_give_any_text_back(text, learnt):
    pairs = BytePairs(learn_merges(learnt, 6))
    for one in (text, learnt, text + learnt):
        assert pairs.decode(pairs.encode(one)) == one


@settings(max_examples=20, deadline=None)
@given(text=st.text(alphabet="ab\n", max_size=30))
def test_characters_give_their_text_back(text):
    assert Characters("\nab").decode(Characters("\nab").encode(text)) == text


@settings(max_examples=20, deadline=None)
@given(text=st.text(alphabet="ab", min_size=2, max_size=30))
def test_byte_pairs_agree_with_merging_in_a_plain_loop(text):
    merges = learn_merges("aabaaab" * 3, 4)
    expected = list(text.encode())
    for new, pair in enumerate(merges, start=256):
        at, out = 0, []
        while at < len(expected):
            hit = tuple(expected[at : at + 2]) == pair
            out.append(new if hit else expected[at])
            at += 2 if hit else 1
        expected = out
    assert BytePairs(merges).encode(text).tolist() == expected


def test_the_first_merge_is_the_most_frequent_pair():
    assert learn_merges("xyzxyxy", 1) == ((ord("x"), ord("y")),)
    assert learn_merges("x", 3) == ()


def test_a_character_outside_the_alphabet_is_refused_by_name():
    with pytest.raises(ValueError, match=r"must consist of the characters 'ab', got 'xé'. Leave"):
        Characters("ab").encode("axbé")


# ---------------------------------------------------------------------------------------------------------------- data


def test_every_token_but_the_first_of_a_piece_is_a_label_once():
    pieces = [torch.arange(1, 8), torch.arange(20, 25), torch.tensor([9])]
    split = windows(pieces, 4)
    assert split.labels[split.labels != PADDING].tolist() == [2, 3, 4, 5, 6, 7, 21, 22, 23, 24]
    known = split.labels != PADDING
    assert torch.equal(split.inputs[known] + 1, split.labels[known])


def test_windows_need_a_context_and_two_tokens():
    with pytest.raises(ValueError, match="context must be at least 1, got 0"):
        windows([torch.arange(3)], 0)
    with pytest.raises(ValueError, match="at least two tokens, got none. Give a longer text"):
        windows([torch.arange(1)], 4)


def test_the_text_is_a_megabyte_of_which_no_part_overlaps_another(kjv):
    assert (len(kjv.train), len(kjv.test), kjv.num_classes, kjv.shape) == (13_410, 745, 73, (64,))
    text = "".join(map(chr, range(1000)))
    parts = {part: "".join(pieces_of(text, part)) for part in ("train", "validation", "test")}
    assert {part: len(one) for part, one in parts.items()} == {"train": 900, "validation": 50, "test": 50}
    assert sorted("".join(parts.values())) == list(text)


def test_validation_is_another_part_than_the_test(kjv):
    validation = load("kjv-char", measured="validation")
    assert not torch.equal(validation.test.inputs[:100], kjv.test.inputs[:100])
    with pytest.raises(ValueError, match="measured must be one of validation, test, got 'train'"):
        load("kjv-char", measured="train")


def test_byte_pairs_have_512_tokens_and_the_same_text(kjv):
    pairs = load("kjv-bpe")
    assert (pairs.num_classes, len(pairs.train), len(pairs.test)) == (512, 5770, 316)
    first = [data.tokenizer.decode(data.test.inputs[0])[:64] for data in (kjv, pairs)]
    assert first[0] == first[1]
    assert characters_per_token(pairs.test, pairs.tokenizer) == pytest.approx(2.37, abs=0.01)
    assert characters_per_token(kjv.test, kjv.tokenizer) == 1


def test_another_file_is_refused(tmp_path):
    import numpy as np

    np.savez(tmp_path / "kjv.npz", words=np.zeros(3))
    with pytest.raises(ValueError, match=r"must be that of the project, got another .*Fetch it again"):
        load("kjv-char", root=tmp_path)


def test_labels_of_tokens_may_be_padding_and_nothing_else_that_is_no_class():
    split = Split(inputs=torch.zeros(1, 3).long(), labels=torch.tensor([[0, PADDING, 1]]))
    facts = {"name": "x", "source": "made up", "normalize": None, "train": split, "test": split}
    assert Dataset(classes=("a", "b"), **facts).prepare(split.inputs).dtype == torch.int64
    with pytest.raises(ValueError, match="labels must lie in 0 to 0"):
        Dataset(classes=("a",), **facts)
    nothing = Split(inputs=torch.zeros(1, 2).long(), labels=torch.full((1, 2), PADDING))
    with pytest.raises(ValueError, match="a label that counts, got only -100"):
        Dataset(classes=("a",), **{**facts, "train": nothing})
    with pytest.raises(ValueError, match="one label per example"):
        Split(inputs=torch.zeros(2, 3).long(), labels=torch.zeros(2, 4).long())


def test_scores_get_a_few_windows_and_classes_are_not_held_out_of_text(kjv):
    inputs, labels = few_per_class(kjv, 3)
    assert inputs.shape == labels.shape == (3, 64)
    with pytest.raises(ValueError, match=r"one label each, got \(13410, 64\). Cut text in pieces"):
        hold_out(kjv.train, 0.1, seed=0)


# ----------------------------------------------------------------------------------------------------------------- gpt


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_no_token_sees_those_after_it(positions):
    model = small(positions=positions).eval()
    tokens = torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, 5] = 10
    before, after = model(tokens), model(changed)
    assert before.shape == (1, 11, 8)
    torch.testing.assert_close(before[..., :5], after[..., :5], rtol=0, atol=0)
    assert (before[..., 5:] != after[..., 5:]).any(1).all()


@pytest.mark.parametrize("how", [{}, {"positions": "learned"}, {"tied": False}])
def test_every_parameter_of_a_gpt_gets_a_gradient(how):
    model = small(**how)
    cross_entropy(model(torch.arange(16).view(2, 8) % 11), torch.ones(2, 8).long()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_rotary_attention_equals_a_dense_transcription():
    torch.manual_seed(0)
    attention = CausalAttention(6, heads=1, head_width=6, context=5, rotary=True).double()
    attention.angles = rotations(5, 6).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    query, key, value = (x[0] @ layer.weight.T for layer in (attention.query, attention.key, attention.value))

    def turned(vector, position):  # a pair of features is a complex number
        turns = torch.exp(1j * position * 10_000.0 ** (-2 * torch.arange(3, dtype=torch.float64) / 6))
        return torch.complex(vector[:3], vector[3:]) * turns

    rows = []
    for i in range(5):
        fits = torch.stack([(turned(query[i], i) * turned(key[j], j).conj()).real.sum() for j in range(i + 1)])
        rows.append((fits / math.sqrt(6)).softmax(0) @ value[: i + 1])
    expected = torch.stack(rows) @ attention.output.weight.T
    torch.testing.assert_close(attention(x)[0], expected, rtol=1e-5, atol=1e-6)


def test_products_of_turned_vectors_depend_on_the_difference_of_positions_only():
    torch.manual_seed(0)
    q, k, angles = torch.randn(4), torch.randn(4), rotations(20, 4)

    def product(i, j):
        one, other = (rotated(x.view(1, 1, 1, 4), angles[at : at + 1]) for x, at in ((q, i), (k, j)))
        return float((one * other).sum())

    assert product(3, 1) == pytest.approx(product(19, 17), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-2)


def test_a_tied_head_shares_the_embedding_and_both_stay_dense():
    tied, untied = small(), small(tied=False)
    assert tied.head.weight is tied.embed.tokens.weight
    assert untied.head.weight is not untied.embed.tokens.weight
    assert set(shapes_of(untied)) - set(shapes_of(tied)) == {"head"}
    assert coverage(tied).left.keys() == {"tied weight"}
    assert len(shapes_of(tied)) == 2 * 6


def test_sparsifying_a_gpt_warns_of_nothing_because_its_tables_are_meant_to_be_dense():
    model = small(positions="learned")
    sparse = sparsify(model, random_topology(shapes_of(model), 0.5, seed=0), storage="csr")
    assert topology_of(sparse).density == pytest.approx(0.5, abs=0.02)
    assert sparse.head.weight is sparse.embed.tokens.weight


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"positions": "sine"}, "positions must be one of rotary, learned, got 'sine'"),
        ({"dim": 10, "heads": 4}, "dim must be a multiple of 8, so that 4 heads share it, got 10"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"input_shape": (3, 8, 8)}, r"input_shape must be \(context,\), got \(3, 8, 8\)"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
    ],
)
def test_settings_that_make_no_gpt_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        build("gpt", **{"input_shape": (8,), "num_classes": 11, **how})


# ------------------------------------------------------------------------------------------------------------- by token


def test_loss_and_accuracy_are_by_token_whatever_the_batches_and_the_padding():
    model = small().eval()
    split = windows([torch.arange(21) % 11, torch.arange(13) % 7], 8)
    counts = split.labels != PADDING
    with torch.no_grad():
        logits = model(split.inputs).movedim(1, -1)[counts]
    labels = split.labels[counts]
    for size in (1, 2, 5):
        batches = zip(split.inputs.split(size), split.labels.split(size), strict=True)
        measured = evaluate(model, list(batches))
        by_hand = -logits.log_softmax(-1)[torch.arange(len(labels)), labels].mean()
        assert measured.count == len(labels) == 20 + 12
        assert measured.loss == pytest.approx(float(by_hand), abs=1e-5)
        assert measured.accuracy == pytest.approx(float((logits.argmax(-1) == labels).float().mean()))
        assert measured.perplexity == pytest.approx(math.exp(float(by_hand)), rel=1e-5)


def test_a_loss_without_bounds_has_an_infinite_perplexity():
    assert math.isinf(Evaluation(loss=1e4, accuracy=0.0, count=1).perplexity)
    assert math.isnan(Evaluation(loss=math.nan, accuracy=0.0, count=1).perplexity)


def test_a_step_in_micro_batches_is_that_of_the_whole_batch_though_padding_is_unequal():
    split = windows([torch.arange(21) % 11], 8)
    gradients, stats = [], []
    for parts in (1, 3):
        model = small()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = model.block1.fc1.weight.detach().clone()
        one, _ = train_step(
            model,
            optimizer,
            (split.inputs, split.labels),
            cross_entropy,
            sk.rules.Static(),
            0,
            torch.Generator(),
            micro_batches=parts,
        )
        gradients.append(before - model.block1.fc1.weight.detach())
        stats.append(one)
    assert stats[0].count == stats[1].count == 20
    assert stats[0].loss == pytest.approx(stats[1].loss, abs=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ trainings


def test_masked_equals_csr_over_a_training(experiment, tmp_path):
    masked, csr = (run(replace(experiment, storage=one), tmp_path, progress=False) for one in ("masked", "csr"))
    for name in ("train loss", "test loss"):
        assert masked.values(name) == pytest.approx(csr.values(name), abs=1e-4)
    assert len(masked.journal) == len(csr.journal) > 0


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_run_that_stops_and_continues_ends_bit_for_bit_the_same(experiment, tmp_path, storage):
    one = replace(experiment, storage=storage)
    whole = run(one, tmp_path / "whole", progress=False)
    run(one, tmp_path / "parts", progress=False, until=3)
    parts = run(one, tmp_path / "parts", progress=False)
    assert whole.values("train loss") == parts.values("train loss")
    states = [sk.load_model(history.folder).state_dict() for history in (whole, parts)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_test_is_recorded_by_the_character_too_so_that_other_tokens_can_be_compared(experiment, tmp_path):
    pairs = BytePairs(learn_merges(SENTENCE, 3))

    @registry.register("data", "tiny-pairs")
    def tiny_pairs(*, root=None):
        """The same words by byte pairs."""
        split = windows([pairs.encode(SENTENCE * 6)], context=8)
        plain = tiny_text()
        return replace(plain, name="tiny-pairs", train=split, test=split, classes=pairs.vocabulary, tokenizer=pairs)

    try:
        fixed = replace(experiment, data="tiny-pairs", rule=sk.rules.Static(), epochs=1)
        history = run(fixed, tmp_path, progress=False)
        assert read_run(history.folder).last("test perplexity") == history.last("test perplexity")
    finally:
        del registry._registered["data"]["tiny-pairs"]
    tokens, loss = pairs.encode(SENTENCE * 6), history.last("test loss")
    characters = len(SENTENCE) * 6 - len(pairs.decode(tokens[:1]))  # the first token is never predicted
    expected = loss * (len(tokens) - 1) / characters
    assert history.last("test nats per character") == pytest.approx(expected, rel=1e-6)
    assert history.last("test nats per character") < 0.8 * loss
    assert history.last("test perplexity") == pytest.approx(math.exp(loss))


def test_a_run_of_images_has_no_perplexity(tmp_path):
    names = {row.name for row in run(Experiment(epochs=1, batch_size=600), tmp_path, progress=False).rows}
    assert "test loss" in names
    assert not names & {"test perplexity", "test nats per character"}


def test_a_score_before_training_sees_tokens(experiment, tmp_path):
    scored = replace(experiment, score=SNIP(), rule=sk.rules.Static(), epochs=1)
    assert run(scored, tmp_path, progress=False).last("density") == pytest.approx(0.5, abs=0.02)


def test_the_examples_of_the_page_run_and_the_smallest_recipe_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks("text.md")
    names = {"__name__": "page"}
    monkeypatch.setattr(registry, "_registered", {kind: dict(one) for kind, one in registry._registered.items()})
    for block in blocks:
        exec(compile(block, "docs/text.md", "exec"), names)
    assert len(blocks) == 3
    assert "And he said" in capsys.readouterr().out
    history = names["history"]
    losses = history.values("train loss")
    assert losses[0] == pytest.approx(math.log(73), abs=0.1)  # all characters are equally likely at first
    assert history.last("test loss") < 3.4
    assert read_run(history.folder).last("density") == pytest.approx(0.3, abs=0.01)


# ----------------------------------------------------------------------------------------------------------- generation


def test_the_same_generator_gives_the_same_tokens_and_the_mode_stays():
    model = small()

    def tokens(seed, **how):
        draws = torch.Generator().manual_seed(seed)
        return generate(model, torch.tensor([1, 2]), 12, context=8, generator=draws, **how).tolist()

    assert model.training
    assert tokens(0) == tokens(0) != tokens(1)
    assert tokens(0, temperature=0) == tokens(1, temperature=0)
    assert len(tokens(0)) == 14
    assert tokens(0)[:2] == [1, 2]
    assert model.training


def test_temperature_divides_the_scores():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 1.0])[None, :, None].expand(1, 2, x.shape[1])

    def share(temperature):
        draws = torch.Generator().manual_seed(0)
        tokens = generate(Fixed(), torch.zeros(1).long(), 600, context=4, temperature=temperature, generator=draws)
        return float(tokens[1:].float().mean())

    for temperature in (0.5, 1.0, 4.0):
        expected = 1 / (1 + math.exp(-1 / temperature))
        assert share(temperature) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 600))
    assert share(1e-30) == 1


@pytest.mark.parametrize(
    ("prompt", "how", "message"),
    [
        ([], {}, "a prompt must have at least one token, got none"),
        ([1], {"temperature": -1.0}, "temperature must be 0 or more, got -1.0"),
        ([1], {"temperature": math.inf}, "temperature must be 0 or more, got inf"),
        ([1], {"context": 0}, "context must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_continued_is_refused(prompt, how, message):
    with pytest.raises(ValueError, match=message):
        generate(small(), torch.tensor(prompt).long(), 1, **{"context": 8, **how})


def test_a_run_continues_a_text_and_one_of_images_does_not(experiment, tmp_path):
    history = run(replace(experiment, epochs=1, rule=RigL(every=2, stop=4)), tmp_path, progress=False)
    text = continue_text(history.folder, "ab", 20)
    assert text.startswith("ab")
    assert len(text) == 22
    assert continue_text(history.folder, "ab", 20) == text
    assert continue_text(history.folder, "ab", 20, seed=1) != text
    digits = run(Experiment(epochs=1, batch_size=600), tmp_path, progress=False)
    with pytest.raises(ValueError, match="must be text, got digits. Train the recipe tiny-gpt"):
        continue_text(digits.folder, "ab")


# ------------------------------------------------------------------------------------------------------------- surprise


@pytest.mark.parametrize("length", [2, 5, 8, 9, 14])
def test_surprise_is_what_the_model_gives_each_token_after_those_it_can_see(length):
    model, tokens = small().train(), torch.arange(length) % 11
    nats = surprise(model, tokens, context=8)
    assert model.training
    model.eval()
    with torch.no_grad():
        for at in range(1, length):
            scores = model(tokens[None, max(0, at - 8) : at])[0, :, -1]
            assert float(nats[at - 1]) == pytest.approx(-float(scores.log_softmax(0)[tokens[at]]), abs=1e-5)


@pytest.mark.parametrize(
    ("length", "context", "message"),
    [(1, 8, "must have two tokens or more, got 1"), (3, 0, "context must be at least 1, got 0")],
)
def test_what_has_no_surprise_is_refused(length, context, message):
    with pytest.raises(ValueError, match=message):
        surprise(small(), torch.zeros(length).long(), context=context)
