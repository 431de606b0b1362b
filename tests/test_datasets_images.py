"""Tiny-ImageNet and ImageNet, in made-up folders of a few images: every pixel and label where it belongs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsekit.datasets import load

KINDS = ("n01", "n02", "n03")


def paint(path: Path, colour: int | tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> None:
    """Write one colour; without loss, though the name says JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path, format="PNG")


def tiny(root: Path) -> Path:
    """Write Tiny-ImageNet with three classes: two images of each to train, one to test, the last class first."""
    folder = root / "tiny-imagenet-200"
    for label, kind in enumerate(KINDS):
        for number in range(2):
            paint(folder / "train" / kind / "images" / f"{kind}_{number}.JPEG", (label, number, 9))
        (folder / "train" / kind / f"{kind}_boxes.txt").write_text(f"{kind}_0.JPEG\t0\t0\t9\t9\n")
        paint(folder / "val" / "images" / f"val_{2 - label}.JPEG", 100 + label)
    lines = [f"val_{2 - label}.JPEG\t{kind}\t0\t32\t44\t62" for label, kind in enumerate(KINDS)]
    (folder / "val" / "val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
    (folder / "words.txt").write_text("n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tbell, gong\n")
    return folder


def imagenet(root: Path) -> Path:
    """Write ImageNet with three classes, one image of each to train and one to test."""
    folder = root / "imagenet"
    for label, kind in enumerate(KINDS):
        for part, colour in (("train", label), ("val", 50 + label)):
            paint(folder / part / kind / f"{part}_{label}.JPEG", (colour, 0, 0), size=(100, 80))
    return folder


# ------------------------------------------------------------------------------------------------------- Tiny-ImageNet


def test_tiny_imagenet_keeps_every_image_with_its_label(tmp_path: Path):
    tiny(tmp_path)
    data = load("tiny-imagenet", root=tmp_path)
    assert (data.shape, data.train.inputs.dtype) == ((3, 64, 64), torch.uint8)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.inputs[:, :, 5, 7].tolist() == [[label, number, 9] for label in range(3) for number in range(2)]


def test_the_labels_of_tiny_imagenets_test_split_come_from_its_annotations(tmp_path: Path):
    tiny(tmp_path)
    data = load("tiny-imagenet", root=tmp_path)
    assert data.test.labels.tolist() == [2, 1, 0]  # in the order of the file
    assert data.test.inputs[:, :, 0, 0].tolist() == [
        [102] * 3,
        [101] * 3,
        [100] * 3,
    ]  # grey images get three channels


def test_classes_of_tiny_imagenet_have_names_where_the_release_gives_them(tmp_path: Path):
    folder = tiny(tmp_path)
    assert load("tiny-imagenet", root=tmp_path).classes == ("goldfish", "bell", "n03")
    (folder / "words.txt").unlink()
    assert load("tiny-imagenet", root=tmp_path).classes == KINDS


def test_a_val_that_was_sorted_into_folders_is_read_as_well(tmp_path: Path):
    folder = tiny(tmp_path)
    released = load("tiny-imagenet", root=tmp_path).test
    for label, kind in enumerate(KINDS):
        to = folder / "val" / kind / "images"
        to.mkdir(parents=True)
        (folder / "val" / "images" / f"val_{2 - label}.JPEG").rename(to / "image.JPEG")
    (folder / "val" / "val_annotations.txt").unlink()
    (folder / "val" / "images").rmdir()
    sorted_ones = load("tiny-imagenet", root=tmp_path).test
    assert sorted_ones.labels.tolist() == [0, 1, 2]
    assert torch.equal(sorted_ones.inputs, released.inputs.flip(0))


def test_the_first_classes_of_tiny_imagenet_can_be_taken_alone(tmp_path: Path):
    tiny(tmp_path)
    whole, part = load("tiny-imagenet", root=tmp_path), load("tiny-imagenet", root=tmp_path, num_classes=2)
    assert (part.num_classes, part.classes) == (2, ("goldfish", "bell"))
    assert part.test.labels.tolist() == [1, 0]
    assert torch.equal(part.train.inputs, whole.train.inputs[:4])


@pytest.mark.parametrize("num_classes", [1, 4])
def test_more_classes_than_there_are_or_a_single_one_are_refused(num_classes: int, tmp_path: Path):
    tiny(tmp_path)
    with pytest.raises(ValueError, match=rf"num_classes must lie in 2 to 3, .*, got {num_classes}. Give None for all"):
        load("tiny-imagenet", root=tmp_path, num_classes=num_classes)


def test_a_missing_tiny_imagenet_is_named_with_its_layout(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"must hold tiny-imagenet-200, looked in .* got nothing. Unpack it .*val"
    ):
        load("tiny-imagenet", root=tmp_path)


def test_tiny_imagenet_without_a_part_of_its_layout_says_which(tmp_path: Path):
    folder = tiny(tmp_path)
    (folder / "val" / "val_annotations.txt").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(FileNotFoundError, match=r"val must hold val_annotations.txt, got none. Lay it out as train/"):
        load("tiny-imagenet", root=tmp_path)
    (folder / "train").rename(folder / "training")
    with pytest.raises(FileNotFoundError, match=r"train must hold a folder of images .*, got no such folder. Lay"):
        load("tiny-imagenet", root=tmp_path)


@pytest.mark.parametrize("line", ["val_9.JPEG n01 0 0 9 9", "val_0.JPEG\tn09\t0\t0\t9\t9", "val_0.JPEG"])
def test_an_annotation_that_names_no_class_is_refused_with_its_line(line: str, tmp_path: Path):
    annotations = tiny(tmp_path) / "val" / "val_annotations.txt"
    annotations.write_text(annotations.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"line 4 of .* must name a file and a class of train, .*. Unpack"):
        load("tiny-imagenet", root=tmp_path)


def test_an_annotated_image_that_is_not_there_is_named(tmp_path: Path):
    folder = tiny(tmp_path)
    (folder / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r"names images that must exist, got no .*val_1.JPEG. Unpack"):
        load("tiny-imagenet", root=tmp_path)


# ------------------------------------------------------------------------------------------------------------ ImageNet


def test_imagenet_is_read_from_a_folder_for_each_class(tmp_path: Path):
    imagenet(tmp_path)
    data = load("imagenet", root=tmp_path)
    assert (data.shape, data.classes) == ((3, 64, 64), KINDS)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1, 2]
    assert data.train.inputs[:, 0, 3, 3].tolist() == [0, 1, 2]
    assert data.test.inputs[:, 0, 3, 3].tolist() == [50, 51, 52]


