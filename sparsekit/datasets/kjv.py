"""A megabyte of English that ships with the project, as characters or byte pairs, for small language models."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sparsekit.datasets.base import Dataset, Split
from sparsekit.datasets.folders import VARIABLE, find
from sparsekit.datasets.tokens import BytePairs, Characters, Tokenizer, merges_of
from sparsekit.datasets.windows import windows
from sparsekit.utils.checks import check_integer
from sparsekit.utils.files import read_arrays
from sparsekit.utils.registry import register

FILE = "kjv.npz"
PIECES = 100  # of the text, about 9,600 characters each
EVERY = 20  # of so many pieces one is for validation, and another for the test
PARTS = {"validation": 9, "test": 19}  # which of them. The others are to train on
SOURCE = "New Testament, King James Version (1611), from Debian's package bible-kjv-text"


@register("data", "kjv-char")
def kjv_char(
    *, root: Path | None = None, context: int = 64, num_train: int | None = None, measured: str = "test"
) -> Dataset:
    """The New Testament in the King James Version by characters, in windows whose labels are the next characters.

    The text has 0.95 million characters, 73 different ones. It is cut into 100 pieces in their order. Five of them are
    for the test, five for validation, and models learn from the other 90.
    Source: King James Version (1611), public domain, from Debian's package `bible-kjv-text`. It was made by
    `tools/make_kjv.py`.

    Args:
        root: folder that holds `kjv.npz`.
        context: characters of a window.
        num_train: how many windows to train on, the first of the text. None means all of them.
        measured: `"test"`, or `"validation"` to choose settings by.

    Raises:
        FileNotFoundError: if the file is in no data folder.
        ValueError: if it is damaged or another, or a setting is out of range.
    """
    text, _ = _read(root)
    return _dataset("kjv-char", text, Characters("".join(sorted(set(text)))), context, num_train, measured)


@register("data", "kjv-bpe")
def kjv_bpe(
    *, root: Path | None = None, context: int = 64, num_train: int | None = None, measured: str = "test"
) -> Dataset:
    """The New Testament in the King James Version by 512 byte pairs, in windows whose labels are the next tokens.

    A token stands for 2.3 characters on average. The merges were learned from the pieces to train on, and lie in the
    same file as the text. Everything else is as in `kjv_char`.
    Source: King James Version (1611), public domain, from Debian's package `bible-kjv-text`. It was made by
    `tools/make_kjv.py`.

    Args:
        root: folder that holds `kjv.npz`.
        context: tokens of a window.
        num_train: how many windows to train on, the first of the text. None means all of them.
        measured: `"test"`, or `"validation"` to choose settings by.

    Raises:
        FileNotFoundError: if the file is in no data folder.
        ValueError: if it is damaged or another, or a setting is out of range.
    """
    text, merges = _read(root)
    return _dataset("kjv-bpe", text, BytePairs(merges_of(merges)), context, num_train, measured)


def pieces_of(text: str, part: str) -> Iterator[str]:
    """Yield the pieces of a text that belong to `"train"`, `"validation"` or `"test"`.

    Example:
        >>> text = "".join(chr(97 + number % 26) for number in range(100))
        >>> len(list(pieces_of(text, "train"))), "".join(pieces_of(text, "validation"))
        (90, 'jdxrl')
    """
    ends = [len(text) * number // PIECES for number in range(PIECES + 1)]
    for number in range(PIECES):
        if (number % EVERY == PARTS[part]) if part in PARTS else (number % EVERY not in PARTS.values()):
            yield text[ends[number] : ends[number + 1]]


def _read(root: Path | None) -> tuple[str, np.ndarray]:
    remedy = f"Work in a checkout of the project, or set {VARIABLE} to a copy of its data/ folder"
    arrays = read_arrays(path := find(FILE, root, remedy) / FILE)
    try:
        return arrays["text"].tobytes().decode("ascii"), arrays["merges"]
    except (KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be that of the project, got another ({error!r}). Fetch it again") from error


def _dataset(name: str, text: str, tokenizer: Tokenizer, context: int, num_train: int | None, measured: str) -> Dataset:
    if measured not in PARTS:
        raise ValueError(f"measured must be one of {', '.join(PARTS)}, got {measured!r}. Choose one of them")

    def part(name: str) -> Split:
        return windows(map(tokenizer.encode, pieces_of(text, name)), context)

    train = part("train")
    if num_train is not None:
        train = train.take(check_integer("num_train", num_train))
    return Dataset(
        name=name,
        train=train,
        test=part(measured),
        classes=tokenizer.vocabulary,
        normalize=None,
        tokenizer=tokenizer,
        source=SOURCE,
    )
