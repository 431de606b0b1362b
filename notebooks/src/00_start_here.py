# %% [markdown]
# # 0. Start here
#
# **30 minutes** · needs: Python, and what a neural network is · runs in under a minute
#
# You will learn
#
# - what a sparse network is, and which of its connections it uses to read *your* handwriting
# - how to make a model sparse in three lines, and which single line of a training step changes its connections
# - how to use these notebooks, where you move things first, then guess, and then measure
#
# We begin with a network that is small enough to see whole. It learns to read digits, with 293 connections instead of
# the 5,856 that it could have. Run the next two cells, and watch it learn.

# %% jupyter={"source_hidden": true}
import inspect

import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.population import run_all
from sparsekit.experiments.recipes import digits_small

torch.set_num_threads(1)  # in small networks several threads would only wait for each other
film = widgets.film_of(digits_small(rule="rigl", density=0.05, seed=0))

# %% tags=["nbval-ignore-output"]
view = widgets.NetworkView(film)
view

# %% [markdown]
# *Each line is one weight of a network that was trained a moment ago. Blue lines excite, orange lines inhibit, and
# dashes lie on no path from a pixel to a digit.*
#
# Before we explain anything, you should try it, because everything here answers to your hand.
#
# 1. **Draw a seven** in the square, with the mouse, a pen or a finger. The network reads it at once. Then press *What
#    your digit uses*, and the lines show how much signal each of them carries for your seven.
# 2. **Point at a unit.** The square shows what it looks for, and the lines show its paths.
# 3. **Click a unit** to cut it out. The accuracy follows. Can you find one that costs more than 20 points?
# 4. **Drag along the left curve** to go back in the training, and along the right one to take the weakest lines away.

# %% [markdown]
# ## Predict
#
# Now we look at the dashed lines, but you should commit to a guess first. It takes a moment, and it helps you to
# remember.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "We take all dashed connections away at once. How many of the 600 predictions on test digits change?",
    ["none", "about 30", "about 150", "more than 300"],
    0,
    "Nothing that depends on the input runs along a dashed line. It can add a constant at most.",
)
guess

# %% [markdown]
# We can measure that. `effective_topology` keeps the connections that lie on a path from an input to an output. We
# give a copy of the network only those, and compare all predictions, one by one.

# %% tags=["nbval-ignore-output"]
data, network = film.data, film.model
inputs, labels = data.prepare(data.test.inputs), data.test.labels
whole = sk.topology_of(network)
effective = analysis.effective_topology(whole)
pruned = sk.sparsify(sk.densify(network), effective, init="dense")  # with the weights as they are
changed = int((network(inputs).argmax(1) != pruned(inputs).argmax(1)).sum())
print(f"{whole.count - effective.count} of {whole.count} connections are on no path, and {changed} predictions change")
guess.measured(f"{changed} of {len(labels)} predictions changed.")

# %% jupyter={"source_hidden": true}
assert 20 < whole.count - effective.count < 150
assert changed <= 12

# %% [markdown]
# *A quarter of the budget is spent on lines that do nothing for the answer.* Images of masks hide this, and the graph
# shows it at once. Rules that avoid it are the subject of notebooks 01 and 02.
#
# ## Which connections did it use for *your* seven?
#
# The page tells the kernel what you drew, so a cell can continue with it. We send your digit through the network, layer
# by layer, and count how many connections carry nine tenths of the signal. If you have drawn nothing yet, we take a
# seven of the test digits.

# %% tags=["nbval-ignore-output"]
seven = inputs[labels == 7][0]
signal = torch.tensor(view.drawn) if view.drawn else seven
for name, layer in sk.sparse_layers(network).items():
    flow = (layer.dense_weight().detach() * signal).abs().flatten().sort(descending=True).values
    needed = int((flow.cumsum(0) < 0.9 * flow.sum()).sum()) + 1
    print(f"{name}: {needed} of {layer.topology.count} connections carry nine tenths of the signal")
    signal = layer(signal).detach().relu()
print("it reads a", int(network((torch.tensor(view.drawn) if view.drawn else seven)[None]).argmax()))

