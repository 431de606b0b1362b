# %% [markdown]
# # 5. Lottery tickets
#
# **45 minutes** · needs: [04_masks_before_training](04_masks_before_training.ipynb) · runs in about a minute
#
# A dense network has 84,480 weights and reads handwritten digits. Eight times we remove 40 % of what is left, **go back
# in time**, and train again. Run the cells, move the slider, and watch the masks thin out.

# %% jupyter={"source_hidden": true}
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import torch

from sparsekit import analysis, plots, widgets
from sparsekit.experiments.lottery import Lottery, run_control, run_lottery
from sparsekit.experiments.recipes import digits_mlp

torch.set_num_threads(1)

# %% jupyter={"source_hidden": true}
lottery = Lottery(experiment=digits_mlp(rule="dense", epochs=12), levels=8, prune=0.4)
history = run_lottery(lottery, "runs", progress=False)
layers = history.topologies
accuracies = [level.last("test accuracy") for level in history.levels]


# %% jupyter={"source_hidden": true}
def draw_level(level: int):
    ax = plots.plot_masks(layers[level])
    count, dense = layers[level].count, layers[0].count
    sentence = f"Level {level}: {count:,} of {dense:,} connections read {accuracies[level]:.1%} of the test digits"
    return plots.titled(ax, sentence)


# %% tags=["nbval-ignore-output"]
levels = widgets.FigureExplorer(
    draw_level, [widgets.Field(name="level", kind="range", label="Level", low=0, high=8)], {"level": 4}
)
levels

# %% [markdown]
# *How far can you go before the accuracy breaks down?*
#
# This is the result, and we explain it now. We look for a good mask with the help of a full training. Then we ask what
# made it good. You will learn
#
# - how **iterative magnitude pruning** finds a sparse network that trains nearly as well as the dense one, and its cost
# - what **rewinding** is
# - which controls a claim about tickets needs, namely new values, shuffled masks and bare signs
# - why a control must have weights of the right size, and how a conclusion turns round if it has not
# - whether two lotteries draw the same ticket

# %% [markdown]
# ## Predict
#
# Before we look closer, make a guess about the last level. It is the heart of the lottery ticket hypothesis.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "After eight rounds 1.7 % of the weights are left. Trained from their old initial weights, they read 93 of 100 "
    "digits. Now we give the same mask new random values, of a size that fits so few connections. What happens?",
    ["it loses a point or two", "it falls by about 10 points", "it falls by about half", "it falls to chance"],
    0,
    "It loses about two points, so most of what the ticket knows is in its mask. If the new values are as small as "
    "those of a dense network, it loses about half. That is how the first papers drew them.",
)
guess

# %% [markdown]
# ## What a lottery does
#
# Now we go through it step by step. Level 0 is the dense network. Each level removes 40 % of the connections that are
# left, those with the smallest magnitudes at the end of training, in one global ranking. This is *magnitude pruning*.
#
# Then we **rewind** everything to step `rewind_step`, which is 0 here. That covers the values of the connections, the
# biases, the optimizer state and the order of the data. What is left is a *ticket*, a mask with its initial values.
#
# Frankle and Carbin found that such a ticket reaches the accuracy of the dense network, and that the same mask with new
# random values does not. We ask whether that is so for a network that trains in a second. And what does the ticket
# know, the mask, the values, or their signs?
#
# First we print how many connections each level has, and check that masks are nested. A level may only remove.

# %%
print([topology.count for topology in layers])
regrown = sum((after[name] - before[name]).count for before, after in pairwise(layers) for name in after)
print("connections that a level has and the one before has not:", regrown)

# %% [markdown]
# ## Exercise 1: how many are left (5 minutes)
#
# A network has `size` weights, and each level removes the share `prune` of what is left. How many connections does a
# level have? Round once, at the end, so that nothing drifts.


# %%
def connections_at(level: int, size: int, prune: float) -> int:
    raise NotImplementedError


widgets.check(connections_at)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def connections_at(level, size, prune):
#     return round(size * (1 - prune) ** level)
# ```
# </details>

# %% [markdown]
# ## Which pixels are left
#
# Next we look at the first layer of the last three levels. We count the connections that leave each pixel of the 8 × 8
# image. In the dense network there are 256 from every pixel. All three maps have one scale.

# %% tags=["nbval-ignore-output"]
figure, axes = plots.subplots(1, 3, width=9.5, height=3.4)
most = float(layers[6]["fc1"].fan_out().max())
for ax, level in zip(axes, (6, 7, 8), strict=True):
    plots.plot_input_map(layers[level]["fc1"], (8, 8), ax, high=most)
    plots.titled(ax, f"Level {level}: {layers[level]['fc1'].count:,} connections from the pixels")
figure

# %% [markdown]
# *The pixels at the rims are blank in nearly all images, and few of their connections are left.*

