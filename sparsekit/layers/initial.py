"""Initial weights of sparse layers fit the number of inputs that each output really has."""

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.topology import LayerTopology

INITS = ("fan-in", "dense")


def check_init(init: object, choices: tuple[str, ...] = INITS) -> None:
    """Raise ValueError unless this is one of the initialisations."""
    if init not in choices:
        raise ValueError(f"init must be one of {', '.join(choices)}, got {init!r}. Choose one of them")


def fan_in_factors(topology: LayerTopology) -> Float[Tensor, " o"]:
    """Return `sqrt(dense fan-in / own fan-in)` of each output, in float64, and exactly 1 where no input is missing.

    An output without any connection gets the factor of one connection, which is the first that could grow.

    Example:
        >>> fan_in_factors(LayerTopology((3, 4), torch.tensor([0, 4, 5, 6, 7]))).tolist()
        [2.0, 1.0, 2.0]
    """
    return (topology.num_inputs / topology.fan_in().clamp(min=1).double()).sqrt()


def scaled_rows(weight: Float[Tensor, "o *f"], topology: LayerTopology) -> Float[Tensor, "o *f"]:
    """Return a dense weight, in which that of each output is multiplied by its factor."""
    return weight * fan_in_factors(topology).to(weight).view(-1, *(1 for _ in weight.shape[1:]))


def initial_values(topology: LayerTopology, dtype: torch.dtype = torch.float32) -> Float[Tensor, " e"]:
    """Draw a weight for each connection, uniformly in `+-sqrt(3 / fan_in)` of its own output (variance `1 / fan_in`).

    This needs no dense weight, so it is for layers that are too wide to have one. Random numbers are torch's own, as in
    every `nn.Module`.

    Source: the code of arXiv:2401.06898 (GSE), with the variance of LeCun et al. (1998), "Efficient backprop".

    Example:
        >>> layer = LayerTopology((2, 4), torch.tensor([0, 1, 2, 4]))
        >>> values = initial_values(layer)
        >>> bool(values[:3].abs().max() <= 1), bool(values[3].abs() <= 3**0.5)
        (True, True)
    """
    reach = (3 / topology.fan_in()).sqrt().to(dtype)[topology.rows]
    return (2 * torch.rand(topology.count, dtype=dtype) - 1) * reach