# %% [markdown]
# *Most of the connections rest while a digit is read, and another digit uses others.* Two things could mislead you
# here. The size of a signal is not yet its effect on the answer, so cut a line to see that. And you draw with a mouse,
# while the training digits were written with a pen by other people, so your digits are harder than the test digits.
#
# ## Why sparse?
#
# A trained network often has far more weights than it needs, so the classical way is to train it dense and to *prune*
# it, which means to take its weakest weights away. The other way is **sparse training**. The network is sparse from its
# first step to its last, and finds out during training which connections it needs. It saves memory and, with kernels
# made for it, time. Below you see both ways with the same number of connections. So again, guess first.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
prune_guess = widgets.Predict(
    "We train the same network dense, with all 5,856 weights. Then we keep only its 293 strongest, and train no more. "
    "How many of 100 test digits does it still read?",
    ["about 10, as guessing would", "about 35", "about 80", "about 95, as before"],
    1,
    "The strongest weights alone do not make a network. Pruned networks need more training, as notebook 05 shows.",
)
prune_guess

# %%
dense_film = widgets.film_of(digits_small(rule="dense", seed=0))

# %% tags=["nbval-ignore-output"]
both = widgets.NetworkView({"dense, all 5,856": dense_film, "sparse from the start, 293": film})
both

# %% [markdown]
# *Drag along the right chart, from all connections to few. The curve is your own trail. The ring is the network that
# was sparse from the start.*
#
# You have found a cliff. The notebook measures one point of it as well.

# %% tags=["nbval-ignore-output"]
layers = {name: dense_film.model.get_submodule(name) for name in sk.shapes_of(dense_film.model)}
few = sk.keep_top_global({name: layer.weight.detach().abs() for name, layer in layers.items()}, whole.count)
cut = sk.sparsify(dense_film.model, few, init="dense")
right = [float((one(inputs).argmax(1) == labels).float().mean()) for one in (dense_film.model, cut, network)]
print(f"dense {right[0]:.1%}, its strongest {few.count} {right[1]:.1%}, sparse from the start {right[2]:.1%}")
prune_guess.measured(f"It reads {right[1]:.1%} of {len(labels)} test digits.")

# %% jupyter={"source_hidden": true}
assert right[1] < 0.6 < 0.85 < right[2] < right[0]

# %% [markdown]
# *This is one training of each kind, and nothing was trained again after the cut. So it shows that pruning needs care,
# and not yet that sparse training is better.*
#
# ## A sparse network in three lines
#
# Now we make such a network ourselves. We begin with an ordinary PyTorch model of three linear layers, and with 1,797
# scans of handwritten digits, 8 × 8 pixels each. They come with scikit-learn, so you need not download anything.

# %%
torch.manual_seed(0)
dense = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10))
print(len(data.train), "scans to train,", len(data.test), "to test")

# %% [markdown]
# Here are the three lines. The first line collects the shapes of the layers that can be sparse. The second one draws a
# **topology**, which says which connections exist. Ours is random and holds one weight in twenty. The third line makes
# the sparse copy of the model. It also makes the weights of each unit larger, because they were drawn for many more
# inputs than are left. Notebook 02 shows what happens otherwise.

# %%
shapes = sk.shapes_of(dense)
topology = sk.random_topology(shapes, 0.05, seed=0)
model = sk.sparsify(dense, topology)
print(model)

# %% [markdown]
# The share of weights that exist is called the **density**, here 0.05. Papers often speak of *sparsity*, which is one
# minus the density, so 95 % here. Our code always says density. Our sliders are labelled with sparsity, because that is
# the word people use. We look at the topology as papers show it, with one mask per layer. A row is an output, a column
# is an input, and a dark pixel is a connection.

# %% tags=["nbval-ignore-output"]
plots.plot_masks(topology)

# %%
table = analysis.layer_table(topology)
table[["count", "size", "density", "fan_in_min", "dead_outputs", "dead_inputs"]].round(4)

# %% [markdown]
# *Fan-in* is the number of connections into an output. A *dead* output has none at all, and a dead input is one that no
# unit reads. The layers do not get the same density, because small layers get more. The next notebook,
# [01_masks_and_budgets](01_masks_and_budgets.ipynb), is about this choice.

# %% [markdown]
# ## The one line where a mask changes
#
# Sparse training is ordinary training plus one line. Here you see the training step that the package itself runs. Look
# for `rewire` in it.

# %%
print(inspect.getsource(sk.train_step).partition('"""')[0].strip())
print("    ...")
print(inspect.getsource(sk.train_step).rpartition('"""')[2].strip("\n"))

