# %% [markdown]
# # 2. Topology evolution
#
# **40 minutes** · needs: [01_masks_and_budgets](01_masks_and_budgets.ipynb) · runs in under a minute
#
# You will learn
#
# - how SET, RigL and GSE exchange connections while a network trains, and why they are one algorithm
# - how to read a topology that moves, by its churn, survival and exploration
# - what rewiring is worth, measured with several starts
# - how much of that is only a bad start, because the initial weights do not fit a sparse network
# - how to go back in a training and continue in another way

# %% [markdown]
# ## A race
#
# We begin with a race, before any theory. Four networks read digits. They start as the *same* network, with 293
# connections at random positions and the same weights, and none ever gets more. One keeps its connections for ever. The
# other three give up their weakest connections every 25 steps and grow as many elsewhere. They differ only in where.
#
# Guess first, then press **Start**.

# %% jupyter={"source_hidden": true}
import inspect
from itertools import accumulate, pairwise

import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments import branch
from sparsekit.experiments.recipes import digits_small
from sparsekit.rules import DropGrow
from sparsekit.widgets.evolution_film import idle_units

torch.set_num_threads(1)

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "SET replaces its weakest connections by random ones, again and again. Does it end ahead of the network that keeps "
    "its random connections?",
    ["no: random is random", "a little, 1 to 3 of 100 digits more", "clearly, more than 8 of 100 digits more"],
    2,
    "You find the numbers below the race. The new connections are random, but those that stay are not, because SET "
    "gives up the weakest ones at each of 23 rewirings.",
)
guess

# %% tags=["nbval-ignore-output", "first-still"]
race = widgets.Race(digits_small, ("static", "set", "rigl", "gse"), seeds=5, epochs=40)
race

# %% [markdown]
# While it runs, look at the graphs. Lines in ink have just grown. Dashed lines lie on no path from a pixel to a digit,
# so they cannot matter, and the hollow dots are **idle** units. When the race is over, drag in the chart to go back to
# any step. Three things to try:
#
# 1. Go to the start, then to the end. Which method has moved most of its connections, and which has most idle units?
# 2. Look at the squares. Which pixels does RigL stop reading?
# 3. Choose another start. Does the order of the methods stay the same?
#
# The next cell waits for the race, and runs it if you have not pressed Start.

# %%
race.init = "fan-in"
fitted = race.wait(timeout=300)
rewirings = {name: len(runs[0].journal) for name, runs in fitted.items()}
print(sum(map(len, fitted.values())), "trainings of", race.count, "connections. Rewirings of each:", rewirings)

# %% tags=["nbval-ignore-output"]
race.snapshot()

# %% [markdown]
# One start proves nothing, so we look at all five. All methods of a start share its first topology and weights, so we
# can compare them in pairs. `assess_claim` divides the mean difference by its standard error, which is Student's *t*.
# A claim counts as *reproduced* only if *t* exceeds the threshold for so many seeds.


# %%
def accuracies(runs: dict) -> pd.DataFrame:
    return pd.DataFrame({name: [one.last("test accuracy") for one in of_rule] for name, of_rule in runs.items()})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    return (100 * table.agg(["mean", "sem"])).round(1).T


fit = accuracies(fitted)

# %% tags=["nbval-ignore-output"]
print(summary(fit).to_string())
print(analysis.assess_claim("SET beats a fixed mask", fit["set"], fit["static"]))
print(analysis.assess_claim("RigL beats a fixed mask", fit["rigl"], fit["static"]))
print(analysis.assess_claim("RigL beats SET", fit["rigl"], fit["set"]))
print(analysis.assess_claim("GSE beats RigL", fit["gse"], fit["rigl"]))

# %% jupyter={"source_hidden": true}
assert (fit["rigl"] - fit["static"]).mean() > 0.08
assert (fit["set"] - fit["static"]).mean() > 0.04

# %% [markdown]
# *The table gives the test accuracy in per cent, mean and standard error of five starts on 600 digits.* With so few
# connections it matters much which ones exist, so connections that may move are far ahead. GSE and RigL are too close
# to each other for five starts to tell which is better.

