"""How many images a second does the data path give, with and without augmentation?

The images are random bytes in the shape of CIFAR-10, 50,000 of 3 x 32 x 32, and lie in memory as a data set's do. We
walk through an epoch in shuffled batches, and prepare each as a network takes it.

    python benchmarks/data.py [--threads 1] [--batch-size 128] [--repeats 3]
"""

import argparse
import platform
import time

import torch

from sparsekit.datasets import CropFlip, Dataset, Normalize, Split, batches

COUNT, SHAPE = 50_000, (3, 32, 32)


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {options.threads} threads, batches of {options.batch_size}")
    data = made_up()
    for name, augment in (("without augmentation", None), ("with crops and flips", CropFlip())):
        seconds = min(seconds_of_epoch(data, options.batch_size, augment) for _ in range(options.repeats))
        print(f"{name}: {COUNT / seconds:,.0f} images/s")


def made_up() -> Dataset:
    """Return random images and labels."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (COUNT, *SHAPE), dtype=torch.uint8, generator=draws)
    split = Split(inputs=images, labels=torch.arange(COUNT) % 10)
    return Dataset(
        name="made-up",
        train=split,
        test=split.take(1000),
        classes=tuple("0123456789"),
        normalize=Normalize(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26)),
        source="random bytes",
    )


def seconds_of_epoch(data: Dataset, batch_size: int, augment: CropFlip | None) -> float:
    """Return how long it takes to walk through the training examples once."""
    start = time.perf_counter()
    for inputs, _ in batches(data.train, batch_size, seed=0, epoch=0, augment=augment):
        data.prepare(inputs)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
