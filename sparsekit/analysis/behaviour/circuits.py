"""The part of a network that carries out one task: which units it needs, and the weights between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparsekit.analysis.observing import observed

Nodes = Mapping[str, Bool[Tensor, " c"]]
Means = Mapping[str, Float[Tensor, " c"]]
Wiring = Mapping[str, tuple[str, str]]
Loss = Callable[[Tensor], Tensor]  # of the outputs for the inputs that the circuit is searched with

ENDS = ("tokens", "answers")  # of a wiring. No module computes them, so their channels are no nodes
FIRST_SHARE = 0.25  # of the loss that may be lost. The first round takes nodes that cost little before others use it up
MOST_ROUNDS = 4  # of the search. The last ones find next to nothing


@dataclass(frozen=True, eq=False)
class Circuit:
    """The nodes that a task needs. A node is one channel of a module's output, at all positions.

    Args:
        nodes: which channels are in the circuit, by the module's name.
        means: of all channels over the data. A node outside of the circuit always has its mean.
        loss: with the circuit alone.
        whole_loss: with all nodes.
    """

    nodes: dict[str, Tensor]
    means: dict[str, Tensor]
    loss: float
    whole_loss: float

    @property
    def num_nodes(self) -> int:
        """Number of nodes in the circuit."""
        return sum(int(kept.sum()) for kept in self.nodes.values())

    def complement(self) -> dict[str, Tensor]:
        """Return the nodes that are outside of the circuit."""
        return {name: ~kept for name, kept in self.nodes.items()}


def find_circuit(model: nn.Module, inputs: Tensor, loss: Loss, modules: Sequence[str], *, limit: float) -> Circuit:
    """Search for few nodes that do a task alone, while all others have their mean (mean ablation).

    The search tries to leave out nodes, those with the smallest first-order effect on the loss first, in groups that
    are halved until one may go. It repeats until nothing more may go. It draws nothing, so it gives the same circuit
    again. A smaller one may exist.

    Args:
        model: any model, which is not changed.
        inputs: samples of the task.
        loss: of the outputs for these inputs, for example `lambda outputs: cross_entropy(outputs, labels)`.
        modules: names of the modules whose output channels are nodes. Channels are in the last dimension.
        limit: the loss that the circuit may have.

    Raises:
        ValueError: if a module does not exist, or the whole model has a larger loss than the limit.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False))
        >>> _ = net[0].weight.data.copy_(torch.eye(3)), net[1].weight.data.copy_(torch.tensor([[2.0, 0.0, 0.0]]))
        >>> x = torch.tensor([[1.0, 5.0, 2.0], [-1.0, 7.0, 9.0]])
        >>> find_circuit(net, x, lambda y: (y[:, 0] - 2 * x[:, 0]).square().mean(), ["0"], limit=0.1).nodes
        {'0': tensor([ True, False, False])}

    Source: pruning of nodes with mean ablation as in Gao et al. (2025), arXiv:2511.13653, where a mask is learned. The
        search is ours.
    """
    named = dict(model.named_modules())
    if unknown := [name for name in modules if name not in named]:
        raise ValueError(f"modules must be among those of the model, got {unknown[0]!r}. See model.named_modules()")
    with observed(model) as network:
        means = means_of(network, inputs, modules)
        nodes = {name: torch.ones_like(mean, dtype=torch.bool) for name, mean in means.items()}
        whole = _loss_of(network, inputs, loss, nodes, means)
        if not whole <= limit:
            raise ValueError(
                f"the limit must be at least the loss of the whole model, got {limit} and {whole:.4f}. Raise it, or "
                "train the model longer"
            )
        for number in range(MOST_ROUNDS):
            allowed = limit if number else whole + FIRST_SHARE * (limit - whole)
            count = _count(nodes)
            order = _by_importance(network, inputs, loss, nodes, means)
            _leave_out(network, inputs, loss, nodes, means, order, allowed)
            if number and _count(nodes) == count:
                break
        return Circuit(nodes, means, _loss_of(network, inputs, loss, nodes, means), whole)


def circuit_loss(model: nn.Module, inputs: Tensor, loss: Loss, nodes: Nodes, means: Means) -> float:
    """Return the loss where all nodes but these have their mean.

    Example:
        >>> net = nn.Sequential(nn.Identity(), nn.Linear(2, 1, bias=False))
        >>> _ = net[1].weight.data.fill_(1.0)
        >>> only_first, means = {"0": torch.tensor([True, False])}, {"0": torch.tensor([0.0, 10.0])}
        >>> circuit_loss(net, torch.tensor([[3.0, 4.0]]), torch.sum, only_first, means)
        13.0
    """
    with observed(model) as network:
        return _loss_of(network, inputs, loss, nodes, means)


def activations_in(model: nn.Module, inputs: Tensor, nodes: Nodes, means: Means) -> tuple[dict[str, Tensor], Tensor]:
    """Return what the modules of a circuit compute where all other nodes have their mean, and the model's outputs.

    Example:
        >>> net = nn.Sequential(nn.Identity(), nn.Linear(2, 1, bias=False))
        >>> only_first, means = {"0": torch.tensor([True, False])}, {"0": torch.tensor([0.0, 10.0])}
        >>> activations_in(net, torch.tensor([[3.0, 4.0]]), only_first, means)[0]
        {'0': tensor([[ 3., 10.]])}
    """
    with observed(model) as network:
        return _ablated(network, inputs, nodes, means)


def means_of(model: nn.Module, inputs: Tensor, modules: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of each channel of some modules' outputs, over samples and positions."""
    means: dict[str, Tensor] = {}

    def record(name: str, output: Tensor) -> None:
        means[name] = output.detach().flatten(0, -2).mean(0)

    with _hooked(model, modules, record), torch.no_grad():
        model(inputs)
    return means