# %% [markdown]
# ## How it works
#
# We now look at what moves the connections. In the last notebook we trained a dense network to find out which
# connections matter. That defeats the purpose if you went sparse to save memory. **Dynamic sparse training** starts
# with a random topology and improves it on the way. Every so many steps it *drops* a share of the connections, the
# weakest ones, and *grows* as many elsewhere. At no moment are there more connections than the budget allows.
#
# Where should new connections grow? **SET** grows at random and leaves the choice to the next drop, like evolution.
# **RigL** looks at the gradient of the connections that do *not* exist. It grows where this gradient is largest,
# because there a new weight lowers the loss fastest. **GSE** does the same, but it looks only at a random sample of the
# missing connections, so that no gradient of the whole layer is needed.
#
# All of them are settings of one rule, `DropGrow`. Each setting is a small object of its own. One says what makes a
# connection worth keeping, and one what makes a position worth growing at. A third says which positions are considered.

# %%
for rule in (sk.rules.SET(stop=570, every=25), sk.rules.RigL(stop=570, every=25), sk.rules.GSE(stop=570, every=25)):
    print(f"keeps by {rule.drop}, grows by {rule.grow} among {type(rule.candidates).__name__}")

# %% [markdown]
# Here is the core of the algorithm. We keep the strongest connections and grow the most promising candidates. Even if
# candidates run out, we end with exactly the budgeted number.

# %%
print(inspect.getsource(DropGrow._rewire_group))

# %% [markdown]
# You find the whole file at [drop_grow.py](../sparsekit/rules/drop_grow.py). How many connections are exchanged? The
# share follows a cosine from the `drop_fraction` to zero, so the topology settles before the training ends.

# %% tags=["nbval-ignore-output"]
rule = fitted["rigl"][0].journal
schedule = digits_small(epochs=40).rule
figure, (ax,) = plots.subplots(width=6, height=2.4)
ax.plot(rule.steps, [schedule.drop_fraction_at(step) for step in rule.steps], ".-")
ax.set_xlabel("step")
ax.set_ylabel("share exchanged")
ax.set_title(f"{len(rule)} rewirings exchange fewer and fewer connections")
figure

# %% [markdown]
# ## Exercise 1: drop (5 minutes)
#
# We write both halves of the algorithm ourselves, and begin with the drop. You get the values of a layer's connections
# and a fraction. Which connections are **kept**? Return their positions in increasing order. Drop as many as
# `int(fraction * number)` says, those with the smallest magnitude.


# %% tags=["nbval-ignore-output"]
def kept_positions(values: torch.Tensor, fraction: float) -> list[int]:
    raise NotImplementedError


widgets.check(kept_positions)

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
# Now comes the other half. You get the dense gradient of a layer as a flat list, the positions that are taken, and the
# number of connections to grow. Where does RigL grow? Return the positions in increasing order.


# %% tags=["nbval-ignore-output"]
def grown_positions(gradient: torch.Tensor, taken: list[int], count: int) -> list[int]:
    raise NotImplementedError


widgets.check(grown_positions)

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
# ## Reading a journal
#
# Every training keeps a **journal**, which is what the race played. It holds the topology at the start and what each
# rewiring dropped and grew. We look at it once more, as masks this time. Drag the slider or press **Play**. Colours
# tell which connections are new and which were just dropped. Go to the first rewiring, then to the last. Which rows
# fill up?

# %% tags=["nbval-ignore-output"]
film = widgets.TopologyFilm(fitted["rigl"][0].journal, rewiring=1)
film

# %% [markdown]
# A mask hides what the graph shows, which is the paths. So we count the idle units, those on no path from a pixel to a
# digit, before and after the training.

# %%
idle = {
    name: [sum(idle_units(one.journal[when]) for one in runs) / len(runs) for when in (0, -1)]
    for name, runs in fitted.items()
}

# %% tags=["nbval-ignore-output"]
pd.DataFrame(idle, index=["idle units at the start", "idle units at the end"]).T

# %% jupyter={"source_hidden": true}
assert idle["static"][0] == idle["static"][1] < idle["set"][1] < idle["rigl"][1]
assert idle["rigl"][1] > 1.5 * idle["rigl"][0]

