from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from tutelage.data import loader as loader_module
from tutelage.data.batch import Batch
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.order import epoch_order
from tutelage.data.prefetch import prefetched
from tutelage.data.samples import Samples
from tutelage.errors import DataError, RecipeError
from tutelage.models.preprocess import PairInputs
from tutelage.views import ViewPolicy, pairing

CROPS = ViewPolicy(crop=(0.3, 1.0), flip=0.5)
MIXED = ViewPolicy(mixup=0.4, cutmix=1.0)
MIXUP = ViewPolicy(mixup=0.4)


def numbered(count: int, *, pixels: bool = False, **options) -> Samples:
    """Sample number i is gray of value i, or noise where pixels matter; class number i modulo 3."""
    generator = np.random.default_rng(0)
    images = [
        generator.integers(0, 256, (12, 12, 3), dtype=np.uint8) if pixels else np.full((8, 8, 3), row, np.uint8)
        for row in range(count)
    ]
    return Samples(
        tuple(f"{row}.png" for row in range(count)),
        **{"images": images, "targets": np.arange(count) % 3, "classes": ("a", "b", "c"), **options},
    )


def loader(
    count: int = 10, policy: ViewPolicy = CROPS, *, batch_size: int = 4, seed: int = 0, groups=None, **options
) -> Loader:
    samples = options.pop("samples", None)
    samples = numbered(count, pixels=policy is CROPS) if samples is None else samples
    return Loader(samples, groups or {"view": ViewGroup(policy, 8)}, batch_size=batch_size, seed=seed, **options)


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.indices, b.indices)
        and torch.equal(a.inputs["view"], b.inputs["view"])
        and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("policy", [CROPS, MIXED])
def test_batches_are_the_same_for_the_same_seed(policy: ViewPolicy) -> None:
    assert equal(list(loader(policy=policy).batches(0, 5)), list(loader(policy=policy).batches(0, 5)))


def test_another_seed_gives_another_order() -> None:
    first, second = (next(loader(40, seed=seed).batches(0, 1)) for seed in (0, 1))
    assert first.indices.tolist() != second.indices.tolist()


def test_another_epoch_has_another_order() -> None:
    assert not np.array_equal(epoch_order(40, 0, seed=0), epoch_order(40, 1, seed=0))


def test_another_epoch_has_other_views() -> None:
    views = [
        {
            int(row): view
            for batch in loader(4).epoch(number)
            for row, view in zip(batch.indices, batch.inputs["view"], strict=True)
        }
        for number in (0, 1)
    ]
    assert not any(torch.equal(views[0][row], views[1][row]) for row in range(4))


@pytest.mark.parametrize("policy", [CROPS, MIXED])
@pytest.mark.parametrize("start", [1, 2, 3, 5])
def test_batches_from_a_step_on_are_the_tail_of_all(policy: ViewPolicy, start: int) -> None:
    whole = list(loader(policy=policy).batches(0, 6))
    assert equal(list(loader(policy=policy).batches(start, 6)), whole[start:])


def test_an_epoch_shows_no_sample_twice() -> None:
    rows = torch.cat([batch.indices for batch in loader(11).epoch(0)]).tolist()
    assert len(rows) == len(set(rows)) == 8


def test_batches_bring_the_targets_of_their_samples() -> None:
    for batch in loader().epoch(0):
        assert batch.targets.tolist() == (batch.indices % 3).tolist()


def test_batches_bring_the_views_of_their_samples() -> None:
    for batch in loader(policy=ViewPolicy()).epoch(0):
        values = batch.inputs["view"].mean((1, 2, 3)) * 255
        assert values.round().tolist() == batch.indices.tolist()


def test_fewer_samples_than_a_batch_make_one_batch_of_all() -> None:
    few = loader(3, batch_size=64)
    assert few.steps_per_epoch == 1
    assert sorted(next(few.batches(0, 1)).indices.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("count", [10, 11])
def test_partners_are_in_the_same_batch(count: int) -> None:
    mixed = loader(count, MIXED)
    for epoch in range(5):
        partners = pairing(mixed.samples.keys, epoch, seed=0)
        for batch in mixed.epoch(epoch):
            rows = batch.indices.tolist()
            assert {int(partners[row]) for row in rows} == set(rows)


def test_partners_change_from_epoch_to_epoch() -> None:
    keys = numbered(20).keys
    assert not np.array_equal(pairing(keys, 0, seed=0), pairing(keys, 1, seed=0))


def test_paired_order_shows_every_sample_once() -> None:
    partners = pairing(numbered(11).keys, 0, seed=0)
    assert sorted(epoch_order(11, 0, seed=0, partners=partners)) == list(range(11))


def test_shares_of_mixed_views_sum_to_one() -> None:
    shares = torch.cat([batch.targets for batch in loader(30, MIXED).epoch(0)])
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))


