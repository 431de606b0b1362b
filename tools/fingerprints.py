"""Print fingerprints of short trainings, so that you see whether a change of structure left them as they were.

Run this before and after a change that should alter no number, on one machine, and compare the two outputs with diff.
Each line is a training: its name, and hashes of its journal, its weights, its optimizer state and its losses. Every
rule, score, storage and optimizer is in some line. It takes a few minutes.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.load import load_model
from sparsekit.experiments.run import run
from sparsekit.layers import sparse_layers
from sparsekit.rewiring.journal import Journal
from sparsekit.rules import DropGrow, Rule, make_rule
from sparsekit.rules import names as rule_names
from sparsekit.rules.candidates.grabo import GraBo
from sparsekit.rules.candidates.graest import GraEst
from sparsekit.rules.candidates.synflow import SynFlow
from sparsekit.rules.cycles import Cycles
from sparsekit.rules.grow.gradient import Gradient
from sparsekit.rules.initial import why_dense
from sparsekit.scores import make_score
from sparsekit.scores import names as score_names
from sparsekit.train.checkpoint import load_checkpoint
from sparsekit.tricks import GhostNeurons, GhostSkips, LabelSmoothing, RescaledInit

STEPS = 76  # of digits in 4 epochs
EVERY = 10  # steps between rewirings, so that several fit in
WITHOUT_REWIRINGS = ("static", "str")
IN_CYCLES = ("rigl", "gse", "set", "granet", "rigl-itop")
ON_IMAGES = ("rigl", "gse", "gse-grabo", "srigl", "dynamic-n-of-m", "top-kast", "snfs")
SMALL = Experiment(epochs=4, density=0.1, model_settings={"hidden": (64, 48)})
IMAGES: dict[str, Any] = {"data": "fashion-mini", "model": "small-cnn", "epochs": 1, "model_settings": {}}

Named = Iterator[tuple[str, Experiment]]


def all_rules() -> dict[str, Rule]:
    """Return every rule by name: the registered ones, GSE with other guides, and some of them in cycles."""
    rules: dict[str, Rule] = {}
    for name in sorted(set(rule_names("rule")) - {"drop-grow"}):
        settings = {} if name in WITHOUT_REWIRINGS else {"every": EVERY}
        rules[name] = make_rule(name, total_steps=STEPS, **settings)
    rules["drop-grow"] = DropGrow(stop=57, every=EVERY, grow=Gradient())
    for guide in (GraBo(), GraEst(), SynFlow()):
        name = f"gse-{type(guide).__name__.lower()}"
        rules[name] = make_rule("gse", total_steps=STEPS, every=EVERY, candidates=guide)
    for name in IN_CYCLES:
        rare, often = (make_rule(name, total_steps=40, every=every) for every in (EVERY, 5))
        rules[f"cycles-{name}"] = Cycles(base=rare, after=40, length=9)
        rules[f"cycles-moving-{name}"] = Cycles(base=often, after=40, length=12, freeze=False)
    return rules


def all_experiments() -> Named:
    """Yield the name of each training and what it is."""
    rules = all_rules()
    for name, rule in rules.items():
        yield from in_both_storages(name, replace(SMALL, rule=rule))
    yield from with_optimizers(rules)
    for name in score_names("score"):
        settings = {"rounds": 5} if name in ("synflow", "force", "iterative-snip") else {}
        yield f"score {name}", replace(SMALL, score=make_score(name, **settings))
    yield from with_options(rules)
    for name in ON_IMAGES:
        yield from in_both_storages(f"cnn {name}", replace(SMALL, rule=rules[name], **IMAGES))


def in_both_storages(name: str, experiment: Experiment) -> Named:
    """Yield a training with masked layers, and with `csr` layers if its rule can use them."""
    yield f"{name} masked", experiment
    if not why_dense(experiment.rule):
        yield f"{name} csr", replace(experiment, storage="csr")


def with_optimizers(rules: dict[str, Rule]) -> Named:
    """Yield trainings with other optimizers than SGD, and with other step counts of grown connections."""
    for optimizer in ("adam", "adamw", "rmsprop", "adagrad"):
        yield f"rigl {optimizer} csr", replace(SMALL, rule=rules["rigl"], storage="csr", optimizer=optimizer)
    for count in ("own", "ramp"):
        yield f"gse adam {count} masked", replace(SMALL, rule=rules["gse"], optimizer="adam", step_count=count)


def with_options(rules: dict[str, Rule]) -> Named:
    """Yield trainings that begin with a shuffled mask, use micro-batches, or have tricks."""
    yield "shuffled snip", replace(SMALL, score=make_score("snip"), shuffle=True, rule=rules["set"])
    yield "micro rigl", replace(SMALL, rule=rules["rigl"], micro_batches=3)
    tricks = (GhostNeurons(), GhostSkips(), RescaledInit(), LabelSmoothing())
    yield "tricks masked", replace(SMALL, rule=rules["set"], tricks=tricks)
    yield "tricks csr", replace(SMALL, rule=rules["gse"], storage="csr", tricks=(GhostNeurons(), RescaledInit()))


def fingerprint(experiment: Experiment) -> str:
    """Train, and return hashes of what came out, or why the experiment was refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            history = run(experiment, folder, progress=False)
            place = f"{folder}/{experiment.folder_name}"
            model, state = load_model(place), load_checkpoint(f"{place}/checkpoint.pt")
        except ValueError as error:
            return f"refused: {error}"
    weights = [x for layer in sparse_layers(model).values() for x in (layer.indices, layer.values())]
    weights += [parameter.detach() for parameter in model.parameters()]
    moments = [x for slots in state["optimizer"]["state"].values() for _, x in sorted(slots.items())]
    losses = torch.tensor([row.value for row in history.rows], dtype=torch.float64)
    hashes = {
        "journal": digest(tensors_of(history.journal)),
        "weights": digest(weights),
        "optimizer": digest(x for x in moments if isinstance(x, Tensor)),
        "rows": digest([losses]),
    }
    counts = f"n={len(history.journal.entries)},{losses.numel()}"
    return " ".join([*(f"{name} {value}" for name, value in hashes.items()), counts])


def tensors_of(journal: Journal) -> list[Tensor]:
    """Return the numbers of a journal: the initial topology, the steps, and what each rewiring dropped and grew."""
    initial = [layer.indices for layer in journal.initial.values()]
    steps = torch.tensor([step for step, _ in journal.entries])
    updates = [part for _, update in journal.entries for part in (update.dropped, update.grown)]
    return [*initial, steps, *(positions for part in updates for _, positions in sorted(part.items()))]


def digest(tensors: Iterable[Tensor]) -> str:
    """Return a hash of tensors: of their types, their shapes and every bit."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, experiment in all_experiments():
        print(f"{name:32} {fingerprint(experiment)}", flush=True)