# %% [markdown]
# The rest of the package is built around this function, so it is worth reading once.
#
# <details><summary>Line by line</summary>
#
# - `rule.is_due(step)` says whether this is a rewiring step. A **rule** is a frozen value such as
#   `RigL(stop=750, every=25)`.
# - `backward` runs the batch forward and backward. It returns the loss and the accuracy, and `io` holds what the layers
#   saw, if `what_to_capture` says that the rule wants to look. SET never looks. RigL looks on rewiring steps.
# - `add_gradient_penalty` adds what a few rules want in the gradients, such as noise. Most rules want nothing.
# - `optimizer.step()` updates the weights, as in any training. With RigL a rewiring takes its place. Then
#   `replaces_update` is true, so the line is skipped.
# - `due or updates_every_step(rule)` is true on rewiring steps, and at every step for the few rules that must watch.
# - `rule_views` collects all that a rule may see, which is the connections, values and gradients of each layer.
# - `rule.propose` returns the new topology and changes nothing. Then `rewire` makes the change. Dropped weights become
#   zero, grown ones start where `grow_init_for` says (usually at zero), and the optimizer state (momentum and the like)
#   moves along. The number of connections stays exactly what it was.
# - `update_state` keeps what a few rules must know at the next step. Most rules keep nothing.
# - `zero_grad` clears the gradients, and the step returns its numbers and what has changed.
# </details>

# %% [markdown]
# ## Watch it train
#
# Now we repeat this step 1,140 times, and look at the network meanwhile. Press **Start** if you run this
# notebook cell by cell, **Pause** to look, and **Stop** when you have seen enough. The last of these cells waits for
# the end, so *Run All* works too.

# %%
rule = sk.rules.RigL(stop=850, every=25)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
batches = sk.datasets.stream(data, 64, seed=0)
steps = widgets.live_training(model, optimizer, batches, nn.functional.cross_entropy, rule, steps=1140)
live_film = widgets.NetworkFilm(model, data)
run = widgets.Run(live_film.record(steps), total=1140)

# %% tags=["nbval-ignore-output"]
panel = widgets.LivePanel(run, masks=False)
panel

# %% tags=["nbval-ignore-output"]
live_view = widgets.NetworkView(live_film, run=run)
live_view

# %%
last = run.wait(timeout=300)
print(f"{run.state} after {last.step + 1} steps with {last.topology.count} connections")

# %% [markdown]
# *The graph above shows the network as it stood at the end.* Its learning rate stayed the same, while that of the first
# network fell to zero, so do not compare the two numbers. RigL also moved connections between pixels, as the next
# figure shows.

# %% tags=["nbval-ignore-output"]
figure, (before, after) = plots.subplots(1, 2, width=9, height=3.6)
plots.plot_input_map(topology["0"], (8, 8), before)
plots.plot_input_map(sk.topology_of(model)["0"], (8, 8), after)
before.set_title("connections per pixel, before")
after.set_title("after")
figure

# %% [markdown]
# *Nobody told the network where the digits are. Their gradients did.* Some pixels are blank in nearly all scans. We
# count the connections that they have.

# %% tags=["nbval-ignore-output"]
blank = (data.train.inputs > 0).float().mean(0) < 0.05
ends = [int(one["0"].fan_out()[blank].sum()) for one in (topology, sk.topology_of(model))]
print(f"{int(blank.sum())} pixels, blank in 19 of 20 scans, have {ends[0]} connections before, {ends[1]} after")

# %% jupyter={"source_hidden": true}
assert ends[1] < ends[0]

# %% [markdown]
# ## What is rewiring worth?
#
# One training proves little, so we train with five **seeds**. A recipe says everything that decides a training, and
# `run_all` carries out several of them at once. The first five keep their random connections, and the others rewire
# them with RigL. What do you expect?

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
seeds_guess = widgets.Predict(
    "RigL's networks read about 91 of 100 digits. How many does the same network read with 293 connections that were "
    "drawn at random and then stay where they are?",
    ["about 10, as guessing would", "about 67", "about 85", "about 91, as with RigL"],
    1,
    "Which connections exist matters a lot when there are so few. With 4,224 connections it matters far less.",
)
seeds_guess

# %%
fixed = run_all([digits_small(rule="static", density=0.05, seed=k) for k in range(5)], "runs", progress=False)
rewired = run_all([digits_small(rule="rigl", density=0.05, seed=k) for k in range(5)], "runs", progress=False)
fixed, rewired = ([one.last("test accuracy") for one in histories] for histories in (fixed, rewired))

