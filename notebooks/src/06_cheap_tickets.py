# %% [markdown]
# # 6. Cheap tickets
#
# **30 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in about a minute
#
# You will learn
#
# - how one sparse training yields several sparse networks, and why they cost no epoch more
# - what a cycle is, with one large rewiring, a learning rate that climbs and returns, and a ticket where it is lowest
# - how much of the network the tickets visit together, and the bound on it
# - when new connections learn enough to matter, and when they do not
# - how to tell whether two tickets differ in their connections, and in their answers

# %% [markdown]
# ## Why
#
# A lottery ticket costs many trainings, each of a whole network ([notebook 5](05_lottery_tickets.ipynb)). Yin et al.
# ask for less. In **one** sparse training, they spend the last tenth of the epochs in short cycles, and take a *cheap
# ticket* at the end of each. Every ticket has the same number of connections, at other positions. So we ask *whether
# the tickets differ, how far they look around, and whether each is as good as the network they came from*. What several
# of them can do together is the question of [notebook 7](07_superposition.ipynb).

# %% [markdown]
# ## Set up

# %%
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

# %%
import sparsekit as sk
from sparsekit import analysis, datasets, plots, widgets
from sparsekit.experiments.sup_tickets import (
    grown_magnitudes,
    plan,
    run_all_sup_tickets,
    run_sup_tickets,
    sup_tickets_of,
)

# %%
torch.set_num_threads(1)
sup = sup_tickets_of("mnist1d-mlp", epochs=118, cycle_rate=0.153)
data = datasets.load(sup.experiment.data, **sup.experiment.data_settings)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "Each cycle begins with a rewiring that exchanges half of all connections. Three cycles follow the ordinary "
    "training. Each of the four networks uses 5 % of all possible connections. What share does at least one use?",
    ["5 %", "about 7 %", "about 10 %", "12.5 % or more"],
    2,
    "The bound is 12.5 %, which is 5 % and three times half of it. But RigL grows where the gradient is largest and "
    "may regrow what it has just dropped, so the networks overlap. We measure the number below.",
)
guess

# %% [markdown]
# ## The plan
#
# We take the setting that the package keeps for this recipe, RigL on MNIST-1D with 5 % of the weights, but with three
# cycles where it has five. So 118 epochs become 100 ordinary ones and three cycles of six. In the ordinary part the
# learning rate falls in steps to a hundredth. In a cycle it climbs from 0.01 to 0.1 and returns, batch by batch. At the
# start of each cycle, one large rewiring exchanges the share `explore` of the connections, and then the topology stays
# as it is. We take a ticket where the rate is lowest. We test on 10,000 examples, because the differences are small.

# %%
experiment, ends = plan(sup, len(data.train))
print(sup.split, "tickets after steps", ends)

# %% [markdown]
# ## Exercise 1: the triangle (5 minutes)
#
# Within a cycle of `cycle` steps, the learning rate is `low` at the start, `high` in the middle and `low` at the end,
# and straight between. Step 0 is the first of the first cycle. Write this schedule.


# %%
def triangle(step: int, low: float, high: float, cycle: int) -> float:
    raise NotImplementedError


check_triangle = widgets.Check(
    [((0, 1.0, 5.0, 8), 1.0), ((2, 1.0, 5.0, 8), 3.0), ((4, 1.0, 5.0, 8), 5.0), ((15, 1.0, 5.0, 8), 2.0)],
    hint="Where in its cycle is the step, from 0 to 1? How far is that from the middle?",
)
check_triangle(triangle)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def triangle(step, low, high, cycle):
#     position = (step % cycle) / cycle
#     return low + (high - low) * (1 - abs(2 * position - 1))
# ```
# </details>
#
# ## Collect
#
# Now we train once and stop for a moment at the end of each cycle. Every ticket is a small file with topology, values
# and batch norm. The first one, ticket 0, is the network before the first cycle.

# %%
collected = run_sup_tickets(sup, "runs", progress=False)
tickets = collected.tickets
table = collected.frame()
print(table[["connections", "density"]].to_string())

# %% tags=["nbval-ignore-output"]
print("test accuracy of the tickets, %:", (100 * table["accuracy"]).round(2).tolist())
fig, axes = plt.subplots(1, 2, figsize=(13, 3.6), layout="constrained", width_ratios=(3, 2))
plots.plot_cycles(collected.history.frame(), experiment.learning_rate, ends, axes[0])
plots.plot_cycles(collected.history.frame(), experiment.learning_rate, ends, axes[1], first=ends[0] - 200)
plt.show()

