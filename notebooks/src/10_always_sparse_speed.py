# %% [markdown]
# # 10. Always-sparse speed
#
# **35 minutes** · needs: [00_start_here](00_start_here.ipynb) · runs in under a minute
#
# You will learn
# - why a network with 1 % of its weights is not a hundred times faster, and why masks alone save nothing at all;
# - what it takes to be faster: another storage, and another order in memory;
# - to measure it: promised operations, milliseconds and bytes, on **your** machine.

# %% [markdown]
# ## Why
#
# "99 % sparse" sounds like a hundred times fewer multiplications, and it is. Papers then often report these operations
# and stop. But nearly all of them train with a dense weight and a mask, so that their clock never saw any of it. A
# saving exists when time or memory goes down, and that can only be measured.
#
# So this notebook is a meter. None of its times is in the text, since they are yours: run the cells, and let the code
# say what came out. The times that are stored with this file come from some machine, on some day.

# %% [markdown]
# ## Set up

# %%
import inspect
import time
from functools import partial

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sparsekit as sk
from sparsekit import analysis, plots, widgets
from sparsekit.kernels import feature_major, is_feature_major
from sparsekit.layers.auto import training_step
from sparsekit.utils.timing import median_seconds

# %%
torch.set_num_threads(1)
torch.manual_seed(0)
linear, x = nn.Linear(1024, 1024), torch.randn(128, 1024)
conv, images = nn.Conv2d(64, 64, 3, padding=1), torch.randn(32, 64, 16, 16)

# %% [markdown]
# ## Predict

# %% tags=["nbval-ignore-output"]
guess = widgets.Predict(
    "A linear layer of 1024 × 1024 keeps 10 % of its connections, as a dense weight and a mask. A training step takes, "
    "compared with the dense layer,",
    ["a tenth of the time", "about half", "as long, or longer"],
    2,
    "All places are multiplied, the zeros too. The mask itself is one more multiplication for every place.",
)
guess

# %% [markdown]
# ## Why masks alone save nothing
#
# Here is what a masked layer does. It multiplies its weight by the mask (the rest is for rules that watch or thin out),
# and then it works like every dense layer. Below stands PyTorch's own count of the operations in it:

# %%
print(inspect.getsource(sk.layers.MaskedLinear.effective_weight))
print(inspect.getsource(sk.layers.MaskedLinear.forward))

# %%
layers = analysis.storages_of(linear, 0.1)
for name in ("dense", "masked"):
    with FlopCounterMode(display=False) as counter:
        layers[name](x)
    print(f"{name}: {counter.get_total_flops():,} operations")

# %% [markdown]
# A processor does not skip zeros: finding out that a number is zero takes as long as multiplying it. Whoever wants to
# save the work must not **store** the zeros. That is storage `csr` (compressed sparse rows): the values of the
# connections, and where they are.

# %%
masked, csr = (layers[name][0] for name in ("masked", "csr"))
print("masked:", tuple(masked.param.shape), "| csr:", tuple(csr.param.shape))

# %% [markdown]
# ## The first use does not count
#
# The kernels of `csr` are written in Python and compiled for your processor when they are first used, once per machine;
# each new kernel of Jupyter then loads them. Whoever times the first step, times that.

# %% tags=["nbval-ignore-output"]
waited = []
for _ in range(2):
    start = time.perf_counter()
    csr(x).sum().backward()
    waited.append(time.perf_counter() - start)
print(f"first step {1000 * waited[0]:.1f} ms, second step {1000 * waited[1]:.1f} ms")

# %%
print("masked and csr compute the same:", torch.allclose(masked(x), csr(x), atol=1e-5))

# %% [markdown]
# ## The meter
#
# A training step of one layer (forward and backward), in four ways, each timed in turn and often enough; the median
# counts. `promised` is how many times fewer operations there are, `measured` how many times quicker it was.

# %% tags=["nbval-ignore-output"]
meter = analysis.speed_table(linear, 0.1, x)
meter.round(2)

