"""Models of other people: sparse ones compute and learn as plain ones whose missing weights are zero, to the end."""

import importlib
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import counts_of
from outsiders import OUTSIDERS
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.layers import matrices_of
from sparsekit.rules import DropGrow
from sparsekit.schedules import Constant
from sparsekit.topology import Topology

# what stays dense, and that the weight of a csr layer may be read but slowly, is no fault here
NO_FAULTS = ("left dense", "the dense weight of a csr layer")
pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in NO_FAULTS]
IDS = [(library, name) for library, models in OUTSIDERS.items() for name in models]
# RigL that trains and rewires at each of three steps, and then only trains
THREE_TIMES = DropGrow(every=1, stop=2, drop_fraction=Constant(0.3), replaces_step=False)

every_outsider = pytest.mark.parametrize(("library", "name"), IDS, ids=map("-".join, IDS))
in_both_storages = pytest.mark.parametrize("storage", ["masked", "csr"])


def imported(library: str) -> ModuleType:
    """Return the library, or skip aloud where it is not installed."""
    if library == "torchvision":
        return importlib.import_module("torchvision.models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(library, reason=f"{library} is not installed: pip install -e .[integrations]")


def made(library: str, name: str) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """Return the model with random weights, always the same, and the arguments of its forward pass."""
    lib, (make, inputs) = imported(library), OUTSIDERS[library][name]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their own configurations
        torch.manual_seed(0)
        return with_random_affines(make(lib)).eval(), inputs()


def with_random_affines(model: nn.Module) -> nn.Module:
    """Move every vector a little: biases and layer scales that begin at zero would hide what stands before them."""
    for parameter in model.parameters():
        if parameter.dim() < 2:
            nn.init.normal_(parameter.data.add_(0.0), 0.5, 0.2)
    return model


def topology_for(model: nn.Module, density: float) -> Topology:
    return sk.random_topology(sk.shapes_of(model), density, seed=0)


def outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """All numbers that come out: a tensor, or what a dictionary or a tuple holds."""
    return numbers_in(model(**inputs))


def numbers_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in numbers_in(part)]


def loss_of(found: list[Tensor]) -> Tensor:
    return sum(((tensor - 1) ** 2).mean() for tensor in found)


def with_zeros(plain: nn.Module, topology: Topology) -> nn.Module:
    """Write zeros into a plain model's weights wherever the topology has no connection."""
    for name, layer in topology.items():
        matrices_of(plain)[name].restrict(layer)
    return plain


@in_both_storages
@every_outsider
def test_a_sparse_model_computes_and_learns_as_the_plain_one_with_zeros(library, name, storage):
    plain, inputs = made(library, name)
    topology = topology_for(plain, 0.4)
    sparse = sk.sparsify(plain, topology, storage, init="dense")
    expected, found = outputs(with_zeros(plain, topology), inputs), outputs(sparse, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    loss_of(found).backward()
    loss_of(expected).backward()
    for layer_name, layer in sk.sparse_layers(sparse).items():
        matrix, grads = matrices_of(plain)[layer_name], layer.grads()
        assert (grads is None) == (matrix.param.grad is None), layer_name
        if grads is not None:
            wanted = matrix.of(matrix.param.grad).flatten()[layer.topology.indices]
            torch.testing.assert_close(grads, wanted, rtol=1e-3, atol=1e-4 + 1e-3 * float(wanted.abs().max()))


@in_both_storages
@every_outsider
def test_three_steps_of_rigl_keep_the_budget_and_leave_a_plain_model_that_computes_the_same(library, name, storage):
    plain, inputs = made(library, name)
    model = sk.sparsify(plain, topology_for(plain, 0.4), storage, init="dense")
    first = sk.densify(model)
    before = sk.topology_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    attached = sk.attach(model, optimizer, THREE_TIMES, seed=0)
    for _ in range(4):
        loss_of(outputs(model, inputs)).backward()
        optimizer.step()
        optimizer.zero_grad()
    attached.detach()
    after, dense = sk.topology_of(model), sk.densify(model)
    assert attached.journal.steps == [0, 1, 2]
    assert counts_of(after) == counts_of(before)
    assert (after - before).count > 0
    assert not sk.sparse_layers(dense)
    for layer_name, layer in after.items():
        old, new = (matrices_of(net)[layer_name].value.detach().flatten() for net in (first, dense))
        assert not new[layer.missing()].any()
        both = (before[layer_name] & layer).indices
        assert (new[both] != old[both]).any(), layer_name
    torch.testing.assert_close(outputs(dense, inputs), outputs(model, inputs), rtol=1e-4, atol=1e-5)
