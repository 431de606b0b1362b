"""Halve a network step by step, and see what every score before training keeps of it."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import traitlets as t
from torch import nn

from sparsekit.analysis import Pruning, prunings
from sparsekit.scores import Score, make_score
from sparsekit.topology import Topology
from sparsekit.utils.registry import names
from sparsekit.widgets import mask_encoding, rendering
from sparsekit.widgets.base import load_script
from sparsekit.widgets.live import Run, Snapshot
from sparsekit.widgets.mask_tiles import layer_dicts
from sparsekit.widgets.rendering import StaticImage
from sparsekit.widgets.sharing import SharedWidget, read_state
from sparsekit.widgets.stills import curve_rgba

Key = tuple[str, int]  # a score's name and how often the network is halved
ACTIONS: dict[str, Callable[[Run], Any]] = {"ready": Run.start, "running": Run.pause, "paused": Run.resume}


class ScoreExplorer(SharedWidget):
    """Masks of all layers stand under a curve for each score, along which you halve the network step by step.

    This is a view over the pure function `analysis.prunings`. The height of a curve is the share of connections that
    lie on a path. `run` finds the masks of all scores and steps in the background, and the browser keeps them, so
    moving along a curve computes nothing. What is not found yet is grey and says so. The figure's own buttons start,
    pause and stop the run, and `explorer.run.wait()` waits for its end.

    Args:
        model: plain, its layers in a chain.
        scores: by name. None takes every registered one, each free to empty a layer.
        halvings: the last step, `1 / 2 ** halvings` of the weights.
        score: the one to show first, or None for the first of all.
        halving: the step to show first.
        presets: button text to settings (`score`, `halving`).
        state: a text that *Copy as code* wrote. It overrides `score` and `halving`.
        settings: `batches`, `loss_fn`, `allocation`, `exclude`, `seed`, as for `scores.prune`.

    Attributes:
        run: computes the masks. The metrics of its snapshots are each score's share of connections on a path, in per
            cent, and their steps are the halvings.

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

    _esm = load_script("shared", "chart", "copy_code", "layer_rows", "score_explorer")
    layers = t.List(t.Dict()).tag(sync=True)
    score_names = t.List(t.Unicode()).tag(sync=True)
    halvings = t.Int().tag(sync=True)
    choice = t.Dict().tag(sync=True)
    presets = t.List(t.Dict()).tag(sync=True)
    facts = t.List(t.Dict()).tag(sync=True)
    bits = t.Bytes(b"").tag(sync=True)
    progress = t.Dict().tag(sync=True)
    shares = ("choice",)

    def __init__(
        self,
        model: nn.Module,
        scores: Mapping[str, Score] | None = None,
        *,
        halvings: int = 10,
        score: str | None = None,
        halving: int = 5,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        state: str = "",
        **settings: Any,
    ):
        self.scores = _every_score() if scores is None else dict(scores)
        choice = read_state(state, {"score": score or next(iter(self.scores), ""), "halving": halving})
        _check(choice, self.scores, halvings)
        # The run comes later than this call, and a training in between must not change what it finds.
        model, settings["batches"] = copy.deepcopy(model), list(settings.get("batches", ()))
        self._prunings: dict[Key, Pruning] = {}
        self._lock = threading.Lock()
        shown, start = choice["score"], choice["halving"]
        (first,) = prunings(model, {shown: self.scores[shown]}, [0.5**start], **settings)
        self._first = {(shown, start): first}
        self.run = Run(self._prune_all(model, settings, halvings), total=len(self.scores) * (halvings + 1))
        super().__init__(
            layers=layer_dicts(first.topology.shapes, _tile_size),
            score_names=list(self.scores),
            halvings=halvings,
            choice=choice,
            presets=[{"text": text, **one} for text, one in (presets or {}).items()],
        )
        self._listen()

    def _listen(self) -> None:
        """Follow the run and the buttons of the figure."""
        self._tell_browser(self.run)
        self.run.listen(self._tell_browser)
        self.on_msg(self._on_message)

    def choose(self, *, score: str | None = None, halving: int | None = None) -> None:
        """Move the figure from code. What is None stays.

        Raises:
            ValueError: if there is no such score or step.
        """
        changes = {"score": score, "halving": halving}
        choice = {**self.choice, **{name: value for name, value in changes.items() if value is not None}}
        _check(choice, self.scores, self.halvings)
        self.choice = choice

    def press(self, name: str) -> None:
        """Press a button from code, `"main"` (which starts, pauses or resumes) or `"stop"`."""
        action = Run.stop if name == "stop" else ACTIONS.get(self.run.state)
        if action is not None:
            action(self.run)

    @property
    def pruning(self) -> Pruning | None:
        """What the masks show, or None as long as it is not found."""
        return self._known().get((self.choice["score"], self.choice["halving"]))

    @property
    def found(self) -> list[Pruning]:
        """What the run found so far, in its order, for `analysis.collapse_table`."""
        return list(self._prunings.values())

    def sentence(self) -> str:
        """Say which masks these are, how much of them lies on a path, and which layers are empty."""
        one = self.pruning
        if one is None:
            return f"{self.choice['score']}, halved {self.choice['halving']} times: this is not computed yet"
        sparsity = mask_encoding.percent(1 - one.density)
        empty = f". There is nothing left in {', '.join(one.empty)}" if one.empty else ""
        return (
            f"{one.score}, {sparsity} sparsity: {one.topology.count:,} of {one.topology.size:,} connections remain, "
            f"{one.effective.count:,} of them on a path{empty}"
        )

    def snapshot(self) -> StaticImage:
        """Draw the masks as they are now."""
        parts, one = [rendering.text([self.sentence()], bold=1), self._still_curves()], self.pruning
        if one is not None:
            packed = mask_encoding.pack_topology(one.topology)
            facts = mask_encoding.all_facts(packed)
            parts.append(rendering.tiles(packed, [mask_encoding.caption(fact) for fact in facts]))
        return StaticImage(rendering.png(rendering.stack(parts)), self.sentence())

    def _still_curves(self) -> rendering.Rgba:
        known = {key: one.useful for key, one in self._known().items()}
        steps = range(self.halvings + 1)
        lines = {name: [(step, known[name, step]) for step in steps if (name, step) in known] for name in self.scores}
        score, halving = self.choice["score"], self.choice["halving"]
        point = (halving, known[score, halving]) if (score, halving) in known else None
        ticks = {float(step): f"{2**step:,}×" for step in steps}
        return curve_rgba(lines, score, point, ticks=ticks, x="compression", y="connections on a path")

    def _known(self) -> dict[Key, Pruning]:
        return {**self._first, **self._prunings}

    def _prune_all(self, model: nn.Module, settings: Mapping[str, Any], halvings: int) -> Iterator[Snapshot]:
        densities = [0.5**step for step in range(halvings + 1)]
        results: Iterable[Pruning] = prunings(model, self.scores, densities, **settings)
        for number, one in enumerate(results):
            halving = number // len(self.scores)
            self._prunings[one.score, halving] = one
            yield Snapshot(halving, {one.score: 100 * one.useful})

    def _tell_browser(self, run: Run) -> None:
        """Hand the browser all that is known. The run and the buttons come on different threads."""
        with self._lock, self.hold_sync():
            known = list(self._known().items())
            is_much = len(known) >= len(self.facts) + len(self.scores)  # we send few messages, because each is long
            if run.state != "running" or is_much:
                self.facts = [_facts_of(key, one) for key, one in known]
                self.bits = b"".join(planes(one.topology) + planes(one.effective) for _, one in known)
            problem = "" if run.error is None else f"{type(run.error).__name__}: {run.error}"
            self.progress = {"state": run.state, "count": run.count, "total": run.total, "problem": problem}

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict) and content.get("press") in ("main", "stop"):
            self.press(content["press"])


def _tile_size(rows: int, cols: int) -> tuple[int, int]:
    return mask_encoding.tile_size(rows, cols, 192)


def _every_score() -> dict[str, Score]:
    return {name: make_score(name, min_per_layer=0) for name in names("score")}


def _check(choice: Mapping[str, Any], scores: Mapping[str, Score], halvings: int) -> None:
    score, halving = choice["score"], choice["halving"]
    if score not in scores:
        raise ValueError(f"score must be one of {', '.join(scores) or '(none)'}, got {score!r}. Choose one of them")
    if not 0 <= halving <= halvings:
        raise ValueError(f"halving must lie in [0, {halvings}], got {halving}. Raise halvings")


def planes(topology: Topology) -> bytes:
    """Return the masks of all layers as one row of bits."""
    return np.packbits(np.concatenate([layer.mask().flatten().numpy() for layer in topology.values()])).tobytes()


def _facts_of(key: Key, one: Pruning) -> dict:
    on_path = [layer.count for layer in one.effective.values()]
    return {"score": key[0], "halving": key[1], "useful": one.useful, "on_path": on_path, "empty": list(one.empty)}