# %% [markdown]
# *The table gives means of five starts, out of 96 hidden units.* RigL reads with fewer units than it began with, and
# packs its connections onto those. A random topology spreads them thinly. We do not see here that idle units cause the
# accuracy. We only see that both come together.
#
# Three more numbers describe how a topology moves. **Survival** is the share of the first connections that still exist
# in the end. **Exploration** (in-time over-parameterisation, $R_s$) is the share of all positions that have *ever* held
# a connection. And we ask of what was grown how much was there before, and how much survives the next rewiring.
#
# SET and RigL exchange equally many connections at every rewiring. Which of them has tried more positions in the end?
# Whose first connections survive? Guess both before you run the cell.

# %%
rows = {}
for name, runs in fitted.items():
    states = list(runs[0].journal.topologies())
    ever = list(accumulate(states, lambda one, other: one | other))
    grown = [after - before for before, after in pairwise(states)]
    again = sum((new & tried).count for new, tried in zip(grown, ever, strict=False))
    stay = sum((new & later).count for new, later in zip(grown, states[2:], strict=False))
    rows[name] = {
        "explored": ever[-1].count / ever[-1].size,
        "first ones that survived": (states[0] & states[-1]).count / states[0].count,
        "grown where one was before": again / max(1, sum(new.count for new in grown)),
        "grown that survive the next rewiring": stay / max(1, sum(new.count for new in grown[:-1])),
    }
shares = pd.DataFrame(rows).T

# %% tags=["nbval-ignore-output"]
shares.round(2)

# %% jupyter={"source_hidden": true}
assert shares["explored"]["set"] > 1.2 * shares["explored"]["rigl"] > 1.2 * shares["explored"]["static"]
assert shares["grown where one was before"]["rigl"] > 1.5 * shares["grown where one was before"]["set"]
assert shares.iloc[:, 3]["rigl"] > 1.5 * shares.iloc[:, 3]["set"]

# %% [markdown]
# *These are shares of one start.* SET explores more, because its draws are random. Of what RigL grows, nearly half was
# there before, because its gradients point at the same positions again. Yet fewer of RigL's first connections survive.
# That is no contradiction. Most connections that SET grows are dropped again at the next rewiring, so the old ones
# stay. Of those that RigL grows, more than a third survives, and each of them pushes an old one out.

# %% tags=["nbval-ignore-output"]
journals = {name: fitted[name][0].journal for name in ("set", "rigl")}
fractions = [schedule.drop_fraction_at(step) for step in journals["rigl"].steps]
figure, (upper, lower) = plots.subplots(2, 1, width=7, height=6.6)
plots.plot_churn(analysis.churn(journals["rigl"].topologies()), upper, fractions=fractions)
plots.plot_ages(analysis.ages(journals["rigl"].topologies()), lower)
upper.set_title("RigL: churn")
lower.set_title("RigL: ages at the end")
figure

# %% [markdown]
# *The **churn** is the share of connections that are new after a rewiring. It stays below the drop fraction, because
# some of what is dropped has the largest gradient and regrows at once. The tallest bar of the ages, at the right, holds
# the connections that were there from the start.*

# %% [markdown]
# ## The same race from a bad start
#
# We repeat the race with one change, because it decides how large the gain looks. Where did each connection get its
# first value? Libraries draw weights for dense layers. They make them smaller the more inputs a layer has, so that
# signals keep their size. If only one input in twenty is left, each signal is several times too small, and three layers
# multiply that. So `sparsify` and `Experiment` scale the weights of each unit to its real **fan-in** (Evci et al.
# 2022). Many papers on sparse training have not done so. Everything else stays the same now, even the topologies at the
# start.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess_start = widgets.Predict(
    "All methods begin with weights that were drawn for dense layers. Whom does that cost most?",
    ["nobody: training corrects it", "all of them equally", "the fixed mask"],
    2,
    "The fixed mask learns late, when the learning rate has nearly reached zero. RigL gets going earlier.",
)
guess_start

# %% [markdown]
# Choose **Initial weights: dense** in the race above and press Start, or let the next cell do it. Then compare the two
# charts with the buttons.

