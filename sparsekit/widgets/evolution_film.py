"""Encode the evolution of whole networks for the browser: first connections, what each rewiring flips, and accuracy."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64

from sparsekit.datasets import Dataset
from sparsekit.rewiring.journal import Journal
from sparsekit.topology import Topology
from sparsekit.train.history import History
from sparsekit.widgets.mask_deltas import write_gaps

MOST_CONNECTIONS = 6_000  # of a network that is drawn as a graph


def layers_of(topology: Topology, data: Dataset) -> list[list[int]]:
    """Return outputs and inputs of each layer of a network whose layers follow one another, from the data to classes.

    Raises:
        ValueError: if they do not, or there are too many connections to draw.
    """
    shapes = [tuple(layer.shape) for layer in topology.values()]
    is_chain = all(len(shape) == 2 for shape in shapes) and all(one[0] == other[1] for one, other in pairwise(shapes))
    ends = (shapes[0][1], shapes[-1][0]) if shapes else ()
    if not is_chain or ends != (math.prod(data.shape), data.num_classes):
        raise ValueError(
            f"the network must be sparse linear layers that follow one another, got shapes {shapes}. Choose a recipe "
            "of an mlp, such as digits_small, without excluded layers"
        )
    if topology.count > MOST_CONNECTIONS:
        raise ValueError(
            f"a network must have at most {MOST_CONNECTIONS:,} connections to be drawn as a graph, got "
            f"{topology.count:,}. Lower the density, or choose digits_small"
        )
    return [list(shape) for shape in shapes]


def encode_run(history: History, **about: Any) -> dict[str, Any]:
    """Return a run as the browser reads it. Steps count how many are done.

    Args:
        history: of the run, which may not be over.
        about: what to send beside it.
    """
    journal, starts = history.journal, _starts(history.journal.initial)
    first = _joined({name: layer.indices.numpy() for name, layer in journal.initial.items()}, starts)
    flipped = [
        np.sort(np.concatenate([_joined(part, starts) for part in (_arrays(update.dropped), _arrays(update.grown))]))
        for _, update in journal.entries
    ]
    measured = [row for row in history.rows if row.name == "test accuracy"]
    return {
        **about,
        "count": len(first),
        "flips": [len(positions) for positions in flipped],
        "rewired": [step + 1 for step in journal.steps],
        "measured": [row.step + 1 for row in measured],
        "accuracy": [round(row.value, 5) for row in measured],
        "positions": b"".join(write_gaps(positions) for positions in (first, *flipped)),
    }


def steps_done(history: History) -> int:
    """Return how many steps a history tells of."""
    return history.rows[-1].step + 1 if history.rows else 0


def idle_units(topology: Topology) -> int:
    """Count the hidden units that lie on no path from an input to an output."""
    down, up = reached([layer.mask().numpy() for layer in topology.values()])
    return sum(int((~(one & other)).sum()) for one, other in zip(down[1:-1], up[1:-1], strict=True))


def reached(masks: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return which units some input reaches, and which reach some output, for each layer of units."""
    down = [np.ones(masks[0].shape[1], dtype=bool)]
    up = [np.ones(masks[-1].shape[0], dtype=bool)]
    for mask in masks:
        down.append(np.asarray((mask & down[-1]).any(axis=1)))
    for mask in reversed(masks):
        up.insert(0, np.asarray((mask & up[0][:, None]).any(axis=0)))
    return down, up


def only_start(topology: Topology) -> History:
    """Return the history of a run that has not begun."""
    return History(journal=Journal(topology.to("cpu")))


def _starts(topology: Topology) -> dict[str, int]:
    ends = np.cumsum([layer.size for layer in topology.values()])
    return dict(zip(topology, [0, *map(int, ends[:-1])], strict=True))


def _arrays(part: dict) -> dict[str, Int64[np.ndarray, " _"]]:
    return {name: positions.cpu().numpy() for name, positions in part.items()}


def _joined(parts: dict[str, Int64[np.ndarray, " _"]], starts: dict[str, int]) -> Int64[np.ndarray, " _"]:
    """Return the positions of all layers as those of one long layer."""
    shifted: Sequence = [positions + starts[name] for name, positions in parts.items()]
    return np.concatenate(shifted) if shifted else np.empty(0, dtype=np.int64)
