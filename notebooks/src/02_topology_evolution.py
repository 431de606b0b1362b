# %% [markdown]
# # 2. Topology evolution
#
# **40 minutes** · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs in under a minute
#
# You will learn
#
# - how SET and RigL exchange connections while a network trains, and why they are one algorithm with two settings
# - how to watch a topology by its film, churn, survival, age and exploration
# - what rewiring buys, measured with several seeds
# - how much of that is only a bad start, because the initial weights do not fit a sparse network

# %% [markdown]
# ## Why
#
# In the last notebook we trained a dense network to find out which connections matter. That defeats the purpose if you
# went sparse to save memory. **Dynamic sparse training** starts with a random topology and improves it on the way.
# Every so many steps it drops a share of the connections, the weakest ones, and grows as many elsewhere. At no moment
# are there more connections than the budget allows.
#
# Where should the new connections grow? SET grows at random and leaves the choice to the next drop, like evolution.
# RigL looks at the gradient of the connections that do *not* exist. It grows where this gradient is largest, because
# there a new weight lowers the loss fastest.

# %% [markdown]
# ## Set up

# %%
import inspect
from itertools import accumulate, pairwise

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.population import run_all
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.rules import DropGrow

torch.set_num_threads(1)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "An MLP keeps 2 % of its weights and learns to read digits. With a fixed random topology it reads about 90 of 100. "
    "SET replaces connections by random ones. Does that help?",
    ["no: random is random", "a little, 2 to 5 more", "a lot, more than 10 more"],
    1,
    "It reads between 92 and 93 of 100, the mean of five runs that you find below. The new connections are random, but "
    "those that stay are not, because SET gives up the weakest ones at each of 23 rewirings.",
)
guess

# %% [markdown]
# ## Explore: steer a running training
#
# LeNet-300-100 learns clothes with 2 % of its weights. Its rule is RigL, and the two sliders act on the training while
# it runs. Press **Start**, then **Pause** whenever you want to look.
#
# 1. Try **Drop fraction** 0.9, so that every rewiring throws nine of ten connections away. What happens to the loss?
# 2. Try **Interval** 1 to rewire at every step, so that a grown connection has no time to learn. (RigL then replaces
#    every weight update. What do you expect of the loss?)
# 3. Try **Drop fraction** 0 for the second half. Does the loss get better or worse than with a little rewiring?

# %%
clothes = sk.datasets.load("fashion-mini")
torch.manual_seed(0)
model = sk.models.build("mlp", input_shape=clothes.shape, num_classes=10, hidden=(300, 100))
random = sk.random_topology(sk.shapes_of(model), 0.02, seed=0)
model = sk.sparsify(model, random)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
control = widgets.Control(sk.rules.RigL(stop=1500, every=50))
batches = sk.datasets.stream(clothes, 64, seed=0)
steps = widgets.live_training(model, optimizer, batches, nn.functional.cross_entropy, control, steps=2000)
run = widgets.Run(steps, total=2000)

# %% tags=["nbval-ignore-output"]
panel = widgets.LivePanel(run, control=control)
panel

# %%
run.wait(timeout=300)
print(run.state, "with", run.topology.count, "connections, as at the start")

# %% tags=["nbval-ignore-output"]
panel.snapshot()

# %% [markdown]
# The masks no longer look like noise. We count what they show. A unit is *idle* if it has no input left or if no unit
# reads it.

# %% tags=["nbval-ignore-output"]
for when, topology in (("at the start", random), ("at the end", run.topology)):
    first, second = topology["fc1"], topology["fc2"]
    idle = (first.fan_in() == 0) | (second.fan_out() == 0)
    share = first.fan_in().sort(descending=True).values[:30].sum() / first.count
    print(f"{when}: {int(idle.sum())} of 300 hidden units are idle, and thirty units hold {share:.0%} of fc1")

# %% [markdown]
# *In `fc1` a few rows hold many connections, so the network relies on these hidden units. The numbers are those of the
# training above, as you steered it. In the run that is stored here, nobody moved a slider.*

# %% [markdown]
# ## How it works
#
# Both methods, and many more, are settings of one rule, `DropGrow`. Each setting is a small object of its own. One says
# what makes a connection worth keeping, one says what makes a position worth growing at, and one says which positions
# are considered at all.