# %%
race.init = "dense"
unfitted = race.wait(timeout=300)
small = accuracies(unfitted)

# %% tags=["nbval-ignore-output"]
race.snapshot()

# %% tags=["nbval-ignore-output"]
print(pd.concat({"fan-in": summary(fit), "dense": summary(small)}, axis=1).to_string())
gain, old_gain = fit["rigl"] - fit["static"], small["rigl"] - small["static"]
print(analysis.assess_claim("the fan-in draw beats the dense one, fixed mask", fit["static"], small["static"]))
print(analysis.assess_claim("the fan-in draw beats the dense one, RigL", fit["rigl"], small["rigl"]))
print(analysis.assess_claim("RigL gains more over a fixed mask from the dense draw", old_gain, gain))

# %% jupyter={"source_hidden": true}
assert (fit["static"] - small["static"]).mean() > 0.1

# %% [markdown]
# *The chart shows the mean of five starts, with a band from the lowest to the highest.* Nothing happens for a while,
# because the signals are too small. RigL escapes first, and the learning rate falls to zero before the fixed mask has
# caught up. On our machine the dense draw cost the fixed mask 30 of 100 digits and RigL 4. So RigL's lead over a fixed
# mask grew from 25 digits to 50, although the rule is the same. If you saw only this race, you would take a slow start
# for a bad topology. Wider networks show the same. With 256 hidden units per layer, ten seeds and 60 epochs we
# measured:
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
# `python studies/accuracy.py digits-mlp --densities 0.05 0.02 0.01 --seeds 10 --init fan-in dense`

# %% [markdown]
# ## Go back and continue in another way
#
# When does the topology matter most, early or late? We ask by an experiment that a race cannot do. We take one RigL
# training, go back to one of its rewirings, change something there, and let it train to the end. Original and branch
# have everything in common up to that step, so what differs afterwards comes from the change alone. The run keeps its
# state after every rewiring for this.

# %%
original = sk.run(digits_small(epochs=40, seed=5), "runs", progress=False, keep_states=True)
print(len(original.journal), "rewirings to go back to")

# %% tags=["nbval-ignore-output"]
view = widgets.Branches(original, rewiring=6)
view

# %% [markdown]
# Drag in the chart to a rewiring, choose what changes, and press **Continue**. Some questions to try:
#
# 1. Go back to rewiring 2 and continue with *Static*. What do you lose? Do the same from rewiring 15.
# 2. Set the **drop fraction** to 0.9 at rewiring 8. What does the accuracy do at first, and what does it do in the end?
# 3. Halve the **density** at rewiring 20. How many points do half of the connections cost?
# 4. Change nothing. Do you see one line or two?
#
# Below the chart you see how much both networks have in common. Look at late branches above all. Do networks that
# differ in many connections also differ in accuracy?
#
# The next cell answers the first half of question 1 if you have not.

# %% tags=["nbval-ignore-output"]
view.continue_from(2, rule="static").wait(timeout=300)
view.snapshot()

# %% [markdown]
# In code the same is one call. We continue with a fixed topology from several rewirings.

# %%
fixed = {when: branch(original, rewiring=when, rule="static", progress=False) for when in (0, 2, 6, 12, 18)}
same = branch(original, rewiring=12, progress=False)
print("Without a change, all numbers are equal:", same.rows == original.rows)

# %% tags=["nbval-ignore-output"]
end = original.journal[-1]
pd.DataFrame(
    {
        when: {
            "test accuracy": round(100 * one.last("test accuracy"), 1),
            "in common with RigL": round((one.journal[-1] & end).count / (one.journal[-1] | end).count, 2),
        }
        for when, one in {**fixed, len(original.journal): original}.items()
    }
).T.rename_axis("fixed after rewiring")

# %% jupyter={"source_hidden": true}
assert fixed[18].last("test accuracy") > fixed[0].last("test accuracy") + 0.04

# %% [markdown]
# *You see one training and its branches on 600 digits, so a difference of two points may be chance.* The first
# rewirings matter most. On our machine the topology of the start ended at 71 %, that of rewiring 6 at 86 %, and the
# original at 89 %. So six of 23 rewirings bring most of the gain, and the last five bring hardly anything.

