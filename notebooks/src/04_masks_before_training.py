# %% [markdown]
# # 4. Masks before training
#
# **45 minutes** · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs in under a minute
#
# You will learn
#
# - how SNIP, GraSP, SynFlow and others score the weights of a network that has not learnt anything yet
# - why a score can empty a whole layer, and which three things together prevent it
# - whether it matters **which** connections such a mask keeps, or only how many in each layer

# %% [markdown]
# ## Why
#
# In [01_masks_and_budgets](01_masks_and_budgets.ipynb), trained weights told us which connections to keep. But by then
# we had already paid for a dense training, so it would be cheaper to know **before**. Scores before training look at
# the fresh network, and most of them also look at a few examples. Then they keep the weights that seem to matter.
#
# They promise a good mask for the price of a few batches. They can also go badly wrong. If one layer has no
# connections, nothing that the network sees reaches its output. We shall watch that happen and ask why. Then we ask
# whether the chosen connections are any better than others.

# %% [markdown]
# ## Set up
#
# We take an MLP with six layers of weights, and ten examples of each digit. Every registered score takes part, so if
# you add one of your own, it appears below.

# %%
from dataclasses import replace
from itertools import islice

import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.scores import SynFlow, make_score, prune, score_whole
from sparsekit.topology.shuffling import shuffled

torch.set_num_threads(1)

# %%
data = sk.datasets.load("digits")
few = sk.datasets.few_per_class(data, 10)
network = {"name": "mlp", "input_shape": data.shape, "num_classes": 10}
torch.manual_seed(0)
model = sk.models.build(**network, hidden=(96,) * 5)
scores = {name: make_score(name, min_per_layer=0) for name in sk.names("score")}
print(sum(rows * columns for rows, columns in sk.shapes_of(model).values()), "weights in", list(sk.shapes_of(model)))
print("scores:", ", ".join(scores))

# %% [markdown]
# With `min_per_layer=0` a score may empty a layer. By default each layer keeps one connection at least.

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "SNIP ranks all weights of the network in one list and keeps the best. We keep fewer and fewer. When is one of the "
    "six layers left without any connection?",
    ["when five connections are left", "when some forty are left", "when some thousand are left", "never"],
    1,
    "When 43 of 43,968 are left, four layers are empty, and the output layer keeps 21 that have nothing to pass on. "
    "Long before, at 172 connections, all layers have some, but no path leads from a pixel to a class.",
)
guess

# %% [markdown]
# ## Scores as images
#
# | score | what a weight $w$ with gradient $g$ is worth | it looks at |
# |---|---|---|
# | magnitude | $\lvert w\rvert$ | weights |
# | SNIP | $\lvert w\,g\rvert$: does the loss feel it if $w$ changes a little? | examples |
# | GraSP | $w\,(Hg)$, with the Hessian $H$: how much gradient would be lost without it? | examples |
# | SynFlow | $\lvert w\,\partial R/\partial w\rvert$: how much flows through it? | weights |
#
# SynFlow's $R$ is the sum of the outputs when all inputs are 1 and all weights positive. *Iterative SNIP* and *FORCE*
# are SNIP in many rounds. Each round leaves some weights out and takes the gradients anew, and under FORCE weights may
# regrow. *Taylor* squares what SNIP takes the magnitude of. Below you see layer `fc1`, with a row for each hidden unit
# and a column for each of 64 pixels.

# %% tags=["nbval-ignore-output"]
chosen = ("random", "magnitude", "snip", "grasp", "synflow")
values = {name: score_whole(model, scores[name], batches=[few]) for name in chosen}
masks = {name: prune(model, scores[name], 0.1, batches=[few]) for name in chosen}
plots.plot_scores(values, masks, layer="fc1")

# %% [markdown]
# *The brighter a weight, the more of the network's weights score lower. The lower row shows what stays in `fc1` when
# the network keeps 10 %.*
#
# SNIP leaves some columns and rows dark. The columns are pixels that are blank in every example, and the rows are
# silent units, so no gradient passes there. SynFlow has seen no example. It keeps whole rows, namely units from which
# strong paths continue.

# %% [markdown]
# ## Explore: halve it until it breaks
#
# Every step of the slider halves the network. The masks of all scores are computed in the background, so press
# **Start** below, or run all cells. (To be fast, scores of many rounds take only 20 of them here.)
#
# 1. **SNIP at 99.6 %**: every layer has connections. Compare them with *On a path*.
# 2. **SynFlow at 99.6 %**: where are the connections now?
# 3. **FORCE** is SNIP, done with more care. Is it safer?

