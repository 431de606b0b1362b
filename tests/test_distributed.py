"""Two processes under DistributedDataParallel: the same topologies at every rewiring, and no transfer for it."""

import pytest
import torch
from distributed_worker import GUIDES, SIZE, STEPS, WAYS, work
from training_helpers import OPTIMIZERS, RULES, STORAGES, batches_of, same, tiny, train, values_of

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.all_missing import AllMissing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package"),
]
both_storages = pytest.mark.parametrize("storage", STORAGES)
both_rules = pytest.mark.parametrize("rule", RULES)
every_way = pytest.mark.parametrize("way", WAYS)
REWIRINGS = 3  # at steps 0, 2 and 4


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of the two processes saw; both run once, for all tests."""
    folder = tmp_path_factory.mktemp("distributed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.multiprocessing.spawn(work, (2, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@both_storages
@both_rules
@every_way
def test_topologies_and_values_are_identical_on_both_processes_at_every_step(found, storage, rule, way):
    first, second = (of_rank[storage, rule, way] for of_rank in found)
    assert same(first["topologies"], second["topologies"])
    assert same(first["values"], second["values"])
    changes = sum(not same(a, b) for a, b in zip(first["topologies"], first["topologies"][1:], strict=False))
    assert changes == REWIRINGS - 1  # the first rewiring comes before the first look
    assert first["off"] == second["off"] == 0


@both_storages
@both_rules
@every_way
def test_two_processes_do_what_one_does_with_the_whole_batch(found, storage, rule, way):
    model = tiny(storage, dtype=torch.float64)
    train(model, OPTIMIZERS["sgd"](model.parameters()), batches_of(STEPS, size=SIZE, dtype=torch.float64), RULES[rule])
    together = found[0][storage, rule, way]
    assert same(together["topologies"][-1], [layer.indices for layer in sparse_layers(model).values()])
    for ours, its in zip(values_of(model), together["values"], strict=True):
        torch.testing.assert_close(its, ours, rtol=0, atol=1e-12)


@both_rules
@every_way
def test_masked_layers_rewire_without_any_transfer(found, rule, way):
    for of_rank in found:
        assert of_rank["masked", rule, way]["python calls"] == {}


@both_rules
def test_masked_layers_transfer_as_much_as_without_a_rule(found, rule):
    for of_rank in found:
        ruled, static = (of_rank["masked", which, "train_step"]["transfers"] for which in (rule, "static"))
        assert ruled == static > 0


@every_way
def test_csr_layers_average_the_candidates_gradients_and_nothing_else(found, way):
    # Candidates come in parts of a quarter of the layer.
    parts = [len(list(AllMissing()(seen(layer), layer, 0, torch.Generator()))) for layer in kept_by_rigl()]
    for of_rank in found:
        assert of_rank["csr", "rigl", way]["python calls"] == {"all_reduce": sum(parts)}
        assert of_rank["csr", "set", way]["python calls"] == {}


def seen(topology):
    return LayerView(name="", topology=topology, values=torch.zeros(topology.count))


def kept_by_rigl():
    """The layers as they stand, without what is dropped, at each rewiring."""
    model = tiny("csr")
    for step in range(0, STEPS, 2):
        for layer in topology_of(model).values():
            num_kept = layer.count - int(RULES["rigl"].drop_fraction_at(step) * layer.count)
            yield type(layer)(layer.shape, layer.indices[:num_kept])


@both_storages
@pytest.mark.parametrize("guide", GUIDES)
def test_guided_candidates_are_the_same_on_both_processes_although_one_has_fewer_samples(found, storage, guide):
    first, second = (of_rank[storage, guide, "train_step"] for of_rank in found)
    assert same(first["topologies"], second["topologies"])
    assert not same(first["topologies"][0], first["topologies"][-1])
    calls = first["python calls"].get("all_reduce", 0)
    num_layers = len(first["topologies"][0])
    sums = 2 if guide in ("grabo", "graest") else 0
    assert calls == REWIRINGS * num_layers * (sums + (storage == "csr"))


@both_storages
def test_scores_of_one_process_alone_would_diverge(found, storage):
    """Shows that the tests above can fail."""
    first, second = (of_rank[storage, "local", "train_step"] for of_rank in found)
    assert not same(first["topologies"][0], second["topologies"][0])


def test_layers_may_exchange_connections_in_masked_storage_only(found):
    for of_rank in found:
        assert of_rank["masked", "global"] == ""
        assert "a csr layer must keep its" in of_rank["csr", "global"]
        assert ". Use storage masked, or scope='layer'" in of_rank["csr", "global"]


def test_csr_layers_are_not_trained_without_their_wrapper(found):
    for of_rank in found:
        assert of_rank["masked", "unwrapped"] == ""
        assert "must be seen through their DistributedDataParallel wrapper" in of_rank["csr", "unwrapped"]
