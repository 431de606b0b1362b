"""Every trick works with any rule and storage, survives checkpoints, and leaves an ordinary network."""

import json
from dataclasses import fields, replace

import pytest
import torch
from rule_helpers import begun, rule_of
from torch import nn
from training_helpers import (
    OPTIMIZERS,
    RULES,
    STORAGES,
    batches_of,
    is_clean,
    pictures_of,
    plain_cnn,
    plain_mlp,
    same,
    sparse,
    states,
)
from trick_helpers import kinds_of, train

from sparsekit.experiments import Experiment, load_model, run, save_initial_state
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.layers import densify, sparse_layers, topology_of
from sparsekit.models import build
from sparsekit.rules import SET, RigL, Static
from sparsekit.rules.initial import why_dense
from sparsekit.train import fit, load_checkpoint
from sparsekit.tricks import (
    GhostNeurons,
    GhostSkips,
    TemporaryTrick,
    TrickContext,
    begin,
    check_tricks,
    ghosts_of,
    make_trick,
    resume,
    set_step,
)
from sparsekit.utils import registry
from sparsekit.utils.registry import get, names, source_of, summary_of
from sparsekit.utils.settings import from_plain, to_plain
from sparsekit.widgets import SettingsPicker

TRICKS = names("trick")
STOP, STEPS = 5, 9
every_trick = pytest.mark.parametrize("name", TRICKS)
both_storages = pytest.mark.parametrize("storage", STORAGES)
FAST_SETTINGS = {"rescaled-init": {"iterations": 4}}
IN_ALL = {"distillation"}  # needs a teacher: see its own tests

SMALL = Experiment(
    recipe="tricky",
    data_settings={"flat": False},
    model="small-cnn",
    model_settings={"widths": (3, 4)},
    density=0.3,
    rule=RigL(every=2, stop=7, drop_fraction=0.5),
    epochs=3,
    batch_size=500,
)


def fast_trick(name):
    """Return a named trick, which ends after five steps if it ends at all."""
    make = get("trick", name)
    stop = {"stop": STOP} if issubclass(make, TemporaryTrick) else {}
    return make_trick(name, **stop, **FAST_SETTINGS.get(name, {}))


def tricks_for(name, folder):
    """Return what a run takes: a trick, with a teacher where it needs one."""
    if name != "distillation":
        return (fast_trick(name),)
    teacher = run(replace(SMALL, recipe="teacher", epochs=1, rule=Static()), folder, progress=False)
    return (replace(fast_trick(name), teacher=teacher.folder.name),)


def context():
    return TrickContext(batches=batches_of(4), load=lambda name: plain_mlp(seed=1))


# --- what they are ----------------------------------------------------------------------------------------------


@every_trick
def test_a_trick_says_what_it_is_and_where_it_comes_from(name):
    assert summary_of(get("trick", name)).endswith((".", ":"))
    assert source_of(get("trick", name))
    for field in fields(get("trick", name)):
        assert field.metadata["help"]


@every_trick
def test_a_trick_goes_to_json_and_back(name):
    trick = fast_trick(name)
    assert from_plain(json.loads(json.dumps(to_plain(trick)))) == trick


@every_trick
def test_a_trick_has_a_picker(name):
    picker = SettingsPicker(fast_trick(name))
    assert picker.value == fast_trick(name)
    assert not picker.error


def test_something_else_is_no_trick():
    with pytest.raises(TypeError, match=r"a trick must be a Trick, got 'ghost-neurons'. Use tricks.make_trick"):
        check_tricks(["ghost-neurons"])


def test_a_recipe_takes_names_and_tricks():
    experiment = digits_mlp(tricks=("ghost-neurons", GhostNeurons(stop=3)))
    assert experiment.tricks == (GhostNeurons(), GhostNeurons(stop=3))
    assert digits_mlp(tricks="ghost-neurons").tricks == (GhostNeurons(),)


