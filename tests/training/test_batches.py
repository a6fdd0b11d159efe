"""Training batches: which images come when, for a run alone and in a stack."""

import dataclasses
import math

import pytest
import torch
from support import Tiny
from torch import Tensor

from bnexp.config import Config, from_mapping
from bnexp.data import Dataset, Split
from bnexp.training.batches import Batches, derive

SHAPES = [(3,), (2, 5), (2, 8, 8), (1, 3, 4, 2)]


def config(seed: int = 0, batch: int = 8, augment: str = "none", norm: str = "batch") -> Config:
    return from_mapping({"data": {"augment": augment}, "model": {"norm": norm}, "train": {"batch_size": batch}, "seed": seed})


def numbered(n: int) -> Dataset:
    """Example i is the number i, unnormalized, and its label is i too."""
    i = torch.arange(n)
    split = Split(i.view(n, 1).float(), i)
    return Dataset("numbered", tuple(map(str, range(n))), split, split, split, torch.zeros(1), torch.ones(1))


def epoch(batches: Batches, number: int) -> list[tuple[Tensor, Tensor]]:
    return [batches[step] for step in range(number * batches.per_epoch, (number + 1) * batches.per_epoch)]


def test_an_epoch_is_a_permutation_without_its_last_partial_batch() -> None:
    batches = Batches(numbered(53), [config()], torch.float32)
    assert batches.per_epoch == 6  # 53 // 8
    epochs = []
    for number in range(3):
        drawn = torch.cat([x for x, _ in epoch(batches, number)]).flatten().long().tolist()
        assert len(drawn) == 48
        assert len(set(drawn)) == 48  # each image at most once
        assert set(drawn) <= set(range(53))
        epochs.append(drawn)
    assert len({tuple(drawn) for drawn in epochs}) == 3
    assert len({frozenset(drawn) for drawn in epochs}) > 1  # it is not always the same images that are dropped


def test_labels_go_with_their_images() -> None:
    batches = Batches(numbered(40), [config(seed) for seed in (4, 5)], torch.float32)
    for x_BR, y_RB in epoch(batches, 0):
        assert x_BR.shape == (8, 2)
        assert torch.equal(x_BR.t().long(), y_RB)


def test_a_step_is_a_pure_function_of_its_number() -> None:
    """A resumed run has no generator to restore."""
    walked, jumped = Batches(numbered(40), [config()], torch.float32), Batches(numbered(40), [config()], torch.float32)
    sequence = [walked[step][0] for step in range(15)]
    for step in (14, 3, 7, 0):
        assert torch.equal(jumped[step][0], sequence[step])