# %% [markdown]
# ## Exercise 3: break RigL (10 minutes)
#
# When does rewiring do harm? Find a drop fraction with which RigL ends *below* the fixed mask, and let the trainings
# decide. Write your number in place of `None`. The check trains three seeds of RigL with it. They rewire every 10 steps
# to the very end and never exchange less. That takes some seconds.

# %% tags=["nbval-ignore-output"]
losing_fraction = None

widgets.check(losing_fraction=losing_fraction)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Nine of ten connections are enough. A grown connection is then dropped again before it has learned anything, and
# strong connections go with the weak ones.
#
# ```python
# losing_fraction = 0.9
# ```
# </details>

# %% [markdown]
# ## What we saw
#
# - SET, RigL and GSE are one algorithm with three answers to the question where to grow.
# - With 293 connections, five starts and 40 epochs, RigL reads 25 ± 4 of 100 digits more than a fixed mask (t = 6.9),
#   and 10 ± 1 more than SET (t = 7.6). RigL and GSE differ by 2 ± 1 (t = 1.5), which is undecided.
# - With 256 hidden units per layer the gain of RigL over a fixed mask is 1.0 ± 0.2 points at 5 % of the weights (ten
#   seeds, t = 4.3), 4.1 ± 0.6 at 2 % (t = 7.1) and 29.2 ± 1.7 at 1 % (t = 17.3).
# - Initial weights that do not fit a sparse network double the lead of RigL in our race.
# - RigL packs its connections onto fewer units. SET tries more than one and a half times as many positions, and
#   few of its new connections survive the next rewiring (one start).
# - A branch from an early rewiring ends elsewhere, and one from a late rewiring hardly differs.
#
# What could mislead here? Digits are toy data and our networks are tiny, so that rewiring matters more than in wide
# ones, as the table above shows. Evci et al. (2020) report that RigL beats SET for large networks too. That is their
# claim, and these runs neither confirm nor refute it there. RigL also needs the dense gradient at every rewiring, so it
# is sparse most of the time, but not always. And a race with the wrong initial weights would have told us that rewiring
# is worth far more than it is.

# %% [markdown]
# ## Check yourself
#
# <details><summary>Why must the drop fraction fall to zero before training ends?</summary>
#
# A connection that was just grown starts at zero and needs steps to become useful. What is exchanged at the very end
# replaces trained connections by untrained ones.
# </details>
#
# <details><summary>RigL's churn is below its drop fraction. Could SET's be below it, too?</summary>
#
# Yes, but hardly. SET may draw a position that it has just dropped, so the connection regrows. With one position in
# twenty taken this is rare.
# </details>
#
# <details><summary>Two methods end with the same accuracy, but with an $R_s$ of 0.1 and 0.5. What does the difference
# tell you?</summary>
#
# The second one has tried five times as many positions for the same result. It may have searched where there was
# nothing to find, or it could continue where the first one is stuck. The number alone does not decide.
# </details>
#
# ## Go further
#
# - Let a rule of your own race. Write a class with `is_due` and `propose` in a file, register it, and call
#   `widgets.Race(digits_small, ("static", "rigl", "yours"))`. [SET and RigL](../sparsekit/rules/presets.py) are good
#   models.
# - Repeat the branches with another seed, and with `rule="set"` in place of a fixed topology.
#
# ## References
#
# - D. C. Mocanu et al. (2018), *Scalable training of artificial neural networks with adaptive sparse connectivity
#   inspired by network science*, arXiv:1707.04780: SET.
# - U. Evci et al. (2020), *Rigging the Lottery: Making All Tickets Winners*, arXiv:1911.11134: RigL.
# - M. Heddes et al. (2024), *Always-Sparse Training by Growing Connections with Guided Stochastic Exploration*,
#   arXiv:2401.06898: GSE.
# - U. Evci et al. (2022), *Gradient Flow in Sparse Neural Networks and How Lottery Tickets Win*, arXiv:2010.03533: why
#   initial weights must fit the fan-in.
# - S. Liu et al. (2021), *Do We Actually Need Dense Over-Parameterization?*, arXiv:2102.02887: in-time
#   over-parameterisation.
