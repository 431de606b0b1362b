"""Draws without replacement by weight, as numbers to rank: whoever keeps the highest has drawn."""

import torch
from jaxtyping import Float
from torch import Tensor

# The logarithm of a weight of 0. Those with any weight come first, and the others follow in random order.
LEAST = 1e-30


def draw_keys(weights: Float[Tensor, " c"], generator: torch.Generator, *, power: float = 1.0) -> Float[Tensor, " c"]:
    """Return a random key for each weight, so that the k highest are k draws without replacement by `weights ** power`.

    A key is `power * log(weight) + noise`, with standard Gumbel noise. So keys of different tensors may be ranked
    together. Weights of 0 come after all others, in random order.

    Args:
        weights: numbers that are at least 0, and need not sum to 1.
        generator: draws from it are the same on every device.
        power: what weights are raised to. 0 draws uniformly, and a large one keeps the highest weights.

    Source: the Gumbel top-k trick, Kool et al. (2019), arXiv:1903.06059, section 3.

    Example:
        >>> keys = draw_keys(torch.tensor([0.0, 3.0, 0.0, 1.0]), torch.Generator().manual_seed(0))
        >>> sorted(keys.topk(2).indices.tolist())
        [1, 3]
    """
    uniform = torch.rand(weights.numel(), generator=generator, device=generator.device, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform.clamp(LEAST, 1 - 2**-53)))
    return power * weights.double().clamp_min(LEAST).log() + noise.to(weights.device)