# %% tags=["nbval-ignore-output"]
conv_meter = analysis.speed_table(conv, 0.1, images)
conv_meter.round(2)

# %% [markdown]
# *A linear layer with 128 samples and a convolution with 32 images, both at 90 % sparsity.* How much of the promise was
# kept?

# %% tags=["nbval-ignore-output"]
for title, table in {"linear": meter, "convolution": conv_meter}.items():
    for way in table.index[1:]:
        kept = table.loc[way, "measured"] / table.loc[way, "promised"]
        verdict = "quicker than dense" if table.loc[way, "measured"] > 1 else "no gain"
        print(f"{title}, {way}: {kept:.0%} of what was promised, {verdict}")

# %% [markdown]
# ## Find your break-even
#
# Where is the sparsity from which on `csr` pays? Press **Start** (or run on): the meter goes through ten sparsities in
# the background and draws what it measures. **Pause** and **Stop** work at any time. Open something heavy in another
# window meanwhile, and see what happens to the lines.

# %%
run = widgets.Run(widgets.live_speed(linear, x), total=10)
ways = ("dense", "masked", "csr", "csr, feature-major")

# %% tags=["nbval-ignore-output"]
chart = {"metrics": {"milliseconds per step": ways}, "x_label": "sparsity in per cent", "width": 640}
panel = widgets.LivePanel(run, masks=False, **chart)
panel

# %%
run.wait(timeout=300)
print(run.state, "after", run.count, "sparsities")

# %% [markdown]
# From what was measured (less, if you stopped it), where did a way begin to be quicker than dense, and stay so?

# %% tags=["nbval-ignore-output"]
lines = {way: pd.Series(ms, index=percent) / 1000 for way, (percent, ms) in run.lines().items()}
times = pd.DataFrame(lines).set_axis([1 - percent / 100 for percent in run.lines()["dense"][0]])
even = {way: analysis.break_even(times.index, times[way], times["dense"]) for way in ways[1:]}
for way, density in even.items():
    print(f"{way}:", "not always quicker" if density is None else f"always quicker above {1 - density:.0%} sparsity")
plots.plot_step_times(times, even=even["csr, feature-major"])

# %% [markdown]
# *The dashed line is what operations alone promise. The dense line would be flat without noise, and that noise is in
# every other line, too. Towards 99 % the promise falls without end; calling a kernel and reading the input cost the
# same however few connections there are.*
#
# For comparison: the general CSR product that the GSE paper timed (a Xeon, matrices of 2048 to 16384) broke even
# between 82 and 92 % sparsity.

# %% [markdown]
# ## Another order in memory
#
# What is `feature-major`? A batch lies in memory sample by sample. One connection, though, reads *one* feature of *all*
# samples. If these stand side by side, the processor multiplies sixteen of them at once; if not, it must gather them.
# Shapes stay what they are, only strides change (how many numbers further the next sample, the next feature lies):

# %%
rows = feature_major(x)
print("ordinary:     ", tuple(x.shape), "strides", x.stride())
print("feature-major:", tuple(rows.shape), "strides", rows.stride())
print("equal:", torch.equal(x, rows), "| images:", feature_major(images).stride())

# %% [markdown]
# A csr layer takes either and turns what it must. What comes out is feature-major, and ReLU, additions and the like
# keep it so. Between two csr layers nothing needs to be turned.

# %%
print("after a csr layer and a ReLU:", is_feature_major(torch.relu(csr(rows))))

# %% [markdown]
# ## Let the clock choose
#
# Which storage is the better one depends on shape, density, batch and machine. `storage="auto"` measures each layer in
# both with a batch of yours, and remembers. Below is a network whose layers keep 2 %, 30 % and all of their weights.

# %% tags=["nbval-ignore-output"]
plain = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
shapes = sk.shapes_of(plain)
topology = {}
for (name, shape), density in zip(shapes.items(), (0.02, 0.3, 1.0), strict=True):
    topology |= sk.random_topology({name: shape}, density, seed=0)
