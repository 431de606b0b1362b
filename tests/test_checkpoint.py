"""Checkpoints: whole or not at all, and nothing but values inside."""

import pickle

import pytest
import torch
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    plain_cnn,
    plain_mlp,
    same,
    sparse,
    states,
    tiny,
    train,
)

from sparsekit.kernels.positions import as_file
from sparsekit.layers import topology_of
from sparsekit.train import CheckpointError, load_checkpoint, restore, save_checkpoint
from sparsekit.train.checkpoint import FORMAT

both_storages = pytest.mark.parametrize("storage", STORAGES)


def trained(storage="masked", optimizer="sgd", *, steps=3):
    model = tiny(storage)
    made = OPTIMIZERS[optimizer](model.parameters())
    train(model, made, batches_of(steps), RULES["set"])
    return model, made


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", *trained(), step=3)
    return tmp_path / "checkpoint.pt"


# --- there and back ---------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_brings_back_weights_topology_and_optimizer(storage, optimizer, tmp_path):
    model, made = trained(storage, optimizer)
    save_checkpoint(tmp_path / "c.pt", model, made, step=3, extra={"note": "hello", "best": torch.ones(2)})
    other = sparse(plain_mlp(seed=9), storage, seed=9)
    its = OPTIMIZERS[optimizer](other.parameters())
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert restore(loaded, other, its) == 3
    assert same(states(other, its), states(model, made))
    assert topology_of(other) == topology_of(model)
    assert loaded["extra"]["note"] == "hello"


def test_a_checkpoint_brings_back_torchs_random_state(saved):
    torch.manual_seed(3)
    model, made = trained()
    save_checkpoint(saved, model, made, step=3)
    expected = torch.rand(3)
    torch.manual_seed(4)
    restore(load_checkpoint(saved), model, made)
    assert torch.equal(torch.rand(3), expected)


@both_storages
def test_a_checkpoint_with_another_number_of_connections_fits(storage, tmp_path):
    model = sparse(plain_mlp(), storage, density=0.2)
    made = OPTIMIZERS["adamw"](model.parameters())
    train(model, made, batches_of(2), RULES["set"])
    save_checkpoint(tmp_path / "c.pt", model, made, step=2)
    other = sparse(plain_mlp(), storage, density=0.5)
    its = OPTIMIZERS["adamw"](other.parameters())
    restore(load_checkpoint(tmp_path / "c.pt"), other, its)
    for one, one_optimizer in ((model, made), (other, its)):
        train(one, one_optimizer, batches_of(3, seed=1), RULES["rigl"], first_step=2)
    assert same(states(other, its), states(model, made))


def test_a_checkpoint_is_readable_without_running_any_code_in_it(saved):
    assert torch.load(saved, weights_only=True)["format"] == FORMAT


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


def test_code_in_a_file_is_never_run(tmp_path):
    for name, write in {"torch.pt": torch.save, "pickle.pt": lambda x, p: p.write_bytes(pickle.dumps(x))}.items():
        write({"format": FORMAT, "step": Harmful()}, tmp_path / name)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)


# --- files that do not fit --------------------------------------------------------------------------------------


def cut(share):
    return lambda whole: whole[: int(share * len(whole))]


def flipped(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle : middle + 200]) + whole[middle + 200 :]


