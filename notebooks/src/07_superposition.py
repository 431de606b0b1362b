# %% [markdown]
# # 7. Superposition
#
# **50 minutes** · needs: [06_cheap_tickets](06_cheap_tickets.ipynb) · runs in about a minute
#
# You will learn
#
# - how several tickets become one network of the same size, and what pruning the average costs
# - which controls the claim needs, namely each ticket, the ensemble, the same cycles without rewiring, and other seeds
# - when superposition does not work, and why
# - why an average needs fresh batch-norm statistics

# %% [markdown]
# ## Mix three tickets yourself
#
# Several networks that vote are better than one, but they cost several times as much. Averaging their *weights* costs
# nothing, where it works. Sparse tickets have different connections, so their average has too many, and we prune it
# back to the budget. This is the *superposition* of Yin et al., who claim that it beats each ticket.
#
# We begin with three tickets of one training, taken as in [notebook 6](06_cheap_tickets.ipynb). For later we collect
# with four seeds, and three times for each seed from the same ordinary part. *Cheap* tickets come from cycles with
# large rewirings. *Still* ones have no rewiring, so their mean is plain averaging of weights, the control that says
# what new connections add. *Slow* ones have rewirings, but the learning rates of the authors' commands, at which new
# connections hardly learn in cycles as short as ours.

# %% jupyter={"source_hidden": true}
from dataclasses import replace

import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, datasets, widgets
from sparsekit.experiments.recipes import digits_mlp
from sparsekit.experiments.sup_tickets import (
    SupTickets,
    assess_superposition,
    run_all_sup_tickets,
    sup_tickets_of,
    superpositions,
)

# %%
torch.set_num_threads(1)
data = datasets.load("mnist1d", num_test=10_000)
SEEDS = 4
seeds = [sup_tickets_of("mnist1d-mlp", epochs=112, cycle_rate=12 / 112, seed=seed) for seed in range(SEEDS)]
kinds = {"cheap": {}, "still": {"explore": 0.0}, "slow": {"low": 0.001, "high": 0.005}}
sups = [replace(sup, **settings) for settings in kinds.values() for sup in seeds]
collections = run_all_sup_tickets(sups, "runs", progress=False)
cheap, still, slow = (collections[k * SEEDS : (k + 1) * SEEDS] for k in range(3))
model = sk.load_model(cheap[0].history.folder)
test = (data.prepare(data.test.inputs), data.test.labels)
train = (data.prepare(data.train.inputs), data.train.labels)
print([ticket.count for ticket in cheap[0].tickets])

# %% tags=["nbval-ignore-output"]
lab = widgets.TicketLab(cheap[0].tickets, model, test=test, train=train)
lab

# %% [markdown]
# *Every corner is one ticket, and the middle is all three. Drag the point, or untick a ticket, and the mask follows.
# Its colours say whose connections stay.* Look for three things. Where is the best mixture? How far is it from the
# worst, in standard errors? And whose own connections survive in the middle?

# %% [markdown]
# ## Predict
#
# Before we measure with more seeds, make a guess about strangers.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "Three tickets of one training are averaged and pruned back to 5 %. Four networks of other seeds, about as good, "
    "are averaged and pruned in the same way. What becomes of the two averages?",
    ["both are better than their members", "the first is no worse, the second is near chance", "both are near chance"],
    1,
    "Tickets of one training share most of their path, so they lie close together. Networks of other seeds number "
    "their hidden units in other ways. We measure both below.",
)
guess

# %% [markdown]
# ## Who survives?
#
# Now we count what the colours show. In equal parts, a connection of only one ticket is cut to a third before the
# ranking. For each ticket we take the connections that no other ticket has, and count those that stay.

# %%
mixed, union = cheap[0].superposed(), cheap[0].superposed(prune="never")
survival = {}
for number, ticket in enumerate(cheap[0].tickets):
    own = ticket.topology
    for other in cheap[0].tickets[:number] + cheap[0].tickets[number + 1 :]:
        own = own - other.topology
    survival[f"only ticket {number} has"] = {"connections": own.count, "survive": (own & mixed.topology).count}
survivors = pd.DataFrame(survival).T

