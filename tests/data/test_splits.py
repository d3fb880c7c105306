from __future__ import annotations

import itertools

import numpy as np
import pytest

from tutelage.data.samples import Samples
from tutelage.data.splits import few_shot, folds, hold_out, share_of
from tutelage.errors import DataError, RecipeError


def samples(*counts: int, prefix: str = "") -> Samples:
    """Samples of classes a, b, …, as many of each as said."""
    classes = tuple("abcdefgh"[: len(counts)])
    ids = [f"{name}/{prefix}{row:04d}" for name, count in zip(classes, counts, strict=True) for row in range(count)]
    targets = np.repeat(np.arange(len(counts)), counts)
    return Samples(tuple(ids), texts=ids, targets=targets, classes=classes, origin="somewhere")


def counts(some: Samples, amount: str, seed: int = 0) -> list[int]:
    return np.bincount(some.labels()[few_shot(some, amount, seed=seed)], minlength=len(some.classes)).tolist()


@pytest.mark.parametrize(
    ("amount", "taken"),
    [
        ("1", [1, 1, 1]),
        ("4", [4, 4, 4]),
        ("max:10", [10, 10, 4]),
        ("10%", [4, 2, 1]),
        ("2.5%", [1, 1, 1]),
        ("100%", [40, 15, 4]),
        ("all", [40, 15, 4]),
    ],
)
def test_each_form_takes_its_number_of_each_class(amount: str, taken: list[int]) -> None:
    assert counts(samples(40, 15, 4), amount) == taken


def test_a_smaller_subset_lies_inside_a_larger_one_across_forms() -> None:
    some = samples(40, 30)
    subsets = [set(few_shot(some, amount, seed=3).tolist()) for amount in ("2", "10%", "max:9", "50%", "all")]
    assert all(one < other for one, other in itertools.pairwise(subsets))


def test_rows_are_sorted() -> None:
    rows = few_shot(samples(30, 30), "7", seed=0)
    assert (np.diff(rows) > 0).all()


def test_the_same_seed_takes_the_same_and_another_seed_others() -> None:
    some = samples(40, 40)
    first, again, other = (few_shot(some, "10", seed=seed).tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_other_samples_do_not_change_what_is_taken_of_a_class() -> None:
    few, more = samples(30, 20), samples(30, 25)
    taken = [some.ids[row] for some in (few, more) for row in few_shot(some, "5", seed=0) if some.ids[row][0] == "a"]
    assert taken[:5] == taken[5:]


def test_the_order_of_samples_does_not_change_what_is_taken() -> None:
    some = samples(30, 20)
    order = np.random.default_rng(0).permutation(50)
    mixed = some.subset(order)
    taken = {some.ids[row] for row in few_shot(some, "5", seed=0)}
    assert {mixed.ids[row] for row in few_shot(mixed, "5", seed=0)} == taken


@pytest.mark.parametrize(
    "amount", ["0", "max:0", "0%", "101%", "-3", "ten", "1.5", "", "max:", "min:3", "5 %", "%", "10\n"]
)
def test_any_other_form_is_refused(amount: str) -> None:
    with pytest.raises(RecipeError, match=r"^data\.labels: .* is none of N, max:N, P% or all"):
        few_shot(samples(5, 5), amount, seed=0)


def test_too_few_of_a_class_are_named_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"somewhere: class 'b' has 4 texts, 5 were asked for; .*\"max:5\""):
        few_shot(samples(5, 4), "5", seed=0)


def test_unlabeled_samples_are_refused() -> None:
    with pytest.raises(DataError, match="somewhere have no labels"):
        few_shot(samples(5, 5).without_targets(), "all", seed=0)


def test_folds_hold_out_each_sample_once() -> None:
    held = np.concatenate([held for _, held in folds(samples(11, 23).labels(), seed=0)])
    assert sorted(held.tolist()) == list(range(34))