# %% [markdown]
# ## A ticket against its controls
#
# Now we ask what the ticket knows. It is a mask *and* values. Each control changes one thing and trains the last level
# again, with three seeds.
#
# - **reinit** has the same mask and new random values. They are drawn for the dense network, as in the first papers.
# - **reinit-fan-in** has the same mask and the same new values, scaled to the inputs that each unit really has.
# - **shuffle** has as many connections in each layer at random positions, with the dense network's old values from
#   there.
# - **shuffle-fan-in** is the same, with these values scaled to the real inputs.
# - **signs** has the same mask, but keeps only the signs of the old values. All magnitudes of a layer are equal.
#
# A unit that has lost nearly all of its inputs needs larger weights, or its signal is too weak. This has nothing to do
# with the right connections. The scaled controls take it out of the comparison.

# %%
controls = ("reinit", "reinit-fan-in", "shuffle", "shuffle-fan-in", "signs")
rows, histories = [], []
for seed in range(3):
    seeded = replace(lottery, experiment=digits_mlp(rule="dense", epochs=12, seed=seed))
    histories.append(run_lottery(seeded, "runs", progress=False))
    table = histories[seed].frame().assign(method="ticket").rename(columns={"test accuracy": "accuracy"})
    rows += [table.reset_index().assign(seed=seed)]
    for control in controls:
        accuracy = run_control(seeded, control, "runs", level=8, progress=False).last("test accuracy")
        one = {"method": control, "level": 8, "density": table["density"][8], "seed": seed, "accuracy": accuracy}
        rows.append(pd.DataFrame([one]))
runs = pd.concat(rows)

# %% tags=["nbval-ignore-output"]
last = runs[runs["level"] == 8].pivot(index="seed", columns="method", values="accuracy")
last["dense network"] = runs[runs["level"] == 0].set_index("seed")["accuracy"]
print((100 * last.agg(["mean", "sem"])).round(1).T.to_string())
lost = 100 * (last["ticket"] - last["reinit-fan-in"]).mean()
plots.titled(
    plots.plot_accuracy_density(runs), f"New values that fit the connections cost the ticket {lost:.1f} points"
)

# %% [markdown]
# *The figure shows the test accuracy of the tickets of all levels, and of the last one's controls. Bars are one
# standard error of three seeds. The table has the same for the last level, and for the dense network.*
#
# Is that more than chance? We compare seed by seed. Three seeds are few, so *t* must exceed 4.3 before a claim counts
# as reproduced.

# %% tags=["nbval-ignore-output"]
pairs = [("dense network", "ticket"), *(("ticket", control) for control in controls)]
pairs += [("reinit-fan-in", "shuffle-fan-in"), ("reinit-fan-in", "reinit"), ("signs", "reinit")]
for better, worse in pairs:
    print(analysis.assess_claim(f"{better} beats {worse}", last[better], last[worse]))

# %% jupyter={"source_hidden": true}
mean = last.mean()
assert mean["reinit-fan-in"] - mean["shuffle-fan-in"] > 0.1
assert mean["reinit-fan-in"] - mean["reinit"] > 0.1
assert 0 < mean["ticket"] - mean["reinit-fan-in"] < 0.1

# %% [markdown]
# *Compare controls of one size. With fitted values the mask alone is nearly as good as the ticket. The right positions
# are worth almost thirty points, and the old values two. With values of the dense network, the same mask with new
# values falls by half, and a shuffled mask does not learn at all in twelve epochs. So if you looked only at `reinit`,
# you would say that the old values are the ticket. But scaling its random values repairs nearly all of it. The right
# signs alone repair it as well, even at the size of the dense network.*
#
# Then we repeated all this with ten other seeds (1000 to 1009 instead of 0 to 2 in the cell above). The ticket loses
# 2.5 ± 0.2 points to the dense network (t = 14). It beats `reinit-fan-in` by 1.8 ± 0.3 (t = 6.3), and `signs` by 0.5 ±
# 0.1 (t = 4.9). With fitted new values, the mask beats the shuffled one by 27.7 ± 1.3 (t = 21.7). At the size of the
# dense network, the ticket beats `reinit` by 49.2 ± 4.9 (t = 10.0).

# %% [markdown]
# ## Do two lotteries draw the same ticket?
#
# Finally we compare lotteries with each other. Three seeds give three dense networks and three tickets of one size.
# If there were *the* winning ticket, their masks
# would overlap. Two random masks of density $d$ overlap by chance in $d / (2 - d)$ of their union, and by somewhat more
# where layers differ in density.

# %%
tickets = [one.topologies[4] for one in histories]
alike, chance = analysis.topology_similarity_matrix(tickets, measure="iou")

# %% tags=["nbval-ignore-output"]
ax = plots.plot_comparison_matrix(alike, chance, names=["seed 0", "seed 1", "seed 2"])
plots.titled(ax, "Masks of three lotteries, and how many times chance they overlap")

# %% tags=["nbval-ignore-output"]
pairs_of_seeds = [(0, 1), (0, 2), (1, 2)]
print("times the overlap of chance:", [round(float((alike / chance)[pair]), 2) for pair in pairs_of_seeds])

# %% jupyter={"source_hidden": true}
assert all(0.8 < float((alike / chance)[pair]) < 1.3 for pair in pairs_of_seeds)

