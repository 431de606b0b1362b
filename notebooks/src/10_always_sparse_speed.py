# %% [markdown]
# # 10. Always-sparse speed
#
# **45 minutes** · needs: [00_start_here](00_start_here.ipynb) · runs in under a minute
#
# "99 % sparse" sounds like a hundred times fewer multiplications, and it is. But is it faster? We begin with a race.
# Press **Start** (or run all cells) and watch the lines.

# %% jupyter={"source_hidden": true}
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

# %% jupyter={"source_hidden": true}
torch.set_num_threads(1)
torch.manual_seed(0)
linear, x = nn.Linear(1024, 1024), torch.randn(128, 1024)
conv, images = nn.Conv2d(64, 64, 3, padding=1), torch.randn(32, 64, 16, 16)

# %% jupyter={"source_hidden": true}
run = widgets.Run(widgets.live_speed(linear, x), total=10)
variants = ("dense", "masked", "csr", "csr, feature-major")

# %% tags=["nbval-ignore-output"]
chart = {"metrics": {"milliseconds per step": variants}, "x_label": "sparsity, %", "width": 640}
panel = widgets.LivePanel(run, masks=False, **chart)
panel

# %% [markdown]
# *A linear layer of 1024 × 1024 takes training steps on your processor, dense and in three sparse variants, at ten
# sparsities. `masked` is a dense weight and a mask. `csr` stores only the connections.*
#
# **Pause** and **Stop** work at any time. Open something heavy in another window meanwhile, and see what happens to the
# lines. Which variant beats dense, and from which sparsity on? You will learn
#
# - why a network with 1 % of its weights is not a hundred times faster, and why masks alone save no time
# - what it takes to be faster, namely another storage and another order in memory
# - how to measure promised operations, milliseconds and bytes on **your** machine

# %%
run.wait(timeout=300)
print(run.state, "after", run.count, "sparsities")

# %% [markdown]
# ## Find your break-even
#
# Now we take what was measured (less, if you stopped it) and ask for the *break-even*, the sparsity from which on a
# variant is faster than dense. Every point is one measurement, so the crossing points move by some per cent from run to
# run.

# %% tags=["nbval-ignore-output"]
lines = {variant: pd.Series(ms, index=percent) / 1000 for variant, (percent, ms) in run.lines().items()}
times = pd.DataFrame(lines).set_axis([1 - percent / 100 for percent in run.lines()["dense"][0]])
even = {variant: analysis.break_even(times.index, times[variant], times["dense"]) for variant in variants[1:]}
for variant, density in even.items():
    print(f"{variant}:", "never faster" if density is None else f"faster above {1 - density:.0%} sparsity")
ax = plots.plot_step_times(times, even=even["csr, feature-major"])
gain = times["dense"].iloc[-1] / times["csr, feature-major"].iloc[-1]
sparsest = 1 - times.index[-1]
plots.titled(
    ax, f"At {sparsest:.0%} sparsity, operations promise {1 / (1 - sparsest):.0f} times as fast, and we get {gain:.0f}"
)

# %% [markdown]
# *The dashed line is what operations alone promise. The dense line would be flat without noise, and that noise is in
# every other line, too. The promise falls further and further towards 99 %. The measured lines level off, because
# calling a kernel and reading the input cost the same however few connections there are.*
#
# For comparison, we quote the general CSR product that the GSE paper timed (a Xeon, matrices of 2048 to 16384). It
# broke even between 82 and 92 % sparsity.

# %% [markdown]
# ## Why we measure
#
# Papers often report operations and stop. But most of them train with a dense weight and a mask, so no clock ever saw
# the saving. A saving exists when time or memory falls, and we can only find that out by measuring.
#
# So this notebook is a meter. You find none of its times in the text, because they are yours. The times that are stored
# with this file come from some machine, on some day.
#
# ## Predict
#
# Before we look into a masked layer, make a guess.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "A linear layer of 1024 × 1024 keeps 10 % of its connections, as a dense weight and a mask. A training step takes, "
    "compared with the dense layer,",
    ["a tenth of the time", "about half", "as long, or longer"],
    2,
    "All positions are multiplied, the zeros too. The mask itself is one more multiplication for every position. The "
    "meter below says what that comes to on your machine.",
)
guess

# %% [markdown]
# ## Why masks alone save nothing
#
# We look at what a masked layer does. In training it multiplies its weight by the mask (the rest is for rules with
# state or forward masks), and then it works like every dense layer. PyTorch counts the operations in it as follows:

# %%
print(inspect.getsource(sk.layers.MaskedLinear.through_mask))
print(inspect.getsource(sk.layers.MaskedLinear.effective_weight))