# %% tags=["nbval-ignore-output"]
print(f"{mixed.count:,} connections ({mixed.density:.0%}), the union has {union.count / mixed.count:.1f} times as many")
print(f"ticket 0 has {(mixed.topology & cheap[0].tickets[0].topology).count:,} of them")
survivors.assign(share=(survivors["survive"] / survivors["connections"]).round(2))

# %% jupyter={"source_hidden": true}
shares = (survivors["survive"] / survivors["connections"]).tolist()
assert shares[0] > 2 * max(shares[1:])

# %% [markdown]
# *The connections of ticket 0 come from the long ordinary training, and they are large, so most of them survive even
# alone. Of the connections that only a later ticket has, fewer than one in four does. The superposition is mainly
# ticket 0 with other weights, and several hundred new connections.*
#
# ## All methods, beside their controls
#
# Next we measure every way to make one network of the tickets, with all four seeds. *Superposed* is the mean, pruned
# once. *Pruned each time* is what the authors' code does. *Active-only* divides by the number of tickets that have a
# connection. The *exponential moving average* (EMA) gives the last ticket half of the weight. *No exploration* is plain
# averaging.

# %%
tables = [
    superpositions(one.tickets, model, data, controls={"no exploration": other.tickets})
    for one, other in zip(cheap, still, strict=True)
]
accuracy = pd.concat([table["accuracy"] for table in tables], axis=1)

# %% tags=["nbval-ignore-output"]
print((100 * accuracy.T.agg(["mean", "sem"]).T).round(2).to_string())

# %% tags=["nbval-ignore-output"]
for claim in assess_superposition(tables):
    print(claim)
for better, worse in {"mean, not pruned": "superposed", "ensemble": "superposed", "superposed": "active-only"}.items():
    print(analysis.assess_claim(f"{better} beats {worse}", accuracy.loc[better], accuracy.loc[worse]))

# %% [markdown]
# *The second list says what pruning costs, what the ensemble has on top for three times the work, and whether a
# connection of one ticket should count as a third.* A claim is "reproduced" where t exceeds Student's threshold. Four
# seeds have the threshold 3.2, so a small difference may stay undecided here. Pruning costs 0.4 ± 0.1 points, and the
# ensemble has 0.7 ± 0.1 points on top. With ten other seeds (700 to 709) and
# five cycles everything is decided, as `sparsekit sup-tickets mnist1d-mlp --controls --seeds 10 --seed 700` printed:
#
# | the superposition beats | points (n = 10) | t (threshold 2.3) | verdict |
# |---|---|---|---|
# | the mean ticket | +0.9 ± 0.0 | 17.9 | reproduced |
# | the last ticket | +0.6 ± 0.1 | 6.3 | reproduced |
# | the best ticket | +0.5 ± 0.1 | 6.3 | reproduced |
# | plain averaging, no exploration | +0.8 ± 0.1 | 6.1 | reproduced |
#
# ## When does it not work, and why?
#
# Now we look at the slow cycles, because a gain has to be a gain over something good. [Notebook
# 6](06_cheap_tickets.ipynb) showed that new connections stay near zero there. We compare each superposition with the
# mean ticket, and with ticket 0, the network that was there before any cycle.

# %%
ours, rivals = {}, {"the mean ticket": lambda correct: correct.mean(), "ticket 0": lambda correct: correct.iloc[0]}
for name, several in {"cheap": cheap, "slow": slow}.items():
    networks = [one.superposed().model_like(model) for one in several]
    ours[name] = [sk.evaluate(network, [test]).accuracy for network in networks]

# %% tags=["nbval-ignore-output"]
for name, several in {"cheap": cheap, "slow": slow}.items():
    for rival, pick in rivals.items():
        theirs = [float(pick(one.frame()["accuracy"])) for one in several]
        print(analysis.assess_claim(f"{name}: the superposition beats {rival}", ours[name], theirs))

# %% [markdown]
# *Slow tickets have a superposition that is better than their mean, too. But this alone is worth nothing, because the
# cycles made the tickets worse. Against ticket 0 it loses 0.8 ± 0.3 points in the stored run (n = 4, t = -2.6). That is
# undecided, and in any case no gain. Cheap tickets gain 1.0 ± 0.3 points over ticket 0 (t = 3.1, threshold 3.2), which
# four seeds just leave undecided. So ask of every superposition whether it beats the network from before the cycles,
# and whether new connections have learned.*
#
# ## Strangers
#
# Now we take the last tickets of four different seeds. They are about equally good, but what is their average? The lab
# has four tickets here, so the kernel measures each mixture while you wait, and what does not fit the mask yet is grey.

