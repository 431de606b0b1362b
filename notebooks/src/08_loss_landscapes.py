# %% [markdown]
# # 8. Loss landscapes
#
# **55 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in about a minute
#
# You will learn
#
# - what lies between two sparse networks, a barrier or nothing
# - why the average of some networks is good and that of others is useless
# - how to look at the loss on a plane, and what such a figure hides
# - how sharply the loss bends on the connections that exist

# %% [markdown]
# ## Walk through two landscapes
#
# Superposing tickets means averaging weights. That is a strange thing to do, because nobody trained the average. It
# works if the loss is low **everywhere between** the tickets, that is, if they lie in one basin. So we look. Three
# networks lie on a plane, and on this plane we can measure the loss everywhere.
#
# First we train as in [notebook 6](06_cheap_tickets.ipynb), with three seeds. RigL learns MNIST-1D, which has ten
# classes of curves with forty points, and goes through two cycles at the end. Each run gives three tickets with 5 % of
# the weights. Then we measure a plane through the last tickets of the three seeds, and one through the three tickets of
# seed 0. We use 1,000 test examples, because a surface needs hundreds of tests.

# %% jupyter={"source_hidden": true}
import numpy as np
import pandas as pd
import torch

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.experiments.sup_tickets import cycle_moments, run_all_sup_tickets, sup_tickets_of

# %%
torch.set_num_threads(1)
sups = [sup_tickets_of("mnist1d-mlp", epochs=112, cycle_rate=12 / 112, seed=seed) for seed in range(3)]
data = sk.datasets.load(sups[0].experiment.data, **sups[0].experiment.data_settings)
test = [(data.prepare(data.test.inputs[:1000]), data.test.labels[:1000])]
train = list(zip(data.prepare(data.train.inputs).split(128), data.train.labels.split(128), strict=True))
collected = run_all_sup_tickets(sups, "runs", progress=False)
moments = cycle_moments(sups[0], "runs", per_cycle=8, progress=False)
tickets = [moments[::8], *(one.tickets for one in collected[1:])]
plain = sk.models.build("mlp", input_shape=data.shape, num_classes=data.num_classes)
runs = [[ticket.model_like(plain) for ticket in several] for several in tickets]

# %%
superposed = sk.superpose(tickets[0]).model_like(plain)
near = analysis.plane_through({f"ticket {k}": runs[0][k] for k in range(3)}).including({"superposition": superposed})
far = analysis.plane_through({f"seed {seed}": runs[seed][2] for seed in range(3)})
grids = {"three seeds": (far, far.axes(17, margin=0.1)), "one run": (near, near.axes(17))}
surfaces = {name: analysis.surface(plane, test, axes=axes, progress=False) for name, (plane, axes) in grids.items()}
spots = [near.project(moment.model_like(plain)) for moment in moments]
way = {"training": np.array([[spot.x, spot.y] for spot in spots])}

# %% tags=["nbval-ignore-output"]
explorer = widgets.LandscapeExplorer(surfaces, {"one run": way})
explorer

# %% [markdown]
# *Drag the dashed line, and the cut follows. Press **Landscape** and drag to turn it, then change to **One run**. Both
# planes have one scale of loss and axes in weight space. Between the seeds stands a ridge. Between the tickets of one
# run there is a basin so flat that the scale of the seeds hardly shows its relief.*
#
# The line through the plane of one run is the training. It leaves the plane between two tickets, and the point that you
# see is its shadow. The **superposition** averages all three tickets and keeps the strongest connections, as many as
# one ticket has. The average alone would lie on the plane. Only the pruning moves it off.

# %% tags=["nbval-ignore-output"]
mean = near.project(sk.superpose(tickets[0], prune="never").model_like(plain))
share = near.points["superposition"].share
print(f"superposition: {share:.0%} of its distance lies off the plane, the mean {mean.share:.0%}")
print(f"training: at most {max(spot.share for spot in spots):.0%} of its distance lies off the plane")
for name, surface in surfaces.items():
    ridge = analysis.highest_ridge(surface)
    print(f"{name}: the loss rises by {ridge.rise:.2f} nats between {ridge.first} and {ridge.second}")

# %% [markdown]
# ## Predict
#
# Now that you have seen the ridge, guess what it does to an average.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
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
# Next we walk from one network to another in eleven steps, $\theta(a) = (1-a)\,\theta_1 + a\,\theta_2$. Two sparse
# networks have different connections, so all points between have those of both.

