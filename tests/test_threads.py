"""Trainings in several threads of one process: nothing that one of them does is seen by another."""

import copy
import math
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import sparsekit
from sparsekit.experiments import Experiment, build_model, run
from sparsekit.experiments.draws import may_draw
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.kernels.backend import uncompiled
from sparsekit.layers import fuse_relus, shapes_of, sparsify
from sparsekit.rewiring.capture import capture_io
from sparsekit.rules import DropGrow, RigL, Static
from sparsekit.rules.drop.magnitude import Magnitude
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import random_topology
from sparsekit.tricks.fx_reader import UnreadableError, forward_graph
from sparsekit.tricks.ghost_neurons import find_relus
from sparsekit.tricks.skip_targets import find_skip_targets
from sparsekit.utils.registry import get, names, register
from sparsekit.utils.seeds import derive, generator, seeded_rng

if "with-dropout" not in names("model"):

    @register("model", "with-dropout")
    def with_dropout(*, input_shape: tuple[int, ...], num_classes: int, width: int = 16) -> nn.Module:
        """A network that draws in its forward pass.

        Source: these tests.
        """
        first = nn.Linear(input_shape[0], width)
        return nn.Sequential(first, nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, num_classes))


@dataclass(frozen=True, kw_only=True)
class OwnRule(Static):
    """A rule of somebody else."""


@dataclass(frozen=True)
class OwnDrop(Magnitude):
    """A part of a rule of somebody else."""


def in_threads(*tasks):
    """Run tasks at once, begun together, and return what each gives."""
    together = threading.Barrier(len(tasks))
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [
            done.result() for done in [pool.submit(lambda task=task: (together.wait(), task())[1]) for task in tasks]
        ]


@pytest.mark.parametrize(("model", "storage"), [("mlp", "csr"), ("with-dropout", "masked")])
def test_four_runs_in_four_threads_equal_the_four_runs_alone(tmp_path, model, storage):
    rule, sizes = RigL(every=3, stop=12), {} if model == "with-dropout" else {"hidden": (16,)}
    base = Experiment(
        recipe="own", model=model, model_settings=sizes, storage=storage, rule=rule, density=0.3, epochs=1
    )
    experiments = [replace(base, seed=seed) for seed in range(4)]
    alone = [run(one, tmp_path / "alone", progress=False, until=8) for one in experiments]
    before = torch.get_rng_state()
    together = in_threads(
        *[lambda one=one: run(one, tmp_path / "together", progress=False, until=8) for one in experiments],
    )
    assert torch.equal(before, torch.get_rng_state())
    for first, second in zip(alone, together, strict=True):
        assert first.values("train loss") == second.values("train loss")
        assert first.journal[-1] == second.journal[-1]
    assert len({tuple(one.values("train loss")) for one in alone}) == 4


def test_dropout_continues_after_an_interruption_as_it_would_have_done(tmp_path):
    experiment = Experiment(recipe="own", model="with-dropout", epochs=1, rule=RigL(every=3, stop=12), density=0.3)
    whole = run(experiment, tmp_path / "whole", progress=False, until=9).values("train loss")
    run(experiment, tmp_path / "halves", progress=False, until=5)
    assert run(experiment, tmp_path / "halves", progress=False, until=9).values("train loss") == whole


class Block(nn.Module):
    """Calls relu as a module and as a function."""

    def __init__(self):
        super().__init__()
        self.fc, self.bn, self.relu = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()

    def forward(self, x):
        return functional.relu(self.relu(self.bn(self.fc(x))) + x)


def test_reading_a_network_is_not_seen_by_a_training_in_another_thread():
    plain, x = nn.Sequential(*[Block() for _ in range(4)]), torch.ones(3, 6)
    sparse = sparsify(plain, random_topology(shapes_of(plain), 0.5), "csr", init="dense")
    is_read, went_wrong = threading.Event(), []

    def train():
        while not is_read.is_set():
            try:
                plain(x).sum().backward()
            except Exception as error:
                went_wrong.append(error)

    def read():
        try:
            return [
                (len(find_skip_targets(plain).layers), len(find_relus(plain).callers)) for _ in range(3)
            ], fuse_relus(sparse)
        finally:
            is_read.set()

    _, (found, pairs) = in_threads(train, read)
    assert not went_wrong
    assert found == [(4, 4)] * 3
    assert pairs == 4


def test_reading_leaves_the_network_and_torch_as_they_were():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu = nn.Linear(4, 4), nn.ReLU()
            self.register_buffer("weighted", torch.ones(4))

        def forward(self, x):
            return self.relu(self.fc(x) * (self.weighted + 1)) / math.sqrt(x.shape[1])

    module = Counts()
    before = (dict(vars(module)), dict(module._modules), nn.Module.__call__, nn.Module.__getattr__, math.sqrt)
    graph = forward_graph(module)
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["fc", "relu"]
    assert math.sqrt in [node.target for node in graph.nodes]
    assert (dict(vars(module)), dict(module._modules), nn.Module.__call__, nn.Module.__getattr__, math.sqrt) == before


