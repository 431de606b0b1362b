"""A member of a population is trained as it would be alone, whoever else is in it and however often it stops."""

import importlib
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from training_helpers import largest_difference, same

from sparsekit import models
from sparsekit.experiments import load_model, read_run, run, save_initial_state
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.population import populations_of, run_all, run_population, why_alone
from sparsekit.experiments.population.blocks import joined, side_by_side, wide_model
from sparsekit.experiments.population.exchange import topologies_of
from sparsekit.experiments.population.training import Member, Population
from sparsekit.layers import shapes_of, sparsify, topology_of
from sparsekit.rules import GSE, SET, SNFS, DeepR, GraEst, NeverActive, RigL, Rule, Static, SynFlow
from sparsekit.rules.cycles import Cycles
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import random_topology
from sparsekit.train import load_checkpoint, train_step
from sparsekit.utils.seeds import generator

RUN = importlib.import_module("sparsekit.experiments.population.run")
SHAPES = {"mlp": (8,), "small-cnn": (1, 6, 6)}
WIDTHS = {"mlp": {"hidden": (24, 16)}, "small-cnn": {"widths": (4, 6)}}
# Each with its density and storage.
NETWORKS: list[tuple[Rule, float, str]] = [
    (Static(), 1.0, "plain"),
    (SET(every=10, stop=150), 0.1, "masked"),
    (RigL(every=10, stop=150), 0.2, "csr"),
    (GSE(every=10, stop=150), 0.15, "csr"),
    (Cycles(base=RigL(every=10, stop=60), after=80, length=20), 0.3, "masked"),
]
GUIDED: list[tuple[Rule, float, str]] = [
    (GSE(every=5, stop=40, candidates=GraEst()), 0.2, "masked"),
    (GSE(every=5, stop=40, candidates=SynFlow()), 0.2, "csr"),
    (SET(every=5, stop=40, candidates=NeverActive(), replaces_step=True), 0.2, "csr"),
]


class Failing(AssertionError):
    """What a test raises in the middle of a training."""


RATE = 0.02  # of learning, low enough that differences of rounding hardly grow on any processor


def member_of(number: int, kind: str, network: tuple[Rule, float, str], dtype: torch.dtype) -> Member:
    rule, density, storage = network
    torch.manual_seed(number)
    model = models.build(kind, input_shape=SHAPES[kind], num_classes=3, **WIDTHS[kind]).to(dtype)
    if storage != "plain":
        model = sparsify(model, random_topology(shapes_of(model), density, seed=number), storage)
    return Member(model.train(), torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=1e-3), rule, number)


def batches_of(number: int, kind: str, steps: int, dtype: torch.dtype, size: int = 13):
    draws = torch.Generator().manual_seed(number)
    inputs = torch.randn(steps, size, *SHAPES[kind], generator=draws, dtype=dtype)
    return inputs, inputs.flatten(2)[:, :, :3].argmax(2)


def train_members(numbers, kind, networks, dtype, steps):
    """Train members side by side, and return them with the updates of each."""
    members = [member_of(number, kind, networks[number], dtype) for number in numbers]
    data = [batches_of(number, kind, steps, dtype) for number in numbers]
    population, updates = Population.of(members), []
    for step in range(steps):
        inputs = torch.stack([x[step] for x, _ in data], 1).flatten(0, 1)
        labels = torch.stack([y[step] for _, y in data], 1)
        updates.append([u for _, u in population.step(side_by_side(inputs, len(members)), labels, step, RATE)])
    population.scatter()
    return members, updates


def train_alone(member, number, kind, dtype, steps):
    xs, ys = batches_of(number, kind, steps, dtype)
    return [
        train_step(
            member.model,
            member.optimizer,
            (xs[t], ys[t]),
            cross_entropy,
            member.rule,
            t,
            generator(number, "rewire", t),
        )[1]
        for t in range(steps)
    ]


