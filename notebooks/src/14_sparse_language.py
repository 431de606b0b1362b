# %% [markdown]
# # 14. Sparse language
#
# **45 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in under a minute
#
# Until now our networks looked at images. Here they write. We train four small language models, the first with all its
# weights, the others with 10, 3 and 1 % of those in attention and feed-forward layers. Each reads 153,600 characters of
# the King James Bible, once. That takes some seconds a network. A cheaper way to an empty network is to cut the
# smallest weights of the dense one, and you see what that is worth. Run the cells down to the figure.

# %% jupyter={"source_hidden": true}
import copy
import math
from itertools import islice

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.rules import RigL
from sparsekit.schedules import Constant, Cosine, Warmup

torch.set_num_threads(1)
DENSITIES = (0.1, 0.03, 0.01)


# %% jupyter={"source_hidden": true}
def gpt(rule="static", density=1.0, *, rate=None, **settings):
    """Return the experiment of a small language model, which reads each window of text once."""
    rate = 0.003 / density**0.5 if rate is None else rate  # we come back to this
    return sk.recipes.micro_gpt(
        rule=rule,
        density=density,
        batch_size=8,
        data_settings={"num_train": 2400},
        model_settings={"dim": 64, "depth": 1, "heads": 4},
        learning_rate=Warmup(Cosine(rate), steps=20),
        **settings,
    )


# %% jupyter={"source_hidden": true}
dense = sk.run(gpt("dense"), "runs", progress=False)
fixed = {density: sk.run(gpt("static", density), "runs", progress=False) for density in DENSITIES}
text = sk.datasets.load("kjv-char")


def trained(histories):
    return {density: sk.load_model(history.folder) for density, history in histories.items()}


# %% jupyter={"source_hidden": true}
dense_model = sk.load_model(dense.folder)
weights = {name: dense_model.get_parameter(f"{name}.weight").detach().abs() for name in fixed[0.1].journal[-1]}
size = sum(weight.numel() for weight in weights.values())


def cut(density):
    return sk.sparsify(dense_model, sk.keep_top_global(weights, round(density * size)), init="dense")


# %% tags=["nbval-ignore-output", "first-still"]
explorer = widgets.TextExplorer(
    dense_model,
    {"trained sparse": trained(fixed), "cut afterwards": {density: cut(density) for density in (0.3, *DENSITIES)}},
    text,
    density=0.03,
)
explorer

# %% [markdown]
# Drag in the chart, and the text changes with the density. At the right the dense network continues the same prompt.
# It also reads what the other one wrote, and lines mark the letters that it did not expect. Three things to try:
#
# 1. Go from 10 to 1 % with **trained sparse**. Where do words stop looking like words?
# 2. Do the same with **cut afterwards**. What does a network write that has lost too much?
# 3. Type a prompt of your own, and move the temperature to 0 and to 1.5. Who repeats, and who babbles?
#
# *None of this makes sense as a text.* Real language models read millions of times more, and are a thousand times
# larger or more. These have learned how English is spelled, and which words are short.
#
# You will learn
#
# - how the loss of a language model is read, in **nats per character** and as **perplexity**
# - how far a network of 1 % is behind, and why one learning rate for all would mislead you
# - why the loss leaps when connections are exchanged, and what Adam has to do with it
# - which attention heads keep their connections
# - how to find the few weights that do a small task
#
# ## What a loss of 2 means
#
# We look at the measure first. At every position the model gives each of 73 characters a probability. The loss is the
# mean of $-\log p$ of the character that really came, in nats. Its exponential, the **perplexity**, says among how many
# equally likely characters the model is in doubt. Two simple tables show what numbers to expect. One knows how frequent
# each character is, and one knows how frequent each is after another.

# %%
pairs = torch.ones(73, 73)  # one of each, so that nothing is impossible
inputs, labels = text.train.inputs.flatten(), text.train.labels.flatten()
seen = labels >= 0  # windows at the end of a piece are filled up
pairs.index_put_((inputs[seen], labels[seen]), torch.tensor(1.0), accumulate=True)
by_frequency = (pairs.sum(0) / pairs.sum()).log().expand(73, 73)
by_pair = (pairs / pairs.sum(1, keepdim=True)).log()


def nats_of(table):
    inputs, labels = text.test.inputs.flatten(), text.test.labels.flatten()
    seen = labels >= 0
    return float(-table[inputs[seen], labels[seen]].mean())


# %% [markdown]
# ## Predict
#
# Both tables need no training at all. Before you see how they compare with our networks, commit to a guess.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "The network with 3 % of the attention and feed-forward weights has 1,475 of 49,152. How far is it behind the "
    "dense one, in nats per character?",
    ["by less than 0.1", "by about 0.2", "by about 0.4", "by as much as the table of pairs, or more"],
)
guess

