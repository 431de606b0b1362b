"""What newcomers get wrong first, and the sentence that helps them on.

The test process checks every annotation, so a wrong type never reaches the package's own checks there. The mistakes are
made in one process of their own, without that, as a reader's notebook would make them.
"""

import json
import pkgutil
import subprocess
import sys

import pytest

import sparsekit as sk

MODULES = sorted({module.name for module in pkgutil.iter_modules(sk.__path__)} - {"__main__"})

SCRIPT = """
import json, sys
import sparsekit as sk

asked = json.load(sys.stdin)
homes = {name: type(sk.__getattr__(name)).__name__ for name in asked["modules"]}

import torch
from torch import nn
from sparsekit.analysis import *
from sparsekit.analysis.structure.metrics import *
from sparsekit.analysis.structure.topology_similarity import *
from sparsekit.plots import *
from sparsekit.experiments.recipes import *
from sparsekit.topology.selection import *
from sparsekit.topology import LayerTopology, Topology

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

model, net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), Net()
topology = sk.random_topology(sk.shapes_of(model), 0.5)
layer, mask = topology["0"], model[0].weight > 0
scores = {"0": model[0].weight, "2": model[2].weight}
x, y = torch.rand(6, 4), torch.zeros(6, dtype=torch.int64)

said = {}
for code in asked["codes"]:
    try:
        eval(code)
        said[code] = ["nothing", ""]
    except Exception as error:
        said[code] = [type(error).__name__, str(error)]
print(json.dumps({"homes": homes, "said": said}))
"""

FROM_MODEL = ("needs a Topology", "got Sequential", "Use topology_of(model)")
IN_ORDER = ("topologies must come in order", "journal.topologies()", "topology_of(model)")
PAIRS = ("batches must be pairs of inputs and labels", "Wrap one pair in a list: [(inputs, labels)]")
RUNS = ("an Experiment", "Call recipes.digits_mlp()")
NO_DENSITY = ("count must be an integer", "not a density", "got float", "round(0.1 * size)")

