"""The values of data sets, and the three that need no download: the same each time, balanced, disjoint."""

import dataclasses
import hashlib
from pathlib import Path

import make_fashion_mini
import numpy as np
import pytest
import torch
from torch import Tensor

from sparsekit.datasets import (
    Dataset,
    Normalize,
    Split,
    folders,
    load,
    mnist1d,
)
from sparsekit.utils import registry
from sparsekit.utils.seeds import generator

CHECKOUT = Path(__file__).resolve().parents[1]
WITHOUT_FILES = ("digits", "mnist1d", "fashion-mini")


def numbered(count: int, num_classes: int = 2) -> Split:
    """A split whose inputs are 0, 1, 2, ... and whose labels take turns."""
    return Split(inputs=torch.arange(float(count)), labels=torch.arange(count) % num_classes)


def images(count: int, side: int = 6) -> Split:
    """A split of random uint8 colour images."""
    pixels = torch.randint(256, (count, 3, side, side), generator=generator(0, "test"), dtype=torch.uint8)
    return Split(inputs=pixels, labels=torch.zeros(count, dtype=torch.int64))


def rows_of(inputs: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in inputs}


# ------------------------------------------------------------------------------------------------ splits and data sets


def test_a_split_must_have_one_label_per_example():
    with pytest.raises(ValueError, match=r"one label per example, got inputs \(3, 2\) and labels \(2,\). Give"):
        Split(inputs=torch.zeros(3, 2), labels=torch.tensor([0, 1]))


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="at least one example, got 0. Choose"):
        Split(inputs=torch.zeros(0, 2), labels=torch.zeros(0, dtype=torch.int64))


def test_take_returns_the_first_examples():
    assert numbered(5).take(3).inputs.tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [0, -1, 6])
def test_take_refuses_counts_that_the_split_does_not_have(count: int):
    with pytest.raises(ValueError, match=f"1 to 5, the split's size, got {count}. Ask"):
        numbered(5).take(count)


def test_at_returns_examples_with_their_labels_in_the_order_asked_for():
    chosen = numbered(5).at(torch.tensor([3, 0]))
    assert chosen.inputs.tolist() == [3, 0]
    assert chosen.labels.tolist() == [1, 0]


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range_are_refused(label: int):
    wrong = Split(inputs=torch.zeros(2, 1), labels=torch.tensor([0, label]))
    with pytest.raises(ValueError, match=r"labels must lie in 0 to 1, one per class name, got .*. Renumber"):
        Dataset(name="wrong", train=numbered(2), test=wrong, classes=("no", "yes"), source="made up")


def test_both_splits_must_hold_inputs_of_one_shape():
    test = Split(inputs=torch.zeros(2, 3), labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"one shape, got \(\) to train and \(3,\) to test. Cut"):
        Dataset(name="wrong", train=numbered(2), test=test, classes=("no", "yes"), source="made up")


def test_normalisation_must_fit_the_channels():
    split = images(2)
    with pytest.raises(ValueError, match=r"one per channel of inputs .3, 6, 6., got 2. Give"):
        Dataset(
            name="wrong",
            train=split,
            test=split,
            classes=("all",),
            normalize=Normalize(mean=(0.1, 0.2), std=(1.0, 1.0)),
            source="made up",
        )


def test_a_data_set_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load("digits").name = "mine"


def test_pixels_become_floats_of_mean_0_and_deviation_1_per_channel():
    pixels = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # one image, two channels, 1 x 2
    normal = Normalize(mean=(0.5, 0.2), std=(0.25, 0.1))(pixels)
    torch.testing.assert_close(normal, torch.tensor([[[[-2.0, 2.0]], [[0.0, 2.0]]]]))


def test_the_default_normalisation_leaves_floats_and_their_precision_alone():
    values = torch.tensor([[0.1, -3.0]], dtype=torch.float64)
    assert torch.equal(Normalize()(values), values)
    assert Normalize()(values).dtype == torch.float64
    torch.testing.assert_close(Normalize(mean=(0.1,))(values)[0, 1].item(), -3.1, atol=1e-15, rtol=0)