# %% tags=["nbval-ignore-output"]
losses = {"how frequent a character is": nats_of(by_frequency), "which character came before": nats_of(by_pair)}
losses |= {f"{100 * density:g} %": history.last("test loss") for density, history in sorted(fixed.items())}
losses["dense"] = dense.last("test loss")
table = pd.DataFrame({"nats per character": losses})
table["perplexity"] = table["nats per character"].map(math.exp)
behind = losses["3 %"] - losses["dense"]
option = min(range(4), key=lambda index: abs((0, 0.2, 0.4, losses["which character came before"])[index] - behind))
guess.measured(f"It is {behind:+.2f} nats per character behind.", option=option)
table.round(2)

# %% jupyter={"source_hidden": true}
assert losses["how frequent a character is"] > losses["which character came before"] > losses["1 %"]
assert abs(behind) < 0.15
assert losses["1 %"] < losses["dense"] + 0.3

# %% [markdown]
# *All networks know far more than the tables. The one with 3 % of its weights is about as good as the dense one, and
# the one with 1 % is close.* Two things help them. Their table of characters stays dense, 4,672 numbers. And nobody has
# read much here. After longer training the dense network goes ahead, by 0.13 nats at 10 % in
# [the larger experiment](../docs/text.md).
#
# ## One learning rate for all would mislead you
#
# The folded code at the top takes `0.003 / density**0.5` as learning rate. In a sparse layer fewer terms make a sum, so
# each may move further. A comparison with one rate for all punishes whoever it does not suit. So we train both networks
# with both rates.

# %% tags=["nbval-ignore-output"]
rates = {"0.003": 0.003, "0.017": 0.003 / 0.03**0.5}
rows = {
    "dense": {name: sk.run(gpt("dense", rate=rate), "runs", progress=False) for name, rate in rates.items()},
    "3 %": {name: sk.run(gpt("static", 0.03, rate=rate), "runs", progress=False) for name, rate in rates.items()},
}
by_rate = pd.DataFrame(
    {name: {rate: run.last("test loss") for rate, run in runs.items()} for name, runs in rows.items()}
).T
by_rate.columns.name = "learning rate"
by_rate.round(2)

# %% jupyter={"source_hidden": true}
assert by_rate.loc["3 %", "0.017"] < by_rate.loc["3 %", "0.003"] - 0.05

# %% [markdown]
# *Read the rows. With the smaller rate for both, the sparse network looks bad, and no missing connection is to blame.
# A fair table gives each network the better of its own two rates.* Two rates are few, so a study would try more.
#
# ## Why the loss leaps at a rewiring
#
# Until now the connections were fixed. RigL would exchange some while the network learns, and language models are
# trained by **Adam**, which divides each step by the size of recent gradients. It keeps two averages for each weight,
# and corrects them for how long it has counted. A new connection has nothing in its averages. If it shares the count of
# its layer, Adam takes the empty averages for old and certain ones, and its first step is far too long.
#
# We train on for 300 steps, rewire once, and measure the loss on the same 24 windows after each step. In `own`, new
# connections count from their birth. In `ramp`, their steps grow to full length over a hundred steps as well.


# %%
def steps_of(model, optimizer, count, seed):
    for inputs, labels in islice(sk.datasets.stream(text, 8, seed=seed), count):
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        yield


# %%
def losses_around(pair, kind, *, seed):
    model, optimizer = copy.deepcopy(pair)
    if kind in ("own", "ramp"):
        sk.own_step_counts(model, optimizer, ramp=100 if kind == "ramp" else 0)
    if kind != "no rewiring":
        once = RigL(start=20, every=20, stop=21, drop_fraction=Constant(0.3))
        sk.attach(model, optimizer, once, seed=seed)
    return [sk.evaluate(model, few, cross_entropy).loss for _ in steps_of(model, optimizer, 50, seed)]


# %%
few = [(text.test.inputs[:24], text.test.labels[:24])]
model = sk.load_model(fixed[0.03].folder)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.015)
for _ in steps_of(model, optimizer, 300, seed=1):
    pass
kinds = ("no rewiring", "shared", "own", "ramp")

# %% tags=["nbval-ignore-output"]
curves = {kind: [losses_around((model, optimizer), kind, seed=seed) for seed in (2, 3)] for kind in kinds}
rows = [
    {"method": kind, "seed": seed, "name": "test loss", "step": step - 20, "epoch": 0, "value": value}
    for kind, several in curves.items()
    for seed, values in enumerate(several)
    for step, value in enumerate(values)
]
ax = plots.plot_curves(pd.DataFrame(rows), name="test loss")
ax.set_ylabel("test loss (nats per character)")
plots.titled(ax, "New connections with an old step count throw the loss up")

