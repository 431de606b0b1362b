# %% [markdown]
# # 9. Training tricks
#
# **45 minutes** · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs in about a minute
#
# You will learn
# - how **ghosts**, soft units and ways around layers, help a sparse network early in training, and leave it;
# - why taking them out at once hurts, and how they fade instead;
# - what the first values of a sparse network should look like;
# - how to tell, in a factorial experiment, which of four tricks helps.

# %% [markdown]
# ## Why
#
# Most methods look for a better mask. *ToST* (Jaiswal et al., 2022) asks something else: given **any** mask, can its
# training be better? Its answer has four parts. Smooth units in place of ReLUs, and extra paths around layers, both
# for the early training only; first values with a learnt scale per tensor; and softer labels.
#
# We could not consult the text of the paper, only its abstract and the code that its authors released. In that code the
# extra parts are **never removed**. So when and how ours go is our own choice, and what we measure is not a repetition
# of their tables. One rule holds for all our experiments: before a network is tested, its ghosts are gone.

# %% [markdown]
# ## Set up
#
# An MLP for digits, of which 5 % of the weights exist, at random places. Its first values are scaled to the connections
# that each neuron really has (`FanInInit`); below we shall see why.

# %%
from itertools import islice

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit import analysis, plots, tricks, widgets
from sparsekit.schedules import Constant
from sparsekit.tricks import FanInInit, GhostNeurons, GhostSkips, LabelSmoothing, RescaledInit, Soft, TrickContext

torch.set_num_threads(1)
data = sk.datasets.load("digits")
test = [(data.prepare(data.test.inputs), data.test.labels)]


# %%
def drawn_mlp(seed: int = 0, hidden=(256, 256)) -> nn.Module:
    torch.manual_seed(seed)
    dense = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=hidden)
    return sk.sparsify(dense, sk.random_topology(sk.shapes_of(dense), 0.05, seed=seed))


def sparse_mlp(seed: int = 0) -> nn.Module:
    return FanInInit().apply(drawn_mlp(seed))


model = sparse_mlp()
print(model)
print(sk.topology_of(model).count, "connections")

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "A network has learnt with extra ways around its layers. From one step to the next they are cut. Its loss was 0.2.",
    ["it stays there", "it becomes 0.4", "it becomes as large as before any learning, or larger"],
    2,
    "The weights have only learnt what to add to what came past them. We measure it below, and also how to avoid it.",
)
guess

# %% [markdown]
# ## Ghost neurons
#
# A ReLU passes no gradient where its input is negative. A network with few connections has few ways for gradients
# anyway. *PSwish* is smooth: $x\,\sigma(\beta x)$, with slope 1/2 at zero. The larger $\beta$, the nearer it is to
# the ReLU: its largest distance, the gap, is $0.2785/\beta$.

# %% tags=["nbval-ignore-output"]
plots.plot_soft_units([Soft("pswish", beta) for beta in (1.0, 3.0, 20.0)])

# %% [markdown]
# *At $\beta = 20$ the unit can hardly be told from the ReLU. So we let $\beta$ grow from 1 to 20, and then exchange the
# units: a small jump instead of a large one.*
#
# A trick is a value, like a rule. `begin` puts it to work before the optimizer is built; the training does the rest.

# %%
print(tricks.find_relus(model))
ghostly = tricks.begin(sparse_mlp(), [GhostNeurons(stop=100)])
print({name: type(ghost).__name__ for name, ghost in tricks.ghosts_of(ghostly).items()})
GhostNeurons(stop=100).at(ghostly, 100)
print("ghosts left:", len(tricks.ghosts_of(ghostly)))
print("the same outputs:", torch.equal(model(test[0][0]), ghostly(test[0][0])))

# %% [markdown]
# ## Ghost skips
#
# A skip is a way around a layer: $z = Wx + \alpha\,s(x)$ before the ReLU. Where input and output have the same size,
# $s(x)$ is $x$ itself; elsewhere the mean over neighbouring units. It has no weights, so the budget is kept. Its
# strength $\alpha$ falls from 1 to 0, and then the skip is taken out.
#
# What was published, for residual networks, is a convolution 1 x 1 with batch norm around each convolution, and these
# are **dense**. Their price for a ResNet-20 at 2 % density:

# %%
torch.manual_seed(0)
resnet = sk.models.build("resnet20", input_shape=(3, 32, 32), num_classes=10)
resnet = sk.sparsify(resnet, sk.random_topology(sk.shapes_of(resnet), 0.02, seed=0))
tricks.begin(resnet, [GhostSkips(way="branch", stop=100)])
print(analysis.ghost_cost(resnet, torch.zeros(1, 3, 32, 32)))

