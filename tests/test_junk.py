"""Whatever is handed in where something else belongs gets a sentence: what must hold, what came, what to do."""

import collections.abc
import dataclasses
import math
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import jaxtyping
import numpy as np
import pytest
import torch
from helpers import mlp

import sparsekit as sk
from sparsekit import schedules as s
from sparsekit.experiments import Experiment
from sparsekit.experiments.lottery import Lottery
from sparsekit.experiments.sup_tickets import SupTickets, split_epochs
from sparsekit.rules import DropGrow, Rule, Static, make_rule, settings_of
from sparsekit.rules.cycles import Cycles
from sparsekit.scores import Magnitude, prune
from sparsekit.tickets import Ticket, superpose
from sparsekit.topology import LayerTopology, Topology, allocation, selection
from sparsekit.utils import registry
from sparsekit.utils.checks import check_types
from sparsekit.utils.settings import from_plain, to_plain

JUNK = {
    "none": None,
    "text": "abc",
    "nan": math.nan,
    "inf": math.inf,
    "-1": -1,
    "-0.5": -0.5,
    "2.5": 2.5,
    "true": True,
    "list": [1],
    "dict": {"a": 1},
    "tensor": torch.ones(2),
    "object": object(),
    "class": dict,
}
FITTING = {int: {"-1"}, float: {"-1", "-0.5", "2.5"}, bool: {"true"}, str: {"text"}, types.NoneType: {"none"}}


@pytest.fixture(autouse=True)
def without_type_checker(monkeypatch):
    """The checker that tests put around the package would come first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def fitting(hint: Any) -> set[str]:
    """Which junk is of an annotated type, so that it may be right; by hand, not by the package's own rule."""
    if get_origin(hint) in (Union, types.UnionType):
        return set().union(*map(fitting, get_args(hint)))
    if get_origin(hint) is tuple:
        return {"list"} if get_args(hint)[0] in (int, float) else set()
    if get_origin(hint) is collections.abc.Mapping:
        return {"dict"}
    return set() if get_origin(hint) is Literal else FITTING.get(hint, set())


def refused(make: Any, junk: Any) -> bool:
    """Whether something is refused, which must be in the house's form."""
    try:
        make(junk)
    except (TypeError, ValueError) as error:
        said = str(error)
        assert any(word in said for word in (" must ", " needs ")), said
        assert " got " in said, said
        assert re.search(r"\. [A-Z]", said), said
        assert len(said) < 600
        return True
    return False


def of_fields(name: str, cls: type, make: Any) -> dict[str, tuple]:
    """An entry for each field of a dataclass, with the junk that fits its type."""
    return {
        f"{name}.{field.name}": (lambda junk, key=field.name: make(**{key: junk}), fitting(field.type))
        for field in dataclasses.fields(cls)
        if field.init
    }


SCHEDULES = {
    s.Constant: {"value": 0.3},
    s.Linear: {"start": 1.0, "end": 0.0, "steps": 5},
    s.Cosine: {"start": 1.0},
    s.Cubic: {"start": 1.0},
    s.Geometric: {"start": 1.0},
    s.Triangular: {"low": 0.1, "high": 0.2, "cycle": 4},
    s.Piecewise: {"value": 0.1, "milestones": (1, 2)},
    s.Stages: {"values": (1.0, 0.5), "changes": (0.5,), "steps": 4},
    s.Warmup: {"then": s.Constant(0.1), "steps": 3},
    s.Joined: {"first": s.Constant(0.1), "at": 3, "then": s.Constant(0.2)},
}
SETTINGS: dict[str, tuple] = {}
for cls, usual in SCHEDULES.items():
    SETTINGS |= of_fields(cls.__name__, cls, lambda cls=cls, usual=usual, **given: cls(**{**usual, **given}))
for kind in ("rule", "drop", "grow", "candidates", "score"):
    for name in registry.names(kind):
        cls = registry.get(kind, name)
        usual = (
            {"stop": 100} if kind == "rule" and dataclasses.is_dataclass(cls) and "stop" in settings_of(name) else {}
        )
        if dataclasses.is_dataclass(cls):
            SETTINGS |= of_fields(name, cls, lambda cls=cls, usual=usual, **given: cls(**{**usual, **given}))
