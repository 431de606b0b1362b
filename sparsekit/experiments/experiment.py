"""An experiment is one frozen value. `run` carries it out once, and resumes it where it was interrupted."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sparsekit import models
from sparsekit.datasets import Dataset, few_per_class
from sparsekit.layers import fit_to_fan_in, fuse_relus, shapes_of, sparsify
from sparsekit.layers.convert import STORAGES
from sparsekit.layers.initial import INITS, check_init
from sparsekit.rules.base import Rule
from sparsekit.rules.initial import initial_density, initial_topology, prepare_layers, samples_anew, why_dense
from sparsekit.rules.static import Static
from sparsekit.schedules import Cosine, Schedule
from sparsekit.scores.base import Score, prune
from sparsekit.topology import Topology
from sparsekit.topology.allocation import check_density
from sparsekit.topology.selection import random_topology
from sparsekit.topology.shuffling import shuffled
from sparsekit.train.step_counts import RAMP, STEP_COUNTS, own_step_counts
from sparsekit.tricks import LabelSmoothing, Trick, check_tricks
from sparsekit.utils.checks import check_types, shown
from sparsekit.utils.files import check_name
from sparsekit.utils.registry import get, register
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.utils.settings import changed_settings, check_range, setting

# Learning rate and settings of each optimizer where an experiment names none. They are torch's own, except for SGD.
DEFAULTS: dict[str, tuple[float, dict[str, Any]]] = {
    "sgd": (0.1, {"momentum": 0.9, "weight_decay": 1e-4}),
    "adam": (1e-3, {}),
    "adamw": (1e-3, {}),
    "rmsprop": (1e-2, {}),
    "adagrad": (1e-2, {}),
}
for _name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad"):
    register("optimizer", _name.lower())(getattr(torch.optim, _name))


@register("experiment", "experiment")
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides what a training does. Derive one from another with `dataclasses.replace`.

    Settings of the data set, model and optimizer are mappings of the named function's own keywords. `step_count` says
    with which optimizer state grown connections start (see `own_step_counts`). `init` says how the connections that the
    training starts with get their weights. Those that grow later start as their rule says, most at zero.

    - `"fan-in"` draws the network as it does itself, and scales each output's weights to the inputs that it has (see
      `layers.fit_to_fan_in`).
    - `"dense"` leaves them as they were drawn for dense layers, so the signal of a sparse network is too small.
    - `"gse"` draws connections only, uniformly with variance `1 / fan-in`, and biases of 0. It needs no dense weights,
      so choose it where these would not fit into memory. It is the initialisation in the released code of GSE.

    Raises:
        ValueError: if a name is unknown, a number out of range, or a score given where it cannot act.
        TypeError: if a rule or schedule is something else, or a count is no integer.

    Example:
        >>> from dataclasses import replace
        >>> replace(Experiment(density=0.1), seed=3).seed
        3
    """

    recipe: str = setting("experiment", "the name its run folder begins with")
    data: str = setting("digits", "data set, by name")
    data_settings: Mapping[str, Any] = field(default_factory=dict)
    augment: bool = setting(False, "random crops and flips of the training images")
    model: str = setting("mlp", "network, by name")
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    density: float = setting(0.05, "share of the weights that exist", range=(0, 1))
    allocation: str = setting("erk", "how the connections are shared among the layers")
    exclude: tuple[str, ...] = setting((), "layers that stay dense, by name, or first and last")
    score: Score | None = setting(None, "what a weight must score high in before training (none draws at random)")
    score_samples: int = setting(10, "examples of each class that the score looks at", range=(1, 1000))
    shuffle: bool = setting(False, "put each layer's connections at random positions, as a control for scores")
    rule: Rule = setting(Static(), "when and how the topology changes")
    storage: str = setting("masked", "masked or csr")
    init: str = setting("fan-in", "initial weights: dense draw scaled to the real fan-in, dense draw, or gse")
    optimizer: str = setting("sgd", "optimizer, by name")
    optimizer_settings: Mapping[str, Any] | None = None
    step_count: str = setting("shared", "Adam's step count of grown connections: shared (their layer's), own, or ramp")
    learning_rate: Schedule | None = setting(None, "by step (none falls along a cosine from the optimizer's default)")
    label_smoothing: float = setting(0.0, "share of the target spread over all classes", range=(0, 1))
    tricks: tuple[Trick, ...] = setting((), "what helps the training: ghosts, initialisation, labels")
    epochs: int = setting(60, "passes over the training data", range=(1, 1000))
    batch_size: int = setting(64, "examples per step", range=(1, 4096))
    micro_batches: int = setting(1, "backward passes per step", range=(1, 64))
    autocast: str | None = setting(None, "mixed precision: bfloat16, float16 or none")
    seed: int = setting(0, "of everything random")
    init_from: str | None = setting(
        None, "state to begin from, as named by save_initial_state (none draws a new network)"
    )
    first_step: int = setting(0, "step to begin at, from which data and learning rate continue", range=(0, 1_000_000))
    test_last: int | None = setting(None, "how many of the last epochs end with a test (none means all of them)")

    def __post_init__(self):
        _check_is_name(self.data)
        check_types(self, any_number=("density",))  # the check of its range says more
        check_name(self.recipe, "recipe")
        if self.init_from is not None:
            check_name(self.init_from, "init_from")
        check_density(self.density)
        for kind in ("data", "model", "optimizer", "allocation"):
            get(kind, getattr(self, kind))
        if self.storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, got {self.storage!r}. Choose one of them")
        if self.storage == "csr" and (why := why_dense(self.rule)):
            raise ValueError(f"this rule needs storage masked, got csr. Choose masked, because {why}")
        if self.autocast not in (None, "bfloat16", "float16"):
            raise ValueError(f"autocast must be bfloat16, float16 or None, got {self.autocast!r}. Choose one of them")
        check_init(self.init, (*INITS, "gse"))
        if self.step_count not in STEP_COUNTS:
            raise ValueError(
                f"step_count must be one of {', '.join(STEP_COUNTS)}, got {self.step_count!r}. Choose one of them"
            )
        self._check_settings()
        self._check_first_topology()
        many = float("inf")
        check_range(self, epochs=(1, many), batch_size=(1, many), micro_batches=(1, many), label_smoothing=(0, 1))
        check_range(self, first_step=(0, many), score_samples=(1, many))
        if self.test_last is not None:
            check_range(self, test_last=(1, many))

    def _check_settings(self) -> None:
        if (rate := (self.optimizer_settings or {}).get("lr")) is not None:
            raise ValueError(
                f"the learning rate must be given as learning_rate, got lr={rate} among the optimizer's settings. "
                f"Use learning_rate=Cosine({rate}) or Constant({rate})"
            )
        check_tricks(self.tricks)
        if self.label_smoothing and any(isinstance(trick, LabelSmoothing) for trick in self.tricks):
            raise ValueError(
                f"labels must be smoothed once, got label_smoothing={self.label_smoothing} and LabelSmoothing among "
                "the tricks. Leave one of them out"
            )

    def _check_first_topology(self) -> None:
        """Check that a score, or a control of it, has something to say about the first topology."""
        without_effect = [name for name in ("score", "shuffle") if getattr(self, name)]
        if not without_effect:
            return
        rule = type(self.rule).__name__
        if self.score is not None and self.init == "gse":
            raise ValueError("a score needs the weights of the dense draw, got init='gse'. Choose fan-in or dense")
        if self.init_from is not None:
            reason, advice = f"init_from {self.init_from}, which brings a topology of its own", "Leave out one of them"
        elif samples_anew(self.rule):
            reason, advice = f"{rule}, which draws every position anew", "Choose another rule"
        elif initial_density(self.rule, self.density) == 1:
            reason, advice = f"density {self.density} and {rule}: all weights exist at first", "Lower it or change rule"
        else:
            return
        raise ValueError(f"{without_effect[0]} must be left out where it cannot act, got it with {reason}. {advice}")

    @property
    def folder_name(self) -> str:
        """The recipe and a hash of all settings that differ from their defaults, so a new setting renames nothing.

        Before there was an `init`, weights were drawn for dense layers. So those runs keep their names, and no other
        run takes one of them.
        """
        changed = changed_settings(self)
        del changed["kind"], changed["name"]
        changed.pop("init", None)
        changed |= {"fan-in": {"init": "fan-in"}, "dense": {}, "gse": {"dense_init": False}}[self.init]
        changed.pop("recipe", None)
        text = json.dumps(changed, sort_keys=True)
        return f"{self.recipe}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    def is_tested_after(self, epoch: int) -> bool:
        """Whether the network is tested at the end of an epoch, of which the first is 0.

        Example:
            >>> experiment = Experiment(epochs=10, test_last=3)
            >>> [epoch for epoch in range(10) if experiment.is_tested_after(epoch)]
            [7, 8, 9]
        """
        return self.test_last is None or epoch >= self.epochs - self.test_last

    def learning_rate_over(self, steps: int) -> Schedule:
        """Return the learning rate by step, in a training of so many steps."""
        default, _ = DEFAULTS.get(self.optimizer, (1e-3, {}))
        return (self.learning_rate or Cosine(default, 0.0)).lasting(steps)

    def tricks_over(self, steps: int) -> tuple[Trick, ...]:
        """Return the tricks as they are in a training of so many steps.

        Raises:
            ValueError: if one would outlive it.
        """
        tricks = tuple(trick.lasting(steps) for trick in self.tricks)
        for trick in tricks:
            if (stop := getattr(trick, "stop", None)) is not None and stop > steps:
                raise ValueError(
                    f"{type(trick).__name__} must end within the training, got stop={stop} and {steps} steps. Leave "
                    "stop out for the default share"
                )
        return tricks

    @property
    def autocast_type(self) -> torch.dtype | None:
        """The type of mixed precision, or None."""
        return None if self.autocast is None else getattr(torch, self.autocast)