# %% [markdown]
# *A helper several times as large as what it helps. Whoever leaves it in, as the released code does, does not test a
# network of 2 %.*

# %% [markdown]
# ## Watch it train
#
# Both kinds of ghosts live until step 700 of 1,000. The sliders act on the running training; a slider that you move
# keeps its value until the ghosts go. Press **Start**, and **Pause** whenever you like.
#
# 1. Leave the sliders alone. Can you see in the loss when the ghosts go?
# 2. Set **Beta** to 1 and the **strength** to 1, and keep them there. And now?
# 3. Set **Beta** to 0: the units are straight lines. What can the network still learn, and what happens at step 700?

# %%
neurons, skips = widgets.Control(GhostNeurons(stop=700)), widgets.Control(GhostSkips(stop=700))
watched = tricks.begin(sparse_mlp(), [neurons.rule, skips.rule])
steps = widgets.live_training(
    watched,
    torch.optim.SGD(watched.parameters(), lr=0.1, momentum=0.9),
    sk.datasets.stream(data, 64, seed=0),
    cross_entropy,
    sk.rules.Static(),
    steps=1000,
    tricks=[neurons, skips],
    measure=lambda network: {"test accuracy": sk.evaluate(network, test).accuracy},
    measure_every=20,
)
run = widgets.Run(steps, total=1000)

# %% tags=["nbval-ignore-output"]
metrics = {"loss": "loss", "accuracy": ("accuracy", "test accuracy")}
panel = widgets.LivePanel(run, metrics=metrics, control=[neurons, skips], masks=False)
panel

# %%
run.wait(timeout=300)
print(run.state, "with", len(tricks.ghosts_of(watched)), "ghosts and", sk.topology_of(watched).count, "connections")

# %% tags=["nbval-ignore-output"]
panel.snapshot()

# %% [markdown]
# ## The day they leave
#
# Four networks learn with one kind of ghosts for 300 steps, then without. The ghosts fade, or keep their full strength
# to the last step. The loss on the test set around the removal:


# %%
def losses_around(stop: int, *chosen, before: int = 10, after: int = 30) -> list[float]:
    network = tricks.begin(sparse_mlp(), chosen)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    batches, losses = islice(sk.datasets.stream(data, 64, seed=0), stop + after), []
    for step, _, _ in sk.training(network, optimizer, batches, cross_entropy, sk.rules.Static(), tricks=chosen):
        if step >= stop - before:
            losses.append(sk.evaluate(network, test).loss)
    return losses


# %% tags=["nbval-ignore-output"]
full, stop = Constant(1.0), 300
ways = {"units fade": GhostNeurons(stop=stop), "units to the last": GhostNeurons(beta=full, stop=stop)}
ways |= {"skips fade": GhostSkips(stop=stop), "skips to the last": GhostSkips(strength=full, stop=stop)}
losses = {name: losses_around(stop, trick) for name, trick in ways.items()}
rows = [
    {"method": name, "name": "test loss", "step": stop - 9 + place, "epoch": 0, "value": loss}
    for name, values in losses.items()
    for place, loss in enumerate(values)
]
plots.plot_curves(pd.DataFrame(rows), name="test loss")

# %%
jump = {name: values[9] - values[8] for name, values in losses.items()}
print("skips: a cut costs over ten times as much:", jump["skips to the last"] > 10 * abs(jump["skips fade"]))
print("units: a cut costs more than fading:", jump["units to the last"] > jump["units fade"])

# %% [markdown]
# *The removal is at step 300. Without its skips the network has to learn anew. An abrupt change of the units costs much
# less, and is soon mended; it grows with the training, so look again at the panel above with **Beta** at 1.*

# %% [markdown]
# ## First values
#
# Values are usually drawn for dense layers: small ones, since many inputs add up. A sparse neuron has few. In a deep
# network the signal shrinks by $\sqrt{\text{density}}$ at every layer. Two ways out: scale each neuron's values to its
# true fan-in, or **learn** one scale per tensor such that a first step of the network lowers its loss most (ToST, after
# *GradInit*). The released code takes that step with all gradients, also those of missing connections; `masked`
# takes existing ones only. Four layers, 5 % of the weights:

# %%
batches = list(islice(sk.datasets.stream(data, 64, seed=1), 40))
given = TrickContext(batches=batches)
begins = {
    "as drawn": [],
    "true fan-in": [FanInInit()],
    "learnt, masked": [RescaledInit()],
    "learnt, as published": [RescaledInit(variant="published")],
}
deep = {name: tricks.begin(drawn_mlp(hidden=(128,) * 3), chosen, given) for name, chosen in begins.items()}
signals = {name: analysis.signal_propagation(network, batches[0]) for name, network in deep.items()}

