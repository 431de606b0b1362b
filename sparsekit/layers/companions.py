"""Companions are the norms, GELUs and poolings between csr layers that keep activations feature-major.

torch's own would return ordinary tensors, slowly. These are subclasses with the same settings, parameters, buffers and
results. `sparsify(..., storage="csr")` puts them in, and `densify` takes them out again.
"""

import torch
from torch import Tensor, nn

from sparsekit.kernels import backend
from sparsekit.kernels.batch_norm import batch_norm
from sparsekit.kernels.layer_norm import layer_norm
from sparsekit.kernels.layout import from_rows, is_feature_major
from sparsekit.layers.chains import ChainedSequential, is_unwatched


class _FeatureMajorNorm(nn.modules.batchnorm._BatchNorm):
    """This base class holds the forward pass that the two batch norms share."""

    relu = False

    def forward(self, input: Tensor, added: Tensor | None = None) -> Tensor:
        """Normalise, then add `added` if there is one, as in a residual block, before the ReLU."""
        uses_batch = self.training or self.running_mean is None
        is_supported = is_feature_major(input) and backend.is_fast(input) and not torch.compiler.is_compiling()
        fits = added is None or (added.shape, added.dtype, added.device) == (input.shape, input.dtype, input.device)
        if not (is_supported and fits and self.affine) or input.numel() == 0:
            return self._finish(super().forward(input), added)
        if not uses_batch:
            return self._by_running_statistics(input, added)
        self._check_input_dim(input)
        if input.numel() == input.shape[1]:
            return super().forward(input)  # one number per channel, for which torch raises its own error
        y, mean, variance = batch_norm(input, self.weight, self.bias, eps=self.eps, relu=self.relu, added=added)
        if self.training and self.track_running_stats:
            self._track(mean, variance, input.numel() // input.shape[1])
        return y

    def _by_running_statistics(self, input: Tensor, added: Tensor | None) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        shape = (-1, *([1] * (input.dim() - 2)))
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return self._finish(input * scale.view(shape) + (self.bias - self.running_mean * scale).view(shape), added)

    def _finish(self, y: Tensor, added: Tensor | None) -> Tensor:
        y = y if added is None else y + added
        return torch.relu(y) if self.relu else y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, samples: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (samples / (samples - 1)), momentum)


class FeatureMajorBatchNorm1d(_FeatureMajorNorm, nn.BatchNorm1d):
    """This is `torch.nn.BatchNorm1d`, fast on feature-major activations `(batch, features)`."""


class FeatureMajorBatchNorm2d(_FeatureMajorNorm, nn.BatchNorm2d):
    """This is `torch.nn.BatchNorm2d`, fast on feature-major activations."""


class FeatureMajorLayerNorm(nn.LayerNorm):
    """This is `torch.nn.LayerNorm`, fast on feature-major activations `(..., features)`, for example tokens."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the features of each sample."""
        if not (is_unwatched(input) and self._takes(input)):
            return super().forward(input)
        return layer_norm(input.flatten(0, -2), self.weight, self.bias, eps=self.eps).view(input.shape)

    def _takes(self, x: Tensor) -> bool:
        """Return whether each sample's features are normalised, and an input is feature-major and of their type."""
        if x.dim() < 2 or not x.numel() or self.normalized_shape != (x.shape[-1],):
            return False
        return self.weight is not None and self.weight.dtype is x.dtype and x.movedim(-1, 0).is_contiguous()


class FeatureMajorGELU(nn.GELU):
    """This is `torch.nn.GELU`, which torch computes fast in one order of memory only."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute in the order in which the numbers lie in memory."""
        if not is_unwatched(input) or input.is_contiguous():
            return super().forward(input)
        order = sorted(range(input.dim()), key=input.stride, reverse=True)
        back = sorted(range(input.dim()), key=order.__getitem__)
        return super().forward(input.permute(order)).permute(back)


class FeatureMajorAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """This is `torch.nn.AdaptiveAvgPool2d`, whose mean over the whole image is fast on feature-major activations."""

    def forward(self, input: Tensor) -> Tensor:
        if self.output_size not in (1, (1, 1)) or not is_feature_major(input) or input.dim() != 4:
            return super().forward(input)
        return from_rows(input.permute(2, 3, 1, 0).flatten(0, 1).mean(0)[None, None])