# %% tags=["nbval-ignore-output"]
strangers = [one.tickets[-1] for one in cheap]
foreign = widgets.TicketLab(strangers, model, test=test, train=train)
foreign

# %%
apart = foreign.trial.accuracies
single = sum(apart[f"ticket {k}"] for k in range(SEEDS)) / SEEDS
lost = single - apart["mean, not pruned"]

# %% tags=["nbval-ignore-output"]
print(f"mean ticket {single:.1%}, ensemble {apart['ensemble']:.1%}, superposed {apart['superposed']:.1%}")
print(f"the strangers lose {100 * lost:.0f} points by averaging")

# %% jupyter={"source_hidden": true}
assert lost > 0.3

# %% [markdown]
# *The ensemble of strangers is better than that of relatives, which you find in the table above. Strangers disagree
# more often, so their mistakes cancel more often. Their average is near chance, because no path of low loss leads
# straight from one to the other. [Notebook 8](08_loss_landscapes.ipynb) draws the path, and maps the disagreement.*
#
# ## Batch norm
#
# Our MLP has no batch norm, so we take another network for the last question. In a network that has it, the statistics
# of an average are averages of statistics, so they describe no network. One pass over the training data mends that. We
# show it with a small convolutional network on digits and SET, in cycles at a high rate that exchange 80 % of the
# connections, so the tickets lie far apart. (We chose this setting of four, with two other seeds, because near tickets
# hardly show the effect.)

# %%
cnn = {"model": "small-cnn", "model_settings": {}, "data_settings": {"flat": False}}
few = [
    SupTickets(
        experiment=digits_mlp(rule="set", density=0.1, epochs=20, seed=seed, **cnn),
        **{"cycle_rate": 0.5, "cycle_epochs": 5, "low": 0.05, "high": 0.5, "explore": 0.8},
    )
    for seed in range(SEEDS)
]
normed = run_all_sup_tickets(few, "runs", progress=False)
net, digits = sk.load_model(normed[0].history.folder), datasets.load("digits", flat=False)
normed = [superpositions(one.tickets, net, digits).loc["superposed"] for one in normed]

# %% tags=["nbval-ignore-output"]
columns = ["accuracy", "accuracy, not refreshed", "loss", "loss, not refreshed"]
print(
    pd.DataFrame([row[columns] for row in normed], index=[f"seed {seed}" for seed in range(SEEDS)]).round(3).to_string()
)
fresh, stale = ([float(row[column]) for row in normed] for column in columns[2:])
print(analysis.assess_claim("fresh statistics lower the loss of the superposition", stale, fresh, unit="nats"))

# %% jupyter={"source_hidden": true}
assert sum(stale) > sum(fresh)

# %% [markdown]
# ## What we saw
#
# - Three networks give one network of the budget, at the price of one pass over the data.
# - With ten seeds and five cycles it beats the mean, the last and the best ticket, and plain averaging without rewiring
#   (n = 10 above). The gains lie between half a point and one point. Four seeds do not always suffice to see them.
# - The network that was there before the cycles leaves most connections to the superposition. New ones count where
#   they have learned, and in cycles at too low a rate the superposition is no better than that network.
# - Pruning once or each time, the mean or an exponential moving average, makes hardly a difference in the table.
#   Active-only is worse, because it lets connections of a single ticket in at full strength.
# - You must not average tickets of other seeds.
#
# ## What could mislead
#
# The net is small, and we searched for the setting (on other seeds). Averaging weights along one training is known to
# help without any new connection (Izmailov et al. 2018). So only the comparison with `explore=0` says what new
# connections add. The triangle is one training, and its neighbours differ by less than a standard error. That is why
# its shades are a smooth fit, and why you should not look for the best single mixture on the test examples.

# %% [markdown]
# ## Exercise 1: the forgotten ticket (10 minutes)
#
# Now experiment with the lab at the top. Give the three tickets weights such that more than half of the connections
# that only ticket 2 has survive, while the mixture is still better than the best single ticket. Then run this cell,
# which reads your lab.

