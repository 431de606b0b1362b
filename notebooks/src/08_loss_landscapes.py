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
# We train as in [notebook 6](06_cheap_tickets.ipynb), with three seeds. RigL learns MNIST-1D, which has ten classes of
# curves with forty points, and goes through three cycles at the end. Each run gives four tickets with 5 % of the
# weights. A ticket is a network at one moment, with its connections and their values. We measure landscapes on 1,000
# test examples, because a surface needs hundreds of tests.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.sup_tickets import run_all_sup_tickets, sup_tickets_of

# %%
torch.set_num_threads(1)
sups = [sup_tickets_of("mnist1d-mlp", epochs=118, cycle_rate=0.153, seed=seed) for seed in range(3)]
data = sk.datasets.load(sups[0].experiment.data, **sups[0].experiment.data_settings)
test = [(data.prepare(data.test.inputs[:1000]), data.test.labels[:1000])]
train = list(zip(data.prepare(data.train.inputs).split(128), data.train.labels.split(128), strict=True))

# %% tags=["nbval-ignore-output"]
collected = run_all_sup_tickets(sups, "runs", progress=False)
plain = sk.models.build("mlp", input_shape=data.shape, num_classes=data.num_classes)
runs = [[ticket.model_like(plain) for ticket in one.tickets] for one in collected]
accuracies = np.array([[sk.evaluate(net, test).accuracy for net in run] for run in runs])
pd.DataFrame(accuracies.round(3), index=["seed 0", "seed 1", "seed 2"]).rename_axis("ticket", axis=1)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "The last networks of seed 0 and of seed 1 are about equally good. We average their weights. How many test "
    "examples does the average get right?",
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

# %% tags=["nbval-ignore-output"]
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

# %% tags=["nbval-ignore-output"]
print("error barriers within the runs:", [round(float(height), 3) for height in within])
print("error barriers between seeds:  ", [round(float(height), 3) for height in across])
print(analysis.assess_claim("barriers between seeds are higher than within a run", across, within, paired=False))

# %% jupyter={"source_hidden": true}
assert max(within) < min(across) / 4

# %% [markdown]
# *There are three barriers of each kind. All pairs of three seeds share their networks, so the standard error is
# somewhat too small. But no barrier between seeds is near one within a run.*
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

