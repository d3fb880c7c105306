from __future__ import annotations

import pytest

from tutelage.models.preprocess import ImagePreprocess, preprocess_from_dict, preprocess_to_dict


def test_what_was_described_before_there_were_letterboxes_is_described_alike() -> None:
    """Target stores are found by it, and models of earlier days are read from it."""
    keys = {"kind", "size", "mean", "std", "interpolation", "crop"}
    assert set(preprocess_to_dict(ImagePreprocess(32))) == keys
    assert preprocess_from_dict(preprocess_to_dict(ImagePreprocess(32))) == ImagePreprocess(32, fit="center")


@pytest.mark.parametrize("preprocess", [ImagePreprocess(32, crop=0.9), ImagePreprocess(64, fit="letterbox")])
def test_a_preprocess_comes_back_from_its_description(preprocess: ImagePreprocess) -> None:
    assert preprocess_from_dict(preprocess_to_dict(preprocess)) == preprocess
