"""What a score before training sees: a plain model, examples, a loss, and the connections that still exist."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.evaluation.adaptor import Adaptor, size_of
from sparsekit.evaluation.losses import LossFn, loss_of, shares
from sparsekit.layers.matrices import Matrix, matrices_of
from sparsekit.topology import Topology
from sparsekit.utils.seeds import fork, seeded_rng

Batch = Any  # a pair of inputs and labels


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreView:
    """All that a score may see, and what most scores do with it.

    The helpers that take a `network` work on any copy of the model, for example on `masked_copy()`. A score changes
    such copies only, and the model itself stays as it is. What their forward passes draw (dropout) comes from `rng`.

    Args:
        model: a plain model.
        topology: the connections that exist in this round. The others count as zero.
        generator: what the score may draw from.
        batches: inputs and labels, on the model's device. Several inputs are a tuple or a dict (see `Adaptor`). A dict
            alone is all inputs by name, of which `labels` are the labels.
        loss_fn: `(outputs, labels) -> mean loss`, or None for the loss that the outputs hold, or cross entropy where
            they hold none.
        adaptor: how to read other batches and outputs.

    Example:
        >>> from sparsekit.topology import LayerTopology
        >>> model = nn.Sequential(nn.Linear(2, 1))
        >>> _ = nn.init.ones_(model[0].weight)
        >>> first = Topology({"0": LayerTopology((1, 2), torch.tensor([0]))})
        >>> view = ScoreView(model=model, topology=first, generator=torch.Generator())
        >>> view.weights["0"].tolist(), view.weights_of(view.masked_copy())["0"].tolist()
        ([[1.0, 1.0]], [[1.0, 0.0]])
    """

    model: nn.Module
    topology: Topology
    generator: torch.Generator
    batches: Sequence[Batch] = ()
    loss_fn: LossFn | None = None
    adaptor: Adaptor | None = None

    @cached_property
    def rng(self) -> seeded_rng:
        """A context in which modules draw from a stream that `generator` seeds, and not from torch's global state."""
        return seeded_rng(fork(self.generator))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's weights by layer, without gradients. Nothing is masked."""
        return {name: weight.detach() for name, weight in self.weights_of(self.model).items()}

    def weights_of(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the weights of the same layers in a copy of the model, which are parameters or views of these."""
        return {name: matrix.value for name, matrix in self._matrices_of(network).items()}

    def _matrices_of(self, network: nn.Module) -> dict[str, Matrix]:
        matrices = matrices_of(network)
        return {name: matrices[name] for name in self.topology}

    def masked_copy(self) -> nn.Module:
        """Return a copy of the model, in training mode, whose weights outside of the topology are zero."""
        network = copy.deepcopy(self.model).train()
        self.restrict(network)
        return network

    def restrict(self, network: nn.Module) -> None:
        """Set the weights outside of the topology to zero in a copy of the model, and record gradients of the rest."""
        for name, matrix in self._matrices_of(network).items():
            matrix.param.requires_grad_(True)
            matrix.restrict(self.topology[name])

    def gradients(self, network: nn.Module, value: Tensor, *, create_graph: bool = False) -> dict[str, Tensor]:
        """Return the gradient of a number by the weights of each layer, zero where it does not depend on them.

        Args:
            network: the copy of the model that the number was computed with.
            value: the number.
            create_graph: whether the gradients can be differentiated again.
        """
        matrices = self._matrices_of(network)
        params: list[Tensor] = list({id(matrix.param): matrix.param for matrix in matrices.values()}.values())
        grads = gradients_of(value, params, create_graph=create_graph)
        by_param = {id(param): grad for param, grad in zip(params, grads, strict=True)}
        return {name: matrix.of(by_param[id(matrix.param)]) for name, matrix in matrices.items()}

    def mean_gradients(self, network: nn.Module, batches: Sequence[Batch] | None = None) -> dict[str, Tensor]:
        """Return the gradient of the mean loss over all samples, by the weights of each layer, none of them masked.

        It is 0 in a layer that the forward pass does not use.

        Args:
            network: a copy of the model.
            batches: other batches than those of the view.
        """
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for share, loss in self.losses(network, batches):
            for name, grad in self.gradients(network, loss).items():
                total[name] += share * grad
        return total

    def losses(self, network: nn.Module, batches: Sequence[Batch] | None = None) -> Iterator[tuple[float, Tensor]]:
        """Yield what each batch's mean loss counts for in that of all samples, and the loss.

        Raises:
            ValueError: if there is no batch.
        """
        for share, (inputs, labels) in self.weighted_batches(network, batches):
            with self.rng:
                loss = self.loss_of(self.run(network, inputs), labels)
            yield share, loss

    def run(self, network: nn.Module, inputs: Any) -> Any:
        """Return the outputs for some inputs, as the adaptor reads them."""
        return Adaptor.of(self.adaptor).run(network, inputs)

    def loss_of(self, outputs: Any, labels: Any) -> Tensor:
        """Return the loss of a batch, which models of other people may have computed already."""
        if self.loss_fn is not None:
            return loss_of(self.loss_fn, outputs, labels)
        loss = part_of(outputs, "loss")
        return loss if isinstance(loss, Tensor) else loss_of(nn.functional.cross_entropy, logits_of(outputs), labels)

    def inputs_alone(self, batch: Batch) -> Any:
        """Return the inputs of a batch without labels, even where the model would take these as well."""
        inputs, _ = self.pair(batch)
        return {key: x for key, x in inputs.items() if key != LABELS} if isinstance(inputs, dict) else inputs

    def pair(self, batch: Batch) -> tuple[Any, Any]:
        """Return inputs and labels of a batch."""
        if self.adaptor is None and isinstance(batch, Mapping) and takes(self.model, batch):
            return dict(batch), batch.get(LABELS)
        return Adaptor.of(self.adaptor).pair(batch)

    def weighted_batches(
        self, network: nn.Module, batches: Sequence[Batch] | None = None
    ) -> Iterator[tuple[float, Batch]]:
        """Yield each batch with what its mean loss counts for in that of all samples.

        Batches in which no label counts are left out.

        Raises:
            ValueError: if there is no batch.
        """
        batches = self.batches if batches is None else batches
        if not batches:
            raise ValueError(
                "this score must see examples, got no batch. Give batches=[(inputs, labels)], for example from "
                "datasets.few_per_class(data, 10)"
            )
        pairs = [self.pair(batch) for batch in batches]
        if any(labels is None for _, labels in pairs):
            counts = _by_samples([inputs for inputs, _ in pairs])
        else:
            loss_fn = self.loss_fn or nn.functional.cross_entropy
            with self.rng, torch.no_grad():
                counts = shares(loss_fn, [labels for _, labels in pairs], lambda: self.run(network, pairs[0][0]))
        yield from ((share, pair) for share, pair in zip(counts, pairs, strict=True) if share)


def takes(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Return whether a model's forward pass has an argument for everything in a batch."""
    parameters = inspect.signature(model.forward).parameters
    has_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return has_any or all(name in parameters for name in batch)


LABELS = "labels"  # what transformers' models call them


def part_of(outputs: Any, name: str) -> Any:
    """Return what outputs hold under a name, or None."""
    return outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)


def logits_of(outputs: Any) -> Any:
    """Return the logits among outputs: those by that name, or the first of several, or the outputs themselves."""
    logits = part_of(outputs, "logits")
    if isinstance(logits, Tensor):
        return logits
    return outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs


def _by_samples(inputs: Sequence[Any]) -> list[float]:
    sizes = [size_of(part) for part in inputs]
    return [size / sum(sizes) for size in sizes]


def gradients_of(value: Tensor, weights: list[Tensor], *, create_graph: bool = False) -> Sequence[Tensor]:
    """Return the gradient of a number by some weights. It is zero for those that the number does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return torch.autograd.grad(value, weights, create_graph=create_graph, materialize_grads=True)
