"""A lottery says what its trainings do, and its history what they have left behind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sparsekit.experiments import Experiment, load_model
from sparsekit.rules.static import Static
from sparsekit.tickets import Ticket
from sparsekit.topology import LayerTopology, Topology
from sparsekit.train import History
from sparsekit.utils.checks import check_integer, check_types
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting

if TYPE_CHECKING:
    import pandas as pd

REWINDS = ("weights", "rate", "finetune")


@register("lottery", "lottery")
@dataclass(frozen=True, kw_only=True)
class Lottery:
    """Iterative magnitude pruning, with everything that decides what its trainings do.

    After level j exactly `round(size * (1 - prune)^j)` connections are left. One-shot pruning to a density is
    `levels=1, prune=1 - density`. Rewound values stay as they were drawn for the dense network, as in the papers. The
    controls exist at both scales (see `run_control`).

    Source: Frankle and Carbin (2019), arXiv:1803.03635, section 1. Rewinding to a later step than 0 is that of Frankle
    et al. (2020), arXiv:1912.05671, and learning-rate rewinding and fine-tuning of Renda et al. (2020),
    arXiv:2003.02389.

    Args:
        experiment: the dense training, of density 1 and without a rule, that is level 0 and that the others repeat.
        levels: how often to prune and train again.
        prune: share of the remaining connections that each level removes.
        rewind: what a level begins with. `"weights"` takes the values that its connections, and everything else, had at
            `rewind_step` of level 0. `"rate"` takes the values at the end of the level before, and only data and
            learning rate go back to that step. `"finetune"` is `"rate"` at the low learning rate `finetune_rate`
            throughout.
        rewind_step: the step of the training to go back to and to continue from. 0 is the original lottery ticket.
        finetune_rate: for `"finetune"` only, usually the learning rate at which level 0 ended.

    Raises:
        ValueError: if a number is out of range, the rewinding is unknown, or the experiment is not dense.
        TypeError: if it is no experiment, or a count is no integer.

    Example:
        >>> dense = Experiment(density=1.0)
        >>> [round(Lottery(experiment=dense).density_at(level), 6) for level in (1, 2, 3, 16)]
        [0.8, 0.64, 0.512, 0.028147]
    """

    experiment: Experiment = field(metadata={"help": "the dense training that every level repeats", "range": None})
    levels: int = setting(16, "how often to prune and train again", range=(1, 30))
    prune: float = setting(0.2, "share of the remaining connections that a level removes", range=(0, 1))
    rewind: str = setting("weights", "what a level begins with: weights, rate or finetune")
    rewind_step: int = setting(0, "step of the training to go back to", range=(0, 1_000_000))
    finetune_rate: float | None = setting(None, "learning rate of finetune", range=(0, 1))

    def __post_init__(self):
        _check_dense(self.experiment)
        check_types(self)
        for name, least in (("levels", 1), ("rewind_step", 0)):
            check_integer(name, getattr(self, name), least=least)
        if not 0 < self.prune < 1:
            raise ValueError(f"prune must lie between 0 and 1, got {self.prune}. For example, 0.2 removes a fifth")
        if self.rewind not in REWINDS:
            raise ValueError(f"rewind must be one of {', '.join(REWINDS)}, got {self.rewind!r}. Choose one of them")
        if (self.rewind == "finetune") != (self.finetune_rate is not None):
            raise ValueError(
                f"finetune_rate must be given with rewind='finetune' and only then, got {self.finetune_rate} with "
                f"{self.rewind!r}. A hundredth of the first learning rate is usual"
            )

    def density_at(self, level: int) -> float:
        """Return the density that a level trains at, before it is rounded to whole connections."""
        return (1 - self.prune) ** level


@dataclass(frozen=True, kw_only=True)
class LotteryHistory:
    """What the trainings of a lottery have left behind.

    Args:
        lottery: what was done.
        levels: the history of each level's training, where 0 is the dense one.
    """

    lottery: Lottery
    levels: tuple[History, ...]

    @property
    def topologies(self) -> list[Topology]:
        """The connections that each level trained. Level 0 has all of them."""
        tickets = [history.journal.initial for history in self.levels[1:]]
        return [Topology({name: LayerTopology.full(shape) for name, shape in tickets[0].shapes.items()}), *tickets]

    def tickets(self, *, root: str | Path | None = None) -> list[Ticket]:
        """Return the trained networks of the levels from 1 on, as tickets. Level 0 is dense.

        Args:
            root: the data folder, as in `datasets.load`.
        """
        folders = [history.folder for history in self.levels[1:] if history.folder is not None]
        rows = [history.rows[-1] for history in self.levels[1:]]
        models = [load_model(folder, root=root) for folder in folders]
        return [Ticket.of(model, step=row.step + 1) for model, row in zip(models, rows, strict=True)]

    def frame(self) -> "pd.DataFrame":
        """Return the density of the pruned layers, the last test accuracy, and the run's folder, a row per level."""
        import pandas as pd

        rows = [
            (topology.density, history.last("test accuracy"), history.folder)
            for topology, history in zip(self.topologies, self.levels, strict=True)
        ]
        return pd.DataFrame(rows, columns=["density", "test accuracy", "folder"]).rename_axis("level")


def _check_dense(experiment: Experiment) -> None:
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment must be an Experiment, got {type(experiment).__name__}. Take one of the recipes")
    is_dense = experiment.density == 1 and isinstance(experiment.rule, Static) and experiment.score is None
    if not is_dense or experiment.init_from is not None:
        raise ValueError(
            f"the experiment must be dense, got density {experiment.density}, {type(experiment.rule).__name__}, score "
            f"{experiment.score} and init_from {experiment.init_from}. Make the recipe with rule='dense'"
        )
