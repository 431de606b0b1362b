"""How scores before training share connections among layers as a network shrinks, and when a layer loses its last one.

A score ranks all weights of a network. Layers whose weights score low lose theirs first. One empty layer cuts the
network in two, however many connections the others have, and this is called layer collapse.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sparsekit.evaluation.losses import LossFn
from sparsekit.layers import shapes_of
from sparsekit.scores import Score, ScoreView, SynFlow, prune_each, score_whole
from sparsekit.scores.view import Batch
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.paths import effective_topology

COLUMNS = ("score", "density", "layer", "size", "kept", "effective")


@dataclass(frozen=True, eq=False, kw_only=True)
class Pruning:
    """What one score keeps at one density.

    Args:
        score: its name.
        density: the target density, in (0, 1].
        topology: the connections.
    """

    score: str
    density: float
    topology: Topology

    @cached_property
    def effective(self) -> Topology:
        """The connections on a path from an input to an output. The layers must form a chain."""
        return effective_topology(self.topology)

    @property
    def useful(self) -> float:
        """Share of the connections that lie on a path, 0 to 1, and 0 where there is no connection."""
        return self.effective.count / max(1, self.topology.count)

    @property
    def empty(self) -> list[str]:
        """Names of the layers without any connection."""
        return [name for name, layer in self.topology.items() if layer.count == 0]


def prunings(
    model: nn.Module, scores: Mapping[str, Score], densities: Iterable[float], **settings: Any
) -> Iterator[Pruning]:
    """Yield what each score keeps at each density: all scores at the first density, then at the next.

    A score of a single round is computed once for all densities, and one of many rounds anew for each. Scores with
    `min_per_layer=0` may empty a layer.

    Args:
        model: plain.
        scores: by the names that the results will carry.
        densities: in the order of the results.
        settings: `batches`, `loss_fn`, `allocation`, `exclude`, `seed`, as for `scores.prune`.

    Raises:
        ValueError: if `scores.prune` refuses the model, a density or the batches.

    Example:
        >>> from sparsekit.scores import Magnitude
        >>> results = prunings(nn.Sequential(nn.Linear(8, 4)), {"magnitude": Magnitude()}, (1.0, 0.25))
        >>> [(pruning.score, pruning.topology.count) for pruning in results]
        [('magnitude', 32), ('magnitude', 8)]
    """
    densities = list(densities)
    settings["batches"] = list(settings.get("batches", ()))
    topologies = {name: prune_each(model, score, densities, **settings) for name, score in scores.items()}
    for density in densities:
        for name, of_score in topologies.items():
            yield Pruning(score=name, density=density, topology=next(of_score))


def collapse_table(found: Iterable[Pruning]) -> pd.DataFrame:
    """Return a row for each score, density and layer.

    The columns are `score`, `density` (the target density of the network), `layer`, `size` (positions in the layer),
    `kept` (its connections) and `effective` (those of them on a path from an input to an output).

    Args:
        found: for example from `prunings`.

    Raises:
        ValueError: if the layers do not form a chain.

    Example:
        >>> net = {"a": LayerTopology((2, 1), torch.tensor([0])), "b": LayerTopology((1, 2), torch.tensor([1]))}
        >>> pruning = Pruning(score="mine", density=0.5, topology=Topology(net))
        >>> collapse_table([pruning])[["layer", "kept", "effective"]].to_numpy().tolist()
        [['a', 1, 0], ['b', 1, 0]]
    """
    rows = [
        (pruning.score, pruning.density, name, layer.size, layer.count, pruning.effective[name].count)
        for pruning in found
        for name, layer in pruning.topology.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def critical_compression(table: pd.DataFrame) -> pd.DataFrame:
    """Return how far each score can shrink the network before it falls apart, among the densities that were tried.

    There is one row per score. Compression is 1 / density. The column `compression` is the largest one up to which
    every layer has a connection, and `connected` the largest one up to which a path leads from an input to an output.
    Where a score fails even at the largest density, they are 0. The column `first_empty` is the first layer to lose its
    last connection, or an empty text.

    Args:
        table: from `collapse_table`.

    Raises:
        ValueError: if a column is missing.

    Example:
        >>> rows = [("mine", 1.0, "a", 4, 4, 4), ("mine", 0.5, "a", 4, 2, 0), ("mine", 0.25, "a", 4, 0, 0)]
        >>> print(*critical_compression(pd.DataFrame(rows, columns=COLUMNS)).loc["mine"])
        2.0 1.0 a
    """
    check_table(table)
    critical = {str(score): _critical(rows) for score, rows in table.groupby("score", sort=False)}
    return pd.DataFrame.from_dict(critical, orient="index").rename_axis("score")


def score_ranks(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return for each weight the share of the network's weights that score lower, 0 to below 1.

    Scores of different methods come in different units, but you can compare their ranks. Equal scores have equal ranks.

    Example:
        >>> score_ranks({"a": torch.tensor([[5.0, 0.0]]), "b": torch.tensor([[0.0, 7.0]])})["a"].tolist()
        [[0.5, 0.0]]
    """
    flat = torch.cat([tensor.flatten() for tensor in scores.values()])
    _, rank, counts = flat.unique(return_inverse=True, return_counts=True)
    shares = ((counts.cumsum(0) - counts) / len(flat))[rank]
    pieces = shares.split([tensor.numel() for tensor in scores.values()])
    return {name: piece.view(scores[name].shape) for name, piece in zip(scores, pieces, strict=True)}