@pytest.mark.parametrize("hidden", ["listed", "forward"])
def test_parts_called_behind_the_back_of_a_module_are_not_read(hidden):
    class Hides(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.relu = nn.BatchNorm1d(3), nn.ReLU()
            self.listed = [self.relu]

        def forward(self, x):
            again = self.listed[0](-x) if hidden == "listed" else self.relu.forward(-x)
            return self.relu(self.bn(x)) + again

    with pytest.raises(UnreadableError, match="called as attributes"):
        forward_graph(Hides())
    sparse = sparsify(nn.Sequential(nn.Linear(3, 3), Hides()), {"0": LayerTopology.full((3, 3))}, "csr", init="dense")
    x = torch.randn(5, 3, generator=generator(0, "x"))
    before = sparse(x)
    assert fuse_relus(sparse) == 0
    assert torch.equal(sparse(x), before)


def test_networks_built_in_several_threads_at_once_are_those_built_alone():
    experiments = [
        Experiment(recipe="own", model="resnet20", model_settings={"width": 4}, storage="csr", seed=seed, density=0.3)
        for seed in range(3)
    ]
    built = [lambda one=one: build_model(one, input_shape=(3, 8, 8), num_classes=4) for one in experiments]
    alone, before = [build() for build in built], torch.get_rng_state()
    together = in_threads(*built)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(alone, together, strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        )
        assert [type(part) for part in one.modules()] == [type(part) for part in other.modules()]


def test_initial_weights_are_those_that_follow_torchs_own_seeding():
    built = build_model(Experiment(recipe="own", density=1.0, seed=3), input_shape=(64,), num_classes=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(3, "model"))
        plain = get("model", "mlp")(input_shape=(64,), num_classes=10)
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), plain.parameters(), strict=True))


DRAWS = {
    "dropout": lambda x: functional.dropout(x, 0.5),
    "fused dropout": lambda x: torch.native_dropout(x, 0.5, True)[0],
    "alpha dropout": lambda x: functional.alpha_dropout(x, 0.5, training=True),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "rrelu": lambda x: functional.rrelu(-x, training=True),
    "gumbel": lambda x: functional.gumbel_softmax(x),
    "rand_like": torch.rand_like,
    "randn": lambda x: torch.randn(x.shape),
    "randint": lambda x: torch.randint(2, 50, x.shape),
    "randperm": lambda x: torch.randperm(20),
    "multinomial": lambda x: torch.multinomial(x.abs() + 1, 4, replacement=True),
    "orthogonal": lambda x: nn.init.orthogonal_(torch.empty(4, 4)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_what_draws_draws_from_the_generator_and_leaves_the_global_state_alone(name):
    x, before = torch.ones(4, 6), torch.get_rng_state()
    one, same, other = (_drawn(DRAWS[name], x, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    if name != "fused dropout":  # which has another kernel of its own
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            assert torch.equal(DRAWS[name](x), one)


def _drawn(draw, x, seed):
    with seeded_rng(torch.Generator().manual_seed(seed)):
        return draw(x)


def test_a_generator_continues_where_it_was_and_given_generators_are_kept():
    rng = seeded_rng(torch.Generator().manual_seed(0))
    with rng:
        first = torch.rand(3)
    with rng, seeded_rng(torch.Generator().manual_seed(5)):
        inner = torch.rand(3)
        own = torch.rand(3, generator=torch.Generator().manual_seed(0))
    with rng:
        second = torch.rand(3)
    expected = torch.rand(6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(own, expected[:3])
    assert torch.equal(inner, torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_dropout_that_would_be_recomputed_with_other_numbers_is_refused():
    x = torch.ones(4, requires_grad=True)
    with seeded_rng(generator(0, "dropout")):
        with pytest.raises(RuntimeError, match="torch.utils.checkpoint"):
            checkpoint(functional.dropout, x, use_reentrant=False)
        assert torch.equal(checkpoint(functional.relu, x, use_reentrant=False), x)
        assert torch.equal(checkpoint(lambda x: functional.dropout(x, training=False), x, use_reentrant=False), x)


def test_what_takes_no_generator_is_refused():
    with seeded_rng(generator(0, "refused")), pytest.raises(RuntimeError, match="must take a generator"):
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*[torch.ones(1, 1, 2, 4)] * 3, 0.5)


def test_only_trainings_of_parts_that_may_draw_pay_for_a_generator():
    base = digits_mlp(rule="rigl")
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    class Own(nn.Sequential):
        pass

    assert not may_draw(base, model)
    assert not may_draw(base, sparsify(model, {"0": LayerTopology.full((4, 4))}, "csr", init="dense"))
    for module in (nn.Dropout(), nn.RReLU(), nn.LSTM(2, 2), nn.MultiheadAttention(2, 1), Own()):
        assert may_draw(base, nn.Sequential(nn.Linear(4, 4), module))
    assert may_draw(replace(base, model="with-dropout", model_settings={}), model)
    assert may_draw(replace(base, rule=OwnRule()), model)
    assert may_draw(replace(base, rule=DropGrow(drop=OwnDrop(), stop=100)), model)


def test_a_capture_is_seen_by_its_own_model_only():
    plain = nn.Sequential(nn.Linear(3, 3))
    sparse = sparsify(plain, {"0": LayerTopology.full((3, 3))}, init="dense")
    with capture_io(sparse) as io:
        assert not torch.nn.modules.module._global_forward_pre_hooks
        copied, filed = copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))
        sparse(torch.ones(2, 3)).sum().backward()
        copied(torch.ones(7, 3)), filed(torch.ones(7, 3))
    assert io["0"].whole.arguments[0].shape == (2, 3)
    assert not sparse._forward_pre_hooks


def test_compiled_models_are_compiled_again_after_the_last_capture():
    import torch._dynamo.eval_frame as frames

    first, second = uncompiled(), uncompiled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert frames._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert frames._stance.stance == "default"


def test_only_benchmarks_set_the_global_random_state():
    """They are processes of their own; anything else may run beside other threads, or in one."""
    package = Path(sparsekit.__file__).parent
    sources = {path.relative_to(package): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    setting = [path for path, text in sources.items() if re.search(r"fork_rng\(|torch\.(random\.)?manual_seed\(", text)]
    assert [path for path in setting if path.parts[:3] != ("analysis", "costs", "benchmark")] == []