# %% tags=["nbval-ignore-output"]
fast = {name: replace(score, rounds=min(score.rounds, 20)) for name, score in scores.items()}
presets = {
    "SNIP at 99.6 %": {"score": "snip", "halving": 8},
    "SynFlow at 99.6 %": {"score": "synflow", "halving": 8},
    "FORCE at 98.4 %": {"score": "force", "halving": 6},
}
explorer = widgets.ScoreExplorer(model, fast, batches=[few], halvings=12, score="snip", halving=8, presets=presets)
explorer

# %% tags=["nbval-ignore-output"]
metrics = {"on a path, per cent": tuple(scores)}
panel = widgets.LivePanel(explorer.run, metrics=metrics, masks=False, methods=True, x_label="halvings", width=880)
panel

# %%
explorer.run.wait(timeout=300)
print(explorer.run.state, "after", len(explorer.found), "masks")
table = analysis.collapse_table(explorer.found)

# %% tags=["nbval-ignore-output"]
plots.plot_useful(table)

# %% [markdown]
# *The figure shows the share of connections that lie on a path from a pixel to a class. All others compute nothing that
# arrives. (The lines of `taylor` and `snip` coincide, because they rank alike on a single batch.)*

# %% [markdown]
# ## Layer collapse
#
# Now we look at all scores at once, with a strip for each layer. Where a strip is crossed, the layer is empty, and the
# network is cut in two.

# %% tags=["nbval-ignore-output"]
plots.plot_collapse_map(table)

# %% [markdown]
# The next two figures show the numbers for two scores. Hollow markers are connections on a path, where these are fewer.

# %% tags=["nbval-ignore-output"]
plots.plot_layer_collapse(table, score="snip")

# %% tags=["nbval-ignore-output"]
plots.plot_layer_collapse(table, score="synflow")

# %% [markdown]
# How far can each score shrink the network? `compression` is the largest one tried at which every layer has a
# connection. `connected` is the largest one at which a path leads through, and `first_empty` is the layer that breaks
# first. Beyond 7,328 nothing is possible, because six layers need six connections.

# %% tags=["nbval-ignore-output"]
critical = analysis.critical_compression(table)
critical

# %%
print("SynFlow keeps a path at 4,096 times:", critical.loc["synflow", "connected"] == 4096)
print("SNIP empties a layer before that:", critical.loc["snip", "compression"] < 4096)
print("in rounds even sooner:", critical.loc[["iterative-snip", "force"], "compression"].max() < 100)

# %% [markdown]
# *Random masks with ERK keep something in every layer and are cut all the same, because their connections do not meet.
# Magnitude compares the magnitudes of layers that began with different scales. And `iterative-snip` and `force` break
# **sooner** than plain SNIP, though those who proposed them found that rounds protect. (Sixty rounds instead of 20 do
# not change that.) Why is that so?*

# %% [markdown]
# ## A law of conservation
#
# We take a network with ReLU and without biases, and multiply all weights of one layer by $1 + \varepsilon$. The
# outputs grow by the same factor, whichever layer it was. So the sum of $w\,\partial L/\partial w$ over a layer is
# **the same for all layers**, for every function $L$ of the outputs. Biases break the law, because they do not grow
# with the layers before them. The table gives these sums with their signs, those of their magnitudes, which is SNIP,
# and those of SynFlow. Each is relative to the largest in its column.

# %%
sums = {}
for bias in (False, True):
    torch.manual_seed(0)
    fresh = sk.models.build(**network, hidden=(96,) * 5, bias=bias)
    sums["with biases" if bias else "without biases"] = analysis.conservation_table(fresh, [few])
sums = pd.concat(sums, axis=1)
(sums / sums.abs().max()).round(2)

# %% [markdown]
# SynFlow has no signs and leaves biases out, so its sums are equal in every network. That has a consequence. A layer's
# connections share the layer's sum, so if few are left, each has a large share. **The last connection of a layer scores
# as much as any other layer altogether**, and so it stays, provided that we score again when few are left. A single
# round has only the scores of the whole network, where a layer with many weights has small ones.
#
# We need three things together, namely scores without signs, a conserved sum, and rounds. Let us take two of them away.
#
# **Rounds.** First we run SynFlow with 1, 2, 5, 20 and 100 rounds, at four compressions from 16 to 4,096:

# %%
densities = [0.5**halving for halving in (4, 5, 8, 12)]
rounds = {f"rounds: {count}": SynFlow(rounds=count, min_per_layer=0) for count in (1, 2, 5, 20, 100)}
topologies = analysis.prunings(model, rounds, densities, batches=[few])
analysis.critical_compression(analysis.collapse_table(topologies))