SETTINGS |= of_fields("Cycles", Cycles, lambda **given: Cycles(**{"base": make_rule("set", total_steps=9), **given}))
SETTINGS |= of_fields("Experiment", Experiment, Experiment)
SETTINGS |= of_fields("Lottery", Lottery, lambda **given: Lottery(**{"experiment": Experiment(density=1.0), **given}))
SETTINGS |= of_fields("SupTickets", SupTickets, lambda **given: SupTickets(**{"experiment": Experiment(), **given}))
INFINITE = {name for name in SETTINGS if name.endswith(".subset")}  # inf considers every missing place


@pytest.mark.parametrize("entry", SETTINGS)
def test_settings_refuse_what_is_of_another_type_and_numbers_that_are_none(entry):
    make, may = SETTINGS[entry]
    for name, junk in JUNK.items():
        if name not in may | ({"inf"} if entry in INFINITE else set()):
            assert refused(make, junk), f"{entry} took {name}"
        else:
            refused(make, junk)


NAMED = [(name, setting) for name in registry.names("rule") for setting in settings_of(name)]


@pytest.mark.parametrize(("name", "setting"), NAMED)
def test_a_named_rule_takes_no_junk_for_any_setting(name, setting):
    fits = {"final": {"none"}, "initial": {"none"}, "density": {"none"}, "stop": {"none"}}
    fits |= {
        "subset": {"none", "inf", "2.5"},
        "allow_regrowth": {"true"},
        "replaces_step": {"true"},
        "resets_optimizer": {"true"},
        "gradient": {"2.5"},
    }
    for key, junk in JUNK.items():
        if key not in fits.get(setting, set()) and key not in ("-1", "-0.5", "2.5"):
            assert refused(lambda value: make_rule(name, total_steps=100, **{setting: value}), junk), key
        else:
            refused(lambda value: make_rule(name, total_steps=100, **{setting: value}), junk)


SHAPES = {"fc": (10, 20)}
SCORES = {"fc": torch.rand(4, 5)}
LAYER = LayerTopology((3, 4), torch.tensor([0, 5]))
NUMBERS = {"-1", "-0.5", "2.5"}


def draws() -> torch.Generator:
    return torch.Generator()