def test_some_views_are_really_mixed() -> None:
    shares = torch.cat([batch.targets for batch in loader(30, MIXED).epoch(0)])
    assert 0 < int((shares.max(1).values < 0.99).sum()) < len(shares)


@pytest.mark.parametrize("count", [8, 9])
def test_shares_are_the_weights_by_which_pictures_are_mixed(count: int) -> None:
    # Gray sample i mixed with gray sample j by weight w is gray of value w·i + (1 - w)·j.
    mixed = loader(count, MIXUP, batch_size=64)
    partners = pairing(mixed.samples.keys, 0, seed=0)
    for batch in mixed.epoch(0):
        for row, value, shares in zip(
            batch.indices, batch.inputs["view"].mean((1, 2, 3)) * 255, batch.targets, strict=True
        ):
            mate = int(partners[row])
            weight = 1.0 if mate == row else float((value - mate) / (row - mate))
            expected = np.zeros(3)
            expected[int(row) % 3] += weight
            expected[mate % 3] += 1 - weight
            np.testing.assert_allclose(shares.numpy(), expected, atol=2e-3)


def test_a_single_sample_can_be_mixed_with_itself_alone() -> None:
    batch = next(loader(1, MIXED).batches(0, 1))
    torch.testing.assert_close(batch.targets, torch.tensor([[1.0, 0.0, 0.0]] * len(batch)))


@pytest.mark.parametrize("policy", [CROPS, MIXED])
@pytest.mark.parametrize("count", [8, 11, 13])
def test_processes_share_every_batch_between_them(policy: ViewPolicy, count: int) -> None:
    whole = loader(count, policy, batch_size=4).epoch(1)
    parts = [loader(count, policy, batch_size=4, rank=rank, world=2).epoch(1) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first) == len(second) == 2
        assert torch.equal(torch.cat([first.inputs["view"], second.inputs["view"]]), batch.inputs["view"])
        assert torch.equal(torch.cat([first.targets, second.targets]), batch.targets)


def test_an_odd_batch_size_is_made_even_for_two_processes() -> None:
    assert [len(batch) for batch in loader(10, batch_size=5, rank=1, world=2).epoch(0)] == [2, 2]


def test_more_processes_than_samples_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be shared by 4 processes"):
        loader(2, world=4)


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        loader(samples=numbered(0))


@pytest.mark.parametrize("name", ["view", "global"])
def test_several_mixed_views_a_sample_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="single view"):
        loader(groups={name: ViewGroup(MIXED, 8, count=2)})


def test_a_mixed_group_may_have_any_name() -> None:
    batch = next(loader(groups={"global": ViewGroup(MIXED, 8)}).batches(0, 1))
    assert batch.inputs["global"].shape == (4, 3, 8, 8)


def test_each_view_group_has_its_size_and_count() -> None:
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 4, count=3)}
    batch = next(loader(groups=groups).batches(0, 1))
    assert {name: tuple(views.shape) for name, views in batch.inputs.items()} == {
        "global": (8, 3, 8, 8),
        "local": (12, 3, 4, 4),
    }


def test_all_first_views_come_before_all_second_ones() -> None:
    batch = next(loader(groups={"view": ViewGroup(ViewPolicy(), 8, count=2)}, samples=numbered(10)).batches(0, 1))
    values = (batch.inputs["view"].mean((1, 2, 3)) * 255).round().tolist()
    assert values == batch.indices.tolist() * 2


