"""A branch continues a run from one of its rewirings. Without a change it ends bit for bit as its parent did."""

import random
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from training_helpers import same

import sparsekit as sk
from sparsekit import datasets
from sparsekit.experiments import Experiment, branch, follow, read_experiment, read_run, run, run_all
from sparsekit.experiments.branch import named_like
from sparsekit.experiments.work import Work
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.models import build
from sparsekit.rewiring import rewire, views
from sparsekit.rules import DSR, GSE, SET, SNFS, DropGrow, RigL, Static, TopKAST
from sparsekit.rules.switched import Switched, last_of, rule_at
from sparsekit.schedules import Constant
from sparsekit.train import load_checkpoint


def few(split, count):
    return replace(split, inputs=split.inputs[:count], labels=split.labels[:count])


WHOLE = datasets.load("digits")
DIGITS = replace(WHOLE, train=few(WHOLE.train, 240), test=few(WHOLE.test, 30))
# Twelve steps an epoch, and a rewiring at every second step: 23 of them.
NET = Experiment(
    recipe="branched",
    data="digits",
    model_settings={"hidden": (12,)},
    density=0.2,
    rule=RigL(every=2, stop=45, drop_fraction=0.4),
    epochs=4,
    batch_size=20,
)
STORAGES = ("masked", "csr")


@pytest.fixture(autouse=True)
def _digits_at_hand(monkeypatch):
    monkeypatch.setattr(datasets, "load_any", lambda *_, **__: DIGITS)


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    """A run in each storage that has kept its states."""
    folder = tmp_path_factory.mktemp("parents")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_any", lambda *_, **__: DIGITS)
        experiments = {storage: replace(NET, storage=storage) for storage in STORAGES}
        return {
            storage: run(one, folder, progress=False, keep_states=True, checkpoint_seconds=600)
            for storage, one in experiments.items()
        }


@pytest.fixture
def steps_trained(monkeypatch):
    """The number of each step that is trained, in order."""
    steps = []

    def counting(self, *args, whole=Work._epoch, **settings):
        for postfix in whole(self, *args, **settings):
            steps.append(self.done - 1)
            yield postfix

    monkeypatch.setattr(Work, "_epoch", counting)
    return steps


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_equal_to_the_end(one, other):
    assert one.rows == other.rows
    assert [step for step, _ in one.journal.entries] == [step for step, _ in other.journal.entries]
    assert list(one.journal.topologies()) == list(other.journal.topologies())
    first, second = (load_checkpoint(history.folder / "checkpoint.pt") for history in (one, other))
    assert all(same(first[part], second[part]) for part in ("step", "model", "optimizer", "random", "extra"))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rewiring", [0, *random.Random(0).sample(range(1, 23), 8), 23])
def test_a_branch_without_a_change_equals_its_parent_to_the_end(parents, tmp_path, steps_trained, storage, rewiring):
    parent = parents[storage]
    before = contents(parent.folder)
    twin = branch(parent, tmp_path, rewiring=rewiring, progress=False)
    assert twin.folder != parent.folder
    assert_equal_to_the_end(twin, parent)
    first = parent.journal.steps[rewiring - 1] + 1 if rewiring else 0
    assert steps_trained == list(range(first, 48)), "a branch costs only what comes after it"
    assert contents(parent.folder) == before, "nothing changes in the folder of the parent"


def test_a_parent_that_kept_no_states_can_be_branched_too(parents, tmp_path, steps_trained):
    parent = run(NET, tmp_path, progress=False)
    steps_trained.clear()
    assert_equal_to_the_end(branch(parent.folder, rewiring=9, progress=False), parents["masked"])
    assert len(steps_trained) == 48


def test_a_branch_can_be_interrupted_and_is_read_when_it_is_done(parents, tmp_path, steps_trained):
    whole = branch(parents["csr"], tmp_path / "whole", rewiring=5, rule="set", progress=False)
    twin = read_experiment(whole.folder)
    with pytest.raises(TypeError, match="rule"):
        branch(parents["csr"], tmp_path, rewiring=5, rule=SET, progress=False)
    run(twin, tmp_path / "parts", until=20, progress=False)
    assert_equal_to_the_end(branch(parents["csr"], tmp_path / "parts", rewiring=5, rule="set", progress=False), whole)
    steps_trained.clear()
    branch(parents["csr"], tmp_path / "parts", rewiring=5, rule="set", progress=False)
    assert not steps_trained


