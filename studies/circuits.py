"""How many connections does a small task need? We train transformers with few weights, and look for their circuits.

The first task is to close a quote with the sign that opened it. The second is to close a bracket with one sign or two,
as deep as the text is nested. One network with two blocks learns both. It keeps the largest weights of every matrix
after each step, and its density falls to the final one. Then we leave out nodes, which have their mean from then on,
until the loss would rise above a limit. The weights between the remaining nodes are the circuit. Dense networks are
trained and searched in the same way. What was measured is kept, so an interrupted study resumes where it was.

    python studies/circuits.py --seeds 3
    python studies/circuits.py --seeds 1 --figure circuit.png
"""

import argparse
import json
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from sparsekit import models
from sparsekit.analysis import Circuit, circuit_loss, edges_of, find_circuit, gpt_wiring
from sparsekit.analysis.behaviour.circuits import modules_in
from sparsekit.plots import plot_circuit, subplots
from sparsekit.rules import keep_largest_weights
from sparsekit.utils.seeds import generator, seeded_rng

TOKENS = ("start", "a", "b", "c", "d", "'", '"', "[", "]", "]]")
QUOTE, OPEN, CLOSE, CLOSE_TWICE = 5, 7, 8, 9
CONTEXT, POOL, BATCH = 16, 8192, 64  # tokens, samples of a task to train on, samples of a step
DEEPEST = 4  # brackets
SEARCHED, TESTED = 400, 2000  # samples
LOSS, CHANGE = 0.15, 0.02  # of the circuit at most, in nats, and its difference from the whole network
FEW_EDGES, RATIO = 40, 8  # what the study asks for


