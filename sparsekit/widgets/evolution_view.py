"""What the race and the branches of a run have in common: they watch trainings in a thread and show their films."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import traitlets as t

from sparsekit.datasets import Dataset
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.population import follow
from sparsekit.plots.colours import Style, styles_of
from sparsekit.plots.palette import LIGHT
from sparsekit.train.history import History
from sparsekit.utils.registry import get, is_registered
from sparsekit.widgets.evolution_film import steps_done
from sparsekit.widgets.live import ENDED, Run, Snapshot
from sparsekit.widgets.sharing import SharedWidget

LABELS = {"static": "Static", "set": "SET", "rigl": "RigL", "gse": "GSE"}
MARKERS = {"static": "s", "set": "^", "rigl": "o", "gse": "D"}  # no two alike, as a second sign beside the colour
WORDS = {
    "static": "Keeps the connections that were drawn at the start.",
    "set": "Drops the weakest connections, grows at random.",
    "rigl": "Drops the weakest, grows where the gradient is largest, looking everywhere.",
    "gse": "Drops the weakest, grows where the gradient is largest in a random sample.",
}
BYTES_PER_SECOND = 2_000_000  # that a running training may send, so that a large film is sent less often


@dataclass(frozen=True)
class Method:
    """How a method is named and drawn.

    Args:
        name: of its rule.
        words: what it does, in one sentence.
        style: colour and marker.
    """

    name: str
    words: str
    style: Style

    @property
    def label(self) -> str:
        """The name as its papers write it."""
        return LABELS.get(self.name, self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return what the browser needs. A colour of the palette goes by its name, so that it follows the theme."""
        token = self.name if self.name in LABELS else ""
        looks = {"colour": self.style.colour, "marker": self.style.marker, "token": token}
        return {"name": self.name, "label": self.label, "words": self.words, **looks}


def methods_of(names: Sequence[str]) -> list[Method]:
    """Return how methods are shown beside each other.

    Example:
        >>> [method.label for method in methods_of(["rigl", "mine"])]
        ['RigL', 'mine']
    """
    styles = styles_of(names)
    known = {name: Style(colour=LIGHT[name], marker=MARKERS[name]) for name in LABELS}
    return [Method(name, _words_of(name), known.get(name, styles[name])) for name in names]


def image_of(data: Dataset) -> list[int]:
    """Return rows and columns of the inputs if they are grey images, and nothing otherwise."""
    shape = data.shape
    if len(shape) == 3 and shape[0] == 1:
        return list(shape[1:])
    side = round(shape[0] ** 0.5)
    return [side, side] if len(shape) == 1 and side * side == shape[0] else []


class EvolutionView(SharedWidget):
    """A view of trainings: their topologies and accuracies by step, and a run in a thread of its own."""

    film = t.List(t.Dict()).tag(sync=True)
    rules = t.List(t.Dict()).tag(sync=True)
    layers = t.List(t.List(t.Int())).tag(sync=True)
    image = t.List(t.Int()).tag(sync=True)
    total = t.Int(1).tag(sync=True)
    done = t.Int(0).tag(sync=True)
    count = t.Int(0).tag(sync=True)
    state = t.Unicode("ready").tag(sync=True)
    problem = t.Unicode("").tag(sync=True)
    verdict = t.Unicode("").tag(sync=True)
    legend = t.Unicode("").tag(sync=True)

    _run: Run | None = None  # also of a view that was never finished, because its arguments were refused

    def __init__(self, **traits: Any):
        super().__init__(**traits)
        self._latest: list[History] = []
        self._wait_for = 0
        self.on_msg(self._on_message)

    def press(self, button: str) -> None:
        """Press a button from code: `"main"` starts, pauses and resumes, and `"stop"` ends the training."""
        if self._run is None:
            return
        if button == "stop":
            self._run.stop()
        elif button == "main":
            actions = {"ready": self._run.start, "running": self._run.pause, "paused": self._run.resume}
            actions.get(self._run.state, lambda: None)()

    def close(self) -> None:
        """Stop the training and take the widget away."""
        if self._run is not None:
            self._run.end()
        super().close()

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, Mapping):
            self._obey(content)

    def _obey(self, content: Mapping[str, Any]) -> None:
        """Do what the browser asks for."""
        self.press(str(content.get("press")))

    def _train(self, experiments: Sequence[Experiment], folder: Path, total: int, **options: Any) -> Run:
        """Return a run of experiments that this view watches. Nothing is trained before it starts."""
        self._run = Run(self._snapshots(experiments, folder, options), total).listen(self._follow)
        return self._run

    def _snapshots(self, experiments: Sequence[Experiment], folder: Path, options: dict) -> Iterator[Snapshot]:
        for histories in follow(experiments, folder, **options):
            self._latest = histories
            yield Snapshot(min(map(steps_done, histories)))

    def _follow(self, run: Run) -> None:
        """Send what there is, at most ten times a second, and less often if it is much."""
        ended = run.state in ENDED
        if not ended and run.state == self.state and self._wait_for > 0:
            self._wait_for -= 1
            return
        size = self._show(run.state, "" if run.error is None else f"The training failed: {run.error}")
        self._wait_for = 10 * size // BYTES_PER_SECOND

    def _show(self, state: str, problem: str = "") -> int:
        """Show the latest histories, and return how many bytes that were."""
        raise NotImplementedError


def _words_of(name: str) -> str:
    if name in WORDS:
        return WORDS[name]
    kind = get("rule", name) if is_registered("rule", name) else None
    first = (getattr(kind, "__doc__", "") or "").strip().partition("\n")[0].partition(": ")
    return first[2] or first[0] or "A rule of your own."
