"""Halve a network step by step, and see what every score before training keeps of it."""

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
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.live import Run, Snapshot
from sparsekit.widgets.mask_tiles import LayerTable, MaskTiles
from sparsekit.widgets.rendering import StaticImage

Key = tuple[str, int]  # a score's name and how often the network is halved


class ScoreExplorer(StaticPreview):
    """Masks of all layers stand under a slider for sparsity and a list of scores, with what lies on a path.

    This is a view over the pure function `analysis.prunings`. Each step of the slider halves the network. Moving a
    control computes nothing, because `run` finds the masks of all scores and steps in the background. Until it has come
    to what the controls ask for, the masks before stay. `LivePanel(explorer.run)` shows its progress, with Pause and
    Stop, and `explorer.run.wait()` waits for its end.

    Args:
        model: plain, its layers in a chain.
        scores: by name. None takes every registered one, each free to empty a layer.
        halvings: the last step of the slider, `1 / 2 ** halvings` of the weights.
        score: the one to show first, or None for the first of all.
        halving: the step to show first.
        presets: button text to settings (`score`, `halving`).
        settings: `batches`, `loss_fn`, `allocation`, `exclude`, `seed`, as for `scores.prune`.

    Attributes:
        run: computes the masks. The metrics of its snapshots are each score's share of connections on a path, in per
            cent, and their steps are the halvings.
        pruning: what the masks show.

    Raises:
        ValueError: if there is no such score or step, or `prunings` refuses the model.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> explorer = ScoreExplorer(nn.Sequential(nn.Linear(16, 8)), {"magnitude": Magnitude()}, halvings=3, halving=1)
        >>> explorer
        magnitude, 50.0 % sparsity: 64 of 128 connections remain, 64 of them on a path
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
        # The run comes later than this call, and a training in between must not change what it finds.
        model, settings["batches"] = copy.deepcopy(model), list(settings.get("batches", ()))
        self._prunings: dict[Key, Pruning] = {}
        self._lock = threading.Lock()
        self.run = Run(self._prune_all(model, settings), total=len(self.scores) * (halvings + 1))
        self.controls = Controls(self._fields(), {"sparsity": halving, "score": score}, title="What to keep")
        buttons = [Field(name=text, kind="button", label=text) for text in self._presets]
        self.presets = Controls(buttons, {}, title="Settings to try")
        self.words = Controls([Field(name="words", kind="text")], {"words": ""}, title="In words")
        self.masks, self.table = MaskTiles(), LayerTable()
        (self.pruning,) = prunings(model, {score: self.scores[score]}, [0.5**halving], **settings)
        self._draw(self.pruning)
        self.controls.observe(self._refresh, "values")
        self.presets.on_press(lambda name: self.choose(**self._presets[name]))
        self.run.listen(self._refresh)
        self.view = ipywidgets.VBox([self.controls, self.presets, self.words, self.masks, self.table])

    def choose(self, *, score: str | None = None, halving: int | None = None) -> None:
        """Move controls from code. What is None stays.

        Raises:
            ValueError: if there is no such score or step.
        """
        changes = {"score": score, "sparsity": halving}
        values = {**self.controls.values, **{name: value for name, value in changes.items() if value is not None}}
        self._check(values["score"], values["sparsity"])
        self.controls.set(**values)

    @property
    def found(self) -> list[Pruning]:
        """What the run found so far, in its order, for `analysis.collapse_table`."""
        return list(self._prunings.values())

    def sentence(self) -> str:
        """Say which masks these are, how much of them lies on a path, and which layers are empty."""
        one = self.pruning
        sparsity = mask_encoding.percent(1 - one.density)
        empty = f". There is nothing left in {', '.join(one.empty)}" if one.empty else ""
        return (
            f"{one.score}, {sparsity} sparsity: {one.topology.count:,} of {one.topology.size:,} connections remain, "
            f"{one.effective.count:,} of them on a path{empty}"
        )

    def snapshot(self) -> StaticImage:
        """Draw the masks and the table as they are now."""
        parts = [
            rendering.text([self.sentence()], bold=1),
            rendering.tiles(self.masks.packed_masks, self.masks.captions),
            rendering.columns([self.table.head, *self.table.rows]),
        ]
        return StaticImage(rendering.png(rendering.stack(parts)), self.sentence())

    def _prune_all(self, model: nn.Module, settings: Mapping[str, Any]) -> Iterator[Snapshot]:
        steps = range(self.halvings + 1)
        results: Iterable[Pruning] = prunings(model, self.scores, [0.5**step for step in steps], **settings)
        for number, one in enumerate(results):
            halving = number // len(self.scores)
            metrics = {one.score: 100 * one.useful}
            self._prunings[one.score, halving] = one
            yield Snapshot(halving, metrics)

    def _refresh(self, _cause: Any) -> None:
        """Show what the controls ask for, if it is there. The run and the controls come on different threads."""
        with self._lock:
            values = self.controls.values
            pruning = self._prunings.get((values["score"], int(values["sparsity"])))
            is_missing = pruning is None and (values["score"], 0.5 ** values["sparsity"]) != _key_of(self.pruning)
            self._set_help("This is not computed yet, so you still see the masks before" if is_missing else "")
            if pruning is not None and _key_of(pruning) != _key_of(self.pruning):
                self._draw(pruning)

    def _draw(self, one: Pruning) -> None:
        self.pruning = one
        facts = self.masks.show(one.topology)
        counts = [*(layer.count for layer in one.effective.values()), one.effective.count]
        self.table.show(facts, more={"On a path": [f"{count:,}" for count in counts]})
        self.words.set(words=self.sentence())

    def _set_help(self, text: str) -> None:
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
            raise ValueError(f"halving must lie in [0, {self.halvings}], got {halving}. Raise halvings")

    def _widget(self) -> ipywidgets.VBox:
        return self.view


def _every_score() -> dict[str, Score]:
    return {name: make_score(name, min_per_layer=0) for name in names("score")}


def _key_of(one: Pruning) -> tuple[str, float]:
    return one.score, one.density