def _check_is_name(data: object) -> None:
    if not isinstance(data, str):
        raise TypeError(
            f"data must be the name of a data set, got {shown(data)}. Register a function that returns it with "
            '@sk.register("data", "my-data"), and write data="my-data"'
        )


def build_model(
    experiment: Experiment, *, input_shape: tuple[int, ...], num_classes: int, data: Dataset | None = None
) -> nn.Module:
    """Return the experiment's network at its first step. It is initialised and, below density 1, sparse.

    The same seed draws the same dense weights at every density and for every rule (unless `init` is `"gse"`), so that
    methods can be compared in pairs. Torch's global random state is neither read nor set, so that several threads may
    build at once.

    Args:
        experiment: what is to be trained.
        input_shape: of one example.
        num_classes: number of outputs.
        data: what a score before training looks at. Without it connections are drawn at random, which is enough for a
            model whose state is loaded afterwards.
    """
    with seeded_rng(generator(experiment.seed, "model")):
        with torch.device("meta" if experiment.init == "gse" else "cpu"):
            model = models.build(
                experiment.model, input_shape=input_shape, num_classes=num_classes, **experiment.model_settings
            )
        if experiment.density == 1 and isinstance(experiment.rule, Static) and experiment.init != "gse":
            return model
        sampled = _sampled(experiment, model, data)
        first = initial_topology(experiment.rule, sampled, generator(experiment.seed, "begin"))
        if experiment.init == "fan-in":
            fit_to_fan_in(model, first)
        sparse = sparsify(model, first, experiment.storage, init="fan-in" if experiment.init == "gse" else "dense")
    prepare_layers(experiment.rule, sparse, plain=model, sampled=sampled)
    fuse_relus(sparse)
    return sparse


def _sampled(experiment: Experiment, model: nn.Module, data: Dataset | None) -> Topology:
    density = initial_density(experiment.rule, experiment.density)
    allocation, exclude, seed = experiment.allocation, experiment.exclude, experiment.seed
    if experiment.score is None or data is None or density == 1:
        topology = random_topology(shapes_of(model, exclude=exclude), density, allocation=allocation, seed=seed)
    else:
        few = few_per_class(data, experiment.score_samples, seed=seed)
        topology = prune(
            model, experiment.score, density, batches=[few], exclude=exclude, allocation=allocation, seed=seed
        )
    return shuffled(topology, seed=seed) if experiment.shuffle else topology


def build_optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    """Return the experiment's optimizer for a model. The training sets its learning rate before every step.

    Raises:
        ValueError: if grown connections are to have step counts of their own, which the optimizer does not know.
    """
    settings = experiment.optimizer_settings
    if settings is None:
        _, settings = DEFAULTS.get(experiment.optimizer, (1e-3, {}))
    optimizer = get("optimizer", experiment.optimizer)(model.parameters(), **settings)
    if experiment.step_count != "shared":
        own_step_counts(model, optimizer, ramp=RAMP if experiment.step_count == "ramp" else 0)
    return optimizer
