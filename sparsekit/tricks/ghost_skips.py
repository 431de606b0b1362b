"""Ghost skips lead around single layers, become weaker while the network learns, and are then removed."""

import types
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.schedules import Linear, Schedule
from sparsekit.tricks.base import GHOST, GhostTrick, ghosts_of
from sparsekit.tricks.skip_targets import SkipTarget, find_skip_targets, settings_of
from sparsekit.utils.registry import register
from sparsekit.utils.seeds import generator
from sparsekit.utils.settings import setting

INITIAL_WEIGHT = 1e-4  # of every weight of a branch, as in the released code of ToST
NAME = "ghost"  # of the skip, among the parts of the module it adds to


class Skip(nn.Module):
    """A skip records the input of a skip target, and adds what it makes of it to the output.

    Args:
        strength: the factor in front of it. At 0 the output stays as it is.
    """

    def __init__(self):
        super().__init__()
        self.strength = 1.0
        self.input: Tensor | None = None

    def added_to(self, out: Tensor) -> Tensor:
        """Return the output with the skip added to it."""
        x, self.input = self.input, None
        if self.strength == 0 or x is None:
            return out
        return out + self.strength * self(x, out).to(out.dtype)


class Identity(Skip):
    """The skip is the input itself if the shapes agree, else its mean over neighbours, repeated if needed."""

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        if x.shape == out.shape:
            return x
        if out.dim() == 4:  # images, over channels, rows and columns at once
            channels, height, width = out.shape[1:]
            return functional.adaptive_avg_pool3d(x.unsqueeze(1), (channels, height, width)).squeeze(1)
        return functional.adaptive_avg_pool1d(x.reshape(-1, 1, x.shape[-1]), out.shape[-1]).view(out.shape)


class Projection(Skip):
    """The skip is the input times a random matrix, neither trained nor saved. Images are averaged to their new size."""

    matrix: Tensor

    def __init__(self, inputs: int, outputs: int, *, name: str, like: Tensor):
        super().__init__()
        draws = torch.randn(outputs, inputs, generator=generator(0, "ghost-skips", name)) / inputs**0.5
        self.register_buffer("matrix", draws.to(like), persistent=False)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        if out.dim() == 4:
            small = functional.adaptive_avg_pool2d(x, (out.shape[2], out.shape[3]))
            return functional.conv2d(small, self.matrix[:, :, None, None])
        return functional.linear(x, self.matrix)


class Branch(Skip):
    """The published branch is a trained convolution 1 x 1 with batch norm."""

    def __init__(self, inputs: int, outputs: int, *, stride: tuple[int, ...], like: Tensor):
        super().__init__()
        device, dtype = like.device, like.dtype
        with torch.device("meta"):  # no random numbers for weights that start at a constant
            self.conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)  # type: ignore[arg-type]
        self.conv.weight = nn.Parameter(torch.full(self.conv.weight.shape, INITIAL_WEIGHT, device=device, dtype=dtype))
        self.bn = nn.BatchNorm2d(outputs, device=device, dtype=dtype)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@register("trick", "ghost-skips")
@dataclass(frozen=True, kw_only=True)
class GhostSkips(GhostTrick):
    """Skips lead around single layers until `stop`: `z = norm(layer(x)) + strength * skip(x)`, before the ReLU.

    `identity` has no parameters and fits any network. It adds the input itself if the shapes agree, else its average of
    the output's shape. `projection` multiplies by a fixed random matrix instead of averaging. `branch` is what was
    published, a dense convolution 1 x 1 with batch norm around each convolution in residual blocks. `ghost_cost` in
    `analysis` says how many weights that is beside the sparse budget. At strength 0 outputs are those of the plain
    network.

    Raises:
        ValueError: if the kind is unknown.
        TypeError: if the strength is no schedule.

    Source: ghost skip connections of ToST, Jaiswal et al. (2022), ICML. `branch` is as in the released code, where
        its strength is always 1 and it is never removed. Schedule and parameter-free skips are ours, as the paper's
        text could not be consulted.
    """

    way: Literal["identity", "projection", "branch"] = setting("identity", "what the input becomes on its way around")
    strength: Schedule = setting(Linear(1.0, 0.0), "factor in front of the skips, until stop", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        if self.way not in (ways := ("identity", "projection", "branch")):
            raise ValueError(f"way must be one of {', '.join(ways)}, got {self.way!r}")
        if not isinstance(self.strength, Schedule):
            raise TypeError(f"strength must be a Schedule, got {self.strength!r}. Use Constant(...) for a fixed number")

    def insert(self, model: nn.Module) -> None:
        """Add a skip to each skip target.

        Raises:
            ValueError: if there is none, or they have skips already.
        """
        if any(isinstance(ghost, Skip) for ghost in model.modules()):
            raise ValueError("a model must get its ghost skips once, got one that has some. Set them by `at`")
        targets = find_skip_targets(model, blocks_only=self.way == "branch")
        if not targets.layers:
            raise ValueError(f"ghost skips need {targets.needed}, got none ({targets}). Leave the trick out")
        for target in targets.layers:
            _wrap(model.get_submodule(target.first), model.get_submodule(target.last), self._skip(model, target))

    def set_strength(self, model: nn.Module, step: int) -> None:
        """Give the skips their strength.

        Raises:
            ValueError: if there are none.
        """
        skips = [module for module in model.modules() if isinstance(module, Skip)]
        if not skips:
            raise ValueError(f"ghost skips must be put in before step {step}, got a model without. Call apply first")
        for skip in skips:
            skip.strength = self.strength.lasting(self.end)(step)

    def remove(self, model: nn.Module) -> list[nn.Parameter]:
        removed: list[nn.Parameter] = []
        for module in ghosts_of(model).values():
            if isinstance(skip := vars(module)[GHOST], Skip):
                del vars(module)[GHOST], vars(module)["forward"]
                if NAME in module._modules:
                    delattr(module, NAME)
                    removed += skip.parameters()
        return removed

    def _skip(self, model: nn.Module, target: SkipTarget) -> Skip:
        if self.way == "identity":
            return Identity()
        layer = settings_of(model.get_submodule(target.first))
        like = next(model.get_submodule(target.first).parameters())
        if self.way == "projection":
            return Projection(layer.inputs, layer.outputs, name=target.first, like=like)
        return Branch(layer.inputs, layer.outputs, stride=layer.stride, like=like)


def _wrap(first: nn.Module, last: nn.Module, skip: Skip) -> None:
    """Let the skip record the input of the first module, and add to the output of the last."""
    for module, forward in ((first, _recording), (last, _adding)):
        vars(module)[GHOST] = skip
        vars(module)["forward"] = types.MethodType(_recording_and_adding if first is last else forward, module)
    last.add_module(NAME, skip.train(last.training))


def _recording(self: nn.Module, input: Tensor) -> Tensor:
    vars(self)[GHOST].input = input
    return type(self).forward(self, input)


def _adding(self: nn.Module, *args: Any) -> Tensor:
    return vars(self)[GHOST].added_to(type(self).forward(self, *args))


def _recording_and_adding(self: nn.Module, input: Tensor) -> Tensor:
    vars(self)[GHOST].input = input
    return _adding(self, input)
