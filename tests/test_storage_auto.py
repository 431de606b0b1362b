"""Storage `auto`: what is measured decides, layer by layer, and it is measured once."""

import pytest
import torch
from torch import nn

import sparsekit as sk
from sparsekit.layers import SparseLinear, auto
from sparsekit.topology import LayerTopology
from sparsekit.utils.files import read_json


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sparsekit" / "storage-seconds.json"


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


def storages(model: nn.Module) -> list[str]:
    return [layer.storage for layer in sk.sparse_layers(model).values()]


def measuring(monkeypatch, answers: list[dict]) -> list:
    """Give these times instead of measuring; note what was asked."""
    asked = []

    def times(steps, effort):
        asked.append(list(steps))
        for step in steps.values():
            step()
        return dict(zip(steps, answers.pop(0), strict=True))

    monkeypatch.setattr(auto, "median_seconds", times)
    return asked


def made(**more) -> nn.Module:
    plain = net()
    return sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), "auto", **more, init="dense")


def test_each_layer_takes_the_storage_that_was_faster(monkeypatch):
    measuring(monkeypatch, [(1.0, 2.0), (3.0, 2.0), (9.0, 9.0, 1.0)])
    assert storages(made(example=torch.rand(3, 6))) == ["masked", "csr"]


def test_where_a_mixture_is_slower_as_a_whole_the_better_of_the_two_is_taken(monkeypatch):
    measuring(monkeypatch, [(1.0, 2.0), (3.0, 2.0), (9.0, 4.0, 5.0)])
    assert storages(made(example=torch.rand(3, 6))) == ["csr", "csr"]


@pytest.mark.parametrize(("mixed", "taken"), [(3.7, ["masked", "csr"]), (3.9, ["csr", "csr"])])
def test_a_mixture_must_save_more_than_a_twentieth(monkeypatch, mixed, taken):
    measuring(monkeypatch, [(1.0, 2.0), (3.0, 2.0), (9.0, 4.0, mixed)])
    assert storages(made(example=torch.rand(3, 6))) == taken


def test_only_layers_are_timed_with_the_gradient_of_their_input(monkeypatch):
    asked = []
    monkeypatch.setattr(
        auto, "training_step", lambda *_, input_gradient: asked.append(input_gradient) or (lambda: None)
    )
    measuring(monkeypatch, [(2.0, 1.0)] * 3)
    made(example=torch.rand(3, 6))
    assert asked == [True] * 4 + [False] * 2  # two layers and the network, in two storages


@pytest.mark.parametrize("quicker", ["masked", "csr"])
def test_where_all_layers_agree_the_network_as_a_whole_has_the_last_word(monkeypatch, quicker):
    layer, network = ((2.0, 1.0), (1.0, 2.0)) if quicker == "masked" else ((1.0, 2.0), (2.0, 1.0))
    asked = measuring(monkeypatch, [layer, layer, network])
    assert storages(made(example=torch.rand(3, 6))) == [quicker] * 2
    assert asked == [["masked", "csr"]] * 3


def test_the_optimizer_is_timed_too_and_the_model_stays_as_it_was(monkeypatch):
    updates, update = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: updates.append(self) or update(self))
    measuring(monkeypatch, [(2.0, 1.0)] * 3)
    plain = net()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), "auto", example=torch.rand(3, 6), init="dense")
    assert len(updates) == 6  # two layers and the network, in two storages
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert all(parameter.grad is None for parameter in plain.parameters())


def test_what_was_measured_once_is_kept_between_processes(monkeypatch, cache):
    asked = measuring(monkeypatch, [(2.0, 1.0)] * 3)
    made(example=torch.rand(3, 6))
    assert len(read_json(cache)) == 3  # two layers and the network
    assert storages(made(example=torch.rand(3, 6))) == ["csr", "csr"]
    assert asked == [["masked", "csr"]] * 3


def test_other_types_of_numbers_and_other_versions_are_measured_anew(monkeypatch):
    asked = measuring(monkeypatch, [(2.0, 1.0)] * 9)
    made(example=torch.rand(3, 6))
    plain = net().double()
    sk.sparsify(
        plain,
        sk.random_topology(sk.shapes_of(plain), 0.5, seed=0),
        "auto",
        example=torch.rand(3, 6).double(),
        init="dense",
    )
    monkeypatch.setattr(auto, "version", lambda name: f"another {name}")
    made(example=torch.rand(3, 6))
    assert len(asked) == 9


def test_another_batch_another_density_or_more_threads_are_measured_anew(monkeypatch):
    asked = measuring(monkeypatch, [(2.0, 1.0)] * 9)
    made(example=torch.rand(3, 6))
    made(example=torch.rand(4, 6))
    torch.set_num_threads(2)
    try:
        made(example=torch.rand(4, 6))
    finally:
        torch.set_num_threads(1)
    assert len(asked) == 9


def test_a_damaged_file_of_timings_is_measured_again(monkeypatch, cache):
    cache.parent.mkdir()
    cache.write_text("{")
    measuring(monkeypatch, [(2.0, 1.0)] * 3)
    assert storages(made(example=torch.rand(3, 6))) == ["csr", "csr"]
    assert len(read_json(cache)) == 3


@pytest.mark.parametrize("place", [5, 16, 60, -8, -3])
def test_a_flipped_bit_among_the_timings_decides_nothing(place, monkeypatch, cache):
    measuring(monkeypatch, [(2.0, 1.0)] * 6)
    made(example=torch.rand(3, 6))
    damaged = bytearray(cache.read_bytes())
    damaged[place] ^= 1
    cache.write_bytes(damaged)
    assert storages(made(example=torch.rand(3, 6))) == ["csr", "csr"]
    assert len(read_json(cache)) == 3


def test_it_says_that_it_needs_a_batch():
    with pytest.raises(ValueError, match="Give example=inputs"):
        made()


def test_types_that_the_compiled_kernels_do_not_know_stay_masked():
    plain = net().bfloat16()
    model = sk.sparsify(
        plain, sk.random_topology(sk.shapes_of(plain), 0.5), "auto", example=torch.rand(3, 6).bfloat16(), init="dense"
    )
    assert storages(model) == ["masked", "masked"]


def test_the_clock_decides_for_csr_where_little_is_left_and_for_masked_where_nothing_is_missing():
    sparse, full = nn.Linear(1024, 512), nn.Linear(1024, 512)
    x = torch.rand(128, 1024)
    few = sk.random_topology({"0": (512, 1024)}, 0.01, seed=0)
    assert isinstance(sk.sparsify(nn.Sequential(sparse), few, "auto", example=x, init="dense")[0], SparseLinear)
    everything = {"0": LayerTopology.full((512, 1024))}
    assert storages(sk.sparsify(nn.Sequential(full), everything, "auto", example=x, init="dense")) == ["masked"]


def test_a_network_of_images_is_measured_and_trains():
    from sparsekit.models.small_cnn import small_cnn

    plain = small_cnn(input_shape=(1, 8, 8), num_classes=3, widths=(4, 5))
    x = torch.rand(7, 1, 8, 8)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5, seed=0), "auto", example=x, init="dense")
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    model(x).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
