# %% [markdown]
# # 4. Masks before training
#
# **40 minutes**, and 20 more for the optional part · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs
# in under a minute
#
# You will learn
#
# - how SNIP, GraSP, SynFlow and others score the weights of a network that has not learnt anything yet
# - whether it matters **which** connections such a mask keeps, or only how many in each layer
# - in the optional part, why a score can empty a whole layer, and which three things together prevent it

# %% [markdown]
# We begin with a network that has not learnt anything, and shrink it until it breaks. The folded cells below build an
# MLP with six layers of weights, and take ten examples of each digit. Every registered score takes part, so if you add
# one of your own, it appears below. With `min_per_layer=0` a score may empty a layer. By default each layer keeps one
# connection at least.

# %% jupyter={"source_hidden": true}
from dataclasses import replace

import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments import save_initial_state
from sparsekit.experiments.population import run_all
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.scores import SynFlow, make_score, prune, score_whole
from sparsekit.topology.shuffling import shuffled

torch.set_num_threads(1)

# %% jupyter={"source_hidden": true}
data = sk.datasets.load("digits")
few = sk.datasets.few_per_class(data, 10)
network = {"name": "mlp", "input_shape": data.shape, "num_classes": 10}
torch.manual_seed(0)
model = sk.models.build(**network, hidden=(96,) * 5)
trained = {"lamp", "ria", "wanda"}  # these score networks that have learned already
scores = {name: make_score(name, min_per_layer=0) for name in sk.names("score") if name not in trained}
print(sum(rows * columns for rows, columns in sk.shapes_of(model).values()), "weights in", list(sk.shapes_of(model)))
print("scores:", ", ".join(scores))

# %% [markdown]
# ## Try it: halve it until it breaks
#
# Press **Start**, and the masks of eight scores are computed in the background. (If you run all cells, it starts by
# itself. To be fast, scores of many rounds take only 20 of them here.) Then drag the point. Every step halves the
# network, and we count in **compression**, which is one divided by the density.
#
# A connection is of use only if a path leads through it from a pixel to a class. Connections on a path are drawn in
# ink, and the others are grey. The height of a curve is the share of connections on a path.

# %% tags=["nbval-ignore-output"]
fast = {name: replace(score, rounds=min(score.rounds, 20)) for name, score in scores.items()}
presets = {
    "SNIP, 256 times": {"score": "snip", "halving": 8},
    "SynFlow, 256 times": {"score": "synflow", "halving": 8},
    "FORCE, 64 times": {"score": "force", "halving": 6},
}
explorer = widgets.ScoreExplorer(model, fast, batches=[few], halvings=12, score="snip", halving=8, presets=presets)
explorer

# %% [markdown]
# Now we look closer, and each question needs one move.
#
# 1. Press **SNIP, 256 times**. Every layer has connections. How many of them lie on a path?
# 2. Press **SynFlow, 256 times**. Where are the connections now?
# 3. Press **FORCE, 64 times**. This is SNIP, done with more care. Is it safer?

# %% jupyter={"source_hidden": true}
explorer.run.wait(timeout=300)
print(explorer.run.state, "after", len(explorer.found), "masks")
table = analysis.collapse_table(explorer.found)

# %% [markdown]
# ## Predict
#
# Before you follow the curve of *snip* to its end, you guess where a layer runs empty.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
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
# ## Why
#
# Now we say what this is good for. In [01_masks_and_budgets](01_masks_and_budgets.ipynb), trained weights told us which
# connections to keep. But by then we had already paid for a dense training, so it would be cheaper to know **before**.
# Scores before training look at the fresh network, and most of them also look at a few examples. Then they keep the
# weights that seem to matter.
#
# They promise a good mask for the price of a few batches. They can also go badly wrong. If one layer has no
# connections, nothing that the network sees reaches its output. We shall watch that happen and ask why. Then we ask
# whether the chosen connections are any better than others.

