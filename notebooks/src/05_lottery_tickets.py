# %% [markdown]
# # 5. Lottery tickets
#
# **40 minutes** · needs: [04_masks_before_training](04_masks_before_training.ipynb) · runs in about a minute
#
# You will learn
#
# - how iterative magnitude pruning finds a sparse network that trains as well as the dense one, and what it costs
# - what rewinding is, and why values and mask belong together
# - which controls a claim about tickets needs, namely new values, shuffled masks and bare signs
# - whether two lotteries draw the same ticket

# %% [markdown]
# ## Why
#
# Masks drawn before training, however clever, lose accuracy at 2 % of the weights. So we try another way. We train the
# dense network, remove its smallest weights, and **go back in time**. The weights that are left get the values that
# they had at the start, and we train again. Frankle and Carbin found that such a *ticket* reaches the accuracy of the
# dense network, and that the same mask with new random values does not. We ask *whether it does so on a network that
# trains in a second*. And *what does the ticket know, the mask, the values, or their signs?*

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
    "After eight rounds 1.7 % of the weights are left. Trained from their old initial weights, they reach some "
    "accuracy. Now we give the same mask new random values. What happens to the accuracy?",
    ["it is the same", "it falls by a few points", "it falls by about half", "it falls to chance"],
    2,
    "The mask was found for the old values. With new ones, so few connections hardly get going in so short a "
    "training. Below we measure how much is lost, and what the mask alone is worth.",
)
guess

# %% [markdown]
# ## A lottery
#
# Level 0 is the dense network. Each level removes 40 % of the connections that are left, those with the smallest
# magnitudes at the end of training, in one global ranking. Then we rewind everything to step `rewind_step`. This covers
# the values of the connections, the biases, the optimizer state and the order of the data. Every level is a run with a
# folder of its own, so you can interrupt a lottery and it resumes where it was.

# %%
lottery = Lottery(experiment=digits_mlp(rule="dense", epochs=12), levels=8, prune=0.4)
history = run_lottery(lottery, "runs", progress=False)
counts = [topology.count for topology in history.topologies]
print(counts)

# %% [markdown]
# ## Exercise 1: how many are left (5 minutes)
#
# A network has `size` weights, and each level removes the share `prune` of what is left. How many connections does a
# level have? Round once, at the end, so that nothing drifts.


# %%
def connections_at(level: int, size: int, prune: float) -> int:
    raise NotImplementedError