def edges_of(model: nn.Module, nodes: Nodes, wiring: Wiring) -> pd.DataFrame:
    """Return the weights that are not zero between nodes of a circuit, one row for each.

    Args:
        model: a plain model.
        nodes: of a circuit. Of a group without an entry, for example the tokens, all are in it.
        wiring: which nodes each matrix connects, as `gpt_wiring` returns it.

    Returns:
        A table with the columns `matrix`, `source`, `source_channel`, `target`, `target_channel` and `weight`.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> _ = net[0].weight.data.copy_(torch.tensor([[0.0, 3.0], [5.0, 0.0]]))
        >>> edges = edges_of(net, {"in": torch.tensor([True, False])}, {"0": ("in", "out")})
        >>> edges[["source_channel", "target_channel", "weight"]].values.tolist()
        [[0.0, 1.0, 5.0]]
    """
    columns = ["matrix", "source", "source_channel", "target", "target_channel", "weight"]
    rows = []
    for name, (source, target) in wiring.items():
        module = model.get_submodule(name)
        weight: Tensor = module.weight.detach()  # type: ignore[assignment]
        weight = weight.T if isinstance(module, nn.Embedding) else weight
        inside = weight != 0
        inside &= nodes.get(target, torch.ones(len(weight), dtype=torch.bool)).unsqueeze(1)
        inside &= nodes.get(source, torch.ones(weight.shape[1], dtype=torch.bool))
        rows += [(name, source, i, target, o, float(weight[o, i])) for o, i in inside.nonzero().tolist()]
    return pd.DataFrame(rows, columns=columns)


def gpt_wiring(model: nn.Module) -> dict[str, tuple[str, str]]:
    """Return which modules' outputs each matrix of a `gpt` connects, in the order in which they are computed.

    What a block writes is added to a stream that all later blocks read, without any weight. The stream's channels are
    nodes where something is written (`embed`, `output`, `fc2`) and where it is read (the norms). A value's channel is
    what the attention's output reads, because attention mixes positions and no channels.

    Example:
        >>> from sparsekit.models.gpt import gpt
        >>> list(gpt_wiring(gpt(input_shape=(8,), num_classes=9, dim=8, depth=1, heads=2)).items())[4]
        ('block1.attention.output', ('block1.attention.value', 'block1.attention.output'))
    """
    wiring = {"embed.tokens": ("tokens", "embed")}
    for name in [name for name, _ in model.named_children() if name.startswith("block")]:
        norm1, attention, norm2, gelu = (f"{name}.{part}" for part in ("norm1", "attention", "norm2", "gelu"))
        wiring |= {f"{attention}.{part}": (norm1, f"{attention}.{part}") for part in ("query", "key", "value")}
        wiring[f"{attention}.output"] = (f"{attention}.value", f"{attention}.output")
        wiring |= {f"{name}.fc1": (norm2, gelu), f"{name}.fc2": (gelu, f"{name}.fc2")}
    return wiring | {"head": ("norm", "answers")}