# %%
print("SET: ", sk.rules.SET(stop=570, every=25))
print("RigL:", sk.rules.RigL(stop=570, every=25))

# %% [markdown]
# This is the core of the algorithm. We keep the strongest connections and grow the most promising candidates. Even if
# candidates run out, we end with exactly the budgeted number.

# %%
print(inspect.getsource(DropGrow._rewire_group))

# %% [markdown]
# You find the whole file at [drop_grow.py](../sparsekit/rules/drop_grow.py). The share that is exchanged follows a
# cosine from `drop_fraction` to zero, so the topology settles before training ends:

# %% tags=["nbval-ignore-output"]
rule = sk.rules.RigL(stop=570, every=25)
due = [step for step in range(760) if rule.is_due(step)]
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.plot(due, [rule.drop_fraction_at(step) for step in due], ".-")
ax.set_xlabel("step")
ax.set_ylabel("share exchanged")
plt.show()

# %% [markdown]
# *The rule rewires 23 times in 760 steps, which are 40 epochs of digits. The last quarter of the training keeps the
# topology. All trainings of this notebook on digits have this schedule.*

# %% [markdown]
# ## Exercise 1: drop (5 minutes)
#
# You get the values of a layer's connections and a fraction. Which connections are **kept**? Return their positions in
# increasing order. Drop as many as `int(fraction * number)` says, those with the smallest magnitude.


# %%
def kept_positions(values: torch.Tensor, fraction: float) -> list[int]:
    raise NotImplementedError


check_kept = widgets.Check(
    [
        ((torch.tensor([0.5, -0.1, 0.3, -0.9]), 0.25), [0, 2, 3]),
        ((torch.tensor([0.2, -0.8, 0.1, 0.4, -0.3]), 0.5), [1, 3, 4]),
        ((torch.tensor([1.0, 2.0]), 0.0), [0, 1]),
    ],
    hint="A large negative weight is a strong one, so compare magnitudes.",
)
check_kept(kept_positions)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def kept_positions(values, fraction):
#     num_kept = len(values) - int(fraction * len(values))
#     return sorted(values.abs().argsort(descending=True)[:num_kept].tolist())
# ```
# </details>
#
# ## Exercise 2: grow (5 minutes)
#
# You get the dense gradient of a layer as a flat list, the positions that are taken, and the number of connections to
# grow. Where does RigL grow? Return the positions in increasing order.


# %%
def grown_positions(gradient: torch.Tensor, taken: list[int], count: int) -> list[int]:
    raise NotImplementedError


check_grown = widgets.Check(
    [
        ((torch.tensor([0.1, -0.9, 0.4, 0.2]), [1], 1), [2]),
        ((torch.tensor([0.3, 0.0, -0.5, 0.4, 0.1]), [3], 2), [0, 2]),
        ((torch.tensor([5.0, -6.0, 7.0]), [0, 2], 1), [1]),
    ],
    hint="Taken positions cannot be grown again, and the sign of a gradient does not matter.",
)
check_grown(grown_positions)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def grown_positions(gradient, taken, count):
#     score = gradient.abs()
#     score[taken] = -1
#     return sorted(score.argsort(descending=True)[:count].tolist())
# ```
# </details>

# %% [markdown]
# ## A film of a training
#
# Every training keeps a **journal**. It holds the topology at the start and what each rewiring dropped and grew, so you
# can play the whole evolution again. Drag the slider or press **Play**. Green connections are new, and orange ones were
# just dropped. Choose the layer, and watch the degrees beside it.
#
# Go to the first rewiring of `fc1`, then to the last. Which rows fill up? How does *Outputs by fan-in* change?

# %%
history = sk.run(digits_mlp(rule="rigl", density=0.02, epochs=40), "runs", progress=False)
journal = history.journal
print(len(journal), "rewirings,", journal[0].count, "connections before and", journal[-1].count, "after")

# %% tags=["nbval-ignore-output"]
film = widgets.TopologyFilm(journal, rewiring=1)
film