# %% [markdown]
# **Conservation.** Now we run SNIP in rounds on networks with and without biases. The table gives the largest
# compression at which a path leads through:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
unbiased = sk.models.build(**network, hidden=(96,) * 5, bias=False)
careful = {name: fast[name] for name in ("snip", "iterative-snip", "force")}
topologies = analysis.prunings(unbiased, careful, [0.5**halving for halving in range(4, 13)], batches=[few])
without = analysis.critical_compression(analysis.collapse_table(topologies))["connected"]
connected = pd.DataFrame({"with biases": critical["connected"], "without": without}).loc[list(careful)]
connected

# %%
gain = connected["without"] / connected["with biases"]
print("without biases, rounds reach ten times further or more:", bool(gain[["iterative-snip", "force"]].min() > 10))

# %% [markdown]
# *With biases, the later layers can live on constants. Round after round the first layers matter less, until they are
# empty. Without biases, all that the loss feels has come through every layer, so rounds protect as promised.*

# %% [markdown]
# ## Exercise 1: SNIP (5 minutes)
#
# `weight` is a layer's weight, and `gradients` holds one gradient per sample, each of the same shape. Return SNIP's
# score of every weight, the magnitude of weight times **mean** gradient.


# %%
def snip_score(weight: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


check_snip = widgets.Check(
    [
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[[3.0, 6.0]]])), torch.tensor([[3.0, 12.0]])),
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[[3.0, 1.0]], [[-3.0, 5.0]]])), torch.tensor([[0.0, 6.0]])),
    ],
    hint="Gradients of different samples may cancel out, so take the mean first and the magnitude after.",
)
check_snip(snip_score)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def snip_score(weight, gradients):
#     return (weight * gradients.mean(0)).abs()
# ```
# If you took magnitudes first, you would get another score, under which nothing cancels out.
# </details>
#
# ## Exercise 2: SynFlow (10 minutes)
#
# A network has two layers without biases, `first` of shape (hidden, inputs) and `second` of shape (outputs, hidden).
# Return SynFlow's score of every weight of the first layer. You need no gradient for it. Which paths lead through a
# weight?


# %%
def synflow_first(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


check_synflow = widgets.Check(
    [
        ((torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[4.0, 5.0]])), torch.tensor([[4.0, 8.0], [0.0, 15.0]])),
        ((torch.tensor([[-1.0], [2.0]]), torch.tensor([[3.0, -1.0], [-4.0, 0.0]])), torch.tensor([[7.0], [2.0]])),
    ],
    hint="With positive weights, R is the sum over all paths of the product of their weights.",
)
check_synflow(synflow_first)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def synflow_first(first, second):
#     return first.abs() * second.abs().sum(0)[:, None]
# ```
# The sum of these scores is R, and so is that of the second layer's scores, `second.abs() * first.abs().sum(1)`. This
# is the law once more.
# </details>

# %% [markdown]
# ## Does it matter which connections?
#
# J. Frankle and others asked in 2021 what happens if each layer keeps its **number** of connections, and their
# positions are **shuffled**. They found that accuracy stays as it is, or even rises. Then scores before training would
# choose how dense the layers are, and nothing else.
#
# We shuffle masks with 10 % of the weights of a smaller MLP, 64-100-100-10, and train each for ten epochs, with three
# seeds. We initialise each in two ways. One keeps the weights' **own** values, on which the scores were taken. The
# other draws **new** values for the number of connections that each unit really has.

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "With their own values, how many points of accuracy do shuffled SNIP masks lose against SNIP masks?",
    ["none", "about two", "more than fifty"],
    2,
    "Does that show the worth of the right connections? It is a matter of their values, as you will see below.",
)
guess

# %%
masks = {}
for seed in range(3):
    torch.manual_seed(seed)
    dense = sk.models.build(**network, hidden=(100, 100))
    batch = sk.datasets.few_per_class(data, 10, seed=seed)
    for name in ("random", "snip", "synflow"):
        mask = prune(dense, fast[name], 0.1, batches=[batch], seed=seed)
        masks[name, seed] = dense, mask
        if name != "random":  # shuffled, it would be random again
            masks[f"{name}, shuffled", seed] = dense, shuffled(mask, within="layer", seed=seed)
same = all(mask.count == 1740 for _, mask in masks.values())
print(len(masks), "masks, all of 1,740 connections:", same)

# %%
with torch.device("meta"):
    empty = sk.models.build(**network, hidden=(100, 100))  # no values: sparsify draws new ones
