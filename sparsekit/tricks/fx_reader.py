"""`torch.fx` reads what a module's own `forward` does with its children, without running it on numbers."""

import inspect
from collections.abc import Sequence

import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from sparsekit.layers.tracing import traced

IN_PLACE = {torch.relu_, Tensor.relu_, functional.relu_}
CALLS = IN_PLACE | {torch.relu, Tensor.relu, functional.relu}
METHODS = {"relu", "relu_"}
# These are functions that act as activations, by name, with and without "_" at the end.
OTHERS = {"gelu", "relu6", "silu", "mish", "elu", "selu", "celu", "leaky_relu", "prelu", "rrelu", "softplus"}
OTHERS |= {"hardswish", "hardtanh", "sigmoid", "tanh", "clamp", "clamp_min", "clip"}
MOST_NAMED = 5  # in a sentence


class UnreadableError(ValueError):
    """A `forward` depends on numbers, or does something that no graph can record."""


def forward_graph(module: nn.Module) -> torch.fx.Graph:
    """Return what a module's own `forward` calls. Each child is one node, whatever it does inside.

    Raises:
        UnreadableError: if torch's symbolic tracing cannot trace the forward.

    Example:
        >>> [node.target for node in forward_graph(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).nodes][1:-1]
        ['0', '1']
    """
    try:
        # The wrapper that checks the types of arguments is left out, because a traced value is no tensor.
        return traced(module, lambda part: True, inspect.unwrap(type(module).forward))
    except Exception as error:  # a model of somebody else may raise anything when it gets no numbers
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnreadableError(f"its forward must be traceable by torch.fx, got: {reason}") from error


def is_ours_or_torchs(module: nn.Module) -> bool:
    """Whether a module is one of torch's own or one of our layers, whose forward needs no reading."""
    return type(module).__module__.startswith(("torch.nn.", "sparsekit.layers", "sparsekit.tricks"))


def is_relu_call(node: torch.fx.Node) -> bool:
    """Whether a node of a graph calls relu as a function."""
    is_function = node.op == "call_function" and node.target in CALLS
    return is_function or (node.op == "call_method" and node.target in METHODS)


def other_calls(graph: torch.fx.Graph) -> list[str]:
    """Return the names of activations other than ReLU that a graph calls as functions, each once."""
    calls = [node.target for node in graph.nodes if node.op in ("call_function", "call_method")]
    call_names = [call if isinstance(call, str) else getattr(call, "__name__", "") for call in calls]
    return list(dict.fromkeys(name.rstrip("_") for name in call_names if name.rstrip("_") in OTHERS))


def abbreviate(names: Sequence[str]) -> str:
    """Return the first few of some names, as a sentence has room for them."""
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more]) or "none"
