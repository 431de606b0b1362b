"""Where a training runs is no part of what it is. What needs a GPU is skipped aloud where there is none."""

import sys

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import sparsekit as sk
from sparsekit.cli import app
from sparsekit.experiments import recipes
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.population import populations_of
from sparsekit.rules import settings_of
from sparsekit.rules.initial import why_dense
from sparsekit.train import load_checkpoint
from sparsekit.utils import devices
from sparsekit.utils.devices import choose_device, named_device

NO_GPU = "torch finds no GPU: run make test-gpu on a machine with one"
MARKS = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU),
    pytest.mark.filterwarnings("ignore::sparsekit.kernels.SlowKernelsWarning"),
]
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=MARKS)])


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What a test sets for its process, the next one must not see."""
    for name in (devices.DEVICE, devices.COMPILE):
        monkeypatch.setenv(name, "")


def experiment(rule: str = "rigl", storage: str = "masked", **settings) -> Experiment:
    every = {"every": 3} if "every" in settings_of(rule) else {}
    sizes = {"density": 0.1, "epochs": 2, "batch_size": 200}  # twelve steps
    return recipes.digits_small(rule=rule, storage=storage, rule_settings=every, **sizes, **settings)


def rules_and_storages() -> list[tuple[str, str]]:
    pairs = [(rule, storage) for rule in sk.names("rule") for storage in ("masked", "csr")]
    return [(rule, storage) for rule, storage in pairs if storage == "masked" or not why_dense(experiment(rule).rule)]


# --- the choice -----------------------------------------------------------------------------------------------------


def having(monkeypatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


CHOICES = [  # GPUs, device, storage, what is chosen
    (0, "auto", "masked", "cpu"),
    (1, "auto", "masked", "cuda"),
    (1, "auto", "csr", "cpu"),
    (1, "cuda", "csr", "cuda"),
    (2, "cuda:1", "masked", "cuda:1"),
    (1, "cpu", "masked", "cpu"),
    (1, None, "masked", "cpu"),
]


@pytest.mark.parametrize(("gpus", "name", "storage", "expected"), CHOICES)
def test_the_device_is_the_named_one_and_auto_takes_a_gpu_where_that_is_faster(
    gpus, name, storage, expected, monkeypatch
):
    having(monkeypatch, gpus)
    assert choose_device(name, storage=storage) == torch.device(expected)
    if name is not None:
        monkeypatch.setenv(devices.DEVICE, name)
        assert choose_device(storage=storage) == torch.device(expected)


REFUSED = {
    "tpu": r"device must be one of auto, cpu, cuda, mps, .*, got 'tpu'\. Choose",
    "cpu:1": r"device must be one of .*, got 'cpu:1'\. Choose",
    "cuda:x": r"device must be one of .*, got 'cuda:x'\. Choose",
    "cuda:1": r"must be one that torch finds here, got cuda:1 and 1 GPUs\. Use auto or cpu",
    "mps": r"must have float64 numbers, .*, got mps\. Use cpu",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_device_that_is_not_here_is_refused_with_a_sentence_and_no_folder(name, monkeypatch, tmp_path):
    having(monkeypatch, gpus=1)
    with pytest.raises(ValueError, match=REFUSED[name]):
        sk.run(experiment(), tmp_path / "runs", device=name)
    assert not (tmp_path / "runs").exists()


def test_the_environment_is_read_where_nothing_is_named(monkeypatch):
    assert named_device() == "cpu"
    assert not devices.compiles()
    devices.set_for_process("auto", compile=True)
    assert (named_device(), devices.compiles(), devices.compiles(False)) == ("auto", True, False)
    assert named_device("cpu") == "cpu"


def test_on_a_gpu_or_compiled_every_run_is_trained_alone(monkeypatch):
    seeds = [recipes.mnist1d_mlp(rule="rigl", seed=seed) for seed in range(3)]
    having(monkeypatch, gpus=1)
    sizes = {}
    for device, compiled in (("cpu", False), ("auto", False), ("cuda", False), ("cpu", True)):
        devices.set_for_process(device, compile=compiled)
        sizes[device, compiled] = [len(group) for group in populations_of(seeds)]
    assert list(sizes.values()) == [[3], [3], [1, 1, 1], [1, 1, 1]]


# --- trainings ------------------------------------------------------------------------------------------------------


def runs_of(rule: str, storage: str) -> list:
    """Every rule on a GPU, and here two of them, because other tests train every rule on the CPU."""
    here = [pytest.param(rule, storage, "cpu")] if (rule, storage) in (("rigl", "masked"), ("set", "csr")) else []
    return [*here, pytest.param(rule, storage, "cuda", marks=MARKS)]


@pytest.mark.parametrize(
    ("rule", "storage", "device"), [one for pair in rules_and_storages() for one in runs_of(*pair)]
)
def test_a_run_on_any_device_ends_as_one_on_the_cpu(rule, storage, device, tmp_path):
    there = sk.run(experiment(rule, storage), tmp_path / "there", device=device, progress=False)
    here = sk.run(experiment(rule, storage), tmp_path / "here", progress=False)
    assert len(there.journal) == len(here.journal)
    assert there.last("density") == pytest.approx(here.last("density"), rel=0.05)
    assert there.values("train loss")[0] == pytest.approx(here.values("train loss")[0], rel=1e-3)
    state = load_checkpoint(there.folder / "checkpoint.pt")["model"]
    assert all(x.device.type == "cpu" for x in state.values())


@on_every_device
@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_a_run_that_began_on_one_device_continues_on_another(storage, device, tmp_path):
    whole = sk.run(experiment(storage=storage), tmp_path / "whole", progress=False)
    places = {"first here": ("cpu", device), "first there": (device, "cpu")}
    for name, (first, second) in places.items():
        sk.run(experiment(storage=storage), tmp_path / name, until=4, device=first, progress=False)
        history = sk.run(experiment(storage=storage), tmp_path / name, device=second, progress=False)
        assert history.folder.name == whole.folder.name
        assert len(history.values("train loss")) == len(whole.values("train loss"))
        assert history.values("train loss") == pytest.approx(whole.values("train loss"), rel=1e-2)
        if device == "cpu":
            assert history.values("train loss") == whole.values("train loss")


def test_the_model_and_the_data_are_on_the_device_before_the_optimizer_is_made(monkeypatch, tmp_path):
    """`meta` stands in for a device that is not here. It has no numbers, so no step is taken."""
    seen = {}

    def stop(experiment, model):
        seen["model"] = {parameter.device.type for parameter in model.parameters()}
        raise KeyboardInterrupt

    running = sys.modules["sparsekit.experiments.run"]  # in the package its function has this name
    for module in (running, sys.modules["sparsekit.experiments.work"]):
        monkeypatch.setattr(module, "choose_device", lambda name, storage: torch.device("meta"))
    monkeypatch.setattr("sparsekit.experiments.work.build_optimizer", stop)
    moved = []
    monkeypatch.setattr(sk.datasets.Dataset, "to", lambda self, where: moved.append(str(where)) or self)
    with pytest.raises(KeyboardInterrupt):
        sk.run(experiment(), tmp_path, progress=False)
    assert seen == {"model": {"meta"}}
    assert moved == ["meta"]


def test_a_compiled_run_has_the_same_name_and_compiles_the_network(monkeypatch, tmp_path):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    sk.run(experiment(), tmp_path, until=1, progress=False)
    assert compiled == []
    history = sk.run(experiment(), tmp_path, until=2, compile=True, progress=False)
    assert len(compiled) == 1
    assert history.folder.name == experiment().folder_name


# --- the command line -----------------------------------------------------------------------------------------------

COMMANDS = {
    "train": ["train", "digits-mlp"],
    "lottery": ["lottery", "digits-mlp"],
    "sup-tickets": ["sup-tickets", "mnist1d-mlp"],
    "compare": ["compare"],
    "claims": ["claims", "--only", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_trains_takes_a_device(command, monkeypatch, tmp_path):
    having(monkeypatch, gpus=0)
    words = [*COMMANDS[command], "--device", "cuda", "--compile", "--folder", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ValueError)
    assert "must be one that torch finds here, got cuda and 0 GPUs" in str(result.exception)
    assert not (tmp_path / "runs").exists()


def test_the_command_line_says_where_it_trains_and_sets_mixed_precision(monkeypatch, tmp_path):
    having(monkeypatch, gpus=1)
    trained = []
    monkeypatch.setattr("sparsekit.experiments.run_on_ranks", lambda one, folder, **settings: trained.append(one))
    monkeypatch.setattr("sparsekit.cli.show_history", lambda history: None)
    result = CliRunner().invoke(app, ["train", "digits-mlp", "--autocast", "bf16"], catch_exceptions=False)
    assert "training on cuda" in result.output
    assert trained[0].autocast == "bfloat16"
    quiet = CliRunner().invoke(app, ["train", "digits-mlp", "--device", "cpu"], catch_exceptions=False)
    assert "training on" not in quiet.output
    assert trained[1].autocast is None


def test_mixed_precision_by_the_command_line_is_a_part_of_the_experiment():
    assert experiment(autocast="bfloat16").folder_name != experiment().folder_name