def test_no_two_views_of_a_sample_are_drawn_alike() -> None:
    # Over groups and epochs: groups that shared view numbers would crop the same boxes.
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 8, count=3)}
    crops = loader(4, groups=groups, samples=numbered(4, pixels=True))
    seen = [
        view
        for epoch in range(3)
        for batch in crops.epoch(epoch)
        for views in batch.inputs.values()
        for row, view in zip(batch.indices.tolist() * 5, views, strict=False)
        if row == 0
    ]
    assert len(seen) == 15
    assert len({view.numpy().tobytes() for view in seen}) == 15


def test_texts_are_given_as_they_are() -> None:
    texts = Samples(("a", "b", "c"), texts=["one", "two", "three"])
    batch = next(loader(samples=texts).batches(0, 1))
    assert list(batch.inputs["view"]) == [texts.texts[row] for row in batch.indices]


def test_pairs_keep_each_text_with_its_image() -> None:
    pairs = numbered(6, texts=[str(row) for row in range(6)])
    inputs = next(loader(samples=pairs, policy=ViewPolicy()).batches(0, 1)).inputs["view"]
    assert isinstance(inputs, PairInputs)
    assert list(inputs.text) == [f"{value:.0f}" for value in inputs.image.mean((1, 2, 3)) * 255]


def test_prefetching_changes_nothing() -> None:
    assert equal(list(prefetched(loader().batches(0, 5))), list(loader().batches(0, 5)))


def test_an_error_in_the_loader_reaches_its_reader() -> None:
    broken = numbered(8, images=[np.zeros((8, 8, 3), np.uint8)] * 7 + [b"no image"])
    with pytest.raises(DataError, match="cannot be decoded"):
        list(prefetched(loader(samples=broken).batches(0, 2)))


def test_batches_before_an_error_are_still_given() -> None:
    def two_then_error() -> Iterator[Batch]:
        yield from loader().batches(0, 2)
        raise DataError("third")

    given = prefetched(two_then_error())
    assert equal([next(given), next(given)], list(loader().batches(0, 2)))
    with pytest.raises(DataError, match="third"):
        next(given)


def test_closing_stops_the_loader_thread() -> None:
    given = prefetched(loader().batches(0, 1000))
    next(given)
    (thread,) = (each for each in threading.enumerate() if each.name == "loader")
    given.close()
    assert not thread.is_alive()


FULL = ViewPolicy(crop=(0.3, 1.0), flip=0.5, ops=2, erase=0.5, mixup=0.2, cutmix=1.0)
BOTH = ViewPolicy(mixup=0.4, cutmix=1.0, mix=0.5)

Shown = dict[int, tuple[torch.Tensor, list[float]]]


def shown(batches: Iterable[Batch]) -> Shown:
    """What each row looks like, with its targets."""
    return {
        int(row): (view, np.atleast_1d(targets.numpy()).tolist())
        for batch in batches
        for row, view, targets in zip(batch.indices, batch.inputs["view"], batch.targets, strict=True)
    }


def alike(one: Shown, other: Shown) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[row][0], other[row][0]) and one[row][1] == other[row][1] for row in one
    )


def order(batches: Iterable[Batch]) -> list[int]:
    return torch.cat([batch.indices for batch in batches]).tolist()


def noisy(count: int, policy: ViewPolicy, **options) -> Loader:
    return loader(policy=policy, samples=numbered(count, pixels=True), **options)


@pytest.mark.parametrize("policy", [CROPS, MIXED, FULL])
def test_a_sample_is_seen_again_in_the_same_view_after_all_of_its_views(policy: ViewPolicy) -> None:
    epochs = [shown(noisy(12, policy, views=3).epoch(number)) for number in range(7)]
    assert len(epochs[0]) == 12
    for number in range(4):
        assert alike(epochs[number], epochs[number + 3])


@pytest.mark.parametrize("policy", [CROPS, FULL])
def test_no_two_of_a_samples_views_are_the_same(policy: ViewPolicy) -> None:
    epochs = [shown(noisy(12, policy, views=3).epoch(number)) for number in range(3)]
    for row in range(12):
        assert len({epoch[row][0].numpy().tobytes() for epoch in epochs}) == 3


@pytest.mark.parametrize("policy", [CROPS, FULL])
def test_views_that_are_seen_again_come_in_another_order(policy: ViewPolicy) -> None:
    repeating = noisy(40, policy, views=2)
    assert order(repeating.epoch(0)) != order(repeating.epoch(2)) != order(repeating.epoch(4))


