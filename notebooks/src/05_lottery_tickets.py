# %% [markdown]
# # 5. Lottery tickets
#
# **40 minutes** · needs: [04_masks_before_training](04_masks_before_training.ipynb) · runs in about a minute
#
# You will learn
# - how iterative magnitude pruning finds a sparse network that trains as well as the dense one, and what it costs;
# - what rewinding is, and why values and mask belong together;
# - which controls a claim about tickets needs: new values, shuffled masks, bare signs;
# - whether two lotteries draw the same ticket.

# %% [markdown]
# ## Why
#
# Masks drawn before training, however clever, lose accuracy at 2 % of the weights. Train the dense network, throw away
# its smallest weights, and **go back in time**: give the weights that are left the values that they had at the start,
# and train again. Frankle and Carbin found that such a *ticket* reaches the accuracy of the dense network, and that the
# same mask with new random values does not. The questions here: *does it, on a network that trains in a second? And
# what is it that the ticket knows: the mask, the values, their signs?*

# %% [markdown]
# ## Set up

# %%
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import torch

from sparsekit import analysis, plots, widgets
from sparsekit.experiments.lottery import Lottery, run_control, run_lottery
from sparsekit.experiments.recipes import digits_mlp

torch.set_num_threads(1)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "After eight rounds 1.7 % of the weights are left. Trained from their old first values, they reach some accuracy. "
    "Now the same mask with new random values: what happens to the accuracy?",
    ["it is the same", "it falls by a few points", "it falls by about half", "it falls to chance"],
    2,
    "The mask was found for the old values. With new ones this few connections hardly get going in so short a "
    "training. How much is lost, and what the mask alone is worth, is measured below.",
)
guess

# %% [markdown]
# ## A lottery
#
# Level 0 is the dense network. Each level removes 40 % of the connections that are left: those with the smallest values
# at the end of training, in one ranking over all layers. Then everything goes back to step `rewind_step`: values of
# the connections, biases, the optimizer's memory, the order of the data. Every level is a run with a folder of its own,
# so a lottery that is interrupted goes on where it was.

# %%
lottery = Lottery(experiment=digits_mlp(rule="dense", epochs=12), levels=8, prune=0.4)
history = run_lottery(lottery, "runs", progress=False)
counts = [topology.count for topology in history.topologies]
print(counts)

# %% [markdown]
# ## Exercise 1: how many are left (5 minutes)
#
# A network has `size` weights, and each level removes the share `prune` of what is left. How many connections has a
# level? Round once, at the end, so that nothing drifts.


# %%
def connections_at(level: int, size: int, prune: float) -> int:
    raise NotImplementedError


check_level = widgets.Check(
    [((0, 1000, 0.2), 1000), ((1, 1000, 0.2), 800), ((16, 84480, 0.2), 2378), ((8, 84480, 0.4), 1419)],
    hint="What stays after one level is the share 1 - prune, and after several?",
)
check_level(connections_at)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def connections_at(level, size, prune):
#     return round(size * (1 - prune) ** level)
# ```
# </details>
#
# ## Explore: what is left
#
# Move through the levels. Masks are nested: what is gone stays gone. Watch the first layer: which pixels does it keep?

# %%
layers = history.topologies
accuracies = [level.last("test accuracy") for level in history.levels]


def picture(level: int):
    fig = plots.plot_masks(layers[level]).figure
    ax = fig.axes[0]
    fig.suptitle(f"level {level}: {layers[level].count:,} connections, test accuracy {accuracies[level]:.1%}")
    return ax


# %% tags=["nbval-ignore-output"]
levels = widgets.FigureExplorer(
    picture, [widgets.Field(name="level", kind="range", label="Level", low=0, high=8)], {"level": 4}
)
levels

# %%
nested = all((after[name] - before[name]).count == 0 for before, after in pairwise(layers) for name in after)
print("every mask lies within the one before:", nested)

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for ax, level in zip(axes, (0, 4, 8), strict=True):
    plots.plot_input_map(layers[level]["fc1"], (8, 8), ax)
    ax.set_title(f"level {level}")
plt.show()

# %% [markdown]
# *How many connections each pixel of the 8 × 8 picture has. The rims, white in nearly all pictures, go first.*