def test_an_experiment_without_tricks_keeps_the_name_of_its_folder():
    assert digits_mlp(rule="set").folder_name == digits_mlp(rule="set", tricks=()).folder_name
    assert digits_mlp(rule="set", init="dense").folder_name == "digits-mlp-34405ebc64"


def test_an_open_end_is_a_share_of_the_training():
    assert Experiment(tricks=(GhostNeurons(),)).tricks_over(1000)[0].stop == 400
    with pytest.raises(ValueError, match="GhostNeurons must end within the training, got stop=11 and 10 steps"):
        Experiment(tricks=(GhostNeurons(stop=11),)).tricks_over(10)


# --- in any training --------------------------------------------------------------------------------------------


@both_storages
@pytest.mark.parametrize("rule", RULES)
@every_trick
def test_afterwards_nothing_of_a_trick_is_left(name, rule, storage):
    trick, plain = fast_trick(name), sparse(plain_mlp(), storage)
    if name == "distillation":
        trick = replace(trick, teacher="teacher")
    model = begin(sparse(plain_mlp(), storage), [trick], context())
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    train(model, [trick], batches_of(STEPS), rule=RULES[rule], optimizer=optimizer)
    assert kinds_of(model) == kinds_of(plain)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not ghosts_of(model)
    clean = OPTIMIZERS["adamw"](model.parameters())
    ids = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert ids == [[id(p) for p in group["params"]] for group in clean.param_groups]
    assert set(optimizer.state) <= set(model.parameters())


@both_storages
@pytest.mark.parametrize("rule", names("rule"))
def test_tricks_go_with_every_rule(rule, storage):
    if storage == "csr" and why_dense(rule_of(rule, every=2)):
        pytest.skip("needs the dense weights")
    tricks = [fast_trick(name) for name in ("ghost-neurons", "ghost-skips", "rescaled-init")]
    trained = {}
    for helped in ([], tricks):
        model = begin(begun(plain_cnn, storage, rule_of(rule, every=2)), helped, TrickContext(batches=pictures_of(4)))
        assert list(ghosts_of(model)) == (["0", "1", "2"] if helped else [])  # the ends of a skip, and a ReLU
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        train(model, helped, pictures_of(STEPS), rule=rule_of(rule, every=2), optimizer=optimizer)
        trained[bool(helped)] = model
    assert not ghosts_of(trained[True])
    assert kinds_of(trained[True]) == kinds_of(trained[False])
    assert list(trained[True].state_dict()) == list(trained[False].state_dict())
    assert all(value.isfinite().all() for value in trained[True].state_dict().values())
    assert is_clean(trained[True])


@both_storages
def test_a_run_with_branches_resumed_before_and_after_their_removal_ends_as_one_that_was_not(storage, tmp_path):
    """Branches are the only ghosts with parameters and an optimizer state."""
    branches = GhostSkips(way="branch", stop=2)
    small = {"model": "resnet20", "model_settings": {"width": 2}, "epochs": 1, "rule": SET(every=2, stop=2)}
    experiment = replace(SMALL, storage=storage, tricks=(branches,), **small)
    whole = run(experiment, tmp_path / "whole", progress=False)
    for until in (1, 2):
        cut = run(experiment, tmp_path / "cut", progress=False, until=until)
        saved = load_checkpoint(cut.folder / "checkpoint.pt")
        assert any("ghost" in name for name in saved["model"]) == (until == 1)
    again = run(experiment, tmp_path / "cut", progress=False)
    assert again.rows == whole.rows
    assert same(*(load_checkpoint(history.folder / "checkpoint.pt") for history in (whole, again)))


