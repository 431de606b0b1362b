"""A training as steps that a `Run` takes one by one, while sliders change its rule."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice

from torch import nn
from torch.optim import Optimizer

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import Batch, LossFn
from sparsekit.experiments.draws import draws_unasked
from sparsekit.layers import topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rules.base import Rule
from sparsekit.topology import Topology
from sparsekit.train.loop import train_step
from sparsekit.tricks.base import Trick, loss_at, set_step
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.widgets.live import Snapshot
from sparsekit.widgets.steering import Control


class LiveSteps(Iterator[Snapshot]):
    """Snapshots of a training, taken one by one, with the topology that it begins from.

    Args:
        snapshots: a generator that trains.
        topology: the connections before the first step.
    """

    def __init__(self, snapshots: Iterator[Snapshot], topology: Topology):
        self._snapshots, self.topology = snapshots, topology

    def __next__(self) -> Snapshot:
        return next(self._snapshots)

    def close(self) -> None:
        """End the training between two steps."""
        close = getattr(self._snapshots, "close", lambda: None)
        close()


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
) -> LiveSteps:
    """Train with the real `train_step`, one snapshot per step. Every step reads the rule anew.

    Args:
        model: a sparse model.
        optimizer: the one that trains it.
        batches: inputs and labels, at least `steps` of them.
        loss_fn: `(outputs, labels) -> mean loss`.
        control: holds the rule, which sliders may change meanwhile. A plain rule stays as it is.
        steps: number of steps.
        seed: of everything that the rule and dropout draw.
        journal: where to record every rewiring.
        tricks: what helps the training, already applied to the model. A `Control` of its own may hold each.
        measure: metrics of the model beside the batch's loss and accuracy, taken every `measure_every` steps.
        measure_every: steps between measurements. The last step is measured too.
        adaptor: makes pairs of other batches, and class scores of other outputs.
    """
    topology = topology_of(model)

    def snapshots() -> Iterator[Snapshot]:
        current_topology, rule_control = topology, control if isinstance(control, Control) else Control(control)
        rng_scope = seeded_rng(generator(seed, "torch")) if draws_unasked(model) else nullcontext()
        for step, batch in enumerate(islice(batches, steps)):
            rng, current, rule = generator(seed, "rewire", step), _current_tricks(tricks), rule_control.rule
            set_step(model, current, step, optimizer)
            step_loss = loss_at(current, loss_fn, model, step)
            with rng_scope:
                stats, update = train_step(model, optimizer, batch, step_loss, rule, step, rng, adaptor=adaptor)
            set_step(model, current, step + 1, optimizer)
            if update is not None and journal is not None:
                journal.add(step, update)
            current_topology = current_topology if update is None else topology_of(model)
            extra = measure(model) if measure and ((step + 1) % measure_every == 0 or step + 1 == steps) else {}
            yield Snapshot(step, {"loss": stats.loss, "accuracy": stats.accuracy, **extra}, current_topology)

    return LiveSteps(snapshots(), topology)


def _current_tricks(tricks: Sequence[Control[Trick] | Trick]) -> list[Trick]:
    return [trick.rule if isinstance(trick, Control) else trick for trick in tricks]