# %% tags=["nbval-ignore-output"]
first, later = runs[0][0], runs[0][2]
lines = {
    "one run": analysis.evaluate_path(analysis.linear_path(first, later), test),
    "two seeds": analysis.evaluate_path(analysis.linear_path(later, runs[1][2]), test),
}
figure, axes = plots.subplots(2, 1, width=7, height=6.4)
plots.plot_barriers(lines, axes[0], of="accuracy")
plots.plot_barriers(lines, axes[1], of="connections")
figure

# %% tags=["nbval-ignore-output"]
for name, line in lines.items():
    middle = line.loc[line["position"] == 0.5].iloc[0]
    ends = line["accuracy"].iloc[[0, -1]].tolist()
    print(f"{name}: accuracy {ends[0]:.1%} and {ends[1]:.1%} at the ends, {middle['accuracy']:.1%} half way", end=" ")
    print(f"with {int(middle['connections']):,} connections")

# %% [markdown]
# *Above you see test accuracy, and the thin lines join the ends. Below you see the connections on the way.*
#
# How far the loss, or the error, rises above the line between the ends is called the **barrier**.
#
# ## Every pair
#
# Two lines could be luck, so we measure all pairs. We take two tickets of seed 0 and the last ones of two other seeds,
# where `0/1` is ticket 1 of seed 0. Then we compare the barriers within the runs with those between them.

# %% tags=["nbval-ignore-output"]
four = {"0/1": runs[0][1], "0/2": later, "1/2": runs[1][2], "2/2": runs[2][2]}
barriers = analysis.barrier_matrix(list(four.values()), test, of="error")
plots.plot_matrix(barriers, names=list(four), measure="error barrier")

# %%
within = [analysis.barrier_matrix([run[0], run[2]], test, of="error")[0, 1] for run in runs]
across = [analysis.barrier_matrix([runs[k][2], runs[k - 1][2]], test, of="error")[0, 1] for k in range(3)]

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
ends = runs[0][2], runs[1][2]
paths = {"straight": analysis.linear_path(*ends)}
for within in ("everywhere", "union"):
    paths[f"bent, {within}"] = analysis.bezier_path(*ends, train, within=within, steps=300)
lines = {name: analysis.evaluate_path(path, test) for name, path in paths.items()}

# %% tags=["nbval-ignore-output"]
for name, line in lines.items():
    heights = [analysis.barrier(line, of=of) for of in ("loss", "error")]
    print(f"{name}: barrier {heights[0]:.2f} nats, or {100 * heights[1]:.1f} points of error,", end=" ")
    print(f"at most {line['connections'].max():,} connections")

# %% tags=["nbval-ignore-output"]
plots.plot_barriers(lines)

# %% [markdown]
# *The figure shows test loss along the three paths. The mountain stands between the two networks, but we can walk
# around it. Read the heights above. The curves are far lower than the straight line in loss, and still cost some points
# of error. On the way a curve has more connections than either network.*
#
# Now we look at the plane through the two seeds and the bend of the first curve. The cut begins in the row of the two
# seeds, where it runs over the mountain. Drag it up to half the height of the bend, and it runs past.

# %%
path = paths["bent, everywhere"]
bend = analysis.network_at(plain, path.controls[1])
bent = analysis.plane_through({"seed 0": ends[0], "seed 1": ends[1], "bend": bend})
rows = bent.points["bend"].y * np.linspace(-0.5, 1.5, 17)
surface = analysis.surface(bent, test, axes=(bent.axes(17, margin=0.1)[0], rows), progress=False)
spots = [bent.project(path.at(position)) for position in np.linspace(0, 1, 21)]
track = np.array([[spot.x, spot.y] for spot in spots])

# %% tags=["nbval-ignore-output"]
print(f"largest distance of the curve from the plane: {max(spot.residual for spot in spots):.0e}")
print({name: round(spot.y, 1) for name, spot in {**bent.points, "middle of the curve": spots[10]}.items()})

# %% jupyter={"source_hidden": true}
assert max(spot.residual for spot in spots) < 1e-6

# %% tags=["nbval-ignore-output"]
landscape = widgets.LandscapeExplorer(surface, {"trained curve": track})
landscape

# %% [markdown]
# ## Who is near to whom?
#
# Distances between networks can be drawn, too. We put all nine tickets on two maps. One is by their connections (one
# minus the share that two have in common), the other by their answers (the share of test examples on which two
# disagree). Click a point to see its mask. The tickets of a run fall on one spot, so zoom into a seed to part them.

