# %% [markdown]
# # 0. Start here
#
# **15 minutes** · needs: Python, and what a neural network is · runs in half a minute
#
# You will learn
#
# - what a sparse network is, and how to make one from any model in three lines
# - which single line of a training step changes the connections
# - how to use these notebooks, where you guess first, then move things, and then look

# %% [markdown]
# ## Why
#
# A trained network often has far more weights than it needs. If we choose well, we can take most of them away, and it
# classifies nearly as before (you will do this in the next notebook). The surprise of recent years is that we need not
# train the large network first. A network can be sparse **from its first step to its last**, and it can find out during
# training which connections it needs. That is *sparse training*.
#
# Sparse training saves memory and, with kernels made for it, time. It is also a window into networks, because we can
# see which connections survive. In this course you watch them change.

# %% [markdown]
# ## Set up
#
# You find the whole package under the name `sk`. We use one thread, because in small networks several threads would
# only wait for each other.

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
# We begin with 1,797 scans of handwritten digits, 8 × 8 pixels each. They come with scikit-learn, so you need not
# download anything. Our network is an ordinary PyTorch model with three linear layers.

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
# *These are the first ten test images with their labels.*
#
# Now come the three lines. The first line collects the shapes of the layers that can be sparse. The second one draws a
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
# the word people use.
#
# Now we look at the topology, one mask per layer. A row is an output, a column is an input, and a dark pixel is a
# connection.

# %% tags=["nbval-ignore-output"]
plots.plot_masks(topology)

# %% [markdown]
# *Random topologies look like noise. After training they will look different.*

# %%
table = analysis.layer_table(topology)
table[["count", "size", "density", "fan_in_min", "dead_outputs", "dead_inputs"]].round(4)

# %% [markdown]
# *Fan-in* is the number of connections into an output. A *dead* output has none at all, and a dead input is one that no
# unit reads. The layers do not get the same density, because small layers get more. The next notebook,
# [01_masks_and_budgets](01_masks_and_budgets.ipynb), is about this choice.

# %% [markdown]
# ## Predict
#
# Before you look at an answer, commit to a guess. It takes a moment, and it helps you to remember.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "With all 84,480 weights, such a network reads about 97 of 100 digits. How many does it read with 4,224 of them, "
    "chosen at random before training and then fixed?",
    ["about 10, as guessing would", "about 50", "about 94", "about 97, as before"],
    2,
    "Five runs of 30 epochs have a mean of 94.3, and you will measure it in this notebook. Which connections exist "
    "matters less than you might think. It matters more when there are even fewer, as you will see.",
)
guess

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
# The rest of the package is built around this function, so we read it once, line by line.
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

# %% [markdown]
# ## Watch it train
#
# Now we repeat this step fifteen hundred times. Press **Start** if you run this notebook cell by cell, **Pause** to
# look, and **Stop** when you have seen enough. The cell below the panel waits for the end, so *Run All* works too.

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
# *You see the panel as it stood at the end, with the loss and accuracy of each batch and the masks. A dark row of layer
# `0` is a hidden unit that listens to many pixels. A dark column of layer `2` is a unit that many others listen to.*
#
# RigL also moved connections between pixels, as the next figure shows.

# %% tags=["nbval-ignore-output"]
fig, (before, after) = plt.subplots(1, 2, figsize=(9, 3.6))
plots.plot_input_map(topology["0"], (8, 8), before)
plots.plot_input_map(sk.topology_of(model)["0"], (8, 8), after)
before.set_title("connections per pixel, before")
after.set_title("after")
plt.show()

# %% [markdown]
# *Nobody told the network where the digits are. Their gradients did.* Some pixels are blank in nearly all scans. We
# count the connections that they have.

# %% tags=["nbval-ignore-output"]
blank = (data.train.inputs.flatten(1) > 0).float().mean(0) < 0.05
ends = [int(one["0"].fan_out()[blank].sum()) for one in (topology, sk.topology_of(model))]
print(f"{int(blank.sum())} pixels, blank in 19 of 20 scans, have {ends[0]} connections before, {ends[1]} after")