# %%
layers = analysis.storages_of(linear, 0.1)
for name in ("dense", "masked"):
    with FlopCounterMode(display=False) as counter:
        layers[name](x)
    print(f"{name}: {counter.get_total_flops():,} operations")

# %% [markdown]
# A processor does not skip zeros, because finding out that a number is zero takes as long as multiplying it. If we want
# to save the work, we must not **store** the zeros. That is what storage `csr` (compressed sparse rows) does. It holds
# the values of the connections, and where they are.

# %%
masked, csr = (layers[name][0] for name in ("masked", "csr"))
print("masked:", tuple(masked.param.shape), "| csr:", tuple(csr.param.shape))

# %% [markdown]
# ## The first use does not count
#
# Before we trust a clock, we must know what it should not count. The kernels of `csr` are written in Python and
# compiled for your processor when you first use them, once per machine. Each new kernel of Jupyter then loads them.
# If you time the first step, you time that.

# %% tags=["nbval-ignore-output"]
waits = []
for _ in range(2):
    start = time.perf_counter()
    csr(x).sum().backward()
    waits.append(time.perf_counter() - start)
print(f"first step {1000 * waits[0]:.1f} ms, second step {1000 * waits[1]:.1f} ms")

# %% [markdown]
# Do both storages compute the same? They add the same products in another order, so we print the largest difference
# between their outputs.

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    gap, largest = float((masked(x) - csr(x)).abs().max()), float(csr(x).max())
print(f"largest difference {gap:.0e}, where outputs reach {largest:.1f}")

# %% jupyter={"source_hidden": true}
assert gap < 1e-5

# %% [markdown]
# ## The meter
#
# We now time a training step of one layer (forward and backward) in four variants. We time each in turn and often
# enough, and take the median. `promised` is how many times fewer operations there are, and `measured` is how many times
# faster it was.

# %% tags=["nbval-ignore-output"]
meter = analysis.speed_table(linear, 0.1, x)
meter.round(2)

# %% tags=["nbval-ignore-output"]
conv_meter = analysis.speed_table(conv, 0.1, images)
conv_meter.round(2)

# %% [markdown]
# *The first table is a linear layer with 128 samples, the second a convolution with 32 images, both at 90 % sparsity.*
#
# Next we ask how much of the promise was kept, and whether a gain is more than noise. One table cannot tell, because
# the next one differs from it. So we measure both layers five times, and `assess_claim` compares the five differences
# with their spread.


# %%
def milliseconds(layer: nn.Module, example: torch.Tensor, repeats: int = 5) -> pd.DataFrame:
    tables = [analysis.speed_table(layer, 0.1, example) for _ in range(repeats)]
    return pd.DataFrame([table["milliseconds"] for table in tables])


# %% tags=["nbval-ignore-output"]
for title, timings in {"linear": milliseconds(linear, x), "convolution": milliseconds(conv, images)}.items():
    for variant in timings.columns[1:]:
        ratio = timings["dense"].median() / timings[variant].median()
        claim = analysis.assess_claim(f"{title}, {variant}, beats dense", timings["dense"], timings[variant], unit="ms")
        print(f"{ratio:.2f} times as fast,", str(claim).replace("seeds", "measurements"))

# %% [markdown]
# *Operations promise ten times as fast. "Contradicted" means that the variant was slower than dense. "Undecided" means
# that the difference is no larger than what chance alone produces, even where the ratio lies above 1.*

# %% [markdown]
# ## Another order in memory
#
# Next we explain a word from the race. What does `feature-major` mean? A batch lies in memory sample by sample. One
# connection, though, reads *one* feature of *all* samples. If these stand side by side, the processor multiplies
# eight or sixteen of them at once. If not, it must gather them. Shapes stay what they are, and only strides change.
# They say how many numbers further the next sample or the next feature lies:

# %%
rows = feature_major(x)
print("ordinary:     ", tuple(x.shape), "strides", x.stride())
print("feature-major:", tuple(rows.shape), "strides", rows.stride())
print(f"elements that differ: {int((x != rows).sum())} | images: strides {feature_major(images).stride()}")

# %% [markdown]
# A csr layer takes either order and turns what it must. Its output is feature-major, and ReLU, additions and the like
# keep it so. Between two csr layers nothing needs to be turned. We see it in the strides after a csr layer and a ReLU:

# %%
between = torch.relu(csr(rows))
print("strides:", between.stride(), "for a shape of", tuple(between.shape))

# %% jupyter={"source_hidden": true}
assert is_feature_major(between)

