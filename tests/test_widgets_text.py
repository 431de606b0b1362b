"""Networks of several densities write on from a prompt. Each text is written once, and judged by the dense network."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit.datasets import Dataset
from sparsekit.datasets.tokens import BytePairs, Characters, learn_merges
from sparsekit.datasets.windows import windows
from sparsekit.evaluation import evaluate
from sparsekit.models.generating import surprise

widgets = pytest.importorskip(
    "sparsekit.widgets", reason='widgets need the packages of notebooks. Run: pip install "sparsekit-lab[notebooks]"'
)
from sparsekit.widgets import text_explorer  # noqa: E402 - only where widgets can be imported
from sparsekit.widgets.text_still import COLUMNS, wrapped  # noqa: E402

SENTENCE = "abababa cccc ababab\n"


def text_data(tokenizer=None, context=8) -> Dataset:
    tokenizer = tokenizer or Characters("abc \n")
    split = windows([tokenizer.encode(SENTENCE * 3)], context)
    return Dataset(
        name="text",
        train=split,
        test=split,
        classes=tokenizer.vocabulary,
        normalize=None,
        tokenizer=tokenizer,
        source="made up",
    )


def net(seed: int, num_classes: int = 5):
    torch.manual_seed(seed)
    model = sk.models.build("gpt", input_shape=(8,), num_classes=num_classes, dim=8, depth=1, heads=2)
    model.embed.tokens.weight.data.mul_(20)  # so that it has opinions
    return model


def explorer(**how) -> widgets.TextExplorer:
    models = {"RigL": {0.3: net(1), 0.1: net(2)}, "static": {0.1: net(3)}}
    return widgets.TextExplorer(net(0), models, text_data(), prompt="ab", **{"count": 12, "measured": 5, **how})


def test_it_opens_with_the_first_method_and_the_text_of_it_and_of_the_dense_network():
    one = explorer()
    assert one.choice == {"method": "RigL", "density": 0.3, "prompt": "ab", "temperature": 0.8, "seed": 0}
    assert [(text["method"], text["density"]) for text in one.texts] == [("dense", 1.0), ("RigL", 0.3)]
    assert one.text.startswith("ab")
    assert len(one.text) == len(one.dense_text) == 14
    assert one.text != one.dense_text


def test_each_network_writes_another_text_and_the_same_one_again():
    one = explorer()
    texts = {}
    for method, density in (("RigL", 0.1), ("static", 0.1), ("RigL", 0.3)):
        one.choose(method=method, density=density)
        texts[method, density] = one.text
    assert len(set(texts.values())) == 3
    one.choose(method="RigL", density=0.1)
    assert one.text == texts["RigL", 0.1]
    assert len(one.texts) == 4  # with the dense one


def test_a_text_is_written_once_for_a_prompt_a_seed_and_a_temperature(monkeypatch):
    calls = []
    generate = text_explorer.generate
    monkeypatch.setattr(text_explorer, "generate", lambda *args, **how: calls.append(1) or generate(*args, **how))
    one = explorer()
    assert len(calls) == 2
    for seed, expected in ((1, 4), (0, 4), (1, 4)):
        one.choose(seed=seed)
        assert len(calls) == expected
    one.choose(temperature=0.0)
    one.choose(prompt="abc")
    assert len(calls) == 8
    assert [text["method"] for text in one.texts] == ["dense", "RigL"]


def test_pieces_are_the_tokens_with_what_the_dense_network_gives_them():
    one = explorer(count=4)
    tokens = one._data.tokenizer.encode(one.text)
    expected = surprise(net(0), tokens, context=8)[1:]
    (pieces,) = (text["pieces"] for text in one.texts if text["method"] == "RigL")
    assert "".join(text for text, _ in pieces) == one.text[2:]
    assert [nats for _, nats in pieces] == pytest.approx(expected.tolist(), abs=0.01)


def test_losses_are_those_of_the_test_text_by_the_character():
    merges = BytePairs(learn_merges(SENTENCE, 3))
    data = text_data(merges)
    model = net(0, len(merges.vocabulary))
    one = widgets.TextExplorer(model, {"RigL": {0.1: model}}, data, prompt="ab", count=2, measured=10_000)
    loss = evaluate(model, [(data.test.inputs, data.test.labels)], cross_entropy).loss
    labels = merges.encode(SENTENCE * 3)[1:]
    assert one.dense_loss == pytest.approx(loss * len(labels) / len(merges.decode(labels)))
    assert repr(one) == "RigL with 0.1 of the connections is 0.00 nats per character behind the dense network"


def test_a_page_without_a_kernel_has_the_text_of_every_network():
    one = explorer()
    one.complete()
    assert len(one.texts) == 4
    one.complete()
    assert len(one.texts) == 4
    assert json.dumps(one.texts)


def test_the_browser_asks_for_the_next_text_and_for_nothing_else():
    one = explorer()
    one._on_message(None, {"write": ["static", 0.1]}, [])
    assert ("static", 0.1) in [(text["method"], text["density"]) for text in one.texts]
    before = one.texts
    for content in (
        {"write": ["static", 0.7]},
        {"write": []},
        {"press": "main"},
        None,
        {"write": 3},
        {"write": [[], {}]},
    ):
        one._on_message(None, content, [])
    assert one.texts == before


def test_a_prompt_that_cannot_be_read_gets_a_sentence_and_the_texts_stay():
    one = explorer()
    before = one.texts
    one.choice = {**one.choice, "prompt": "xyz"}  # as the browser sets it
    assert one.problem.startswith("text must consist of the characters 'abc")
    assert one.texts == before
    assert one.text.startswith("ab")
    one.choice = {**one.choice, "prompt": "cc"}
    assert one.problem == ""
    assert one.text.startswith("cc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 0.2}, "must be one of RigL at 0.1, RigL at 0.3, static at 0.1, got RigL at 0.2"),
        ({"method": "dense", "density": 1.0}, "must be one of RigL at 0.1"),
        ({"prompt": ""}, "a prompt must have at least one character, got none"),
        ({"prompt": "z"}, "text must consist of the characters"),
        ({"temperature": 3.0}, "temperature must lie in 0 to 2, got 3.0"),
        ({"temperature": float("nan")}, "temperature must lie in 0 to 2, got nan"),
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
        ({"colour": "red"}, "a setting must be one of method, density"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_nothing_changes(changes, message):
    one = explorer()
    before = dict(one.choice)
    with pytest.raises((ValueError, TypeError), match=message):
        one.choose(**changes)
    assert one.choice == before


def test_data_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match=r'must be text, got digits. Load it, as in datasets.load\("kjv-char"\)'):
        widgets.TextExplorer(net(0), {"RigL": {0.1: net(1)}}, sk.datasets.load("digits"))
    with pytest.raises(ValueError, match=r"must be one of \(none\)"):
        widgets.TextExplorer(net(0), {}, text_data())


def test_its_state_goes_into_a_cell_and_back():
    one = explorer()
    one.choose(method="static", density=0.1, prompt="a b\nc", temperature=0.5, seed=3)
    state = one.as_code().partition('state="')[2].partition('"')[0]
    assert explorer(state=state).choice == one.choice


def test_its_still_says_what_it_shows():
    one = explorer()
    still = one.snapshot()
    assert still.startswith(b"\x89PNG")
    assert still.alt == repr(one)
    one.choose(density=0.1)
    assert one.snapshot() != still


def test_lines_of_a_still_break_between_words():
    text = "word " * 30
    lines: dict[int, str] = {}
    for line, column, letter, _ in wrapped([(letter, 1.0) for letter in text]):
        assert column == len(lines.get(line, ""))
        lines[line] = lines.get(line, "") + letter
    assert all(len(line) <= COLUMNS for line in lines.values())
    assert all(line.split()[-1] == "word" for line in lines.values())
    assert max(line for line, *_ in wrapped([("x" * (3 * COLUMNS), 1.0)])) == 2
