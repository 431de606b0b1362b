"""Batches, augmentation and held-out parts: what makes a run repeatable and resumable."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from sparsekit.datasets import (
    CropFlip,
    Split,
    batches,
    batches_in_order,
    count_batches,
    hold_out,
    load,
    stream,
)
from sparsekit.datasets.augment import _all_at_once, _one_by_one
from sparsekit.utils.seeds import generator, seeded_rng


def numbered(count: int, num_classes: int = 2) -> Split:
    """A split whose inputs are 0, 1, 2, ... and whose labels take turns."""
    return Split(inputs=torch.arange(float(count)), labels=torch.arange(count) % num_classes)


def images_of(count: int, side: int = 6) -> Split:
    """A split of random uint8 colour images."""
    pixels = torch.randint(256, (count, 3, side, side), generator=generator(0, "test"), dtype=torch.uint8)
    return Split(inputs=pixels, labels=torch.zeros(count, dtype=torch.int64))


# ------------------------------------------------------------------------------------------------------------- batches


def test_an_epoch_holds_every_example_once_with_its_own_label():
    seen = [
        (int(x), int(y))
        for inputs, labels in batches(numbered(10, 3), 4, seed=0, epoch=0)
        for x, y in zip(inputs, labels, strict=True)
    ]
    assert sorted(seen) == [(i, i % 3) for i in range(10)]
    assert seen != sorted(seen)


def test_the_order_is_the_permutation_of_the_stream_named_data():
    order = torch.randperm(10, generator=generator(7, "data", 3)).tolist()
    seen = torch.cat([inputs for inputs, _ in batches(numbered(10), 4, seed=7, epoch=3)])
    assert seen.tolist() == order


def test_the_order_changes_with_seed_and_epoch_and_with_nothing_else():
    def order(seed: int, epoch: int) -> list[float]:
        return torch.cat([inputs for inputs, _ in batches(numbered(20), 7, seed=seed, epoch=epoch)]).tolist()

    torch.manual_seed(0)
    first = order(0, 0)
    torch.manual_seed(1)
    assert order(0, 0) == first
    assert order(0, 1) != first
    assert order(1, 0) != first


@pytest.mark.parametrize("skip", range(5))
def test_skipping_resumes_an_epoch_bit_for_bit_with_augmentation(skip: int):
    whole = list(batches(images_of(10), 3, seed=0, epoch=2, augment=CropFlip(padding=2)))
    rest = list(batches(images_of(10), 3, seed=0, epoch=2, augment=CropFlip(padding=2), skip=skip))
    assert len(rest) == 4 - skip
    for (inputs, labels), (expected_inputs, expected_labels) in zip(rest, whole[skip:], strict=True):
        assert torch.equal(inputs, expected_inputs)
        assert torch.equal(labels, expected_labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(5, 3, 6, 6), (4, 1, 5, 8), (1, 2, 3, 2)])
def test_images_are_changed_one_by_one_as_they_are_all_at_once(shape, dtype):
    images = torch.randint(256, shape, generator=generator(0, "test")).to(dtype)
    draws = torch.randint(9, (2, len(images)), generator=generator(1, "test"))
    mirrored = torch.arange(len(images)) % 2 == 0
    padded = torch.nn.functional.pad(images, (4,) * 4)
    one, other = (way(padded, shape[2:], *draws, mirrored) for way in (_one_by_one, _all_at_once))
    assert one.dtype == dtype
    assert torch.equal(one, other)


def test_crops_and_flips_are_as_frequent_as_those_of_torchvision():
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)
    many = image.expand(20_000, 1, 3, 3)
    ours = CropFlip(padding=1)(many, generator(0, "test"))
    theirs = v2.Compose([v2.RandomCrop(3, padding=1), v2.RandomHorizontalFlip()])
    with seeded_rng(generator(1, "test")):
        sample = torch.stack([theirs(image[0]) for _ in range(500)])
    kinds, counts = ours.flatten(1).unique(dim=0, return_counts=True)
    assert {tuple(kind) for kind in kinds.tolist()} == {tuple(one) for one in sample.flatten(1).tolist()}
    assert len(kinds) == 18  # nine crops, each as it is and mirrored
    assert (counts - 20_000 / 18).abs().max() < 5 * (20_000 / 18) ** 0.5


def test_every_batch_of_every_epoch_is_augmented_differently():
    same = Split(inputs=images_of(1).inputs.repeat(8, 1, 1, 1), labels=torch.zeros(8, dtype=torch.int64))
    seen = [inputs for epoch in (0, 1) for inputs, _ in batches(same, 4, seed=0, epoch=epoch, augment=CropFlip())]
    for i in range(4):
        assert not any(torch.equal(seen[i], seen[j]) for j in range(i))


def test_augmentation_does_not_change_the_order():
    plain = [labels for _, labels in batches(numbered(6, 6), 4, seed=0, epoch=0)]
    with_noise = [labels for _, labels in batches(numbered(6, 6), 4, seed=0, epoch=0, augment=lambda x, _: x + 1)]
    assert torch.equal(torch.cat(plain), torch.cat(with_noise))


def test_walking_through_augmented_batches_leaves_the_stored_inputs_alone():
    split = images_of(6)
    before = split.inputs.clone()
    for inputs, _ in batches(split, 6, seed=0, epoch=0, augment=CropFlip()):
        inputs.zero_()
    assert torch.equal(split.inputs, before)


def test_drop_last_leaves_out_only_a_batch_that_is_not_full():
    assert [len(labels) for _, labels in batches(numbered(10), 4, seed=0, epoch=0, drop_last=True)] == [4, 4]
    assert [len(labels) for _, labels in batches(numbered(8), 4, seed=0, epoch=0, drop_last=True)] == [4, 4]


def test_batches_in_order_hold_every_example_once():
    pairs = list(batches_in_order(numbered(10, 3), 4))
    assert torch.cat([inputs for inputs, _ in pairs]).tolist() == list(range(10))
    assert [len(labels) for _, labels in pairs] == [4, 4, 2]


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), drop_last=st.booleans())
def test_the_number_of_batches_is_known_beforehand(count: int, batch_size: int, drop_last: bool):
    if drop_last and batch_size > count:
        with pytest.raises(ValueError, match="at least one batch"):
            count_batches(count, batch_size, drop_last=drop_last)
        return
    walked = list(batches(numbered(count), batch_size, seed=0, epoch=0, drop_last=drop_last))
    assert len(walked) == count_batches(count, batch_size, drop_last=drop_last)


# Each raises at the call, before anything is drawn from the iterator.


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_sizes_below_1_are_refused(batch_size: int):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}. Try 64"):
        batches(numbered(3), batch_size, seed=0, epoch=0)
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}. Try 64"):
        batches_in_order(numbered(3), batch_size)


@pytest.mark.parametrize("skip", [-1, 3])
def test_skipping_more_than_an_epoch_is_refused(skip: int):
    with pytest.raises(ValueError, match=f"0 to 2, the batches of an epoch, got {skip}. Start"):
        batches(numbered(3), 2, seed=0, epoch=0, skip=skip)


def test_dropping_the_only_batch_is_refused():
    with pytest.raises(
        ValueError, match="at least one batch, got 3 examples for batches of 4 with drop_last=True. Use"
    ):
        batches(numbered(3), 4, seed=0, epoch=0, drop_last=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: are its batches those of the CPU?")
def test_batches_on_a_gpu_are_those_of_the_cpu():
    here = batches(images_of(20), 6, seed=0, epoch=0, augment=CropFlip())
    there = batches(images_of(20).to("cuda"), 6, seed=0, epoch=0, augment=CropFlip())
    for (inputs, labels), (gpu_inputs, gpu_labels) in zip(here, there, strict=True):
        assert gpu_inputs.is_cuda
        assert torch.equal(inputs, gpu_inputs.cpu())
        assert torch.equal(labels, gpu_labels.cpu())


# -------------------------------------------------------------------------------------------------------- augmentation


def test_crops_are_those_that_a_loop_over_images_makes():
    images = images_of(16).inputs
    found = CropFlip(padding=2, flip=0.5)(images, generator(0, "crop"))
    source = generator(0, "crop")
    down, right = torch.randint(5, (2, 16), generator=source)
    mirrored = torch.rand(16, generator=source) < 0.5
    for i, image in enumerate(images):
        framed = torch.zeros(3, 10, 10, dtype=torch.uint8)
        framed[:, 2:8, 2:8] = image
        expected = framed[:, down[i] : down[i] + 6, right[i] : right[i] + 6]
        assert torch.equal(found[i], expected.flip(-1) if mirrored[i] else expected)


def test_no_padding_and_no_flip_change_nothing():
    images = images_of(4).inputs
    assert torch.equal(CropFlip(padding=0, flip=0.0)(images, generator(0, "crop")), images)


def test_every_shift_occurs_about_equally_often_and_half_of_the_images_are_mirrored():
    image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    image[0, 0, 1, 1] = 1
    moved = CropFlip(padding=1, flip=0.0)(image.expand(9000, -1, -1, -1), generator(0, "crop"))
    assert moved.sum(0).flatten().tolist() == pytest.approx([1000] * 9, abs=120)  # four deviations of a binomial
    image[0, 0, 1, 0] = 2
    mirrored = CropFlip(padding=0)(image.expand(1000, -1, -1, -1), generator(0, "crop"))
    assert (mirrored[:, 0, 1, 0] == 0).sum().item() == pytest.approx(500, abs=64)


def test_augmentation_keeps_pixels_as_uint8_and_pads_with_black():
    white = torch.full((50, 1, 4, 4), 255, dtype=torch.uint8)
    shifted = CropFlip()(white, generator(0, "crop"))
    assert shifted.dtype == torch.uint8
    assert set(shifted.unique().tolist()) == {0, 255}


def test_augmentation_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="padding must be at least 0 pixels, got -1. Give 0"):
        CropFlip(padding=-1)
    with pytest.raises(ValueError, match=r"flip must be a probability, 0 to 1, got 1.5. Give 0"):
        CropFlip(flip=1.5)


# ------------------------------------------------------------------------------------------------------------ hold out


@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 3),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 3),
)
def test_holding_out_is_exact_stratified_and_disjoint(sizes: list[int], share: float, seed: int):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    split = Split(inputs=torch.arange(len(labels)), labels=labels)
    rest, held = hold_out(split, share, seed)
    assert len(held) == round(share * len(split))
    assert sorted(rest.inputs.tolist() + held.inputs.tolist()) == list(range(len(split)))
    for label, size in enumerate(sizes):
        assert abs(int((held.labels == label).sum()) - len(held) * size / len(split)) < 1


def test_holding_out_depends_on_the_seed_alone_and_keeps_the_order():
    torch.manual_seed(0)
    first = hold_out(numbered(40), 0.25, seed=0)[1].inputs.tolist()
    torch.manual_seed(1)
    assert hold_out(numbered(40), 0.25, seed=0)[1].inputs.tolist() == first == sorted(first)
    assert hold_out(numbered(40), 0.25, seed=1)[1].inputs.tolist() != first


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 10])
def test_shares_that_leave_nothing_are_refused(share: float):
    with pytest.raises(ValueError, match=f"share must lie between 0 and 1, got {share}. Give 0.1"):
        hold_out(numbered(10), share, seed=0)


def test_a_share_too_small_for_one_example_is_refused():
    with pytest.raises(ValueError, match="at least one example, got 0. Choose a larger share"):
        hold_out(numbered(10), 0.01, seed=0)


def test_a_stream_is_every_epoch_s_batches_prepared_one_epoch_after_the_other():
    data = load("digits")
    steps = count_batches(len(data.train), 500)
    got = list(itertools.islice(stream(data, 500, seed=3), 2 * steps))
    wanted = [pair for epoch in range(2) for pair in batches(data.train, 500, seed=3, epoch=epoch)]
    for (inputs, labels), (raw, wanted_labels) in zip(got, wanted, strict=True):
        assert torch.equal(inputs, data.prepare(raw))
        assert torch.equal(labels, wanted_labels)


def test_a_stream_refuses_its_batch_size_before_the_first_batch():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        stream(load("digits"), 0, seed=0)
