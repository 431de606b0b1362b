"""How Adam's state of grown connections starts: with their layer's step count, or with one of their own."""

from dataclasses import replace

import pytest
import torch
from test_optimizer_state import line, per_weight, step
from torch.nn.functional import cross_entropy
from training_helpers import RULES, STORAGES, batches_of, plain_mlp, same, states, tiny, train, values_of

from sparsekit.experiments import Experiment, run
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.layers import topology_of
from sparsekit.rewiring.update import rewire
from sparsekit.topology import LayerTopology
from sparsekit.train import attach, own_step_counts

both_storages = pytest.mark.parametrize("storage", STORAGES)
ADAMS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.001),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.001, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.001, amsgrad=True),
    "maximize": lambda p: torch.optim.Adam(p, lr=0.001, maximize=True),
    "foreach": lambda p: torch.optim.Adam(p, lr=0.001, foreach=True),
}
every_adam = pytest.mark.parametrize("make", ADAMS.values(), ids=ADAMS)


def first_moves(storage, make, count, **settings):
    """How a connection moves that grows late, in learning rates, and one that was there all the time."""
    model = line(storage, 0, 1)
    optimizer = make(model.parameters())
    if settings:
        own_step_counts(model, optimizer, **settings)
    step(model, optimizer)
    with torch.no_grad():
        model[0].param.zero_()  # so that decay does nothing
    for key, value in optimizer.state[model[0].param].items():  # as after very many steps by the same gradient
        if torch.is_tensor(value):
            value.fill_(100_000 if key == "step" else 1.0)
    if settings:
        optimizer.state[model[0].param]["steps"] = 100_000
    rewire(model, {"0": LayerTopology((1, 4), torch.tensor([0, 3]))}, optimizer)
    moves = []
    for _ in range(count):
        before = model[0].values().flatten().clone()
        step(model, optimizer)
        moves.append((before - model[0].values().flatten()).abs() / 0.001)
    return [[float(move[place]) for move in moves] for place in (1, 0)]


@both_storages
@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad"])
def test_with_the_shared_count_a_newcomer_takes_long_steps(storage, name):
    moves, _ = first_moves(storage, ADAMS[name], 12)
    assert moves[0] == pytest.approx(3.162, abs=0.001)
    assert moves[11] == pytest.approx((1 - 0.9**12) / (1 - 0.999**12) ** 0.5, rel=1e-3)  # 6.57


@both_storages
@every_adam
def test_with_a_count_of_its_own_a_newcomer_takes_the_steps_of_a_new_weight(storage, make):
    moves, old = first_moves(storage, make, 12, ramp=0)
    assert moves == pytest.approx(12 * [1.00], abs=0.002)
    assert old == pytest.approx(first_moves(storage, make, 12)[1], rel=1e-3), "and the others the same as ever"


@both_storages
def test_with_a_ramp_a_newcomer_s_steps_rise_to_their_full_length_within_it(storage):
    moves, old = first_moves(storage, ADAMS["adam"], 12, ramp=10)
    assert moves == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0], abs=0.002)
    assert old == pytest.approx(first_moves(storage, ADAMS["adam"], 12)[1], rel=1e-3)


@both_storages
@pytest.mark.parametrize("ramp", [0, 5])
def test_a_rate_of_zero_moves_nothing_though_torch_divides_by_it(storage, ramp):
    model = line(storage, 0, 1)
    optimizer = ADAMS["adamw"](model.parameters())
    own_step_counts(model, optimizer, ramp=ramp)
    optimizer.param_groups[0]["lr"] = 0.0  # as a warm-up begins
    before = model[0].values().clone()
    for param in model.parameters():
        param.grad = torch.zeros_like(param)  # as where nothing reaches a connection
    optimizer.step()
    assert torch.equal(model[0].param.isfinite(), torch.ones_like(model[0].param).bool())
    assert torch.equal(model[0].values(), before)
    assert optimizer.param_groups[0]["lr"] == 0