def test_a_branch_of_a_branch_is_one_more_change(parents, tmp_path):
    one = run(read_experiment(parents["csr"].folder), tmp_path, progress=False, keep_states=True)
    two = branch(one, rewiring=6, rule="set", progress=False)
    three = branch(two, rewiring=12, rule="static", progress=False)
    assert len(three.journal) == 12
    assert list(three.journal.topologies()) == list(two.journal.topologies())[:13]


@pytest.mark.parametrize("storage", STORAGES)
def test_another_rule_acts_from_the_branch_on_and_not_before(parents, tmp_path, storage):
    parent = parents[storage]
    twin = branch(parent, tmp_path, rewiring=7, rule="static", progress=False)
    assert len(twin.journal) == 7
    assert list(twin.journal.topologies()) == list(parent.journal.topologies())[:8]
    end = parent.journal.steps[6]
    assert [row for row in twin.rows if row.step <= end] == [row for row in parent.rows if row.step <= end]
    assert twin.rows != parent.rows


def test_another_drop_fraction_decays_over_the_whole_training(parents, tmp_path):
    parent = parents["masked"]
    twin = branch(parent, tmp_path, rewiring=3, drop_fraction=0.9, progress=False)
    assert last_of(read_experiment(twin.folder).rule) == RigL(every=2, stop=45, drop_fraction=0.9)
    changed = [parent.journal.entries[3][1].num_dropped, twin.journal.entries[3][1].num_dropped]
    assert changed[1] > changed[0]


@pytest.mark.parametrize("rule", ["static", "set", "rigl", "gse"])
@pytest.mark.parametrize("density", [0.05, 0.8])
def test_another_density_holds_from_the_first_step_on_exactly(parents, tmp_path, rule, density):
    parent = parents["csr"]
    twin = branch(parent, tmp_path, rewiring=4, rule=rule, density=density, progress=False)
    size = parent.journal.initial.size
    assert {topology.count for topology in list(twin.journal.topologies())[5:]} == {round(density * size)}
    assert twin.journal.steps[4] == parent.journal.steps[3] + 1
    old, new = parent.journal[4], twin.journal[5]
    assert (old & new).count == min(old.count, new.count), "it only drops, or only grows"


def test_a_density_that_a_rule_finds_no_positions_for_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class First(sk.rules.Candidates):
        """Considers the first missing position only."""

        def __call__(self, view, taken, count, generator):
            yield taken.missing_at(torch.tensor([0]))

    model = sk.sparsify(torch.nn.Sequential(torch.nn.Linear(8, 6)), sk.random_topology({"0": (6, 8)}, 0.25))
    after = SET(stop=60, candidates=First())
    propose = Switched(base=Static(), after=after, at=3, density=0.5).propose
    with pytest.raises(
        ValueError, match=r"a rule must find positions for 24 connections, got 13 from .* Choose a smaller"
    ):
        propose(views(model), 3, torch.Generator())
    one_more = Switched(base=Static(), after=after, at=3, density=13 / 48).propose
    assert one_more(views(model), 3, torch.Generator()).count == 13


def test_a_falling_density_drops_the_weakest(parents):
    torch.manual_seed(0)
    network = build("mlp", input_shape=(8,), num_classes=3, hidden=(6,))
    from sparsekit import shapes_of, sparsify
    from sparsekit.topology import random_topology

    model = sparsify(network, random_topology(shapes_of(network), 0.5))
    before = {name: layer.values().abs() for name, layer in sparse_layers(model).items()}
    rule = Switched(base=Static(), after=Static(), at=3, density=0.25)
    old = topology_of(model)
    rewire(model, rule.propose(views(model), 3, torch.Generator().manual_seed(0)))
    assert topology_of(model).count == round(0.25 * old.size)
    for name, layer in sparse_layers(model).items():
        stays = torch.isin(old[name].indices, layer.topology.indices)
        assert before[name][stays].min() > before[name][~stays].max()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"rewiring": 24}, ValueError, r"rewiring must lie in \[0, 23\]"),
        ({"rewiring": -1}, ValueError, "rewiring must lie in"),
        ({"rewiring": 2.5}, TypeError, "rewiring"),
        ({"rewiring": 2, "rule": "static", "drop_fraction": 0.5}, ValueError, "to have a drop fraction"),
        ({"rewiring": 2, "density": 1.5}, ValueError, "density"),
        ({"rewiring": 2, "density": float("nan")}, ValueError, "density"),
        ({"rewiring": 2, "rule": "granet", "density": 0.1}, ValueError, "one of both must say the density"),
        ({"rewiring": 2, "rule": "top-kast"}, ValueError, "must do without the other's preparations"),
        ({"rewiring": 2, "rule": "nosuch"}, ValueError, "nosuch"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(parents, tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        branch(parents["masked"], tmp_path, progress=False, **changes)
    assert not list(tmp_path.iterdir())


def test_a_damaged_state_of_the_parent_leaves_nothing_behind(tmp_path):
    parent = run(NET, tmp_path / "parents", progress=False, keep_states=True)
    state = sorted((parent.folder / "states").iterdir())[4]
    state.write_bytes(state.read_bytes()[:-20])
    with pytest.raises(ValueError, match="whole checkpoint"):
        branch(parent, tmp_path / "branches", rewiring=5, progress=False)
    assert not (tmp_path / "branches").exists()


def test_a_step_of_a_switched_rule_is_one_of_the_rule_that_acts():
    first, second = RigL(stop=50, every=10), SET(stop=50, every=10)
    topologies = {}
    for name, rule in {"second": second, "switched": Switched(base=first, after=second, at=5)}.items():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        model = sk.sparsify(net, sk.random_topology(sk.shapes_of(net), 0.5, seed=0))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batch = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0])
        sk.train_step(model, optimizer, batch, torch.nn.functional.cross_entropy, rule, 10, sk.generator(0))
        topologies[name] = sk.topology_of(model), [value.clone() for value in model.state_dict().values()]
    assert topologies["switched"][0] == topologies["second"][0]
    assert all(map(torch.equal, topologies["switched"][1], topologies["second"][1]))


