"""The living network: every connection of a small network as a line that answers, with a pad to draw an input on."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import traitlets as t
from torch import nn

from sparsekit import datasets
from sparsekit.datasets import Dataset
from sparsekit.experiments.load import load_model
from sparsekit.experiments.record import read_experiment
from sparsekit.utils.checks import must_be
from sparsekit.widgets.base import load_script
from sparsekit.widgets.live import ENDED, Run
from sparsekit.widgets.mask_encoding import percent
from sparsekit.widgets.network_film import NetworkFilm
from sparsekit.widgets.network_frames import Frame, on_paths, without
from sparsekit.widgets.network_order import order_of_units
from sparsekit.widgets.network_still import still
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, Value, read_state

Films = NetworkFilm | nn.Module | Mapping[str, NetworkFilm | nn.Module]
SCRIPTS = ("chart", "forward", "graph_layout", "net_layout", "net_draw", "net_crowd", "net_input", "pad")
PARTS = (
    "network_words",
    "network_state",
    "network_data",
    "network_page",
    "network_painter",
    "network_pointing",
    "network_view",
)
NUMBER, PAIRS, TRIPLES = r"\d+", r"\d+\.\d+(_\d+\.\d+)*", r"\d+\.\d+\.\d+(_\d+\.\d+\.\d+)*"
STATE = dict.fromkeys(("network", "step", "kept", "example"), NUMBER) | {  # what `network_state.js` writes
    "lines": "weights|signal",
    "units": PAIRS,
    "links": TRIPLES,
    "drawn": "([0-9a-f]{2})+",
}


class NetworkView(SharedWidget):
    """A network view draws each weight of a small network as a line, and computes in the browser what follows from it.

    Scrub through its training, take away its weakest connections, point at a unit to see what it looks for, cut units
    and lines, and draw an input of your own. The browser gets everything once and needs no kernel afterwards.

    Args:
        network: a film, a network as it is, or several of them by name, for the same data.
        data: what a network is tested on. A film has its own.
        run: a running training that is recorded by the (first) film, whose newest frame is then shown as it comes.
        state: what the reader did in another view of these networks, as "Copy as code" writes it.

    Raises:
        TypeError: if a part is something else, or data are missing.
        ValueError: if a network is no chain of linear layers or too large, networks differ in data, or the state is
            none.

    Example:
        >>> import sparsekit as sk
        >>> data = sk.datasets.load("digits")
        >>> model = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=(8,))
        >>> view = NetworkView(model, data)
        >>> view.kept, view.cut_units, len(view.film)
        (None, [], 1)
    """

    _esm = load_script("shared", "copy_code", *SCRIPTS, *PARTS)
    networks = t.List(t.Dict()).tag(sync=True)
    inputs = t.Bytes().tag(sync=True)
    labels = t.Bytes().tag(sync=True)
    facts = t.Dict().tag(sync=True)
    frame = t.Bytes().tag(sync=True)
    state = t.Unicode("").tag(sync=True)
    cut_units = t.List(help="[column, unit] of each unit that the reader has cut").tag(sync=True)
    cut_links = t.List(help="[layer, output, input] of each connection that the reader has cut").tag(sync=True)
    kept = t.Int(None, allow_none=True, help="connections left by the pruning chart, or None for all").tag(sync=True)
    rewiring = t.Int(0, help="rewirings before the frame that is shown").tag(sync=True)
    drawn = t.List(help="the input that the reader drew, as the network takes it, or nothing").tag(sync=True)

    def __init__(self, network: Films, data: Dataset | None = None, *, run: Run | None = None, state: str = ""):
        self.films = _films(network, data)
        self.film = next(iter(self.films.values()))
        self._last_step, self._is_whole = self.film.step, run is None
        inputs = _packed(self.film.inputs)
        super().__init__(
            networks=self._networks(),
            inputs=inputs.tobytes(),
            labels=self.film.labels.astype("<u2").tobytes(),
            facts={**_facts(self.film), "width": inputs.itemsize, "is_live": run is not None},
            rewiring=self.film.latest.rewiring,
            state=state,
        )
        if run is not None:
            run.listen(self._follow)

    @classmethod
    def of_run(cls, folder: str | Path, *, root: str | Path | None = None, state: str = "") -> Self:
        """Show the trained network of a run, which `sk.run` has left in a folder.

        Args:
            folder: of the run.
            root: the data folder, as in `datasets.load`.
            state: as for the class.
        """
        experiment = read_experiment(folder)
        data = datasets.load(experiment.data, root=root, **experiment.data_settings)
        return cls(load_model(folder, root=root), data, state=state)

    @t.validate("state")
    def _check_state(self, proposal: t.Bunch) -> str:
        for name, text in _settings_in(proposal.value).items():
            if not re.fullmatch(STATE[name], text):
                raise ValueError(
                    f"the state must be as in step=855&kept=40&units=1.17, got {name}={text}. "
                    "Copy it from a view by its button Copy as code"
                )
        return proposal.value

    @property
    def shared(self) -> dict[str, Value]:
        """The state of now, setting by setting."""
        return dict(_settings_in(self.state))

    def current_frame(self) -> Frame:
        """Return the network as the reader sees it, without what was pruned and cut, with its accuracy."""
        words = _settings_in(self.state)
        film = list(self.films.values())[int(words.get("network", 0))]
        step = int(words.get("step", film.step))
        frame = min(film.frames, key=lambda one: abs(one.step - step))
        cut = without(film.shapes, frame, kept=self.kept, units=self.cut_units, links=self.cut_links)
        return film.measured(cut)

    def sentence(self) -> str:
        """Say how large the network is, how well it does, and how much of it lies on no path."""
        film, last = self.film, self.film.frames[-1]
        idle = int((~on_paths(film.shapes, last)).sum())
        units = [film.shapes[0][1], *(outputs for outputs, _ in film.shapes)]
        others = "".join(f" Another is {name}." for name in list(self.films)[1:])
        right = f"{percent(last.accuracy)} of {len(film.labels):,} test examples"
        return (
            f"Living network of {', '.join(map(str, units[:-1]))} and {units[-1]} units. "
            f"It has {last.count:,} connections and gets {right} right. "
            f"{idle:,} connections lie on no path from an input to a class.{others}"
        )

    def snapshot(self) -> StaticImage:
        """Draw the network as it is in the end, with a test example, and the accuracy over its training."""
        return StaticImage(still(self.film), self.sentence())

    def _networks(self) -> list[dict[str, Any]]:
        return [_network(name, film) for name, film in self.films.items()]

    def _follow(self, run: Run) -> None:
        """Send the browser what the training has added since the last time, and the whole film in the end."""
        frames = [frame for frame in list(self.film.kept_frames) if frame.step > self._last_step]
        if frames:
            self._last_step = frames[-1].step
            self.frame = b"".join(frame.encode() for frame in frames)
        if run.state in ENDED and not self._is_whole:
            self._is_whole = True
            self.networks = self._networks()


def _settings_in(state: str) -> dict[str, str]:
    """Return the settings that a state names."""
    return {name: text for name, text in read_state(state, dict.fromkeys(STATE, "")).items() if text}


def _films(network: Films, data: Dataset | None) -> dict[str, NetworkFilm]:
    named = dict(network) if isinstance(network, Mapping) else {"": network}
    if not named:
        raise ValueError("a network view must have at least one network, got none. Give a film or a model")
    films = {str(name): _film(one, data) for name, one in named.items()}
    first, *others = films.values()
    if any(film.inputs.shape != first.inputs.shape or (film.inputs != first.inputs).any() for film in others):
        raise ValueError("all networks must be tested on the same examples, got others. Give their films the same data")
    return films


def _film(network: Any, data: Dataset | None) -> NetworkFilm:
    if isinstance(network, NetworkFilm):
        return network
    must_be("network", network, nn.Module, "Give a NetworkFilm, a model, or a mapping of them")
    if data is None:
        raise TypeError("a network needs the data that it is tested on, got None. Write NetworkView(model, data)")
    return NetworkFilm(network, data)


def _network(name: str, film: NetworkFilm) -> dict[str, Any]:
    order = order_of_units(film.shapes, film.frames[-1], film.image)
    return {"name": name, "shapes": [list(shape) for shape in film.shapes], "film": film.encode(), "order": order}


def _packed(inputs: np.ndarray) -> np.ndarray:
    """Return numbers as float16 where that loses nothing, as for digits, and else as float32."""
    halves = inputs.astype("<f2")
    return halves if (halves.astype(np.float32) == inputs).all() else inputs.astype("<f4")


def _facts(film: NetworkFilm) -> dict[str, Any]:
    count, num_inputs = film.inputs.shape
    low, high = float(film.inputs.min()), float(film.inputs.max())
    image = None if film.image is None else list(film.image)
    return {
        "count": count,
        "num_inputs": num_inputs,
        "low": low,
        "high": high if high > low else low + 1,
        "image": image,
        "words": _words(film.data, num_inputs, image, count),
    }


def _words(data: Dataset, num_inputs: int, image: Sequence[int] | None, count: int) -> dict[str, Any]:
    """Return the words for inputs, examples and classes, which are pixels and digits where the data are such."""
    has_digits = data.classes == tuple("0123456789")
    example = ("digit" if has_digits else "image") if image else "example"
    input_word = "pixel" if image else "value"
    return {
        "example": example,
        "examples": f"{example}s",
        "task": "read handwriting" if data.name == "digits" else "tell the classes apart",
        "nothing": "read nothing yet" if data.name == "digits" else "tell nothing apart yet",
        "inputs": f"{num_inputs:,} {input_word}s",
        "input": f"a {input_word}",
        "aClass": "a digit" if has_digits else "a class",
        "classes": f"{data.num_classes} {'digits' if has_digits else 'classes'}",
        "class_word": "Digit" if has_digits else "",
        "names": list(data.classes),
        "numInputs": num_inputs,
        "numClasses": data.num_classes,
        "numExamples": count,
    }
