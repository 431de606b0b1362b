# %% [markdown]
# # 11. Bring your own
#
# **50 minutes** · needs: [00_start_here](00_start_here.ipynb) · runs in under a minute
#
# The course has trained small networks of its own. Now it is your turn to bring a network. Run the cells, choose one of
# the five below, and move the slider. Each bar is one of its layers.

# %% jupyter={"source_hidden": true}
import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import pandas as pd
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

# %% jupyter={"source_hidden": true}
import sparsekit as sk
from sparsekit import plots, widgets
from sparsekit.plots.canvas import finish
from sparsekit.plots.palette import LIGHT
from sparsekit.topology.allocation import allocate

torch.set_num_threads(1)
warnings.simplefilter("ignore", sk.layers.LeftDenseWarning)  # we print what it says

# %% jupyter={"source_hidden": true}
with torch.device("meta"):  # shapes without numbers, so even large networks take no memory
    networks = {
        "ResNet-18": torchvision.models.resnet18(),
        "MobileNetV3": torchvision.models.mobilenet_v3_large(),
        "ViT-B/16": torchvision.models.vit_b_16(),
        "LSTM of two layers": nn.LSTM(256, 512, num_layers=2),
        "Transformer with words": nn.Sequential(
            nn.Embedding(8000, 256), nn.TransformerEncoderLayer(256, 8, 1024), nn.Linear(256, 8000)
        ),
    }
shapes = {name: sk.shapes_of(network) for name, network in networks.items()}


# %% jupyter={"source_hidden": true}
def draw_network(network: str, percent: int):
    counts = allocate(shapes[network], percent / 100)
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes[network].items()}
    densities = [counts[name] / sizes[name] for name in counts]
    _, (ax,) = plots.subplots(width=9, height=3.4)
    ax.bar(range(len(densities)), [100 * density for density in densities], width=0.8, color=LIGHT["soft"])
    ax.set_ylim(0, 105)
    finish(ax, x="layer, from the input to the output", y="density in per cent")
    said = f"{network} keeps {sum(counts.values()):,} of {sum(sizes.values()):,} connections in {len(counts)} layers"
    return plots.titled(ax, said)


# %% tags=["nbval-ignore-output"]
chosen = widgets.FigureExplorer(
    draw_network,
    [
        widgets.Field(name="network", kind="choice", label="Network", options=tuple((one, one) for one in networks)),
        widgets.Field(name="percent", kind="range", label="Density in per cent", low=1, high=50),
    ],
    {"network": "ResNet-18", "percent": 5},
)
chosen

# %% [markdown]
# *The bars are the layers, and their heights are the densities that Erdős–Rényi with kernels (ERK) gives them.* In
# which network are some layers full while others are nearly empty? Add a network of your own to `networks`, and run the
# cells again.
#
# You will learn
#
# - which weights of **your model** become sparse, and how you teach the package a module that it does not know
# - how **your data** and **your loop** stay what they are, with one new line
# - what that line looks like in two trainers that others wrote
# - how you hand a trained network on, and how you know that the file is right

# %% [markdown]
# ## Predict
#
# You asked for a density of 5 %. Before we count, make a guess about the last network of the list. It has a table of
# 8,000 words at its input.

# %% tags=["nbval-ignore-output"] jupyter={"source_hidden": true}
guess = widgets.Predict(
    "The transformer with words gets a density of 5 %. Which share of all its parameters exists then?",
    ["5 %", "about 10 %", "about 45 %", "about 80 %"],
)
guess

# %% tags=["nbval-ignore-output"]
words = nn.Sequential(nn.Embedding(8000, 256), nn.TransformerEncoderLayer(256, 8, 1024), nn.Linear(256, 8000))
sparse_words = sk.sparsify(words, sk.random_topology(sk.shapes_of(words), density=0.05, seed=0))
exist = sk.density_of(sparse_words)
guess.measured(f"{exist:.1%} of all parameters exist.", option=2)

# %%
print(sk.coverage(sparse_words))

# %% [markdown]
# *The density that you ask for is that of the sparse layers.* Embeddings stay dense unless you ask for them, because
# each word uses one row of the table only. With `include=("embeddings",)` you ask. We do so, and count again.