# %% [markdown]
# ## Scores as images
#
# Next we look at the scores themselves, because the masks show only what is left of them.
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
# ## Does it matter which connections?
#
# Now we ask what the chosen connections are worth. J. Frankle and others asked in 2021 what happens if each layer keeps
# its **number** of connections, and their positions are **shuffled**. They found that accuracy stays as it is, or even
# rises. Then scores before training would choose how dense the layers are, and nothing else.
#
# We shuffle masks with 10 % of the weights of a smaller MLP, 64-100-100-10, and train each for ten epochs, with six
# seeds. We initialise each in three ways, because a unit that has lost nine of ten inputs needs larger weights.
#
# - **own** values are those on which the scores were taken. They were drawn for the dense network.
# - **own, fitted** values are the same, scaled to the inputs that each unit really has. This is what `sparsify` does.
# - **new, fitted** values are those of another dense network, scaled in the same way. The scores have not seen them.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "With their own values, how many points of accuracy do shuffled SNIP masks lose against SNIP masks?",
    ["none", "about two", "more than fifty"],
    2,
    "Shuffled SNIP masks lose about 60 points, the mean of six seeds. Does that show the worth of the right "
    "connections? It is mostly a matter of the values' size, as you will see below.",
)
guess


# %%
def drawn(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return sk.models.build(**network, hidden=(100, 100))


masks = {}
for seed in range(6):
    batch = sk.datasets.few_per_class(data, 10, seed=seed)
    for name in ("random", "snip", "synflow"):
        mask = prune(drawn(seed), fast[name], 0.1, batches=[batch], seed=seed)
        masks[name, seed] = mask
        if name != "random":  # shuffled, it would be random again
            masks[f"{name}, shuffled", seed] = shuffled(mask, within="layer", seed=seed)
print(len(masks), "masks, of connections:", {mask.count for mask in masks.values()})

# %%
settings = {"rule": "static", "density": 0.1, "epochs": 10, "model_settings": {"hidden": (100, 100)}}
runs, experiments = [], []
for (method, seed), mask in masks.items():
    begin = {
        "own": sk.sparsify(drawn(seed), mask, init="dense"),
        "own, fitted": sk.sparsify(drawn(seed), mask),
        "new, fitted": sk.sparsify(drawn(seed + 1000), mask),
    }
    for values, sparse in begin.items():
        runs.append({"method": method, "values": values, "seed": seed})
        experiments.append(digits_mlp(**settings, seed=seed, init_from=save_initial_state("runs", sparse)))
histories = run_all(experiments, "runs", progress=False)
runs = pd.DataFrame(runs).assign(accuracy=[one.last("test accuracy") for one in histories])
print(len(runs), "trainings")

# %% tags=["nbval-ignore-output"]
order = ["own", "own, fitted", "new, fitted"]
summary = runs.groupby(["method", "values"], sort=False)["accuracy"].agg(["mean", "sem"]).unstack().swaplevel(axis=1)
(100 * summary[order]).round(1)

# %% [markdown]
# *The table gives the test accuracy in per cent, mean and standard error of six seeds.* Is the claim reproduced? We
# assess it as in [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb). It is reproduced if the
# mean difference lies surely above what is asked for, here above a loss of one point. It is contradicted if it lies
# surely below.

# %% tags=["nbval-ignore-output"]
by_method = runs.pivot(index=["values", "seed"], columns="method", values="accuracy")
for values in order:
    one = by_method.loc[values]
    for name in ("snip", "synflow"):
        text = f"{values} values: {name} loses less than a point when shuffled"
        print(analysis.assess_claim(text, one[f"{name}, shuffled"], one[name], above=-0.01))
        print(analysis.assess_claim(f"{values} values: {name} beats random masks", one[name], one["random"]))

# %% jupyter={"source_hidden": true}
mean = runs.groupby(["method", "values"])["accuracy"].mean()
for name in ("snip", "synflow"):
    lost = {values: mean[name, values] - mean[f"{name}, shuffled", values] for values in order}
    assert lost["own"] > 0.4
    assert max(lost["own, fitted"], lost["new, fitted"]) < 0.15

# %% [markdown]
# *Nearly all that shuffling destroys is the size of the values. SNIP and SynFlow multiply with $\lvert w\rvert$, so
# they keep the largest weights. The weights at other positions are too small for a unit that has lost nine of ten
# inputs. So signals shrink from layer to layer, and ten epochs are not enough to mend it. Random masks with own values
# fail for the same reason. If we fit the values, shuffling still costs six to seven points, and with new values about
# four. That much the positions are worth here.* So the claim, that positions do not matter, is contradicted on digits
# in all three ways. How much they matter depends on the initialisation more than on the score.

# %% [markdown]
# ## Exercise 1: SNIP (5 minutes)
#
# You have seen what SNIP keeps, so write it. `weight` is a layer's weight, and `gradients` holds one gradient per
# sample, each of the same shape. Return SNIP's score of every weight, the magnitude of weight times **mean** gradient.


# %%
def snip_score(weight: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


widgets.check(snip_score)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def snip_score(weight, gradients):
#     return (weight * gradients.mean(0)).abs()
# ```
# If you took magnitudes first, you would get another score, under which nothing cancels out.
# </details>

# %% [markdown]
# ## Exercise 2: how far does it go? (5 minutes)
#
# Now you experiment. Go back to the figure at the top and find the largest compression at which at least half of the
# connections still lie on a path, with any score but SynFlow. The next cell reads what the figure shows, so run it
# after each move.

# %% tags=["nbval-ignore-output"]
print(explorer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# At 64 times, one other score still has more than half of its connections on a path, and its name is in the figure. At
# 128 times none has.
# </details>

# %% [markdown]
# ## Exercise 3: where two scores part (5 minutes)
#
# Next you look for the point where one score fails and another does not. The check takes the network of the figure,
# masks it by magnitude and by SNIP, and counts. Find a compression at which magnitude leaves a whole layer empty, while
# SNIP still has 100 connections or more on a path. Write it in place of `None`.

# %% tags=["nbval-ignore-output"]
parting_compression = None

widgets.check(parting_compression=parting_compression)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Magnitude empties five of six layers long before SNIP loses its last path. A score that knows the loss protects layers
# whose weights are small.
#
# ```python
# parting_compression = 64
# ```
# </details>

# %% [markdown]
# ## Exercise 4: how many examples does SNIP need? (5 minutes)
#
# A score that looks at examples depends on which ones it sees. The check draws two sets of examples that have none in
# common, and takes a SNIP mask of 10 % from each. From how many examples of each class on do the two masks share three
# connections in five? Find a number that is enough.

# %% tags=["nbval-ignore-output"]
steady_examples = None

widgets.check(steady_examples=steady_examples)

# %% [markdown]
# <details><summary>Solution</summary>
#
# With the usual ten examples of each class the two masks share about half of their connections. So a SNIP mask is to a
# good part a matter of which examples you took.
#
# ```python
# steady_examples = 40
# ```
# </details>

# %% [markdown]
# ## What we saw
#
# We close with what was measured above, and with what could mislead. The second point comes from the optional part.
#
# - A score before training is one more pass through the network. SNIP and GraSP see where there are signals, and
#   SynFlow sees only paths.
# - A global ranking of all weights can empty some layers while others have plenty. Scores without signs, whose sum is
#   conserved, prevent it when they are taken in many rounds. In one round SynFlow cut a network that had 1,374
#   connections left for six layers. In 20 rounds SNIP, with biases, cut one that had 687.
# - Shuffling a mask within its layers costs 55 to 60 points with the weights' own values, and four to seven points with
#   values that fit the sparse network (n = 6, and t between -4.2 and -15.6 against a loss of one point).
#
# Some things could mislead us. This network has no batch norm, but those of the papers do. Batch norm makes the scale
# of weights irrelevant, and with it our largest effect. It may also be why rounds help SNIP there, with or without
# biases. Digits have blank pixels, so here a mask can gain by knowing the data. Compressions of a thousand show how
# things break and are not for use. We have six seeds, ten epochs, and one density.

# %% [markdown]
# # Optional: why layers collapse
#
# From here on everything is optional. We ask what breaks a network whose connections were chosen by a score, and what
# prevents it.

# %% [markdown]
# ## Layer collapse
#
# First we draw the curves of the figure at the top once more, with a colour for each score. They show the share of
# connections that lie on a path. All others compute nothing that arrives.

# %% tags=["nbval-ignore-output"]
plots.plot_useful(table)

# %% [markdown]
# *The lines of `taylor` and `snip` coincide, because they rank alike on a single batch.* Now we look at all scores and
# layers at once, with a strip for each layer. Where a strip is crossed, the layer is empty, and the
# network is cut in two.

# %% tags=["nbval-ignore-output"]
plots.plot_collapse_map(table)

# %% [markdown]
# Next we look at two scores closely. The figures show how many connections each layer keeps. Hollow markers are
# connections on a path, where these are fewer.

# %% tags=["nbval-ignore-output"]
plots.plot_layer_collapse(table, score="snip")

# %% tags=["nbval-ignore-output"]
plots.plot_layer_collapse(table, score="synflow")

# %% [markdown]
# Next we ask how far each score can shrink the network. `compression` is the largest one tried at which every layer has
# a connection. `connected` is the largest one at which a path leads through, and `first_empty` is the layer that breaks
# first. Beyond 7,328 nothing is possible, because six layers need six connections.

# %% tags=["nbval-ignore-output"]
critical = analysis.critical_compression(table)
critical

# %% jupyter={"source_hidden": true}
assert critical.loc["synflow", "connected"] == 4096
assert critical.loc["snip", "compression"] < 4096
assert critical.loc[["iterative-snip", "force"], "compression"].max() < 100

# %% [markdown]
# *Random masks with ERK keep something in every layer and are cut all the same, because their connections do not meet.
# Magnitude compares the magnitudes of layers that began with different scales. And `iterative-snip` and `force` break
# **sooner** than plain SNIP, though those who proposed them found that rounds protect.* Are twenty rounds too few? We
# try one, five and sixty, at compressions of 16 to 256.

# %% tags=["nbval-ignore-output"]
by_rounds = {}
for count in (1, 5, 60):
    counted = {name: replace(scores[name], rounds=count) for name in ("iterative-snip", "force")}
    topologies = analysis.prunings(model, counted, [0.5**halving for halving in range(4, 9)], batches=[few])
    by_rounds[count] = analysis.critical_compression(analysis.collapse_table(topologies))["connected"]
by_rounds = pd.DataFrame(by_rounds).rename_axis(columns="rounds")
by_rounds

# %% jupyter={"source_hidden": true}
assert (by_rounds[60] < by_rounds[1]).all()

# %% [markdown]
# *The table gives the largest compression at which a path leads through. Rounds harm here, and more rounds do not
# help.* Why is that so?

# %% [markdown]
# ## A law of conservation
#
# Now we look for the reason. We take a network with ReLU and without biases, and multiply all weights of one layer by
# $1 + \varepsilon$. The outputs grow by the same factor, whichever layer it was. So the sum of $w\,\partial L/\partial
# w$ over a layer is **the same for all layers**, for every function $L$ of the outputs. Biases break the law, because
# they do not grow with the layers before them. The table gives these sums with their signs, those of their magnitudes,
# which is SNIP, and those of SynFlow. Each is relative to the largest in its column.

# %%
sums = {}
for bias in (False, True):
    torch.manual_seed(0)
    fresh = sk.models.build(**network, hidden=(96,) * 5, bias=bias)
    sums["with biases" if bias else "without biases"] = analysis.conservation_table(fresh, [few])
sums = pd.concat(sums, axis=1)
(sums / sums.abs().max()).round(2)

# %% [markdown]
# Next we read the table. SynFlow has no signs and leaves biases out, so its sums are equal in every network. That has a
# consequence. A layer's connections share the layer's sum, so if few are left, each has a large share. **The last
# connection of a layer scores as much as any other layer altogether**, and so it stays, provided that we score again
# when few are left. A single round has only the scores of the whole network, where a layer with many weights has small
# ones.
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

# %% jupyter={"source_hidden": true}
gain = connected["without"] / connected["with biases"]
assert gain[["iterative-snip", "force"]].min() > 10

# %% [markdown]
# *With biases, the later layers can live on constants. Round after round the first layers matter less, until they are
# empty. Without biases, all that the loss feels has come through every layer, so rounds protect as promised.*

# %% [markdown]
# ## Exercise 5: SynFlow (10 minutes)
#
# Now you write the score that holds out longest. A network has two layers without biases, `first` of shape (hidden,
# inputs) and `second` of shape (outputs, hidden). Return SynFlow's score of every weight of the first layer. You need
# no gradient for it. Which paths lead through a weight?


# %%
def synflow_first(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


widgets.check(synflow_first)

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
# ## Check yourself
#
# Answer these three before you open the answers.
#
# - A layer is twice as wide as the others. Does one-round SynFlow empty it first, or last?
# - Why do 172 connections of SNIP, spread over six layers, have no path in common?
# - With `min_per_layer=1`, no layer is ever empty. Is the problem solved? (Look at *On a path*.)
#
# <details><summary>Answers</summary>
#
# - First. Its sum is that of the other layers, so each of its many weights has a smaller share.
# - SNIP asks what the loss feels, one weight at a time. Nothing makes it keep both a unit's inputs and its outputs.
# - No. A single connection in a layer is of use only if its own input and output have one too.
# </details>
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
