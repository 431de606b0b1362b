# %% [markdown]
# # 1. Masks and budgets
#
# **40 minutes** · needs: [00_start_here](00_start_here.ipynb) · runs in half a minute
#
# You will learn
#
# - how a budget of connections is shared among layers, and why it matters more than you think
# - how a score chooses which connections stay
# - why two networks with equally many connections may differ in what they can do, and in what they cost

# %% [markdown]
# We begin with a network that has learnt already, and take its connections away. The folded cells below train it and
# give every weight three scores. Open them later. The network is the classic LeNet-300-100, and its data are
# Fashion-mini, 5,000 photographs of clothes for training and 1,000 for testing, with 28 × 28 grey pixels.

# %% jupyter={"source_hidden": true}
from itertools import islice

import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.topology.allocation import allocate

torch.set_num_threads(1)

# %% jupyter={"source_hidden": true}
data = sk.datasets.load("fashion-mini")
torch.manual_seed(0)
dense = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=(300, 100))
shapes = sk.shapes_of(dense)
initial = {name: dense.get_parameter(f"{name}.weight").detach().clone() for name in shapes}
print(shapes)

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
optimizer = torch.optim.SGD(dense.parameters(), lr=0.05, momentum=0.9)
batches = islice(sk.datasets.stream(data, 64, seed=0), 400)
for _ in sk.training(dense, optimizer, batches, nn.functional.cross_entropy, sk.rules.Static()):
    pass
trained = {name: dense.get_parameter(f"{name}.weight").detach() for name in shapes}
test = [(data.prepare(data.test.inputs), data.test.labels)]
full = sk.evaluate(dense, test).accuracy
print(f"the dense network classifies {full:.1%} of {len(data.test)} test images")

# %% jupyter={"source_hidden": true}
assert full > 0.8

# %% jupyter={"source_hidden": true}
scores = {
    "trained": {name: weight.abs() for name, weight in trained.items()},
    "at the start": {name: weight.abs() for name, weight in initial.items()},
    "random": {name: torch.rand(shape, generator=sk.generator(0, name)) for name, shape in shapes.items()},
}
presets = {
    "90 %": {"density": 0.1, "allocation": "erk", "score": "trained"},
    "99 % uniform": {"density": 0.01, "allocation": "uniform"},
    "99 % ERK": {"density": 0.01, "allocation": "erk"},
}


def accuracy_of(topology: sk.Topology) -> float:
    return sk.evaluate(sk.sparsify(dense, topology, init="dense"), test).accuracy


# %% [markdown]
# ## Try it
#
# Drag the point along the curve, and watch the network lose its connections. The curve is empty at first, because you
# draw it. Every stop measures the test accuracy without any more training, which is called **one-shot pruning**.
# Where do you expect the cliff?
#
# The square shows how many units of the first layer read each pixel. Point at a row of `fc1` to see the pixels of that
# one unit.

# %% tags=["nbval-ignore-output"]
explorer = widgets.MaskExplorer(scores, density=0.05, presets=presets, accuracy=accuracy_of)
explorer

# %% [markdown]
# Now we look closer, and each question needs one move.
#
# 1. Press **90 %**. Which pixels does the first layer read, and which does it leave out?
# 2. Press **99 % uniform**. What happens to `head`? Look at *Dead outputs* in the table.
# 3. Press **99 % ERK**. You have the same number of connections. What is different?
# 4. Choose **at the start** and drag again. These are the magnitudes before training. Where is the cliff now?

# %% [markdown]
# ## Why it matters
#
# "A network with 1 % of its weights" sounds like one thing, but it is many. We have to say how many connections each
# **layer** gets (the *allocation*) and which positions in the layer they take (the *score*). With the same budget,
# one choice gives a network that works. Another one all but cuts off the output layer.
#
# Papers that compare methods at "the same density" sometimes compare allocations instead. After this notebook you will
# notice.

# %% [markdown]
# ## Predict
#
# Before we count, you guess. Compare the answer with what *99 % uniform* showed you.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "LeNet-300-100 has 266,200 weights. Keep 1 % of them, every layer the same share (a uniform allocation). How many "
    "connections are left into each of the ten outputs, on average?",
    ["1", "10", "27", "100"],
    0,
    "The last layer has 100 × 10 = 1,000 weights, and 1 % of them are 10. That is one for each class on average. Some "
    "classes have more, so others have none at all, as you will see below.",
)
guess

# %% [markdown]
# ## How a budget is shared
#
# Next we count what each layer gets at 99 % sparsity, because the masks above change with every move. ER and ERK are
# allocations that we explain below.