def test_the_middle_of_a_image_is_kept_and_scaled_to_its_shorter_side(tmp_path: Path):
    folder = imagenet(tmp_path)
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :4], pixels[:, 4:8], pixels[:, 8:12], pixels[:, 12:] = 10, 20, 30, 40
    Image.fromarray(pixels).save(folder / "train" / "n01" / "train_0.JPEG", format="PNG")
    whole = load("imagenet", root=tmp_path, side=8).train.inputs[0, 0]
    assert whole.tolist() == [[20] * 4 + [30] * 4] * 8
    half = load("imagenet", root=tmp_path, side=4).train.inputs[0, 0]
    # Scaling mixes in a little of the neighbours, also of those that are then cut off.
    torch.testing.assert_close(half[:, [0, -1]].long(), torch.tensor([[20, 30]] * 4), atol=2, rtol=0)


def test_imagenet_is_normalised_with_the_usual_constants(tmp_path: Path):
    imagenet(tmp_path)
    data = load("imagenet", root=tmp_path, side=2)
    red, green, blue = data.prepare(data.test.inputs)[0, :, 0, 0].tolist()
    assert (red, green, blue) == pytest.approx(((50 / 255 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225))


@pytest.mark.parametrize("error", [OSError("cut off"), SyntaxError("broken PNG file"), ValueError("bad size")])
def test_whatever_a_damaged_image_makes_of_its_reader_its_file_is_named(error, tmp_path: Path, monkeypatch):
    import torchvision.datasets.folder

    def failing(_):
        raise error

    imagenet(tmp_path)
    monkeypatch.setattr(torchvision.datasets.folder, "default_loader", failing)
    with pytest.raises(ValueError, match=r"_\d.JPEG must be a whole image, got a file that cannot be read. Fetch"):
        load("imagenet", root=tmp_path, num_classes=2)


def test_lists_that_are_no_text_are_refused_by_their_line(tmp_path: Path):
    folder = tiny(tmp_path)
    annotations = folder / "val" / "val_annotations.txt"
    annotations.write_bytes(annotations.read_bytes() + b"\xff\xfe\n")
    with pytest.raises(ValueError, match=r"line \d+ of .*val_annotations.txt must name a file and a class"):
        load("tiny-imagenet", root=tmp_path)


def test_what_would_not_fit_into_memory_is_refused_before_a_file_is_opened(tmp_path: Path):
    folder = imagenet(tmp_path)
    (folder / "train" / "n01" / "train_0.JPEG").write_bytes(b"no image")
    size = 4 * 3 * 64**2 / 2**30  # two classes, one image each in both splits
    with pytest.raises(
        ValueError, match=rf"most_gib={0.9 * size} of memory, got {size:.3g} GiB at side=64. Lower side"
    ):
        load("imagenet", root=tmp_path, num_classes=2, most_gib=0.9 * size)
    with pytest.raises(ValueError, match=r"train_0.JPEG must be a whole image, got a file that .*. Fetch"):
        load("imagenet", root=tmp_path, num_classes=2, most_gib=1.1 * size)


def test_images_of_no_size_are_refused(tmp_path: Path):
    imagenet(tmp_path)
    with pytest.raises(ValueError, match="side must be at least 1 pixel, got 0. Try 64"):
        load("imagenet", root=tmp_path, side=0)


def test_a_missing_imagenet_is_named_with_its_layout(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"must hold imagenet, looked in .*. Unpack it there \(train/<class>/"):
        load("imagenet", root=tmp_path)


def test_a_val_whose_images_lie_in_no_folders_is_refused(tmp_path: Path):
    folder = imagenet(tmp_path)
    for label, kind in enumerate(KINDS):
        (folder / "val" / kind / f"val_{label}.JPEG").rename(folder / "val" / f"val_{label}.JPEG")
        (folder / "val" / kind).rmdir()
    with pytest.raises(FileNotFoundError, match=r"val must hold a folder .* got 3 files and no folder. Lay it out as"):
        load("imagenet", root=tmp_path)


def test_splits_with_different_classes_are_refused(tmp_path: Path):
    folder = imagenet(tmp_path)
    (folder / "val" / "n03").rename(folder / "val" / "n04")
    with pytest.raises(
        ValueError, match=r"val must hold the classes that train holds, got .* n03, n04 \(2 in all\). Lay"
    ):
        load("imagenet", root=tmp_path)


def test_a_class_without_a_image_is_named(tmp_path: Path):
    folder = imagenet(tmp_path)
    (folder / "val" / "n02" / "val_1.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r"every class must have an image in .*val, got .*n02.*. Lay it out as"):
        load("imagenet", root=tmp_path)