# %% tags=["nbval-ignore-output"]
names = [f"{seed}/{k}" for seed in range(3) for k in range(3)]
outputs, labels = analysis.outputs_of([net for run in runs for net in run], test)
masks = {name: ticket.topology for name, ticket in zip(names, (t for several in tickets for t in several), strict=True)}
groups = [f"seed {seed}" for seed in range(3) for _ in range(3)]
disagreement = analysis.disagreement(outputs)
people = widgets.DiversityMap(masks, {"answers": disagreement}, groups=groups)
people

# %% tags=["nbval-ignore-output"]
apart, run_of = np.array(disagreement), np.arange(9) // 3
relatives = (run_of[:, None] == run_of) & ~np.eye(9, dtype=bool)
strangers = run_of[:, None] != run_of
print(
    f"relatives disagree on {apart[relatives].mean():.1%} of the examples, strangers on {apart[strangers].mean():.1%}"
)

# %% jupyter={"source_hidden": true}
assert apart[relatives].max() < apart[strangers].min()

# %% [markdown]
# *Tickets of a run stand together on both maps. A map of two dimensions cannot show all distances, and the line below
# it says how much of their spread it shows.*
#
# Do the seeds differ only in the **order** of their hidden units? We ask `topological_distance`, which matches the
# units first, and then compares. Random topologies give the scale. In some each unit keeps its number of inputs, in
# others each layer keeps its number of connections.

# %% tags=["nbval-ignore-output"]
last = [sk.topology_of(runs[seed][2]) for seed in range(2)]
pairs = {
    "one run": [sk.topology_of(runs[0][k]) for k in (0, 2)],
    "two seeds": last,
    "random, same fan-in": [sk.shuffled(one, within="outputs", seed=k) for k, one in enumerate(last)],
    "random": [sk.shuffled(one, within="layer", seed=k) for k, one in enumerate(last)],
}
pd.DataFrame({name: analysis.topological_distance(*pair).loc["network"] for name, pair in pairs.items()}).round(2)

# %% [markdown]
# *The table gives distances from 0 to 1, with units matched and as they are. Matching brings two seeds nearer, but it
# brings random topologies with the same fan-in nearly as much. So what it matches is largely how many inputs a unit
# has. Matching goes layer by layer and is not perfect. Within a run, where the order is the same, it can do worse than
# leaving units as they are.*
#
# ## Around one network
#
# Now we take a single network and random directions, to see whether "the" landscape exists. Each output's weights move
# by their own length at distance 1. **Inside** the support only existing connections move. Otherwise all 78,336 weights
# move, by the same length altogether.

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
    print(f"{name}: the loss rises by {height:.2f} at distance 1 (mean of 3 directions)")

# %% jupyter={"source_hidden": true}
assert rise["existing connections"] > rise["all weights"]

# %% tags=["nbval-ignore-output"]
tables = {
    name: pd.DataFrame({"position": steps, "loss": losses, "accuracy": np.nan, "connections": 0})
    for name, losses in around.items()
}
ax = plots.plot_barriers(tables)
ax.set_xlabel("distance, in lengths of the weights")
ax

# %% [markdown]
# *The curves are means of three directions, and thin lines join their ends. The distance is the same, but the rise is
# not. So a figure of a loss surface has to say which weights were allowed to move.*
#
# ## How sharply does it bend?
#
# At a minimum the loss is a bowl, and we want to know how steep its walls are. The Hessian says it. Its largest
# eigenvalue belongs to the steepest direction, and its trace is the sum over all directions. On fewer weights the
# largest eigenvalue can only be smaller. Both come from products of the Hessian with vectors. We never form the
# Hessian, because it would have a square of 4,439 numbers here.

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
# ## What we saw
#
# - Tickets of one run have no barrier between them that we can measure, and networks of different seeds have a high
#   one, by 49.0 ± 0.9 points of error (n = 3, t = 54.5). So averaging tickets can work, and averaging seeds
#   cannot.
# - A trained curve leads around the barrier between two seeds, not without any cost in errors after 300 steps. Low loss
#   is not a set of separate bowls, but few straight lines stay in it.
# - The average of three tickets lies on their plane, and pruning it to a superposition leaves the plane.
# - Curvature depends on which weights may move, like everything here.
#
# ## What could mislead
#
# - **Two dimensions of thousands.** What looks like a wall may have a gap just off the plane. The training itself runs
#   off the plane of its tickets, as its largest share above says.
# - **One scale.** A scale up to the border of the plane would show only the border. We end it a little above the ridge,
#   and hatch the rest, so two panels can be compared.
# - **Scale of weights.** With ReLU we can multiply one layer and divide the next without any change of the function,
#   but eigenvalues and distances change. Compare only networks that were trained alike.
# - **Batch norm.** Its statistics belong to the weights they were taken with. The functions here refuse such a network
#   until you pass them some training batches as `refresh_with=`. Without that, every barrier would look higher than it
#   is.
# - **An easy task.** On digits (`sup_tickets_of("digits-mlp")`, six seeds in three pairs) barriers between seeds were
#   higher than within runs by 3.5 ± 1.1 points of error (n = 3, t = 3.1, threshold 4.3), which is *undecided*. In loss
#   they were higher by 0.25 ± 0.02 nats (n = 3, t = 16). Where the task is easy, even a poor average gets most of it
#   right.
# - **A coarse grid.** A barrier is the highest of eleven points, so a narrow ridge may stand between two of them.

