"""Controls train a ticket once more with one thing about it changed."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from sparsekit.experiments.lottery.base import Lottery
from sparsekit.experiments.lottery.levels import InitialState, LotteryRuns
from sparsekit.experiments.options import RunOptions
from sparsekit.layers import fit_to_fan_in, matrices_of
from sparsekit.topology.shuffling import shuffled
from sparsekit.train import History
from sparsekit.utils.seeds import derive

Control = Callable[[LotteryRuns, InitialState, int], InitialState]


def run_control(
    lottery: Lottery,
    control: str,
    folder: str | Path = "runs",
    *,
    level: int,
    seed: int = 0,
    root: str | Path | None = None,
    progress: bool = True,
    checkpoint_seconds: float = 20.0,
    checkpoint_steps: int | None = None,
) -> History:
    """Train a ticket once more with one thing about it changed, in a run folder of its own.

    - `"reinit"` gives the same connections new random values, and trains them from step 0. They are drawn for the dense
      network, as in the paper, and so are smaller than the connections need.
    - `"shuffle"` puts as many connections in each layer at random positions, with the values from there at
      `rewind_step`. `"shuffle-outputs"` and `"shuffle-inputs"` keep every fan-in or fan-out (see `shuffling.shuffled`).
    - `"reinit-fan-in"` and `"shuffle-fan-in"` are `"reinit"` and `"shuffle"` with values that are scaled to the inputs
      that each output has (see `layers.fit_to_fan_in`). So they say what the connections are worth, and the difference
      says what the scale was worth.
    - `"signs"` keeps only the signs of the values. Their magnitude becomes the standard deviation of the layer's dense
      weights at step 0.

    Args:
        lottery: one with `rewind="weights"`. Of its levels up to this one, those that are missing are trained first.
        control: one of those.
        folder: where runs are kept.
        level: which ticket, from 1.
        seed: of what the control draws.
        root: the data folder, as in `datasets.load`.
        progress: show a bar for each training.
        checkpoint_seconds: save at least so often.
        checkpoint_steps: save every so many steps as well.

    Raises:
        TypeError: if it is no lottery.
        ValueError: if there is no such control or level, or the lottery rewinds no weights.

    Source: Frankle and Carbin (2019), arXiv:1803.03635, section 2, for re-initialisation, Frankle et al. (2021),
        arXiv:2009.08576, section 5, for shuffling, Zhou et al. (2019), arXiv:1905.01067, section 4, for signs, and
        Evci et al. (2022), arXiv:2010.03533, for the scale.
    """
    options = RunOptions(
        root=root, progress=progress, checkpoint_seconds=checkpoint_seconds, checkpoint_steps=checkpoint_steps
    )
    runs = LotteryRuns.of(lottery, folder, options)
    check_control(lottery, control, level)
    # The level itself need not have been trained, because its ticket comes from the one before.
    before = runs.train(lottery.experiment)
    for earlier in range(1, level):
        before = runs.train_ticket(f"level-{earlier}", runs.ticket(earlier, before))
    changed = CONTROLS[control](runs, runs.ticket(level, before), seed)
    return runs.train_ticket(f"level-{level}-{control}", changed)


def _reinit(runs: LotteryRuns, ticket: InitialState, seed: int) -> InitialState:
    # It starts at step 0, because its values have seen nothing of the data, unlike those of a rewound ticket.
    return InitialState(ticket.topology, runs.initial(derive(runs.lottery.experiment.seed, "reinit", seed)), 0)


def _shuffle(within: str) -> Control:
    def shuffle(_runs: LotteryRuns, ticket: InitialState, seed: int) -> InitialState:
        return ticket._replace(topology=shuffled(ticket.topology, within=within, seed=seed))

    return shuffle


def _fitted(control: Control) -> Control:
    """Return a control whose values are scaled to the connections that it has."""

    def fitted(runs: LotteryRuns, ticket: InitialState, seed: int) -> InitialState:
        changed = control(runs, ticket, seed)
        plain = fit_to_fan_in(copy.deepcopy(changed.plain), changed.topology)
        return changed._replace(plain=plain)

    return fitted


@torch.no_grad()
def _signs(runs: LotteryRuns, ticket: InitialState, _seed: int) -> InitialState:
    plain, initial = copy.deepcopy(ticket.plain), runs.initial(runs.lottery.experiment.seed)
    weights, first = matrices_of(plain), matrices_of(initial)
    for name in ticket.topology:
        weights[name].write(weights[name].value.sign() * first[name].value.std())
    return ticket._replace(plain=plain)


CONTROLS: dict[str, Control] = {
    "reinit": _reinit,
    "reinit-fan-in": _fitted(_reinit),
    "shuffle": _shuffle("layer"),
    "shuffle-fan-in": _fitted(_shuffle("layer")),
    "shuffle-outputs": _shuffle("outputs"),
    "shuffle-inputs": _shuffle("inputs"),
    "signs": _signs,
}
"""What a control changes in a ticket, by the name that `run_control` takes."""


def check_control(lottery: Lottery, control: str, level: int) -> None:
    """Say what is wrong with a control before anything is trained.

    Raises:
        ValueError: if there is no such control or level, or the lottery rewinds no weights.
    """
    if control not in CONTROLS:
        raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {control!r}. Choose one of them")
    if not 1 <= level <= lottery.levels:
        raise ValueError(
            f"level must lie in 1 to {lottery.levels}, the lottery's levels, got {level}. Level 0 has no ticket"
        )
    if lottery.rewind != "weights":
        raise ValueError(
            f"controls compare with rewound values, so rewind must be 'weights', got {lottery.rewind!r}. Use "
            "replace(lottery, rewind='weights', finetune_rate=None)"
        )