# %% tags=["nbval-ignore-output"]
plots.plot_signals(signals)

# %%
spread = pd.DataFrame({name: table["output_std"] for name, table in signals.items()})
print(
    "a signal of values as drawn has died:", spread.loc["head", "as drawn"] < 0.01 * spread.loc["head", "true fan-in"]
)

# %% [markdown]
# *How much each layer's outputs differ from example to example, on a logarithmic scale.* True fan-in keeps the signal a
# hundred times as strong. Learning the scales does little here: where no signal arrives, no first step can lower the
# loss, and nothing tells the scales where to go. It works from values that let something through; below we put it on
# top of true fan-in.

# %% [markdown]
# ## Exercise 1: true fan-in (5 minutes)
#
# `weight` is a sparse layer's weight, a row per neuron, zero where there is no connection; its values were drawn for
# the full width. Return it with each row scaled to the number of connections that the neuron really has. A row without
# any stays as it is.


# %%
def fit_fan_in(weight: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


check_fan_in = widgets.Check(
    [
        ((torch.tensor([[1.0, 0.0, 0.0, 0.0]]),), torch.tensor([[2.0, 0.0, 0.0, 0.0]])),
        ((torch.tensor([[3.0, -1.0], [0.0, 2.0]]),), torch.tensor([[3.0, -1.0], [0.0, 2.0 * 2**0.5]])),
        ((torch.zeros(1, 3),), torch.zeros(1, 3)),
    ],
    hint="The variance is to be larger by the full width over the row's count, so values grow by the root of that.",
)
check_fan_in(fit_fan_in)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fit_fan_in(weight):
#     count = (weight != 0).sum(1, keepdim=True).clamp(min=1)
#     return weight * (weight.shape[1] / count).sqrt()
# ```
# </details>
#
# ## Softer labels, and exercise 2 (5 minutes)
#
# Label smoothing takes a little from the true class. ToST's code takes 0.1 and gives it to the **other** classes;
# PyTorch's `label_smoothing` gives it to **all** classes, the true one included. Which number must PyTorch be given to
# do what ToST does?


# %%
def torchs_smoothing(taken: float, num_classes: int) -> float:
    raise NotImplementedError


check_smoothing = widgets.Check(
    [((0.1, 10), 1 / 9), ((0.1, 100), 10 / 99), ((0.5, 2), 1.0)],
    hint="Of what PyTorch takes, the share 1 / num_classes comes back to the true class.",
)
check_smoothing(torchs_smoothing)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def torchs_smoothing(taken, num_classes):
#     return taken * num_classes / (num_classes - 1)
# ```
# </details>
#
# ## What ghosts change early on
#
# The claim behind ghosts is about the early training: gradients flow, and the loss bends less. Here are the norm of the
# gradient and the largest eigenvalue of the Hessian, of existing connections only, at epochs 0, 1, 2 and 5.


# %%
train, static = list(islice(sk.datasets.stream(data, 256, seed=2), 2)), sk.rules.Static()


def look(name: str, network: nn.Module, step: int) -> list[dict]:
    found = {"gradient norm": analysis.gradient_norm(network, train[0])}
    found["top eigenvalue"] = analysis.top_eigenvalue(network, train).value
    return [{"method": name, "name": key, "step": step, "epoch": 0, "value": value} for key, value in found.items()]


# %%
def early(name: str, *chosen) -> list[dict]:
    network = tricks.begin(sparse_mlp(), chosen)
    optimizer, rows = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9), look(name, network, 0)
    batches = islice(sk.datasets.stream(data, 64, seed=0), 95)
    for step, _, _ in sk.training(network, optimizer, batches, cross_entropy, static, tricks=chosen):
        rows += look(name, network, step + 1) if step + 1 in (19, 38, 95) else []
    return rows


# %% tags=["nbval-ignore-output"]
soft, skip = GhostNeurons(stop=400), GhostSkips(stop=400)
kinds = {"plain": (), "ghost neurons": (soft,), "ghost skips": (skip,), "both": (soft, skip)}
looks = pd.DataFrame([row for name, chosen in kinds.items() for row in early(name, *chosen)])
plots.plot_curves(looks, name="gradient norm")

# %% tags=["nbval-ignore-output"]
plots.plot_curves(looks, name="top eigenvalue")

# %% [markdown]
# *Ghosts were expected to lower both. Read the figures, not the expectation: a smaller gradient or curvature can also
# mean that a network has not begun to learn.*