def modules_in(wiring: Wiring) -> list[str]:
    """Return the modules whose channels a wiring connects, without the tokens at both ends.

    Example:
        >>> modules_in({"embed.tokens": ("tokens", "embed"), "fc": ("norm", "fc"), "head": ("norm", "answers")})
        ['embed', 'norm', 'fc']
    """
    ends = [end for pair in wiring.values() for end in pair]
    return [end for end in dict.fromkeys(ends) if end not in ENDS]


@contextmanager
def _hooked(model: nn.Module, modules: Sequence[str], look: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Let a function see, and perhaps replace, the outputs of some modules."""
    hooks = [model.get_submodule(name).register_forward_hook(partial(_shown, look=look, name=name)) for name in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _shown(_module: nn.Module, _inputs: tuple, output: Tensor, *, look: Callable, name: str) -> Tensor | None:
    return look(name, output)


def _ablated(model: nn.Module, inputs: Tensor, nodes: Nodes, means: Means) -> tuple[dict[str, Tensor], Tensor]:
    activations: dict[str, Tensor] = {}

    def ablate(name: str, output: Tensor) -> Tensor:
        activations[name] = torch.where(nodes[name], output, means[name])
        return activations[name]

    with _hooked(model, list(nodes), ablate), torch.no_grad():
        outputs = model(inputs)
    return activations, outputs


def _loss_of(model: nn.Module, inputs: Tensor, loss: Loss, nodes: Nodes, means: Means) -> float:
    with torch.no_grad():
        return float(loss(_ablated(model, inputs, nodes, means)[1]))


def _by_importance(model: nn.Module, inputs: Tensor, loss: Loss, nodes: Nodes, means: Means) -> list[tuple[str, int]]:
    """Return the nodes of a circuit, first those whose ablation changes the loss least, as its gradient says."""
    effects: dict[str, Tensor] = {}

    def watch(name: str, output: Tensor) -> Tensor:
        ablated = torch.where(nodes[name], output, means[name])
        ablated = ablated if ablated.requires_grad else ablated.detach().requires_grad_()

        def effect(grad: Tensor) -> None:
            effects[name] = (grad * (means[name] - ablated.detach())).flatten(0, -2).sum(0).abs()

        ablated.register_hook(effect)
        return ablated

    with _hooked(model, list(nodes), watch), torch.enable_grad():
        loss(model(inputs)).backward()
    model.zero_grad()
    ranked = [
        (float(effects[name][channel]) if name in effects else 0.0, number, channel)
        for number, name in enumerate(nodes)
        for channel in nodes[name].nonzero().squeeze(1).tolist()
    ]
    names = list(nodes)
    return [(names[number], channel) for _, number, channel in sorted(ranked)]


def _leave_out(
    model: nn.Module,
    inputs: Tensor,
    loss: Loss,
    nodes: Nodes,
    means: Means,
    group: Sequence[tuple[str, int]],
    limit: float,
) -> None:
    """Leave out a group of nodes where the loss allows it, or what it allows of its first half, then of its second."""
    if not group:
        return
    for name, channel in group:
        nodes[name][channel] = False
    if _loss_of(model, inputs, loss, nodes, means) <= limit:
        return
    for name, channel in group:
        nodes[name][channel] = True
    if len(group) > 1:
        half = len(group) // 2
        for part in (group[:half], group[half:]):
            _leave_out(model, inputs, loss, nodes, means, part, limit)


def _count(nodes: Nodes) -> int:
    return sum(int(kept.sum()) for kept in nodes.values())
