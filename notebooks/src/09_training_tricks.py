# %% [markdown]
# # 9. Training tricks
#
# **50 minutes** · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs in about a minute
#
# Two helpers stand beside a sparse network. **Soft units** replace its ReLUs, and **skips** lead signals around its
# layers. Both are *ghosts*. They grow weaker, and at step 700 of 1,000 they are gone. You steer them.

# %% jupyter={"source_hidden": true}
from itertools import islice

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit import analysis, plots, tricks, widgets
from sparsekit.schedules import Constant
from sparsekit.tricks import GhostNeurons, GhostSkips, LabelSmoothing, RescaledInit, Soft, TrickContext

torch.set_num_threads(1)
data = sk.datasets.load("digits")
test = [(data.prepare(data.test.inputs), data.test.labels)]


# %% jupyter={"source_hidden": true}
def sparse_mlp(seed: int = 0, hidden=(256, 256), init: str = "fan-in") -> nn.Module:
    torch.manual_seed(seed)
    dense = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=hidden)
    return sk.sparsify(dense, sk.random_topology(sk.shapes_of(dense), 0.05, seed=seed), init=init)


model = sparse_mlp()

# %% jupyter={"source_hidden": true}
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

# %% [markdown]
# The sliders act on the running training, and a slider that you move keeps its value until the ghosts are removed.
# Press **Start**, and **Pause** whenever you like.
#
# 1. Leave the sliders alone. Can you see in the loss when the ghosts disappear?
# 2. Set **Beta** to 1 and the **strength** to 1, and keep them there. What happens at step 700 now?
# 3. Set **Beta** to 0, so that the units are straight lines. What can the network still learn?

# %%
run.wait(timeout=300)
print(run.state, "with", len(tricks.ghosts_of(watched)), "ghosts and", sk.topology_of(watched).count, "connections")

# %% [markdown]
# ## What this is about
#
# Most methods look for a better mask. Here we ask something else. Given **any** mask, can we train it better? You will
# learn
#
# - how **ghosts**, soft units and paths around layers, work in a sparse network for a while, and leave it
# - when taking them out at once hurts, and how they decay instead
# - what the initialisation of a sparse network should look like
# - how to tell, in a factorial experiment, which of four tricks helps
#
# We take an MLP for digits, in which 5 % of the weights exist, at random positions. Its initial weights are scaled to
# the connections that each neuron really has, as everywhere in sparsekit. Below we shall see why.

# %%
print(model)
print(sk.topology_of(model).count, "connections")

# %% [markdown]
# ## Where the tricks come from
#
# Before we take the tricks apart, we say where they come from. *ToST* (Jaiswal et al., 2022) trains a sparse network
# with any mask, by four tricks. Two of them, smooth units in place of ReLUs and extra paths around layers, serve the
# early training only. The other two are an initialisation with a learnt scale per tensor, and softer labels.
#
# We could not consult the text of the paper, only its abstract and the code that its authors released. In that code the
# extra parts are **never removed**. So when and how ours disappear is our own choice, and what we measure does not
# repeat their tables. One rule holds for all our experiments. Before we test a network, its ghosts are gone.
#
# ## Predict
#
# Make a guess before we measure the removal.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "A network has learnt with extra paths around its layers, and its loss is 0.16 (before any learning it was 2.3). "
    "Then one step cuts these paths. What is the loss now?",
    ["still about 0.16", "about 0.3", "more than 1"],
    2,
    "The weights have only learnt what to add to what went past them. We measure it below, and also how to avoid it.",
)
guess

# %% [markdown]
# ## Ghost neurons
#
# We look at the soft units first. A ReLU passes no gradient where its input is negative, and a network with few
# connections has few paths for gradients anyway. *PSwish* is smooth. It is $x\,\sigma(\beta x)$, with slope 1/2 at
# zero. The larger $\beta$ is, the nearer it comes to the ReLU, because the gap, its largest distance, is
# $0.2785/\beta$.