FUNCTIONS = {
    "random_topology.shapes": (lambda junk: sk.random_topology(junk, 0.5), ()),
    "random_topology.shape": (lambda junk: sk.random_topology({"a": junk}, 0.5), ()),
    "random_topology.side": (lambda junk: sk.random_topology({"a": (3, junk)}, 0.5), ()),
    "random_topology.density": (lambda junk: sk.random_topology(SHAPES, junk), ()),
    "random_topology.allocation": (lambda junk: sk.random_topology(SHAPES, 0.5, allocation=junk), ()),
    "random_topology.seed": (lambda junk: sk.random_topology(SHAPES, 0.5, seed=junk), ("-1",)),
    **{
        f"{name}.{what}": (make, ())
        for name in registry.names("allocation")
        for what, make in {
            "shapes": lambda junk, name=name: registry.get("allocation", name)(junk, 0.5),
            "side": lambda junk, name=name: registry.get("allocation", name)({"a": (4, junk)}, 0.5),
            "density": lambda junk, name=name: registry.get("allocation", name)(SHAPES, junk),
        }.items()
    },
    "erdos_renyi_kernel.power": (lambda junk: allocation.erdos_renyi_kernel(SHAPES, 0.5, junk), NUMBERS),
    "what a function allocates": (lambda junk: allocation.allocate(SHAPES, 0.5, lambda *_: {"fc": junk}), ()),
    "share_out.total": (lambda junk: allocation.share_out(junk, {"a": 1}, {"a": 5}), ()),
    "share_out.weights": (lambda junk: allocation.share_out(2, {"a": junk}, {"a": 5}), ("2.5",)),
    "share_out.sizes": (lambda junk: allocation.share_out(2, {"a": 1}, {"a": junk}), ()),
    "highest.scores": (lambda junk: selection.topk_indices(junk, 1), ("tensor",)),
    "highest.count": (lambda junk: selection.topk_indices(torch.rand(5), junk), ()),
    "keep_top_per_layer.scores": (lambda junk: selection.keep_top_per_layer(junk, {"fc": 2}), ()),
    "keep_top_per_layer.score": (lambda junk: selection.keep_top_per_layer({"fc": junk}, {"fc": 2}), ()),
    "keep_top_per_layer.counts": (lambda junk: selection.keep_top_per_layer(SCORES, junk), ()),
    "keep_top_per_layer.count": (lambda junk: selection.keep_top_per_layer(SCORES, {"fc": junk}), ()),
    "keep_top_global.scores": (lambda junk: selection.keep_top_global(junk, 2), ()),
    "keep_top_global.score": (lambda junk: selection.keep_top_global({"fc": junk}, 2), ()),
    "keep_top_global.count": (lambda junk: selection.keep_top_global(SCORES, junk), ()),
    "keep_top_global.least": (lambda junk: selection.keep_top_global(SCORES, 2, min_per_layer=junk), ()),
    "keep_top_per_output.scores": (lambda junk: selection.keep_top_per_output(junk, 1), ()),
    "keep_top_per_output.fan_in": (lambda junk: selection.keep_top_per_output(torch.rand(4, 5), junk), ()),
    "keep_n_of_m.scores": (lambda junk: selection.keep_n_of_m(junk, 1, 2), ()),
    "keep_n_of_m.n": (lambda junk: selection.keep_n_of_m(torch.rand(4, 5), junk, 2), ()),
    "keep_n_of_m.m": (lambda junk: selection.keep_n_of_m(torch.rand(4, 5), 1, junk), ()),
    "draw_distinct.total": (lambda junk: selection.draw_distinct(junk, 1, draws()), ()),
    "draw_distinct.count": (lambda junk: selection.draw_distinct(5, junk, draws()), ()),
    "draw_distinct.generator": (lambda junk: selection.draw_distinct(5, 1, junk), ()),
    "LayerTopology.shape": (lambda junk: LayerTopology(junk, LAYER.indices), ()),
    "LayerTopology.side": (lambda junk: LayerTopology((3, junk), LAYER.indices), ()),
    "LayerTopology.indices": (lambda junk: LayerTopology((3, 4), junk), ()),
    "LayerTopology.full": (LayerTopology.full, ()),
    "LayerTopology.of_mask": (LayerTopology.of_mask, ()),
    "Topology": (Topology, ()),
    "Topology.layer": (lambda junk: Topology({"a": junk}), ()),
    "Topology.from_dict": (Topology.from_dict, ()),
    "split_epochs.epochs": (lambda junk: split_epochs(junk, 0.1, 8), ()),
    "split_epochs.cycle_rate": (lambda junk: split_epochs(100, junk, 8), ()),
    "split_epochs.cycle_epochs": (lambda junk: split_epochs(100, 0.1, junk), ()),
    "make_rule.total_steps": (lambda junk: make_rule("rigl", total_steps=junk), ()),
    "prune.score": (lambda junk: prune(mlp(4, 3), junk, 0.5), ()),
    "prune.density": (lambda junk: prune(mlp(4, 3), Magnitude(), junk), ()),
}


@pytest.mark.parametrize("entry", FUNCTIONS)
def test_functions_refuse_junk_in_a_sentence(entry):
    make, may = FUNCTIONS[entry]
    for name, junk in JUNK.items():
        assert refused(make, junk) or name in may, f"{entry} took {name}"


@pytest.mark.parametrize(
    ("mask", "came"), [(torch.ones(2, 3), "tensor"), (np.ones((2, 3), bool), "array"), (torch.ones(4, dtype=bool), "4")]
)
def test_tensors_of_another_type_or_shape_are_refused_too(mask, came):
    assert refused(LayerTopology.of_mask, mask)
    assert refused(lambda junk: LayerTopology((2, 3), junk), mask)
    assert refused(lambda junk: selection.keep_top_global({"fc": junk}, 99), mask)