# %% [markdown]
# You can see the same in still figures, which show how many connections each of the 8 × 8 pixels has.

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for ax, rewiring in zip(axes, (0, len(journal) // 2, len(journal)), strict=True):
    plots.plot_input_map(journal[rewiring]["fc1"], (8, 8), ax)
    ax.set_title(f"after {rewiring} rewirings")
plt.show()

# %% [markdown]
# *The left and right rims of the scans are nearly always white, and RigL takes many of their connections away.*

# %% tags=["nbval-ignore-output"]
rims = [pixel for pixel in range(64) if pixel % 8 in (0, 7)]
at_rims = [int(journal[when]["fc1"].fan_out()[rims].sum()) for when in (0, len(journal))]
print(f"connections at the rims: {at_rims[0]} before, {at_rims[1]} after, of {journal[0]['fc1'].count}")

# %% jupyter={"source_hidden": true}
assert at_rims[1] < 0.8 * at_rims[0]

# %% tags=["nbval-ignore-output"]
fig, (before, after) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
plots.plot_fan_histogram(journal[0]["fc2"], before, side="fan_out")
plots.plot_fan_histogram(journal[-1]["fc2"], after, side="fan_out")
before.set_title("fc2 at the start")
after.set_title("fc2 at the end")
plt.show()

# %% [markdown]
# *At the start, degrees scatter around their mean as chance would have it (the dashed line). At the end, more hidden
# units have no reader at all, and a few have many. The network has grown **hubs**.*

# %% tags=["nbval-ignore-output"]
readers = [journal[when]["fc2"].fan_out() for when in (0, len(journal))]
most, none = [int(one.max()) for one in readers], [int((one == 0).sum()) for one in readers]
print(f"most readers of one unit: {most[0]} before, {most[1]} after | without any: {none[0]} before, {none[1]} after")

# %% jupyter={"source_hidden": true}
assert most[1] > 1.5 * most[0]
assert none[1] > none[0]

# %% [markdown]
# ## Four ways to read a journal
#
# **Churn** is the share of connections that are new after a rewiring. **Survival** is the share of the first
# connections that still exist. **Age** is how long the connections of the last topology have existed. **Exploration**
# (in-time over-parameterisation, $R_s$) is the share of all positions that have *ever* held a connection.
#
# We train three methods with five seeds each. `run_all` trains them at once, as one wide network, and each comes out as
# if it had been trained alone.

# %%
methods = ("static", "set", "rigl")


def race(init: str) -> dict:
    experiments = [
        digits_mlp(rule=name, density=0.02, epochs=40, seed=seed, init=init) for name in methods for seed in range(5)
    ]
    histories = run_all(experiments, "runs", progress=False)
    return {(name, seed): histories[5 * index + seed] for index, name in enumerate(methods) for seed in range(5)}


fitted = race("fan-in")
print(len(fitted), "trainings of", len(fitted["set", 0].journal), "rewirings, but for the fixed masks")

# %% [markdown]
# SET and RigL exchange equally many connections at every rewiring. Which of them has tried more positions in the end?
# Whose first connections survive? Guess both before you read on.

# %% tags=["nbval-ignore-output"]
journals = {name: fitted[name, 0].journal for name in methods}
explored = {name: analysis.exploration(one.topologies()) for name, one in journals.items()}
fractions = [digits_mlp(density=0.02, epochs=40).rule.drop_fraction_at(step) for step in journal.steps]
expected = analysis.exploration_expected(journal[0], fractions)["network"]
print(f"SET has explored {explored['set']['network'].iloc[-1]:.2%}, and chance expects {expected.iloc[-1]:.2%}")
plots.plot_exploration(explored, expected=expected)

# %%
rows = {}
for name, one in journals.items():
    states = list(one.topologies())
    ever = list(accumulate(states, lambda one, other: one | other))
    grown = [after - before for before, after in pairwise(states)]
    again = sum((new & tried).count for new, tried in zip(grown, ever, strict=False))
    stay = sum((new & later).count for new, later in zip(grown, states[2:], strict=False))
    rows[name] = {
        "explored": explored[name]["network"].iloc[-1],
        "first ones that survived": (states[0] & states[-1]).count / states[0].count,
        "grown where one was before": again / max(1, sum(new.count for new in grown)),
        "grown that survive the next rewiring": stay / max(1, sum(new.count for new in grown[:-1])),
    }
shares = pd.DataFrame(rows).T

# %% tags=["nbval-ignore-output"]
shares.round(2)

# %% jupyter={"source_hidden": true}
assert shares["explored"]["set"] > 1.3 * shares["explored"]["rigl"] > 1.3 * shares["explored"]["static"]
assert shares["first ones that survived"]["set"] > shares["first ones that survived"]["rigl"]
assert shares["grown where one was before"]["rigl"] > 2 * shares["grown where one was before"]["set"]
assert shares.iloc[:, 3]["rigl"] > 2 * shares.iloc[:, 3]["set"]

# %% [markdown]
# *SET follows what chance predicts so closely that its line hides the dashed one. RigL explores about half as much,
# because its gradients often point at positions where it had a connection before. Yet fewer of RigL's first connections
# survive. That is no contradiction. Nine of ten connections that SET grows are dropped again at the next rewiring, so
# the old ones stay. Of those that RigL grows, a third survives, and each of them pushes an old one out. These are the
# shares of one seed.*

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(13, 3.8), layout="constrained")
plots.plot_churn(analysis.churn(journal.topologies()), left, fractions=fractions)
plots.plot_ages(analysis.ages(journal.topologies()), right)
left.set_title("RigL: churn")
right.set_title("RigL: ages at the end")
plt.show()

# %% [markdown]
# *Churn stays below the drop fraction, because some of what is dropped has the largest gradient and regrows at once.
# The tallest bar of the ages, at the right, holds the connections that were there from the start.*

# %% [markdown]
# ## Does it help?
#
# One run proves nothing, so we look at all five seeds. All methods of a seed share the same initial state, so we can
# compare them in pairs. `assess_claim` divides the mean difference by its standard error. This is Student's *t*. Only
# if it exceeds the threshold for so many seeds, a claim counts as *reproduced*.


# %%
def accuracies(race: dict) -> pd.DataFrame:
    last = {key: history.last("test accuracy") for key, history in race.items()}
    return pd.Series(last).unstack(0)[list(methods)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    return (100 * table.agg(["mean", "sem"])).round(1).T


fit = accuracies(fitted)

# %% tags=["nbval-ignore-output"]
print(summary(fit).to_string())
print(analysis.assess_claim("SET beats a fixed mask", fit["set"], fit["static"]))
print(analysis.assess_claim("RigL beats a fixed mask", fit["rigl"], fit["static"]))
print(analysis.assess_claim("RigL beats SET", fit["rigl"], fit["set"]))

# %% jupyter={"source_hidden": true}
assert (fit["rigl"] - fit["static"]).mean() > 0.015

# %% [markdown]
# *The table gives the test accuracy in per cent, mean and standard error of five seeds.* Rewiring is worth a few points
# here. A random network of 2 % is not bad at all.

# %% [markdown]
# ## The same race from a bad start
#
# Where did each connection get its first value? Libraries draw weights for dense layers. They make them smaller the
# more inputs a layer has, so that signals keep their size. If only one input in fifty is left, each signal is about
# seven times too small, and three layers multiply that. So `sparsify` and `Experiment` scale the weights of each unit
# to its real **fan-in** (Evci et al. 2022). Many papers on sparse training have not done so. Let us repeat the race
# with the *dense* draw. Everything else stays the same, even the topologies at the start.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess_start = widgets.Predict(
    "All three methods begin with weights that were drawn for dense layers. What does that cost the fixed mask, and "
    "what does it cost RigL?",
    ["both lose nothing", "both lose about 5 points", "the fixed mask loses over 30 points, RigL about 2"],
    2,
    "The fixed mask learns late, when the learning rate has nearly reached zero. RigL gets going much earlier.",
)
guess_start

# %%
unfitted = race("dense")
small = accuracies(unfitted)

# %% tags=["nbval-ignore-output"]
print(pd.concat({"fan-in": summary(fit), "dense": summary(small)}, axis=1).to_string())
gain, old_gain = fit["rigl"] - fit["static"], small["rigl"] - small["static"]
print(analysis.assess_claim("the fan-in draw beats the dense one, fixed mask", fit["static"], small["static"]))
print(analysis.assess_claim("the fan-in draw beats the dense one, RigL", fit["rigl"], small["rigl"]))
print(analysis.assess_claim("RigL gains more over a fixed mask from the dense draw", old_gain, gain))

# %% jupyter={"source_hidden": true}
assert (fit["static"] - small["static"]).mean() > 0.2
assert (old_gain - gain).mean() > 0.2

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(13, 3.8), sharey=True, layout="constrained")
for ax, (title, one) in zip(axes, {"fan-in": fitted, "dense": unfitted}.items(), strict=True):
    frames = [history.frame().assign(method=name, seed=seed) for (name, seed), history in one.items()]
    plots.plot_curves(pd.concat(frames), ax, x="epoch")
    ax.set_title(f"initial weights: {title}")