# %%
rows = {name: allocate(shapes, 0.01, name) for name in ("uniform", "er", "erk")}
table = pd.DataFrame(rows)
table.loc["network"] = table.sum()
table

# %% tags=["nbval-ignore-output"]
random = {name: sk.random_topology(shapes, 0.01, allocation=name, seed=0) for name in ("uniform", "erk")}
plots.plot_layer_densities(random)

# %% [markdown]
# *Both networks have 2,662 connections. Uniform gives the ten outputs one each on average, and ERK gives them
# eighteen.*
#
# Next we look behind this average, because it hides the worst case. We draw eight random masks for each allocation and
# count the connections into each of the ten classes.

# %%
fan_ins = {
    name: [sk.random_topology(shapes, 0.01, allocation=name, seed=seed)["head"].fan_in() for seed in range(8)]
    for name in ("uniform", "erk")
}
print("uniform, seed 0:", fan_ins["uniform"][0].tolist())
print("erk, seed 0:    ", fan_ins["erk"][0].tolist())
print("classes without any, uniform:", [int((one == 0).sum()) for one in fan_ins["uniform"]])
print("classes without any, erk:    ", [int((one == 0).sum()) for one in fan_ins["erk"]])

# %% [markdown]
# *Under uniform, two to five of the ten classes have no connection at all. Whatever the image shows, such a class gets
# the same score, so no training of this mask can tell it from the others by what it sees. Under ERK the worst of these
# classes has eleven.*

# %% [markdown]
# ## How it works
#
# Now we open the allocation, because you will choose one in every later notebook. ER stands for Erdős–Rényi. A layer
# with $n$ inputs and $m$ outputs gets a density in proportion to
#
# $$\frac{n + m}{n \cdot m}$$
#
# so its number of connections grows with $n + m$ and not with $n \cdot m$. Above, each layer has 1.67 connections for
# every unit on one of its two sides. The fan-in still differs, with 6.0, 6.7 and 18.4 on average, because the layers
# narrow. ERK adds the sides of a convolution's kernel to the sum and multiplies the product by them, so for linear
# layers the two are the same. A layer that would get more connections than it has positions becomes dense, and the
# others share the rest. The counts are integers that add up to the budget exactly. We round fractions down and give
# what is left to the largest remainders.
#
# A mask then takes three lines, and the rest of the cell prints. The widget does nothing more
# ([allocation.py](../sparsekit/topology/allocation.py), [selection.py](../sparsekit/topology/selection.py)).
# `init="dense"` keeps the trained values as they are. Without it, `sparsify` takes them for the initial weights of a
# new network, and scales them to the fewer inputs.

# %%
counts = allocate(shapes, 0.01, "erk")
topology = sk.keep_top_per_layer(scores["trained"], counts)
pruned = sk.sparsify(dense, topology, init="dense")
print({name: round(one.count / sum(one.shape), 2) for name, one in topology.items()}, "connections per unit")
print({name: round(float(one.fan_in().double().mean()), 1) for name, one in topology.items()}, "mean fan-in")
print(counts, "=", topology.count, "of", sum(weight.numel() for weight in trained.values()))

# %% [markdown]
# ## Exercise 1 (5 minutes)
#
# You have seen the formula, so write it as code. Write the Erdős–Rényi weight of a linear layer, which is the value
# that its density is in proportion to.


# %%
def er_weight(num_inputs: int, num_outputs: int) -> float:
    raise NotImplementedError


