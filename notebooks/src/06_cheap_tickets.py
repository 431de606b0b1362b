# %% [markdown]
# # 6. Cheap tickets
#
# **30 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in about a minute
#
# You will learn
#
# - how one sparse training yields several good sparse networks, and why they cost no epoch more
# - what a cycle is, with one large rewiring, a learning rate that climbs and returns, and a ticket where it is lowest
# - how much of the network the tickets visit together, and the bound on it
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
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, datasets, plots, widgets
from sparsekit.experiments.recipes import mnist1d_mlp
from sparsekit.experiments.sup_tickets import SupTickets, plan, run_sup_tickets

torch.set_num_threads(1)
base = mnist1d_mlp(rule="rigl", density=0.05, epochs=20)
data = datasets.load(base.data)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "Each cycle begins with a rewiring that exchanges half of all connections. Three cycles follow the ordinary "
    "training. Each of the four networks uses 5 % of all possible connections. What share does at least one use?",
    ["5 %", "6 to 10 %", "just below 12.5 %", "20 %"],
    1,
    "The bound is 12.5 %, which is 5 % and three times half of it. But RigL grows where the gradient is largest and "
    "may regrow what it has just dropped, so the networks overlap again and again. We measure the number below.",
)
guess

# %% [markdown]
# ## The plan
#
# Twenty epochs become fourteen ordinary ones and three cycles of two. In the ordinary part the learning rate falls in
# steps to a hundredth. In a cycle it climbs to five times that and returns, batch by batch. At the start of each cycle,
# one large rewiring exchanges the share `explore` of the connections, and then the topology stays as it is. We take a
# ticket where the rate is lowest.

# %%
sup = SupTickets(experiment=base, cycle_rate=0.3, cycle_epochs=2, explore=0.5)
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
# and batch norm.

# %%
collected = run_sup_tickets(sup, "runs", progress=False)
tickets = collected.tickets
table = collected.frame()
print(table[["connections", "density"]].to_string())

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(13, 3.6), layout="constrained", width_ratios=(3, 2))
plots.plot_cycles(collected.history.frame(), experiment.learning_rate, ends, axes[0])
plots.plot_cycles(collected.history.frame(), experiment.learning_rate, ends, axes[1], first=ends[0] - 200)
plt.show()

# %% [markdown]
# *The curves are test accuracy and learning rate (grey, logarithmic), with the cycles from near on the right. The dots
# are the tickets.*
#
# ## How far do they look?
#
# Every large rewiring may add half of a network's connections to what has been visited, and no more. So the union of
# the pretrained network and $m$ tickets has density at most $d (1 + p m)$. How much of that do the tickets use?

# %%
rows = {}
for explore in (0.0, 0.1, 0.3, 0.5, 0.8):
    one = SupTickets(experiment=base, cycle_rate=0.3, cycle_epochs=2, explore=explore)
    union, densities = None, []
    for ticket in run_sup_tickets(one, "runs", progress=False).tickets:
        union = ticket.topology if union is None else union | ticket.topology
        densities.append(union.density)
    rows[explore] = [*densities, 0.05 * (1 + 3 * explore)]
visited = pd.DataFrame(rows, index=["ticket 0", "1", "2", "3", "bound"]).T.rename_axis("explore")
print("never above the bound:", bool((visited["3"] <= visited["bound"] + 1e-4).all()))

# %% tags=["nbval-ignore-output"]
print((100 * visited).round(2).to_string())

# %% [markdown]
# *The table gives the density of the union in per cent, after each ticket, for several values of `explore`.*
#
# ## Do the masks differ?
#
# Two random masks of this density, spread evenly over the layers, would share a fortieth of their union. Tickets of one
# run share far more, so they are neighbours.

# %%
topologies = [ticket.topology for ticket in tickets]
alike, chance = analysis.topology_similarity_matrix(topologies, measure="iou")
times = [float(alike[i, i + 1] / chance[i, i + 1]) for i in range(3)]
print("neighbours overlap more than five times as much as chance would have it:", min(times) > 5)

# %% tags=["nbval-ignore-output"]
plots.plot_comparison_matrix(alike, chance, names=[f"ticket {i}" for i in range(4)])

# %%
new = [sk.TopologyUpdate.between(before, after).num_grown / after.count for before, after in pairwise(topologies)]
print("of every ticket's connections, more than a fifth are new:", min(new) > 0.2)

# %% [markdown]
# ## Do the answers differ?
#
# *Disagreement* is the share of test examples to which two networks give different answers. Two networks of accuracies
# $a$ and $b$ disagree at least $|a - b|$ and at most $(1 - a) + (1 - b)$.

# %%
model = sk.load_model(collected.history.folder)
test = [(data.prepare(data.test.inputs), data.test.labels)]
outputs, labels = analysis.outputs_of([ticket.model_like(model) for ticket in tickets], test)
apart = torch.as_tensor(analysis.disagreement(outputs))
pairs = torch.triu_indices(4, 4, 1)
print("pairs that disagree:", bool((apart[pairs[0], pairs[1]] > 0).all()))

# %% tags=["nbval-ignore-output"]
print((100 * pd.DataFrame(apart.numpy()).round(4)).to_string())
print("test accuracy, %:", (100 * table["accuracy"]).round(2).tolist())

# %% [markdown]
# *The table gives disagreement in per cent of the 1,000 test examples. It is small, but it is not nothing, so there is
# something to average.*
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
# - One training of the usual length gives four networks of 5 %. None costs an epoch more.
# - Each large rewiring exchanges fewer connections than it may, because some of what it drops regrows at once.
# - Masks and answers of tickets differ a little, so the tickets are relatives, not strangers.
#
# Our evidence has limits, because we have one seed and a net that trains in seconds. The learning rate of the cycles is
# low (a hundredth of the first, to a twentieth), so the tickets cannot go far. You can change that with `low` and
# `high`. [Notebook 7](07_superposition.ipynb) measures, with several seeds, whether their differences are worth
# anything.

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
