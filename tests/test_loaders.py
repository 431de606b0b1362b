"""Data of your own, in batches of their own making: runs on them are found again, resumed and sent to workers."""

import pickle
import random
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from test_resume import assert_same_run
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import sparsekit as sk
from sparsekit.datasets import Loaders, load, load_any
from sparsekit.experiments import Experiment, branch, load_model, read_run, run
from sparsekit.experiments.record import own_definitions
from sparsekit.rules import SET
from sparsekit.utils import registry
from sparsekit.utils.seeds import generator, seeded_rng

COUNT, BATCH, STEPS = 40, 8, 5
POINTS = torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(0))
LABELS = POINTS[:, :3].argmax(1)


class Noisy(TorchDataset):
    """Points to which something random is added, by torch or by Python."""

    def __init__(self, draw=lambda: torch.randn(6)):
        self.draw = draw

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return POINTS[index] + self.draw(), LABELS[index]


class Noise(Noisy):
    """Nothing but what is drawn."""

    def __getitem__(self, index):
        return self.draw(), LABELS[index]


class Streamed(IterableDataset):
    """The same points as a stream, whose length nobody knows."""

    def __iter__(self):
        yield from zip(POINTS, LABELS, strict=True)


class Named(nn.Module):
    """A network that takes its input by name, and whose output has the scores by name, as transformers do."""

    def __init__(self, *, input_shape, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, num_classes))

    def forward(self, points):
        return SimpleNamespace(logits=self.layers(points))


def named(examples):
    points, labels = zip(*examples, strict=True)
    return {"points": torch.stack(points), "labels": torch.stack(labels)}


BY_NAME = sk.Adaptor(
    batch=lambda batch: ({"points": batch["points"]}, batch["labels"]), outputs=lambda outputs: outputs.logits
)
TEST = DataLoader(TensorDataset(POINTS, LABELS), batch_size=16)


def noisy(*, root=None, workers=0, **settings):
    train = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers, **settings)
    return Loaders(name="noisy", train=train, test=TEST, num_classes=3, shape=(6,))


def seeded(*, root=None):
    train = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, generator=torch.Generator())
    return Loaders(name="seeded", train=train, test=TEST, num_classes=3, shape=(6,))


def streamed(*, root=None):
    train = DataLoader(Streamed(), batch_size=BATCH)
    return Loaders(name="streamed", train=train, test=TEST, num_classes=3, shape=(6,), steps=STEPS)


def of_the_epoch(*, root=None):
    def train(epoch):
        return ((POINTS[rows] + epoch, LABELS[rows]) for rows in torch.randperm(COUNT).split(BATCH))

    return Loaders(name="of-the-epoch", train=train, test=TEST, num_classes=3, shape=(6,), steps=STEPS)


def dicts(*, root=None):
    train = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, collate_fn=named)
    test = DataLoader(TensorDataset(POINTS, LABELS), batch_size=16, collate_fn=named)
    return Loaders(name="dicts", train=train, test=test, num_classes=3, shape=(6,), adaptor=BY_NAME)


def pythonic(*, root=None):
    train = DataLoader(Noisy(random.random), batch_size=BATCH, shuffle=True)
    return Loaders(name="pythonic", train=train, test=TEST, num_classes=3, shape=(6,))


OWN = (noisy, seeded, streamed, of_the_epoch, dicts, pythonic)


@contextmanager
def registering():
    """Register the data and the network for a while only."""
    registry.names("data"), registry.names("model")
    before = registry._registered
    registry._registered = {kind: dict(one) for kind, one in before.items()}
    try:
        for make in OWN:
            sk.register("data", make.__name__.replace("_", "-"))(make)
        sk.register("model", "named")(Named)
        yield
    finally:
        registry._registered = before


