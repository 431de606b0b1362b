"""Training that can be watched, paused, steered and stopped: snapshots from a generator, taken by a thread.

The generator does all the work and knows no widget; `Run` only decides when to take the next snapshot; whoever wants to
see something listens. Same numbers with and without the thread. Nothing here prints or draws: callbacks of widgets may
come on any thread, late, or never.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import Batch, LossFn
from sparsekit.experiments.draws import draws_unasked
from sparsekit.layers import topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate
from sparsekit.rules.base import Rule
from sparsekit.topology import Topology
from sparsekit.train.loop import StepStats, train_step
from sparsekit.tricks.base import Trick, loss_at, set_step
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.widgets import cells
from sparsekit.widgets.steering import Control

State = Literal["ready", "running", "paused", "done", "stopped", "failed"]
ENDED = ("done", "stopped", "failed")
TELL_EVERY = 0.1  # seconds; the notebook server silently drops messages past 1000 a second
END = object()


@dataclass(frozen=True)
class Snapshot:
    """A training after one step.

    Args:
        step: number of the step, from 0.
        metrics: numbers to draw, by name; a name may be missing at steps where it was not measured.
        topology: the connections after the step, or None where nothing is to be shown.
    """

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    topology: Topology | None = None


class Run:
    """Take snapshots in a background thread; pause, resume and stop between any two of them.

    Args:
        steps: yields a `Snapshot` after each step, and does all the work.
        total: how many are expected, for the progress bar; None where nobody knows.

    Example:
        >>> run = Run((Snapshot(step, {"loss": 1 / (step + 1)}) for step in range(5)), total=5)
        >>> run.wait(timeout=10).step, run.state, run.lines()["loss"][1][-1]
        (4, 'done', 0.2)
    """

    def __init__(self, steps: Iterable[Snapshot], total: int | None = None):
        self.total, self.count = total, 0
        self.panels = 0  # that watch it and are open
        self.state: State = "ready"
        self.latest: Snapshot | None = None
        self.topology: Topology | None = None
        self.error: BaseException | None = None
        self.view_error: Exception | None = None
        self._steps = iter(steps)
        self._lines: dict[str, tuple[list[float], list[float]]] = {}
        self._go, self._end, self._over = threading.Event(), threading.Event(), threading.Event()
        self._lock, self._telling = threading.Lock(), threading.RLock()
        self._listeners: list[Callable[[Run], None]] = []
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="sparsekit-run", daemon=True)
        cells.when_run_again(self.end)

    def listen(self, listener: Callable[["Run"], None]) -> "Run":
        """Tell the listener at most ten times a second, and at each change of state. Its errors end nothing."""
        self._listeners.append(listener)
        return self

    def unlisten(self, listener: Callable[["Run"], None]) -> None:
        """Tell a listener no more; one that was never told changes nothing."""
        with self._telling:
            self._listeners = [one for one in self._listeners if one != listener]

    def start(self) -> "Run":
        """Begin, if nobody did; a run begins once."""
        if self._move("ready", "running"):
            self._tell()
            self._go.set()
            self._thread.start()
        return self

    def pause(self) -> None:
        """Hold after the step at hand."""
        if self._move("running", "paused"):
            self._go.clear()
            self._tell()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._move("paused", "running"):
            self._go.set()
            self._tell()

    def stop(self) -> None:
        """End after the step at hand and keep what there is."""
        self._end.set()
        if self._move("ready", "stopped"):
            self._tell()
            self._over.set()
        self._go.set()

    def end(self) -> None:
        """Stop, and wait until the step at hand is done, but no longer than 5 seconds.

        In a notebook this happens by itself when the cell that made the run is run again: two trainings of one model
        would disturb each other.
        """
        self.stop()
        if threading.current_thread() is not self._thread:
            self._join(5.0)

    def wait(self, timeout: float | None = None) -> Snapshot | None:
        """Wait for the end and return the last snapshot; starts the run if nobody did.

        Stop ends the waiting, and so does the notebook's interrupt button, which stops the run and keeps its result.

        Args:
            timeout: seconds after which the run is stopped.

        Raises:
            TimeoutError: if it was still going after `timeout`.
            BaseException: whatever the training raised.
        """
        self.start()
        try:
            in_time = self._join(timeout)
        except KeyboardInterrupt:
            self.stop()
            in_time = self._join(5.0) or True  # a long step may outlive its run; the thread is a daemon
        if not in_time:
            self.stop()
            self._join(5.0)
            raise TimeoutError(f"a run must end within {timeout} s, got to step {self.count}; give wait() more time")
        self._warn_of_views()
        if self.error is not None:
            raise self.error
        return self.latest

    def lines(self) -> dict[str, tuple[list[float], list[float]]]:
        """Return all metrics so far, by name, as `(steps, values)`."""
        with self._lock:
            return {name: (list(steps), list(values)) for name, (steps, values) in self._lines.items()}

    def _join(self, timeout: float | None) -> bool:
        """Wait in slices, so that interrupts land; say whether the run ended."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._over.wait(TELL_EVERY):
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def _work(self) -> None:
        try:
            end: State = self._take_all()
        except BaseException as error:  # a thread must not die unheard: wait() raises it again
            self.error, end = error, "failed"
        with self._lock:
            self.state = end
        self._tell()
        self._over.set()

    def _take_all(self) -> State:
        told = -TELL_EVERY
        while not self._end.is_set():
            snapshot = next(self._steps, END)
            if snapshot is END:
                return "done"
            self._keep(snapshot)  # type: ignore[arg-type]
            if time.monotonic() - told >= TELL_EVERY:
                self._tell()
                told = time.monotonic()
            self._go.wait()
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()  # a generator's `finally` runs here, not whenever it is collected
        return "stopped"

    def _keep(self, snapshot: Snapshot) -> None:
        with self._lock:
            self.latest, self.count = snapshot, self.count + 1
            self.topology = self.topology if snapshot.topology is None else snapshot.topology
            for name, value in snapshot.metrics.items():
                steps, values = self._lines.setdefault(name, ([], []))
                steps.append(snapshot.step)
                values.append(value)

    def _move(self, old: State, new: State) -> bool:
        with self._lock:
            fits = self.state == old
            self.state = new if fits else self.state
            return fits

    def _tell(self) -> None:
        with self._telling:  # buttons tell from another thread than the training
            for listener in self._listeners:
                try:
                    listener(self)
                except Exception as error:  # a broken picture never ends a training
                    self.view_error = error

    def _warn_of_views(self) -> None:
        if self.view_error is not None and not self._warned:
            self._warned = True
            warnings.warn(f"the run ended well, but a view of it failed: {self.view_error!r}", stacklevel=3)