def test_a_fold_trains_on_all_it_does_not_hold_out() -> None:
    for fit, held in folds(samples(11, 23).labels(), seed=0):
        assert sorted([*fit, *held]) == list(range(34))


def test_folds_keep_the_shares_of_classes() -> None:
    targets = samples(10, 30).labels()
    assert [np.bincount(targets[held]).tolist() for _, held in folds(targets, seed=0)] == [[2, 6]] * 5


@pytest.mark.parametrize(("most", "smallest", "number"), [(5, 8, 5), (3, 8, 3), (5, 2, 2)])
def test_there_are_at_most_as_many_folds_as_the_smallest_class_has_samples(
    most: int, smallest: int, number: int
) -> None:
    assert len(folds(samples(20, smallest).labels(), seed=0, most=most)) == number


def test_folds_follow_the_seed() -> None:
    targets = samples(20, 20).labels()
    first, again, other = (folds(targets, seed=seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("share", "held"), [(0.1, [1, 3]), (0.01, [1, 1]), (0.99, [9, 29])])
def test_a_share_of_each_class_is_held_out_once(share: float, held: list[int]) -> None:
    targets = samples(10, 30).labels()
    ((fit, out),) = folds(targets, seed=0, share=share)
    assert np.bincount(targets[out]).tolist() == held
    assert sorted([*fit, *out]) == list(range(40))


@pytest.mark.parametrize(("labels", "number"), [(998, 5), (1000, 1)])
def test_from_a_thousand_labels_on_one_split_is_held_out(labels: int, number: int) -> None:
    assert len(folds(samples(labels // 2, labels // 2).labels(), seed=0)) == number


def test_the_single_split_holds_out_a_fifth_of_each_class_and_one_of_a_rare_one() -> None:
    targets = samples(700, 400, 2).labels()
    [(fit, held)] = folds(targets, seed=0)
    assert np.bincount(targets[held]).tolist() == [140, 80, 1]
    assert sorted([*fit, *held]) == list(range(1102))


@pytest.mark.parametrize("many", [10, 2000])
def test_a_class_with_a_single_label_cannot_be_held_out(many: int) -> None:
    with pytest.raises(DataError, match=r"a single labeled sample.*data\.labels.*data\.validation"):
        folds(samples(many, 1).labels(), seed=0)


def test_a_share_of_each_class_is_held_out() -> None:
    _, held = hold_out(samples(10, 50), 0.2, what="test")
    assert np.bincount(samples(10, 50).labels()[held]).tolist() == [2, 10]


def test_what_is_held_out_and_what_is_kept_are_all() -> None:
    kept, held = hold_out(samples(7, 9), 0.3, what="test")
    assert sorted([*kept, *held]) == list(range(16))


def test_a_small_class_is_on_both_sides() -> None:
    kept, held = hold_out(samples(2, 30), 0.05, what="test")
    assert np.bincount(samples(2, 30).labels()[kept]).tolist()[0] == 1
    assert np.bincount(samples(2, 30).labels()[held]).tolist()[0] == 1


def test_a_class_of_one_sample_is_kept() -> None:
    kept, _ = hold_out(samples(1, 10), 0.5, what="test")
    assert 0 in kept


def test_what_it_is_held_out_for_changes_which() -> None:
    many = samples(100)
    assert hold_out(many, 0.2, what="test")[1].tolist() != hold_out(many, 0.2, what="validation")[1].tolist()


@pytest.mark.parametrize(("where", "share"), [("20%", 0.2), ("2.5%", 0.025), ("data/test", None), ("10", None)])
def test_a_share_is_told_from_a_place(where: str, share: float | None) -> None:
    assert share_of(where) == share


@pytest.mark.parametrize("where", ["0%", "100%", "120%"])
def test_all_or_nothing_cannot_be_held_out(where: str) -> None:
    with pytest.raises(RecipeError, match="held out"):
        share_of(where)
