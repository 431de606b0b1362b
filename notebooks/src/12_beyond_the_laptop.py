# %% [markdown]
# # 12. Beyond the laptop
#
# **45 minutes** · needs: [02_topology_evolution](02_topology_evolution.ipynb) · runs in under a minute
#
# One training after the other is how a laptop works. But an answer often needs dozens of them. Run the cells, and watch
# two workers share eight trainings. The table below follows them.

# %% jupyter={"source_hidden": true}
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from os import getpid
from pathlib import Path

import psutil
import torch

# %% jupyter={"source_hidden": true}
import sparsekit as sk
from sparsekit import plots, widgets
from sparsekit.experiments.sweeps import local_client
from sparsekit.plots.canvas import finish
from sparsekit.plots.palette import LIGHT

torch.set_num_threads(1)
scratch = tempfile.TemporaryDirectory()  # a new folder each time, so that there is something to watch
folder = Path(scratch.name)

# %%
workers = ExitStack()
client = workers.enter_context(local_client(2, threads=1))
rules = ("static", "set", "rigl", "gse")
grid = [sk.recipes.digits_small(rule=rule, seed=seed, epochs=8) for rule in rules for seed in (0, 1)]

# %% tags=["nbval-ignore-output"]
table = sk.sweep(grid, folder / "grid", client=client)

# %% [markdown]
# *While it runs, the table shows what is done, what is running, and the best run so far. The seconds that are left are
# a guess from what is done.* And this is the best network of the eight. Draw a digit, and see who was trained for you.

# %% tags=["nbval-ignore-output"]
best = table.loc[table["test accuracy"].idxmax()]
widgets.NetworkView.of_run(folder / "grid" / best["run"])

# %% [markdown]
# You will learn
#
# - how a **sweep** shares many trainings among processes, or among the machines of a cluster
# - what is lost when a **worker is killed**, and how you prove it
# - how **two processes** train one network, and why their masks stay equal
# - how often to write a checkpoint, and how many runs a claim needs
#
# ## What a sweep gives back
#
# A sweep is a list of experiments. `local_client(2)` has started two processes with [Dask](https://docs.dask.org), and
# each takes the next experiment when it has finished one. What comes back is an ordinary table.

# %%
names = [rule for rule in rules for _ in (0, 1)]
print("runs:", len(table), "| failed:", int((table["error"] != "").sum()))

# %% tags=["nbval-ignore-output"]
table.assign(rule=names)[["run", "rule", "seed", "train loss", "test accuracy"]].round(3)

# %% tags=["nbval-ignore-output"]
_, (ax,) = plots.subplots(width=7, height=3)
ax.plot([rules.index(name) for name in names], 100 * table["test accuracy"], "o", color=LIGHT["ink"])
ax.set_xticks(range(len(rules)), rules)
finish(ax, x="rule", y="test accuracy in per cent")
leader = names[table["test accuracy"].idxmax()]
plots.titled(ax, f"After 8 epochs the best run is one of {leader}, with two seeds for each rule")

# %% [markdown]
# *Two dots a rule are not enough to call a winner. Exercise 2 asks how many are.*
#
# Dask has a dashboard, which shows what each worker does, second by second. It needs `pip install bokeh`. Then the
# table above has a link to it, and `client.dashboard_link` is its address.
#
# Each run lies in a folder of its own, as if you had called `sk.run`. So nothing is trained twice. We ask for the same
# sweep again, and two more runs.

# %%
more = [*grid, *(sk.recipes.digits_small(rule="rigl", seed=seed, epochs=8) for seed in (2, 3))]
before = {path: path.stat().st_mtime_ns for path in (folder / "grid").glob("*/metrics.jsonl")}
table = sk.sweep(more, folder / "grid", client=client, progress=False)
after = {path: path.stat().st_mtime_ns for path in (folder / "grid").glob("*/metrics.jsonl")}
print("runs:", len(table), "| trained again:", sum(after[path] != before[path] for path in before))

# %% [markdown]
# ## Predict
#
# Workers die. A job reaches its time limit, memory runs out, or somebody pulls a plug. We will kill one in the middle
# of its work, without any warning. Before we do, make a guess.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "Two workers train three networks. When there is a first checkpoint, we kill one of them. What happens to its run?",
    [
        "it fails, and the table says so",
        "it begins again from the start",
        "it continues, but its numbers differ a little",
        "it continues, and ends bit for bit as if nothing had happened",
    ],
)
guess