def test_normalisation_needs_positive_deviations_and_as_many_as_means():
    with pytest.raises(ValueError, match=r"std must be positive, got .*. Leave"):
        Normalize(mean=(0.0,), std=(0.0,))
    with pytest.raises(ValueError, match="one number per channel each, got 2 and 1. Give"):
        Normalize(mean=(0.0, 1.0), std=(1.0,))


def test_all_named_data_sets_are_registered_and_name_their_source():
    assert set(registry.names("data")) >= {
        *WITHOUT_FILES,
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "tiny-imagenet",
        "imagenet",
    }
    for name in registry.names("data"):
        assert registry.source_of(registry.get("data", name)), name


def test_an_unknown_data_set_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"cifar10, cifar100, digits.*got 'imagenet22k'"):
        load("imagenet22k")


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_data_are_the_same_each_time_whatever_else_is_random(name: str):
    torch.manual_seed(0)
    first = load(name)
    torch.manual_seed(1)
    second = load(name)
    for part in ("train", "test"):
        assert torch.equal(getattr(first, part).inputs, getattr(second, part).inputs)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_train_and_test_share_no_example(name: str):
    data = load(name)
    assert not rows_of(data.train.inputs) & rows_of(data.test.inputs)


# -------------------------------------------------------------------------------------------------------------- digits


def test_digits_are_1197_to_train_and_600_to_test_between_0_and_1():
    data = load("digits")
    assert (len(data.train), len(data.test), data.shape, data.num_classes) == (1197, 600, (64,), 10)
    inputs = torch.cat([data.train.inputs, data.test.inputs])
    assert (inputs.min(), inputs.max(), inputs.dtype) == (0, 1, torch.float32)


def test_digits_are_stratified():
    data = load("digits")
    train, test = data.train.labels.bincount(), data.test.labels.bincount()
    expected = (train + test) * 600 / 1797
    assert (test - expected).abs().max() < 1


def test_the_split_of_digits_never_changes():
    labels = load("digits").test.labels.numpy().tobytes()
    assert hashlib.sha256(labels).hexdigest().startswith("b427a84a227e4cd5")


def test_digits_as_images_are_the_same_numbers():
    flat, square = load("digits"), load("digits", flat=False)
    assert square.shape == (1, 8, 8)
    assert torch.equal(square.train.inputs.flatten(1), flat.train.inputs)


# ------------------------------------------------------------------------------------------------------------ MNIST-1D


def test_mnist1d_has_the_published_counts_balance_and_scale():
    data = load("mnist1d")
    assert (len(data.train), len(data.test), data.shape) == (4000, 1000, (40,))
    inputs = torch.cat([data.train.inputs, data.test.inputs])
    labels = torch.cat([data.train.labels, data.test.labels])
    assert labels.bincount().tolist() == [500] * 10
    assert inputs.mean().abs() < 1e-5
    assert inputs.std() == pytest.approx(1, abs=1e-3)


def test_mnist1d_never_changes():
    data = load("mnist1d")
    assert data.train.labels[:6].tolist() == [1, 6, 3, 5, 5, 6]
    torch.testing.assert_close(
        data.train.inputs[0, :4], torch.tensor([0.3216, 0.0515, -0.0372, 0.4669]), atol=1e-4, rtol=0
    )


def test_mnist1d_depends_on_its_seed():
    assert not torch.equal(load("mnist1d", seed=1).train.inputs, load("mnist1d").train.inputs)


def test_mnist1d_without_its_changes_shows_each_template_stretched():
    still = {"most_shift": 0, "scaling": 0.0, "waves": 0.0, "grain": 0.0, "shear": 0.0}
    drawing = mnist1d.Drawing(num_train=10, num_test=10, length=72, least_padding=60, **still)
    inputs, labels = mnist1d.draw(drawing)
    for row, label in zip(inputs, labels, strict=True):
        assert np.corrcoef(row[:12], mnist1d.TEMPLATES[label])[0, 1] == pytest.approx(1)
        assert np.ptp(row[12:]) < 1e-6