class FeatureMajorMaxPool2d(nn.MaxPool2d):
    """This is `torch.nn.MaxPool2d`, fast on feature-major activations."""

    def forward(self, input: Tensor) -> Tensor:
        plain = self.dilation in (1, (1, 1)) and not self.ceil_mode and not self.return_indices
        if not plain or not is_feature_major(input) or input.dim() != 4:
            return super().forward(input)  # type: ignore[return-value]  # a pair if it returns indices
        best = None
        for window in _windows(input, self, float("-inf")):
            # As in torch, the first of equal numbers is the maximum, and gets the gradient.
            best = window if best is None else torch.where(window > best, window, best)
        assert best is not None
        return from_rows(best)


class FeatureMajorAvgPool2d(nn.AvgPool2d):
    """This is `torch.nn.AvgPool2d`, fast on feature-major activations."""

    def forward(self, input: Tensor) -> Tensor:
        plain = not self.ceil_mode and self.count_include_pad and self.divisor_override is None
        if not plain or not is_feature_major(input) or input.dim() != 4:
            return super().forward(input)
        windows = list(_windows(input, self, 0.0))
        return from_rows(sum(windows[1:], windows[0]) / len(windows))


class FusedReLU(nn.ReLU):
    """A fused ReLU hands its input on, because the batch norm before it does its work (see `fuse_relus`)."""

    def forward(self, input: Tensor) -> Tensor:
        return input


def _windows(x: Tensor, pool: nn.MaxPool2d | nn.AvgPool2d, filler: float):
    """Yield, for each position of the pooling window, the inputs of all outputs there, `(H, W, C, B)`."""
    (high, wide), (down, right), (top, left) = (_pair(s) for s in (pool.kernel_size, pool.stride, pool.padding))
    rows = x.permute(2, 3, 1, 0)
    if top or left:
        rows = nn.functional.pad(rows, (0, 0, 0, 0, left, left, top, top), value=filler)
    height, width = (rows.shape[0] - high) // down + 1, (rows.shape[1] - wide) // right + 1
    for row in range(high):
        for col in range(wide):
            yield rows[row : row + height * down : down, col : col + width * right : right][:height, :width]


def _pair(setting: int | tuple[int, int]) -> tuple[int, int]:
    return setting if isinstance(setting, tuple) else (setting, setting)


COMPANIONS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: FeatureMajorBatchNorm1d,
    nn.BatchNorm2d: FeatureMajorBatchNorm2d,
    nn.LayerNorm: FeatureMajorLayerNorm,
    nn.GELU: FeatureMajorGELU,
    nn.AdaptiveAvgPool2d: FeatureMajorAdaptiveAvgPool2d,
    nn.MaxPool2d: FeatureMajorMaxPool2d,
    nn.AvgPool2d: FeatureMajorAvgPool2d,
    nn.Sequential: ChainedSequential,
}
ADDS_IN_NORM = "adds_in_norm"  # a residual block with this setting can leave its addition to its last batch norm
PLAIN = {companion: plain for plain, companion in COMPANIONS.items()}


def add_companions(model: nn.Module) -> None:
    """Replace the class of every module of a model (no subclasses) that has a companion."""
    for module in model.modules():
        object.__setattr__(module, "__class__", COMPANIONS.get(type(module), type(module)))


def remove_companions(model: nn.Module) -> None:
    """Undo `add_companions` and `fuse_relus`."""
    unfuse_relus(model)
    for module in model.modules():
        object.__setattr__(module, "__class__", PLAIN.get(type(module), type(module)))


def unfuse_relus(model: nn.Module) -> int:
    """Undo `fuse_relus` in place, so each ReLU does its own work again, and return the number of pairs."""
    pairs = 0
    for module in model.modules():
        module.__dict__.pop(ADDS_IN_NORM, None)
        if isinstance(module, _FeatureMajorNorm):
            pairs += bool(module.__dict__.pop("relu", False))
        elif type(module) is FusedReLU:
            object.__setattr__(module, "__class__", nn.ReLU)
    return pairs
