"""Plain dense networks, which `sparsify` makes sparse. Nothing here knows about masks.

`build("resnet20", input_shape=(3, 32, 32), num_classes=10)` gives a `torch.nn.Module`. To add a model, write one file
in this folder: a function registered with kind `"model"` that takes `input_shape`, `num_classes` and its own settings
by keyword. Use a module of its own for every activation, so that a trick can replace a single one.
"""

from typing import Any

from torch import nn

from sparsekit.utils.registry import discover, get


def build(name: str, *, input_shape: tuple[int, ...], num_classes: int, **settings: Any) -> nn.Module:
    """Return a new, randomly initialised model by its registered name.

    Weights come from torch's global random numbers, as in any `nn.Module`, so call `torch.manual_seed` before.

    Args:
        name: one of `registry.names("model")`.
        input_shape: of one example: `Dataset.shape`.
        num_classes: number of outputs: `Dataset.num_classes`.
        settings: what this model offers, for example `hidden=(300, 100)`.

    Raises:
        ValueError: if there is no such model, or it cannot take such inputs.
        TypeError: if the model has no such setting.

    Example:
        >>> model = build("mlp", input_shape=(64,), num_classes=10)
        >>> [name for name, _ in model.named_parameters()][:2]
        ['fc1.weight', 'fc1.bias']
    """
    return get("model", name)(input_shape=input_shape, num_classes=num_classes, **settings)


discover(__name__)