# %% [markdown]
# ## Let the clock choose
#
# You need not choose by hand. Which storage is better depends on shape, density, batch and machine. `storage="auto"`
# measures each layer in both with a batch of yours, and remembers. We try it on a network whose layers keep 2 %, 30 %
# and all of their weights.

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
# Time is one half, and memory is the other. The table gives the bytes of a layer of 1024 × 1024, relative to the dense
# one. `csr` is as in a textbook, with a value and a column per connection. The other two columns are what the layers of
# this package really hold, once they have run. A csr layer keeps the order of both directions ready, because backward
# needs the transpose, so it is made to be fast, not small.

# %%
counts = {density: sk.random_topology({"layer": (1024, 1024)}, density) for density in (0.5, 0.2, 0.1, 0.05, 0.01)}
table = pd.concat([analysis.memory_bytes(one) for one in counts.values()]).set_axis(list(counts))
ratios = table[["masked_layer", "csr", "csr_layer"]].div(table["dense"], axis=0)
ratios.rename_axis("density").round(3)

# %% [markdown]
# *A masked layer is larger than a dense one at every density. A csr layer is smaller where the last column is below 1.*
# Optimizers tip the scale. Adam keeps two more numbers per value, and there are only as many values as connections.

# %%
adam = pd.concat([analysis.memory_bytes(one, optimizer_values=2) for one in counts.values()]).set_axis(list(counts))
adam[["masked_layer", "csr", "csr_layer"]].div(adam["dense"], axis=0).rename_axis("density").round(3)

# %% [markdown]
# No storage saves activations, because a layer's outputs are as many as before.

# %% [markdown]
# ## Exercise 1: bytes (5 minutes)
#
# Write a function for the bytes of textbook CSR. Each connection takes a value (4 bytes) and its column (4 bytes), and
# each row takes 4 bytes that say where it begins. At which density does a large layer take as much as a dense one (4
# bytes a position)?


# %%
def csr_bytes(rows: int, columns: int, density: float) -> int:
    raise NotImplementedError