@both_storages
@every_trick
def test_a_run_resumed_before_and_after_the_removal_ends_as_one_that_was_not(name, storage, tmp_path):
    tricks = tricks_for(name, tmp_path / "whole")
    experiment = replace(SMALL, storage=storage, tricks=tricks)
    whole = run(experiment, tmp_path / "whole", progress=False)
    tricks_for(name, tmp_path / "cut")
    for until in (1, STOP - 1, STOP, STOP + 1):
        run(experiment, tmp_path / "cut", progress=False, until=until)
    again = run(experiment, tmp_path / "cut", progress=False)
    for file in ("experiment.json", "metrics.jsonl", "journal"):
        assert (again.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file
    checkpoints = [load_checkpoint(history.folder / "checkpoint.pt") for history in (whole, again)]
    assert same(*checkpoints)


@every_trick
def test_the_model_of_a_run_is_the_one_that_it_trained(name, tmp_path):
    experiment = replace(SMALL, tricks=tricks_for(name, tmp_path))
    for until in (STOP - 1, STOP, STEPS):
        history = run(experiment, tmp_path, progress=False, until=until)
        model = load_model(history.folder)
        alive = until < STOP and name.startswith("ghost")
        assert bool(ghosts_of(model)) == alive
        assert topology_of(model) == history.journal[-1]
    plain = build("small-cnn", input_shape=(1, 8, 8), num_classes=10, widths=(3, 4))
    assert set(densify(model).state_dict()) == set(plain.state_dict())


@both_storages
@every_trick
def test_negative_weights_are_trained_with_a_trick_too(name, storage):
    trick = replace(fast_trick(name), teacher="teacher") if name == "distillation" else fast_trick(name)
    model = begin(sparse(plain_mlp(), storage, density=0.8), [trick], context())
    before = {key: layer.values().clone() for key, layer in sparse_layers(model).items()}
    train(model, [trick], batches_of(4), rule=Static(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    changes = [(before[key] != layer.values())[before[key] < 0] for key, layer in sparse_layers(model).items()]
    assert torch.cat(changes).double().mean() > 0.9


def test_several_tricks_go_together(tmp_path):
    tricks = tuple(fast_trick(name) for name in TRICKS if name not in IN_ALL)
    experiment = replace(SMALL, tricks=tricks, rule=SET(every=2, stop=7, drop_fraction=0.5), storage="csr")
    whole = run(experiment, tmp_path / "whole", progress=False)
    for until in (2, 5, 6):
        run(experiment, tmp_path / "cut", progress=False, until=until)
    again = run(experiment, tmp_path / "cut", progress=False)
    assert again.rows == whole.rows
    assert not ghosts_of(load_model(again.folder))


def test_a_run_may_begin_from_a_saved_state_with_tricks(tmp_path):
    first = run(SMALL, tmp_path, progress=False, until=6)
    state = save_initial_state(tmp_path, load_model(first.folder))
    experiment = replace(SMALL, init_from=state, first_step=3, tricks=(fast_trick("ghost-neurons"),))
    history = run(experiment, tmp_path, progress=False)
    assert not ghosts_of(load_model(history.folder))
    late = run(replace(experiment, first_step=STOP), tmp_path, progress=False)
    plain = run(replace(experiment, first_step=STOP, tricks=()), tmp_path, progress=False)
    assert late.rows == plain.rows


def test_fit_takes_tricks():
    model = begin(sparse(plain_mlp()), [GhostNeurons(stop=5)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, optimizer, batches_of(3), epochs=1, tricks=[GhostNeurons(stop=5)], progress=False)
    assert ghosts_of(model)
    fit(model, optimizer, batches_of(6), epochs=1, tricks=[GhostNeurons(stop=5)], progress=False)
    assert not ghosts_of(model)


def test_resuming_by_hand_gives_the_network_of_that_step():
    tricks = [GhostNeurons(stop=5)]
    assert ghosts_of(resume(plain_mlp(), tricks, 4))
    assert not ghosts_of(resume(plain_mlp(), tricks, 5))


def test_a_loop_of_ones_own_needs_two_lines():
    tricks = [GhostNeurons(stop=3)]
    model = begin(sparse(plain_mlp()), tricks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (x, y) in enumerate(batches_of(4)):
        set_step(model, tricks, step, optimizer)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not ghosts_of(model)
    assert registry.names("trick") == TRICKS
    assert len(states(model)) == 1
