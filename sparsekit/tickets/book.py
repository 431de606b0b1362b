"""A ticket book is a folder of tickets, collected from any training loop."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from torch import nn

from sparsekit.tickets.ticket import Ticket, read_ticket, write_ticket

if TYPE_CHECKING:
    import pandas as pd


class TicketBook(Sequence[Ticket]):
    """Tickets in a folder, in the order of their steps. Every ticket is a file of its own, and there are no others.

    Args:
        folder: where the files are. It is created with the first ticket.

    Example:
        >>> book = TicketBook("tickets")
        >>> book.add(model, step=1000, accuracy=0.94)  # doctest: +SKIP
        >>> superpose(book)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def add(self, model: nn.Module, *, step: int, accuracy: float = math.nan) -> Ticket:
        """Copy a model as it is now into a file. A ticket of the same step is replaced.

        Args:
            model: sparse or plain. It stays as it is.
            step: number of steps trained.
            accuracy: share of right answers, 0 to 1, where it was measured.

        Raises:
            ValueError: if the step is negative.
        """
        if step < 0:
            raise ValueError(f"the step must be at least 0, got {step}. Count the steps trained so far")
        ticket = Ticket.of(model, step=step, accuracy=accuracy)
        write_ticket(ticket, self.path_of(step))
        return ticket

    def path_of(self, step: int) -> Path:
        """Return where the ticket of a step is, or would be."""
        return self.folder / f"ticket-{step:09d}.safetensors"

    @property
    def steps(self) -> list[int]:
        """The steps that have a ticket, in increasing order.

        Raises:
            ValueError: if a file is called like a ticket, but has no step in its name.
        """
        return sorted(map(_step_of, self.folder.glob("ticket-*.safetensors")))

    def at(self, step: int) -> Ticket:
        """Return the ticket of a step.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if its file is damaged, or holds the ticket of another step.
        """
        ticket = read_ticket(path := self.path_of(step))
        if ticket.step != step:
            raise ValueError(
                f"{path} must hold the ticket of step {step}, got that of step {ticket.step}. Rename the file"
            )
        return ticket

    def frame(self) -> "pd.DataFrame":
        """Return by step a row per ticket: connections, density, accuracy, and the size of its file in bytes."""
        import pandas as pd

        rows = [
            (step, one.count, one.density, one.accuracy, self.path_of(step).stat().st_size)
            for step, one in zip(self.steps, self, strict=True)
        ]
        return pd.DataFrame(rows, columns=["step", "connections", "density", "accuracy", "bytes"]).set_index("step")

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Ticket]:
        return map(self.at, self.steps)

    @overload
    def __getitem__(self, position: int) -> Ticket: ...

    @overload
    def __getitem__(self, position: slice) -> list[Ticket]: ...

    def __getitem__(self, position: int | slice) -> Ticket | list[Ticket]:
        if isinstance(position, slice):
            return [self.at(step) for step in self.steps[position]]
        return self.at(self.steps[position])

    def __repr__(self) -> str:
        return f"TicketBook({str(self.folder)!r}): {len(self)} tickets"


def _step_of(path: Path) -> int:
    digits = path.stem.removeprefix("ticket-")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(
            f"the files of tickets must be called ticket-STEP.safetensors, got {path}. Rename it, or move it elsewhere"
        )
    return int(digits)