# %% [markdown]
# ## Exercise 1: find the pass (10 minutes)
#
# Now experiment with the landscape of the bent curve. From the row of the two seeds, move its cut upwards to the first
# row in which the loss, all the way between the two seeds, stays below 2 nats. Then run this cell, which reads your
# cut.

# %%
inner = (surface.x >= 0) & (surface.x <= bent.points["seed 1"].x)
highest = surface.loss[:, inner].max(1)
passes = np.flatnonzero((highest < 2) & (surface.y >= 0))
row = int(np.abs(surface.y - landscape.cut).argmin())

# %% jupyter={"source_hidden": true}
assert len(passes)  # there is a pass, wherever your processor finds it

# %% tags=["nbval-ignore-output"]
print("Right." if len(passes) and row == passes[0] else "Not yet.", end=" ")
print(f"At {surface.y[row]:.1f} the loss between the two seeds rises up to {highest[row]:.2f} nats.")

# %% [markdown]
# ## Exercise 2: a barrier between equals (10 minutes)
#
# Two networks can be equally good, and their average can be useless. The check makes the clearest case of it. It trains
# the small digits network by RigL, and makes a copy in which some units of each hidden layer stand in another order.
# The next layer reads them in this order, so the copy gives the same answers. Find a number of units with which the
# barrier between the two is at least ten points of error.

# %% tags=["nbval-ignore-output"]
swapped_units = None

widgets.check(swapped_units=swapped_units)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Both networks read the same digits, and only the order of their hidden units differs. So a barrier says nothing about
# how different two functions are. Two seeds number their units in different orders, too.
#
# ```python
# swapped_units = 48
# ```
# </details>

# %% [markdown]
# ## Exercise 3: as long as nobody notices (5 minutes)
#
# Now find a number of units, from 2 on, with which the barrier is at most one point. How far can you go?

# %% tags=["nbval-ignore-output"]
harmless_units = None

widgets.check(harmless_units=harmless_units)

# %% [markdown]
# <details><summary>Solution</summary>
#
# A pair of units in each layer is hardly missed. The number up to which nobody notices depends on how many of these
# units are idle.
#
# ```python
# harmless_units = 2
# ```
# </details>

# %% [markdown]
# ## Exercise 4: the barrier (5 minutes)
#
# Next you write the measure itself. `errors` are those of evenly spaced points on a line, both ends included. Return
# how high they rise above the straight line between the ends.


# %% tags=["nbval-ignore-output"]
def barrier_of(errors: torch.Tensor) -> float:
    raise NotImplementedError


widgets.check(barrier_of)

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
# ## Exercise 5: a point on the curve (5 minutes)
#
# To bend a path of your own, you need its points. A quadratic Bézier curve runs from `start` to `end`, pulled towards
# `bend`. Return its point at position `t`.


# %% tags=["nbval-ignore-output"]
def curve_point(start: torch.Tensor, bend: torch.Tensor, end: torch.Tensor, t: float) -> torch.Tensor:
    raise NotImplementedError


widgets.check(curve_point)

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
# ## Check yourself
#
# - Why does a point between two sparse networks have more connections than either?
# - The tickets have no barrier. Does it follow that their superposition, with its connections cut, is good?
# - Where on the curve does a change of the bend move the point most?
#
# <details><summary>Answers</summary>
#
# - A connection that one of them lacks is a mean of zero and something, so it is not zero between them.
# - No. The average lies on the plane, where we measured. The pruning leaves the plane, so its effect has to be
#   measured, as in [notebook 7](07_superposition.ipynb).
# - In the middle. The bend has the weight $2t(1-t)$, which is largest at $t = 1/2$.
# </details>
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