@pytest.mark.parametrize(
    ("setting", "least"), [("most_shift", 48), ("scaling", 0.4), ("waves", 0.25), ("grain", 0.02), ("shear", 0.75)]
)
def test_each_setting_of_mnist1d_makes_examples_of_a_class_differ(setting: str, least: float):
    still = {"most_shift": 0, "scaling": 0.0, "waves": 0.0, "grain": 0.0, "shear": 0.0, "least_padding": 60}
    inputs, labels = mnist1d.draw(mnist1d.Drawing(num_train=20, num_test=20, **(still | {setting: least})))
    assert np.ptp(inputs[labels == 0], axis=0).max() > 0.01


def test_a_linear_model_learns_mnist1d_a_little_but_not_well():
    from sklearn.linear_model import LogisticRegression

    data = load("mnist1d")
    model = LogisticRegression(max_iter=1000).fit(data.train.inputs.numpy(), data.train.labels.numpy())
    accuracy = model.score(data.test.inputs.numpy(), data.test.labels.numpy())
    assert 0.2 < accuracy < 0.4  # the paper reports 0.32; chance is 0.1


def test_settings_of_mnist1d_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1 and length at least 2, got 0, 1000 and 40. Try the published"):
        load("mnist1d", num_train=0)
    with pytest.raises(ValueError, match="0 <= least <= most, got 36 and 10. Exchange"):
        load("mnist1d", most_padding=10)
    with pytest.raises(TypeError, match="noise"):
        load("mnist1d", noise=1.0)


# -------------------------------------------------------------------------------------------------------- Fashion-mini


def test_fashion_mini_is_balanced_as_a_whole_and_at_its_beginning():
    data = load("fashion-mini")
    assert (data.shape, data.train.inputs.dtype) == ((1, 28, 28), torch.uint8)
    assert data.train.labels.bincount().tolist() == [500] * 10
    assert data.test.labels.bincount().tolist() == [100] * 10
    assert data.train.take(50).labels.bincount().tolist() == [5] * 10


def test_fashion_mini_is_normalised_with_the_constants_of_the_whole():
    data = load("fashion-mini")
    inputs = data.prepare(data.train.inputs)
    assert inputs.dtype == torch.float32
    assert inputs.mean().abs() < 0.02  # 5,000 images of 60,000 have nearly, not exactly, the mean of all
    assert inputs.std() == pytest.approx(1, abs=0.02)


def test_fashion_mini_is_small_and_its_licence_lies_beside_it():
    assert (CHECKOUT / "data" / "fashion_mini.npz").stat().st_size <= 2.6 * 2**20
    licence = (CHECKOUT / "data" / "LICENSE").read_text()
    assert "MIT License" in licence
    assert "2017 Zalando SE" in licence


def test_fashion_mini_comes_out_of_its_package_byte_for_byte(tmp_path: Path):
    candidates = [Path("/") / make_fashion_mini.INSTALLED]
    candidates += [folder / "FashionMNIST" / "raw" for folder in folders.data_folders()]
    at_hand = [folder for folder in candidates if all((folder / file).is_file() for file in make_fashion_mini.RELEASED)]
    if not at_hand:
        pytest.skip("neither Debian's dataset-fashion-mnist nor FashionMNIST/raw/*.gz is here to rebuild the file from")
    made = make_fashion_mini.pack(make_fashion_mini.choose_all(at_hand[0]))
    assert made == (CHECKOUT / "data" / "fashion_mini.npz").read_bytes()


def test_the_tool_takes_the_first_of_each_class_in_turns():
    labels = np.repeat(np.arange(10), 3)[::-1].copy()
    assert make_fashion_mini.first_of_each(labels, 2).tolist() == [*range(27, -1, -3), *range(28, 0, -3)]


def test_the_tool_refuses_files_that_are_not_the_released_ones(tmp_path: Path):
    import gzip

    other = tmp_path / "train-labels-idx1-ubyte.gz"
    other.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match=r"must be the released file, got sha256 .*. Take"):
        make_fashion_mini.read(other, header=8)


def test_the_tool_writes_the_same_bytes_each_time():
    arrays = {"inputs": np.arange(100, dtype=np.uint8).reshape(4, 5, 5)}
    assert make_fashion_mini.pack(arrays) == make_fashion_mini.pack(arrays)