MISTAKES: dict[str, dict[str, tuple[str, ...]]] = {  # a test's sentence -> code -> words of its error
    "sparsify says how to draw a topology when it gets a density": {
        "sk.sparsify(model, 0.1)": ("needs a Topology", "got float", "random_topology(shapes_of(model), 0.1)"),
    },
    "sparsify says where another model's topology is": {
        "sk.sparsify(model, model)": FROM_MODEL,
    },
    "sparsify says how a topology is made of masks": {
        "sk.sparsify(model, {'0': mask})": (
            "'0'",
            "must be a LayerTopology",
            "got Tensor",
            "LayerTopology.of_mask(mask)",
        ),
        "Topology({'0': mask})": ("'0' must be a LayerTopology", "got Tensor", "LayerTopology.of_mask(mask)"),
    },
    "sparsify says that one layer's topology wants a name": {
        "sk.sparsify(model, layer)": ("needs a Topology", "got LayerTopology", "Topology({'layer': layer})"),
    },
    "sparsify suggests the layer when its weight is named": {
        "sk.sparsify(model, {'0.weight': layer})": ("must name layers among 0, 2", "got '0.weight'", "Use '0'"),
    },
    "a model in place of shapes is told of shapes_of": {
        "sk.random_topology(model, 0.1)": ("shapes must be", "got Sequential", "Use shapes_of(model)"),
        "sk.random_topology(topology, 0.1)": ("shapes must be", "got Topology", "Use topology.shapes"),
    },
    "a model in place of scores is told what scores are": {
        "sk.keep_top_global(model, 3)": ("scores must be", "got Sequential", "for name in shapes_of(model)"),
        "sk.keep_top_per_layer(model, {'0': 3})": ("scores must be", "got Sequential", "for name in shapes_of(model)"),
        "keep_top_per_output(model, 1)": ("scores must be a tensor", "got Sequential", "weight.abs()"),
        "keep_n_of_m(model, 2, 4)": ("scores must be a tensor", "got Sequential", "weight.abs()"),
    },
    "a density in place of a count is found": {
        "sk.keep_top_global(scores, 0.1)": NO_DENSITY,
        "sk.keep_top_global(scores, 1.0)": NO_DENSITY,
        "sk.keep_top_per_layer(scores, {'0': 0.1, '2': 1})": NO_DENSITY,
        "keep_top_per_output(scores['0'], 0.1)": NO_DENSITY,
    },
    "counts of layers come by name": {
        "sk.keep_top_per_layer(scores, 0.1)": ("counts must be", "by layer name", "got float"),
        "sk.keep_top_per_layer(scores, 3)": ("counts must be", "by layer name", "got int"),
    },
    "positions in a list are told to be a tensor": {
        "LayerTopology((4, 4), [0, 1])": ("positions must be a tensor", "sorted", "int64", "got list", "torch.tensor"),
    },
    "a mask in place of positions is told of of_mask": {
        "LayerTopology((4, 4), mask)": ("1-D int64 tensor", "torch.bool", "LayerTopology.of_mask(mask)"),
    },
    "pictures and numbers of a model ask for its topology": {
        "plot_masks(model)": FROM_MODEL,
        "plot_masks(topology, before=model)": FROM_MODEL,
        "plot_layer_densities(model)": FROM_MODEL,
        "plot_layer_densities({'a': model})": FROM_MODEL,
        "layer_table(model)": FROM_MODEL,
        "fan_histogram(model)": FROM_MODEL,
        "iou(model, model)": FROM_MODEL,
        "iou(topology, model)": FROM_MODEL,
        "topology_similarity(model, topology)": FROM_MODEL,
        "topology_similarity_table(model, model)": FROM_MODEL,
        "topology | model": FROM_MODEL,
    },
    "what holds a topology is told how to become one": {
        "plot_masks(layer)": ("needs a Topology", "got LayerTopology", "Topology({'layer': layer})"),
        "plot_layer_densities([topology])": ("needs a Topology", "got list"),
        "layer_table(dict(topology))": ("needs a Topology", "got dict", "Topology(layers)"),
        "iou(mask, mask)": ("needs a Topology", "got Tensor", "LayerTopology.of_mask(mask)"),
    },
    "a change over time needs several topologies": {
        f"{function}({thing})": (*IN_ORDER, f"got {kind}")
        for function in ("churn", "survival", "ages")
        for thing, kind in {"model": "Sequential", "net": "Net", "topology": "Topology", "0.1": "float"}.items()
    },
    "a list of models is told of their topologies": {
        "churn([model, model])": FROM_MODEL,
        "ages([model], starts=[0])": FROM_MODEL,
    },
    "evaluate wants pairs": {
        "sk.evaluate(model, x, y)": (*PAIRS, "got Tensor"),
        "sk.evaluate(model, (x, y))": (*PAIRS, "got Tensor"),
        "sk.evaluate(model, (x[:2], y[:2]))": (*PAIRS, "got Tensor"),
        "sk.evaluate(model, x)": (*PAIRS, "got Tensor"),
        "sk.evaluate(model, [x])": (*PAIRS, "got Tensor"),
        "sk.evaluate(model, [(x, y, y)])": (*PAIRS, "got tuple of 3"),
        "sk.evaluate(model, model)": (*PAIRS, "got Linear"),
        "sk.evaluate(model, net)": (*PAIRS, "got Net"),
        "sk.predictions(model, (x, y))": (*PAIRS, "got Tensor"),
        "sk.refresh_batch_norm(nn.Sequential(nn.BatchNorm1d(4)), (x, y))": (*PAIRS, "got Tensor"),
    },
    "evaluate says how dicts become pairs": {
        "sk.evaluate(model, [{'x': x, 'y': y}])": (PAIRS[0], "got dict", "Take the pair out of each"),
        "sk.evaluate(model, {'x': x, 'y': y})": (PAIRS[0], "got dict", "Take the pair out of each"),
    },
    "run wants an experiment": {
        "sk.run('digits-mlp')": (*RUNS, "got str"),
        "sk.run(digits_mlp)": (*RUNS, "got Recipe"),
        "sk.run(model)": (*RUNS, "got Sequential"),
        "sk.sweep(digits_mlp())": ("experiments must be a list of them", "got Experiment", "Write [experiment]"),
        "sk.sweep(['digits-mlp'])": ("experiments must be of the class Experiment", "got str", "recipes.digits_mlp()"),
    },
    "a recipe says where a rule's setting belongs": {
        "digits_mlp(every=50)": ("got every", "rule_settings={'every': 50}"),
        "digits_mlp(every=50, stop=100)": ("got every, stop", "rule_settings={'every': 50, 'stop': 100}"),
        "cifar10_resnet20(every=50)": ("got every", "rule_settings={'every': 50}"),
        "digits_mlp(rule=sk.rules.RigL(stop=9), every=50)": ("got every", "dataclasses.replace(rule, every=50)"),
    },
    "a recipe says how the learning rate is set": {
        "digits_mlp(lr=0.01)": ("got lr", "learning_rate=schedules.Cosine(0.01)"),
    },
    "a recipe lists the fields of an experiment": {
        "digits_mlp(foo=1)": (
            "must be fields of Experiment",
            "batch_size",
            "learning_rate",
            "micro_batches",
            "got foo",
        ),
        "digits_mlp(rule='dense', every=50)": ("must be fields of Experiment", "batch_size", "got every"),
        "digits_mlp(recipe='mine')": ("must be fields of Experiment", "batch_size", "got recipe"),
    },
}
CASES = [
    pytest.param(code, words, id=f"{sentence}: {code}")
    for sentence, codes in MISTAKES.items()
    for code, words in codes.items()
]


@pytest.fixture(scope="module")
def answers():
    """What one process without type checks says to all mistakes."""
    asked = {"codes": [case.values[0] for case in CASES], "modules": MODULES}
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("code", "words"), CASES)
def test_a_mistake_is_answered_with_what_to_do(answers, code, words):
    kind, message = answers["said"][code]
    assert kind in ("TypeError", "ValueError"), message
    assert not [word for word in words if word not in message], message
    assert len(message) < 400, "a sentence, no dump"


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_there_after_importing_the_package_alone(answers, name):
    assert answers["homes"][name] == "module"


def test_no_name_of_the_package_is_a_module_and_something_else():
    assert not set(MODULES) & set(sk._HOME_OF)
