from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.images import DecodedImages
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.masks import IGNORED
from tutelage.data.samples import IntArray, Samples
from tutelage.errors import RecipeError
from tutelage.views import POLICIES, WHOLE, DensePolicy, ViewPolicy, placed, render_dense, sample_views

DENSE = POLICIES["dense"]
SIZE = 16


class Given:
    """Masks that are at hand."""

    def __init__(self, masks: list[Tensor]) -> None:
        self.masks = masks
        self.asked: list[int] = []

    def get(self, rows: IntArray) -> list[Tensor]:
        self.asked += rows.tolist()
        return [self.masks[row] for row in rows]


def scenes(count: int) -> tuple[Samples, Given]:
    """Images of flat patches with a class each, in red; sizes differ."""
    rng = np.random.default_rng(0)
    images, masks = [], []
    for row in range(count):
        height, width = 16 + 4 * (row % 3), 16 + 4 * (row % 4)
        patches = rng.choice(4, (4, 4), p=(0.7, 0.1, 0.1, 0.1))
        classes = np.kron(patches, np.ones((height // 4, width // 4))).astype(np.int16)
        images.append(np.stack([classes * 60, classes * 0 + row, classes * 0], axis=-1).astype(np.uint8))
        masks.append(torch.from_numpy(classes))
    return Samples(tuple(f"{row}.png" for row in range(count)), images=images), Given(masks)


def loader(count: int = 10, policy: ViewPolicy = DENSE, *, masked: bool = True, **options: Any) -> Loader:
    samples, masks = scenes(count)
    groups = options.pop("groups", {"view": ViewGroup(policy, SIZE)})
    given = {"batch_size": 4, "seed": 0, "masks": masks if masked else None} | options
    return Loader(samples, groups, **given)


Parts = tuple[Tensor, Tensor | None, Tensor]


def parts(batch: Batch) -> Parts:
    images = batch.inputs["view"]
    assert isinstance(images, Tensor)
    assert batch.valid is not None
    return images, batch.targets, batch.valid


def equal(one: Parts, other: Parts) -> bool:
    return all(
        first is second or (first is not None and second is not None and torch.equal(first, second))
        for first, second in zip(one, other, strict=True)
    )


def alike(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.indices, b.indices) and equal(parts(a), parts(b)) for a, b in zip(first, second, strict=True)
    )


def by_row(batches: list[Batch]) -> dict[int, Parts]:
    found = {}
    for batch in batches:
        images, targets, valid = parts(batch)
        for place, row in enumerate(batch.indices.tolist()):
            found[row] = (images[place], None if targets is None else targets[place], valid[place])
    return found


def test_dense_batches_have_targets_and_valid_pixels() -> None:
    images, targets, valid = parts(next(loader().batches(0, 1)))
    assert targets is not None
    assert (images.shape, targets.shape, valid.shape) == ((4, 3, 16, 16), (4, 16, 16), (4, 16, 16))
    assert (images.dtype, targets.dtype, valid.dtype) == (torch.float32, torch.int64, torch.bool)


def test_without_masks_dense_batches_say_what_is_valid() -> None:
    batch = next(loader(masked=False).batches(0, 1))
    assert batch.targets is None
    assert batch.valid is not None
    assert not batch.valid.all()


def test_other_batches_have_no_valid_pixels() -> None:
    assert next(loader(policy=ViewPolicy(flip=0.5), masked=False).batches(0, 1)).valid is None


def test_targets_are_the_classes_of_the_pixels() -> None:
    # Flat patches, enlarged: away from their borders red says the class.
    policy = ViewPolicy(flip=0.5, dense=DensePolicy(scale=(1.5, 2.0)))
    sure = 0
    for batch in loader(policy=policy).epoch(0):
        images, targets, valid = parts(batch)
        assert targets is not None
        red = images[:, 0] * 255 / 60
        whole = valid & ((red - red.round()).abs() < 0.02)
        padded = torch.nn.functional.pad(red, (1, 1, 1, 1), value=-1.0)
        flat = torch.stack([padded[:, 1:-1, :-2], padded[:, 1:-1, 2:], padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]])
        whole &= ((flat - red).abs() < 0.02).all(0)
        assert torch.equal(red[whole].round().long(), targets[whole])
        sure += int(whole.sum())
    assert sure > 100


def test_whole_images_have_whole_masks() -> None:
    samples = Samples(("a",), images=[np.zeros((8, 16, 3), np.uint8)])
    mask = torch.arange(128, dtype=torch.int16).view(8, 16)
    made = Loader(samples, {"view": ViewGroup(WHOLE, 16)}, batch_size=1, seed=0, masks=Given([mask]))
    _, targets, valid = parts(next(made.batches(0, 1)))
    assert targets is not None
    assert torch.equal(targets[0, :8], mask.long())
    assert (targets[0, 8:] == IGNORED).all()
    assert valid[0].sum() == 128


@pytest.mark.parametrize("masked", [True, False])
def test_dense_batches_are_the_same_for_the_same_seed(masked: bool) -> None:
    once, again = (list(loader(masked=masked).batches(0, 5)) for _ in range(2))
    assert alike(once, again)
    assert not alike(once, list(loader(masked=masked, seed=1).batches(0, 5)))


@pytest.mark.parametrize("start", [1, 3])
def test_dense_batches_from_a_step_on_are_the_tail_of_all(start: int) -> None:
    assert alike(list(loader().batches(start, 6)), list(loader().batches(0, 6))[start:])


@pytest.mark.parametrize("masked", [True, False])
def test_a_dense_view_is_what_its_epoch_shows(masked: bool) -> None:
    every = loader(12, masked=masked)
    seen, viewed = by_row(list(every.epoch(2))), by_row(list(every.view(2, np.arange(12))))
    assert len(seen) == 12
    assert all(equal(seen[row], viewed[row]) for row in seen)


def test_a_dense_view_is_the_same_for_whatever_rows_are_asked_for() -> None:
    every = loader(13)
    whole = by_row(list(every.view(1, np.arange(13))))
    for rows in ([12], [7, 3], np.random.default_rng(0).permutation(13).tolist()):
        found = by_row(list(every.view(1, np.array(rows))))
        assert sorted(found) == sorted(rows)
        assert all(equal(found[row], whole[row]) for row in rows)


@pytest.mark.parametrize("masked", [True, False])
def test_processes_share_every_dense_batch_between_them(masked: bool) -> None:
    whole = loader(11, masked=masked).epoch(1)
    both = [loader(11, masked=masked, rank=rank, world=2).epoch(1) for rank in (0, 1)]
    for batch, first, second in zip(whole, *both, strict=True):
        one, other = by_row([first]), by_row([second])
        assert list(one) + list(other) == batch.indices.tolist()
        assert all(equal(found, by_row([batch])[row]) for row, found in {**one, **other}.items())


@pytest.mark.parametrize("workers", [2, 3, 20])
def test_the_number_of_workers_changes_no_dense_batch(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(loader(inline=True).batches(0, 4))
    monkeypatch.setattr(torch, "get_num_threads", lambda: workers)
    made = loader()
    assert alike(list(made.ready(made.batches(0, 4))), alone)


def test_dense_views_cut_on_the_cpu_by_name_are_the_same() -> None:
    assert alike(list(loader(device=torch.device("cpu")).batches(0, 3)), list(loader().batches(0, 3)))


def test_views_are_cut_where_their_masks_say() -> None:
    samples, masks = scenes(30)
    made = loader(30)
    assert samples.images is not None
    images = DecodedImages(samples.images, 24).get(np.arange(30))
    aspects = np.array([image.shape[2] / image.shape[1] for image in images])
    rows = np.arange(30)
    drawn = sample_views(DENSE, samples.keys, rows, rows * 0, seed=0, aspects=aspects, partners=None)
    views = placed(drawn, masks.masks, 0.75)
    assert (views.crop != drawn.crop).any()
    expected = render_dense(images, masks.masks, views, SIZE)
    for row, found in by_row(list(made.view(0, rows))).items():
        assert equal(found, (expected[0][row], None if expected[1] is None else expected[1][row], expected[2][row]))


def test_all_first_dense_views_come_before_all_second_ones() -> None:
    twice = loader(6, groups={"view": ViewGroup(DENSE, SIZE, count=2)}, batch_size=6)
    (batch,) = twice.view(0, np.arange(6))
    images, targets, valid = parts(batch)
    assert targets is not None
    assert len(images) == len(targets) == len(valid) == 12
    once = loader(6, batch_size=6)
    for shot in (0, 1):
        (alone,) = once.view(shot, np.arange(6))
        shots = slice(6 * shot, 6 * shot + 6)
        assert equal((images[shots], targets[shots], valid[shots]), parts(alone))


def test_all_dense_views_of_a_sample_are_cut_from_one_mask() -> None:
    samples, masks = scenes(4)
    groups = {"view": ViewGroup(DENSE, SIZE, count=3)}
    batch = next(Loader(samples, groups, batch_size=4, seed=0, masks=masks, inline=True).batches(0, 1))
    assert sorted(masks.asked) == sorted(batch.indices.tolist())


def test_a_dense_batch_moves_as_a_whole() -> None:
    batch = next(loader().batches(0, 1))
    assert equal(parts(batch.to(torch.device("cpu"))), parts(batch))


def test_dense_views_beside_others_are_refused() -> None:
    groups = {"view": ViewGroup(DENSE, SIZE), "other": ViewGroup(ViewPolicy(), SIZE)}
    with pytest.raises(RecipeError, match="one group of dense views"):
        loader(groups=groups)


def test_masks_without_a_dense_policy_are_refused() -> None:
    with pytest.raises(RecipeError, match="dense policy"):
        loader(policy=ViewPolicy())