# %% [markdown]
# *The curves are test accuracy and learning rate (grey, logarithmic), with the cycles from near on the right. The dots
# are the tickets. A large rewiring and a high rate cost accuracy, and the way back to the low rate regains it.*
#
# ## How far do they look?
#
# Every large rewiring may add half of a network's connections to what has been visited, and no more. So the union of
# the pretrained network and $m$ tickets has density at most $d (1 + p m)$. How much of that do the tickets use? We
# collect with other values of `explore`. All these collections share the ordinary part, so it is trained only once, and
# their cycles are trained at once.

# %%
explored, rows = [replace(sup, explore=share) for share in (0.0, 0.1, 0.5, 0.8)], {}
for one, collection in zip(explored, run_all_sup_tickets(explored, "runs", progress=False), strict=True):
    union, densities = None, []
    for ticket in collection.tickets:
        union = ticket.topology if union is None else union | ticket.topology
        densities.append(union.density)
    rows[one.explore] = [*densities, 0.05 * (1 + 3 * one.explore)]
visited = pd.DataFrame(rows, index=["ticket 0", "1", "2", "3", "bound"]).T.rename_axis("explore")

# %% tags=["nbval-ignore-output"]
print((100 * visited).round(2).to_string())

# %% jupyter={"source_hidden": true}
assert (visited["3"] <= visited["bound"] + 1e-4).all()
assert 0.085 < visited.loc[0.5, "3"] < 0.12  # the answer of the prediction above

# %% [markdown]
# *The table gives the density of the union in per cent, after each ticket, for several values of `explore`. Where half
# of the connections may go, the four tickets have visited 10 % of all positions, and the bound is 12.5 %.*
#
# ## Do the masks differ?
#
# Next we compare the tickets two by two. Their *intersection over union* is the share of the connections of either that
# both have. Two random masks with as many connections in each layer overlap, too, and this chance is printed beside it.

# %%
topologies = [ticket.topology for ticket in tickets]
alike, chance = analysis.topology_similarity_matrix(topologies, measure="iou")
times = [float(alike[k, k + 1] / chance[k, k + 1]) for k in range(3)]
new = [sk.TopologyUpdate.between(before, after).num_grown / after.count for before, after in pairwise(topologies)]

# %% tags=["nbval-ignore-output"]
print(
    "neighbours share",
    [round(float(alike[k, k + 1]), 2) for k in range(3)],
    f"of their union, by chance {chance[0, 1]:.3f}",
)
print("connections that the ticket before did not have:", [f"{share:.0%}" for share in new])
plots.plot_comparison_matrix(alike, chance, names=[f"ticket {k}" for k in range(4)])

# %% jupyter={"source_hidden": true}
assert min(times) > 3
assert 0.2 < min(new) <= max(new) <= 0.5 + 1e-3

# %% [markdown]
# *Tickets of one run share about six times as much as random masks would. Two neighbours differ in 40 % of their
# connections, where the rewiring may exchange 50 %. The rest was dropped and regrown at once.*
#
# ## Do the new connections learn?
#
# A new connection starts at zero. If the cycle is too short, or its learning rate too low, it stays there, and the
# ticket is the old network with holes. So we compare the magnitudes of new connections, which ticket 0 does not have,
# with those that it has. We do so for our rates, and for those of the authors' commands, 0.001 to 0.005. Their cycles
# have 3,128 steps (on CIFAR), and ours have 378.

# %%
rates = {"0.01 to 0.1": tickets}
rates["0.001 to 0.005"] = run_sup_tickets(replace(sup, low=0.001, high=0.005), "runs", progress=False).tickets
magnitudes = {name: grown_magnitudes(several) for name, several in rates.items()}