plt.show()

# %% [markdown]
# *You see the test accuracy, mean and standard error of five seeds. On the right nothing happens for a while. The
# signals are too small. RigL escapes first, and the learning rate falls to zero before the fixed mask has caught up.*
# If we had only the right figure, we would conclude that rewiring is worth 20 to 45 points. Most of that is a slow
# start that is taken for a bad topology. Trained for 60 epochs, and with ten seeds, we measured:
#
# | digits, 60 epochs | density 0.05 | density 0.02 | density 0.01 |
# |---|---|---|---|
# | Static | 95.2 ± 0.2 | 91.2 ± 0.4 | 65.3 ± 1.8 |
# | SET | 95.9 ± 0.2 | 94.1 ± 0.2 | 87.9 ± 0.5 |
# | RigL | 96.2 ± 0.1 | 95.3 ± 0.2 | 94.5 ± 0.3 |
# | Static, dense draw | 93.3 ± 0.3 | 75.8 ± 1.3 | 28.9 ± 2.0 |
# | SET, dense draw | 95.0 ± 0.3 | 88.9 ± 0.7 | 43.3 ± 3.5 |
# | RigL, dense draw | 95.9 ± 0.2 | 94.3 ± 0.2 | 91.1 ± 0.4 |
# | dense network | 97.4 ± 0.1 | 97.4 ± 0.1 | 97.4 ± 0.1 |
#
# Each entry is the test accuracy in per cent, mean ± standard error. The fewer connections there are, the more it
# matters which ones exist, and the more it matters how they begin. Even a verdict can depend on it. At 5 %, RigL beats
# SET by 0.9 ± 0.3 points (t = 3.5) from the dense draw. From the fitted one it leads by 0.3 ± 0.3 (t = 1.0), which is
# undecided. This command repeats the table:
#
# `python benchmarks/accuracy.py digits-mlp --densities 0.05 0.02 0.01 --seeds 10 --init fan-in dense`