# %%
chosen = [ticket for ticket, weight in zip(cheap[0].tickets, lab.weights, strict=True) if weight]
mine = sk.superpose(chosen, weights=[weight for weight in lab.weights if weight])
own = cheap[0].tickets[2].topology - cheap[0].tickets[0].topology - cheap[0].tickets[1].topology
stay, right = (own & mine.topology).count / own.count, lab.trial.accuracies["superposed"]

# %% tags=["nbval-ignore-output"]
print("Right." if stay > 0.5 and right > max(lab.alone) else "Not yet.", end=" ")
print(f"{stay:.0%} of the connections of ticket 2 alone survive, and the accuracy is {right:.1%}")

# %% [markdown]
# ## Exercise 2: tear two tickets apart (10 minutes)
#
# Averaging works within one basin. Can you leave it? The check takes the small digits network, and its two cycles
# exchange a fifth of the connections. Find a learning rate for the middle of a cycle, with which the average of ticket
# 0 and the last ticket, not even pruned, is worse than *both* of them by more than a point. The last ticket must still
# read 75 of 100 digits.

# %% tags=["nbval-ignore-output"]
parting_rate = None

widgets.check(parting_rate=parting_rate)

# %% [markdown]
# <details><summary>Solution</summary>
#
# A high rate leads the training out of the basin, and the low rate at its end lets it settle in another one. Both
# tickets are fair networks then, and their average is not. If the rate is too high, the last ticket does not come back
# in time.
#
# ```python
# parting_rate = 0.35
# ```
# </details>

# %% [markdown]
# ## Exercise 3: let the last ticket be heard (10 minutes)
#
# With equal weights, connections that only one ticket has are cut to a third. The check takes cycles with a rate of 0.1
# and gives the last ticket the weight that you choose, and the two others share the rest. Find a weight with which more
# than half of the last ticket's own connections stay, while the superposition is still better than ticket 0 by more
# than a point.

# %% tags=["nbval-ignore-output"]
heard_weight = None

widgets.check(heard_weight=heard_weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The more weight the last ticket has, the more of its own connections stay. At a weight of 1 it is no superposition any
# more.
#
# ```python
# heard_weight = 0.7
# ```
# </details>

# %% [markdown]
# ## Exercise 4: superpose (10 minutes)
#
# Next you write the method itself. Each row is a ticket, with zeros where it has no connection. Average the rows, keep
# the `count` values of largest magnitude, and set the rest to zero.


# %% tags=["nbval-ignore-output"]
def superposed(tickets: torch.Tensor, count: int) -> list[float]:
    raise NotImplementedError


widgets.check(superposed)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def superposed(tickets, count):
#     mean = tickets.mean(0)
#     pruned = torch.zeros_like(mean)
#     positions = mean.abs().argsort(descending=True)[:count]
#     pruned[positions] = mean[positions]
#     return pruned.tolist()
# ```
# </details>

# %% [markdown]
# ## Check yourself
#
# - Why does a connection of one ticket out of three have to be three times as strong to survive?
# - The order of the tickets does not matter for the mean pruned once. For which method does it matter?
# - What does the ensemble cost at test time, and what does the superposition cost?
#
# <details><summary>Answers</summary>
#
# - The other two tickets count as zero there, so its average is a third of its value. It is ranked against averages of
#   connections that all three tickets have.
# - It matters where we prune each time, because a connection that was removed starts again from zero. The moving
#   average gives the last ticket more weight, so its order matters, too.
# - The ensemble of three needs three forward passes. The superposition has the connections of one ticket and needs one.
# </details>
#
# ## Go further
#
# - `greedy_soup` and `greedy_interpolation` in `sparsekit.tickets` choose by looking at held-out examples.
# - `superpose(tickets, density=0.02)` asks for a smaller budget than the tickets have.
#
# ## References
#
# - L. Yin et al. (2022), *Superposing Many Tickets into One: A Performance Booster for Sparse Neural Network Training*,
#   arXiv:2205.15322.
# - P. Izmailov et al. (2018), *Averaging Weights Leads to Wider Optima and Better Generalization*, arXiv:1803.05407.
# - M. Wortsman et al. (2022), *Model soups*, arXiv:2203.05482.
