"""The levels of a lottery, one run each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from sparsekit import datasets
from sparsekit.experiments import Experiment, build_model, load_model, run, save_initial_state
from sparsekit.experiments.feed import total_steps
from sparsekit.experiments.initial_state import INITIAL_STATES
from sparsekit.experiments.lottery.base import Lottery, LotteryHistory
from sparsekit.layers import SparseLayer, densify, shapes_of, sparsify
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

    Level 0 is the run of `lottery.experiment` itself: if it is there already, it is read. For a `rewind_step` above 0
    its first steps are trained once more, in `folder/starts`, where the states are kept that levels begin from.

    Args:
        lottery: what to do.
        folder: where runs are kept.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each training.
        checkpoint_seconds: save at least so often.
        checkpoint_steps: save every so many steps as well.

    Raises:
        TypeError: if it is no lottery.
        ValueError: if there are too few connections for all levels, or too few steps for the rewinding; nothing is
            trained then.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> lottery = Lottery(experiment=digits_mlp(rule="dense", epochs=30), levels=5, rewind_step=19)
        >>> history = run_lottery(lottery, "runs")  # doctest: +SKIP
        >>> history.frame()  # doctest: +SKIP
    """
    how = {"progress": progress, "checkpoint_seconds": checkpoint_seconds, "checkpoint_steps": checkpoint_steps}
    place = Place.of(lottery, folder, root=root, **how)
    histories = [place.train(lottery.experiment)]
    for level in range(1, lottery.levels + 1):
        histories.append(place.begin(f"level-{level}", place.ticket(level, histories[-1])))
    return LotteryHistory(lottery=lottery, levels=tuple(histories))


class Outset(NamedTuple):
    """What a training begins with: which connections, a plain model that holds their values, and the step."""

    topology: Topology
    plain: nn.Module
    step: int


@dataclass(frozen=True)
class Place:
    """Where the trainings of a lottery take place, and how."""

    lottery: Lottery
    folder: Path
    data: datasets.Dataset
    how: Mapping[str, Any]

    @classmethod
    def of(cls, lottery: Lottery, folder: str | Path, **how: Any) -> "Place":
        """Load the data and check everything that can be checked before anything is trained.

        Raises:
            TypeError: if it is no lottery.
            ValueError: if there are too few connections for all levels, or too few steps for the rewinding.
        """
        if not isinstance(lottery, Lottery):
            raise TypeError(f"this takes a Lottery, got {type(lottery).__name__}; use Lottery(experiment=...)")
        experiment = lottery.experiment
        data = datasets.load(experiment.data, root=how["root"], **experiment.data_settings)
        place = cls(lottery, Path(folder), data, how)
        _check_fits(lottery, place.initial(experiment.seed), len(data.train))
        return place

    def train(self, experiment: Experiment) -> History:
        """Carry out a training, or read what it left behind."""
        return run(experiment, self.folder, **self.how)

    def initial(self, seed: int) -> nn.Module:
        """Return the dense network at step 0."""
        experiment = replace(self.lottery.experiment, seed=seed)
        return densify(build_model(experiment, input_shape=self.data.shape, num_classes=self.data.num_classes))

    def at(self, step: int) -> nn.Module:
        """Return the dense network of level 0 after so many steps."""
        if step == 0:
            return self.initial(self.lottery.experiment.seed)
        history = run(self.lottery.experiment, self.folder / INITIAL_STATES / f"step-{step}", until=step, **self.how)
        return self.trained(history)

    def trained(self, history: History) -> nn.Module:
        """Return a run's model, plain; ghosts that lived at its step are no part of a ticket, and come anew."""
        assert history.folder is not None
        model = load_model(history.folder, root=self.how["root"])
        end = total_steps(self.lottery.experiment, self.data)
        set_step(model, self.lottery.experiment.tricks_over(end), end)
        return densify(model)

    def ticket(self, level: int, before: History) -> Outset:
        """Return what a level begins with, from the training of the level before."""
        assert before.folder is not None
        lottery = self.lottery
        trained = load_model(before.folder, root=self.how["root"])
        topology = largest(trained, _count_at(lottery, trained, level), lottery.experiment.exclude)
        plain = self.at(lottery.rewind_step) if lottery.rewind == "weights" else densify(trained)
        return Outset(topology, plain, lottery.rewind_step)

    def begin(self, name: str, ticket: Outset) -> History:
        """Train a ticket to the end."""
        experiment = self.lottery.experiment
        rate = self.lottery.finetune_rate
        return self.train(
            replace(
                experiment,
                recipe=f"{experiment.recipe}-{name}",
                density=ticket.topology.density,
                init_from=save_initial_state(self.folder, sparsify(ticket.plain, ticket.topology, "csr")),
                first_step=ticket.step,
                learning_rate=experiment.learning_rate if rate is None else Constant(rate),
            )
        )


def largest(model: nn.Module, count: int, exclude: tuple[str, ...]) -> Topology:
    """Return the connections with the largest absolute values among those that exist; each layer keeps one."""
    scores = {name: _magnitudes(model.get_submodule(name)) for name in shapes_of(model, exclude=exclude)}
    return keep_top_global(scores, count)


def _magnitudes(layer: nn.Module) -> Tensor:
    """Return absolute values shaped like the weight; a missing connection is below any that exists, even of value 0."""
    weight = weight_of(layer).detach().abs()
    return weight.masked_fill(~layer.topology.mask(), -math.inf) if isinstance(layer, SparseLayer) else weight


def weight_of(layer: nn.Module) -> Tensor:
    """Return the weight of a layer as a dense tensor; that of a sparse layer is a copy."""
    return layer.dense_weight() if isinstance(layer, SparseLayer) else layer.get_parameter("weight")


def _count_at(lottery: Lottery, model: nn.Module, level: int) -> int:
    """Return how many connections a level has; from the size, so that rounding does not add up over levels."""
    shapes = shapes_of(model, exclude=lottery.experiment.exclude)
    return round(sum(map(math.prod, shapes.values())) * lottery.density_at(level))


def _check_fits(lottery: Lottery, model: nn.Module, num_train: int) -> None:
    """What only model and data can tell, before anything is trained."""
    num_layers = len(shapes_of(model, exclude=lottery.experiment.exclude))
    if (count := _count_at(lottery, model, lottery.levels)) < num_layers:
        raise ValueError(
            f"the last level must have a connection for each of {num_layers} layers, got {count} at level "
            f"{lottery.levels}; lower levels or prune"
        )
    steps = lottery.experiment.epochs * datasets.count_batches(num_train, lottery.experiment.batch_size)
    if lottery.rewind_step >= steps:
        raise ValueError(
            f"rewind_step must lie before the end, got {lottery.rewind_step} and {steps} steps; choose an earlier one"
        )