def test_a_switched_rule_is_its_first_rule_before_and_its_second_after():
    rule = Switched(base=SET(stop=60, every=20), after=RigL(stop=60, every=7), at=30, density=0.1)
    assert [step for step in range(64) if rule.is_due(step)] == [0, 20, 30, 35, 42, 49, 56]
    assert rule_at(rule, 29) == SET(stop=60, every=20)
    resize = rule_at(rule, 30)
    assert isinstance(resize, DropGrow)
    assert resize.density_at(30) == 0.1
    assert resize.drop_fraction_at(30) == 0
    assert rule_at(rule, 31) == rule.after
    nested = Switched(base=rule, after=Static(), at=40)
    assert [rule_at(nested, step) for step in (0, 35, 40)] == [rule.base, rule.after, Static()]


def test_rules_that_need_preparation_may_only_follow_themselves():
    assert Switched(base=DSR(stop=9, threshold=0.1), after=DSR(stop=9, threshold=0.2), at=3)
    both = DSR(stop=9, threshold=0.1), SNFS(stop=9)
    for base, after in ((Static(), TopKAST(stop=9)), (TopKAST(stop=9), Static()), both):
        with pytest.raises(ValueError, match="preparations"):
            Switched(base=base, after=after, at=3)


def test_a_rule_is_recognised_by_what_it_does():
    assert named_like(GSE(stop=75, every=10), ("set", "rigl", "gse"), 100) == "gse"
    assert named_like(RigL(stop=75, every=10, probe_batches=3), ("set", "rigl"), 100) == "dropgrow"


def arms():
    return [replace(NET, rule=rule, seed=seed) for rule in (Static(), SET(every=5, stop=40)) for seed in (0, 1)]


def test_following_gives_what_run_all_gives_and_more_and_more_of_it(tmp_path):
    seen = [[(len(one.rows), len(one.journal)) for one in histories] for histories in follow(arms(), tmp_path / "a")]
    assert seen[0] == [(0, 0)] * 4
    assert all(one[0][0] <= other[0][0] for one, other in pairwise(seen))
    assert len(seen) == 1 + len({*range(12, 49, 12), *(step + 1 for step in range(0, 41, 5))})
    for one, other in zip(
        run_all(arms(), tmp_path / "a", progress=False), run_all(arms(), tmp_path / "b", progress=False), strict=True
    ):
        assert_equal_to_the_end(one, other)


def test_whoever_stops_following_may_continue_later(tmp_path):
    single = [replace(NET, optimizer="adam"), *arms()[:1]]
    steps = follow(single, tmp_path, checkpoint_seconds=0.0)
    for _ in range(9):
        histories = next(steps)
    steps.close()
    assert 0 < len(read_run(histories[0].folder).rows) < len(run(single[0], tmp_path, progress=False).rows)
    alone = run(single[0], tmp_path / "alone", progress=False)
    assert_equal_to_the_end(read_run(histories[0].folder), alone)


def test_a_rising_density_that_is_constant_needs_no_end():
    assert Switched(base=Static(), after=SET(stop=None, drop_fraction=Constant(0.3)), at=5, density=0.3).is_due(5)