# --- numbers of numpy are numbers -------------------------------------------------------------------------------------

EIGHT = np.int64(8)


def test_integers_of_numpy_will_do_wherever_integers_do():
    assert sk.random_topology({"a": (EIGHT, EIGHT)}, np.float32(0.5), seed=EIGHT).count == 32
    assert sk.random_topology({"a": (8, 8)}, 0.5, seed=EIGHT) == sk.random_topology({"a": (8, 8)}, 0.5, seed=8)
    assert selection.topk_indices(torch.rand(9), EIGHT).numel() == 8
    assert selection.keep_top_global({"a": torch.rand(4, 4)}, EIGHT, min_per_layer=EIGHT).count == 8
    assert selection.keep_top_per_layer({"a": torch.rand(4, 4)}, {"a": EIGHT}).count == 8
    assert selection.keep_n_of_m(torch.rand(2, 16), np.int32(2), EIGHT).count == 8
    assert selection.draw_distinct(np.int64(20), EIGHT, draws()).numel() == 8
    assert allocation.share_out(EIGHT, {"a": np.int64(1)}, {"a": np.int64(9)}) == {"a": 8}
    assert LayerTopology.full((EIGHT, EIGHT)).shape == (8, 8)
    assert split_epochs(np.int64(100), np.float64(0.29), np.int64(29)).cycles == 1
    assert make_rule("rigl", total_steps=np.int64(1000)).stop == 750


def test_a_ramp_may_be_a_number_of_numpy():
    model = sk.sparsify(mlp(3, 2), sk.random_topology({"0": (2, 3)}, 0.5), init="dense")
    sk.own_step_counts(model, torch.optim.Adam(model.parameters()), ramp=EIGHT)


def works(make: Any, value: float) -> bool:
    return not refused(make, value)


# A learning rate of finetuning comes with a rewinding of its own.
NUMERIC = [name for name in SETTINGS if "-1" in SETTINGS[name][1] and name != "Lottery.finetune_rate"]


@pytest.mark.parametrize("entry", NUMERIC)
def test_numbers_of_numpy_become_plain_ones_in_settings(entry):
    """Otherwise they would be written into no file, and name another run."""
    make, may = SETTINGS[entry]
    plain = next(value for value in ((0.1, 0.5, 8.0) if "2.5" in may else (1, 8)) if works(make, value))
    made = make(np.float64(plain) if "2.5" in may else np.int64(plain))
    assert made == make(plain)
    assert type(getattr(made, entry.partition(".")[2])) is type(plain)
    assert from_plain(to_plain(made)) == make(plain)


def test_a_list_will_do_for_a_tuple():
    assert s.Piecewise(0.1, [1, np.int64(2)]) == s.Piecewise(0.1, (1, 2))
    assert Experiment(exclude=["first"]).folder_name == Experiment(exclude=("first",)).folder_name