# %% tags=["nbval-ignore-output"]
leaps = {kind: [max(values[20:]) - sum(values[15:20]) / 5 for values in several] for kind, several in curves.items()}
pd.DataFrame(leaps, index=["seed 2", "seed 3"]).round(2)

# %% jupyter={"source_hidden": true}
for shared, own, ramp in zip(leaps["shared"], leaps["own"], leaps["ramp"], strict=True):
    assert shared > own > ramp

# %% [markdown]
# *The table has the highest loss after the rewiring minus the mean of five steps before it. The exchange itself costs
# little, as `ramp` shows. What hurts are the first steps of the newcomers, and their own step counts tame them.* With
# small learning rates you would hardly see it. And a leap that is over after thirty steps need not harm the end of a
# training: on digits, claim 37 of [our list](../docs/claims.md) is **contradicted**, since own counts did not make RigL
# better.
#
# ## Exercise 1 (5 minutes)
#
# Adam's step is $\hat m/\sqrt{\hat v}$ learning rates long, with $\hat m = m/(1-\beta_1^t)$ and
# $\hat v = v/(1-\beta_2^t)$. The averages of a newcomer are 0 before its first gradient $g$. So after it, $m$ is
# $(1-\beta_1)g$ and $v$ is $(1-\beta_2)g^2$. How many learning rates long is its first step if it shares a count of
# $t$? Use $\beta_1=0.9$ and $\beta_2=0.999$.


# %%
def newcomer_step(count: int) -> float:
    raise NotImplementedError