# %% tags=["nbval-ignore-output"]
print(f"mean test accuracy: {sum(fixed) / 5:.1%} with fixed connections, {sum(rewired) / 5:.1%} with RigL")
print(analysis.assess_claim("RigL beats connections that stay where they are", rewired, fixed))
seeds_guess.measured(f"Five networks with fixed connections read {sum(fixed) / 5:.1%} on average.")

# %% jupyter={"source_hidden": true}
assert sum(fixed) / 5 < 0.8 < sum(rewired) / 5

# %% [markdown]
# *All claims in this course are assessed like this one. You read the mean difference and its standard error. Then comes
# t, which is the one divided by the other, and the threshold that it must exceed with so many seeds.*
#
# Do not take this gap to other networks. Wide networks have connections to spare, so a random topology does much
# better there, and [02_topology_evolution](02_topology_evolution.ipynb) measures that.

# %% [markdown]
# ## Three ways in
#
# You have seen two of the three ways to train, so here they are side by side. **Your own loop** needs two more lines,
# one that makes the model sparse and one that attaches a rule to the optimizer. Then you train as you always did,
# because rewiring happens inside `optimizer.step()`.

# %%
mine = sk.sparsify(dense, topology)
optimizer = torch.optim.Adam(mine.parameters(), lr=1e-3)
handle = sk.attach(mine, optimizer, sk.rules.SET(stop=20, every=10))
for _ in range(30):
    inputs, labels = next(batches)
    nn.functional.cross_entropy(mine(inputs), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
print(handle.step, "steps with", sk.topology_of(mine).count, "connections, as before:", topology.count)

# %% [markdown]
# For **a visible loop**, `sk.training(...)` yields after every `train_step`, and `sk.fit(...)` runs whole epochs with a
# progress bar. For **a whole experiment**, you write a recipe that says everything that decides a training. Then
# `sk.run` carries it out once, in a folder of its own. You can stop it wherever you like, because it resumes where it
# was, bit for bit. If you run it again, it is only read.

# %% tags=["nbval-ignore-output"]
history = sk.run(digits_small(rule="set", density=0.1, epochs=20), "runs", progress=False)
print(len(history.journal), f"rewirings recorded, test accuracy {history.last('test accuracy'):.1%}")

# %% [markdown]
# You can do the same from a terminal with `sparsekit train digits-small --rule set --density 0.1 --epochs 20`. There,
# `sparsekit list` shows what else you can train.

# %% [markdown]
# ## Exercise 1 (5 minutes)
#
# Exercises in this course are experiments where they can be. Here you find out which unit the network cannot do
# without. Go back to the first graph, click **Restore**, and cut *one* unit that costs at least 20 points. Then run the
# next cell, which measures the network that you left behind.


# %% tags=["nbval-ignore-output"]
def report(view, film) -> str:
    now, cuts = view.current_frame(), len(view.cut_units)
    lost = 100 * (film.frames[-1].accuracy - now.accuracy)
    if not cuts:
        return "Not answered yet, because nothing is cut."
    if cuts > 1:
        return f"You have cut {cuts} units. Restore them, and find a single one."
    return f"Your cut costs {lost:.1f} points. " + ("Found!" if lost >= 20 else "Try a unit with thicker lines.")


print(report(view, film))

# %% [markdown]
# *Which columns have such units, and how many connections do they have?* The next cell cuts each unit in turn, so that
# you see whether you were lucky.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
probe, costs = widgets.NetworkView(film), []
for column, unit in ((column, unit) for column in (1, 2) for unit in range(48)):
    probe.cut_units = [[column, unit]]
    costs.append(100 * (film.frames[-1].accuracy - probe.current_frame().accuracy))
probe.close()
print(f"{sum(cost >= 20 for cost in costs)} of 96 units cost 20 points or more, each alone,")
print(f"and {sum(abs(cost) < 0.05 for cost in costs)} cost nothing, among them those on no path")

# %% [markdown]
# ## Exercise 2 (5 minutes)
#
# Now you look for the cliff. With how few of its strongest connections does the sparse network still read 80 of 100
# digits? Drag in the first graph, without any cuts, and run the cell. Then do the same in the second graph with the
# dense network, and compare the two numbers.

# %% tags=["nbval-ignore-output"]
for name, one in {"sparse": view, "dense": both}.items():
    now = one.current_frame()
    print(f"{name}: {now.count} connections read {now.accuracy:.1%}" if one.kept else f"{name}: not answered yet")

# %% [markdown]
# ## Exercise 3 (3 minutes)
#
# Every exercise comes with a check. You can skip any of them, because a stub counts as "not answered yet". Write a
# function that returns how many connections a layer of `rows` × `columns` has at a density.


# %%
def count_of(rows: int, columns: int, density: float) -> int:
    raise NotImplementedError


widgets.check(count_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def count_of(rows, columns, density):
#     return round(rows * columns * density)
# ```
# </details>

# %% [markdown]
# ## Exercise 4: how much chance is enough? (5 minutes)
#
# Rewiring finds connections, and chance would find them too if there were enough. The check trains the small network
# from three seeds, with random connections that stay where they are. Find a density of at most 0.16 with which they
# read 90 of 100 digits.

# %% tags=["nbval-ignore-output"]
enough_density = None

widgets.check(enough_density=enough_density)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Each doubling of the density is worth less than the one before. With nearly three times as many connections chance
# does as well as RigL.
#
# ```python
# enough_density = 0.14
# ```
# </details>

# %% [markdown]
# ## How to use these notebooks
#
# - Everything that moves works with the mouse and the keyboard. Press Tab to reach it, then use the arrow keys.
# - *Copy as code* gives a line that makes the graph as you left it, for your notes or for a colleague.
# - The notebooks also hold still images, so you can read them where nothing runs, on GitHub for example.
# - If something is broken, choose *Kernel → Restart Kernel and Run All Cells*. You lose your answers and your sliders,
#   and finished experiments are read again.
# - Numbers come from real runs on your machine, so small differences are normal on another processor.

# %% [markdown]
# ## What we saw
#
# - A topology is a value that says which connections exist. The density says how many.
# - A network with 5 % of its connections reads about 91 of 100 digits, and a quarter of these connections is idle.
# - Its dense counterpart reads more, but not if it is cut to the same number in one go.
# - A sparse network trains with the ordinary loop plus `rewire`. With 293 connections, RigL reads 24.0 ± 3.7 points
#   more than a topology that stays as it was drawn (t = 6.5, n = 5).
# - All of this is one small network on toy data.
#
# ## The course
#
# Take the notebooks in order, or follow a question that you have.
#
# <details><summary>All notebooks, and the question of each</summary>
#
# | notebook | question | minutes |
# |---|---|---|
# | [01_masks_and_budgets](01_masks_and_budgets.ipynb) | given a budget of connections, where should they go? | 40 |
# | [02_topology_evolution](02_topology_evolution.ipynb) | can a network find better connections while it trains? | 40 |
# | [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb) | must growth see all gradients? | 45 |
# | [04_masks_before_training](04_masks_before_training.ipynb) | can a mask be chosen before training? | 40 (+ 20) |
# | [05_lottery_tickets](05_lottery_tickets.ipynb) | what does a winning ticket know? | 45 |
# | [06_cheap_tickets](06_cheap_tickets.ipynb) | how many good networks are in one training? | 40 |
# | [07_superposition](07_superposition.ipynb) | can several tickets become one? | 50 |
# | [08_loss_landscapes](08_loss_landscapes.ipynb) | where do tickets lie, and what is between them? | 55 |
# | [09_training_tricks](09_training_tricks.ipynb) | can any mask be trained better? | 50 |
# | [10_always_sparse_speed](10_always_sparse_speed.ipynb) | how much of the promise does the clock see? | 45 |
# | [11_bring_your_own](11_bring_your_own.ipynb) | how do your model, your data and your loop become sparse? | 50 |
# | [12_beyond_the_laptop](12_beyond_the_laptop.ipynb) | what is lost when a worker dies? | 45 |
# | [13_beat_rigl](13_beat_rigl.ipynb) | can you beat RigL with a rule of your own? | 60 |
# | [14_sparse_language](14_sparse_language.ipynb) | what does a language model of 3 % write? | 45 |
# </details>
#
# What you have done so far stands here. The list is kept in a small file in your own folder.

# %% tags=["nbval-ignore-output"]
widgets.Contents()

# %% [markdown]
# ## References
#
# - T. Hoefler et al. (2021), *Sparsity in Deep Learning*, arXiv:2102.00554: the survey.
# - D. C. Mocanu et al. (2018), *Scalable training of artificial neural networks with adaptive sparse connectivity
#   inspired by network science*, arXiv:1707.04780: SET.
# - U. Evci et al. (2020), *Rigging the Lottery*, arXiv:1911.11134: RigL.