def test_a_rule_of_ones_own_has_its_settings_checked_as_well():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(Rule):
        share: float = 0.5
        note: "UnknownHere" = None
        whatever: Any = None

        def is_due(self, step):
            return False

        def propose(self, views, step, generator):
            return Topology({})

    assert Mine(share=np.float32(0.25), note=3, whatever=object()).share == 0.25
    with pytest.raises(TypeError, match=r"Mine.share must be a number, got 'half'. Write it without quotes"):
        Mine(share="half")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DropGrow(drop_fraction=0.3, stop=9),
            r"DropGrow.drop_fraction must be a Schedule, got 0.3. Write Constant\(...\) to keep",
        ),
        (lambda: DropGrow(scope="net", stop=9), r"DropGrow.scope must be 'layer' or 'global', got 'net'"),
        (lambda: DropGrow(drop=sk.rules.Magnitude, stop=9), r"got the class Magnitude, which must be called"),
        (lambda: Experiment(epochs=2.0), r"Experiment.epochs must be an integer, got 2.0. Round it"),
        (
            lambda: Experiment(exclude="first"),
            r"Experiment.exclude must be a tuple, each a text, got 'first'. Write \(one,\)",
        ),
        (lambda: s.Cosine(0.1, steps=True), r"Cosine.steps must be an integer or none, got True"),
        (lambda: s.Constant(math.nan), r"Constant.value must be finite, got nan"),
    ],
)
def test_messages_say_where_what_and_how(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


# --- models, tickets, tricks ------------------------------------------------------------------------------------------

NETWORK = sk.random_topology({"0": (6, 8), "2": (3, 6)}, 0.5)
OTHER = sk.random_topology({"0": (6, 8), "2": (3, 6)}, 0.4, seed=3)


def plain() -> torch.nn.Module:
    return mlp(8, 6, 3)


def ticket() -> Ticket:
    return Ticket.of(sk.sparsify(plain(), NETWORK, init="dense"), step=3)


MODELS = {
    "sparsify.model": (lambda junk: sk.sparsify(junk, NETWORK, init="dense"), ()),
    "sparsify.topology": (lambda junk: sk.sparsify(plain(), junk, init="dense"), ()),
    "sparsify.layer": (lambda junk: sk.sparsify(plain(), {"0": junk}, init="dense"), ()),
    "sparsify.storage": (lambda junk: sk.sparsify(plain(), NETWORK, junk, init="dense"), ()),
    "densify.model": (sk.densify, ()),
    "shapes_of.model": (sk.shapes_of, ()),
    "shapes_of.exclude": (lambda junk: sk.shapes_of(plain(), exclude=junk), ()),
    "topology_of.model": (sk.topology_of, ()),
    "rewire.model": (lambda junk: sk.rewire(junk, NETWORK), ()),
    "rewire.new": (lambda junk: sk.rewire(sk.sparsify(plain(), NETWORK, init="dense"), junk), ()),
    "rewire.layer": (lambda junk: sk.rewire(sk.sparsify(plain(), NETWORK, init="dense"), {"0": junk}), ()),
    "rewire.optimizer": (lambda junk: sk.rewire(sk.sparsify(plain(), NETWORK, init="dense"), OTHER, junk), ("none",)),
    "rewire.grow_init": (lambda junk: sk.rewire(sk.sparsify(plain(), NETWORK, init="dense"), OTHER, None, junk), ()),
    "attach.model": (lambda junk: sk.attach(junk, torch.optim.SGD(plain().parameters()), Static()), ()),
    "make_rule.name": (lambda junk: make_rule(junk, total_steps=9), ()),
    "prune.model": (lambda junk: prune(junk, Magnitude(), 0.5), ()),
    "prune.exclude": (lambda junk: prune(plain(), Magnitude(), 0.5, exclude=junk), ()),
    "superpose.tickets": (superpose, ()),
    "superpose.ticket": (lambda junk: superpose([junk]), ()),
    "superpose.density": (lambda junk: superpose([ticket()], density=junk), ("none",)),
    "superpose.weights": (lambda junk: superpose([ticket()], weights=junk), ("none", "list")),
}


@pytest.mark.parametrize("entry", MODELS)
def test_models_topologies_optimizers_and_tickets_are_looked_at_before_anything_is_done(entry):
    make, may = MODELS[entry]
    for name, junk in JUNK.items():
        assert refused(make, junk) or name in may, f"{entry} took {name}"


def test_a_model_is_as_it_was_after_a_rewiring_that_was_refused():
    model = sk.sparsify(plain(), NETWORK, init="dense")
    assert refused(lambda junk: sk.rewire(model, {"0": OTHER["0"], "2": junk}), torch.ones(3, 6))
    assert sk.topology_of(model) == NETWORK


TRICKS: dict[str, tuple] = {}
for name in registry.names("trick"):
    cls = registry.get("trick", name)
    usual = {"teacher": "run"} if name == "distillation" else {}
    TRICKS |= of_fields(name, cls, lambda cls=cls, usual=usual, **given: cls(**{**usual, **given}))
TRICKS |= of_fields("Ticket", Ticket, lambda **given: dataclasses.replace(ticket(), **given))


@pytest.mark.parametrize("entry", TRICKS)
def test_tricks_and_tickets_refuse_what_is_of_another_type(entry):
    make, may = TRICKS[entry]
    for name, junk in JUNK.items():
        unmeasured = {"nan", "inf"} if entry == "Ticket.accuracy" else set()
        assert refused(make, junk) or name in may | unmeasured, f"{entry} took {name}"


def made(hint, value):
    @dataclasses.dataclass
    class Settings:
        field: hint = None  # type: ignore[valid-type]

        def __post_init__(self):
            check_types(self)

    return Settings(value).field


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (tuple[int, int], ["a", 2], r"must be a tuple, each an integer, got \['a', 2\]"),
        (tuple[int, str], (1, 2), "must be a tuple of an integer, a text, got"),
        (Literal[1, 2], True, "must be 1 or 2, got True. Choose one of them"),
        (Annotated[int, "steps"], "many", "must be an integer, got 'many'. Round it"),
        (list[int], (1, 2), r"must be a list, got \(1, 2\). Make one and give it"),
        (collections.abc.Callable[[int], int], 3, "must be a Callable, got 3. Write lambda"),
    ],
    ids=str,
)
def test_annotations_of_all_forms_are_checked_and_explained(hint, value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        made(hint, value)


def test_an_annotation_may_carry_remarks():
    assert made(Annotated[int, "steps"], 3) == 3


# --- what trains and measures -----------------------------------------------------------------------------------------

PAIR = (torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4).long())


