from __future__ import annotations

import numpy as np

from tutelage.report.confusion import class_counts, confused_pairs, confusion_matrix

RANDOM = np.random.default_rng(3)
TARGETS = RANDOM.integers(0, 6, 400)
PREDICTED = np.where(RANDOM.random(400) < 0.7, TARGETS, RANDOM.integers(0, 7, 400))
CLASSES = 8
NONE = np.array([], dtype=np.int64)


def slow() -> np.ndarray:
    counts = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    for true, taken in zip(TARGETS, PREDICTED, strict=True):
        counts[true, taken] += 1
    return counts


def test_matrix_has_true_classes_down() -> None:
    np.testing.assert_array_equal(confusion_matrix(TARGETS, PREDICTED, CLASSES), slow())


def test_pairs_are_the_matrix_without_its_diagonal_in_falling_order() -> None:
    counts = slow()
    expected = [(t, p, counts[t, p]) for t in range(CLASSES) for p in range(CLASSES) if t != p and counts[t, p]]
    assert confused_pairs(TARGETS, PREDICTED) == sorted(expected, key=lambda pair: -pair[2])


def test_no_errors_are_no_pairs() -> None:
    assert confused_pairs(TARGETS, TARGETS) == []
    assert confused_pairs(NONE, NONE) == []


def test_classes_come_hardest_first_and_those_without_images_last() -> None:
    rows = class_counts(TARGETS, PREDICTED, CLASSES)
    shares = [row.correct / row.images for row in rows if row.images]
    assert shares == sorted(shares)
    assert [row.number for row in rows[-2:]] == [6, 7]
    assert [row.images for row in rows[-2:]] == [0, 0]


def test_classes_name_what_they_are_taken_for() -> None:
    off = slow()
    np.fill_diagonal(off, 0)
    for row in class_counts(TARGETS, PREDICTED, CLASSES):
        assert row.mistaken == off[row.number].max()
        assert row.mistaken == 0 or off[row.number, row.taken_for] == row.mistaken