DAMAGES = {
    "empty": lambda whole: b"",
    "first half": cut(0.5),
    "all but the end": cut(0.99),
    "text": lambda whole: b"not a checkpoint\n",
    "flipped bits": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_in_three_parts_and_stays_as_it_is(damage, saved):
    saved.write_bytes(DAMAGES[damage](saved.read_bytes()))
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt must be a whole checkpoint, got .*. Delete it"):
        load_checkpoint(saved)
    assert saved.read_bytes() == before


FOREIGN = {
    "a tensor": torch.ones(2),
    "a list": [1, 2],
    "a state_dict": {"weight": torch.ones(2)},
    "another format": {"format": "of somebody else"},
}


@pytest.mark.parametrize("content", FOREIGN)
def test_another_kind_of_file_is_refused_in_three_parts(content, tmp_path):
    torch.save(FOREIGN[content], tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c\.pt must be .*, got another kind of file. Give"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("version", ["sparsekit checkpoint 1", "sparsekit checkpoint 30"])
def test_a_checkpoint_of_another_version_is_refused_by_that_reason(version, tmp_path):
    torch.save({"format": version, "step": 3}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=rf"c\.pt must be .*, got a '{version}' of another version. Delete"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_rules_state_by_the_name_of_an_earlier_version_is_refused_and_not_left_out(tmp_path):
    model, made = trained()
    layer = next(module for module in model.modules() if hasattr(module, "rule_state"))
    layer.register_buffer("memory_signs", torch.ones(2))
    save_checkpoint(tmp_path / "c.pt", model, made, step=3)
    with pytest.raises(CheckpointError, match=r"memory_signs\. .* or use the version that wrote it"):
        restore(load_checkpoint(tmp_path / "c.pt"), *trained())


def test_a_file_with_parts_missing_is_refused(tmp_path):
    torch.save({"format": FORMAT, "step": 3}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"must .*, got .*\. [A-Z]"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a checkpoint must exist at .*, got none. Give the path"):
        load_checkpoint(tmp_path / "none.pt")


def of_other_width():
    return sparse(torch.nn.Sequential(*plain_mlp()[:3], torch.nn.Linear(16, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3)))


OTHERS = {
    "other layers": (lambda: sparse(plain_cnn()), "sgd"),
    "other width": (of_other_width, "sgd"),
    "other storage": (lambda: tiny("csr"), "sgd"),
    "plain": (plain_mlp, "sgd"),
    "other optimizer": (tiny, "adamw"),
    "like optimizer": (tiny, "rmsprop"),
    "other groups": (tiny, "two groups"),
}
MADE = {**OPTIMIZERS, "two groups": lambda p: torch.optim.SGD([{"params": q} for q in p], lr=0.1, momentum=0.9)}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_training_is_refused_and_changes_nothing(other, saved):
    make_model, optimizer = OTHERS[other]
    model = make_model()
    its = MADE[optimizer](model.parameters())
    check_refused(load_checkpoint(saved), model, its)


@pytest.mark.parametrize("pair", [("adamw", "amsgrad"), ("amsgrad", "adamw"), ("nesterov", "sgd"), ("adagrad", "sgd")])
def test_optimizers_that_look_alike_are_told_apart_by_their_kind_only(pair, tmp_path):
    first, second = pair
    save_checkpoint(tmp_path / "c.pt", *trained(optimizer=first), step=3)
    model = tiny()
    its = OPTIMIZERS[second](model.parameters())
    state = load_checkpoint(tmp_path / "c.pt")
    if type(its) is type(OPTIMIZERS[first](model.parameters())):
        assert restore(state, model, its) == 3
    else:
        check_refused(state, model, its)


def check_refused(state, model, its):
    before, topology, random = states(model, its), topology_of(model), torch.get_rng_state()
    with pytest.raises(CheckpointError, match=r"must .*, got .*\. [A-Z]"):
        restore(state, model, its)
    assert same(states(model, its), before)
    assert topology_of(model) == topology
    assert torch.equal(torch.get_rng_state(), random)


SPOILT = {
    "unsorted positions": ("0.indices", lambda t: t.flip(0)),
    "positions out of range": ("0.indices", lambda t: t + 10_000),
    "fewer values than positions": ("0.packed_weight", lambda t: t[:-1]),
    "positions that are fractions": ("5.indices", lambda t: t.float()),
}


@pytest.mark.parametrize("damage", SPOILT)
def test_a_state_that_makes_no_sense_is_refused_and_changes_nothing(damage, tmp_path):
    save_checkpoint(tmp_path / "c.pt", *trained("csr"), step=3)
    state = load_checkpoint(tmp_path / "c.pt")
    key, spoil = SPOILT[damage]
    state["model"][key] = spoil(state["model"][key])
    model = sparse(plain_mlp(seed=4), "csr", seed=4)
    check_refused(state, model, OPTIMIZERS["sgd"](model.parameters()))


def test_a_random_state_that_makes_no_sense_is_refused_and_changes_nothing(saved):
    state = load_checkpoint(saved)
    state["random"] = state["random"][:7]
    model = tiny()
    check_refused(state, model, OPTIMIZERS["sgd"](model.parameters()))


@both_storages
def test_positions_take_four_bytes_each_on_disk_and_come_back_as_layers_store_them(storage, tmp_path):
    model, made = trained(storage)
    save_checkpoint(tmp_path / "c.pt", model, made, step=3)
    on_disk = torch.load(tmp_path / "c.pt", weights_only=True)["model"]["0.indices"]
    assert on_disk.dtype == torch.int32
    loaded = load_checkpoint(tmp_path / "c.pt")["model"]["0.indices"]
    assert loaded.dtype == model.state_dict()["0.indices"].dtype
    assert torch.equal(loaded, model.state_dict()["0.indices"])


def test_positions_that_an_int32_cannot_hold_stay_as_they_are():
    for positions in (torch.tensor([0.0, 2.0**31], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)):
        assert as_file(positions) is positions


# --- writing ----------------------------------------------------------------------------------------------------


def half_written(_state, file):
    file.write(b"half")
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_old_checkpoint_and_no_other_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(
        OSError, match=r"there must be room to write .*, got no space \(No space left on device\). What"
    ):
        save_checkpoint(saved, *trained(), step=9)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_at_the_first_checkpoint_leaves_no_file_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(
        OSError, match=r"there must be room to write .*, got no space \(No space left on device\). What"
    ):
        save_checkpoint(tmp_path / "c.pt", *trained(), step=9)
    assert list(tmp_path.iterdir()) == []


def test_saving_changes_nothing_in_the_training(tmp_path):
    model, made = trained()
    before, random = states(model, made), torch.get_rng_state()
    save_checkpoint(str(tmp_path / "c.pt"), model, made, step=3)
    assert same(states(model, made), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert list(tmp_path.iterdir()) == [tmp_path / "c.pt"]
