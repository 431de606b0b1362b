"""Measure a layer's speed in the background, one sparsity after the other."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.analysis import step_seconds
from sparsekit.widgets.live import Snapshot

SPARSITIES = (0, 30, 50, 60, 70, 80, 90, 95, 98, 99)  # per cent, closer where lines cross or promises grow


def live_speed(
    layer: nn.Module,
    example: Float[Tensor, "n *input"],
    *,
    sparsities: Sequence[int] = SPARSITIES,
    seed: int = 0,
    rounds: int = 5,
) -> Iterator[Snapshot]:
    """Time a layer at each sparsity and yield a snapshot whose step is the sparsity in per cent.

    Its metrics are the milliseconds of a training step in each way of `analysis.step_seconds`. Hand it to a `Run`, and
    you can pause and stop it between two sparsities.

    Args:
        layer: a plain linear layer or 2-D convolution.
        example: a batch of inputs.
        sparsities: in per cent, below 100.
        seed: of the connections.
        rounds: samples of each way at each sparsity.

    Raises:
        ValueError: if a sparsity is outside [0, 100).
    """
    if outside := [percent for percent in sparsities if not 0 <= percent < 100]:
        raise ValueError(f"sparsities must lie in [0, 100) per cent, got {outside[0]}. Leave some connections")
    for percent in sparsities:
        seconds = step_seconds(layer, 1 - percent / 100, example, seed=seed, rounds=rounds)
        yield Snapshot(percent, {name: 1000 * value for name, value in seconds.items()})