# %% tags=["nbval-ignore-output"]
test = [(data.prepare(data.test.inputs), data.test.labels)]
model = sk.load_model(collected.history.folder)
for name, group in magnitudes.items():
    correct = [100 * sk.evaluate(ticket.model_like(model), test).accuracy for ticket in rates[name]]
    print(f"rates {name}: median |w| new {group.new.median():.3f}, kept {group.kept.median():.3f},", end=" ")
    print(f"ratio {group.ratio:.3f}, accuracies in % {[round(one, 1) for one in correct]}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(13, 3.4), layout="constrained", sharey=True)
bins = np.geomspace(1e-4, 4, 60)
for ax, (name, group) in zip(axes, magnitudes.items(), strict=True):
    for label, values in (("new", group.new), ("kept", group.kept)):
        ax.hist(values.numpy().clip(1e-4), bins, histtype="step", linewidth=2, label=label)
    ax.set(xscale="log", xlabel="magnitude |w|", title=f"cycles at rates {name}")
axes[0].set_ylabel("connections of tickets 1 to 3")
axes[0].legend(loc="upper left")
plt.show()

# %% jupyter={"source_hidden": true}
assert magnitudes["0.01 to 0.1"].ratio > 3 * magnitudes["0.001 to 0.005"].ratio

# %% [markdown]
# *The histograms have the same logarithmic axis. At our rates the median of the new connections is about a tenth of
# that of the kept ones, and some new ones are as strong as these. At the published rates it is about a hundredth,
# because in 378 steps so low a rate moves a weight very little. The tickets are then worse than the network that they
# come from, since they have lost connections and gained nothing for them.*
#
# We would like the new connections to reach a third of the others (`grown_magnitudes(tickets).have_grown` asks for
# that), and with neither pair of rates they do. So a superposition will keep few of them. [Notebook
# 7](07_superposition.ipynb) counts how many, and measures whether they help.
#
# ## Do the answers differ?
#
# *Disagreement* is the share of test examples to which two networks give different answers. Two networks of accuracies
# $a$ and $b$ disagree at least $|a - b|$ and at most $(1 - a) + (1 - b)$.

# %%
outputs, labels = analysis.outputs_of([ticket.model_like(model) for ticket in tickets], test)
apart = torch.as_tensor(analysis.disagreement(outputs))

# %% tags=["nbval-ignore-output"]
print((100 * pd.DataFrame(apart.numpy())).round(1).to_string())

# %% jupyter={"source_hidden": true}
assert (apart[*torch.triu_indices(4, 4, 1)] > 0.02).all()

# %% [markdown]
# *The table gives disagreement in per cent of the 10,000 test examples. Two tickets of about the same accuracy differ
# in 13 to 18 answers of a hundred, so there is something to average.*
#
# ## Your own loop
#
# You do not need the run folder for this. The rule `Cycles` goes into any loop, and a `TicketBook` takes tickets
# wherever you say:
#
# ```python
# rule = Cycles(base=sk.rules.RigL(stop=900), after=900, length=75, explore=0.5)
# book = sk.TicketBook("tickets")
# for step, stats, update in sk.training(model, optimizer, batches, loss_fn, rule, learning_rate=rate):
#     if rule.ends_at(step):
#         book.add(model, step=step + 1)
# ```
#
# ## What we saw
#
# - One training gives four networks of 5 %, and none costs an epoch beyond those that were planned. At our rates the
#   later ones have 71.9 to 72.7 % where ticket 0 has 72.5 % (one seed, so no verdict). At the published rates they have
#   about 70 %.
# - Each large rewiring exchanges fewer connections than it may, because some of what it drops regrows at once.
# - Masks and answers of the tickets differ. But the masks have six times as much in common as random ones would, so
#   the tickets are relatives and not strangers.
# - Whether new connections learn anything depends on the length and the learning rate of a cycle. At the published
#   rates, which belong to longer cycles, they stay near zero here.
#
# Our evidence has limits, because we have one seed, one rule and a small network. We searched for our rates (on other
# seeds), and they need not be the best. [Notebook 7](07_superposition.ipynb) measures, with several seeds, whether the
# differences between tickets are worth anything.

# %% [markdown]
# ## Check yourself
#
# - Why must we take a ticket where the learning rate is low? The defaults of the authors' code had it the other way
#   round. Try `Triangular` with tickets in the middle of the cycle.
# - With `rule="set"` the large rewiring grows at random. Is the union larger?
# - What would `explore=0` be called elsewhere?
#
# ## Go further
#
# - `sparsekit sup-tickets mnist1d-mlp --rule gse` collects and superposes from the command line.
# - `freeze=False` lets the rule continue within cycles, as in the authors' commands for ImageNet.
#
# ## References
#
# - L. Yin et al. (2022), *Superposing Many Tickets into One: A Performance Booster for Sparse Neural Network Training*,
#   arXiv:2205.15322.
# - P. Izmailov et al. (2018), *Averaging Weights Leads to Wider Optima and Better Generalization*, arXiv:1803.05407.
