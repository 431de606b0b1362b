"""A collection of cheap tickets has settings, a split of its epochs, and a history."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sparsekit.experiments import Experiment
from sparsekit.tickets import Ticket, TicketBook, superpose
from sparsekit.train import History
from sparsekit.utils.checks import check_finite_number, check_integer, check_types
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting

if TYPE_CHECKING:
    import pandas as pd


class Split(NamedTuple):
    """How the epochs of a training are divided.

    Args:
        pretraining: epochs of ordinary sparse training.
        cycles: number of cycles, each of which ends in a ticket.
    """

    pretraining: int
    cycles: int


def split_epochs(epochs: int, cycle_rate: float, cycle_epochs: int) -> Split:
    """Divide a training into ordinary epochs and whole cycles, exactly.

    There are `floor(epochs * cycle_rate / cycle_epochs)` cycles, and all epochs that are in no cycle come before. The
    rate is the fraction that the float means, so `1 / 3` is a third. In floating point `100 * 0.29` is a little less
    than 29, and a cycle would be lost.

    Raises:
        TypeError: if the epochs are no integers.
        ValueError: if a number is out of range, or nothing would be left before the cycles.

    Source: Yin et al. (2022), arXiv:2205.15322, as coded by its authors, in integers.

    Example:
        >>> split_epochs(250, 0.1, 8), split_epochs(250, 0.1, 30)
        (Split(pretraining=226, cycles=3), Split(pretraining=250, cycles=0))
        >>> split_epochs(60, 1 / 3, 4)
        Split(pretraining=40, cycles=5)
    """
    check_integer("epochs", epochs, least=1)
    check_integer("cycle_epochs", cycle_epochs, least=1)
    if not 0 <= check_finite_number("cycle_rate", cycle_rate) < 1:
        raise ValueError(f"cycle_rate must lie in [0, 1), got {cycle_rate}. The paper's is 0.1")
    cycles = int(epochs * exact_fraction(cycle_rate) / cycle_epochs)
    if cycles * cycle_epochs == epochs:
        raise ValueError(f"there must be epochs before the first cycle, got {cycles} cycles of all {epochs} epochs")
    return Split(epochs - cycles * cycle_epochs, cycles)


@register("sup-tickets", "sup-tickets")
@dataclass(frozen=True, kw_only=True)
class SupTickets:
    """A collection of cheap tickets, with everything that decides what its training does.

    Ticket 0 is the network at the end of the ordinary training, and each cycle ends with another. With `explore=0` this
    is plain weight averaging along a sparse training, the control that says what new connections add.

    Args:
        experiment: the training as it would be without cycles. Its `epochs` are those of the whole. Where it names no
            learning rate, the ordinary part takes the authors': a tenth after half, another after three quarters of it.
            Where it names no `test_last`, we test from ticket 0 on, and nothing before.
        cycle_rate: share of the epochs that cycles may take.
        cycle_epochs: epochs of a cycle.
        low: learning rate where a cycle begins and ends. None means that at which the ordinary part ends.
        high: learning rate in the middle of a cycle. None means five times `low`.
        explore: share of the connections exchanged at the start of a cycle.
        freeze: keep the topology within a cycle. If not, the rule continues there, so it must not have stopped before.
            Named rules stop, so make the rule with `stop=None` and a constant `drop_fraction`.

    Raises:
        TypeError: if it is no experiment.
        ValueError: if a number is out of range, or `low` is not below `high`. Tickets would then be taken where the
            learning rate is highest, as with the defaults of the authors' code.

    Source: Yin et al. (2022), arXiv:2205.15322. Defaults are the commands of its code (250 epochs of CIFAR).

    Example:
        >>> sup = SupTickets(experiment=Experiment(epochs=60), cycle_rate=0.2, cycle_epochs=4)
        >>> sup.split
        Split(pretraining=48, cycles=3)
    """

    experiment: Experiment = field(metadata={"help": "the training as it would be without cycles", "range": None})
    cycle_rate: float = setting(0.1, "share of the epochs that cycles may take", range=(0, 1))
    cycle_epochs: int = setting(8, "epochs of a cycle", range=(1, 100))
    low: float | None = setting(None, "learning rate at the ends of a cycle", range=(0, 1))
    high: float | None = setting(None, "learning rate in the middle of a cycle", range=(0, 1))
    explore: float = setting(0.5, "share of the connections exchanged at the start of a cycle", range=(0, 1))
    freeze: bool = setting(True, "keep the topology within a cycle")

    def __post_init__(self):
        if not isinstance(self.experiment, Experiment):
            raise TypeError(
                f"experiment must be an Experiment, got {type(self.experiment).__name__}. Take one of the recipes"
            )
        check_types(self)
        check_range(self, explore=(0, 1))
        if self.low is not None and self.low <= 0:
            raise ValueError(f"low must be above 0, got {self.low}. The paper's is 0.001")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(
                f"low must be below high, got {self.low} and {self.high}. Exchange them, because tickets are taken "
                "where the learning rate is low"
            )
        _ = self.split

    @property
    def split(self) -> Split:
        """How the epochs are divided."""
        return split_epochs(self.experiment.epochs, self.cycle_rate, self.cycle_epochs)


@dataclass(frozen=True, kw_only=True)
class SupTicketsHistory:
    """What a collection has left behind.

    Args:
        sup: what was done.
        history: of the whole training.
        book: the tickets, of which number 0 is the network before the first cycle.
    """

    sup: SupTickets
    history: History
    book: TicketBook

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets, in the order of their training."""
        return list(self.book)

    def superposed(
        self,
        *,
        density: float | None = None,
        weights: Sequence[float] | None = None,
        average: str = "mean",
        prune: str = "once",
        scope: str = "global",
    ) -> Ticket:
        """Return the tickets as one network. The settings are those of `superpose`."""
        return superpose(self.tickets, density=density, weights=weights, average=average, prune=prune, scope=scope)

    def frame(self) -> "pd.DataFrame":
        """Return step, connections, density, test accuracy and bytes of the file, a row per ticket."""
        return self.book.frame()