@pytest.mark.parametrize("augment", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_how_many_batches_are_made_together_changes_none(
    tiny: Tiny, shape: tuple[int, ...], augment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strides too: the layout decides how a step computes. 61 // 8 batches an epoch are no multiple of what is made together."""
    if len(shape) != 3:
        augment = "none"
    data, seen = tiny(shape, train=61), []
    for ahead_bytes in (1, 3 * 8 * 2 * 4 * math.prod(shape), 2**18):  # 1, 3, and all of an epoch
        monkeypatch.setattr("bnexp.training.batches.AHEAD_BYTES", ahead_bytes)
        batches = Batches(data, [config(seed, augment=augment) for seed in (3, 0)], torch.float32)
        seen.append([batches[step] for step in (*range(2 * batches.per_epoch), 3, 9, 0)])
    made = [len({x.untyped_storage().data_ptr() for x, _ in batches[:7]}) for batches in seen]
    assert made == [7, 3, 1]
    for others in seen[1:]:
        for (x, y_RB), (other_x, other_y) in zip(seen[0], others, strict=True):
            assert torch.equal(x, other_x)
            assert x.stride() == other_x.stride()
            assert torch.equal(y_RB, other_y)
            assert y_RB.stride() == other_y.stride()


@pytest.mark.parametrize("augment", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_sees_the_same_alone_and_in_a_stack(tiny: Tiny, shape: tuple[int, ...], augment: str, dtype: torch.dtype) -> None:
    if len(shape) != 3:
        augment = "none"
    data = tiny(shape, train=30)
    seeds = [3, 0, 3, 7]
    stack = Batches(data, [config(seed, augment=augment) for seed in seeds], dtype)
    alone = [Batches(data, [config(seed, augment=augment)], dtype) for seed in seeds]
    for step in range(7):
        x, y_RB = stack[step]
        assert x.dtype == dtype
        assert x.shape == (8, 4 * shape[0], *shape[1:])
        own = x.unflatten(1, (4, -1))
        for run, single in enumerate(alone):
            x_one, y_one = single[step]
            assert torch.equal(own[:, run], x_one)
            assert torch.equal(y_RB[run], y_one[0])
        assert torch.equal(own[:, 0], own[:, 2])  # same seed, same batch
        assert not torch.equal(own[:, 0], own[:, 1])


def test_batches_are_normalized(tiny: Tiny) -> None:
    data = tiny((2, 6, 6), train=48)
    x = torch.cat([x for x, _ in epoch(Batches(data, [config()], torch.float32), 0)])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(2))


def test_crop_is_crop_flip_without_the_mirror(tiny: Tiny) -> None:
    """Images that grow brighter to the right do so after a crop, too."""
    data = tiny((1, 8, 8))
    ramp = torch.arange(8.0).expand(len(data.train), 1, 8, 8)
    data = dataclasses.replace(data, train=Split(ramp.contiguous(), data.train.y), mean=torch.zeros(1), std=torch.ones(1))
    for augment, mirrored in (("crop", False), ("crop_flip", True)):
        x = Batches(data, [config(augment=augment)], torch.float32)[0][0]
        falling = (x[:, 0, 4, 3] > x[:, 0, 4, 4]).any()  # in the middle no padding shows
        assert bool(falling) is mirrored


def test_augmentation_moves_images_and_not_their_order(tiny: Tiny) -> None:
    """Order and augmentation have generators of their own: augmenting shifts no other draw."""
    data = tiny((2, 8, 8))
    plain, moved = (Batches(data, [config(augment=augment)], torch.float32) for augment in ("none", "crop_flip"))
    changed = 0
    for step in range(12):
        (x, y), (x_moved, y_moved) = plain[step], moved[step]
        assert torch.equal(y, y_moved)
        for image, other in zip(x, x_moved, strict=True):
            # cropped with a padding of one pixel and maybe mirrored: the 6x6 inside is somewhere in the original
            places = [image[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
            inside = other[:, 1:7, 1:7]
            assert any(torch.equal(inside, place) or torch.equal(inside.flip(2), place) for place in places)
            changed += not torch.equal(image, other)
    assert changed > 80  # of 96; each stays with a chance of 1/18


def test_purposes_and_indices_have_seeds_of_their_own() -> None:
    seeds = {derive(seed, purpose, index) for seed in range(5) for purpose in ("init", "order", "augment") for index in range(5)}
    assert len(seeds) == 75
    assert all(0 <= seed < 2**64 for seed in seeds)


def test_images_are_channels_last_and_others_contiguous(tiny: Tiny) -> None:
    """Convolutions on CPUs are quicker so; a format that changed from step to step would change rounding."""
    for shape in SHAPES:
        x, _ = Batches(tiny(shape), [config(0), config(1)], torch.float32)[0]
        wanted = torch.channels_last if len(shape) == 3 else torch.contiguous_format
        assert x.is_contiguous(memory_format=wanted)


def test_one_batch_may_be_the_whole_training_set(tiny: Tiny) -> None:
    data = tiny((3,), train=48)
    batches = Batches(data, [from_mapping({"train": {"batch_size": 48}})], torch.float32)
    assert batches.per_epoch == 1
    assert torch.equal(batches[0][1].sort().values, batches[1][1].sort().values)
    assert not torch.equal(batches[0][0], batches[1][0])
