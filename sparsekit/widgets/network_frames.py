"""A small network at one moment, as numbers: which connections it has, what they weigh, and how well it does.

Positions count through all layers one after the other, row by row, so connection 3,072 of a network 64-48-48-10 is the
first of its second layer. The browser gets a frame as one message, which has a header, the gaps of positions, values
and biases. Values and biases are float16 in a film, because 60 frames of them travel at once. They are float32 in its
last frame, where a forward pass in the browser should equal torch's.
"""

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from sparsekit.evaluation.measuring import evaluating
from sparsekit.layers import SparseLayer
from sparsekit.utils.checks import must_be
from sparsekit.widgets.mask_deltas import write_gaps

MOST_CONNECTIONS = 6000  # that a reader can follow, and a browser without a GPU draws 40 times a second
HEADER = struct.Struct("<6If")  # bytes of the frame, step, rewirings, connections, biases, bytes of a number, accuracy
LARGEST_HALF = 65504.0  # of float16
CHECKED_EXAMPLES = 8  # of random inputs, on which a network must do what its lines say
TOLERANCE = 1e-4  # relative, between torch's sums and ours

Shapes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame holds the connections of a network after some steps of its training.

    Args:
        step: number of steps trained.
        rewiring: number of rewirings before this frame.
        positions: of all connections, through all layers, sorted.
        values: their weights.
        biases: of all units after the inputs.
        accuracy: share of the test examples that it gets right, 0 to 1.
    """

    step: int
    rewiring: int
    positions: Int64[np.ndarray, " e"]
    values: Float[np.ndarray, " e"]
    biases: Float[np.ndarray, " u"]
    accuracy: float = math.nan

    @property
    def count(self) -> int:
        """Number of connections."""
        return len(self.positions)

    def rounded(self) -> "Frame":
        """Return the frame with float16 numbers, if all of them are small enough."""
        largest = max((float(np.abs(part).max()) for part in (self.values, self.biases) if len(part)), default=0.0)
        if largest > LARGEST_HALF:
            return self
        return replace(self, values=self.values.astype(np.float16), biases=self.biases.astype(np.float16))

    def encode(self) -> bytes:
        """Return the frame as the browser reads it."""
        gaps = write_gaps(self.positions)
        numbers = np.concatenate([self.values, self.biases])
        size = HEADER.size + len(gaps) + numbers.nbytes
        counts = (size, self.step, self.rewiring, self.count, len(self.biases), numbers.itemsize)
        return HEADER.pack(*counts, self.accuracy) + gaps + numbers.tobytes()


def starts_of(shapes: Shapes) -> list[int]:
    """Return where each layer begins among the positions of all, and where the last one ends.

    Example:
        >>> starts_of(((48, 64), (10, 48)))
        [0, 3072, 3552]
    """
    return [0, *itertools.accumulate(outputs * inputs for outputs, inputs in shapes)]


def shapes_of_chain(model: nn.Module) -> Shapes:
    """Return the shapes of a network's layers, `(outputs, inputs)` in the order of the signal.

    Raises:
        TypeError: if it is no network.
        ValueError: if it is no chain of two or more linear layers with a ReLU between them, or is too large to draw.
    """
    must_be("model", model, nn.Module, "Give the network itself")
    layers = _layers(model)
    sides = [_shape(layer) for layer in layers]
    shapes: Shapes = tuple((side[0], side[1]) for side in sides if len(side) == 2)
    fits = all(before[0] == after[1] for before, after in itertools.pairwise(shapes))
    if len(shapes) < 2 or len(shapes) < len(sides) or not fits:
        raise ValueError(
            f"the network must be a chain of two or more linear layers, got {_named(model)} with {sides}. "
            "Use models.build('mlp', ...), or show its masks by MaskExplorer"
        )
    count = sum(_count(layer) for layer in layers)
    if count > MOST_CONNECTIONS:
        raise ValueError(
            f"the network must have at most {MOST_CONNECTIONS:,} connections to be drawn, got {count:,}. "
            "Lower its density or its widths, or show its masks by MaskExplorer"
        )
    _check_does_what_its_lines_say(model, shapes)
    return shapes


@torch.no_grad()
def frame_of(model: nn.Module, *, step: int = 0, rewiring: int = 0) -> Frame:
    """Copy the connections of a network, which `shapes_of_chain` has checked."""
    positions, values, biases, start = [], [], [], 0
    for layer in _layers(model):
        outputs, inputs = _shape(layer)
        if isinstance(layer, SparseLayer):
            positions.append(layer.topology.indices.cpu().numpy() + start)
            values.append(layer.values())
        else:
            positions.append(np.arange(start, start + outputs * inputs))
            values.append(layer.weight.flatten())
        biases.append(torch.zeros(outputs) if layer.bias is None else layer.bias)
        start += outputs * inputs
    weights, offsets = (
        torch.cat([part.detach().float().cpu() for part in parts]).numpy() for parts in (values, biases)
    )
    return Frame(step, rewiring, np.concatenate(positions), weights, offsets)


def matrices(shapes: Shapes, frame: Frame) -> list[Float[np.ndarray, "o i"]]:
    """Return the weights of each layer, with zeros where there is no connection."""
    starts = starts_of(shapes)
    weights = np.zeros(starts[-1], dtype=np.float32)
    weights[frame.positions] = frame.values
    ends = itertools.pairwise(starts)
    return [weights[start:end].reshape(shape) for (start, end), shape in zip(ends, shapes, strict=True)]


def outputs_of(shapes: Shapes, frame: Frame, inputs: Float[np.ndarray, "n i"]) -> Float[np.ndarray, "n o"]:
    """Return the network's outputs, computed from the numbers of the frame alone."""
    biases = np.split(frame.biases.astype(np.float32), np.cumsum([outputs for outputs, _ in shapes])[:-1])
    signal = inputs
    for number, (weight, bias) in enumerate(zip(matrices(shapes, frame), biases, strict=True), start=1):
        signal = signal @ weight.T + bias
        signal = np.maximum(signal, 0) if number < len(shapes) else signal
    return signal