def fitted(batches=(PAIR,), **how):
    model = mlp(3, 2)
    sk.fit(model, torch.optim.SGD(model.parameters(), lr=0.1), batches, epochs=1, progress=False, **how)


LOSS = r"a loss must be a function of outputs and labels, got .*. Give torch.nn.CrossEntropyLoss\(\)"
TRAINING = {
    "adaptor": (lambda: fitted(adaptor=lambda batch: batch), "adaptor must be a Adaptor, got .*. Write Adaptor"),
    "measuring adaptor": (lambda: sk.evaluate(mlp(3, 2), [PAIR], adaptor="x"), "adaptor must be a Adaptor, got 'x'"),
    "what adapts": (lambda: sk.Adaptor(batch="x"), "Adaptor.batch must be a Callable, got 'x'. Write lambda"),
    "parts": (lambda: fitted(micro_batches="two"), "micro_batches must be an integer, got 'two'"),
    "no parts": (lambda: fitted(micro_batches=0), "micro_batches must be at least 1, got 0"),
    "no batches": (lambda: fitted(None), "batches must be pairs of inputs and labels, got NoneType. Wrap one pair"),
    "a number": (lambda: fitted(3), "batches must be pairs of inputs and labels, got int. Wrap one pair"),
    "loss": (lambda: fitted(loss_fn="cross_entropy"), LOSS),
    "class of losses": (
        lambda: fitted(loss_fn=torch.nn.CrossEntropyLoss),
        "got the class CrossEntropyLoss, which must be called",
    ),
    "measured loss": (lambda: sk.evaluate(mlp(3, 2), [PAIR], None), LOSS),
    "model": (lambda: sk.evaluate("x", [PAIR]), "model must be a Module, got 'x'"),
    "condensed model": (lambda: sk.condense({}), "model must be a Module, got {}"),
    "exported model": (lambda: sk.export({}, "net.npz"), "model must be a Module, got {}"),
    "example": (lambda: sk.export(mlp(3, 2), "net.pt2", example=[1]), r"example must be a Tensor, got \[1\]"),
    "decay": (lambda: sk.averaged(mlp(3, 2), decay="0.9"), "decay must be a number, got '0.9'"),
    "no runs": (lambda: sk.analysis.assess_claim("", 3, [0.1, 0.2]), "accuracies must be sequences of numbers, got 3"),
    "a bound": (
        lambda: sk.analysis.assess_claim("", [0.2, 0.3], [0.1, 0.2], above="0"),
        "above must be a number, got '0'",
    ),
    "words": (lambda: sk.analysis.assess_claim("", ["0.2", 1], [0.1, 0.2]), "an accuracy must be a number, got '0.2'"),
}


@pytest.mark.parametrize("name", TRAINING)
def test_what_trains_and_measures_looks_at_what_it_is_given(name):
    make, message = TRAINING[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()