# %% [markdown]
# ## A worker is killed
#
# A thread waits for the first checkpoint, and then kills the first of the two processes. There is no chance to tidy up.

# %%
three = [sk.recipes.digits_small(rule="rigl", seed=seed, epochs=12) for seed in (10, 11, 12)]
killed = []


def kill_one() -> None:
    while not any((folder / "killed").glob("*/checkpoint.pt")):
        time.sleep(0.02)
    victim = min(client.run(getpid).values())
    psutil.Process(victim).kill()
    killed.append(victim)


threading.Thread(target=kill_one, daemon=True).start()

# %% tags=["nbval-ignore-output"]
survived = sk.sweep(three, folder / "killed", client=client)

# %%
print("workers killed:", len(killed))
print("runs that ended:", len(survived), "| failed:", int((survived["error"] != "").sum()))

# %% [markdown]
# That all runs ended is not enough. We want to know whether anything was lost, or was done twice. So we train the same
# three networks here, one after the other, and compare the files byte by byte. They hold each measured number, and each
# connection that was ever dropped or grown.

# %%
equal = []
for experiment in three:
    alone = sk.run(experiment, folder / "alone", progress=False).folder
    other = folder / "killed" / experiment.folder_name
    equal.append(
        all((alone / file).read_bytes() == (other / file).read_bytes() for file in ("metrics.jsonl", "journal"))
    )
print("bit for bit equal:", sum(equal), "of", len(equal))

# %% tags=["nbval-ignore-output"]
guess.measured(f"{sum(equal)} of {len(equal)} runs are equal to those that nobody disturbed.", option=3)

# %% [markdown]
# *Dask gave the run to another worker, which read the last checkpoint. It holds weights, optimizer, topology and random
# numbers, so the run continued as if it had never stopped.* The steps since that checkpoint were done again, and the
# file has them once, because a run writes its numbers when it writes its checkpoint.
#
# ## The same on a cluster
#
# Nothing changes but the client. On a cluster with SLURM you write these lines, and the table follows jobs instead of
# processes. All workers must see one folder. [docs/sweeps.md](../docs/sweeps.md) says the rest.
#
# ```python
# from dask_jobqueue import SLURMCluster
# from distributed import Client
#
# cluster = SLURMCluster(queue="short", cores=1, processes=1, memory="4GB", walltime="01:00:00")
# cluster.adapt(maximum_jobs=20)
# table = sk.sweep(grid, "runs", client=Client(cluster))
# ```
#
# We have no cluster here, so we end the two workers.