@pytest.mark.parametrize(
    ("kind", "networks", "dtype", "steps"),
    [
        ("mlp", NETWORKS, torch.float32, 200),
        ("mlp", [*NETWORKS[2:], *GUIDED], torch.float64, 60),
        ("small-cnn", NETWORKS[2::2], torch.float32, 60),
        ("small-cnn", [NETWORKS[1], GUIDED[0]], torch.float64, 24),
    ],
    ids=["mlp", "mlp, double", "cnn", "cnn, double"],
)
def test_members_become_what_they_become_alone(kind, networks, dtype, steps):
    members, updates = train_members(range(len(networks)), kind, networks, dtype, steps)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for number, network in enumerate(networks):
        alone = member_of(number, kind, network, dtype)
        expected = train_alone(alone, number, kind, dtype, steps)
        for own, other in zip((step[number] for step in updates), expected, strict=True):
            assert (own is None) == (other is None)
            assert own is None or same([own.dropped, own.grown], [other.dropped, other.grown])
        assert topology_of(alone.model) == topology_of(members[number].model)
        assert largest_difference(alone.model, members[number].model) < tolerance
        for one, two in zip(alone.model.parameters(), members[number].model.parameters(), strict=True):
            moments = alone.optimizer.state[one]["momentum_buffer"], members[number].optimizer.state[two]
            assert torch.allclose(moments[0], moments[1]["momentum_buffer"], atol=tolerance, rtol=0)
        for one, two in zip(alone.model.buffers(), members[number].model.buffers(), strict=True):
            assert torch.allclose(one.double(), two.double(), atol=tolerance)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_a_member_does_not_depend_on_who_else_is_there(kind):
    by_number = {}
    for numbers in ([0, 1, 2, 3, 4], [4, 2], [3], [2, 3, 0]):
        members, _ = train_members(numbers, kind, NETWORKS, torch.float32, 22)
        for number, member in zip(numbers, members, strict=True):
            state = member.model.state_dict(), member.optimizer.state_dict()
            assert same(by_number.setdefault(number, state), state)


def test_a_wide_topology_is_block_diagonal_and_a_convolution_has_a_group_for_each_member():
    one, two = (LayerTopology((2, 3), torch.tensor(at)) for at in ([0, 4], [1, 2, 3]))
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:2, :3], expected[2:, 3:] = one.mask(), two.mask()
    assert joined([one, two]) == LayerTopology.of_mask(expected)
    one, two = (LayerTopology((2, 1, 2, 2), torch.tensor(at)) for at in ([0, 4], [1, 2, 7]))
    assert torch.equal(joined([one, two]).mask(), torch.cat([one.mask(), two.mask()]))


@pytest.mark.parametrize("part", [nn.LayerNorm(4), nn.Dropout(), nn.Softmax(1)])
def test_a_module_that_might_mix_members_is_refused(part):
    model = nn.Sequential(nn.Linear(4, 4), part)
    with pytest.raises(TypeError, match=f"got {type(part).__name__} as 1. Train them one by one"):
        wide_model(model, {name: [layer] * 2 for name, layer in topologies_of(model).items()})
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].bias = tied[0].bias
    with pytest.raises(TypeError, match="must not share parameters"):
        wide_model(tied, {name: [layer] * 2 for name, layer in topologies_of(tied).items()})


# --- runs ------------------------------------------------------------------------------------------------------------

