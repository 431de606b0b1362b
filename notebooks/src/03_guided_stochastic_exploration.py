# %% [markdown]
# # 3. Guided stochastic exploration
#
# **40 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in under a minute
#
# You will learn
#
# - how GSE finds positions with large gradients without ever computing all gradients
# - what guides its sampling, how much a sample finds, and how little of RigL's choice it needs
# - why its cost grows with the width of a layer, while RigL's grows with the square

# %% [markdown]
# ## Why
#
# RigL trains a sparse network. But every so often it computes the dense gradient, which covers **all** positions, to
# see where to grow. For a layer of 65,536 × 65,536 that gradient alone takes 16 GiB. So RigL is sparse most of the
# time, but not always.
#
# **Guided stochastic exploration** (GSE) draws a random subset of the missing positions, about as many as there are
# connections. It computes gradients for these only and grows the best of them. Then it drops the weakest connections.
# If that works, training never needs anything as large as the dense layer. So we ask *how much a random subset finds,
# whether we can guide it, and whether it matters*.

# %% [markdown]
# ## Set up

# %%
import inspect
from itertools import islice

import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.rules import AllMissing, Draw, GraBo, GraEst, Uniform

torch.set_num_threads(1)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "A layer has 2 % of its connections. GSE draws as many random positions as there are connections, each as likely "
    "as any other. Of the positions where RigL would grow, how many are among those drawn?",
    ["about 2 in 100", "about 20 in 100", "about half", "nearly all"],
    0,
    "Draws know nothing of gradients, so they hit the best positions as often as all others, about 2 in 100. What that "
    "does to accuracy is another question, and this notebook measures it.",
)
guess

# %% [markdown]
# ## A network to look at
#
# We need a network to look at, so an MLP with 2 % of its connections learns digits for 200 steps. It never had dense
# weights. We build it on the `meta` device, so it gets values for its connections only, drawn for the fan-in that they
# really have. Then one batch goes forward and backward, while we record the inputs and the output gradients of each
# layer.

# %%
data = sk.datasets.load("digits")
with torch.device("meta"):
    plain = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=(256, 256))
torch.manual_seed(0)
model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.02, seed=0))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
batches = sk.datasets.stream(data, 64, seed=0)
for _ in sk.training(model, optimizer, islice(batches, 200), nn.functional.cross_entropy, sk.rules.Static()):
    pass
inputs, labels = next(batches)
with sk.capture_io(model) as io:
    nn.functional.cross_entropy(model(inputs), labels).backward()
layers = sk.views(model, io)
print({name: view.topology.count for name, view in layers.items()})

# %% [markdown]
# ## Explore: where candidates are drawn
#
# Each image shows one layer, with a row per output and a column per input. Connections are dark, and drawn candidates
# are pale blue. The positions where RigL would grow are green where they were drawn and vermillion where they were
# missed. The bars are the **guiding distribution**, because a position is drawn by drawing its input and its output.
#
# 1. Choose layer `fc1` and guide **grabo**. What do the bars on top show? (`fc1` reads 8 × 8 pixels, line by line.)
# 2. Now choose **uniform**. What became of the recall? Move **Subset** from 0.1 to 4. How does the recall grow?
# 3. |S| / |A| is the number of candidates per connection. It is lower for `grabo`, though there are as many draws. Why?

# %% tags=["nbval-ignore-output"]
explorer = widgets.GuidanceExplorer(layers, guide="grabo")
explorer

# %% [markdown]
# *The table gives the same for three guides in numbers. `duplicates` is the share of draws that repeat another.
# `input_entropy` and `output_entropy` say how even the bars are, and 1 means all alike.*

# %% tags=["nbval-ignore-output"]
guides = {"uniform": Uniform(), "grabo": GraBo(), "graest": GraEst()}
pd.concat({name: analysis.guidance_table(layers, guide) for name, guide in guides.items()}).round(2)

# %% [markdown]
# ## How it works
#
# The gradient of a connection is a sum over the samples $n$ of the batch, $\sum_n x_n g_n$. Here $x$ is the input's
# value and $g$ is the gradient at the output. Three guides ask for less than that sum:
#
# | guide | input | output | idea |
# |---|---|---|---|
# | uniform | 1 | 1 | know nothing |
# | GraBo | $\sum_n \lvert x_n\rvert$ | $\sum_n \lvert g_n\rvert$ | their product is a **bound** of the gradient |
# | GraEst | $\lvert\sum_n s_n x_n\rvert$ | $\lvert\sum_n s_n g_n\rvert$ | random signs $s_n$: **estimates** it |
#
# Each guide needs one number per unit, not one per position. This is all the code of GraBo:

# %%
print(inspect.getsource(GraBo.guide))

# %% [markdown]
# You know the rest of the rule. GSE is `DropGrow` with other candidates, and it grows before it drops:

# %%
print(sk.rules.GSE(stop=855, every=25))
print(sk.rules.RigL(stop=855, every=25))

# %% [markdown]
# ## How many candidates remain
#
# Draws repeat, and some hit positions that are taken. With density $d$ and $\gamma$ draws per connection (`subset`),
# chance leaves
#
# $$\frac{|S|}{|A|} = \frac{(1-d)\,(1-e^{-\gamma d})}{d}$$
#
# candidates per connection. Move the slider. The squares are counts in random layers of 300 × 300.

# %% tags=["nbval-ignore-output"]
ratios = widgets.FigureExplorer(
    lambda subset: plots.plot_sampled_ratio(analysis.sampled_ratios(subset)),
    [widgets.Field(name="subset", kind="range", label="Subset", low=0.25, high=4, step=0.25)],
    {"subset": 1.0},
)
ratios

# %%
table = pd.concat({subset: analysis.sampled_ratios(subset) for subset in (0.25, 1.0, 4.0)})
gap = (table["measured"] / table["expected"] - 1).abs().max()
print("measured and formula differ by less than 5 %:", bool(gap < 0.05))

# %% [markdown]
# ## Exercise 1: the formula (5 minutes)
#
# Write this formula as code. What is left of it at small densities, and what does that say about the cost of GSE?


# %%
def sampled_ratio(density: float, subset: float) -> float:
    raise NotImplementedError


check_ratio = widgets.Check(
    [((0.05, 1.0), 0.926641), ((0.3, 2.0), 1.052772), ((1.0, 1.0), 0.0)],
    hint="A position is drawn at least once with probability 1 - exp(-subset * density), and must not be taken.",
    tolerance=1e-4,
)
check_ratio(sampled_ratio)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def sampled_ratio(density, subset):
#     return (1 - density) * (1 - 2.718281828459045 ** (-subset * density)) / density
# ```
# At small densities only `subset` is left. Hardly any draw repeats, and growth costs as many gradients as there are
# draws.
# </details>
#
# ## Exercise 2: a bound (5 minutes)
#
# `x` holds a layer's inputs, one row per sample, and `g` holds the gradients of its outputs. Return GraBo's bound of
# the magnitude of every position's gradient, with a row per output.


# %%
def gradient_bound(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


check_bound = widgets.Check(
    [
        ((torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0]])), torch.tensor([[3.0, 6.0]])),
        ((torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0, 2.0], [1.0, 0.0]])), torch.tensor([[4.0, 4.0]]).T),
    ],
    hint="Take magnitudes first and sum after, because what cancels out in the gradient must not do so in its bound.",
)
check_bound(gradient_bound)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def gradient_bound(x, g):
#     return g.abs().sum(0)[:, None] * x.abs().sum(0)[None, :]
# ```
# With one sample the bound is exact. With many samples it only grows, while gradients of different samples cancel out.
# </details>

# %% [markdown]
# ## Does it matter?
#
# Now we train Static, SET, RigL and GSE from the same initial state with the same 2 % of connections. They share the
# schedule too, which rewires every 25 steps, 30 % at first. Each trains for 12 epochs with three seeds. GSE runs with
# three subsets and with two guides.

# %%
gse = {"GSE": Uniform(), "GSE ×¼": Uniform(subset=0.25), "GSE ×4": Uniform(subset=4.0)}
gse |= {"GraBo": GraBo(), "GraEst": GraEst()}
methods = {"Static": ("static", {}), "SET": ("set", {"drop_fraction": 0.3}), "RigL": ("rigl", {"drop_fraction": 0.3})}
methods |= {name: ("gse", {"drop_fraction": 0.3, "candidates": candidates}) for name, candidates in gse.items()}
rows = []
for method, (rule, settings) in methods.items():
    for seed in range(3):
        experiment = digits_mlp(rule=rule, density=0.02, epochs=12, seed=seed, rule_settings=settings)
        accuracy = sk.run(experiment, "runs", progress=False).last("test accuracy")
        rows.append({"method": method, "seed": seed, "accuracy": accuracy})
runs = pd.DataFrame(rows)
print(len(runs), "trainings")

# %% tags=["nbval-ignore-output"]
accuracy = runs.pivot(index="seed", columns="method", values="accuracy")[list(methods)]
(100 * accuracy.agg(["mean", "sem"]).T).round(1)

# %% [markdown]
# *The table gives the test accuracy in per cent, mean and standard error of three seeds.*
#
# The paper claims that uniform draws do as well as RigL, and as well as guided ones. We assess all claims by one rule.
# A claim counts as reproduced if the mean difference lies surely above what it asks for, and as contradicted if it lies
# surely below. Student's t says what "surely" means for so many seeds, namely 4.3 standard errors for our three, and
# 2.3 for ten. Everything between is undecided.

