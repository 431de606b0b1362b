"""A network and its copy with hidden units in another order compute the same, and their average need not."""

from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from sparsekit.analysis import barrier, evaluate_path, linear_path
from sparsekit.experiments.course.arena import digits, rigl, trained
from sparsekit.layers import densify

UNITS = 48  # of each hidden layer


class Pair(NamedTuple):
    """A network and its copy, in percent of the test digits.

    Args:
        accuracy: of the network.
        other: of the copy.
        barrier: how high the error between the two rises above the line.
    """

    accuracy: float
    other: float
    barrier: float


@cache
def pair_with_swapped(count: int) -> Pair:
    """Measure the line between a trained network and its copy, in which `count` units of each layer are reordered."""
    data, network = digits(), _network()
    test = [(data.prepare(data.test.inputs), data.test.labels)]
    line = evaluate_path(linear_path(network, with_swapped(network, count)), test)
    first, last = (100 * float(line["accuracy"].iloc[end]) for end in (0, -1))
    return Pair(first, last, 100 * barrier(line, of="error"))


def with_swapped(network: nn.Module, count: int) -> nn.Module:
    """Return a copy of an MLP in which the first `count` units of each hidden layer stand in a random order.

    It computes the same, because the next layer reads the units in the new order.
    """
    other, generator = deepcopy(network), torch.Generator().manual_seed(0)
    layers = [module for module in other.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer, following in pairwise(layers):
            order = torch.arange(layer.out_features)
            order[:count] = torch.randperm(count, generator=generator)
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            following.weight.copy_(following.weight[:, order])
    return other.eval()


@cache
def _network() -> nn.Module:
    (network,) = trained({"RigL": rigl()}, [0])["RigL"]
    return densify(network).eval()
