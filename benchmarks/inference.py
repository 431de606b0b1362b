"""How long does a trained network take for a batch, in each form, and what does each export weigh?

We time the network 784-1024-1024-10 in turns, by the processor time of this process, on one thread. The first table has
times over those of the dense network, as the median of rounds. The second one has what `sk.export` writes.

    python benchmarks/inference.py [--density 0.05] [--batches 1 8 64 512] [--rounds 15]
"""

import argparse
import itertools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.layers.exporting import FORMATS
from sparsekit.layers.products import PRODUCTS
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.utils.timing import Effort, speedups_of, time_in_turns

WIDTHS = (784, 1024, 1024, 10)


def forms_of(density: float, widths: tuple[int, ...] = WIDTHS) -> dict[str, nn.Module]:
    """Return one network in every form, by name."""
    with seeded_rng(generator(0, "model")):
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    plain = nn.Sequential(*layers[:-1])
    topology = sk.random_topology(sk.shapes_of(plain), density, seed=0)
    masked, csr = (sk.sparsify(plain, topology, storage).eval() for storage in ("masked", "csr"))
    products = {f"condensed, {name}": sk.condense(masked, product=name) for name in PRODUCTS if name != "dense"}
    return {
        "dense": sk.densify(masked).eval(),
        "masked": masked,
        "csr": csr,
        **products,
        "condensed": sk.condense(masked),
    }


def ratios(forms: dict[str, Callable], x: Tensor, rounds: int) -> dict[str, float]:
    """Return how many times as long as the dense network each form takes for a batch."""
    calls = {name: lambda form=form: form(x) for name, form in forms.items()}
    effort = Effort(rounds=rounds, sample_seconds=0.002, min_rounds=min(3, rounds))
    with torch.no_grad():
        samples = time_in_turns(calls, effort, clock=time.process_time)
    return {name: 1 / statistics.median(speedups_of(samples, name, "dense")) for name in forms}


def print_forms(forms: dict[str, nn.Module], batches: list[int], rounds: int) -> None:
    """Print a line for each form."""
    columns = [ratios(forms, torch.randn(size, WIDTHS[0], generator=generator(0, "x")), rounds) for size in batches]
    print(f"| form | {' | '.join(f'batch {size}' for size in batches)} |\n|---|{'---|' * len(batches)}")
    for name in forms:
        print(f"| {name} | {' | '.join(f'{column[name]:.2f}' for column in columns)} |", flush=True)


def print_exports(forms: dict[str, nn.Module], batches: list[int], rounds: int) -> None:
    """Print a line for each format that a network without `save_pretrained` has."""
    plain, x = forms["dense"], torch.randn(2, WIDTHS[0], generator=generator(0, "x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(forms["csr"].state_dict(), folder / "state.pt")
        today = (folder / "state.pt").stat().st_size
        print(f"| format | error | kB | share of the saved csr state | {' | '.join(f'batch {n}' for n in batches)} |")
        print(f"|---|---|---|---|{'---|' * len(batches)}")
        for format, one in FORMATS.items():
            if format == "pretrained":
                continue
            try:
                done = sk.export(forms["csr"], folder / f"network{one.suffix}", example=x)
            except ImportError as error:
                print(f"| {format} | {error} |")
                continue
            run = one.read(done.path, plain)
            times = [] if run is None else [_time(run, plain, size, rounds) for size in batches]
            error = "not run" if done.error is None else f"{done.error:.0e}"
            cells = [format, error, f"{done.bytes / 1000:.0f}", f"{done.bytes / today:.2f}", *times]
            print(f"| {' | '.join(cells)} |", flush=True)


def _time(run: Callable, plain: nn.Module, size: int, rounds: int) -> str:
    x = torch.randn(size, WIDTHS[0], generator=generator(0, "x"))
    return f"{ratios({'dense': plain, 'export': run}, x, rounds)['export']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of exporters, about their own future
    forms = forms_of(options.density)
    print_forms(forms, options.batches, options.rounds)
    print()
    print_exports(forms, options.batches, options.rounds)


if __name__ == "__main__":
    main()