def test_the_first_views_are_those_of_a_loader_that_never_repeats() -> None:
    for number in range(3):
        assert equal(list(noisy(12, FULL, views=3).epoch(number)), list(noisy(12, FULL).epoch(number)))


def test_without_a_number_of_views_every_epoch_has_new_ones() -> None:
    epochs = [shown(noisy(4, CROPS).epoch(number)) for number in range(12)]
    for row in range(4):
        assert len({epoch[row][0].numpy().tobytes() for epoch in epochs}) == 12


@pytest.mark.parametrize(("views", "expected"), [(1, [0, 0, 0, 0, 0]), (3, [0, 1, 2, 0, 1]), (None, [0, 1, 2, 3, 4])])
def test_a_batch_says_which_view_it_shows(views: int | None, expected: list[int]) -> None:
    repeating = noisy(8, CROPS, views=views)
    assert [{batch.view for batch in repeating.epoch(number)} for number in range(5)] == [{v} for v in expected]
    assert [batch.view for batch in repeating.batches(0, 10)] == [view for view in expected for _ in range(2)]


def test_a_batch_on_a_device_still_says_which_view_it_shows() -> None:
    assert next(noisy(8, CROPS).epoch(3)).to(torch.device("cpu")).view == 3


@pytest.mark.parametrize("policy", [CROPS, MIXED, MIXUP, BOTH, FULL])
@pytest.mark.parametrize("count", [12, 13])
@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_view_is_what_its_epoch_shows(policy: ViewPolicy, count: int, number: int) -> None:
    every = noisy(count, policy, batch_size=5)
    seen, viewed = shown(every.epoch(number)), shown(every.view(number, np.arange(count)))
    assert list(range(count)) == sorted(viewed)
    assert alike(seen, {row: viewed[row] for row in seen})


@pytest.mark.parametrize("policy", [CROPS, MIXED, MIXUP, BOTH, FULL])
def test_a_view_is_the_same_for_whatever_rows_are_asked_for(policy: ViewPolicy) -> None:
    every = noisy(13, policy, batch_size=5)
    whole = shown(every.view(1, np.arange(13)))
    generator = np.random.default_rng(0)
    for rows in ([0], [12], [7, 3], list(range(6)), generator.permutation(13).tolist()):
        viewed = shown(every.view(1, np.array(rows)))
        assert alike(viewed, {row: whole[row] for row in rows})


@pytest.mark.parametrize("policy", [CROPS, MIXED])
@pytest.mark.parametrize("rows", [[4], [7, 3], [0, 2, 4, 6, 8, 10, 12], list(range(13))])
def test_a_view_has_the_rows_asked_for_and_no_others(policy: ViewPolicy, rows: list[int]) -> None:
    batches = list(noisy(13, policy).view(1, np.array(rows)))
    assert sorted(order(batches)) == sorted(rows)
    assert all(len(batch.inputs["view"]) == len(batch.targets) == len(batch) <= 4 for batch in batches)
    assert {batch.view for batch in batches} == {1}


def test_a_view_of_no_rows_has_no_batches() -> None:
    assert list(noisy(5, MIXED).view(0, np.array([], dtype=np.int64))) == []


def test_in_a_view_partners_are_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    real = loader_module.render
    monkeypatch.setattr(
        loader_module, "render", lambda images, *a, **o: rendered.append(len(images)) or real(images, *a, **o)
    )
    list(noisy(16, MIXED).view(0, np.arange(16)))
    assert sum(rendered) == 16


def test_several_views_a_sample_and_groups_are_viewed_as_their_epoch_shows_them() -> None:
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 4, count=3)}
    every = noisy(6, CROPS, groups=groups, batch_size=6)
    (seen,), (viewed,) = list(every.epoch(2)), list(every.view(2, np.arange(6)))
    places = torch.argsort(seen.indices)
    assert viewed.indices.tolist() == list(range(6))
    for name, group in groups.items():
        for shot in range(group.count):
            shots = seen.inputs[name][6 * shot : 6 * shot + 6]
            assert torch.equal(viewed.inputs[name][6 * shot : 6 * shot + 6], shots[places])