# %% [markdown]
# ## What we saw
#
# - SET and RigL are one algorithm with two answers to "where to grow", at random (SET) and by gradient (RigL).
# - With ten seeds and 60 epochs, RigL gains 1.0 ± 0.2 points over a fixed mask at 5 % of the weights (t = 4.3), 4.1 ±
#   0.6 at 2 % (t = 7.1) and 29.2 ± 1.7 at 1 % (t = 17.3).
# - From the dense draw the gain at 2 % is 18.5 ± 1.3 points (t = 14.3). Most of it is the price of a bad start.
# - In our run, RigL gives up connections at the rims of the images and grows hubs. SET visits about twice as many
#   positions, and few of its new connections survive the next rewiring.
#
# Our results have limits, because digits are toy data and our networks are small. Evci et al. (2020) report that RigL
# beats SET for large networks too. That is their claim, and these runs neither confirm nor refute it there. RigL also
# needs the dense gradient at every rewiring, so it is sparse most of the time, but not always.

# %% [markdown]
# ## Check yourself
#
# - Why must the drop fraction fall to zero before training ends?
# - RigL's churn is below its drop fraction. Could SET's be below it, too?
# - Two methods end with the same accuracy, but with an $R_s$ of 0.1 and 0.5. What does the difference tell you?
#
# ## Go further
#
# - Watch a film of `digits_mlp(rule="set")` and compare the degrees with RigL's.
# - Write a rule of your own, in a file with a class that has `propose`. [SET and RigL](../sparsekit/rules/presets.py)
#   are good models. `widgets.RulePicker(total_steps=1000)` will show your rule with its settings.
#
# ## References
#
# - D. C. Mocanu et al. (2018), *Scalable training of artificial neural networks with adaptive sparse connectivity
#   inspired by network science*, arXiv:1707.04780: SET.
# - U. Evci et al. (2020), *Rigging the Lottery: Making All Tickets Winners*, arXiv:1911.11134: RigL.
# - U. Evci et al. (2022), *Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win*, arXiv:2010.03533: why
#   initial weights must fit the fan-in.
# - S. Liu et al. (2021), *Do We Actually Need Dense Over-Parameterization?*, arXiv:2102.02887: in-time
#   over-parameterisation.