# %%
workers.close()
left = [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
print("workers left:", len(left))

# %% [markdown]
# ## One network on two processes
#
# Next we turn it round. Until now each process had a network of its own. When one training is too slow, several
# processes share *it*. Each computes the gradients of a part of the batch, and torch's `DistributedDataParallel` (DDP)
# averages them. For a sparse network there is one question more.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
ddp_guess = widgets.Predict(
    "Two processes train one sparse network, and each sees half of every batch. RigL drops and grows connections. What "
    "do the processes send each other, so that their masks stay equal?",
    [
        "the masks, after each rewiring",
        "the connections that each would grow",
        "nothing but gradients, as DDP does anyway",
    ],
)
ddp_guess

# %% [markdown]
# We look at the lines of [ddp_loop.py](../examples/ddp_loop.py) that matter. `torchrun` starts this script twice.

# %%
package = Path(sk.__file__).parent
folders = (package.parent / "examples", package / "experiments" / "course" / "examples")  # a checkout, or the wheel
script = next(one for one in folders if one.is_dir()) / "ddp_loop.py"
lines = script.read_text(encoding="utf-8").splitlines()
first = next(number for number, line in enumerate(lines) if "DistributedDataParallel(model)" in line)
print("\n".join(line[4:] for line in lines[first : first + 10]))

# %%
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
done = subprocess.run([*torchrun, str(script), "3"], capture_output=True, text=True)
print(done.stdout.partition("\n")[0] or done.stderr)

# %% tags=["nbval-ignore-output"]
ddp_guess.measured(done.stdout.partition("\n")[0], option=2)

# %% jupyter={"source_hidden": true}
assert "equal masks: True" in done.stdout

# %% [markdown]
# *All processes drop by the same weights, grow by the same averaged gradients, and draw from the same seed. So they
# come to the same masks, and nobody sends one.* RigL's gradients of missing connections are averaged together with the
# others.
#
# An experiment of the package goes the same way, with `torchrun --nproc-per-node 2 -m sparsekit train digits-mlp`. It
# is even bit for bit the run of one process that takes its batches in two parts
# ([docs/torchrun.md](../docs/torchrun.md)).

# %% [markdown]
# ## What could mislead us
#
# - **Two workers are not twice as fast.** Each must start and import torch, which takes longer than one of our small
#   trainings. A sweep pays when runs take minutes.
# - **Threads.** Workers share the processors. With another number of threads, sums have another order, and last digits
#   may differ. We gave each worker one thread, and this notebook too, or the files would not be equal.
# - **A larger batch.** Two processes with 64 examples each take steps of 128. Then you compare another learning rate,
#   and not only another speed.
# - **Many runs find winners.** The best of forty runs looks better than it is. Choose on one set of seeds, and report
#   another.
# - **A folder that only one machine sees.** On a cluster all workers must write into the same folder, or each begins
#   from the start.

# %% [markdown]
# ## Exercise 1: how often to write a checkpoint (10 minutes)
#
# What is done after the last checkpoint is lost with a worker. So is it best to write one after each step? A checkpoint
# takes as long as 4 steps, a worker dies every 400 steps on average, and a new one needs 20 steps to start. The check
# plays 200 runs of 2,000 steps with random deaths. Find the number of steps between two checkpoints, such that a run
# takes at most a quarter longer than without any of this.

# %% tags=["nbval-ignore-output"]
checkpoint_every = None

widgets.check(checkpoint_every=checkpoint_every)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Checkpoints cost 4 / every of the time. A death loses half of the interval on average, which is every / 2 steps in
# 400. Both together are least at the root of 2 · 4 · 400, which is 57. Anything from 30 to 100 will do.
#
# ```python
# checkpoint_every = 57
# ```
# </details>

# %% [markdown]
# ## Exercise 2: how many runs are enough (10 minutes)
#
# Is RigL better than SET on the small network? The check trains both from as many seeds as you say, up to ten, and
# compares them seed by seed. Find a number with which the claim is *reproduced*. Try a small one first, and look at t
# and at its threshold.

# %% tags=["nbval-ignore-output"]
telling_seeds = None

widgets.check(telling_seeds=telling_seeds)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The difference is about five points, and seeds differ by about three. From two seeds t must exceed 12.7, and from
# eight only 2.4, while the standard error halves. So a sweep of sixteen runs says what one of four cannot.
#
# ```python
# telling_seeds = 8
# ```
# </details>

# %% [markdown]
# ## What we saw
#
# - Two workers shared a list of trainings, and a second call trained what was new and nothing else.
# - A worker was killed in the middle. All three runs ended, bit for bit equal to undisturbed ones.
# - Two processes trained one network. They rewired it several times, and their masks were equal without sending any.
# - All this is small enough for a laptop. It shows that nothing is lost, and it says nothing about speed on a cluster.

# %% [markdown]
# ## Check yourself
#
# - Why may a worker die at any moment, even while it writes a checkpoint?
# - What would go wrong if the two processes of DDP drew from different seeds?
# - You have eight processors and eight runs. Do you give each run one thread, or one run all eight after the other?
#
# <details><summary>Answers</summary>
#
# - A checkpoint is written beside the old one and then takes its place in one step. So there is always a whole one.
# - Where a rule draws, as SET does when it grows, each process would have other connections. DDP would then average
#   gradients that belong to different positions.
# - Small networks train fastest with one thread, so eight runs side by side. Large ones may gain from several.
# </details>
#
# ## Go further
#
# - Write the grid into a file, and run `sparsekit sweep grid.toml --workers 2` in a terminal.
# - Add a run that must fail, for example with a learning rate of 1e9. What do the others do, and where is the error?
# - [optuna_pruning.py](../examples/optuna_pruning.py) lets Optuna choose the runs, and stops bad ones early.
#
# ## References
#
# - M. Rocklin (2015), *Dask: Parallel Computation with Blocked algorithms and Task Scheduling*, SciPy 2015.
# - J. W. Young (1974), *A first order approximation to the optimum checkpoint interval*, Communications of the ACM 17.
# - S. Li et al. (2020), *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, arXiv:2006.15704.
