"""Each level of a lottery is a run."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from sparsekit import datasets
from sparsekit.experiments import Experiment, build_model, fork, load_model, save_initial_state
from sparsekit.experiments.feed import total_steps
from sparsekit.experiments.initial_state import INITIAL_STATES
from sparsekit.experiments.lottery.base import Lottery, LotteryHistory
from sparsekit.experiments.options import RunOptions
from sparsekit.experiments.record import steps_done
from sparsekit.experiments.run import run_with
from sparsekit.layers import SparseLayer, densify, matrices_of, shapes_of, sparse_layers, sparsify
from sparsekit.layers.matrices import Matrix
from sparsekit.schedules import Constant
from sparsekit.topology import Topology
from sparsekit.topology.selection import keep_top_global
from sparsekit.train import History
from sparsekit.tricks import set_step


def run_lottery(
    lottery: Lottery,
    folder: str | Path = "runs",
    *,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    checkpoint_steps: int | None = None,
) -> LotteryHistory:
    """Train every level of a lottery, each in a run folder of its own below `folder`.

    Level 0 is the run of `lottery.experiment` itself, so it is read if it is there already. At a `rewind_step` above 0
    it stops for a moment, and what it has then is kept in `folder/initial_states`, where the states lie that levels
    begin from. If an earlier call of `run` has gone past this step, these first steps are trained once more.

    Args:
        lottery: what to do.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each training.
        checkpoint_seconds: save at least so often.
        checkpoint_steps: save every so many steps as well.

    Raises:
        TypeError: if it is no lottery.
        ValueError: if there are too few connections for all levels, or too few steps for the rewinding. Nothing is
            trained then.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> lottery = Lottery(experiment=digits_mlp(rule="dense", epochs=30), levels=5, rewind_step=19)
        >>> history = run_lottery(lottery, "runs")  # doctest: +SKIP
        >>> history.frame()  # doctest: +SKIP
    """
    options = RunOptions(
        root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, checkpoint_steps=checkpoint_steps
    )
    runs = LotteryRuns.of(lottery, folder, options)
    histories = [runs.train(lottery.experiment)]
    for level in range(1, lottery.levels + 1):
        histories.append(runs.train_ticket(f"level-{level}", runs.ticket(level, histories[-1])))
    return LotteryHistory(lottery=lottery, levels=tuple(histories))


class InitialState(NamedTuple):
    """What a training begins with. `plain` is a plain model that holds the values of the connections."""

    topology: Topology
    plain: nn.Module
    step: int


@dataclass(frozen=True)
class LotteryRuns:
    """The runs of a lottery, in their folder."""

    lottery: Lottery
    folder: Path
    data: datasets.Dataset
    options: RunOptions

    @classmethod
    def of(cls, lottery: Lottery, folder: str | Path, options: RunOptions) -> "LotteryRuns":
        """Load the data and check everything that can be checked before anything is trained.

        Raises:
            TypeError: if it is no lottery.
            ValueError: if there are too few connections for all levels, or too few steps for the rewinding.
        """
        if not isinstance(lottery, Lottery):
            raise TypeError(f"this takes a Lottery, got {type(lottery).__name__}. Use Lottery(experiment=...)")
        experiment = lottery.experiment
        data = datasets.load(experiment.data, root=options.root, **experiment.data_settings)
        runs = cls(lottery, Path(folder), data, options)
        _check_fits(lottery, runs.initial(experiment.seed), len(data.train))
        return runs

    def train(self, experiment: Experiment) -> History:
        """Carry out a training, or read what it has left behind. Level 0 leaves its state at `rewind_step` as well."""
        lottery = self.lottery
        if experiment == lottery.experiment and lottery.rewind == "weights" and lottery.rewind_step > 0:
            self._keep_state(lottery.rewind_step)
        return run_with(self.options, experiment, self.folder)

    def initial(self, seed: int) -> nn.Module:
        """Return the dense network at step 0."""
        experiment = replace(self.lottery.experiment, seed=seed)
        return densify(build_model(experiment, input_shape=self.data.shape, num_classes=self.data.num_classes))

    def at(self, step: int) -> nn.Module:
        """Return the dense network of level 0 after so many steps."""
        if step == 0:
            return self.initial(self.lottery.experiment.seed)
        return self.trained(self._run_until(step, self._states_at(step)))

    def _keep_state(self, step: int) -> None:
        """Train level 0 up to a step and keep what it has then, unless it has gone past it."""
        experiment, folder = self.lottery.experiment, self._states_at(step)
        is_kept = (folder / experiment.folder_name / "checkpoint.pt").exists()
        if not is_kept and steps_done(self.folder / experiment.folder_name) <= step:
            history = self._run_until(step, self.folder)
            assert history.folder is not None
            fork(history.folder, experiment, folder, step=step, root=self.options.root)

    def _run_until(self, step: int, folder: Path) -> History:
        """Train level 0 up to a step, in this folder."""
        return run_with(replace(self.options, until=step), self.lottery.experiment, folder)

    def _states_at(self, step: int) -> Path:
        return self.folder / INITIAL_STATES / f"step-{step}"

    def trained(self, history: History) -> nn.Module:
        """Return a run's model, plain and without ghosts. A ticket has none, because its training makes new ones."""
        assert history.folder is not None
        model = load_model(history.folder, root=self.options.root)
        end = total_steps(self.lottery.experiment, self.data)
        set_step(model, self.lottery.experiment.tricks_over(end), end)
        return densify(model)

    def ticket(self, level: int, before: History) -> InitialState:
        """Return what a level begins with, which follows from the training of the level before."""
        assert before.folder is not None
        return self.ticket_of(level, load_model(before.folder, root=self.options.root))

    def ticket_of(self, level: int, trained: nn.Module) -> InitialState:
        """Return what a level begins with, which follows from the network that the level before ended with."""
        lottery = self.lottery
        topology = largest(trained, _count_at(lottery, trained, level), lottery.experiment.exclude)
        plain = self.at(lottery.rewind_step) if lottery.rewind == "weights" else densify(trained)
        return InitialState(topology, plain, lottery.rewind_step)

    def train_ticket(self, name: str, ticket: InitialState) -> History:
        """Train a ticket to the end."""
        return self.train(self.experiment_of(name, ticket))

    def experiment_of(self, name: str, ticket: InitialState) -> Experiment:
        """Return the training of a ticket to the end."""
        experiment = self.lottery.experiment
        rate = self.lottery.finetune_rate
        return replace(
            experiment,
            recipe=f"{experiment.recipe}-{name}",
            density=ticket.topology.density,
            init_from=save_initial_state(self.folder, sparse_with_values(ticket)),
            first_step=ticket.step,
            learning_rate=experiment.learning_rate if rate is None else Constant(rate),
        )