# %% tags=["nbval-ignore-output"]
test = [(data.prepare(data.test.inputs), data.test.labels)]
measured = sk.evaluate(model, test)
print(f"it reads {measured.accuracy:.1%} of {measured.count} digits that it has not seen")

# %% jupyter={"source_hidden": true}
assert ends[1] < 0.85 * ends[0]
assert measured.accuracy > 0.9

# %% [markdown]
# ## Three ways in
#
# We can train in three ways. **Your own loop** needs two more lines, one that makes the model sparse and one that
# attaches a rule to the optimizer. Then you train as you always did, because rewiring happens inside
# `optimizer.step()`.

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
from sparsekit.experiments.recipes import digits_mlp

history = sk.run(digits_mlp(rule="set", density=0.1, epochs=5), "runs", progress=False)
print(len(history.journal), f"rewirings recorded, test accuracy {history.last('test accuracy'):.1%}")

# %% [markdown]
# You can do the same from a terminal with `sparsekit train digits-mlp --rule set --density 0.1 --epochs 5`. There,
# `sparsekit list` shows what else you can train.
#
# Recipes make it easy to repeat a training with several **seeds**. So let us answer the question from above. `run_all`
# carries out several experiments, at once where they fit together.

# %%
from sparsekit.experiments.population import run_all

fixed = run_all([digits_mlp(rule="static", density=0.05, epochs=30, seed=k) for k in range(5)], "runs", progress=False)
full = run_all([digits_mlp(rule="dense", epochs=30, seed=k) for k in range(5)], "runs", progress=False)
fixed, full = ([one.last("test accuracy") for one in histories] for histories in (fixed, full))

# %% tags=["nbval-ignore-output"]
print(f"mean test accuracy: {sum(fixed) / 5:.1%} with 4,224 fixed connections, {sum(full) / 5:.1%} with all weights")
print(analysis.assess_claim("the dense network beats the sparse one", full, fixed))

# %% jupyter={"source_hidden": true}
assert 0.9 < sum(fixed) / 5 < sum(full) / 5

# %% [markdown]
# *All claims in this course are assessed like this one. You read the mean difference and its standard error. Then comes
# t, which is the one divided by the other, and the threshold that it must exceed with so many seeds. So the random
# network is worse, but by few points.*

# %% [markdown]
# ## Exercise 1 (3 minutes)
#
# Every exercise comes with a check. You can skip any of them, because a stub counts as "not answered yet". Write a
# function that returns how many connections a layer of `rows` × `columns` has at a density.


# %%
def count_of(rows: int, columns: int, density: float) -> int:
    raise NotImplementedError


check_count = widgets.Check(
    [((256, 64, 0.05), 819), ((10, 256, 0.5), 1280), ((3, 3, 1.0), 9)],
    hint="A density is a share of all rows × columns positions, and a number of connections is an integer.",
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
# - Sliders and buttons work with the mouse and the keyboard. Press Tab to reach one, then use the arrow keys.
# - The notebooks also hold still images, so you can read them where nothing runs, on GitHub for example.
# - If something is broken, choose *Kernel → Restart Kernel and Run All Cells*. You lose your answers and your sliders,
#   and finished experiments are read again.
# - Numbers come from real runs on your machine, so small differences are normal on another processor.

# %% [markdown]
# ## What we saw
#
# - A topology is a value that says which connections exist. The density says how many.
# - A sparse network trains with the ordinary loop plus `rewire`.
# - RigL moved connections away from blank pixels. This is one run on toy data.
# - With 5 % of its weights, at random and fixed, the network loses 2.8 ± 0.5 points to the dense one (t = 5.5, n = 5).
#   Whether rewiring does better is the question of [02_topology_evolution](02_topology_evolution.ipynb).
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
