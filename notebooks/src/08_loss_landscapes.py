# %% [markdown]
# # 8. Loss landscapes
#
# **45 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in about a minute
#
# You will learn
#
# - what lies between two sparse networks, a barrier or nothing
# - why the average of some networks is good and that of others is useless
# - how to look at the loss on a plane, and what such a figure hides
# - how sharply the loss bends on the connections that exist

# %% [markdown]
# ## Why
#
# Superposing tickets means averaging weights. That is a strange thing to do, because nobody trained the average. It
# works if the loss is low **everywhere between** the tickets, that is, if they lie in one basin. So we measure it, and
# we ask *whether tickets of one run are connected, and whether networks of different seeds are*. And *is a barrier
# unavoidable, or does it stand only on the straight line?*

# %% [markdown]
# ## Set up
#
# We train as in [notebook 6](06_cheap_tickets.ipynb), half as long, with three seeds. RigL learns MNIST-1D, which has
# ten classes of curves with forty points, and goes through three cycles at the end. Each run gives four tickets with
# 5 % of the weights. A ticket is a network at one moment, with its connections and their values. We measure landscapes
# on the 1,000 test examples.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.recipes import mnist1d_mlp
from sparsekit.experiments.sup_tickets import SupTickets, run_sup_tickets

# %%
torch.set_num_threads(1)
base = mnist1d_mlp(rule="rigl", density=0.05, epochs=10)
data = sk.datasets.load(base.data)
test = [(data.prepare(data.test.inputs), data.test.labels)]
train = list(zip(data.prepare(data.train.inputs).split(128), data.train.labels.split(128), strict=True))

# %%
sups = [SupTickets(experiment=replace(base, seed=seed), cycle_rate=0.3, cycle_epochs=1) for seed in range(3)]
collected = [run_sup_tickets(sup, "runs", progress=False) for sup in sups]
plain = sk.models.build("mlp", input_shape=data.shape, num_classes=data.num_classes)
runs = [[ticket.model_like(plain) for ticket in one.tickets] for one in collected]
accuracies = np.array([[sk.evaluate(net, test).accuracy for net in run] for run in runs])
pd.DataFrame(accuracies.round(3), index=["seed 0", "seed 1", "seed 2"]).rename_axis("ticket", axis=1)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "The last networks of seed 0 and of seed 1 are equally good. We average their weights. How many test examples "
    "does the average get right?",
    ["as many as the two", "a few points fewer", "less than half as many"],
    2,
    "Hidden unit 7 of one network has nothing to do with unit 7 of the other, and their mean does neither's work. You "
    "find the number below, and that for two tickets of one run.",
)
guess

# %% [markdown]
# ## Along a line
#
# Now we walk from one network to another in eleven steps, $\theta(a) = (1-a)\,\theta_1 + a\,\theta_2$. Two sparse
# networks have different connections, so all points between have those of both.

# %% tags=["nbval-ignore-output"]
first, later = runs[0][1], runs[0][3]
lines = {
    "one run": analysis.evaluate_path(analysis.linear_path(first, later), test),
    "two seeds": analysis.evaluate_path(analysis.linear_path(later, runs[1][3]), test),
}
fig, axes = plt.subplots(1, 2, figsize=(13, 3.6), layout="constrained")
plots.plot_barriers(lines, axes[0], of="accuracy")
plots.plot_barriers(lines, axes[1], of="connections")
plt.show()

# %%
for name, line in lines.items():
    middle = line.loc[line["position"] == 0.5].iloc[0]
    print(f"{name}: accuracy half way {middle['accuracy']:.2f}, with {int(middle['connections'])} connections")

# %% [markdown]
# *On the left you see test accuracy, and the thin lines join the ends. On the right you see the connections on the
# way.*
#
# How far the loss, or the error, rises above the line between the ends is called the **barrier**.
#
# ## Exercise 1: the barrier (5 minutes)
#
# `errors` are those of evenly spaced points on a line, both ends included. Return how high they rise above the straight
# line between the ends.


# %%
def barrier_of(errors: torch.Tensor) -> float:
    raise NotImplementedError