models = {storage: sk.sparsify(plain, topology, storage, example=x) for storage in ("masked", "csr", "auto")}
print({name: layer.storage for name, layer in sk.sparse_layers(models["auto"]).items()})
seconds = median_seconds({storage: training_step(model, x) for storage, model in models.items()})
pd.Series(seconds, name="milliseconds").mul(1000).round(2).to_frame()

# %% [markdown]
# ## Memory
#
# Time is one half. These are the bytes of a layer of 1024 × 1024, relative to the dense one: `csr` as in a textbook (a
# value and a column per connection), and what the layers of this package really hold, once they have run. They keep the
# order of both directions ready, because backward needs the transpose, so they are made to be quick, not small.

# %%
counts = {density: sk.random_topology({"layer": (1024, 1024)}, density) for density in (0.5, 0.2, 0.1, 0.05, 0.01)}
table = pd.concat([analysis.memory_bytes(one) for one in counts.values()]).set_axis(list(counts))
ratios = table[["masked_layer", "csr", "csr_layer"]].div(table["dense"], axis=0)
ratios.rename_axis("density").round(3)

# %% [markdown]
# *A masked layer is always larger than a dense one. A csr layer is smaller where the last column is below 1.*
# Optimizers tip the scale: Adam keeps two more numbers per value, and there are only as many values as there are
# connections.

# %%
adam = pd.concat([analysis.memory_bytes(one, optimizer_values=2) for one in counts.values()]).set_axis(list(counts))
adam[["masked_layer", "csr", "csr_layer"]].div(adam["dense"], axis=0).rename_axis("density").round(3)

# %% [markdown]
# What no storage saves are activations: a layer's outputs are as many as before.

# %% [markdown]
# ## Exercise 1: bytes (5 minutes)
#
# Write down the bytes of textbook CSR: for each connection a value (4 bytes) and its column (4 bytes), and for each row
# 4 bytes that say where it begins. At which density does a large layer take as much as a dense one (4 bytes a place)?


# %%
def csr_bytes(rows: int, columns: int, density: float) -> int:
    raise NotImplementedError