# %% tags=["nbval-ignore-output"]
ax = plots.plot_soft_units([Soft("pswish", beta) for beta in (1.0, 3.0, 20.0)])
plots.titled(ax, "The larger beta, the nearer a soft unit is to the ReLU")

# %% [markdown]
# *At $\beta = 20$ you can hardly tell the unit from the ReLU. So we let $\beta$ grow from 1 to 20 and then exchange the
# units, which makes a small jump instead of a large one.*
#
# A trick is a value, like a rule. Call `begin` before you build the optimizer to put it to work, and the training does
# the rest.

# %%
print(tricks.find_relus(model))
ghostly = tricks.begin(sparse_mlp(), [GhostNeurons(stop=100)])
print({name: type(ghost).__name__ for name, ghost in tricks.ghosts_of(ghostly).items()})
GhostNeurons(stop=100).at(ghostly, 100)
print("ghosts left:", len(tricks.ghosts_of(ghostly)))
before, after = model(test[0][0]), ghostly(test[0][0])
print(f"outputs that differ from the network without a trick: {int((before != after).sum())} of {after.numel():,}")

# %% [markdown]
# ## Ghost skips
#
# Next come the paths. A skip leads around a layer, $z = Wx + \alpha\,s(x)$ before the ReLU. Where input and output
# have the same size, $s(x)$ is $x$ itself, and elsewhere it is the mean over neighbouring units. It has no weights,
# so the budget is kept. Its strength $\alpha$ falls from 1 to 0, and then the skip is removed.
#
# The published skips, for residual networks, look different. Each convolution gets a 1 x 1 convolution with batch norm
# around it, and these are **dense**. We compute their price for a ResNet-20 at 2 % density:

# %%
torch.manual_seed(0)
resnet = sk.models.build("resnet20", input_shape=(3, 32, 32), num_classes=10)
resnet = sk.sparsify(resnet, sk.random_topology(sk.shapes_of(resnet), 0.02, seed=0))
tricks.begin(resnet, [GhostSkips(way="branch", stop=100)])
print(analysis.ghost_cost(resnet, torch.zeros(1, 3, 32, 32)))

# %% [markdown]
# *This helper is several times as large as what it helps. If you leave it in, as the released code does, you do not
# test a network of 2 %.*

# %% [markdown]
# ## The day they leave
#
# Now we measure what you saw in the panel. Four networks learn with one kind of ghosts for 300 steps, then without.
# The ghosts decay, or keep their full strength to the last step. We measure the loss on the test set around the
# removal:


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
variants = {"units decay": GhostNeurons(stop=stop), "units to the last": GhostNeurons(beta=full, stop=stop)}
variants |= {"skips decay": GhostSkips(stop=stop), "skips to the last": GhostSkips(strength=full, stop=stop)}
losses = {name: losses_around(stop, trick) for name, trick in variants.items()}
rows = [
    {"method": name, "name": "test loss", "step": stop - 9 + index, "epoch": 0, "value": loss}
    for name, values in losses.items()
    for index, loss in enumerate(values)
]
ax = plots.plot_curves(pd.DataFrame(rows), name="test loss")
leap = losses["skips to the last"][9] - losses["skips to the last"][8]
plots.titled(ax, f"Skips that are cut at full strength cost {leap:.1f} nats at once")

# %%
jump = {name: values[9] - values[8] for name, values in losses.items()}

# %% tags=["nbval-ignore-output"]
for name, values in losses.items():
    before, after, last = values[8], values[9], values[-1]
    print(f"{name}: test loss {before:.3f} before the removal, {after:.3f} after it, {last:.3f} 30 steps later")

# %% jupyter={"source_hidden": true}
assert jump["skips to the last"] > 0.5 > 10 * abs(jump["skips decay"])
assert abs(jump["units to the last"]) < 0.1

