"""Dense rivals in bfloat16, which a user could pick instead of sparsity where the processor computes in it.

`pure` converts the whole model. `autocast` keeps its weights in float32, as mixed precision does. `inductor` is the
pure one under `torch.compile`. Their results are less exact than those of all other methods, so they are compared with
the best dense network in float32 and are no baseline.
"""

import copy

import torch

from sparsekit.analysis.costs.benchmark.layers import FORMATS, Layer, Step
from sparsekit.analysis.costs.benchmark.networks import Network, TrainingStep, in_channels_last
from sparsekit.analysis.costs.benchmark.rivals import compiled
from sparsekit.analysis.costs.speed import Autocast

BF16 = torch.bfloat16


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16. Others do it by way of float32, tens of times as slowly."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def layer_steps(layer: Layer, *, inductor: bool = False) -> dict[str, Step]:
    """Return the steps of a dense layer, by method.

    Args:
        layer: what is measured.
        inductor: whether to compile as well, which takes seconds.
    """
    torch.manual_seed(0)
    plain, x = layer.make(), torch.randn(layer.batch_shape)
    half, memory = copy.deepcopy(plain).to(BF16), "channels-last" if x.dim() == 4 else "contiguous"
    steps = {
        "bf16, pure": Step(half, half.get_parameter("weight"), x.to(BF16), memory),
        "bf16, autocast": Step(Autocast(plain), plain.get_parameter("weight"), x, memory),
    }
    if inductor:
        fast = compiled(half, FORMATS[memory](x).to(BF16).requires_grad_())
        steps["bf16, inductor"] = Step(fast, half.get_parameter("weight"), x.to(BF16), memory)
    return steps


def network_steps(network: Network, *, inductor: bool = False) -> dict[str, TrainingStep]:
    """Return the training steps of a dense network, by method, as `layer_steps` does."""
    plain, x, labels = network.start()
    if x.dim() == 4:
        plain, x = in_channels_last(plain, x)
    half, short = copy.deepcopy(plain).to(BF16), x if network.reads_tokens else x.to(BF16)
    steps = {
        "bf16, pure": TrainingStep(half, short, labels),
        "bf16, autocast": TrainingStep(Autocast(copy.deepcopy(plain)), x, labels),
    }
    if inductor:
        fast = compiled(copy.deepcopy(half).train(), short)
        steps["bf16, inductor"] = TrainingStep(fast, short, labels)
    return steps