check_bytes = widgets.Check(
    [((1024, 1024, 0.5), 4198400), ((10, 100, 0.01), 120), ((3, 7, 0.0), 12)],
    hint="The number of connections is rows * columns * density, rounded.",
)
check_bytes(csr_bytes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def csr_bytes(rows, columns, density):
#     return 8 * round(rows * columns * density) + 4 * rows
# ```
# A value and its address take as much as two values, so the break-even is at a density of one half.
# </details>
#
# ## Exercise 2: the rest of the network (5 minutes)
#
# A share of a training step's time is spent in layers that become `speedup` times quicker; the rest (normalisation,
# activations, loss, optimizer) stays. How many times quicker is the whole step?


# %%
def whole_speedup(share: float, speedup: float) -> float:
    raise NotImplementedError


check_whole = widgets.Check(
    [((1.0, 8.0), 8.0), ((0.5, 1e12), 2.0), ((0.9, 10.0), 5.263158)],
    hint="Add up the new times: that of the rest, and that of the layers. (This is Amdahl's law.)",
)
check_whole(whole_speedup)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def whole_speedup(share, speedup):
#     return 1 / ((1 - share) + share / speedup)
# ```
# If half of the time is spent elsewhere, no kernel in the world makes the step more than twice as quick.
# </details>

# %% [markdown]
# ## A whole training step
#
# Now the rest comes back in: an MLP 784-1024-1024-10 with cross-entropy and momentum, 10 % of its weights, 128 samples;
# the same `train_step` as everywhere.

# %% tags=["nbval-ignore-output"]
plain = sk.models.build("mlp", input_shape=(784,), num_classes=10, hidden=(1024, 1024))
topology = sk.random_topology(sk.shapes_of(plain), 0.1, seed=0)
models = {"dense": plain} | {storage: sk.sparsify(plain, topology, storage) for storage in ("masked", "csr")}
batch = torch.randn(128, 784), torch.randint(10, (128,))
steps = {}
for name, model in models.items():
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    settings = (batch, nn.functional.cross_entropy, sk.rules.Static(), 0, torch.Generator())
    steps[name] = partial(sk.train_step, model, optimizer, *settings)
seconds = pd.Series(median_seconds(steps))
pd.DataFrame({"milliseconds": 1000 * seconds, "times quicker": seconds["dense"] / seconds}).round(2)

# %% [markdown]
# *Compare with what the meter said of a single layer.*

# %% [markdown]
# ## What could mislead us
#
# Batch size and layer size decide as much as sparsity does. The same 90 % again, in other places:

# %% tags=["nbval-ignore-output"]
places = {"1024 × 1024, batch 128": (1024, 128), "1024 × 1024, batch 8": (1024, 8), "64 × 64, batch 128": (64, 128)}
found = {}
for title, (width, batch_size) in places.items():
    seconds = analysis.step_seconds(nn.Linear(width, width), 0.1, torch.randn(batch_size, width))
    found[title] = {way: seconds["dense"] / seconds[way] for way in ways[1:]}
pd.DataFrame(found).T.rename_axis("times quicker than dense").round(2)

# %% [markdown]
# And more:
#
# - **The rival.** Dense means PyTorch's float32 here. In bfloat16, or with another library, dense is quicker, and on a
#   GPU much quicker. Ask of every speed-up: than what?
# - **Threads.** We use one. With more, dense and sparse both gain, but not alike; machines shared with others do odd
#   things. Change `torch.set_num_threads` and run again.
# - **Noise.** Run a cell twice: what differs between the two runs is the least difference that you may believe. This is
#   why we compare ways in turn, take medians, and never print a time from another day.
# - **Warm caches.** The meter computes with the same small layer again and again; in a network others come in between.
# - **Operations that nobody counts.** Rewiring takes time, too: for GSE and RigL see
#   [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb).

# %% [markdown]
# ## What we saw
#
# - A mask saves no operation, no time and no memory; it says what a sparse network *would* be.
# - Stored as its connections, a layer keeps a part of what operations promise. How much, your machine has said above.
# - The order in memory matters as well, and the other parts of a step set the limit.
# - Memory follows the same rule: what is promised is not what is held. Count the indices.
#
# These are two layers and one small MLP on one processor, with this package's kernels. That sparse training cannot be
# quick on a GPU, or is always quick on a CPU, does not follow.

# %% [markdown]
# ## Check yourself
#
# - A paper reports "5 × fewer FLOPs" with masks. What did its authors' training take, compared with dense?
# - Does your speed-up at 99 % fall further short of its promise than that at 80 %? Why would it?
# - Which would you rather have at 95 % sparsity: twice the speed, or a tenth of the memory? On which device?
#
# ## Go further
#
# - Put your own layer and batch into `analysis.speed_table`.
# - `sparsekit bench --quick` measures layers, networks, rewiring and memory, beside other sparse kernels. What a long
#   run of it found stands in [REPORT.md](../benchmarks/REPORT.md).
# - `sk.sparsify(model, topology, storage="csr")` on a ResNet, with batch norms in between: `sk.layers.fuse_relus`.
#
# ## References
#
# - T. Gale et al. (2020), *Sparse GPU Kernels for Deep Learning*, arXiv:2006.10901: what it takes on a GPU.
# - M. Nikdan et al. (2023), *SparseProp: Efficient Sparse Backpropagation for Faster Training of Neural Networks*,
#   arXiv:2302.04852: the same question on a CPU.
# - M. Heddes et al. (2024), *Always-Sparse Training by Growing Connections with Guided Stochastic Exploration*,
#   arXiv:2401.06898: products with CSR matrices, timed.
# - S. Hooker (2021), *The Hardware Lottery*, arXiv:2009.06489: why dense is quick.