# %% [markdown]
# ## A ticket against its controls
#
# A ticket is a mask *and* values. Each control changes one thing and trains the last level again, with three seeds:
# - **reinit**: the same mask, new random values;
# - **shuffle**: as many connections in each layer, at random places;
# - **signs**: the same mask, of the old values the signs only.

# %%
rows, drawn = [], []
for seed in range(3):
    own = replace(lottery, experiment=digits_mlp(rule="dense", epochs=12, seed=seed))
    drawn.append(run_lottery(own, "runs", progress=False))
    table = drawn[seed].frame().assign(method="ticket").rename(columns={"test accuracy": "accuracy"})
    rows += [table.reset_index().assign(seed=seed)]
    for control in ("reinit", "shuffle", "signs"):
        accuracy = run_control(own, control, "runs", level=8, progress=False).last("test accuracy")
        one = {"method": control, "level": 8, "density": table["density"][8], "seed": seed, "accuracy": accuracy}
        rows.append(pd.DataFrame([one]))
runs = pd.concat(rows)

# %% tags=["nbval-ignore-output"]
last = runs[runs["level"] == 8].pivot(index="seed", columns="method", values="accuracy")
print((100 * last.agg(["mean", "sem"]).round(3)).T.to_string())
plots.plot_accuracy_density(runs)

# %% [markdown]
# *Test accuracy of the tickets of all levels and of the last one's controls, mean and standard error of three seeds.*

# %% tags=["nbval-ignore-output"]
for control in ("reinit", "shuffle", "signs"):
    print(
        analysis.assess_claim(f"the ticket beats {control} at level 8", last["ticket"].tolist(), last[control].tolist())
    )

# %% [markdown]
# ## Do two lotteries draw the same ticket?
#
# Three seeds, three dense networks, three tickets of one size. If there was *the* winning ticket, their masks would
# overlap. Two random masks of density $d$ overlap by chance in $d / (2 - d)$ of their union; where layers differ in
# density, by somewhat more.

# %%
tickets = [one.topologies[4] for one in drawn]
alike, chance = analysis.topology_similarity_matrix(tickets, measure="iou")

# %% tags=["nbval-ignore-output"]
plots.plot_comparison_matrix(alike, chance, names=["seed 0", "seed 1", "seed 2"])

# %%
print("times the overlap of chance:", round(float((alike / chance)[0, 1]), 1))

# %% [markdown]
# *Hidden units have no names: unit 7 of one network may do what unit 90 does in another, so masks overlap no more than
# layers of such densities would by chance, even where the networks do the same. What they agree on is which pixels
# matter.*

# %%
pixels = torch.stack([ticket["fc1"].fan_out().double() for ticket in tickets])
print("correlation of connections per pixel:", round(float(torch.corrcoef(pixels)[0, 1]), 2))

# %% [markdown]
# ## What we saw
#
# - Eight trainings, each of a smaller network than the one before, leave a ticket of 1.7 % of the weights that gives up
#   few points of the dense network's accuracy.
# - Its values matter, and of them most of all the signs; without them the mask is worth little at this size.
# - Whether it beats its controls at this size is printed above, with three seeds: *reproduced*, *contradicted* or
#   *undecided*.
# - Different seeds draw different tickets; they agree about pixels, not about hidden units.
#
# Limits: three seeds and twelve epochs. The ticket costs more training than the dense network, so it is no way to save
# time; it says what could have been trained. In larger networks going back to step 0 is too early, and a small
# `rewind_step` is needed (Frankle et al. 2020); in a network as small as this one step 0 does.

# %% [markdown]
# ## Check yourself
#
# - Why is the optimizer's memory set back as well?
# - A shuffled mask keeps the density of every layer. What does it tell you if it trains as well as the ticket?
# - What would overlap of masks say if hidden units could be matched first?
#
# ## Go further
#
# - `Lottery(..., rewind="rate")` keeps the trained values and sets back only the learning rate. Is it better?
# - `rewind_step=19` goes back to the end of the first epoch.
# - `sparsekit compare` sets masks before, during and after training side by side.
#
# ## References
#
# - J. Frankle and M. Carbin (2019), *The Lottery Ticket Hypothesis*, arXiv:1803.03635.
# - J. Frankle et al. (2020), *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, arXiv:1912.05671.
# - A. Renda et al. (2020), *Comparing Rewinding and Fine-tuning in Neural Network Pruning*, arXiv:2003.02389.
# - H. Zhou et al. (2019), *Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask*, arXiv:1905.01067.
