"""Halve a network step by step and see what every score before training keeps of it."""

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ipywidgets
from torch import nn

from sparsekit.analysis import Pruning, prunings
from sparsekit.scores import Score, make_score
from sparsekit.utils.registry import names
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.live import Run, Snapshot
from sparsekit.widgets.mask_tiles import LayerTable, MaskTiles
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import StaticPreview

Key = tuple[str, int]  # a score's name and how often the network is halved


class ScoreExplorer(StaticPreview):
    """Masks of all layers under a slider for sparsity and a list of scores, with what lies on a path.

    A view over the pure function `analysis.prunings`. Moving a control computes nothing: each step of the slider halves
    the network, and `run` finds the masks of all scores and steps beforehand, in the background. Until it has come to
    what the controls ask for, the picture before stays. `LivePanel(explorer.run)` shows its progress, with Pause and
    Stop; `explorer.run.wait()` waits for its end.

    Args:
        model: plain, its layers in a chain.
        scores: by name; None takes every registered one, each free to empty a layer.
        halvings: the last step of the slider, `1 / 2 ** halvings` of the weights.
        score: the one to show first; None is the first of all.
        halving: the step to show first.
        presets: button text to settings (`score`, `halving`).
        settings: `batches`, `loss_fn`, `allocation`, `exclude`, `seed`, as for `scores.prune`.

    Attributes:
        run: computes the masks; the metrics of its snapshots are each score's share of connections on a path, in per
            cent, and their steps the halvings.

    Raises:
        ValueError: if there is no such score or step, or the model is refused.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> explorer = ScoreExplorer(nn.Sequential(nn.Linear(16, 8)), {"magnitude": Magnitude()}, halvings=3, halving=1)
        >>> explorer
        magnitude, 50.0 % sparsity: 64 of 128 connections, 64 of them on a path
        >>> explorer.run.wait(timeout=20).step, len(explorer.found)
        (3, 4)
    """

    def __init__(
        self,
        model: nn.Module,
        scores: Mapping[str, Score] | None = None,
        *,
        halvings: int = 10,
        score: str | None = None,
        halving: int = 5,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ):
        self.scores = _every_score() if scores is None else dict(scores)
        self.halvings, self._presets = halvings, dict(presets or {})
        score = score or next(iter(self.scores), "")
        self._check(score, halving)
        # The run comes later than this call: a training in between must not change what it finds.
        model, settings["batches"] = copy.deepcopy(model), list(settings.get("batches", ()))
        self._done: dict[Key, Pruning] = {}
        self._lock = threading.Lock()
        self.run = Run(self._find(model, settings), total=len(self.scores) * (halvings + 1))
        self.controls = Controls(self._fields(), {"sparsity": halving, "score": score}, title="What to keep")
        buttons = [Field(name=text, kind="button", label=text) for text in self._presets]
        self.presets = Controls(buttons, {}, title="Settings to try")
        self.words = Controls([Field(name="words", kind="text")], {"words": ""}, title="What is shown")
        self.masks, self.table = MaskTiles(), LayerTable()
        (self.shown,) = prunings(model, {score: self.scores[score]}, [0.5**halving], **settings)
        self._draw(self.shown)
        self.controls.observe(self._refresh, "values")
        self.presets.on_press(lambda name: self.choose(**self._presets[name]))
        self.run.listen(self._refresh)
        self.view = ipywidgets.VBox([self.controls, self.presets, self.words, self.masks, self.table])

    def choose(self, *, score: str | None = None, halving: int | None = None) -> None:
        """Move controls from code; what is None stays.

        Raises:
            ValueError: if there is no such score or step.
        """
        chosen = {"score": score, "sparsity": halving}
        values = {**self.controls.values, **{name: value for name, value in chosen.items() if value is not None}}
        self._check(values["score"], values["sparsity"])
        self.controls.set(**values)

    @property
    def found(self) -> list[Pruning]:
        """What the run found so far, in its order: for `analysis.collapse_table`."""
        return list(self._done.values())

    def sentence(self) -> str:
        """Say what is shown, how much of it lies on a path, and which layers are empty."""
        one = self.shown
        sparsity = mask_encoding.percent(1 - one.density)
        empty = f"; nothing left in {', '.join(one.empty)}" if one.empty else ""
        return (
            f"{one.score}, {sparsity} sparsity: {one.topology.count:,} of {one.topology.size:,} connections, "
            f"{one.effective.count:,} of them on a path{empty}"
        )

    def snapshot(self) -> Picture:
        """Draw the masks and the table as they are now."""
        parts = [
            rendering.text([self.sentence()], bold=1),
            rendering.tiles(self.masks.shown, self.masks.captions),
            rendering.columns([self.table.head, *self.table.rows]),
        ]
        return Picture(rendering.png(rendering.stack(parts)), self.sentence())

    def _find(self, model: nn.Module, settings: Mapping[str, Any]) -> Iterator[Snapshot]:
        steps = range(self.halvings + 1)
        found: Iterable[Pruning] = prunings(model, self.scores, [0.5**step for step in steps], **settings)
        for place, one in enumerate(found):
            halving = place // len(self.scores)
            metrics = {one.score: 100 * one.useful}
            self._done[one.score, halving] = one
            yield Snapshot(halving, metrics)

    def _refresh(self, _cause: Any) -> None:
        """Show what the controls ask for, if it is there; the run and the controls come on different threads."""
        with self._lock:
            values = self.controls.values
            wanted = self._done.get((values["score"], int(values["sparsity"])))
            is_missing = wanted is None and (values["score"], 0.5 ** values["sparsity"]) != _key_of(self.shown)
            self._note("not computed yet, the picture is that before" if is_missing else "")
            if wanted is not None and _key_of(wanted) != _key_of(self.shown):
                self._draw(wanted)

    def _draw(self, one: Pruning) -> None:
        self.shown = one
        facts = self.masks.show(one.topology)
        counts = [*(layer.count for layer in one.effective.values()), one.effective.count]
        self.table.show(facts, more={"On a path": [f"{count:,}" for count in counts]})
        self.words.set(words=self.sentence())

    def _note(self, text: str) -> None:
        if self.controls.fields[0]["help"] != text:
            self.controls.change("sparsity", help=text)

    def _fields(self) -> list[Field]:
        last, options = self.halvings, options_of(self.scores)
        return [
            Field(name="sparsity", kind="range", label="Sparsity", low=0, high=last, step=1, format="halvings"),
            Field(name="score", kind="choice", label="Score", options=options),
        ]

    def _check(self, score: str, halving: int) -> None:
        if score not in self.scores:
            raise ValueError(f"score must be one of {', '.join(self.scores) or '(none)'}, got {score!r}")
        if not 0 <= halving <= self.halvings:
            raise ValueError(f"halving must lie in [0, {self.halvings}], got {halving}; raise halvings")

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _every_score() -> dict[str, Score]:
    return {name: make_score(name, min_per_layer=0) for name in names("score")}


def _key_of(one: Pruning) -> tuple[str, float]:
    return one.score, one.density
