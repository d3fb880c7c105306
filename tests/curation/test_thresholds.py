from __future__ import annotations

import numpy as np
import pytest

from tutelage.curation.thresholds import Thresholds, calibrate, duplicate_threshold, leak_thresholds
from tutelage.errors import DataError

OPENAI, DATACOMP = "openclip:ViT-L-14/openai", "openclip:ViT-L-14/datacomp_xl_s13b_b90k"


def test_the_source_s_encoders_have_its_thresholds() -> None:
    assert duplicate_threshold([OPENAI, DATACOMP]) == 0.99
    assert leak_thresholds([OPENAI, DATACOMP]) == [0.95, 0.95]


def test_one_unknown_encoder_leaves_no_threshold() -> None:
    assert duplicate_threshold([OPENAI, "bundled:efficientnet-lite0"]) is None
    assert leak_thresholds([OPENAI, "bundled:efficientnet-lite0"]) is None


def test_calibrated_thresholds_come_first_and_the_mean_holds_for_the_mean_similarity() -> None:
    calibrated = {"a": Thresholds(0.8, 0.7), DATACOMP: Thresholds(0.9, 0.6)}
    assert duplicate_threshold(["a", DATACOMP], calibrated) == pytest.approx(0.85)
    assert leak_thresholds(["a", DATACOMP, OPENAI], calibrated) == [0.7, 0.6, 0.95]


def test_between_kinds_that_do_not_overlap_the_threshold_is_half_way() -> None:
    found = calibrate(np.linspace(0.9, 1.0, 100), np.linspace(0.2, 0.8, 300))
    assert found.threshold == pytest.approx(0.85)
    assert (found.recall, found.false_alarms, found.separable) == (1.0, 0.0, True)


def test_the_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    copies, others = rng.normal(0.9, 0.05, 200).round(2), rng.normal(0.7, 0.1, 150).round(2)
    found = calibrate(copies, others)
    gains = [(copies > cut).mean() - (others > cut).mean() for cut in np.arange(0.3, 1.2, 0.005)]
    assert found.recall - found.false_alarms == pytest.approx(max(gains))
    assert found.recall == (copies > found.threshold).mean()
    assert found.false_alarms == (others > found.threshold).mean()
    assert not found.separable


def test_a_few_true_copies_among_the_others_do_no_harm() -> None:
    others = np.concatenate([np.linspace(0.2, 0.8, 300), [0.99, 0.999]])
    found = calibrate(np.linspace(0.9, 1.0, 100), others)
    assert found.threshold == pytest.approx(0.85)
    assert found.separable


def test_an_encoder_to_which_all_is_alike_cannot_be_calibrated() -> None:
    assert not calibrate(np.ones(100), np.ones(100)).separable


def test_few_similarities_choose_no_threshold() -> None:
    with pytest.raises(DataError, match="got 100 and 99"):
        calibrate(np.ones(100), np.zeros(99))


def test_similarities_that_are_not_finite_choose_no_threshold() -> None:
    with pytest.raises(DataError, match="finite"):
        calibrate(np.full(100, np.nan), np.zeros(100))