@pytest.mark.parametrize("policy", [CROPS, FULL])
@pytest.mark.parametrize("workers", [2, 3, 20])
def test_the_number_of_workers_changes_nothing(
    policy: ViewPolicy, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(noisy(13, policy, batch_size=5).batches(0, 4))
    monkeypatch.setattr(torch, "get_num_threads", lambda: workers)
    assert equal(list(noisy(13, policy, batch_size=5).batches(0, 4)), alone)


def test_images_that_are_given_are_taken_for_those_of_the_samples() -> None:
    class Given:
        def get(self, rows: np.ndarray) -> list[torch.Tensor]:
            assert rows.dtype == np.int64
            return [torch.full((3, 8, 8), int(row) + 100, dtype=torch.uint8) for row in rows]

    for batch in loader(policy=ViewPolicy(), images=Given()).epoch(0):
        values = batch.inputs["view"].mean((1, 2, 3)) * 255
        assert (values.round() - 100).tolist() == batch.indices.tolist()


@pytest.mark.parametrize("policy", [CROPS, MIXED])
def test_batches_made_inline_are_those_made_ahead(policy: ViewPolicy) -> None:
    inline = loader(policy=policy, inline=True)
    assert equal(list(inline.ready(inline.batches(0, 5))), list(loader(policy=policy).batches(0, 5)))


def test_inline_batches_are_made_by_the_thread_that_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    real = loader_module.render
    monkeypatch.setattr(
        loader_module, "render", lambda *a, **o: threads.append(threading.current_thread()) or real(*a, **o)
    )
    inline = loader(inline=True)
    next(inline.ready(inline.batches(0, 1)))
    assert threads == [threading.current_thread()]


def test_views_cut_on_the_cpu_by_name_are_the_same() -> None:
    named = loader(device=torch.device("cpu"))
    assert equal(list(named.batches(0, 5)), list(loader().batches(0, 5)))


def test_a_batch_keeps_its_rows_on_the_cpu() -> None:
    batch = next(loader().batches(0, 1))
    assert batch.rows.tolist() == batch.indices.tolist() == batch.to(torch.device("cpu")).rows.tolist()


def test_all_views_of_a_sample_are_cut_from_one_decoding() -> None:
    class Counting:
        at_hand = False

        def __init__(self) -> None:
            self.asked: list[int] = []

        def get(self, rows: np.ndarray) -> list[torch.Tensor]:
            self.asked += rows.tolist()
            return [torch.zeros(3, 12, 12, dtype=torch.uint8) for _ in rows]

    images = Counting()
    groups = {"global": ViewGroup(CROPS, 8, count=2), "local": ViewGroup(CROPS, 4, count=8)}
    batch = next(loader(4, groups=groups, images=images, inline=True).batches(0, 1))
    assert sorted(images.asked) == sorted(batch.indices.tolist())


SHARES = np.array([[1, 0, 0], [0.25, 0.5, 0.25], [0, 0, 1], [0.5, 0.25, 0.25]], dtype=np.float16)


def test_shares_of_classes_are_given_as_they_are() -> None:
    batch = next(loader(samples=numbered(4, targets=SHARES)).batches(0, 1))
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == SHARES[batch.rows].tolist()


def test_shares_of_mixed_views_are_mixed() -> None:
    made = loader(policy=MIXUP, samples=numbered(4, targets=SHARES))
    batch = next(made.batches(0, 1))
    partners = pairing(made.samples.keys, 0, seed=0)
    # Images are gray of their number, so that a mixed one tells its weight.
    mine, theirs = batch.rows, partners[batch.rows]
    weights = (255 * batch.inputs["view"].mean((1, 2, 3)).numpy() - theirs) / (mine - theirs)
    expected = weights[:, None] * SHARES[mine] + (1 - weights[:, None]) * SHARES[theirs]
    np.testing.assert_allclose(batch.targets.numpy(), expected, atol=2e-3)
    assert 0 < weights.min() < 0.99


def test_class_numbers_and_whole_shares_are_the_same_to_a_mixed_view() -> None:
    plain = numbered(8)
    whole = numbered(8, targets=np.eye(3, dtype=np.float16)[plain.targets])
    first, second = (next(loader(policy=MIXED, samples=samples).batches(0, 1)) for samples in (plain, whole))
    assert torch.equal(first.targets, second.targets)