# %% [markdown]
# ## Which trick helps? A factorial experiment
#
# Four tricks, each on or off: 16 combinations, two seeds, a few epochs. Each trick's **main effect** is the mean with
# it minus the mean without it, over all combinations of the others; so each of the 32 trainings speaks about every
# trick. An **interaction** says by how much one trick does more where another is on.


# %%
STEPS = 5 * 19
stop = round(0.4 * STEPS)
TRICKS = {"neurons": GhostNeurons(stop=stop), "skips": GhostSkips(stop=stop)}
TRICKS |= {"init": RescaledInit(iterations=30), "labels": LabelSmoothing(stop=STEPS)}


# %%
def accuracy_with(cell: frozenset, seed: int) -> float:
    chosen = [trick for name, trick in TRICKS.items() if name in cell]
    network = tricks.begin(sparse_mlp(seed), chosen, given)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches, rate = islice(sk.datasets.stream(data, 64, seed=seed), STEPS), sk.schedules.Cosine(0.1).lasting(STEPS)
    how = {"learning_rate": rate, "tricks": chosen}
    for _ in sk.training(network, optimizer, batches, cross_entropy, static, **how):
        pass
    assert not tricks.ghosts_of(network)
    return sk.evaluate(network, test).accuracy


# %%
rows = [
    {**{name: name in cell for name in TRICKS}, "seed": seed, "accuracy": accuracy_with(cell, seed)}
    for seed in range(2)
    for cell in analysis.factorial_design(list(TRICKS))
]
runs = pd.DataFrame(rows)
print(len(runs), "trainings")

# %% tags=["nbval-ignore-output"]
effects = analysis.factorial_effects(runs, list(TRICKS))
(100 * effects).round(1)

# %% tags=["nbval-ignore-output"]
plots.plot_effects(effects)

# %% [markdown]
# *Points of test accuracy with 95 % intervals; grey ones hold zero.* Is a claim reproduced? As in the other notebooks
# it is if the mean difference lies surely above zero. With two seeds that takes 12.7 standard errors, so most of what
# you see is undecided. `benchmarks/tricks.py` does the same with all masks, densities and more seeds.

# %% tags=["nbval-ignore-output"]
for name in TRICKS:
    means = runs.groupby([name, "seed"])["accuracy"].mean()
    print(analysis.assess_claim(f"{name} helps", means[True].tolist(), means[False].tolist()))

# %% [markdown]
# ## What we saw
#
# - Ghosts are parts of a network for a while. What remains is the plain network: same layers, same number of weights,
#   same outputs bit for bit.
# - Ghost skips that are cut off at full strength cost nearly all that was learnt; those that fade cost nothing at the
#   end, but the network has to do without them little by little. Units cost little either way.
# - Published ghost skips are dense; until they are gone they outweigh the network that they help.
# - Values drawn for dense layers let the signal of a sparse network die within four layers. True fan-in mends it;
#   scales that must be learnt through a dead network do not.
#
# What could mislead us: in five epochs everything that makes the start quicker looks good, and everything that holds
# the network up for part of them looks bad; 60 epochs may say something else. Learning scales looks at data before the
# training begins, which the other cells do not. There is no batch norm in this MLP; with it, scales of weights hardly
# matter. And tricks may help dense networks just as much: the control with `--masks dense` belongs to every claim about
# sparsity.

# %% [markdown]
# ## Check yourself
#
# - Why is the loss's jump at the removal not a fault of the training before?
# - Two tricks have main effects of +3 points each and an interaction of -6. What do both together gain?
# - A ghost skip with batch norm starts at weights of 0.0001. Why is it not weak?
#
# ## Go further
#
# - Let the factorial begin from `drawn_mlp`. Which effect becomes the largest, and why?
# - Try `GhostNeurons(unit="gelu")`, or a beta that is 20 from the start.
# - Let a dense network teach: `Distillation(teacher="...")`, with the folder name of a dense run.
#
# ## References
#
# - A. K. Jaiswal et al. (2022), *Training your sparse neural network better with any mask*, ICML: ToST.
# - P. Ramachandran, B. Zoph and Q. Le (2017), *Searching for activation functions*, arXiv:1710.05941: Swish.
# - C. Zhu et al. (2021), *GradInit: learning to initialize neural networks for stable and efficient training*,
#   arXiv:2102.08098.
# - C. Szegedy et al. (2016), *Rethinking the Inception architecture for computer vision*, arXiv:1512.00567: label
#   smoothing.
# - G. Box, J. Hunter and W. Hunter (2005), *Statistics for experimenters*: factorial designs.