# %%
everything = sk.shapes_of(words, include=("embeddings",))
sparse_words = sk.sparsify(words, sk.random_topology(everything, density=0.05, seed=0))
print(sk.coverage(sparse_words))

# %% [markdown]
# ## Your model
#
# Next we build a network that nobody has seen before. It reads an 8 × 8 digit row by row. `Mixing` is a module of ours,
# whose matrix lies the other way round, as `(inputs, outputs)`.


# %%
class Mixing(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.table = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x):
        return x @ self.table


# %%
class RowReader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.GRU(8, 96, batch_first=True)
        self.mixing = Mixing(8 * 96, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, pixels):
        states, _ = self.rows(pixels)
        return self.head(self.mixing(states.flatten(1)).relu())


# %% [markdown]
# The package knows `GRU` and `Linear`, but it cannot know `Mixing`. We ask what it would leave dense, before we do
# anything.

# %%
torch.manual_seed(0)
mine = RowReader()
print(sk.coverage(mine))
print(sk.left_dense(mine))

# %% [markdown]
# So more than half of the weights would stay dense. We tell the package where the matrix lies. A function gets the
# module and each of its parameters, and returns the matrix as `(outputs, inputs)`.


# %%
@sk.register_kind(Mixing)
def mixing(module, name, weight):
    return {"": weight.T} if name == "table" else {}


print(sk.coverage(mine))
print(sk.shapes_of(mine))

# %% [markdown]
# *Nobody had to change `Mixing`. It keeps its class and its forward, and reads a masked weight under the old name.*
#
# ## Your data
#
# Now we bring data in a form of our own. Each example is a dict, and torch's `DataLoader` puts them into batches.
# Nothing of this is the package's.

# %%
digits = sk.datasets.load("digits", flat=False)


def examples(split) -> list[dict]:
    pixels = digits.prepare(split.inputs).squeeze(1)
    return [{"pixels": one, "digit": label} for one, label in zip(pixels, split.labels, strict=True)]


draws = torch.Generator().manual_seed(0)
loader = DataLoader(examples(digits.train), batch_size=64, shuffle=True, generator=draws)
test = DataLoader(examples(digits.test), batch_size=200)
print({name: tuple(tensor.shape) for name, tensor in next(iter(loader)).items()})

# %% [markdown]
# ## Your loop
#
# Here is an ordinary loop with AdamW, clipped gradients and a schedule. Only the line with `attach` is new. From then
# on the rule rewires the model whenever the optimizer steps.