with registering():
    TINY = Experiment(
        recipe="own",
        data="noisy",
        density=0.4,
        epochs=2,
        batch_size=BATCH,
        rule=SET(every=3, stop=9, drop_fraction=0.3),
        model_settings={"hidden": (12,)},
    )
    BY_DICTS = replace(TINY, data="dicts", model="named", model_settings={})
    EXPERIMENTS = [
        TINY,
        replace(TINY, data="seeded"),
        replace(TINY, data="streamed"),
        replace(TINY, data="of-the-epoch", storage="csr"),
        BY_DICTS,
        replace(BY_DICTS, micro_batches=2),
    ]


@pytest.fixture(autouse=True)
def registered():
    with registering():
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """Leave out the type checks of the tests, which a user has not."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: f"{one.data}-{one.storage}-{one.micro_batches}")
def test_a_run_on_loaders_that_is_interrupted_continues_bit_for_bit(experiment, tmp_path):
    whole = run(experiment, tmp_path / "whole", progress=False)
    assert len(whole.values("train loss")) == 2 * STEPS
    for until in (3, 8):
        torch.manual_seed(until)  # what others draw does not matter
        run(experiment, tmp_path / "parts", until=until, checkpoint_steps=1, progress=False)
    torch.manual_seed(99)
    parts = run(experiment, tmp_path / "parts", progress=False)
    assert_same_run(parts, whole)
    assert len(whole.journal) >= 3
    assert run(experiment, tmp_path / "parts", progress=False).rows == whole.rows


def test_epochs_and_seeds_give_other_batches_and_the_same_ones_give_the_same():
    def batches(epoch, seed):
        return torch.cat([inputs for inputs, _ in load_any("noisy").epoch(epoch, seed=seed)])

    first = batches(0, 0)
    assert torch.equal(batches(0, 0), first)
    assert not torch.equal(batches(1, 0), first)
    assert not torch.equal(batches(0, 1), first)


def test_workers_of_a_loader_draw_differently_from_each_other_and_the_same_in_a_resumed_run(tmp_path):
    experiment = replace(TINY, data_settings={"workers": 2})
    noise = replace(noisy(), train=DataLoader(Noise(), batch_size=BATCH, num_workers=2))
    with seeded_rng(generator(0, "a training")):  # which the workers leave
        first, again = (torch.cat([inputs for inputs, _ in noise.epoch(0, seed=0)]) for _ in range(2))
    assert torch.equal(first, again)
    assert len(first[:, 0].unique()) == COUNT
    whole = run(experiment, tmp_path / "whole", progress=False)
    run(experiment, tmp_path / "parts", until=7, progress=False)
    assert_same_run(run(experiment, tmp_path / "parts", progress=False), whole)


def test_a_loader_that_draws_elsewhere_continues_with_a_warning(tmp_path):
    experiment = replace(TINY, data="pythonic")
    run(experiment, tmp_path, until=7, progress=False)
    with pytest.warns(UserWarning, match="must see the batches that it saw before .* got others.*with torch only"):
        history = run(experiment, tmp_path, progress=False)
    assert len(history.values("train loss")) == 2 * STEPS


def test_the_experiment_is_named_by_its_data_and_their_settings_and_is_read_back(tmp_path):
    with_workers = replace(TINY, data_settings={"workers": 1})
    assert with_workers.folder_name != TINY.folder_name == replace(TINY).folder_name
    history = run(TINY, tmp_path, until=1, progress=False)
    assert read_run(history.folder).rows == history.rows
    assert load_model(history.folder)(POINTS).shape == (COUNT, 3)
    assert pickle.loads(pickle.dumps(TINY)) == TINY
    assert [(one.kind, one.name) for one in own_definitions([TINY])] == [("data", "noisy")]
    del registry._registered["data"]["noisy"]
    with pytest.raises(ValueError, match="must find data noisy registered, got none. Import .*test_loaders"):
        read_run(history.folder)


def test_a_branch_of_a_run_on_loaders_equals_it_where_nothing_changes(tmp_path):
    parent = run(TINY, tmp_path, progress=False, keep_states=True)
    same = branch(parent, rewiring=2, progress=False)
    assert same.last("test accuracy") == parent.last("test accuracy")
    assert list(same.journal.topologies()) == list(parent.journal.topologies())


def test_dask_s_workers_and_populations_leave_runs_on_loaders_to_run(tmp_path):
    seeds = [replace(TINY, seed=seed) for seed in range(2)]
    together = sk.run_all(seeds, tmp_path / "all", progress=False)
    for one, experiment in zip(together, seeds, strict=True):
        assert one.rows == run(experiment, tmp_path / "each", progress=False).rows


def test_studies_that_need_data_in_memory_say_so():
    with pytest.raises(ValueError, match="needs data that lie in memory, got noisy, which comes as Loaders"):
        load("noisy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 16}, "batch_size must be that of the loader, 8, got 16"),
        ({"augment": True}, "augment needs images that lie in memory, got noisy"),
        ({"score": sk.scores.SNIP()}, "a score needs data that lie in memory, got noisy"),
        ({"rule": SET(every=3, stop=99, drop_fraction=0.3)}, "the rule must end within the training, got stop=99"),
    ],
)
def test_settings_that_do_not_fit_loaders_are_refused_and_leave_no_folder(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(replace(TINY, **changes), tmp_path / "runs", progress=False)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"train": Noisy()}, TypeError, "train must be batches, got Noisy, which gives examples. Write DataLoader"),
        ({"test": Streamed()}, TypeError, "test must be batches, got Streamed.*shuffle=False"),
        ({"train": iter([1])}, TypeError, "train must be batches that can be walked through again, got list_iterator"),
        ({"train": 3}, TypeError, "train must be batches, or a function .*, got 3"),
        ({"train": TEST, "num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
        ({"train": TEST, "steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"train": TEST, "shape": 6}, TypeError, "Loaders.shape must be a tuple"),
        ({"train": DataLoader(Streamed())}, ValueError, "steps must say how many batches .*, got None"),
        (
            {"train": DataLoader(Noisy(), num_workers=1, persistent_workers=True)},
            ValueError,
            "workers of train must end with each epoch, got persistent_workers=True",
        ),
    ],
)
def test_what_are_no_loaders_gets_a_sentence(settings, error, message, unchecked):
    with pytest.raises(error, match=message):
        Loaders(**{"name": "wrong", "train": TEST, "test": TEST, "num_classes": 3} | settings)


def test_data_that_are_no_name_and_functions_that_return_no_data_get_a_sentence(tmp_path, unchecked):
    with pytest.raises(TypeError, match=r'data must be the name of a data set, got DataLoader. Register .*"my-data"'):
        replace(TINY, data=DataLoader(TensorDataset(torch.zeros(9000, 3))))
    sk.register("data", "nothing")(lambda root=None: TEST)
    with pytest.raises(TypeError, match="the data set nothing must be a Dataset or Loaders, got .*DataLoader"):
        run(replace(TINY, data="nothing"), tmp_path, progress=False)
    sk.register("data", "no-adaptor")(lambda root=None: replace(noisy(), adaptor=len))
    with pytest.raises(TypeError, match="adaptor must be a Adaptor"):
        run(replace(TINY, data="no-adaptor"), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_stream_that_ends_early_stops_the_run_and_keeps_its_checkpoint(tmp_path):
    sk.register("data", "short")(lambda root=None: replace(streamed(), steps=STEPS + 2))
    experiment = replace(TINY, data="short")
    with pytest.raises(ValueError, match="an epoch must have 7 batches, got 5 in epoch 0. Give as many for steps"):
        run(experiment, tmp_path, checkpoint_steps=1, progress=False)
    assert len(read_run(tmp_path / experiment.folder_name).values("train loss")) == STEPS


def test_batches_that_are_no_pairs_say_how_an_adaptor_helps(tmp_path):
    sk.register("data", "unpaired")(lambda root=None: replace(dicts(), adaptor=None))
    with pytest.raises(TypeError, match="batches must be pairs of inputs and labels, got dict.*adaptor=Adaptor"):
        run(replace(BY_DICTS, data="unpaired"), tmp_path, progress=False)


def test_the_bar_says_how_many_examples_a_second_are_trained(tmp_path, capsys):
    run(TINY, tmp_path)
    assert "examples/s=" in capsys.readouterr().err