check_barrier = widgets.Check(
    [
        ((torch.tensor([0.1, 0.5, 0.1]),), 0.4),
        ((torch.tensor([0.1, 0.3, 0.3, 0.4]),), 0.1),
        ((torch.tensor([0.2, 0.1, 0.2]),), 0.0),
    ],
    hint="torch.linspace from the first to the last error gives the straight line.",
)
check_barrier(barrier_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def barrier_of(errors):
#     line = torch.linspace(float(errors[0]), float(errors[-1]), len(errors))
#     return float((errors - line).max())
# ```
# </details>
#
# ## Every pair
#
# We take three tickets of seed 0 and the last ones of two other seeds, where `0/1` is ticket 1 of seed 0. First we
# measure the error barrier of every pair, then the barriers within the runs against those between them.

# %% tags=["nbval-ignore-output"]
five = {"0/1": first, "0/2": runs[0][2], "0/3": later, "1/3": runs[1][3], "2/3": runs[2][3]}
barriers = analysis.barrier_matrix(list(five.values()), test, of="error")
plots.plot_matrix(barriers, names=list(five), measure="error barrier")

# %%
within = [analysis.barrier_matrix([run[1], run[3]], test, of="error")[0, 1] for run in runs]
across = [analysis.barrier_matrix([runs[k][3], runs[k - 1][3]], test, of="error")[0, 1] for k in range(3)]
noise = accuracies[:, 3].std(ddof=1)
print("all barriers within a run are below twice the spread of seeds:", bool(max(within) < 2 * noise))

# %% tags=["nbval-ignore-output"]
print(analysis.assess_claim("barriers between seeds are higher than within a run", across, within))

# %% [markdown]
# *All pairs of three seeds share their networks, so the standard error is somewhat too small. The gap is not.*
#
# ## A plane through three networks
#
# Three points lie on a plane, and on this plane we can measure the loss everywhere. Distances on it are those in weight
# space. The left plane goes through three tickets of one run, the right one through the last tickets of three seeds.
#
# The **superposition** averages all four tickets of the run and keeps the strongest connections, as many as one ticket
# has. It need not lie on the plane. Its hollow marker stands at the nearest point. The key says how far away it is, as
# a share of its distance from the first network.

# %%
superposed = collected[0].superposed().model_like(plain)
near = analysis.plane_through({f"ticket {k}": runs[0][k] for k in (1, 2, 3)}).including({"superposition": superposed})
far = analysis.plane_through({f"seed {seed}": runs[seed][3] for seed in range(3)})
grids = (near, near.axes(17)), (far, far.axes(17, margin=0.1))
surfaces = [analysis.surface(plane, test, axes=axes, progress=False) for plane, axes in grids]
shadow = near.points["superposition"]
print(f"superposition: {100 * shadow.share:.0f} % of its distance lies off the plane")
print(f"its accuracy is {sk.evaluate(superposed, test).accuracy:.2f}, that of tickets {accuracies[0].mean():.2f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
for surface, ax in zip(surfaces, axes, strict=True):
    plots.plot_surface(surface, ax)
plt.show()

# %% [markdown]
# *The figure shows test loss, and bright is low. Mind the two scales. On the left the tickets lie close together on the
# floor of one valley. On the right each seed sits in its own valley, and the path between them leads over a mountain.*
#
# A surface is computed row by row. With `cache="surface.npz"` each finished row is saved in that file, so an
# interruption costs one row at most.
#
# ## A path around
#
# Between two seeds there is a mountain. Is there no path around it? We bend the line. A third point between the two
# networks pulls it aside into a quadratic Bézier curve, and we **train** this point until the loss is low all along. In
# one curve it may have any weights of the dense network, in the other only those that one of the two networks has.

# %%
ends = runs[0][3], runs[1][3]
paths = {"straight": analysis.linear_path(*ends)}
for within in ("everywhere", "union"):
    paths[f"bent, {within}"] = analysis.bezier_path(*ends, train, within=within, steps=300)
lines = {name: analysis.evaluate_path(path, test) for name, path in paths.items()}
for name, line in lines.items():
    height, most = analysis.barrier(line, of="error"), line["connections"].max()
    print(f"{name}: error barrier {height:.3f}, at most {most} connections")

# %% tags=["nbval-ignore-output"]
plots.plot_barriers(lines)

# %% [markdown]
# *The figure shows test loss along the three paths. The mountain stands between the two networks, but we can walk
# around it. On the way the curve needs more connections than either network has.*
#
# ## Explore
#
# Next we look at the plane through the two seeds and the bend of the first curve. Move the **cut**, which is a row of
# the plane. Near the two seeds it runs over the mountain, and further up it passes the bend. Then change to the
# landscape, and from loss to accuracy.

# %%
path = paths["bent, everywhere"]
bend = analysis.network_at(plain, path.controls[1])
bent = analysis.plane_through({"seed 0": ends[0], "seed 1": ends[1], "bend": bend})
surface = analysis.surface(bent, test, axes=bent.axes(21), progress=False)
spots = [bent.project(path.at(position)) for position in np.linspace(0, 1, 21)]
track = np.array([[spot.x, spot.y] for spot in spots])
print("the whole curve lies on the plane:", max(spot.residual for spot in spots) < 1e-6)

# %% tags=["nbval-ignore-output"]
landscape = widgets.LandscapeExplorer(surface, {"trained curve": track})
landscape

# %% [markdown]
# ## Who is near to whom?
#
# Now we put all twelve tickets on two maps. One is by their connections (one minus the share that two have in common),
# the other by their answers (the share of test examples on which two disagree). Walk over them with the arrow keys.

# %% tags=["nbval-ignore-output"]
names = [f"{seed}/{k}" for seed in range(3) for k in range(4)]
outputs, labels = analysis.outputs_of([net for run in runs for net in run], test)
masks = {name: sk.topology_of(net) for name, net in zip(names, (net for run in runs for net in run), strict=True)}
groups = [f"seed {seed}" for seed in range(3) for _ in range(4)]
people = widgets.DiversityMap(masks, {"answers": analysis.disagreement(outputs)}, groups=groups)
people

# %% [markdown]
# *Tickets of a run stand together on both maps.* Do the seeds differ only in the **order** of their hidden units?
# `topological_distance` matches the units first, and then compares. Random topologies give the scale. In some each unit
# keeps its number of inputs, in others each layer keeps its number of connections.

# %%
last = [sk.topology_of(runs[seed][3]) for seed in range(2)]
pairs = {
    "one run": [sk.topology_of(runs[0][k]) for k in (1, 3)],
    "two seeds": last,
    "random, same fan-in": [sk.shuffled(one, within="outputs", seed=k) for k, one in enumerate(last)],
    "random": [sk.shuffled(one, within="layer", seed=k) for k, one in enumerate(last)],
}
pd.DataFrame({name: analysis.topological_distance(*pair).loc["network"] for name, pair in pairs.items()}).round(2)

# %% [markdown]
# *The table gives distances from 0 to 1, with units matched and as they are. Matching brings two seeds nearer, but it
# brings random topologies with the same fan-in nearly as much. So what it matches is largely how many inputs a unit
# has. Seeds find different wirings, not one wiring in two orders. Matching goes layer by layer and is not perfect.
# Within a run, where the order is the same, it can do worse than leaving units as they are.*
#
# ## Around one network
#
# Now we take a single network and random directions. Each output's weights move by their own length at distance 1.
# **Inside** the support only existing connections move. Otherwise all 78,336 weights move, by the same length
# altogether.

# %%
steps = np.linspace(-1, 1, 21)
around = {}
for name, inside in (("existing connections", True), ("all weights", False)):
    seeds = [analysis.random_plane(later, inside=inside, seed=seed) for seed in range(3)]
    cuts = [analysis.surface(plane, test, axes=(steps, np.zeros(1)), progress=False).loss[0] for plane in seeds]
    around[name] = np.mean(cuts, axis=0)
rise = {name: losses[[0, -1]].mean() - losses[10] for name, losses in around.items()}
print("existing connections feel it more:", bool(rise["existing connections"] > rise["all weights"]))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for name, losses in around.items():
    ax.plot(steps, losses, marker=".", label=name)
ax.set(xlabel="distance, in lengths of the weights", ylabel="test loss")
ax.legend()
plt.show()

# %% [markdown]
# *The curves are means of three directions. The distance is the same, but the rise is not. Which one is "the" landscape
# of the network? Neither is, so a figure of a loss surface has to say which weights were allowed to move.*
#
# ## How sharply does it bend?
#
# At a minimum the loss is a bowl, and the Hessian says how steep its walls are. Its largest eigenvalue belongs to the
# steepest direction, and its trace is the sum over all directions. On fewer weights the largest eigenvalue can only be
# smaller. Both come from products of the Hessian with vectors. We never form the Hessian, because it would have a
# square of 4,439 numbers here.

# %%
dense, some = sk.densify(later), train[:8]
rows = {}
for name, net in {"on the support": later, "all weights": dense, "superposition": superposed}.items():
    top, trace = analysis.top_eigenvalue(net, some), analysis.hessian_trace(net, some, probes=20)
    rows[name] = {"top eigenvalue": top.value, "trace": trace.mean, "± ": trace.error, "products": top.products}
bends = pd.DataFrame(rows).T
print(
    "the support's is the smaller:",
    bool(bends["top eigenvalue"]["on the support"] <= bends["top eigenvalue"]["all weights"]),
)

# %% tags=["nbval-ignore-output"]
bends.round(2)

# %% tags=["nbval-ignore-output"]
spectra = {
    "on the support": analysis.hessian_spectrum(later, some, probes=2),
    "all weights": analysis.hessian_spectrum(dense, some, probes=2),
}
plots.plot_spectrum(spectra)

# %% [markdown]
# *Nearly all eigenvalues lie at 0, so most directions hardly change the loss. A few stand far out. All weights have
# hardly more of these than the few that exist, so their share is smaller there.*
#
# ## Exercise 2: a point on the curve (5 minutes)
#
# A quadratic Bézier curve runs from `start` to `end`, pulled towards `bend`. Return its point at position `t`.


# %%
def curve_point(start: torch.Tensor, bend: torch.Tensor, end: torch.Tensor, t: float) -> torch.Tensor:
    raise NotImplementedError


corners = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
check_curve = widgets.Check(
    [((*corners, 0.0), corners[0]), ((*corners, 0.5), torch.tensor([1.0, 1.0])), ((*corners, 1.0), corners[2])],
    hint="Take a point from start to bend and one from bend to end, and then a point on the line between the two.",
)
check_curve(curve_point)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def curve_point(start, bend, end, t):
#     return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
# ```
# The curve touches its ends, but not the bend.
# </details>

# %% [markdown]
# ## What we saw
#
# - Tickets of one run have hardly a barrier between them, and networks of different seeds have a high one. The verdict
#   is printed above. That is why superposing tickets works, and averaging seeds does not.
# - A trained curve joins two seeds. Low loss is not a set of separate bowls, but few straight lines stay in it.
# - A superposition does not lie on the plane of three of its tickets. The figure shows its shadow.
# - Curvature depends on which weights may move, like everything here.
#
# Some things could mislead us.
#
# - **Two dimensions of thousands.** What looks like a wall may have a gap just off the plane.
# - **Scale.** With ReLU we can multiply one layer and divide the next without any change of the function, but
#   eigenvalues and distances change. Compare only networks that were trained alike.
# - **Batch norm.** Its statistics belong to the weights they were taken with. The functions here refuse such a network
#   until you pass them some training batches as `refresh_with=`. Without that, every barrier would look higher than it
#   is.
# - **An easy task.** The same measurement on digits (`digits_mlp`, 40 epochs) gave +2.6 ± 1.4 points, which is
#   *undecided*. The loss has a barrier there too, but where the task is easy even a poor average gets most of it right.
# - **A coarse grid.** A barrier is the highest of eleven points, so a narrow ridge may stand between two of them.

# %% [markdown]
# ## Check yourself
#
# - Why does a point between two sparse networks have more connections than either?
# - The tickets have no barrier. Does it follow that their superposition, with its connections cut, is good?
# - Where on the curve does a change of the bend move the point most?
#
# ## Go further
#
# - `analysis.linear_cka` and `cka_table` compare what layers compute. Are seeds alike in that?
# - Take tickets from runs with `explore=0`. Is the valley they lie in smaller?
# - Follow `top_eigenvalue` through a training, because `sk.training` gives you every step.
#
# ## References
#
# - L. Yin et al. (2022), *Superposing Many Tickets into One*, arXiv:2205.15322.
# - J. Frankle et al. (2020), *Linear Mode Connectivity and the Lottery Ticket Hypothesis*, arXiv:1912.05671.
# - T. Garipov et al. (2018), *Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs*, arXiv:1802.10026.
# - H. Li et al. (2018), *Visualizing the Loss Landscape of Neural Nets*, arXiv:1712.09913.
# - S. Liu et al. (2020), *Topological Insights into Sparse Neural Networks*, arXiv:2006.14085.