def live_training(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_fn: LossFn,
    control: Control[Rule] | Rule,
    *,
    steps: int,
    seed: int = 0,
    journal: Journal | None = None,
    tricks: Sequence[Control[Trick] | Trick] = (),
    measure: Callable[[nn.Module], dict[str, float]] | None = None,
    measure_every: int = 50,
    adaptor: Adaptor | None = None,
) -> Iterator[Snapshot]:
    """Train with the real `train_step` and yield a snapshot after each step; the rule is read anew at every step.

    Args:
        model: a sparse model.
        optimizer: the one that trains it.
        batches: inputs and labels, at least `steps` of them.
        loss_fn: `(outputs, labels) -> mean loss`.
        control: holds the rule, which sliders may change meanwhile; a plain rule stays as it is.
        steps: number of steps.
        seed: of everything that is drawn, by the rule and by dropout.
        journal: where every rewiring is recorded.
        tricks: what helps the training, already applied to the model; each may be held by a `Control` of its own.
        measure: metrics of the model beside the batch's loss and accuracy, taken every `measure_every` steps.
        measure_every: steps between measurements; the last step is measured too.
        adaptor: makes pairs of other batches, and class scores of other outputs.
    """
    held, topology = control if isinstance(control, Control) else Control(control), topology_of(model)
    random = seeded_rng(generator(seed, "torch")) if draws_unasked(model) else nullcontext()
    for step, batch in enumerate(islice(batches, steps)):
        draws, now = generator(seed, "rewire", step), _as_they_are(tricks)
        set_step(model, now, step, optimizer)
        helped = loss_at(now, loss_fn, model, step)
        stats, change = _step_under(random, model, optimizer, batch, helped, held.rule, step, draws, adaptor)
        set_step(model, now, step + 1, optimizer)
        metrics = {"loss": stats.loss, "accuracy": stats.accuracy}
        if change is not None and journal is not None:
            journal.add(step, change)
        topology = topology if change is None else topology_of(model)
        if measure is not None and ((step + 1) % measure_every == 0 or step + 1 == steps):
            metrics |= measure(model)
        yield Snapshot(step, metrics, topology)


def _step_under(random: AbstractContextManager, *args: Any) -> tuple[StepStats, TopologyUpdate | None]:
    *most, adaptor = args
    with random:
        return train_step(*most, adaptor=adaptor)


def _as_they_are(tricks: Sequence[Control[Trick] | Trick]) -> list[Trick]:
    return [trick.rule if isinstance(trick, Control) else trick for trick in tricks]
