"""Several equal networks as one wide network, whose topology is block-diagonal.

Features of member k are block k of the wide network's features, or channels. A linear layer of `size` members has
`size` times as many inputs and outputs, and each member's connections lie in the block of its own. A convolution has
a group for each member instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparsekit.kernels import batch_major
from sparsekit.layers import densify, sparsify
from sparsekit.layers.convert import KINDS, replace_modules
from sparsekit.layers.fusing import fuse_relus
from sparsekit.layers.kinds import Conv2dKind
from sparsekit.topology import LayerTopology
from sparsekit.utils.seeds import generator, seeded_rng

# Modules that treat every feature, or every channel, by itself, and give the same bits wherever it lies.
FEATURE_WISE = (nn.Sequential, nn.Flatten, nn.Identity, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d)

Members = Sequence[LayerTopology]  # the topologies of one layer, a member each


def wide_model(model: nn.Module, topologies: Mapping[str, Members]) -> nn.Module:
    """Return a csr network for several members like a model. Its numbers are still to be filled in.

    Args:
        model: one of the members, plain or sparse. It is not changed.
        topologies: of every linear layer and convolution by name, a member each.

    Raises:
        TypeError: if a module is of a kind that might mix the features of different members.
    """
    plain = densify(model)
    size = len(next(iter(topologies.values())))
    _check_shares_nothing(plain)
    swap = {
        id(module): _wide(name, module, size)
        for name, module in plain.named_modules()
        if type(module) not in FEATURE_WISE
    }
    plain = replace_modules(plain, swap)
    with seeded_rng(generator(0, "population")):  # initial values, which nobody will see
        wide = sparsify(plain, {name: joined(layers) for name, layers in topologies.items()}, "csr")
    fuse_relus(wide)
    return wide.train()


def joined(layers: Members) -> LayerTopology:
    """Return the block-diagonal topology of several members' topologies of one layer.

    Example:
        >>> one, two = (LayerTopology((1, 2), torch.tensor(at)) for at in ([0], [0, 1]))
        >>> joined([one, two]).mask().int().tolist()
        [[1, 0, 0, 0], [0, 0, 1, 1]]
    """
    size, (outputs, inputs, *kernel) = len(layers), layers[0].shape
    counts = torch.tensor([layer.count for layer in layers])
    member = torch.arange(size).repeat_interleave(counts)
    positions = torch.cat([layer.indices for layer in layers])
    if kernel:
        return LayerTopology((size * outputs, inputs, *kernel), positions + member * layers[0].size)
    rows = positions // inputs
    # Each row is longer by the inputs of the other members, and begins with those of the members before.
    positions = positions + (rows + member * outputs) * (size - 1) * inputs + member * (outputs * inputs + inputs)
    return LayerTopology((size * outputs, size * inputs), positions)


def split(numbers: Float[Tensor, "..."], counts: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the part of each member, flat, in a tensor of the wide network. Writing to a part writes to the whole.

    A member's rows are neighbours, so its numbers are neighbours as well.
    """
    return numbers.view(-1).split(list(counts))


def side_by_side(inputs: Tensor, size: int) -> Tensor:
    """Return inputs `(B * size, F, ...)`, the members' turn about, as those of the wide network, `(B, size * F, ...)`.

    Example:
        >>> side_by_side(torch.tensor([[1, 1], [2, 2], [3, 3], [4, 4]]), 2).tolist()
        [[1, 1, 2, 2], [3, 3, 4, 4]]
    """
    return inputs.view(len(inputs) // size, size * inputs.shape[1], *inputs.shape[2:])


def part_of_features(features: Tensor, member: int, size: int) -> Tensor:
    """Return a member's features or channels in `(B, size * F, ...)`."""
    return features.chunk(size, dim=1)[member]


def per_member(outputs: Float[Tensor, "b outputs"], size: int) -> Float[Tensor, "size classes b"]:
    """Return the members' outputs, which `torch.nn.functional.cross_entropy` takes as they are."""
    return outputs.T.reshape(size, -1, len(outputs))


class MemberPool(nn.AdaptiveAvgPool2d):
    """This is `torch.nn.AdaptiveAvgPool2d`, which adds up the pixels of a channel in the same order for any member.

    In feature-major memory torch adds up several channels at once, and the last ones in another order.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(batch_major(input))


def _wide(name: str, module: nn.Module, size: int) -> nn.Module:
    if type(module) is nn.AdaptiveAvgPool2d:
        return MemberPool(module.output_size)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.momentum is not None:
        dtype = None if module.weight is None else module.weight.dtype
        settings = {"eps": module.eps, "momentum": module.momentum, "affine": module.affine, "dtype": dtype}
        return type(module)(size * module.num_features, track_running_stats=module.track_running_stats, **settings)
    if type(module) not in KINDS:
        raise TypeError(
            f"the networks of a population must be made of layers, batch norms, ReLUs and poolings in a row, got "
            f"{type(module).__name__} as {name or 'the whole'}. Train them one by one with run"
        )
    kind, weight, bias = KINDS[type(module)].of(module), module.get_parameter("weight"), module.bias is not None
    outputs, inputs, *kernel = weight.shape
    with torch.device("meta"):
        if isinstance(kind, Conv2dKind):
            wide = replace(kind, groups=size * kind.groups).plain((size * outputs, inputs, *kernel), bias)
        else:
            wide = kind.plain((size * outputs, size * inputs), bias)
    return wide.to(weight.dtype)


def _check_shares_nothing(model: nn.Module) -> None:
    owned = sum(x is not None for module in model.modules() for x in module._parameters.values())
    if owned != len(list(model.parameters())):
        raise TypeError(
            "the layers of a population's networks must not share parameters, got some that do. Train them one by one "
            "with run"
        )
