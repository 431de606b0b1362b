"""Data sets of image files in folders, one folder a class, kept in memory as uint8: Tiny-ImageNet and ImageNet."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from sparsekit.datasets.base import Dataset, Normalize, Split
from sparsekit.datasets.folders import VARIABLE, find
from sparsekit.utils.registry import register

LabelledFiles = list[tuple[Path, int]]  # image files and their labels

# What torchvision's models for ImageNet use. Tiny-ImageNet's images are a part of the same ones.
IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TINY_FOLDER, TINY_SIDE = "tiny-imagenet-200", 64
TINY_LAYOUT = "train/<class>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt"
IMAGENET_LAYOUT = "train/<class>/*.JPEG and val/<class>/*.JPEG"
GIB = 2**30


@register("data", "tiny-imagenet")
def tiny_imagenet(*, root: Path | None = None, num_classes: int | None = None) -> Dataset:
    """Two hundred kinds of things in 64 x 64 colour photographs, 100,000 to train and 10,000 to test, 1.3 GB.

    The test split is the release's `val`, since the labels of its `test` were never published.
    Source: Le and Yang (2015), "Tiny ImageNet visual recognition challenge", course CS 231N, Stanford, a part of
    ImageNet, Deng et al. (2009).

    Args:
        root: folder that holds `tiny-imagenet-200/` as it comes out of the released archive. A `val` whose images
            were sorted into a folder for each class is read as well.
        num_classes: only the first so many, in the order of their folders' names.

    Raises:
        FileNotFoundError: if it, or a part of it, is missing.
        ValueError: if it is laid out otherwise, a file is damaged, or there are fewer classes.
    """
    folder = _folder(TINY_FOLDER, root, TINY_LAYOUT)
    classes = _classes(folder / "train", TINY_LAYOUT)
    splits = {"train": _in_class_folders(folder / "train", classes, TINY_LAYOUT), "test": _tiny_val(folder, classes)}
    words = _words(folder / "words.txt")
    return _dataset(
        "tiny-imagenet",
        splits,
        tuple(words.get(name, name) for name in classes),
        num_classes,
        read=lambda files: _split(files, TINY_SIDE),
        source="Le and Yang (2015), CS 231N, Stanford, whose val is the test split",
    )


@register("data", "imagenet")
def imagenet(
    *, root: Path | None = None, side: int = 64, num_classes: int | None = None, most_gib: float = 32.0
) -> Dataset:
    """A thousand kinds of things in colour photographs, made small enough to be kept in memory.

    There are 1,281,167 images to train and 50,000 to test (the release's `val`). They take 15.2 GiB at 64 x 64, and
    187 GiB at the usual 224 x 224. For the latter read the files with a `DataLoader` of your own and train by `fit` or
    `attach`. Each image is scaled until its shorter side fits, and its middle is kept.
    Source: Deng et al. (2009), "ImageNet: a large-scale hierarchical image database", CVPR, and Russakovsky et al.
    (2015), arXiv:1409.0575.

    Args:
        root: folder that holds `imagenet/`, with a folder for each class in its `train/` and in its `val/`.
        side: height and width of what is kept, in pixels.
        num_classes: only the first so many, in the order of their folders' names.
        most_gib: refuse to read more than this, before the first file is opened.

    Raises:
        FileNotFoundError: if it, or a part of it, is missing.
        ValueError: if it is laid out otherwise, a file is damaged, there are fewer classes, or it would be too large.
    """
    folder = _folder("imagenet", root, IMAGENET_LAYOUT)
    classes = _classes(folder / "train", IMAGENET_LAYOUT)
    splits = {
        part: _in_class_folders(folder / subfolder, classes, IMAGENET_LAYOUT)
        for part, subfolder in (("train", "train"), ("test", "val"))
    }
    _check_memory(_first(splits, num_classes, len(classes)), side, most_gib)
    return _dataset(
        "imagenet",
        splits,
        classes,
        num_classes,
        read=lambda files: _split(files, side),
        source=f"Deng et al. (2009), CVPR, scaled to {side} x {side}, whose val is the test split",
    )


def _folder(name: str, root: Path | None, layout: str) -> Path:
    remedy = f"Unpack it there ({layout}), or set {VARIABLE} to the folder that holds it"
    return find(name, root, remedy) / name


def _dataset(
    name: str,
    splits: dict[str, LabelledFiles],
    classes: tuple[str, ...],
    num_classes: int | None,
    *,
    read: Callable[[LabelledFiles], Split],
    source: str,
) -> Dataset:
    chosen = _first(splits, num_classes, len(classes))
    train, test = (read(chosen[part]) for part in ("train", "test"))
    return Dataset(name=name, train=train, test=test, classes=classes[:num_classes], normalize=IMAGENET, source=source)


def _first(splits: Mapping[str, LabelledFiles], num_classes: int | None, most: int) -> dict[str, LabelledFiles]:
    """Return the image files of the first classes."""
    count = most if num_classes is None else num_classes
    if not 2 <= count <= most:
        raise ValueError(f"num_classes must lie in 2 to {most}, the number of classes, got {count}. Give None for all")
    return {part: [(path, label) for path, label in files if label < count] for part, files in splits.items()}


def _classes(folder: Path, layout: str) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted: the classes."""
    from torchvision.datasets.folder import find_classes  # slow to import, and only these data sets need it

    try:
        return tuple(find_classes(str(folder))[0])
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} must hold a folder of images for each class, got {_what_is_in(folder)}. Lay it out as {layout}"
        ) from error


