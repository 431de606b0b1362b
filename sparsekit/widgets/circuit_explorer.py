"""Read a circuit node by node on a text of your own, and ablate nodes while the loss follows."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import torch
import traitlets as t
from torch import Tensor, nn

from sparsekit.analysis.behaviour.circuits import ENDS, Circuit, Loss, activations_in, circuit_loss
from sparsekit.plots.canvas import subplots, titled
from sparsekit.plots.circuits import Node, node_pairs, node_positions, plot_circuit, streams
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state

REMEMBERED = 512  # answers, of about a kilobyte each
SHOWN = 3  # most likely tokens


class CircuitExplorer(SharedWidget):
    """The circuit of a task as a graph, whose nodes say what they compute.

    Point at a node, and bars show its activation at each token of your text. Click it, and it is ablated: from then on
    it has its mean over the data. The title has the loss on the task, and the line below it what the circuit answers to
    your text. With the keyboard you move by Tab and ablate by Enter.

    Args:
        model: whose circuit it is.
        circuit: from `find_circuit`. Nodes of modules that it has not searched have no mean and cannot be ablated.
        edges: its weights, from `edges_of`.
        tokens: how each token is written, without spaces.
        inputs: samples of the task.
        loss: of the outputs for these inputs, as for `find_circuit`.
        text: tokens with spaces between them. None takes the first sample.
        ablated: numbers of the nodes that are ablated, with spaces between them, as `nodes` counts them.
        state: a text that *Copy as code* wrote. It overrides what is chosen.

    Raises:
        ValueError: if there is no edge, a token is unknown, or the text is empty or too long.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> from sparsekit import analysis, models
        >>> net = models.build("gpt", input_shape=(3,), num_classes=2, dim=2, depth=1, heads=1, hidden=2, tied=False)
        >>> x, wiring = torch.tensor([[0, 1, 0], [1, 1, 1]]), analysis.gpt_wiring(net)
        >>> score = lambda outputs: cross_entropy(outputs[:, :, -1], torch.tensor([0, 1]))
        >>> found = analysis.find_circuit(net, x, score, ["embed", "norm"], limit=9.0)
        >>> full = {name: torch.ones(2, dtype=torch.bool) for name in found.nodes}
        >>> whole = Circuit(full, found.means, 0.0, 0.0)
        >>> explorer = CircuitExplorer(net, whole, analysis.edges_of(net, full, wiring), ["a", "b"], x, score)
        >>> explorer.choice["text"]
        'a b a'
    """

    _esm = load_script("shared", "copy_code", "circuit_explorer")
    graph = t.Dict(help="nodes with their positions, edges and streams").tag(sync=True)
    choice = t.Dict().tag(sync=True)
    answers = t.List(t.Dict(), help="what was computed for choices").tag(sync=True)
    problem = t.Unicode("").tag(sync=True)
    shares = ("choice",)

    def __init__(
        self,
        model: nn.Module,
        circuit: Circuit,
        edges: pd.DataFrame,
        tokens: Sequence[str],
        inputs: Tensor,
        loss: Loss,
        *,
        text: str | None = None,
        ablated: str = "",
        state: str = "",
    ):
        if edges.empty:
            raise ValueError("a circuit must have at least one weight, got none. Raise the limit of find_circuit")
        self._model, self._circuit, self._edges, self._tokens = model, circuit, edges, list(tokens)
        self._inputs, self._loss = inputs, loss
        self._at = node_positions(node_pairs(edges))
        self.nodes: list[Node] = list(self._at)
        self._fixed = [number for number, (group, _) in enumerate(self.nodes) if group not in circuit.nodes]
        self._ablatable = [str(number) for number in range(len(self.nodes)) if number not in self._fixed]
        first = " ".join(self._tokens[at] for at in inputs[0].tolist()) if text is None else text
        choice = read_state(state, {"text": first, "ablated": ablated})
        self._read(choice)
        self._compute = lru_cache(REMEMBERED)(self._computed)
        super().__init__(graph=self._graph(), choice=choice)
        self._on_choice(None)
        self.observe(self._on_choice, "choice")

    def choose(self, **changes: Any) -> None:
        """Change the text, or which nodes are ablated, from code.

        Raises:
            ValueError: if there is no such setting or node, or the text cannot be read.
        """
        if others := set(changes) - set(self.choice):
            raise ValueError(f"a setting must be text or ablated, got {sorted(others)}. Choose one of these")
        choice = {**self.choice, **changes}
        self._read(choice)
        self.choice = choice

    @property
    def loss(self) -> float:
        """Loss of the circuit on the task without the ablated nodes."""
        return self._compute(self.choice["text"], self.choice["ablated"])["loss"]

    def complete(self) -> None:
        """Compute what a page without a kernel can show: every node ablated alone, with the text of now."""
        text = self.choice["text"]
        known = {one["ablated"] for one in self.answers if one["text"] == text}
        missing = [ablated for ablated in ("", *self._ablatable) if ablated not in known]
        self.answers = [*self.answers, *(self._compute(text, ablated) for ablated in missing)]

    def sentence(self) -> str:
        """Say what the circuit loses without the ablated nodes."""
        names = [f"{group} {channel}" for group, channel in (self.nodes[at] for at in self._read(self.choice)[1])]
        without = f" without {', '.join(names)}" if names else ""
        return f"{len(self._edges)} weights do the task with a loss of {self.loss:.3f} nats{without}"

    def snapshot(self) -> StaticImage:
        """Draw the graph."""
        figure, (ax,) = subplots(width=9.0, height=4.6)
        titled(plot_circuit(self._edges, ax, tokens=self._tokens), self.sentence())
        return StaticImage.of_figure(figure, self.sentence())

    def _graph(self) -> dict[str, Any]:
        pairs = node_pairs(self._edges)
        columns = list(dict.fromkeys(group for group, _ in self._at))
        number = {node: at for at, node in enumerate(self.nodes)}
        return {
            "columns": columns,
            "nodes": [
                {"group": group, "name": self._tokens[channel] if group in ENDS else str(channel), "x": x, "y": y}
                for (group, channel), (x, y) in self._at.items()
            ],
            "edges": [
                {"from": number[source], "to": number[target], "weight": round(float(weight), 3)}
                for (source, target), weight in zip(pairs, self._edges["weight"].tolist(), strict=True)
            ],
            "streams": [[number[first], number[last]] for first, last in streams(pairs, columns)],
            "fixed": self._fixed,
        }

    def _read(self, choice: dict[str, Any]) -> tuple[Tensor, list[int]]:
        """Return the tokens of the text, and the numbers of the ablated nodes."""
        words, (longest,) = choice["text"].split(), self._inputs.shape[1:]
        if unknown := [word for word in words if word not in self._tokens]:
            raise ValueError(
                f"a token must be one of {' '.join(self._tokens)}, got {unknown[0]}. Put spaces between them"
            )
        if not 1 <= len(words) <= longest:
            raise ValueError(f"a text must have 1 to {longest} tokens, got {len(words)}. Type one, or take some away")
        numbers = choice["ablated"].split()
        if unknown := [number for number in numbers if number not in self._ablatable]:
            may = " ".join(self._ablatable)
            raise ValueError(f"an ablated node must be one of the numbers {may}, got {unknown[0]}. Take another")
        return torch.tensor([[self._tokens.index(word) for word in words]]), sorted({int(one) for one in numbers})

    def _on_choice(self, _change: Any) -> None:
        try:
            self._read(self.choice)
        except ValueError as error:  # of what the reader types, which belongs beside it
            self.problem = str(error)
            return
        with self.hold_sync():
            self.problem = ""
            answer = self._compute(self.choice["text"], self.choice["ablated"])
            if answer not in self.answers:
                self.answers = [*(one for one in self.answers if one["text"] == answer["text"]), answer]

    def _computed(self, text: str, ablated: str) -> dict[str, Any]:
        tokens, numbers = self._read({"text": text, "ablated": ablated})
        nodes = {name: inside.clone() for name, inside in self._circuit.nodes.items()}
        for group, channel in (self.nodes[at] for at in numbers):
            nodes[group][channel] = False
        activations, outputs = activations_in(self._model, tokens, nodes, self._circuit.means)
        chances = outputs[0, :, -1].softmax(0)
        likely = chances.topk(min(SHOWN, len(chances)))
        return {
            "text": text,
            "ablated": ablated,
            "loss": circuit_loss(self._model, self._inputs, self._loss, nodes, self._circuit.means),
            "tokens": text.split(),
            "bars": [self._bars(node, activations) for node in self.nodes],
            "says": [
                [self._tokens[at], round(chance, 3)]
                for at, chance in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
            ],
        }

    def _bars(self, node: Node, activations: dict[str, Tensor]) -> list[float]:
        group, channel = node
        if group not in activations:
            return []
        return [round(value, 3) for value in activations[group][0, :, channel].tolist()]