widgets.check(csr_bytes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def csr_bytes(rows, columns, density):
#     return 8 * round(rows * columns * density) + 4 * rows
# ```
# A value and its address take as much as two values, so the break-even is at a density of one half (a little less,
# because of the rows).
# </details>
#
# ## Exercise 2: the rest of the network (5 minutes)
#
# A share of a training step's time is spent in layers that become `speedup` times faster. The rest (normalisation,
# activations, loss, optimizer) stays. How many times faster is the whole step?


# %%
def whole_speedup(share: float, speedup: float) -> float:
    raise NotImplementedError


widgets.check(whole_speedup)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def whole_speedup(share, speedup):
#     return 1 / ((1 - share) + share / speedup)
# ```
# If half of the time is spent elsewhere, no kernel in the world makes the step more than twice as fast.
# </details>

# %% [markdown]
# ## A whole training step
#
# Now we include the rest again. We train an MLP 784-1024-1024-10 with cross-entropy and momentum, 10 % of its weights
# and 128 samples, and use the same `train_step` as everywhere.

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
pd.DataFrame({"milliseconds": 1000 * seconds, "times faster": seconds["dense"] / seconds}).round(2)

# %% [markdown]
# *Compare this with what the meter said of a single layer. The table is one measurement, so do not trust its second
# decimal.*

# %% [markdown]
# ## What could mislead us
#
# Batch size and layer size decide as much as sparsity does. We measure the same 90 % again, in other settings:

# %% tags=["nbval-ignore-output"]
sizes = {"1024 × 1024, batch 128": (1024, 128), "1024 × 1024, batch 8": (1024, 8), "64 × 64, batch 128": (64, 128)}
speedups = {}
for title, (width, batch_size) in sizes.items():
    seconds = analysis.step_seconds(nn.Linear(width, width), 0.1, torch.randn(batch_size, width))
    speedups[title] = {variant: seconds["dense"] / seconds[variant] for variant in variants[1:]}
pd.DataFrame(speedups).T.rename_axis("times faster than dense").round(2)

# %% [markdown]
# Other things could mislead you, too.
#
# - **The rival.** Dense means PyTorch's float32 here. In bfloat16, or with another library, dense may be faster, and on
#   a GPU it is much faster. Ask of every speed-up what it compares with.
# - **Threads.** We use one. With more, dense and sparse both may gain, but not alike, and we did not measure it here.
#   Change `torch.set_num_threads` and run again.
# - **Noise.** Run a cell twice. A difference that is no larger than that between the two runs means nothing. This is
#   why we compare variants in turn, take medians, repeat, and never print a time from another day.
# - **Warm caches.** The meter computes with the same small layer again and again, but in a network others come in
#   between.
# - **Operations that nobody counts.** Rewiring takes time, too. For GSE and RigL see
#   [03_guided_stochastic_exploration](03_guided_stochastic_exploration.ipynb).

# %% [markdown]
# ## Exercise 3: where does the gain end? (10 minutes)
#
# Now you search with the meter. At 90 % sparsity and a batch of 128, the layer below may be faster than dense. A
# smaller batch leaves less to multiply, and calling a kernel costs the same. Find the smallest batch, as a power of
# two, at which `csr, feature-major` is still faster. The cell repeats the measurement and says whether the difference
# is more than noise.

# %% tags=["nbval-ignore-output"]
batch_size = 32  # try 1, 2, 4, ..., 256

timings = milliseconds(linear, torch.randn(batch_size, 1024))
claim = f"with a batch of {batch_size}, csr feature-major beats dense"
print(
    str(analysis.assess_claim(claim, timings["dense"], timings["csr, feature-major"], unit="ms")).replace(
        "seeds", "measurements"
    )
)

# %% [markdown]
# ## Exercise 4: where sparsity gains nothing (5 minutes)
#
# Now you look for the other end of the line. The check times a layer of 1024 × 1024 on your machine, dense and as csr,
# with a batch of 128. Find a density below 1 at which csr is *no faster* than dense. Do you expect it above or below
# your break-even?

# %% tags=["nbval-ignore-output"]
no_gain_density = None

widgets.check(no_gain_density=no_gain_density)

# %% [markdown]
# <details><summary>Solution</summary>
#
# At half of the connections csr saves half of the operations, and pays more for each of them.
#
# ```python
# no_gain_density = 0.5
# ```
# </details>

# %% [markdown]
# ## Exercise 5: a budget of operations (10 minutes)
#
# Not only layers cost operations. RigL needs the dense gradient at every rewiring, so it pays for each of them. The
# check counts what a training step costs at 5 % density on average, and it trains the small digits network from three
# seeds. Find `every`, the steps between two rewirings, such that RigL costs at most 5 % more than a fixed mask and
# still reads 89 of 100 digits.

# %% tags=["nbval-ignore-output"]
affordable_every = None

widgets.check(affordable_every=affordable_every)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Every 25 steps a rewiring adds a quarter to the operations. Every 100 steps it adds 6 %. But whoever rewires too
# seldom gains little from it.
#
# ```python
# affordable_every = 150
# ```
# </details>

# %% [markdown]
# ## What we saw
#
# - A mask saves no operation and no memory. Whether it saves time on your machine, the verdicts above say. None of
#   those that are stored with this file is in its favour.
# - Stored as its connections, a layer gains a part of what operations promise. How large the part is, your machine has
#   said above.
# - The order in memory matters as well, and the other parts of a step set the limit.
# - Memory follows the same rule, since what is promised is not what is held. Count the indices.
#
# These are two layers and one small MLP on one processor, with this package's kernels. It does not follow that sparse
# training cannot be fast on a GPU, or that it is always fast on a CPU.

# %% [markdown]
# ## Check yourself
#
# - A paper reports "5 × fewer FLOPs" with masks. How long did its authors' training take, compared with dense?
# - Does your speed-up at 99 % fall further short of its promise than that at 80 %? Why would it?
# - Which would you rather have at 95 % sparsity, twice the speed or a tenth of the memory? On which device?
#
# <details><summary>Answers</summary>
#
# - The count does not say it. A mask saves no operation that the processor carries out, so expect as long or longer.
# - Compare the lines of your race. The promise grows from 5 to 100 times, while calling a kernel and reading the input
#   cost what they did.
# - That depends on what you lack. If the dense network does not fit into a device, memory comes first. If it fits and
#   you wait for it, speed does.
# </details>
#
# ## Go further
#
# - Put your own layer and batch into `analysis.speed_table`.
# - `sparsekit bench --quick` measures layers, networks, rewiring and memory, beside other sparse kernels. You find the
#   results of a long run in [REPORT.md](../benchmarks/REPORT.md).
# - Try `sk.sparsify(model, topology, storage="csr")` on a ResNet. Use `sk.layers.fuse_relus` for the batch norms in
#   between.
#
# ## References
#
# - T. Gale et al. (2020), *Sparse GPU Kernels for Deep Learning*, arXiv:2006.10901: what it takes on a GPU.
# - M. Nikdan et al. (2023), *SparseProp: Efficient Sparse Backpropagation for Faster Training of Neural Networks*,
#   arXiv:2302.04852: the same question on a CPU.
# - M. Heddes et al. (2024), *Always-Sparse Training by Growing Connections with Guided Stochastic Exploration*,
#   arXiv:2401.06898: products with CSR matrices, timed.
# - S. Hooker (2021), *The Hardware Lottery*, arXiv:2009.06489: why dense is fast.