def quotes(count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return texts of letters with a quote sign somewhere, and the sign that closes it."""
    texts = letters(count, draws)
    signs = QUOTE + torch.randint(2, (count,), generator=draws)
    texts[torch.arange(count), torch.randint(1, CONTEXT - 1, (count,), generator=draws)] = signs
    return texts, signs


def brackets(count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return texts of letters and brackets that end one or two levels deep, and the sign that closes all of them."""
    texts, depth = letters(count, draws), torch.zeros(count, dtype=torch.int64)
    for position in range(1, CONTEXT - 1):
        chance = torch.rand(count, generator=draws)
        must_close = depth - (CONTEXT - 1 - position) >= 2  # so that it ends at most two levels deep
        opens = ((chance < 0.3) & (depth < DEEPEST) | (depth == 0)) & ~must_close
        closes = ((chance > 0.7) | must_close) & (depth > 1) & ~opens
        texts[:, position] = texts[:, position].where(~opens, OPEN).where(~closes, CLOSE)
        depth += opens.long() - closes.long()
    return texts, torch.where(depth == 1, CLOSE, CLOSE_TWICE)


def letters(count: int, draws: torch.Generator) -> Tensor:
    """Return texts of random letters after the start."""
    texts = torch.randint(1, QUOTE, (count, CONTEXT), generator=draws)
    texts[:, 0] = 0
    return texts


TASKS = {"quotes": quotes, "brackets": brackets}


def last_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the loss at the last position, in nats."""
    return functional.cross_entropy(outputs[:, :, -1], labels)


def density_at(step: int, steps: int, final: float) -> float:
    """Return the density, which falls by the same factor at each step until four fifths of the training."""
    return final ** min(1.0, step / (0.8 * steps))


def trained(options: argparse.Namespace, density: float, seed: int) -> nn.Module:
    """Train one network on both tasks."""
    sizes = {"dim": options.dim, "depth": 2, "heads": 4, "hidden": 2 * options.dim, "tied": False}
    with seeded_rng(generator(seed, "weights")):
        model = models.build("gpt", input_shape=(CONTEXT,), num_classes=len(TOKENS), **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.95), eps=1e-4, weight_decay=0.1)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(learning_rate, steps=options.steps))
    if density < 1:
        keep_largest_weights(model, optimizer, partial(density_at, steps=options.steps, final=density))
    pools = [make(POOL, generator(seed, name)) for name, make in TASKS.items()]
    texts, labels = (torch.cat(parts) for parts in zip(*pools, strict=True))
    draws = generator(seed, "batches")
    for _ in range(options.steps):
        batch = torch.randint(len(texts), (BATCH,), generator=draws)
        optimizer.zero_grad()
        last_loss(model(texts[batch]), labels[batch]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
    return model


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: a rise in 50 steps, and from the middle on a straight fall."""
    return min(1.0, (step + 1) / 50) * min(1.0, 2 * (1 - step / steps))


def circuit_of(model: nn.Module, task: str) -> tuple[Circuit, pd.DataFrame]:
    """Return the circuit of a task and its edges. Tokens that do not occur in the task have none."""
    texts, labels = TASKS[task](SEARCHED, generator(0, "search", task))
    loss, wiring = partial(last_loss, labels=labels), gpt_wiring(model)
    whole = float(loss(model(texts)).detach())
    circuit = find_circuit(model, texts, loss, modules_in(wiring), limit=max(whole, min(LOSS, whole + 0.99 * CHANGE)))
    occurs = torch.zeros(len(TOKENS), dtype=torch.bool).index_fill_(0, texts.unique(), True)
    return circuit, edges_of(model, {**circuit.nodes, "tokens": occurs}, wiring)


def row_of(model: nn.Module, task: str, circuit: Circuit, edges: pd.DataFrame) -> dict[str, float]:
    """Return what fresh samples say of a circuit."""
    texts, labels = TASKS[task](TESTED, generator(0, "test", task))
    loss = partial(last_loss, labels=labels)
    of_circuit = circuit_loss(model, texts, loss, circuit.nodes, circuit.means)
    whole = float(loss(model(texts)).detach())
    return {
        "nodes": circuit.num_nodes,
        "edges": len(edges),
        "loss": of_circuit,
        "change": of_circuit - whole,
        "without it": circuit_loss(model, texts, loss, circuit.complement(), circuit.means),
    }


def measured(options: argparse.Namespace, density: float, seed: int) -> list[dict]:
    """Return the rows of one network, from the folder where it was measured before."""
    file = (
        options.folder / f"density={density} dim={options.dim} steps={options.steps} lr={options.lr} seed={seed}.json"
    )
    if not file.exists():
        model = trained(options, density, seed).eval()
        rows = [
            {"task": task, "density": density, "seed": seed, **row_of(model, task, *circuit_of(model, task))}
            for task in TASKS
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def verdicts(rows: pd.DataFrame) -> list[str]:
    """Return a sentence for each task, over all seeds."""
    sentences = []
    for task, of_task in rows.groupby("task", sort=False):
        sparse, dense = (of_task[(of_task["density"] == 1) == is_dense] for is_dense in (False, True))
        ratio = float(dense["edges"].mean() / sparse["edges"].mean())
        met = bool((sparse["edges"] <= FEW_EDGES).all() and (sparse["loss"] <= LOSS).all())
        met &= bool((sparse["change"].abs() < CHANGE).all()) and ratio >= RATIO
        sentences.append(
            f"{task}: {' '.join(map(str, sparse['edges']))} edges at loss {sparse['loss'].max():.3f} or less, and "
            f"dense {' '.join(map(str, dense['edges']))}, {ratio:.1f} times as many. "
            f"The target is {'met' if met else 'missed'}."
        )
    return sentences


def main() -> None:
    """Print the table and the verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--density", type=float, default=0.015, help="of every matrix in the end")
    parser.add_argument("--dim", type=int, default=32, help="features of a token")
    parser.add_argument("--steps", type=int, default=2000, help="of each training")
    parser.add_argument("--lr", type=float, default=5e-3, help="of AdamW")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--folder", type=Path, default=Path("runs/circuits"), help="where results are kept")
    parser.add_argument("--figure", type=Path, help="where the circuits of seed 0 are drawn, such as circuit.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = [(density, seed) for seed in range(options.seeds) for density in (options.density, 1.0)]
    rows = pd.DataFrame([row for cell in cells for row in measured(options, *cell)])
    print(rows.to_string(index=False, float_format="{:.3f}".format))
    print("", *verdicts(rows), sep="\n")
    if options.figure:
        model, (figure, axes) = trained(options, options.density, 0).eval(), subplots(len(TASKS), width=9, height=9)
        for task, ax in zip(TASKS, axes, strict=True):
            plot_circuit(circuit_of(model, task)[1], ax, tokens=TOKENS)
        figure.savefig(options.figure)


if __name__ == "__main__":
    main()
