from __future__ import annotations

import numpy as np
import pytest

from tutelage.analysis.weights import summarize_weights

WIDTHS = {"clip": 4, "noise": 3}
WEIGHTS = np.array([0.9, 0.5, 0.6, 0.2, 0.1, 0.0, 1.0], dtype=np.float32)


def test_each_teacher_has_its_own_weights() -> None:
    found = summarize_weights(WEIGHTS, WIDTHS)
    assert list(found) == ["clip", "noise"]
    assert found["clip"].mean == pytest.approx(2.2 / 4)
    assert found["noise"].mean == pytest.approx(1.1 / 3)
    # Between the two neighbors, as far as a quarter, a half and three quarters of the way from first to last go.
    assert found["clip"].quartiles == pytest.approx((0.2 + 0.75 * 0.3, 0.55, 0.6 + 0.25 * 0.3))
    assert found["noise"].quartiles == pytest.approx((0.05, 0.1, 0.55))


def test_what_stayed_where_it_began_is_not_below() -> None:
    found = summarize_weights(WEIGHTS, WIDTHS)
    assert (found["clip"].below_start, found["noise"].below_start) == (0.25, pytest.approx(2 / 3))


def test_a_histogram_has_every_feature_once_the_ends_included() -> None:
    found = summarize_weights(WEIGHTS, WIDTHS, bins=2)
    assert found["clip"].histogram == (0.25, 0.75)
    assert found["noise"].histogram == pytest.approx((2 / 3, 1 / 3))


def test_a_weight_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match=r"7 weights, one a feature; got \[8\]"):
        summarize_weights(np.append(WEIGHTS, 0.5), WIDTHS)