# %% tags=["nbval-ignore-output"]
print(analysis.assess_claim("GSE beats SET", accuracy["GSE"], accuracy["SET"]))
print(analysis.assess_claim("GSE loses less than a point to RigL", accuracy["GSE"], accuracy["RigL"], above=-0.01))
print(analysis.assess_claim("GSE loses less than a point to GraBo", accuracy["GSE"], accuracy["GraBo"], above=-0.01))
print(
    analysis.assess_claim("GSE ×4 loses less than a point to RigL", accuracy["GSE ×4"], accuracy["RigL"], above=-0.01)
)

# %%
print("GSE beats SET in every seed:", bool((accuracy["GSE"] > accuracy["SET"]).all()))

# %% [markdown]
# ## Recall against accuracy
#
# How much of RigL's choice does a method need to see? We measure recall in the network from above, once for each kind
# of candidates. SET grows at whatever it draws.

# %% tags=["nbval-ignore-output"]
candidates = {"SET": Draw(), "RigL": AllMissing()} | gse
recall = {name: analysis.network_recall(layers, one, fraction=0.3) for name, one in candidates.items()}
compared = runs[runs["method"].isin(recall)]
mean = accuracy.mean()
for name in ("GSE", "GSE ×4"):
    share = (mean[name] - mean["SET"]) / (mean["RigL"] - mean["SET"])
    print(f"{name} sees {recall[name]:.0%} of RigL's choice and goes {share:.0%} of the way from SET to RigL")
plots.plot_recall(compared.assign(recall=compared["method"].map(recall)))

# %% [markdown]
# *Accuracy rises much faster than recall. Somewhere among a few hundred random positions there is one with a fair
# gradient, and that is much better than a position taken blindly. The very best is hardly better than a good one.
# Besides, every rewiring is a new chance, so what one does not draw, the next may.*

# %% [markdown]
# ## What it costs
#
# A layer gets wider and keeps 16 connections per output. How long does each rule take to choose the new topology? We
# measure it on your machine:

# %% tags=["nbval-ignore-output"]
rules = {"gse": sk.rules.GSE(stop=1000), "rigl": sk.rules.RigL(stop=1000)}
seconds = analysis.update_seconds(rules, [1024, 2048, 4096, 8192])
for name in seconds:
    print(f"{name}: time grows with width to the power of {analysis.log_log_slope(seconds.index, seconds[name]):.2f}")
plots.plot_update_times(seconds)

# %% [markdown]
# *RigL looks at every missing position, so it looks at four times as many in a layer twice as wide. GSE looks at as
# many positions as there are connections. Where its slope is below one, fixed costs of a few milliseconds still count.*
#
# How far can this take you? `sparsekit train wide-mlp` trains an MLP 64-65536-65536-10 with GSE and about 20
# connections per neuron. Its dense weights would need 16 GiB, and 48 GiB to train.

# %% [markdown]
# ## What we saw
#
# - A uniform sample hits as many of the best positions as chance says, a few in a hundred. Still it gains much of what
#   RigL gains over SET. The numbers above assess whether it gains all of it.
# - Guides raise recall many times over, because some inputs and outputs matter more than others (blank pixels never
#   do). They also draw the same positions again and again.
# - RigL's update grows with the square of the width, and GSE's grows with the number of connections.
#
# Some things could mislead us. Digits have pixels that are always blank, which is just what a guide finds. The paper,
# on images and large networks, finds no benefit of guides. Twelve epochs leave little time for second chances. We
# measured recall once, in one network. Three seeds are few, and "undecided" says just that. Your machine may have done
# other things during the timing, so run the cell again before you believe a slope.

# %% [markdown]
# ## Check yourself
#
# - Why does GSE grow before it drops, and not the other way round?
# - With `subset=float("inf")` GSE considers every missing position. Is it RigL then? (Compare the two rules printed
#   above.)
# - GraBo is exact for a batch of one. Why is it a poor estimate for a batch of a thousand?
#
# ## Go further
#
# - Repeat *Does it matter?* with 60 epochs, or at a density of 0.05. Does the gap to RigL close?
# - Run `sparsekit train wide-mlp --epochs 1`, and watch its memory.
#
# ## References
#
# - M. Heddes et al. (2024), *Always-Sparse Training by Growing Connections with Guided Stochastic Exploration*,
#   arXiv:2401.06898: GSE, GraBo, GraEst.
# - U. Evci et al. (2020), *Rigging the Lottery: Making All Tickets Winners*, arXiv:1911.11134: RigL.
# - D. C. Mocanu et al. (2018), *Scalable training of artificial neural networks with adaptive sparse connectivity
#   inspired by network science*, arXiv:1707.04780: SET.
# - N. Alon, Y. Matias and M. Szegedy (1999), *The space complexity of approximating the frequency moments*: the sketch
#   behind GraEst.