check_level = widgets.Check(
    [((0, 1000, 0.2), 1000), ((1, 1000, 0.2), 800), ((16, 84480, 0.2), 2378), ((8, 84480, 0.4), 1419)],
    hint="After one level the share 1 - prune stays. What stays after several?",
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
# Move through the levels. Masks are nested, so a removed connection never regrows. Watch the first layer. Which pixels
# does it keep?

# %%
layers = history.topologies
accuracies = [level.last("test accuracy") for level in history.levels]


def draw_level(level: int):
    fig = plots.plot_masks(layers[level]).figure
    ax = fig.axes[0]
    fig.suptitle(f"level {level}: {layers[level].count:,} connections, test accuracy {accuracies[level]:.1%}")
    return ax


# %% tags=["nbval-ignore-output"]
levels = widgets.FigureExplorer(
    draw_level, [widgets.Field(name="level", kind="range", label="Level", low=0, high=8)], {"level": 4}
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
# *The maps show how many connections each pixel of the 8 × 8 image has. The rims, which are white in nearly all images,
# go first.*

# %% [markdown]
# ## A ticket against its controls
#
# A ticket is a mask *and* values. Each control changes one thing and trains the last level again, with three seeds.
#
# - **reinit** has the same mask and new random values.
# - **shuffle** has as many connections in each layer, at random positions.
# - **signs** has the same mask, but keeps only the signs of the old values.

# %%
rows, histories = [], []
for seed in range(3):
    seeded = replace(lottery, experiment=digits_mlp(rule="dense", epochs=12, seed=seed))
    histories.append(run_lottery(seeded, "runs", progress=False))
    table = histories[seed].frame().assign(method="ticket").rename(columns={"test accuracy": "accuracy"})
    rows += [table.reset_index().assign(seed=seed)]
    for control in ("reinit", "shuffle", "signs"):
        accuracy = run_control(seeded, control, "runs", level=8, progress=False).last("test accuracy")
        one = {"method": control, "level": 8, "density": table["density"][8], "seed": seed, "accuracy": accuracy}
        rows.append(pd.DataFrame([one]))
runs = pd.concat(rows)

# %% tags=["nbval-ignore-output"]
last = runs[runs["level"] == 8].pivot(index="seed", columns="method", values="accuracy")
print((100 * last.agg(["mean", "sem"]).round(3)).T.to_string())
plots.plot_accuracy_density(runs)

# %% [markdown]
# *The figure shows the test accuracy of the tickets of all levels and of the last one's controls, mean and standard
# error of three seeds.*

# %% tags=["nbval-ignore-output"]
for control in ("reinit", "shuffle", "signs"):
    print(
        analysis.assess_claim(f"the ticket beats {control} at level 8", last["ticket"].tolist(), last[control].tolist())
    )

# %% [markdown]
# ## Do two lotteries draw the same ticket?
#
# Three seeds give three dense networks and three tickets of one size. If there were *the* winning ticket, their masks
# would overlap. Two random masks of density $d$ overlap by chance in $d / (2 - d)$ of their union, and by somewhat more
# where layers differ in density.

# %%
tickets = [one.topologies[4] for one in histories]
alike, chance = analysis.topology_similarity_matrix(tickets, measure="iou")

# %% tags=["nbval-ignore-output"]
plots.plot_comparison_matrix(alike, chance, names=["seed 0", "seed 1", "seed 2"])

# %%
print("times the overlap of chance:", round(float((alike / chance)[0, 1]), 1))

# %% [markdown]
# *Hidden units have no names, so unit 7 of one network may do what unit 90 does in another. Therefore masks overlap no
# more than layers of such densities would by chance, even where the networks do the same. But the masks agree on which
# pixels matter.*

# %%
pixels = torch.stack([ticket["fc1"].fan_out().double() for ticket in tickets])
print("correlation of connections per pixel:", round(float(torch.corrcoef(pixels)[0, 1]), 2))

# %% [markdown]
# ## What we saw
#
# - Eight trainings, each of a smaller network than the one before, leave a ticket of 1.7 % of the weights. It gives up
#   only a few points of the dense network's accuracy.
# - The values of the ticket matter, most of all their signs. Without them the mask is worth little at this size.
# - Whether the ticket beats its controls at this size is printed above, with three seeds, as *reproduced*,
#   *contradicted* or *undecided*.
# - Different seeds draw different tickets, which agree about pixels and not about hidden units.
#
# Our evidence has limits, because it rests on three seeds and twelve epochs. The ticket costs more training than the
# dense network, so it saves no time. It only says what could have been trained. In larger networks, step 0 is too early
# to rewind to, and a small `rewind_step` is needed (Frankle et al. 2020). In a network as small as ours, step 0 is
# enough.

# %% [markdown]
# ## Check yourself
#
# - Why do we rewind the optimizer state as well?
# - A shuffled mask keeps the density of every layer. What does it tell you if it trains as well as the ticket?
# - What would the overlap of masks say if we could match hidden units first?
#
# ## Go further
#
# - `Lottery(..., rewind="rate")` keeps the trained values and rewinds only the learning rate. Is it better?
# - Try `rewind_step=19`, which goes back to the end of the first epoch.
# - Try `sparsekit compare`, which sets masks before, during and after training side by side.
#
# ## References
#
# - J. Frankle and M. Carbin (2019), *The Lottery Ticket Hypothesis*, arXiv:1803.03635.
# - J. Frankle et al. (2020), *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, arXiv:1912.05671.
# - A. Renda et al. (2020), *Comparing Rewinding and Fine-tuning in Neural Network Pruning*, arXiv:2003.02389.
# - H. Zhou et al. (2019), *Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask*, arXiv:1905.01067.
