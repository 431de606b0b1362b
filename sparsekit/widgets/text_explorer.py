"""Let language models of several densities write on from your prompt, beside the dense one."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import traitlets as t
from torch import nn
from torch.nn.functional import cross_entropy

from sparsekit.datasets import Dataset
from sparsekit.datasets.windows import characters_per_token
from sparsekit.evaluation import evaluate
from sparsekit.models.generating import generate, surprise
from sparsekit.utils.checks import check_integer
from sparsekit.utils.seeds import generator
from sparsekit.widgets.base import load_script
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state
from sparsekit.widgets.text_still import text_figure

DENSE = ("dense", 1.0)
REQUEST = ("prompt", "temperature", "seed")  # what a text depends on beside its writer
HOTTEST = 2.0  # where letters come nearly at random
REMEMBERED = 512  # texts, of about 10 kB each
BATCH = 128  # windows that are measured at once

Writer = tuple[str, float]  # a method and a density


class TextExplorer(SharedWidget):
    """Language models continue a text that you type, and you drag along their densities.

    A chart shows how many nats each network needs for a character of the test text. Drag along it, and the network of
    that density writes, beside the dense one. Characters are marked where the dense network finds them unlikely. Texts
    are written once, so that going back costs nothing. The browser asks for those of the other densities while you
    read, one after the other.

    Args:
        dense: the network with all connections.
        models: a network for each density, for each method.
        data: what they learned from, whose first test windows measure them.
        method, density: what to show first. None takes the first method and its middle density.
        prompt: to continue.
        temperature: 0 takes the most likely token each time, and 1 draws as the network expects. Up to 2.
        seed: of the draws.
        count: tokens to write.
        measured: how many windows of the test text measure each network.
        state: a text that *Copy as code* wrote. It overrides what is chosen.

    Raises:
        ValueError: if the data are no text, there is no such network, or the prompt cannot be read.

    Example:
        >>> from sparsekit import datasets, models
        >>> data = datasets.load("kjv-char", context=8)
        >>> net = models.build("gpt", input_shape=(8,), num_classes=73, dim=8, depth=1)
        >>> explorer = TextExplorer(net, {"RigL": {0.1: net, 0.3: net}}, data, count=5, measured=2)
        >>> explorer.choose(density=0.1)
        >>> len(explorer.text)
        16
    """

    _esm = load_script("shared", "chart", "copy_code", "text_explorer")
    methods = t.List(t.Dict()).tag(sync=True)
    dense_loss = t.Float().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    request = t.Dict(help="what the texts continue, and how").tag(sync=True)
    texts = t.List(t.Dict()).tag(sync=True)
    problem = t.Unicode("").tag(sync=True)
    shares = ("choice",)

    def __init__(
        self,
        dense: nn.Module,
        models: Mapping[str, Mapping[float, nn.Module]],
        data: Dataset,
        *,
        method: str | None = None,
        density: float | None = None,
        prompt: str = "And he said",
        temperature: float = 0.8,
        seed: int = 0,
        count: int = 120,
        measured: int = 100,
        state: str = "",
    ):
        if data.tokenizer is None:
            raise ValueError(f'data must be text, got {data.name}. Load it, as in datasets.load("kjv-char")')
        self._data, self._count, self._measured = data, count, measured
        self._models = _by_writer(dense, models)
        self._write = lru_cache(REMEMBERED)(self._written)
        method = next(iter(models), "") if method is None else method
        density = float(_middle(models.get(method, {})) if density is None else density)
        choice = {"method": method, "density": density, "prompt": prompt, "temperature": float(temperature)}
        choice = read_state(state, {**choice, "seed": seed})
        self._check(choice)
        self._losses = {writer: self._loss_of(model) for writer, model in self._models.items()}
        super().__init__(methods=self._lines(models), dense_loss=self._losses[DENSE], choice=choice)
        self._answer()
        self.observe(self._on_choice, "choice")
        self.on_msg(self._on_message)

    def choose(self, **changes: Any) -> None:
        """Move the figure from code: method, density, prompt, temperature or seed. The others stay.

        Raises:
            ValueError: if there is no such setting or network, or the prompt cannot be read.
        """
        if others := set(changes) - set(self.choice):
            raise ValueError(f"a setting must be one of {', '.join(self.choice)}, got {sorted(others)}. Choose one")
        choice = {**self.choice, **changes}
        self._check(choice)
        self.choice = choice

    @property
    def text(self) -> str:
        """What the chosen network writes, with the prompt before it."""
        return self.request["prompt"] + _joined(self._pieces(self._writer))

    @property
    def dense_text(self) -> str:
        """What the dense network writes, with the prompt before it."""
        return self.request["prompt"] + _joined(self._pieces(DENSE))

    def complete(self) -> None:
        """Write the texts of all networks, among which a page without a kernel can choose."""
        for writer in self._models:
            self._add(writer)

    def sentence(self) -> str:
        """Say how far the chosen network is behind the dense one."""
        loss, dense = self._losses[self._writer], self.dense_loss
        side = (
            f"{abs(loss - dense):.2f} nats per character {'behind' if loss >= dense else 'ahead of'} the dense network"
        )
        return f"{self.choice['method']} with {self.choice['density']:.3g} of the connections is {side}"

    def snapshot(self) -> StaticImage:
        """Draw the curve, and both texts below it."""
        lines = {one["name"]: list(zip(one["densities"], one["losses"], strict=True)) for one in self.methods}
        texts = {
            f"{self.choice['method']}, {self.choice['density']:.3g}": self._pieces(self._writer),
            "dense": self._pieces(DENSE),
        }
        figure = text_figure(self.sentence(), lines, self._losses[DENSE], self._writer, self.request["prompt"], texts)
        return StaticImage.of_figure(figure, self.sentence())

    @property
    def _writer(self) -> Writer:
        return self.choice["method"], self.choice["density"]

    def _pieces(self, writer: Writer) -> tuple[tuple[str, float], ...]:
        return self._write(writer, *(self.request[name] for name in REQUEST))

    def _check(self, choice: Mapping[str, Any]) -> None:
        method, density = choice["method"], choice["density"]
        if (method, density) not in self._models or method == DENSE[0]:
            known = ", ".join(f"{name} at {share:g}" for name, share in list(self._models)[1:])
            raise ValueError(
                f"method and density must be one of {known or '(none)'}, got {method} at {density}. Choose one"
            )
        if not choice["prompt"]:
            raise ValueError("a prompt must have at least one character, got none. Begin with a letter, for example")
        check_integer("seed", choice["seed"], least=0)
        self._data.tokenizer.encode(choice["prompt"])
        if not 0 <= choice["temperature"] <= HOTTEST:
            raise ValueError(f"temperature must lie in 0 to {HOTTEST:g}, got {choice['temperature']}. Try 0.8")

    def _on_choice(self, _change: Any) -> None:
        try:
            self._check(self.choice)
        except (ValueError, TypeError) as error:  # of what the reader types, which belongs beside it
            self.problem = str(error)
            return
        self._answer()

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """Write for a network that the browser will need soon."""
        asked = content.get("write") if isinstance(content, dict) else None
        for writer in self._models:
            if asked == list(writer):
                self._add(writer)

    def _answer(self) -> None:
        """Hand the browser the texts of what is chosen. Those of another prompt go."""
        with self.hold_sync():
            request = {name: self.choice[name] for name in REQUEST}
            if request != self.request:
                self.request, self.texts = request, []
            self.problem = ""
            self._add(DENSE)
            self._add(self._writer)

    def _add(self, writer: Writer) -> None:
        method, density = writer
        if all((one["method"], one["density"]) != writer for one in self.texts):
            pieces = [list(piece) for piece in self._pieces(writer)]
            self.texts = [*self.texts, {"method": method, "density": density, "pieces": pieces}]

    def _written(self, writer: Writer, prompt: str, temperature: float, seed: int) -> tuple[tuple[str, float], ...]:
        """Let a network write, and say how likely the dense one finds each token."""
        tokenizer, (context,) = self._data.tokenizer, self._data.shape
        start = tokenizer.encode(prompt)
        draws = generator(seed, "text")
        tokens = generate(
            self._models[writer], start, self._count, context=context, temperature=temperature, generator=draws
        )
        nats = surprise(self._models[DENSE], tokens, context=context)[len(start) - 1 :] if self._count else []
        texts = [tokenizer.decode(tokens[at : at + 1]) for at in range(len(start), len(tokens))]
        return tuple((text, round(float(one), 2)) for text, one in zip(texts, nats, strict=True))

    def _loss_of(self, model: nn.Module) -> float:
        """Return how many nats a network needs for a character of the test text."""
        part = self._data.test.take(min(self._measured, len(self._data.test)))
        batches = zip(part.inputs.split(BATCH), part.labels.split(BATCH), strict=True)
        return evaluate(model, batches, cross_entropy).loss / characters_per_token(part, self._data.tokenizer)

    def _lines(self, models: Mapping[str, Mapping[float, nn.Module]]) -> list[dict]:
        return [
            {"name": name, "densities": sorted(of), "losses": [self._losses[name, share] for share in sorted(of)]}
            for name, of in models.items()
        ]


def _by_writer(dense: nn.Module, models: Mapping[str, Mapping[float, nn.Module]]) -> dict[Writer, nn.Module]:
    sparse = {(name, density): one for name, of in models.items() for density, one in sorted(of.items())}
    return {DENSE: dense} | sparse


def _middle(models: Mapping[float, nn.Module]) -> float:
    densities = sorted(models)
    return densities[len(densities) // 2] if densities else 0.0


def _joined(pieces: tuple[tuple[str, float], ...]) -> str:
    return "".join(text for text, _ in pieces)