widgets.check(newcomer_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def newcomer_step(count):
#     return (0.1 / (1 - 0.9**count)) / (0.001 / (1 - 0.999**count)) ** 0.5
# ```
#
# At a count of 1 it is 1, at 400 it is 1.8, and after thousands of steps 3.16.
# </details>
#
# ## Which heads keep their connections
#
# Last we ask where connections go when they may move. Attention has four **heads**, and each looks for something else
# in the text. Query, key and value of a head are 16 units each. At the start every head has about a quarter of the
# connections. Now RigL rewires nine times, with newcomers that ramp up.

# %% tags=["nbval-ignore-output"]
rule = RigL(every=30, stop=270, drop_fraction=Cosine(0.3))
moved = sk.run(gpt(rule, 0.03, step_count="ramp"), "runs", progress=False)
before, after = fixed[0.03].journal[-1], moved.journal[-1]
parts = ("query", "key", "value")
heads = {
    f"{part}, {name}": topology[f"block1.attention.{part}"].fan_in().view(4, 16).sum(1).tolist()
    for part in parts
    for name, topology in (("fixed", before), ("RigL", after))
}
counts = pd.DataFrame(heads, index=pd.Index(range(1, 5), name="head")).T
counts.index.name = "matrix"
most = counts.loc["key, RigL"].max() / counts.loc["key, RigL"].min()
plots.titled(plots.plot_matrix(counts, measure="connections"), f"Keys: one head has {most:.1f} times another's")

# %% [markdown]
# The same happens among neurons. Each of the 256 neurons of the feed-forward layer reads some of 64 features. With
# fixed connections a neuron has one or two. RigL makes a few of them **hubs**, and lets others go.

# %% tags=["nbval-ignore-output"]
fans = {name: topology["block1.fc1"].fan_in() for name, topology in (("fixed", before), ("RigL", after))}
rows = {
    name: {"without a connection": int((fan == 0).sum()), "most of one": int(fan.max())} for name, fan in fans.items()
}
print(f"With RigL the test loss is {moved.last('test loss') - losses['3 %']:+.2f} nats from that of fixed connections.")
pd.DataFrame(rows).T

# %% jupyter={"source_hidden": true}
spread = {name: counts.loc[f"key, {name}"].max() - counts.loc[f"key, {name}"].min() for name in ("fixed", "RigL")}
assert spread["RigL"] > spread["fixed"]
assert rows["RigL"]["most of one"] > rows["fixed"]["most of one"]
assert rows["RigL"]["without a connection"] > rows["fixed"]["without a connection"]

# %% [markdown]
# *Heads become unequal, and neurons even more so.* An empty neuron costs nothing, and could be removed with its column
# of the next matrix. The line above the table is sobering. So few steps do not repay the search, since every newcomer
# must learn from nothing. With ten times as many steps it may be otherwise, and you can try that.
#
# ## Exercise 2 (5 minutes)
#
# A test in batches gives a mean loss for each batch, and batches differ in their number of characters. Write the
# perplexity of the whole test.


# %%
def perplexity_of(losses: list[float], counts: list[int]) -> float:
    raise NotImplementedError


widgets.check(perplexity_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
#
# def perplexity_of(losses, counts):
#     total = sum(loss * count for loss, count in zip(losses, counts))
#     return math.exp(total / sum(counts))
# ```
# </details>
#
# ## A circuit that you can read
#
# With very few weights one can follow what a network does. We train a smaller one on a task of four signs. After six
# signs it must say the third one again. Training keeps the largest tenth of every matrix after each step. Then we leave
# out **nodes**, channels of a module, which have their mean from then on. We stop before the loss rises by 0.02 nats.
# What remains is the **circuit** of the task.

# %% jupyter={"source_hidden": true}
from sparsekit.models import build
from sparsekit.utils.seeds import seeded_rng

signs = torch.randint(0, 4, (256, 6), generator=torch.Generator().manual_seed(0))
with seeded_rng(torch.Generator().manual_seed(0)):
    reader = build("gpt", input_shape=(6,), num_classes=4, dim=16, depth=1, heads=2, tied=False)


def loss_of(outputs):
    return cross_entropy(outputs[:, :, -1], signs[:, 2])


# %%
optimizer = torch.optim.AdamW(reader.parameters(), lr=0.02, eps=1e-4)
sk.rules.keep_largest_weights(reader, optimizer, Cosine(1.0, 0.1).lasting(200))
for _ in range(300):
    optimizer.zero_grad()
    loss_of(reader(signs)).backward()
    optimizer.step()

# %% tags=["nbval-ignore-output"]
wiring = analysis.gpt_wiring(reader)
modules = analysis.modules_in(wiring)
circuit = analysis.find_circuit(reader, signs, loss_of, modules, limit=loss_of(reader(signs)).item() + 0.02)
edges = analysis.edges_of(reader, circuit.nodes, wiring)
widgets.CircuitExplorer(reader, circuit, edges, list("abcd"), signs, loss_of)

# %% jupyter={"source_hidden": true}
assert circuit.loss < circuit.whole_loss + 0.03
assert len(edges) < sum(weight.numel() for weight in reader.parameters()) / 20

# %% [markdown]
# Point at a node, and the bars show its activation at each sign. Click it, and it is ablated. Three things to try:
#
# 1. Which nodes of the attention differ between the third sign and the others? The task hangs on them.
# 2. Type a text of your own, such as `a a d a a a`. Does the network say the third sign?
# 3. Which single node costs most when it is ablated, and which costs nearly nothing?
#
# *The search left out what it could, so almost every node is needed.* In [a larger study](../docs/circuits.md) 15 to 26
# weights close a quote, where a dense network needs 827 to 1,739.
#
# ## What could mislead
#
# - Each network stands here with one seed. The losses of two seeds differ by a few hundredths, so do not read an order
#   into such differences.
# - The text is small and old, and spelling is most of what there is to learn in seconds.
# - Density counts the attention and feed-forward matrices only. The table of characters is dense in all networks.
# - Nothing here was faster. Masked layers compute everything, and the [chapter on speed](10_always_sparse_speed.ipynb)
#   says where storage `csr` wins.
#
# ## Check yourself
#
# <details><summary>One model has 4.0 nats per token of two characters, one 2.1 per character. Which wins?</summary>
# The first one. It needs 2.0 nats per character. Compare losses per character, never per token, when tokens differ.
# </details>
# <details><summary>Why does the perplexity of a table of pairs say something about grammar, and so little?</summary>
# A character depends on the one before it, since q is followed by u. A sentence depends on words far back, of which a
# pair knows nothing.
# </details>
# <details><summary>Your loss leaps at every rewiring. Name two remedies.</summary>
# You give newcomers a step count of their own, with a ramp. Or you exchange fewer connections at a time, or take a
# smaller learning rate.
# </details>
#
# ## Go further
#
# - `sparsekit train tiny-gpt --rule rigl --density 0.1 --storage csr` trains sixteen times as many weights for two
#   passes over the text. It takes some minutes.
# - [Language models](../docs/text.md) shows how your own text comes in, and what was measured.
# - Give `TextExplorer` networks that RigL has trained.
#
# ## References
#
# - A. Radford et al. (2018), *Improving Language Understanding by Generative Pre-Training*: the network.
# - D. Kingma, J. Ba (2015), *Adam*, arXiv:1412.6980: the averages and their correction.
# - U. Evci et al. (2020), *Rigging the Lottery*, arXiv:1911.11134: RigL.
# - L. Gao et al. (2025), *Weight-sparse transformers have interpretable circuits*, arXiv:2511.13653: circuits.