widgets.check(er_weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def er_weight(num_inputs, num_outputs):
#     return (num_inputs + num_outputs) / (num_inputs * num_outputs)
# ```
# </details>
#
# ## Exercise 2 (10 minutes)
#
# Now you write what the figure above does at each stop. Choose the `count` highest of some scores and return a mask.
# Choose **exactly** `count`, also where scores are equal. (Many published codes compare with a threshold, `score >=
# threshold`, and keep too many when scores tie.)


# %%
def keep_top(scores: torch.Tensor, count: int) -> torch.Tensor:
    raise NotImplementedError


widgets.check(keep_top)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def keep_top(scores, count):
#     mask = torch.zeros(len(scores), dtype=torch.bool)
#     mask[torch.argsort(scores, descending=True, stable=True)[:count]] = True
#     return mask
# ```
# </details>

# %% [markdown]
# ## Exercise 3: hold 80 % (5 minutes)
#
# Now you experiment. Go back to the figure and find the sparsest mask that still classifies 80 % of the test images.
# Any score and allocation counts. The next cell reads what your drags have measured, so run it again when you have
# found a better one.

# %% tags=["nbval-ignore-output"]
held = [one for one in explorer.measured if one["accuracy"] >= 0.8]
best = min(held, key=lambda one: one["density"], default=None)
if best is None:
    print("none of your masks holds 80 % yet")
else:
    print(f"best so far: {1 - best['density']:.2%} sparsity with {best['allocation']} and {best['score']} scores")

# %% [markdown]
# <details><summary>Solution</summary>
#
# Near 92 % sparsity, ERK with trained scores still holds 80 %, and at 95 % it does not. Uniform is below 80 % at 90 %
# already. In this search you looked at the test images many times, so the best mask owes a little
# to luck. With 1,000 images an accuracy has an error of about one point.
# </details>

# %% [markdown]
# ## Exercise 4: a class without connections (5 minutes)
#
# A uniform density treats small layers badly, and ERK protects them. Find a density at which the uniform allocation
# leaves a class of LeNet-300-100 without any connection in *each* of ten draws, and ERK does so in none. The check
# draws the masks and counts.

# %% tags=["nbval-ignore-output"]
telling_density = None

widgets.check(telling_density=telling_density)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The last layer has 1,000 positions, so at 1 % ten connections fall on ten classes at random, and some classes get
# none. By ERK the layer keeps more than half of its connections.
#
# ```python
# telling_density = 0.01
# ```
# </details>

# %% [markdown]
# ## Does the score matter?
#
# Next we draw all three curves of the figure at the same seven densities, because your own trail may have gaps. All use
# ERK, and nothing is trained.

# %%
densities = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
measured = []
for density in densities:
    for score in scores:
        topology = sk.keep_top_per_layer(scores[score], allocate(shapes, density, "erk"))
        accuracy = sk.evaluate(sk.sparsify(dense, topology, init="dense"), test).accuracy
        measured.append({"density": density, "accuracy": accuracy, "method": score})
one_shot = pd.DataFrame(measured)
by_density = one_shot.pivot(index="density", columns="method", values="accuracy").sort_index(ascending=False)

# %% jupyter={"source_hidden": true}
assert by_density["trained"][0.1] > 0.75
assert max(by_density["random"][0.1], by_density["at the start"][0.1]) < 0.6

# %% tags=["nbval-ignore-output"]
print((100 * by_density).round(1).to_string())
plots.plot_accuracy_density(one_shot)

# %% [markdown]
# *The magnitude of a trained weight says much about its use, so with a tenth of the weights the network loses two to
# three points only. The magnitude before training says little. It is ahead of random numbers at a density of 0.2, and
# from 0.1 on both are far below. One network is no proof.* Can better scores find masks **before** training?
# [04_masks_before_training](04_masks_before_training.ipynb) asks this question.

# %% [markdown]
# ## Nominal and effective
#
# Now we ask how many of the connections that we count can do anything. A connection is of use only if a path leads
# through it from an input to an output. A connection into a unit that nobody reads does nothing, and neither does one
# out of a unit that nothing reaches. The **effective density** counts only the connections on a path.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "Random masks on LeNet-300-100, 1 % of the weights, uniform. Which share of the connections lies on a path from a "
    "pixel to a class?",
    ["about nine of ten", "about half", "about one of ten"],
    2,
    "Three hundred connections join 300 hidden units to 100, and the outputs read ten of these at most, so most paths "
    "end nowhere.",
)
guess

# %%
measured = []
for density in (0.1, 0.05, 0.02, 0.01, 0.005, 0.002):
    for allocation in ("uniform", "erk"):
        topology = sk.random_topology(shapes, density, allocation=allocation, seed=0)
        effective = analysis.effective_density(topology)
        measured.append({"nominal": topology.density, "effective": effective, "method": allocation})
effective = pd.DataFrame(measured)
effective["share"] = (effective["effective"] / effective["nominal"]).round(2)
effective.pivot(index="nominal", columns="method", values="share").sort_index(ascending=False)

# %% tags=["nbval-ignore-output"]
plots.plot_effective_density(effective)

# %% [markdown]
# *Below the diagonal, connections are wasted. A uniform network of 1 % is effectively one of 0.1 %. So "uniform is
# worse than ERK at 1 %" compares a tenth of the working connections with nearly all of them.*

# %% [markdown]
# ## What it costs
#
# Next we count operations, because the same number of connections need not mean the same work. In a convolutional
# network, a weight of an early layer is used at every pixel. ERK makes thin layers denser. In ResNets those are the
# early layers, which see the large images.