@both_storages
@every_adam
@pytest.mark.parametrize("ramp", [0, 100])
def test_a_model_that_is_never_rewired_trains_as_ever(storage, make, ramp):
    usual, own = (tiny(storage, dtype=torch.float64) for _ in range(2))
    optimizers = [make(model.parameters()) for model in (usual, own)]
    own_step_counts(own, optimizers[1], ramp=ramp)
    for model, optimizer in zip((usual, own), optimizers, strict=True):
        for inputs, labels in batches_of(6, dtype=torch.float64):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    # Counts are in single precision, as torch's own.
    torch.testing.assert_close(values_of(own), values_of(usual), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("ramp", [0, 4])
@pytest.mark.parametrize("rule", RULES)
def test_attach_and_the_visible_loop_agree_bit_for_bit_and_storages_to_rounding(ramp, rule):
    found = {}
    for storage in STORAGES:
        for how in ("visible", "attached"):
            model = tiny(storage, dtype=torch.float64)
            optimizer = ADAMS["adamw"](model.parameters())
            own_step_counts(model, optimizer, ramp=ramp)
            if how == "visible":
                train(model, optimizer, batches_of(10, dtype=torch.float64), RULES[rule])
            else:
                attach(model, optimizer, RULES[rule])
                for inputs, labels in batches_of(10, dtype=torch.float64):
                    cross_entropy(model(inputs), labels).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            found[storage, how] = values_of(model)
        assert same(found[storage, "visible"], found[storage, "attached"])
    torch.testing.assert_close(found["masked", "visible"], found["csr", "visible"], rtol=1e-6, atol=1e-9)


@both_storages
@pytest.mark.parametrize("order", ["load first", "load last"])
def test_counts_are_saved_and_the_training_continues_bit_for_bit(storage, order, tmp_path):
    def made(seed):
        model = tiny(storage, seed=seed)
        return model, ADAMS["adam"](model.parameters())

    whole = made(0)
    own_step_counts(*whole, ramp=4)
    train(*whole, batches_of(5), RULES["set"])
    torch.save(states(*whole), tmp_path / "saved.pt")
    again = made(1)
    if order == "load last":
        own_step_counts(*again, ramp=4)
    for thing, state in zip(again, torch.load(tmp_path / "saved.pt", weights_only=True), strict=True):
        thing.load_state_dict(state)
    if order == "load first":
        own_step_counts(*again, ramp=4)
    for pair in (whole, again):
        train(*pair, batches_of(9)[5:], RULES["set"], first_step=5)
    assert same(states(*again), states(*whole))


def test_counts_stay_exact_in_half_precision(tmp_path):
    """Torch loads an optimizer's tensors in the type of the weights, which cannot count beyond 256 here."""
    model = line("masked", 0, 1).to(torch.bfloat16)
    optimizer = ADAMS["adam"](model.parameters())
    own_step_counts(model, optimizer)
    model[0].param.grad = torch.ones_like(model[0].param)
    for _ in range(300):
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert per_weight(model, optimizer)["step"].tolist() == [301.0, 301.0]


@pytest.mark.parametrize("step_count", ["own", "ramp"])
def test_an_experiment_s_choice_is_kept_and_its_run_continues_bit_for_bit(step_count, tmp_path):
    experiment = digits_mlp(rule="set", density=0.05, epochs=2, rule_settings={"every": 5}, optimizer="adam")
    experiment = replace(experiment, step_count=step_count)
    straight = run(experiment, tmp_path / "straight", progress=False)
    run(experiment, tmp_path / "halted", progress=False, until=23)
    halted = run(experiment, tmp_path / "halted", progress=False)
    assert halted.rows == straight.rows
    assert replace(experiment, step_count="shared").folder_name != experiment.folder_name


# --- refusals ---------------------------------------------------------------------------------------------------


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="step_count must be one of shared, own, ramp, got 'mine'"):
        Experiment(step_count="mine")


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adadelta", "Rprop", "NAdam", "RAdam", "Adamax", "Adagrad", "ASGD"])
def test_optimizers_that_know_no_count_of_each_weight_are_refused_by_name(name):
    model = tiny()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
    before = states(optimizer)
    with pytest.raises(ValueError, match=f"own step counts need an optimizer .*got {name}.*[Ll]eave the count shared"):
        own_step_counts(model, optimizer)
    assert same(states(optimizer), before)


def test_an_experiment_with_such_an_optimizer_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="own step counts need an optimizer that corrects by its step count.*got SGD"):
        run(digits_mlp(epochs=1, step_count="own"), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_what_would_go_wrong_later_is_refused_at_once():
    model = tiny()
    fused = torch.optim.Adam(model.parameters(), fused=True)
    with pytest.raises(ValueError, match="need an optimizer that is not fused, got a fused one. Leave out fused=True"):
        own_step_counts(model, fused)
    optimizer = ADAMS["adam"](model.parameters())
    attach(model, optimizer, RULES["set"])
    with pytest.raises(ValueError, match="must come before a rule, got an optimizer with one. Call it before attach"):
        own_step_counts(model, optimizer)
    optimizer = ADAMS["adam"](model.parameters())
    with pytest.raises(ValueError, match="ramp must be at least 0, got -1"):
        own_step_counts(model, optimizer, ramp=-1)
    with pytest.raises(TypeError, match="ramp must be an integer, got True"):
        own_step_counts(model, optimizer, ramp=True)
    own_step_counts(model, optimizer)
    with pytest.raises(ValueError, match="must be asked for own step counts once, got one that has them"):
        own_step_counts(model, optimizer)
    plain = plain_mlp()
    with pytest.raises(ValueError, match="needs a sparse layer that is trained, got none. Call sparsify"):
        own_step_counts(plain, ADAMS["adam"](plain.parameters()))
    assert topology_of(model)