def _as_double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def conservation_table(
    model: nn.Module, batches: Iterable[Batch], *, loss_fn: LossFn = nn.functional.cross_entropy
) -> pd.DataFrame:
    """Return for each layer the sums over its weights of what scores are made of, in double precision.

    There is one row per layer. The columns are `signed` (of gradient times weight), `snip` (of the magnitude of that
    product) and `synflow`. In a chain of layers without biases, with ReLU between them, the signed sums are all the
    same, whatever the loss, and so are those of SynFlow. SNIP takes the magnitudes one by one, so nothing conserves
    their sum. Biases carry a part of the signed sum away, but SynFlow leaves them out.

    Args:
        model: plain.
        batches: inputs and labels.
        loss_fn: `(outputs, labels) -> mean loss`.

    Raises:
        ValueError: if there is no batch.

    Source: Tanaka et al. (2020), arXiv:2006.05467, theorems 1 and 2.
    """
    whole = Topology({name: LayerTopology.full(shape) for name, shape in shapes_of(model).items()})
    doubled = [(tree_map(_as_double, inputs), labels) for inputs, labels in batches]
    view = ScoreView(model=model, topology=whole, generator=torch.Generator(), batches=doubled, loss_fn=loss_fn)
    network = view.masked_copy().double().eval()
    gradients = view.mean_gradients(network)
    products = {name: gradients[name] * weight.detach() for name, weight in view.weights_of(network).items()}
    flow = score_whole(network, SynFlow(), batches=doubled)
    rows = {
        name: {
            "signed": float(product.sum()),
            "snip": float(product.abs().sum()),
            "synflow": float(flow[name].sum()),
        }
        for name, product in products.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")


def check_table(table: pd.DataFrame) -> None:
    """Raise ValueError unless the table has the columns of `collapse_table`."""
    if missing := set(COLUMNS) - set(table):
        raise ValueError(f"the table must come from collapse_table, got one without {', '.join(sorted(missing))}")


def _critical(rows: pd.DataFrame) -> dict[str, Any]:
    in_order = rows.sort_values("density", ascending=False, kind="stable")
    groups = list(in_order.groupby("density", sort=False))
    empty = in_order.loc[in_order["kept"] == 0, "layer"].tolist()
    return {
        "compression": _furthest(groups, "kept"),
        "connected": _furthest(groups, "effective"),
        "first_empty": empty[0] if empty else "",
    }


def _furthest(groups: Iterable[tuple[Any, pd.DataFrame]], column: str) -> float:
    """Continue from the largest density as long as this number is above 0 in all layers."""
    good = itertools.takewhile(lambda group: (group[1][column] > 0).all(), groups)
    return max((1 / density for density, _ in good), default=0.0)