# %% tags=["nbval-ignore-output"]
print(f"superposition: {100 * near.points['superposition'].share:.0f} % of its distance lies off the plane")
print(f"its accuracy is {sk.evaluate(superposed, test).accuracy:.3f}, that of tickets {accuracies[0].mean():.3f}")
kinds = {"one run": runs[0][1:], "three seeds": [run[3] for run in runs]}
for (title, networks), surface in zip(kinds.items(), surfaces, strict=True):
    own = [sk.evaluate(network, test).loss for network in networks]
    heights = f"loss at the networks {min(own):.2f} to {max(own):.2f}, on the plane up to {surface.loss.max():.1f}"
    print(f"{title}: {heights}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(13, 4.6), layout="constrained")
for surface, ax in zip(surfaces, axes, strict=True):
    plots.plot_surface(surface, ax)
plt.show()

# %% [markdown]
# *The figure shows test loss, and bright is low. Mind the two scales of colour and of distance. On the left the whole
# panel is shallow. The loss differs by some hundredths between the tickets, which lie around one basin, and nothing
# rises between them. On the right each seed sits in a valley of its own, and the straight path from one to the other
# leads over a ridge of about three times their loss.*
#
# A surface is computed row by row. With `cache="surface.npz"` each finished row is saved in that file, so an
# interruption costs one row at most.
#
# ## A path around
#
# Between two seeds there is a mountain. Is there no path around it? We bend the line. A third point between the two
# networks pulls it aside into a quadratic Bézier curve, and we **train** this point for 300 steps, so that the loss
# falls all along the curve. In one curve the point may have any weights of the dense network, in the other only those
# that one of the two networks has.

# %%
ends = runs[0][3], runs[1][3]
paths = {"straight": analysis.linear_path(*ends)}
for within in ("everywhere", "union"):
    paths[f"bent, {within}"] = analysis.bezier_path(*ends, train, within=within, steps=300)
lines = {name: analysis.evaluate_path(path, test) for name, path in paths.items()}

# %% tags=["nbval-ignore-output"]
for name, line in lines.items():
    heights = [analysis.barrier(line, of=of) for of in ("loss", "error")]
    print(f"{name}: barrier {heights[0]:.2f} nats, or {100 * heights[1]:.1f} points of error,", end=" ")
    print(f"at most {line['connections'].max()} connections")

# %% tags=["nbval-ignore-output"]
plots.plot_barriers(lines)

# %% [markdown]
# *The figure shows test loss along the three paths. The mountain stands between the two networks, but we can walk
# around it. In the stored run the freest curve has no barrier in loss, and still a barrier of 6 points in error. The
# curve within the union has barriers of 0.1 nats and 14 points, where the straight line has 2.1 nats and 52 points. On
# the way a curve has more connections than either network.*
#
# ## Explore
#
# Next we look at the plane through the two seeds and the bend of the first curve. Move the **cut**. Its slider counts
# the rows of the plane from below, and it begins in the middle. In the row of the two seeds, which is printed below,
# the cut runs over the mountain. In the row of the curve's middle, half way up to the bend, it runs past it. Then
# change to the landscape, and from loss to accuracy.

# %%
path = paths["bent, everywhere"]
bend = analysis.network_at(plain, path.controls[1])
bent = analysis.plane_through({"seed 0": ends[0], "seed 1": ends[1], "bend": bend})
surface = analysis.surface(bent, test, axes=bent.axes(21), progress=False)
spots = [bent.project(path.at(position)) for position in np.linspace(0, 1, 21)]
track = np.array([[spot.x, spot.y] for spot in spots])

# %% tags=["nbval-ignore-output"]
print(f"largest distance of the curve from the plane: {max(spot.residual for spot in spots):.0e}")
heights = {name: spot.y for name, spot in bent.points.items()} | {"middle of the curve": spots[10].y}
print("rows:", {name: int(abs(surface.y - height).argmin()) for name, height in heights.items()})

# %% jupyter={"source_hidden": true}
assert max(spot.residual for spot in spots) < 1e-6

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
disagreement = analysis.disagreement(outputs)
people = widgets.DiversityMap(masks, {"answers": disagreement}, groups=groups)
people

# %% tags=["nbval-ignore-output"]
apart, run_of = np.array(disagreement), np.arange(12) // 4
relatives = (run_of[:, None] == run_of) & ~np.eye(12, dtype=bool)
strangers = run_of[:, None] != run_of
print(
    f"relatives disagree on {apart[relatives].mean():.1%} of the examples, strangers on {apart[strangers].mean():.1%}"
)

# %% jupyter={"source_hidden": true}
assert apart[relatives].max() < apart[strangers].min()

# %% [markdown]
# *Tickets of a run stand together on both maps. By masks they nearly fall on one spot.*
#
# Do the seeds differ only in the **order** of their hidden units? `topological_distance` matches the units first, and
# then compares. Random topologies give the scale. In some each unit keeps its number of inputs, in others each layer
# keeps its number of connections.

# %% tags=["nbval-ignore-output"]
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

# %% tags=["nbval-ignore-output"]
for name, height in rise.items():
    print(f"{name}: the loss rises by {height:.2f} at distance 1")

# %% jupyter={"source_hidden": true}
assert rise["existing connections"] > rise["all weights"]

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

# %% jupyter={"source_hidden": true}
assert bends["top eigenvalue"]["on the support"] <= 1.01 * bends["top eigenvalue"]["all weights"]

# %% tags=["nbval-ignore-output"]
bends.round(2)

# %% tags=["nbval-ignore-output"]
spectra = {
    "on the support": analysis.hessian_spectrum(later, some, probes=2),
    "all weights": analysis.hessian_spectrum(dense, some, probes=2),
}
plots.plot_spectrum(spectra)

# %% [markdown]
# *Nearly all eigenvalues lie at 0, so most directions hardly change the loss. A few stand far out. Of all weights a
# smaller share does, but there are twenty times as many directions. So the largest eigenvalue and the trace are larger
# there, as the table says.*
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
# - Tickets of one run have no barrier between them that we can measure, and networks of different seeds have a high
#   one. The heights and the verdict are printed above (n = 3). So averaging tickets can work, and averaging seeds
#   cannot.
# - A trained curve leads around the barrier between two seeds, not without any cost in errors after 300 steps. Low loss
#   is not a set of separate bowls, but few straight lines stay in it.
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
# - **An easy task.** On digits (`sup_tickets_of("digits-mlp")`, six seeds in three pairs) barriers between seeds were
#   higher than within runs by 3.5 ± 1.1 points of error (n = 3, t = 3.1, threshold 4.3), which is *undecided*. In loss
#   they were higher by 0.25 ± 0.02 nats (n = 3, t = 16). Where the task is easy, even a poor average gets most of it
#   right.
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