def _what_is_in(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    return f"{sum(1 for _ in folder.iterdir())} files and no folder"


def _in_class_folders(folder: Path, classes: tuple[str, ...], layout: str) -> LabelledFiles:
    """Return the image files anywhere below each class's folder, in the order of their names."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    if foreign := sorted(set(_classes(folder, layout)) ^ set(classes)):
        raise ValueError(
            f"{folder} must hold the classes that train holds, got a difference in {', '.join(foreign[:5])} "
            f"({len(foreign)} in all). Lay it out as {layout}"
        )
    label_of = {name: label for label, name in enumerate(classes)}
    try:
        files = make_dataset(str(folder), label_of, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"every class must have an image in {folder}, got some without ({error}). Lay it out as {layout}"
        ) from error
    return [(Path(path), label) for path, label in files]


def _tiny_val(folder: Path, classes: tuple[str, ...]) -> LabelledFiles:
    """Return the image files of Tiny-ImageNet's `val`, as released or sorted into folders."""
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        return _annotated(annotations, {name: label for label, name in enumerate(classes)})
    if not (folder / "val").is_dir() or (folder / "val" / "images").is_dir():
        raise FileNotFoundError(
            f"{folder / 'val'} must hold val_annotations.txt, got none. Lay it out as {TINY_LAYOUT}"
        )
    return _in_class_folders(folder / "val", classes, TINY_LAYOUT)


def _annotated(annotations: Path, label_of: Mapping[str, int]) -> LabelledFiles:
    """Return the image files that a text names: on each line a file, its class, and the corners of a box."""
    files = []
    text = annotations.read_text(encoding="utf-8", errors="replace")  # what is replaced names no class
    for number, line in enumerate(text.splitlines(), start=1):
        name, _, rest = line.partition("\t")
        kind = rest.partition("\t")[0]
        if kind not in label_of:
            raise ValueError(
                f"line {number} of {annotations} must name a file and a class of train, with a tab between, "
                f"got {line!r}. Unpack the archive again"
            )
        files.append((annotations.parent / "images" / name, label_of[kind]))
    if missing := next((path for path, _ in files if not path.is_file()), None):
        raise FileNotFoundError(f"{annotations} names images that must exist, got no {missing}. Unpack it again")
    return files


def _words(path: Path) -> dict[str, str]:
    """Return the first of the words that describe each class, where the release's list of them is there."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    parts = (line.partition("\t") for line in lines)
    return {name: words.partition(",")[0] for name, _, words in parts}


def _check_memory(splits: Mapping[str, LabelledFiles], side: int, most_gib: float) -> None:
    if side < 1:
        raise ValueError(f"side must be at least 1 pixel, got {side}. Try 64")
    gib = sum(map(len, splits.values())) * 3 * side**2 / GIB
    if gib > most_gib:
        raise ValueError(
            f"the images must fit into most_gib={most_gib} of memory, got {gib:.3g} GiB at side={side}. Lower side "
            "or num_classes, raise most_gib, or train by fit with a DataLoader that reads them one batch at a time"
        )


def _split(files: LabelledFiles, side: int) -> Split:
    inputs = torch.empty((len(files), 3, side, side), dtype=torch.uint8)

    def put(row: int) -> None:
        inputs[row] = _pixels(files[row][0], side)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(put, range(len(files))):
            pass
    return Split(inputs=inputs, labels=torch.tensor([label for _, label in files], dtype=torch.int64))


def _pixels(path: Path, side: int) -> Tensor:
    """Return the middle of an image, `(3, side, side)`, where grey ones get three equal channels."""
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    try:
        image = default_loader(str(path))
    except Exception as error:  # Pillow raises many kinds for damaged files, SyntaxError among them
        raise ValueError(f"{path} must be a whole image, got a file that cannot be read. Fetch it again") from error
    return pil_to_tensor(center_crop(resize(image, [side]), [side, side]))
