"""Where data files are looked for, and the data sets that torchvision reads from them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from sparsekit.datasets import (
    Normalize,
    folders,
    load,
    vision,
)

CHECKOUT = Path(__file__).resolve().parents[1]


# -------------------------------------------------------------------------------------------------------- data folders


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As if the package lay in site-packages, with no checkout around it and no variable set."""
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "site-packages" / "sparsekit" / "datasets" / "folders.py"))


def test_outside_a_checkout_fashion_mini_says_what_to_do(installed: None):
    with pytest.raises(FileNotFoundError, match=r"must hold fashion_mini.npz, looked in no data .*SPARSEKIT_DATA"):
        load("fashion-mini")


def test_outside_a_checkout_fashion_mini_is_found_through_the_variable(
    installed: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(folders.VARIABLE, str(CHECKOUT / "data"))
    assert len(load("fashion-mini").train) == 5000


def test_outside_a_checkout_digits_and_mnist1d_need_nothing(installed: None):
    assert len(load("digits").train) == 1197
    assert len(load("mnist1d").train) == 4000


def test_outside_a_checkout_a_download_must_be_told_where(installed: None):
    with pytest.raises(FileNotFoundError, match=r"must know its data folder, got none .*. Give root=.* or set"):
        load("cifar10", download=True)


def test_a_data_folder_without_fashion_mini_does_not_hide_the_checkouts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path))
    assert folders.data_folders() == (tmp_path, CHECKOUT / "data")
    assert len(load("fashion-mini").test) == 1000


def test_an_explicit_root_is_looked_into_alone(tmp_path: Path):
    assert folders.data_folders(tmp_path) == (tmp_path,)
    with pytest.raises(FileNotFoundError, match=r"fashion_mini.npz"):
        load("fashion-mini", root=tmp_path)


# --------------------------------------------------------------------------------------------------------- torchvision


def fake_cifar10(root: Path) -> np.ndarray:
    """Write three training and three test images in the format of CIFAR-10; return their pixels (3, 3072)."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.arange(3 * 3072, dtype=np.int64).reshape(3, 3072).astype(np.uint8)
    for file in ("data_batch_1", "test_batch"):
        (folder / file).write_bytes(pickle.dumps({"data": pixels, "labels": [2, 0, 1]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog", "ship"]}))
    return pixels


def accept_fake_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", [["test_batch", None]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": None}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)


def test_cifar10_keeps_every_pixel_in_its_channel_row_and_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = fake_cifar10(tmp_path)
    accept_fake_cifar10(monkeypatch)
    data = load("cifar10", root=tmp_path)
    # The release stores all red values row by row, then all green ones, then all blue ones.
    assert torch.equal(data.train.inputs, torch.from_numpy(pixels.reshape(3, 3, 32, 32)))
    assert data.train.inputs.is_contiguous()
    assert data.test.labels.tolist() == [2, 0, 1]
    assert data.classes == ("cat", "dog", "ship")


def test_cifar100_reads_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    content = {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 0], "coarse_labels": [0, 0]}
    for file in ("train", "test"):
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bee"]}))
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "train_list", [["train", None]])
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "test_list", [["test", None]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": None}
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "meta", meta)
    data = load("cifar100", root=tmp_path)
    assert (data.classes, data.train.labels.tolist(), data.shape) == (("apple", "bee"), [1, 0], (3, 32, 32))


def test_fashion_mnist_gets_a_channel(tmp_path: Path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.arange(2 * 784, dtype=np.int64).astype(np.uint8)
    for part in ("train", "t10k"):
        header = np.array([0x00000803, 2, 28, 28], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = np.array([0x00000801, 2], ">i4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes([9, 0]))
    data = load("fashion-mnist", root=tmp_path)
    assert torch.equal(data.train.inputs, torch.from_numpy(pixels.reshape(2, 1, 28, 28)))
    assert (data.test.labels.tolist(), data.classes[9]) == ([9, 0], "Ankle boot")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_missing_files_are_named_with_the_way_to_get_them(name: str, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=rf'looked in .* got nothing. Call load\("{name}", download=True\)'):
        load(name, root=tmp_path)


def test_files_that_differ_from_the_release_are_refused(tmp_path: Path):
    fake_cifar10(tmp_path)
    with pytest.raises(ValueError, match=r"files of cifar10 must be those of the release, got others in .*. Remove"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x03", b"junk" * 9, b"\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c12"]
)
def test_files_that_cannot_be_read_are_refused_with_their_folder(content: bytes, tmp_path: Path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"must be those of the release, got others in .*{folder.parent.name} .*. Remove"
    ):
        load("fashion-mnist", root=tmp_path)


def test_download_is_passed_on_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    class Fake:
        data, targets, classes = np.zeros((1, 32, 32, 3), np.uint8), [0], ["cat"]

        def __init__(self, root: Path, *, train: bool, download: bool):
            asked.append((root, train, download))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    load("cifar10", root=str(tmp_path), download=True)
    (tmp_path / "cifar-10-batches-py").mkdir()
    load("cifar10", root=tmp_path)
    assert asked == [(tmp_path, True, True), (tmp_path, False, True), (tmp_path, True, False), (tmp_path, False, False)]


@pytest.mark.parametrize(
    ("name", "constants"),
    [("cifar10", vision.CIFAR10), ("cifar100", vision.CIFAR100), ("fashion-mnist", vision.FASHION)],
)
def test_published_constants_are_those_of_the_real_pixels(name: str, constants: Normalize):
    try:
        data = load(name)
    except FileNotFoundError:
        pytest.skip(f"{name} is in no data folder; SPARSEKIT_DATA={os.environ.get(folders.VARIABLE, '')!r}")
    channels = data.train.inputs.transpose(0, 1).flatten(1)
    levels = torch.stack([channel.bincount(minlength=256) for channel in channels]).double()
    share, value = levels / levels.sum(1, keepdim=True), torch.arange(256) / 255
    mean = (share * value).sum(1)
    std = ((share * value**2).sum(1) - mean**2).sqrt()
    torch.testing.assert_close(mean, torch.tensor(constants.mean).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.tensor(constants.std).double(), atol=1e-4, rtol=0)
    assert len(set(data.train.labels.bincount().tolist())) == 1
    assert data.normalize == constants