BASE = Experiment(
    recipe="member", model_settings={"hidden": (12,)}, density=0.2, epochs=3, batch_size=300, label_smoothing=0.1
)
EXPERIMENTS = [
    replace(BASE, rule=RigL(every=2, stop=9)),
    replace(BASE, rule=SET(every=3, stop=9), density=0.1, seed=1, storage="csr"),
    replace(BASE, rule=Cycles(base=GSE(every=2, stop=4), after=6, length=3), seed=2),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The runs of all members at once, never stopped."""
    return run_population(EXPERIMENTS, tmp_path_factory.mktemp("whole"), progress=False)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs, one by one."""
    folder = tmp_path_factory.mktemp("alone")
    return [run(experiment, folder, progress=False) for experiment in EXPERIMENTS]


def assert_same(one, two):
    """Check that two runs are equal bit for bit, in what they hold and in their folders."""
    assert one.rows == two.rows == read_run(one.folder).rows
    assert one.journal.entries == [] or same(
        [(s, u.dropped, u.grown) for s, u in one.journal.entries],
        [(s, u.dropped, u.grown) for s, u in two.journal.entries],
    )
    assert same(*(load_checkpoint(history.folder / "checkpoint.pt") for history in (one, two)))


def assert_close(one, two):
    """Check that two runs are equal up to rounding."""
    assert [row[:3] for row in one.rows] == [row[:3] for row in two.rows]
    assert [row.value for row in one.rows] == pytest.approx([row.value for row in two.rows], abs=1e-5)
    assert list(one.journal.topologies()) == list(two.journal.topologies())
    states = [load_checkpoint(history.folder / "checkpoint.pt") for history in (one, two)]
    assert states[0]["step"] == states[1]["step"]
    for name, tensor in states[0]["model"].items():
        assert torch.allclose(tensor, states[1]["model"][name], atol=1e-5)
    first, second = (state["optimizer"] for state in states)
    assert first["param_groups"] == second["param_groups"]
    for number, state in first["state"].items():
        assert torch.allclose(state["momentum_buffer"], second["state"][number]["momentum_buffer"], atol=1e-5)


def test_a_member_leaves_the_run_that_run_would_leave(whole, alone):
    for one, two in zip(whole, alone, strict=True):
        assert {path.name for path in one.folder.iterdir()} == {path.name for path in two.folder.iterdir()}
        assert_close(one, two)
        assert_close(read_run(one.folder), two)
        assert topology_of(load_model(one.folder)) == one.journal[-1]


def test_members_are_tested_in_the_same_last_epochs_as_alone(tmp_path):
    few = [replace(one, epochs=3, test_last=2) for one in EXPERIMENTS[:2]]
    together = run_population(few, tmp_path / "together", progress=False)
    for one, experiment in zip(together, few, strict=True):
        two = run(experiment, tmp_path / "alone", progress=False)
        tested = [row.epoch for row in one.rows if row.name == "test accuracy"]
        assert tested == [row.epoch for row in two.rows if row.name == "test accuracy"] == [1, 2]


def test_members_that_stop_at_different_steps_end_as_if_they_had_not(tmp_path, whole):
    run_population(EXPERIMENTS[:1], tmp_path, progress=False, until=3)
    run_population(EXPERIMENTS[1:2], tmp_path, progress=False, until=7)
    again = run_population(EXPERIMENTS[::-1], tmp_path, progress=False, checkpoint_seconds=0)
    for one, two in zip(again[::-1], whole, strict=True):
        assert_same(one, two)


def test_members_that_are_killed_between_two_saves_end_as_if_they_had_not(tmp_path, whole, monkeypatch):
    saves = iter(range(100))

    def dying(self, save=RUN.Work.save):
        if next(saves) == 10:
            raise Failing
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(RUN.Work, "save", dying)
        with pytest.raises(Failing):
            run_population(EXPERIMENTS, tmp_path, progress=False, checkpoint_seconds=0)
    steps = [load_checkpoint(tmp_path / one.folder_name / "checkpoint.pt")["step"] for one in EXPERIMENTS]
    assert steps == [4, 3, 3]
    for one, two in zip(run_population(EXPERIMENTS, tmp_path, progress=False), whole, strict=True):
        assert_same(one, two)


def test_a_finished_population_is_read_and_not_done_again(whole, monkeypatch):
    monkeypatch.setattr(RUN, "_train_together", lambda *_: pytest.fail("done again"))
    for one, two in zip(run_population(EXPERIMENTS, whole[0].folder.parent, progress=False), whole, strict=True):
        assert_same(one, two)


@pytest.mark.parametrize("first", [run, lambda one, *args, **settings: run_population([one], *args, **settings)])
def test_a_run_may_change_between_alone_and_a_population(first, tmp_path, alone):
    for experiment in EXPERIMENTS[:2]:
        first(experiment, tmp_path, progress=False, until=5)
    if first is run:
        histories = run_population(EXPERIMENTS[:2], tmp_path, progress=False)
    else:
        histories = [run(experiment, tmp_path, progress=False) for experiment in EXPERIMENTS[:2]]
    for one, two in zip(histories, alone[:2], strict=True):
        assert_close(one, two)


def test_members_begin_where_an_initial_state_says(tmp_path):
    model = sparsify(
        models.build("mlp", input_shape=(64,), num_classes=10, hidden=(12,)),
        {"fc1": LayerTopology((12, 64), torch.arange(0, 768, 3)), "head": LayerTopology.full((10, 12))},
    )
    ticket = replace(BASE, init_from=save_initial_state(tmp_path, model), first_step=2, density=0.3)
    save_initial_state(tmp_path / "alone", model)
    histories = run_population([ticket, EXPERIMENTS[0]], tmp_path, progress=False)
    assert_close(histories[0], run(ticket, tmp_path / "alone", progress=False))
    assert histories[0].journal[0] == topology_of(model)


def test_a_member_whose_loss_is_not_finite_does_not_take_the_others_along(tmp_path, whole, monkeypatch):
    state = models.build("mlp", input_shape=(64,), num_classes=10, hidden=(12,))
    nn.init.constant_(state.get_submodule("head").weight, 3.4e38)
    spoiled = replace(BASE, init_from=save_initial_state(tmp_path, state), density=1.0)
    with pytest.raises(FloatingPointError, match=rf"1 of 4 members failed \({spoiled.folder_name}\).* must be finite"):
        run_population([spoiled, *EXPERIMENTS], tmp_path, progress=False)
    for experiment, expected in zip(EXPERIMENTS, whole, strict=True):
        assert_same(read_run(tmp_path / experiment.folder_name), expected)
    assert not (tmp_path / spoiled.folder_name / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("experiments", "error", "message"),
    [
        ([], ValueError, "at least one, got none"),
        (BASE, TypeError, "experiments"),
        (["digits"], TypeError, "experiments"),
        ([BASE, replace(BASE, epochs=4)], ValueError, "must have the same epochs, got 3 and 4. Use run_all"),
        ([BASE, replace(BASE, learning_rate=Constant(0.1))], ValueError, "the same learning_rate"),
        ([replace(BASE, micro_batches=2)], ValueError, "split into micro-batches. Use run_all"),
        ([replace(BASE, optimizer="adam", optimizer_settings={})], ValueError, "its optimizer is not SGD"),
        ([replace(BASE, rule=SNFS(stop=9))], ValueError, "its rule needs dense layers, because"),
    ],
)
def test_what_cannot_be_a_population_is_refused_before_anything_is_written(experiments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run_population(experiments, tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_settings_that_do_not_fit_the_data_leave_no_folder(tmp_path):
    with pytest.raises(ValueError, match="the rule must end within the training"):
        run_population([BASE, replace(BASE, rule=SET(stop=900))], tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


def test_why_an_experiment_is_trained_alone_is_said():
    assert why_alone(BASE) is None
    assert why_alone(replace(BASE, density=1.0)) == "it begins with density 1, and above 0.3 its own network is faster"
    assert "gradients" in (why_alone(replace(BASE, rule=DeepR())) or "")
    assert "several batches" in (why_alone(replace(BASE, rule=RigL(stop=9, probe_batches=2))) or "")
    assert "vgg16" in (why_alone(replace(BASE, model="vgg16", model_settings={})) or "")


def test_all_experiments_are_carried_out_in_populations_or_alone(tmp_path, alone, monkeypatch):
    dense, longer = replace(BASE, density=1.0), replace(BASE, epochs=1)
    mixed = [EXPERIMENTS[0], dense, EXPERIMENTS[1], longer, EXPERIMENTS[0]]
    assert populations_of(mixed) == [[EXPERIMENTS[0], EXPERIMENTS[1]], [dense], [longer]]
    histories = run_all(mixed, tmp_path, progress=False)
    assert [history.folder.name for history in histories] == [one.folder_name for one in mixed]
    assert_close(histories[2], alone[1])
    many = [replace(BASE, seed=seed) for seed in range(30)]
    assert [len(group) for group in populations_of(many)] == [15, 15]
