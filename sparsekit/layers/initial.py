"""This module draws initial weights for connections that never had a dense weight."""

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.topology import LayerTopology


def initial_values(topology: LayerTopology, dtype: torch.dtype = torch.float32) -> Float[Tensor, " e"]:
    """Draw a weight for each connection, uniformly in `+-sqrt(3 / fan_in)` of its own output (variance `1 / fan_in`).

    A dense layer's initialisation depends on the width of its input, so signals would vanish where few connections
    exist. Random numbers are torch's own, as in every `nn.Module`.

    Source: the code of arXiv:2401.06898 (GSE), with the variance of LeCun et al. (1998), "Efficient backprop".

    Example:
        >>> layer = LayerTopology((2, 4), torch.tensor([0, 1, 2, 4]))
        >>> values = initial_values(layer)
        >>> bool(values[:3].abs().max() <= 1), bool(values[3].abs() <= 3**0.5)
        (True, True)
    """
    reach = (3 / topology.fan_in()).sqrt().to(dtype)[topology.rows]
    return (2 * torch.rand(topology.count, dtype=dtype) - 1) * reach
