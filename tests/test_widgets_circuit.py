"""A circuit as a graph: nodes say what they compute on a reader's text, and the loss follows what is ablated."""

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit import analysis
from sparsekit.analysis import Circuit
from sparsekit.analysis.behaviour.circuits import modules_in
from sparsekit.models import build

widgets = pytest.importorskip(
    "sparsekit.widgets", reason='widgets need the packages of notebooks. Run: pip install "sparsekit-lab[notebooks]"'
)

TOKENS = ["start", "a", "b", "]"]


def net() -> nn.Module:
    torch.manual_seed(0)
    model = build("gpt", input_shape=(5,), num_classes=4, dim=4, depth=1, heads=2, hidden=6, tied=False)
    return model.eval()


def samples() -> torch.Tensor:
    return torch.randint(4, (40, 5), generator=torch.Generator().manual_seed(1))


def score(outputs: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs[:, :, -1], samples()[:, 0])


def whole(model: nn.Module) -> tuple[Circuit, pd.DataFrame]:
    """Return a circuit of all nodes."""
    wiring = analysis.gpt_wiring(model)
    means = analysis.behaviour.circuits.means_of(model, samples(), modules_in(wiring))
    nodes = {name: torch.ones_like(mean, dtype=torch.bool) for name, mean in means.items()}
    return Circuit(nodes, means, 0.0, 0.0), analysis.edges_of(model, nodes, wiring)


def explorer(**how) -> widgets.CircuitExplorer:
    model = net()
    return widgets.CircuitExplorer(model, *whole(model), TOKENS, samples(), score, **how)


def test_it_opens_with_the_first_sample_and_the_loss_of_the_circuit():
    one = explorer()
    assert one.choice == {"text": " ".join(TOKENS[at] for at in samples()[0].tolist()), "ablated": ""}
    assert one.loss == pytest.approx(score(net()(samples())).item(), abs=1e-6)
    assert repr(one).startswith(f"{len(one.graph['edges'])} weights do the task with a loss of {one.loss:.3f} nats")


def test_an_ablated_node_has_its_mean():
    one, model = explorer(), net()
    at = one.nodes.index(("norm", 2))
    circuit, _ = whole(model)
    one.choose(ablated=str(at))

    def at_its_mean(_module, _inputs, output):
        output = output.clone()
        output[..., 2] = circuit.means["norm"][2]
        return output

    model.norm.register_forward_hook(at_its_mean)
    assert one.loss == pytest.approx(score(model(samples())).item(), abs=1e-6)
    assert "without norm 2" in one.sentence()
    (answer,) = (answer for answer in one.answers if answer["ablated"] == str(at))
    assert len(set(answer["bars"][at])) == 1


def test_bars_are_the_activations_at_each_token():
    one, model, seen = explorer(text="start a b"), net(), {}
    model.norm.register_forward_hook(lambda module, inputs, output: seen.update(norm=output))
    outputs = model(torch.tensor([[0, 1, 2]]))
    bars = one.answers[-1]["bars"][one.nodes.index(("norm", 1))]
    assert bars == pytest.approx(seen["norm"][0, :, 1].tolist(), abs=1e-3)
    said = dict(one.answers[-1]["says"])
    assert said[TOKENS[outputs[0, :, -1].argmax()]] == pytest.approx(
        outputs[0, :, -1].softmax(0).max().item(), abs=1e-3
    )
    assert one.answers[-1]["bars"][one.nodes.index(("tokens", 0))] == []


def test_what_has_been_computed_is_not_computed_again(monkeypatch):
    one, calls = explorer(), []
    original = one._computed.__func__
    monkeypatch.setattr(
        widgets.CircuitExplorer, "_computed", lambda self, *args: calls.append(args) or original(self, *args)
    )
    other = explorer()
    other.choose(ablated=str(other.nodes.index(("norm", 0))))
    other.choose(ablated="")
    other.choose(ablated=str(other.nodes.index(("norm", 0))))
    assert len(calls) == 2


def test_a_page_without_a_kernel_knows_every_node_ablated_alone():
    one = explorer()
    one.complete()
    ablated = {answer["ablated"] for answer in one.answers}
    assert ablated == {"", *(str(at) for at in range(len(one.nodes)) if at not in one.graph["fixed"])}
    assert len({round(answer["loss"], 6) for answer in one.answers}) > 10


def test_the_graph_names_tokens_and_joins_nodes_that_exist():
    graph = explorer().graph
    assert {node["name"] for node in graph["nodes"] if node["group"] in ("tokens", "answers")} == set(TOKENS)
    numbers = set(range(len(graph["nodes"])))
    assert {end for edge in graph["edges"] for end in (edge["from"], edge["to"])} == numbers
    assert {end for pair in graph["streams"] for end in pair} <= numbers
    assert {graph["nodes"][at]["group"] for at in graph["fixed"]} == {"tokens", "answers"}


def test_nodes_of_modules_that_were_not_searched_cannot_be_ablated():
    model = net()
    found = analysis.find_circuit(model, samples(), score, ["embed", "norm"], limit=9.0)
    full = {name: torch.ones_like(kept) for name, kept in found.nodes.items()}
    edges = analysis.edges_of(model, full, analysis.gpt_wiring(model))
    one = widgets.CircuitExplorer(model, Circuit(full, found.means, 0.0, 0.0), edges, TOKENS, samples(), score)
    free = {group for at, (group, _) in enumerate(one.nodes) if at not in one.graph["fixed"]}
    assert free == {"embed", "norm"}
    one.complete()
    with pytest.raises(ValueError, match="an ablated node must be one of the numbers"):
        one.choose(ablated=str(one.nodes.index(("block1.norm1", 0))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "start x"}, "a token must be one of start a b ], got x"),
        ({"text": " "}, "a text must have 1 to 5 tokens, got 0"),
        ({"text": "a a a a a a"}, "a text must have 1 to 5 tokens, got 6"),
        ({"ablated": "0"}, "an ablated node must be one of the numbers"),
        ({"ablated": "norm"}, "an ablated node must be one of the numbers"),
        ({"colour": "red"}, "a setting must be text or ablated"),
    ],
)
def test_what_cannot_be_shown_gets_a_sentence_and_changes_nothing(changes, message):
    one = explorer()
    before = dict(one.choice)
    with pytest.raises(ValueError, match=message.replace("]", r"\]")):
        one.choose(**changes)
    assert one.choice == before


def test_what_a_reader_types_wrong_stands_beside_it_and_goes_again():
    one = explorer()
    good = dict(one.choice)
    one.choice = {**good, "text": "start x"}
    assert "got x" in one.problem
    assert one.answers
    one.choice = good
    assert one.problem == ""


def test_its_code_rebuilds_what_is_shown():
    at = str(explorer().nodes.index(("norm", 2)))
    one = explorer(state=f"text=a+b+%5D&ablated={at}")
    assert one.choice == {"text": "a b ]", "ablated": at}
    assert f"ablated={at}" in one.as_code()


def test_an_empty_circuit_is_refused():
    model = net()
    circuit, edges = whole(model)
    with pytest.raises(ValueError, match="at least one weight, got none"):
        widgets.CircuitExplorer(model, circuit, edges.iloc[:0], TOKENS, samples(), score)


def test_its_image_has_the_sentence():
    image = explorer().snapshot()
    assert image.startswith(b"\x89PNG")
    assert "weights do the task" in repr(image)