def sparse_with_values(ticket: InitialState) -> nn.Module:
    """Return the sparse model that a training begins with. Rewound values are kept as they are."""
    return sparsify(ticket.plain, ticket.topology, "csr", init="dense")


def largest(model: nn.Module, count: int, exclude: tuple[str, ...]) -> Topology:
    """Return the connections of the largest magnitudes among those that exist. Each layer keeps at least one."""
    layers, matrices = sparse_layers(model), matrices_of(model)
    names = shapes_of(model, exclude=exclude)
    scores = {name: _magnitudes(layers.get(name), matrices.get(name)) for name in names}
    return keep_top_global(scores, count)


def _magnitudes(layer: SparseLayer | None, matrix: Matrix | None) -> Tensor:
    """Return magnitudes shaped like the weight. A missing connection ranks below an existing one of value 0."""
    if layer is None:
        return matrix.value.detach().abs()  # type: ignore[union-attr]  # what is not sparse is such a matrix
    return layer.dense_weight().abs().masked_fill(~layer.topology.mask(), -math.inf)


def _count_at(lottery: Lottery, model: nn.Module, level: int) -> int:
    """Return how many connections a level has. It follows from the dense size, so that rounding does not add up."""
    shapes = shapes_of(model, exclude=lottery.experiment.exclude)
    return round(sum(map(math.prod, shapes.values())) * lottery.density_at(level))


def _check_fits(lottery: Lottery, model: nn.Module, num_train: int) -> None:
    """Check what only model and data can tell, before anything is trained."""
    num_layers = len(shapes_of(model, exclude=lottery.experiment.exclude))
    if (count := _count_at(lottery, model, lottery.levels)) < num_layers:
        raise ValueError(
            f"the last level must have a connection for each of {num_layers} layers, got {count} at level "
            f"{lottery.levels}. Lower levels or prune"
        )
    steps = lottery.experiment.epochs * datasets.count_batches(num_train, lottery.experiment.batch_size)
    if lottery.rewind_step >= steps:
        raise ValueError(
            f"rewind_step must lie before the end, got {lottery.rewind_step} and {steps} steps. Choose an earlier one"
        )