# %%
resnet = sk.models.build("resnet20", input_shape=(3, 32, 32), num_classes=10)
for name in ("uniform", "er", "erk"):
    topology = sk.random_topology(sk.shapes_of(resnet), 0.1, allocation=name, seed=0)
    flops = analysis.forward_flops(resnet, torch.zeros(1, 3, 32, 32), topology)
    print(
        f"{name:8s} {topology.count} connections, {flops['sparse'].sum() / flops['dense'].sum():.3f} of the operations"
    )

# %% [markdown]
# At this density, ERK costs nearly twice as many operations as uniform in this network, so a comparison must give both
# numbers.

# %% [markdown]
# ## Watch it train
#
# Finally we train the pruned network, because one-shot pruning to 2 % hurts even with the best score. The mask stays
# fixed (the rule `Static`). How much accuracy comes back? Press **Again** after the end, and the first training stays
# as a pale line.

# %%
counts = allocate(shapes, 0.02, "erk")
pruned = sk.sparsify(dense, sk.keep_top_per_layer(scores["trained"], counts), init="dense")
before = sk.evaluate(pruned, test).accuracy
start = {name: value.clone() for name, value in pruned.state_dict().items()}


# %%
def steps():
    pruned.load_state_dict(start)  # so that Again begins where the first training began
    optimizer = torch.optim.SGD(pruned.parameters(), lr=0.05, momentum=0.9)
    batches = sk.datasets.stream(data, 64, seed=1)
    loss, rule = nn.functional.cross_entropy, sk.rules.Static()
    return widgets.live_training(pruned, optimizer, batches, loss, rule, steps=600, measure=tested)


def tested(model: nn.Module) -> dict[str, float]:
    return {"test accuracy": sk.evaluate(model, test).accuracy}


run = widgets.Run(steps, total=600)

# %% tags=["nbval-ignore-output"]
panel = widgets.LivePanel(run)
panel

# %% tags=["nbval-ignore-output"]
run.wait(timeout=300)
after = sk.evaluate(pruned, test).accuracy
print(f"with 5,324 of 266,200 weights: {before:.1%} after pruning, {after:.1%} after training, {full:.1%} dense")

# %% jupyter={"source_hidden": true}
assert after > full - 0.08 > before

# %% [markdown]
# *All of the lost accuracy comes back within seconds. In the stored run the sparse network even ends a little above the
# dense one. That is no evidence, because it is one run, and an accuracy measured on 1,000 images has an error of one
# point.* To get here, though, we trained the dense network first. The next notebook asks whether we need that.

# %% [markdown]
# ## What we saw
#
# We close with what was measured above, and with how far it carries.
#
# - At 1 % of the weights, uniform leaves two to five of the ten classes of LeNet-300-100 without a connection (eight
#   draws), and nine of ten connections lie on no path (one draw). ERK leaves eleven or more for each class, and one of
#   ten connections lies on no path.
# - Magnitudes of trained weights tell which to keep. At 10 % our network loses 2.4 points in one shot, and with masks
#   of the initial magnitudes it loses more than 50.
# - ERK costs more operations than uniform. In ResNet-20 at density 0.1, it takes 0.186 of the dense ones, not 0.100.
#
# All this is one network and one seed of toy data. The counts are exact everywhere, but the accuracies are no claim
# about other networks.

# %% [markdown]
# ## Check yourself
#
# Answer these three before you open the answers.
#
# - Why does the number of connections under ER grow with the number of units and not with their product?
# - Two papers report "95 % sparse ResNet-50". Which three questions would you ask before comparing them?
# - Can a mask have an effective density above its nominal density?
#
# <details><summary>Answers</summary>
#
# - A layer's density goes with $(n + m) / (n m)$, and it has $n m$ positions, so its count goes with $n + m$.
# - Which allocation was used? Are the first and the last layer dense? How many operations are left?
# - No. The effective density counts some of the connections, so it is equal or lower.
# </details>
#
# ## Go further
#
# [02_topology_evolution](02_topology_evolution.ipynb) is about masks that change while the network trains. Before you
# go there, use the explorer above. Is there a sparsity at which the first layer loses its last connection under
# *uniform*?
#
# ## References
#
# - D. C. Mocanu et al. (2018), arXiv:1707.04780: Erdős–Rényi allocation for linear layers.
# - U. Evci et al. (2020), *Rigging the Lottery*, arXiv:1911.11134: ERK.
# - A. Vysogorets and J. Kempe (2023), *Connectivity Matters*, arXiv:2107.02306: effective sparsity.
# - H. Xiao, K. Rasul and R. Vollgraf (2017), *Fashion-MNIST*, arXiv:1708.07747: the photographs.