# %% [markdown]
# *Masks overlap hardly more than layers of such densities would by chance. Hidden units have no names, so unit 7 of one
# network may do what unit 90 does in another, and their masks differ even where the networks do the same. But the masks
# agree on which pixels matter.*

# %% tags=["nbval-ignore-output"]
pixels = torch.corrcoef(torch.stack([ticket["fc1"].fan_out().double() for ticket in tickets]))
print("correlation of connections per pixel:", [round(float(pixels[pair]), 2) for pair in pairs_of_seeds])

# %% jupyter={"source_hidden": true}
assert all(float(pixels[pair]) > 0.5 for pair in pairs_of_seeds)

# %% [markdown]
# ## What could mislead us
#
# - A control whose weights are too small measures their size, and not what it was made for. This is the trap of
#   `reinit`.
# - One small network and twelve epochs are a narrow base. In larger networks the old values may be worth more.
# - In larger networks step 0 is too early to rewind to, and a small `rewind_step` is needed (Frankle et al. 2020). We
#   have rewound to step 0 only.
# - The ticket costs more training than the dense network, so it saves no time. It only says what could have been
#   trained.
#
# ## What we saw
#
# - Nine trainings, each of a smaller network than the one before, leave a ticket of 1.7 % of the weights. It loses 2.5
#   ± 0.2 points to the dense network (n = 10, t = 14).
# - Most of what the ticket knows is its mask. New values that fit the connections cost 1.8 ± 0.3 points (n = 10, t =
#   6.3). With such values, shuffled connections cost 27.7 ± 1.3 points more (n = 10, t = 21.7).
# - New values that are drawn for the dense network cost 49.2 ± 4.9 points (n = 10, t = 10.0). That is an effect of
#   their size.
# - Different seeds draw different tickets, which agree about pixels and not about hidden units.

# %% [markdown]
# ## Exercise 2: how patient must a lottery be? (10 minutes)
#
# Now it is your turn to experiment. Eight levels cost nine trainings, so could we cut deeper, fewer times? The check
# takes a smaller network, 64-48-48-10, and cuts it down to 293 connections. It removes the same share at each level,
# and trains every level from three seeds. Find a number of levels, at most four, after which the ticket reads at least
# 89 of 100 digits. Guess before you run.

# %% tags=["nbval-ignore-output"]
patient_levels = None

widgets.check(patient_levels=patient_levels)

# %% [markdown]
# <details><summary>Solution</summary>
#
# One cut reads about 83 of 100, and two about 88. A network shows which of its weights are the weakest now, but not
# which of them will be the weakest later.
#
# ```python
# patient_levels = 4
# ```
# </details>

# %% [markdown]
# ## Exercise 3: a ticket that survives shuffling (10 minutes)
#
# A shuffled mask has as many connections in each layer, at random positions and with weights of a fitting size. For the
# small ticket at the end it is a disaster. Is it always? Each level of the check keeps 60 % of what is left. Find a
# level, from 2 on, at which a shuffled mask loses less than four points to the ticket.

# %% tags=["nbval-ignore-output"]
sturdy_level = None

widgets.check(sturdy_level=sturdy_level)

# %% [markdown]
# <details><summary>Solution</summary>
#
# At level 2 there are 2,108 connections for 5,856 positions, and a shuffled mask loses about two points. At level 4 it
# loses eleven, and at level 6 more than fifty. So a claim about tickets needs its density.
#
# ```python
# sturdy_level = 2
# ```
# </details>

# %% [markdown]
# ## Exercise 4: where do signs stop helping? (10 minutes)
#
# Next, use `run_control(lottery, "signs", "runs", level=LEVEL)` and the same with `"reinit-fan-in"` at the levels 2, 4
# and 6. From which level on is the distance to the ticket larger than one point? The cell runs one level, so change its
# number.

# %% tags=["nbval-ignore-output"]
level = 4
for control in ("signs", "reinit-fan-in"):
    accuracy = run_control(lottery, control, "runs", level=level, progress=False).last("test accuracy")
    distance = 100 * (accuracies[level] - accuracy)
    print(f"level {level}, {control}: {accuracy:.1%}, {distance:+.1f} points behind the ticket")

# %% [markdown]
# ## Check yourself
#
# - Why do we rewind the optimizer state as well?
# - A shuffled mask keeps the density of every layer. What would it tell you if it trained as well as the ticket?
# - A paper says that tickets need their old values. Which control do you ask for?
# - What would the overlap of masks say if we could match hidden units first?
#
# <details><summary>Answers</summary>
#
# - The momentum at the end belongs to the weights at the end. If it stayed, it would push the old weights in a
#   direction that has nothing to do with them.
# - It would tell you that only the density of each layer matters, and not which of its connections exist.
# - Ask for new values of the right size, as in `reinit-fan-in`. With `reinit` alone you would measure their size.
# - If it rose far above chance, the seeds would have drawn similar tickets whose units stand in another order. Match
#   random masks in the same way, because matching finds some likeness in them, too.
# </details>
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
# - U. Evci et al. (2022), *Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win*, arXiv:2010.03533: the
#   size of initial weights.
# - H. Zhou et al. (2019), *Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask*, arXiv:1905.01067.