test, rows, loss_fn = [(data.prepare(data.test.inputs), data.test.labels)], [], nn.functional.cross_entropy
for (method, seed), (dense, mask) in masks.items():
    for values, plain in (("own", dense), ("new", empty)):
        torch.manual_seed(seed)
        sparse = sk.sparsify(plain, mask)
        optimizer = torch.optim.SGD(sparse.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        batches, rate = islice(sk.datasets.stream(data, 64, seed=seed), 190), sk.schedules.Cosine(0.1).lasting(190)
        for _ in sk.training(sparse, optimizer, batches, loss_fn, sk.rules.Static(), learning_rate=rate):
            pass
        rows.append({"method": method, "values": values, "accuracy": sk.evaluate(sparse, test).accuracy})
runs = pd.DataFrame(rows)
print(len(runs), "trainings")

# %% tags=["nbval-ignore-output"]
summary = runs.groupby(["method", "values"], sort=False)["accuracy"].agg(["mean", "sem"]).unstack()
(100 * summary).round(1)

# %% [markdown]
# *The table gives the test accuracy in per cent, mean and standard error.* Is the claim reproduced? We assess it as in
# [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb). It is reproduced if the mean difference
# lies surely above what is asked for, here above a loss of one point. It is contradicted if it lies surely below.

# %% tags=["nbval-ignore-output"]
for values in ("own", "new"):
    by_method = {method: list(one["accuracy"]) for method, one in runs[runs["values"] == values].groupby("method")}
    for name in ("snip", "synflow"):
        text = f"{values} values: {name} loses less than a point when shuffled"
        print(analysis.assess_claim(text, by_method[f"{name}, shuffled"], by_method[name], above=-0.01))
        text = f"{values} values: {name} beats random masks"
        print(analysis.assess_claim(text, by_method[name], by_method["random"]))

# %%
mean = runs.groupby(["method", "values"])["accuracy"].mean()
for name in ("snip", "synflow"):
    own, new = (mean[name, values] - mean[f"{name}, shuffled", values] for values in ("own", "new"))
    print(f"{name}: shuffling costs over 40 points with own values {own > 0.4}, under 8 with new ones {new < 0.08}")

# %% [markdown]
# *Nearly all that shuffling destroys are values. SNIP and SynFlow multiply with $\lvert w\rvert$, so they keep the
# largest weights. The weights at other positions are too small for a unit that has lost nine of ten inputs. So signals
# shrink from layer to layer, and ten epochs are not enough to mend it. Random masks with own values fail for the same
# reason. If we draw values that fit, a few points remain, and that much the positions are worth here.*

# %% [markdown]
# ## What we saw
#
# - A score before training is one more pass through the network. SNIP and GraSP see where there are signals, and
#   SynFlow sees only paths.
# - A global ranking of all weights can empty some layers while others have plenty. Scores without signs, whose sum is
#   conserved, prevent it when they are taken in many rounds. Without rounds, or with biases, networks fell apart that
#   had more than a thousand connections for six layers.
# - Shuffling a mask within its layers cost most of the accuracy with the weights' own values. With values drawn for the
#   sparse network it cost a few points.
#
# Some things could mislead us. This network has no batch norm, but those of the papers do. Batch norm makes the scale
# of weights irrelevant, and with it our largest effect. It may also be why rounds help SNIP there, with or without
# biases. Digits have blank pixels, so here a mask can gain by knowing the data. Compressions of a thousand show how
# things break and are not for use. We have three seeds, ten epochs, and one density, so "undecided" says just that.

# %% [markdown]
# ## Check yourself
#
# - A layer is twice as wide as the others. Does one-round SynFlow empty it first, or last?
# - Why do 172 connections of SNIP, spread over six layers, have no path in common?
# - With `min_per_layer=1`, no layer is ever empty. Is the problem solved? (Look at *On a path*.)
#
# ## Go further
#
# - Give the explorer scores of your own, for instance `{"safe": make_score("snip", scope="layer")}`. What does a budget
#   for each layer change?
# - Repeat the shuffling with 2 % of the weights. The positions should matter more. How many of the shuffled connections
#   lie on a path?
# - Go back to [02_topology_evolution](02_topology_evolution.ipynb). Masks that may change need not be right at the
#   start.
#
# ## References
#
# - N. Lee, T. Ajanthan and P. Torr (2019), *SNIP*, arXiv:1810.02340.
# - C. Wang, G. Zhang and R. Grosse (2020), *Picking winning tickets before training by preserving gradient flow*,
#   arXiv:2002.07376: GraSP.
# - H. Tanaka et al. (2020), *Pruning neural networks without any data by iteratively conserving synaptic flow*,
#   arXiv:2006.05467: SynFlow, layer collapse, and the law of conservation.
# - P. de Jorge et al. (2021), *Progressive skeletonization*, arXiv:2006.09081: iterative SNIP and FORCE.
# - J. Frankle et al. (2021), *Pruning neural networks at initialization: why are we missing the mark?*,
#   arXiv:2009.08576: shuffled masks.
# - S. Liu et al. (2022), *The unreasonable effectiveness of random pruning*, arXiv:2202.02643.
