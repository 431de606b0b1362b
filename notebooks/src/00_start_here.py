# %% [markdown]
# # 0. Start here
#
# **15 minutes** · needs: Python, and what a neural network is · runs in half a minute
#
# You will learn
# - what a sparse network is, and how to make one from any model in three lines;
# - the one line of a training step where its connections change;
# - how these notebooks want to be used: guess first, move things, then look.

# %% [markdown]
# ## Why
#
# A trained network is mostly waste. Take nine of ten weights away, choose them well, and it often classifies as
# before. The surprise of the last years is that one need not train the large network first: a network can be sparse
# **from its first step to its last**, and find out during training which connections it needs. That is *sparse
# training*.
#
# It saves memory and, with kernels made for it, time. It is also a window into networks: which connections survive, and
# which are given up, says what a network uses. The notebooks of this course let you watch.

# %% [markdown]
# ## Set up
#
# `sk` is the whole package. One thread is enough for small networks; more would only wait for each other.

# %%
import inspect

import matplotlib.pyplot as plt
import torch
from torch import nn

import sparsekit as sk
from sparsekit import analysis, plots, widgets

torch.set_num_threads(1)

# %% [markdown]
# ## A sparse network in three lines
#
# Our data are 1,797 scans of handwritten digits, 8 × 8 pixels each. They come with scikit-learn, so nothing is
# downloaded. The network is an ordinary one of PyTorch, with three linear layers.

# %%
data = sk.datasets.load("digits")
torch.manual_seed(0)
dense = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
print(len(data.train), "scans to train,", len(data.test), "to test")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 10, figsize=(10, 1.3))
for ax, inputs, label in zip(axes, data.test.inputs, data.test.labels, strict=False):
    ax.imshow(inputs.view(8, 8), cmap="gray_r")
    ax.set_title(int(label))
    ax.axis("off")
plt.show()

# %% [markdown]
# *The first ten test images with their labels.*
#
# Now the three lines. First the shapes of the layers that can be sparse. Then a **topology**: which connections exist.
# Here it is drawn at random, one weight in twenty. Then the sparse copy of the model.

# %%
shapes = sk.shapes_of(dense)
topology = sk.random_topology(shapes, 0.05, seed=0)
model = sk.sparsify(dense, topology)
print(model)

# %% [markdown]
# The share of weights that exist is called the **density**, here 0.05. Papers often say *sparsity*, which is one minus
# the density: 95 %. In code we always say density; our sliders are labelled with sparsity, because that is what people
# talk about.
#
# This is what the topology looks like, a picture per layer. A row is an output, a column an input, a dark pixel a
# connection.

# %% tags=["nbval-ignore-output"]
plots.plot_masks(topology)

# %% [markdown]
# *Random topologies look like noise. After training they will not.*

# %%
table = analysis.layer_table(topology)
table[["count", "size", "density", "fan_in_min", "dead_outputs", "dead_inputs"]].round(4)

# %% [markdown]
# *Fan-in* is the number of connections into an output. A *dead* output has none at all, and nobody reads a dead input.
# The layers do not get the same density: small ones get more. The next notebook,
# [01_masks_and_budgets](01_masks_and_budgets.ipynb), is about this choice.

# %% [markdown]
# ## Predict
#
# Before you look at an answer, commit to one. It takes a moment, and you will remember ten times more.

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "With all 84,480 weights, such a network reads about 98 of 100 digits. How many does it read with 4,224 of them, "
    "chosen at random before training and then fixed?",
    ["about 10, as guessing would", "about 50", "about 93", "about 98, as before"],
    2,
    "Ten runs gave 93.3 ± 0.3. Which connections exist matters less than one would think; it matters more when there "
    "are even fewer, as you will see.",
)
guess

# %% [markdown]
# ## The one line where a mask changes
#
# Training a sparse network is ordinary training plus one line. This is the whole training step of the package, not a
# simplified one. Look for `rewire`.

# %%
print(inspect.getsource(sk.train_step).partition('"""')[0].strip())
print("    ...")
print(inspect.getsource(sk.train_step).rpartition('"""')[2].strip("\n"))

# %% [markdown]
# Everything else in the package hangs on it:
#
# - `rule.is_due(step)` says when; a **rule** is a frozen value such as `RigL(stop=750, every=25)`;
# - `views(model, io)` is all that a rule may see: each layer's connections, their values and gradients;
# - `rule.propose(...)` returns the new topology and changes nothing;
# - `rewire` puts it in place: dropped weights become zero, grown ones start at zero, and the optimizer's memory
#   (momentum and the like) is moved along. The number of connections stays exactly what it was.

# %% [markdown]
# ## Watch it train
#
# The same step, fifteen hundred times. Press **Start** if you run this notebook cell by cell, **Pause** to look,
# **Stop** when you have seen enough. The cell below the panel waits for the end, so *Run All* works too.

# %%
rule = sk.rules.RigL(stop=1100, every=25)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
batches = sk.datasets.stream(data, 64, seed=0)
steps = widgets.live_training(model, optimizer, batches, nn.functional.cross_entropy, rule, steps=1500)
run = widgets.Run(steps, total=1500)