# %%
model = sk.sparsify(mine, sk.random_topology(sk.shapes_of(mine), density=0.05, seed=0))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
steps = 12 * len(loader)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
attached = sk.attach(model, optimizer, sk.rules.RigL(stop=3 * steps // 4, every=10))

# %%
losses = []
for _ in range(12):
    for batch in loader:
        loss = cross_entropy(model(batch["pixels"]), batch["digit"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())

# %% [markdown]
# Did it learn, and did it keep its budget? `evaluate` reads pairs, and an `Adaptor` makes pairs of our dicts.

# %% tags=["nbval-ignore-output"]
pairs = sk.Adaptor(batch=lambda batch: (batch["pixels"], batch["digit"]))
found = sk.evaluate(model, test, adaptor=pairs)
print(f"reads {found.accuracy:.1%} of the test digits with {sk.topology_of(model).count:,} connections")

# %% jupyter={"source_hidden": true}
assert found.accuracy > 0.8

# %%
print(f"{attached.step} steps, rewired at {len(attached.journal.entries)} of them")
print({name: f"{layer.topology.density:.1%}" for name, layer in sk.sparse_layers(model).items()})

# %% [markdown]
# The handle has a journal of all rewirings, so every figure and widget of the course works with your network too. Move
# through the film, and choose another layer.

# %% tags=["nbval-ignore-output"]
widgets.TopologyFilm(attached.journal, layers=["mixing", "rows.weight_hh_l0"])

# %% [markdown]
# *Rows are outputs, and columns are inputs. In `mixing` the columns belong to the eight rows of the image, from the
# first to the last.* Does the network look at all rows alike? We count the connections of each row.

# %% tags=["nbval-ignore-output"]
per_row = sk.topology_of(model)["mixing"].fan_out().view(8, 96).sum(1)
_, (ax,) = plots.subplots(width=6, height=3)
ax.bar(range(1, 9), per_row, color=LIGHT["soft"])
finish(ax, x="row of the image", y="connections")
plots.titled(ax, f"Row {int(per_row.argmax()) + 1} of the image has the most connections, {int(per_row.max())}")

# %% [markdown]
# ## Stop, save, continue
#
# A training of your own may be stopped. The topology lies in `model.state_dict()`, and the number of the step in
# `optimizer.state_dict()`. So you save and load as ever, and attach again.

# %%
file = Path("runs/reader.pt")
file.parent.mkdir(exist_ok=True)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)

# %%
saved = torch.load(file)
again = sk.sparsify(RowReader(), sk.random_topology(sk.shapes_of(mine), density=0.05, seed=1))
again.load_state_dict(saved["model"])
optimizer_again = torch.optim.AdamW(again.parameters(), lr=0.01)
optimizer_again.load_state_dict(saved["optimizer"])
attached_again = sk.attach(again, optimizer_again, attached.rule)
print("equal topologies:", sk.topology_of(again) == sk.topology_of(model), "| step", attached_again.step)

# %% [markdown]
# ## Two trainers
#
# Often the loop is not yours, but that of a trainer. You then look for the place where the optimizer is made, and put
# `attach` there. In Lightning that place is `configure_optimizers`. In the Trainer of Hugging Face you make the
# optimizer yourself and hand it over. These are the lines of two [examples](../examples) that do so.

# %%
examples_folder = Path(sk.__file__).parents[1] / "examples"


def lines_about(file: str, *words: str) -> None:
    print(f"--- examples/{file}")
    for line in (examples_folder / file).read_text(encoding="utf-8").splitlines():
        if any(word in line for word in words):
            print(line.strip())


lines_about("lightning_digits.py", "def configure", "torch.optim.SGD", "attach(", "return optimizer")
lines_about("hf_trainer.py", "sparsify(", "AdamW(", "attach(", "optimizers=", "export(")

# %% [markdown]
# The next cell runs both for a few steps, if their packages are there. They are no part of the course's environment, so
# it may tell you what to install instead.

# %% tags=["nbval-ignore-output"]
needs = {"lightning_digits.py": ("lightning",), "hf_trainer.py": ("transformers", "accelerate")}
short = {"lightning_digits.py": ("2", "runs/lightning"), "hf_trainer.py": ("30", "runs/gpt2")}
for file, packages in needs.items():
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        print(f"{file}: pip install {' '.join(missing)}, and run this cell again")
        continue
    command = [sys.executable, str(examples_folder / file), *short[file]]
    done = subprocess.run(command, capture_output=True, text=True)
    print(f"{file}: {(done.stdout or done.stderr).strip().splitlines()[-1]}")

# %% [markdown]
# *In both, mixed precision, accumulated gradients and checkpoints work as before.* If a trainer wraps the optimizer,
# hand `attach` the outermost one.
#
# ## Hand it on
#
# In the end other programs need the network. `export` writes it, reads it back, runs it, and compares. The end of the
# name says the format. Which file do you expect to be the smallest?

# %% tags=["nbval-ignore-output"]
example = next(iter(test))["pixels"]
folder = Path("runs/export")
folder.mkdir(parents=True, exist_ok=True)
torch.save(sk.densify(model).state_dict(), folder / "dense.bin")
exported = [sk.export(model, folder / f"net.{end}", example=example) for end in ("safetensors", "npz", "pt")]
sizes = {"dense state_dict": (folder / "dense.bin").stat().st_size / 1000}
sizes |= {one.format: one.bytes / 1000 for one in exported}
pd.Series(sizes, name="kilobytes").round(1).to_frame()

# %%
print("formats that agree with the network:", [one.format for one in exported if one.error < 1e-4])

# %% [markdown]
# *The first two hold connections and their positions. The third holds torch's own CSR matrices, which only linear
# layers can use, so the others are dense in it.* There are also programs of `torch.export` and ONNX, and the folders of
# Hugging Face. [docs/exports.md](../docs/exports.md) has them all.

# %% [markdown]
# ## What could mislead us
#
# - **The density of what?** You ask for that of the sparse layers. A table says more if it also counts what is dense.
#   `coverage` gives you both numbers in a sentence.
# - **A mask is not faster.** Layers that keep their own forward are always `masked`. They save connections, and neither
#   time nor memory ([notebook 10](10_always_sparse_speed.ipynb)).
# - **Settings of a dense training.** Your learning rate and weight decay were chosen for the dense network. Compare
#   with a dense one that you have tuned as carefully.
# - **Pretrained weights.** `sparsify` scales new weights to their fan-in. For a trained model give `init="dense"`, or
#   take `from_pruned`, which keep every value.
# - **One seed.** We have trained one network on toy data. It shows that everything fits together, and nothing more.

# %% [markdown]
# ## Exercise 1: the density of everything (10 minutes)
#
# A language model has a table of 500 words with 64 numbers each, a transformer layer, and a head. The table stays
# dense. Which density must you ask for, so that 40 % of **all** parameters exist? Two points to either side will do.
# The check makes the model sparse and counts.

# %% tags=["nbval-ignore-output"]
asked_density = None

widgets.check(asked_density=asked_density)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The table, biases and norms are 29 % of the parameters, and they all exist. So 11 % of all may come from the sparse
# layers, which are 71 %. That is a density of 0.15. No density at all brings this model down to a quarter.
#
# ```python
# asked_density = 0.15
# ```
# </details>

# %% [markdown]
# ## Exercise 2: a cut that heals (10 minutes)
#
# You have a trained network and want a sparse one. The check trains the small digits network dense from three seeds,
# keeps its largest weights, and fine-tunes the rest for ten epochs with RigL. Find a density that hurts, so that the
# network reads at most 75 of 100 digits right after the cut. But fine-tuning must bring it back to 90. Which way do you
# expect to go from 10 %?

# %% tags=["nbval-ignore-output"]
mendable_density = None

widgets.check(mendable_density=mendable_density)

# %% [markdown]
# <details><summary>Solution</summary>
#
# At 7 % the cut leaves about 60 of 100 digits, and fine-tuning brings back about 93. At 10 % the cut hardly hurts, and
# at 3 % ten epochs do not heal it. So what a network reads right after a cut says little about what it can become.
#
# ```python
# mendable_density = 0.07
# ```
# </details>

# %% [markdown]
# ## What we saw
#
# - Any module becomes sparse if somebody says where its matrices lie. For a module of ours that took three lines.
# - A loop of our own got one new line. The trainers of others get the same line, where they make the optimizer.
# - What was saved continued at the same step with the same topology.
# - The density that you ask for is not that of all parameters. A table of words made 45 % out of 5 %.
# - Three files agreed with the network that they were written from, because `export` had compared them.

# %% [markdown]
# ## Check yourself
#
# - Why must the function of `register_kind` return the transposed matrix, and what would go wrong otherwise?
# - You attach a rule and load a checkpoint afterwards. Which topology does the model have?
# - A file of 5 % of the weights is larger than 5 % of the dense file. Why?
#
# <details><summary>Answers</summary>
#
# - Rules and allocations count connections of each output, as fan-in. With the matrix the wrong way round they would
#   count those of each input.
# - It has that of the checkpoint, because the topology is a part of the model's state. The rule follows.
# - Each connection needs its position as well as its value. Biases are dense, too.
# </details>
#
# ## Go further
#
# - Put a network of yours into `networks` at the top. What does `left_dense` name, and why?
# - Read [docs/models.md](../docs/models.md) for attention, experts and embeddings.
# - Try [timm_pruned.py](../examples/timm_pruned.py), which prunes a network of timm and fine-tunes it.
# - `sk.condense(model)` makes a network for inference, and measures which product is the fastest on your machine.
#
# ## References
#
# - U. Evci et al. (2020), *Rigging the Lottery: Making All Tickets Winners*, arXiv:1911.11134: RigL, and ERK.
# - M. Zhu and S. Gupta (2017), *To prune, or not to prune*, arXiv:1710.01878: pruned networks that train on.
# - T. Gale et al. (2019), *The State of Sparsity in Deep Neural Networks*, arXiv:1902.09574: on large models.