# %% [markdown]
# *The removal is at step 300, and there is one training of each kind. Where skips are cut off at full strength, the
# loss jumps from 0.16 to 1.8, and the network has to learn most of it anew. Skips that decay leave without a jump. But
# with full skips the network was the best of the four as long as it had them. The abrupt change of the units costs less
# than 0.01 here. Look again at the panel above with **Beta** at 1, where the units live for 700 steps.*

# %% [markdown]
# ## Exercise 1: how weak must a skip be? (10 minutes)
#
# Here is your first experiment. A skip keeps one strength for 300 steps, and then it is cut. At strength 1 the loss
# leaps, and at 0 nothing can happen. Find a strength, of at least 0.1, at which the test loss rises by less than 0.1
# nats when the skip is cut. Guess first, and let the check train and measure. How much further can you go?

# %% tags=["nbval-ignore-output"]
gentle_strength = None

widgets.check(gentle_strength=gentle_strength)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The weights have learned to rely on what the skip brings, and a weak one brings little. This is why skips decay before
# they leave.
#
# ```python
# gentle_strength = 0.1
# ```
# </details>

# %% [markdown]
# ## Initialisation
#
# Now we come to the weights with which a network begins. They are usually drawn for dense layers, and small, because
# many inputs add up, but a sparse neuron has few. So in a deep network the signal shrinks by $\sqrt{\text{density}}$
# at every layer. We have two ways out. We can scale each neuron's weights to its true fan-in. Or we can **learn** one
# scale per tensor, such that a first step of the network lowers its loss most (ToST, after *GradInit*). The released
# code takes that step with all gradients, also those of missing connections, while `masked` takes existing ones only.
# We try this on four layers with 5 % of the weights:

# %%
batches = list(islice(sk.datasets.stream(data, 64, seed=1), 40))
context = TrickContext(batches=batches)
variants = {
    "unscaled": ("dense", []),
    "true fan-in": ("fan-in", []),
    "learnt, masked": ("dense", [RescaledInit()]),
    "learnt, as published": ("dense", [RescaledInit(variant="published")]),
}
deep = {
    name: tricks.begin(sparse_mlp(hidden=(128,) * 3, init=init), chosen, context)
    for name, (init, chosen) in variants.items()
}
signals = {name: analysis.signal_propagation(network, batches[0]) for name, network in deep.items()}

# %% tags=["nbval-ignore-output"]
ax = plots.plot_signals(signals)
times = signals["true fan-in"]["output_std"].iloc[-1] / signals["unscaled"]["output_std"].iloc[-1]
plots.titled(ax, f"At the last layer, true fan-in leaves a signal {times:.0f} times as strong")

# %%
spread = pd.DataFrame({name: table["output_std"] for name, table in signals.items()})

# %% tags=["nbval-ignore-output"]
print(spread.round(5).to_string())

# %% jupyter={"source_hidden": true}
assert spread.loc["head", "unscaled"] < 0.02 * spread.loc["head", "true fan-in"]

# %% [markdown]
# *The figure and the table show how much each layer's outputs differ from example to example. The figure is
# logarithmic.* At the last layer the signal of true fan-in is hundreds of times as strong as that of unscaled weights.
# Learning the scales does little here. Where no signal arrives, no first step can lower the loss, so nothing tells the
# scales where to go. So below we put it on top of true fan-in, where something arrives.
#
# Does the signal matter for what is learnt? At a density of 2 % (digits, a fixed mask, 60 epochs) true fan-in gains
# 16.8 ± 2.0 points of accuracy over the dense draw (n = 10, t = 8.5, *reproduced*), and at 1 % it gains 42.7 ± 2.5
# (n = 10, t = 16.9, *reproduced*). What scales learnt from the dense draw gain over that draw is *undecided* at both
# densities. You can measure it with `sparsekit claims --only 27`.