def with_accuracy(
    shapes: Shapes, frame: Frame, inputs: Float[np.ndarray, "n i"], labels: Int64[np.ndarray, " n"]
) -> Frame:
    """Return the frame with the share of these examples that it gets right."""
    return replace(frame, accuracy=float((outputs_of(shapes, frame, inputs).argmax(1) == labels).mean()))


def on_paths(shapes: Shapes, frame: Frame) -> Bool[np.ndarray, " e"]:
    """Say of each connection whether it lies on a path from an input to an output.

    Example:
        >>> frame = Frame(0, 0, np.array([0, 3, 4]), np.ones(3), np.zeros(3))
        >>> on_paths(((2, 2), (1, 2)), frame).tolist()
        [True, False, True]
    """
    masks = [weight != 0 for weight in matrices(shapes, replace(frame, values=np.ones(frame.count)))]
    arrives = [np.ones(shapes[0][1], dtype=bool)]
    for mask in masks:
        arrives.append((mask & arrives[-1]).any(1))
    leads_on = [np.ones(shapes[-1][0], dtype=bool)]
    for mask in reversed(masks):
        leads_on.append((mask & leads_on[-1][:, None]).any(0))
    parts = zip(masks, arrives, leads_on[-2::-1], strict=False)
    alive = [(mask & before & after[:, None]).ravel() for mask, before, after in parts]
    return np.concatenate(alive)[frame.positions]


def without(
    shapes: Shapes,
    frame: Frame,
    *,
    kept: int | None = None,
    units: Iterable[Sequence[int]] = (),
    links: Iterable[Sequence[int]] = (),
) -> Frame:
    """Return a frame without its weakest connections, without all those of some units, and without some others.

    Args:
        shapes: of the layers.
        frame: the network.
        kept: number of the strongest connections that stay, or None for all.
        units: `[column, unit]`, where column 0 has the inputs.
        links: `[layer, output, input]`.

    Example:
        >>> frame = Frame(0, 0, np.array([0, 3, 4, 5]), np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(3))
        >>> without(((2, 2), (1, 2)), frame, kept=3, units=[[1, 0]]).positions.tolist()
        [3, 5]
    """
    stays = [np.ones(shape, dtype=bool) for shape in shapes]
    for column, unit in units:
        if column > 0:
            stays[column - 1][unit] = False
        if column < len(shapes):
            stays[column][:, unit] = False
    for layer, output, inputs in links:
        stays[layer][output, inputs] = False
    ranks = np.argsort(np.argsort(-np.abs(frame.values.astype(np.float32)), kind="stable"))
    chosen = np.concatenate([one.ravel() for one in stays])[frame.positions]
    chosen &= ranks < (frame.count if kept is None else kept)
    return replace(frame, positions=frame.positions[chosen], values=frame.values[chosen])


@torch.no_grad()
def _check_does_what_its_lines_say(model: nn.Module, shapes: Shapes) -> None:
    """Compare a network with the chain that we draw, on random inputs, because modules may do anything."""
    device = next(model.parameters()).device
    inputs = torch.randn(CHECKED_EXAMPLES, shapes[0][1], generator=torch.Generator().manual_seed(0))
    expected = outputs_of(shapes, frame_of(model), inputs.numpy())
    try:
        with evaluating(model):
            outputs = model(inputs.to(device)).float().cpu().numpy()
    except Exception:  # whatever other people's modules raise on inputs of this shape
        outputs = np.empty(0)
    if outputs.shape != expected.shape or not np.allclose(outputs, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise ValueError(
            "the network must be linear layers with a ReLU between any two, because a drawing shows nothing else, "
            f"got {_named(model)} with other outputs. Leave out its other layers, or show its masks by MaskExplorer"
        )


def _layers(model: nn.Module) -> Sequence:
    return [module for module in model.modules() if isinstance(module, SparseLayer | nn.Linear)]


def _shape(layer: nn.Module) -> tuple[int, ...]:
    return tuple(layer.shape) if isinstance(layer, SparseLayer) else tuple(layer.get_parameter("weight").shape)


def _count(layer: nn.Module) -> int:
    return layer.topology.count if isinstance(layer, SparseLayer) else math.prod(_shape(layer))


def _named(model: nn.Module) -> str:
    kinds = [type(module).__name__ for module in model.modules() if not list(module.children())]
    return ", ".join(kinds[:8]) + (" ..." if len(kinds) > 8 else "")