# %% tags=["nbval-ignore-output"]
panel = widgets.LivePanel(run)
panel

# %%
last = run.wait(timeout=300)
print(f"{run.state} after {last.step + 1} steps with {last.topology.count} connections")

# %% tags=["nbval-ignore-output"]
panel.snapshot()

# %% [markdown]
# *The panel as it stood in the end, kept as a picture: loss and accuracy of each batch, and the masks. A dark row of
# layer `0` is a hidden unit that listens to many pixels; a dark column of layer `2` is a unit many others listen to.*
# The network also chose its pixels:

# %% tags=["nbval-ignore-output"]
fig, (before, after) = plt.subplots(1, 2, figsize=(9, 3.6))
plots.plot_input_map(topology["0"], (8, 8), before)
plots.plot_input_map(sk.topology_of(model)["0"], (8, 8), after)
before.set_title("connections per pixel, before")
after.set_title("after")
plt.show()

# %% [markdown]
# *Nobody told the network where the digits are. It moved its connections there.*

# %%
test = [(data.prepare(data.test.inputs), data.test.labels)]
measured = sk.evaluate(model, test)
print("better than nine of ten:", measured.accuracy > 0.9, "| tested on", measured.count)

# %% [markdown]
# ## Three ways in
#
# **Your own loop** needs two more lines: attach a rule to the optimizer, and train as you always did. Rewiring happens
# inside `optimizer.step()`.

# %%
mine = sk.sparsify(dense, topology)
optimizer = torch.optim.Adam(mine.parameters(), lr=1e-3)
handle = sk.attach(mine, optimizer, sk.rules.SET(stop=20, every=10))
for _ in range(30):
    inputs, labels = next(batches)
    nn.functional.cross_entropy(mine(inputs), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
print(handle.step, "steps; connections:", sk.topology_of(mine).count, "as before:", topology.count)

# %% [markdown]
# **A visible loop**: `sk.training(...)` yields after every `train_step`, and `sk.fit(...)` does epochs with a progress
# bar. **A whole experiment**: a recipe says everything that decides a training, and `sk.run` carries it out once, in a
# folder of its own. Stop it wherever you like: it goes on where it was, to the last bit. Run it again: it is only read.

# %%
from sparsekit.experiments.recipes import digits_mlp

history = sk.run(digits_mlp(rule="set", density=0.1, epochs=5), "runs", progress=False)
print(len(history.journal), "rewirings recorded; better than guessing:", history.last("test accuracy") > 0.1)

# %% [markdown]
# The same from a terminal: `sparsekit train digits-mlp --rule set --density 0.1 --epochs 5`, and `sparsekit list` shows
# what else there is.

# %% [markdown]
# ## Exercise 1 (3 minutes)
#
# Exercises come with a check. A stub counts as "not answered yet", so you can skip any of them. Write a function that
# returns how many connections a layer of `rows` × `columns` has at a density.


# %%
def count_of(rows: int, columns: int, density: float) -> int:
    raise NotImplementedError


check_count = widgets.Check(
    [((256, 64, 0.05), 819), ((10, 256, 0.5), 1280), ((3, 3, 1.0), 9)],
    hint="A density is a share of all rows × columns places; a number of connections is whole.",
)
check_count(count_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def count_of(rows, columns, density):
#     return round(rows * columns * density)
# ```
# </details>

# %% [markdown]
# ## How to use these notebooks
#
# - Sliders and buttons work with the mouse and the keyboard: Tab to one, then the arrow keys.
# - Every widget also stands there as a picture, so the notebooks can be read where nothing runs, on GitHub for example.
# - Something is broken? *Kernel → Restart Kernel and Run All Cells*. Nothing is lost that matters.
# - Numbers come from real runs on your machine. On another processor the third digit may differ.

# %% [markdown]
# ## What we saw
#
# - A topology is a value: which connections exist. Density says how many.
# - A sparse network trains with the ordinary loop plus `rewire`.
# - RigL moved connections from blank pixels to those that carry ink. This is one run on toy data; what it says about
#   accuracy comes with several seeds in [02_topology_evolution](02_topology_evolution.ipynb).
#
# ## Go further
#
# | notebook | question |
# |---|---|
# | [01_masks_and_budgets](01_masks_and_budgets.ipynb) | given a budget of connections, where should they go? |
# | [02_topology_evolution](02_topology_evolution.ipynb) | can a network find better connections while it trains? |
# | [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb) | must growth look at all gradients? |
# | [04_masks_before_training](04_masks_before_training.ipynb) | can a mask be chosen before training? |
# | [05_lottery_tickets](05_lottery_tickets.ipynb) | what does a winning ticket know? |
# | [10_always_sparse_speed](10_always_sparse_speed.ipynb) | how much of what sparsity promises does the clock see? |
#
# ## References
#
# - T. Hoefler et al. (2021), *Sparsity in Deep Learning*, arXiv:2102.00554: the survey.
# - D. C. Mocanu et al. (2018), *Scalable training of artificial neural networks with adaptive sparse connectivity
#   inspired by network science*, arXiv:1707.04780: SET.
# - U. Evci et al. (2020), *Rigging the Lottery*, arXiv:1911.11134: RigL.