# %% [markdown]
# ## Exercise 2: true fan-in (5 minutes)
#
# Next you write that scaling yourself. `weight` is a sparse layer's weight, with a row per neuron and zeros where
# there is no connection. Its values were drawn for the full width. Return it with each row scaled to the number of
# connections that the neuron really has. A row without any stays as it is.


# %%
def fit_fan_in(weight: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


widgets.check(fit_fan_in)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fit_fan_in(weight):
#     count = (weight != 0).sum(1, keepdim=True).clamp(min=1)
#     return weight * (weight.shape[1] / count).sqrt()
# ```
# </details>

# %% [markdown]
# ## Softer labels, and exercise 3 (5 minutes)
#
# Now we turn to the last trick, which changes the labels. Label smoothing takes a little from the true class. ToST's
# code takes 0.1 and gives it to the **other** classes. PyTorch's `label_smoothing` gives it to **all** classes, the
# true one included. Which number must you give to PyTorch to do what ToST does?


# %%
def torchs_smoothing(amount: float, num_classes: int) -> float:
    raise NotImplementedError


widgets.check(torchs_smoothing)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def torchs_smoothing(amount, num_classes):
#     return amount * num_classes / (num_classes - 1)
# ```
# </details>

# %% [markdown]
# ## Exercise 4: a trick that harms (10 minutes)
#
# Any trick can be overdone. The check trains the small digits network by RigL for 20 epochs, from three seeds, and
# spreads the amount that you choose over all classes. Find an amount that costs at least five points of accuracy. Is it
# smaller or larger than you thought?

# %% tags=["nbval-ignore-output"]
harmful_smoothing = None

widgets.check(harmful_smoothing=harmful_smoothing)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The right class stays the largest one in the label for every amount below 1, so the network is taught the right thing
# by an ever weaker signal. It takes a lot to lose five points.
#
# ```python
# harmful_smoothing = 0.97
# ```
# </details>

# %% [markdown]
# ## What ghosts change early on
#
# Why should ghosts help at all? The claim is that they help early in training, because gradients flow and the loss
# bends less. So we measure the norm of the gradient and the largest eigenvalue of the Hessian, of existing
# connections only, at epochs 0, 2 and 5, with four seeds.

# %%
train, static = list(islice(sk.datasets.stream(data, 256, seed=2), 2)), sk.rules.Static()


def look(network: nn.Module, **row) -> list[dict]:
    values = {"gradient norm": analysis.gradient_norm(network, train[0])}
    values["top eigenvalue"] = analysis.top_eigenvalue(network, train).value
    return [{**row, "name": name, "value": value} for name, value in values.items()]


# %%
def early(method: str, seed: int, *chosen) -> list[dict]:
    network = tricks.begin(sparse_mlp(seed), chosen)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    rows = look(network, method=method, seed=seed, step=0, epoch=0)
    batches = islice(sk.datasets.stream(data, 64, seed=seed), 95)
    for step, _, _ in sk.training(network, optimizer, batches, cross_entropy, static, tricks=chosen):
        if step + 1 in (38, 95):
            rows += look(network, method=method, seed=seed, step=step + 1, epoch=(step + 1) // 19)
    return rows


# %% tags=["nbval-ignore-output"]
soft, skip = GhostNeurons(stop=400), GhostSkips(stop=400)
kinds = {"plain": (), "ghost neurons": (soft,), "ghost skips": (skip,), "both": (soft, skip)}
looks = pd.DataFrame([row for name, chosen in kinds.items() for seed in range(4) for row in early(name, seed, *chosen)])
means = looks.groupby(["method", "name", "step", "epoch"], as_index=False)["value"].mean()
figure, (upper, lower) = plots.subplots(2, 1, width=7, height=6.6)
plots.titled(plots.plot_curves(means, upper, name="gradient norm"), "At first, ghost skips let more gradient through")
plots.titled(plots.plot_curves(means, lower, name="top eigenvalue"), "And at first the loss bends more with them")
figure

# %% tags=["nbval-ignore-output"]
at = looks.set_index(["name", "method", "epoch", "seed"])["value"].sort_index()
for epoch in (0, 5):
    for method in ("ghost neurons", "ghost skips"):
        norm, bend = (at[name, method, epoch] for name in ("gradient norm", "top eigenvalue"))
        plain_norm, plain_bend = (at[name, "plain", epoch] for name in ("gradient norm", "top eigenvalue"))
        text = f"epoch {epoch}: {method}"
        print(analysis.assess_claim(f"{text} make the gradient larger", norm, plain_norm, unit="of the norm"))
        print(analysis.assess_claim(f"{text} make the loss bend less", plain_bend, bend, unit="of the eigenvalue"))

# %% [markdown]
# *The curves are means of four seeds.* The two kinds do opposite things here. At the beginning ghost skips let about
# ten times as much gradient through as the plain network, and the loss bends over twenty times as much. Ghost neurons
# make both smaller. So the claim has two halves, and each kind fulfils one of them and contradicts the other. Read this
# with care, because a smaller gradient or curvature can also mean that a network has not begun to learn. The plain
# network's curvature grows as it learns.

# %% [markdown]
# ## Which trick helps? A factorial experiment
#
# Now all four compete. Four tricks, each on or off, give 16 combinations, and we train each with four seeds for five
# epochs. Each trick's **main effect** is the mean with it minus the mean without it, over all combinations of the
# others. So each of the 64 trainings speaks about every trick. An **interaction** says by how much one trick does more
# where another is on.

# %%
STEPS = 5 * 19
stop = round(0.4 * STEPS)
TRICKS = {"neurons": GhostNeurons(stop=stop), "skips": GhostSkips(stop=stop)}
TRICKS |= {"init": RescaledInit(iterations=30), "labels": LabelSmoothing(stop=STEPS)}


# %%
def accuracy_with(cell: frozenset, seed: int, init: str = "fan-in") -> float:
    chosen = [trick for name, trick in TRICKS.items() if name in cell]
    network = tricks.begin(sparse_mlp(seed, init=init), chosen, context)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches, rate = islice(sk.datasets.stream(data, 64, seed=seed), STEPS), sk.schedules.Cosine(0.1).lasting(STEPS)
    for _ in sk.training(network, optimizer, batches, cross_entropy, static, learning_rate=rate, tricks=chosen):
        pass
    assert not tricks.ghosts_of(network)
    return sk.evaluate(network, test).accuracy


# %%
rows = [
    {**{name: name in cell for name in TRICKS}, "seed": seed, "accuracy": accuracy_with(cell, seed)}
    for seed in range(4)
    for cell in analysis.factorial_design(list(TRICKS))
]
runs = pd.DataFrame(rows)
print(len(runs), "trainings")

# %% tags=["nbval-ignore-output"]
effects = analysis.factorial_effects(runs, list(TRICKS))
(100 * effects).round(1)

# %% tags=["nbval-ignore-output"]
ax = plots.plot_effects(effects)
best = effects["effect"].idxmax()
plots.titled(ax, f"After five epochs {best} gain most, {100 * effects['effect'][best]:+.1f} points")

# %% [markdown]
# *The figure shows points of test accuracy with 95 % intervals, hollow and grey where they hold zero.* Is a claim
# reproduced? As in the other notebooks, we compare means by seed. With four seeds a difference is decided from 3.2
# standard errors on. `studies/tricks.py` does the same with all masks, densities and more seeds and epochs.

# %% tags=["nbval-ignore-output"]
for name in TRICKS:
    means = runs.groupby([name, "seed"])["accuracy"].mean()
    print(analysis.assess_claim(f"{name} helps", means[True].tolist(), means[False].tolist()))

# %% [markdown]
# *The errors of the table and those of the verdicts differ. The table counts all 64 trainings as independent. The
# verdicts count seeds, so they say what you may expect of another seed.* In the stored run skips help (+8.2 ± 2.2
# points after five epochs), ghost neurons (-1.8 ± 0.4) and softer labels (-1.6 ± 0.3) hurt, and for the learnt scales
# four seeds decide nothing (+2.7 ± 1.8).
#
# Why would paths around layers help? Perhaps they only carry a signal that a better initialisation would keep. So we
# train without any trick and with skips alone, from both draws.

# %%
draws = {
    (init, name): [accuracy_with(cell, seed, init) for seed in range(4)]
    for init in ("dense", "fan-in")
    for name, cell in (("no trick", frozenset()), ("skips", frozenset(["skips"])))
}

# %% tags=["nbval-ignore-output"]
table = pd.DataFrame(draws).agg(["mean", "sem"]).T.mul(100).round(1)
print(table.to_string())
for init in ("dense", "fan-in"):
    print(analysis.assess_claim(f"{init} draw: skips help", draws[init, "skips"], draws[init, "no trick"]))
print(
    analysis.assess_claim("without tricks, fan-in beats dense", draws["fan-in", "no trick"], draws["dense", "no trick"])
)

# %% [markdown]
# *From the dense draw a network without tricks has learnt nothing after five epochs, and skips lift it to 59 %. From
# true fan-in it has 76 % without any trick, and skips add 10 points (n = 4, t = 5.7). So most of what skips do for the
# dense draw looks like repair, and fitted weights alone gain more than skips do. A study of tricks that keeps the dense
# draw mistakes the repair for the method.*

# %% [markdown]
# ## What we saw
#
# - Ghosts are parts of a network for a while. What remains is the plain network, with the same layers, the same number
#   of weights, and the same outputs bit for bit.
# - Ghost skips that are cut off at full strength take most of what was learnt with them. Those that decay leave without
#   a jump. An exchange of the units cost little in either way, after 300 steps.
# - Published ghost skips are dense, so they outweigh the network that they help until they are removed.
# - With weights drawn for dense layers, the signal of a sparse network dies within four layers. True fan-in mends it.
#   Scales that must be learnt through a dead network do not.
# - Of the four tricks only skips are shown to help after five epochs (+8.2 ± 2.2 points, n = 4, t = 3.8). Alone they
#   add 9.7 ± 1.7 points from true fan-in (t = 5.7), and 49.0 ± 2.6 from the dense draw (t = 18.5).
#
# Some things could mislead us. In five epochs, everything that makes the start faster looks good, and everything that
# holds the network up for part of them looks bad. 60 epochs may say something else. Learning scales looks at data
# before the training begins, which the other cells do not. There is no batch norm in this MLP. Where a batch norm
# follows a layer, the scale of the layer's weights does not change its output at all. Tricks may also help dense
# networks just as much, so every claim about sparsity needs the control with `--masks dense`.

# %% [markdown]
# ## Check yourself
#
# - Why is the loss's jump at the removal not a fault of the training before?
# - Two tricks have main effects of +3 points each and an interaction of -6. What do both together gain?
# - A ghost skip with batch norm starts at weights of 0.0001. Why is it not weak?
#
# <details><summary>Answers</summary>
#
# - The weights were trained to work together with the skips. The removal changes what the network computes.
# - They gain 6 points, and each of them alone gains 6 points as well. A main effect is the mean of what a trick gains
#   with the other and without it, here 0 and 6.
# - Batch norm divides by the spread of its input, so the magnitude of the weights before it hardly matters.
# </details>
#
# ## Go further
#
# - Let the whole factorial begin from the dense draw, with `accuracy_with(cell, seed, "dense")`. Which effect becomes
#   the largest, and why?
# - Try `GhostNeurons(unit="gelu")`, or a beta that is 20 from the start.
# - Let a dense network teach with `Distillation(teacher="...")`, which takes the folder name of a dense run.
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
