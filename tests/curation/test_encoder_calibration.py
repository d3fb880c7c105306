from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tutelage.curation import calibration
from tutelage.curation.calibration import calibrated, changed_copies, changed_copy
from tutelage.curation.embeddings import Embeddings
from tutelage.curation.originals import Originals
from tutelage.curation.thresholds import KNOWN
from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import IntArray, Samples

KNOWN_NAME = next(iter(KNOWN))
COUNT = 150


class Gallery:
    """Pictures; those that are asked for are kept."""

    def __init__(self, count: int = COUNT, *, repeats: int = 0) -> None:
        rng = np.random.default_rng(0)
        small = [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(count)]
        pictures = [np.asarray(Image.fromarray(each).resize((40, 30), Image.Resampling.BICUBIC)) for each in small]
        self.images = [*pictures[: count - repeats], *[pictures[0]] * repeats]
        self.asked: list[int] = []

    def samples(self, numbers: IntArray) -> Samples:
        self.asked += numbers.tolist()
        ids = tuple(f"{number}.png" for number in numbers)
        return Samples(ids, images=[self.images[number] for number in numbers], origin="a gallery")

    def vectors(self, numbers: IntArray) -> list[Any]:
        return embed(self.samples(numbers)).held


class Held:
    def __init__(self, held: list[Any]) -> None:
        self.held = held

    def take(self, rows: IntArray, encoder: int = 0) -> Any:
        return self.held[encoder][rows]


def embed(samples: Samples) -> Held:
    """Two encoders: one sees small pictures, the other no more than mean colors."""
    decoded = [Image.fromarray(decode_pixels(image)) for image in samples.images or ()]
    found = []
    for side in (8, 1):
        shrunk = [np.asarray(each.resize((side, side), Image.Resampling.BOX), np.float64).ravel() for each in decoded]
        centered = np.stack(shrunk) - 128
        found.append((centered / np.linalg.norm(centered, axis=1, keepdims=True)).astype(np.float16))
    return Held(found)


def judged(names: tuple[str, ...], gallery: Gallery | None = None) -> dict[str, calibration.EncoderThresholds]:
    gallery = gallery or Gallery()
    made = cast("Any", embed)
    return calibrated(names, cast("Originals", gallery), len(gallery.images), cast("Embeddings", made))  # type: ignore[arg-type]


def test_an_encoder_that_tells_copies_from_others_gets_a_threshold_between_them() -> None:
    sharp, gallery = judged(("sharp", "blurred"))["sharp"], Gallery()
    vectors = embed(gallery.samples(np.arange(COUNT))).held[0].astype(np.float64)
    others = vectors @ vectors.T
    np.fill_diagonal(others, -1)
    assert sharp.origin == "calibrated"
    assert sharp.values.duplicates == sharp.values.leaks
    assert sharp.values.leaks is not None
    assert (others.max(axis=1) < sharp.values.leaks).mean() > 0.99


def test_one_that_cannot_has_none_and_says_how_badly_it_would_do() -> None:
    blurred = judged(("sharp", "blurred"))["blurred"]
    assert (blurred.origin, blurred.values.duplicates, blurred.values.leaks) == ("none", None, None)
    assert blurred.calibration is not None
    assert not blurred.calibration.separable


def test_what_is_known_is_not_calibrated() -> None:
    gallery = Gallery()
    found = judged((KNOWN_NAME,), gallery)[KNOWN_NAME]
    assert (found.origin, found.values) == ("known", KNOWN[KNOWN_NAME])
    assert gallery.asked == []


def test_beside_a_known_encoder_another_one_is_calibrated() -> None:
    found = judged(("sharp", KNOWN_NAME))
    assert [each.origin for each in found.values()] == ["calibrated", "known"]
    assert list(found) == ["sharp", KNOWN_NAME]


def test_too_few_images_calibrate_nothing() -> None:
    found = judged(("sharp",), Gallery(99))["sharp"]
    assert (found.origin, found.calibration) == ("none", None)


def test_exact_copies_in_the_gallery_are_no_other_images() -> None:
    assert judged(("sharp", "blurred"), Gallery(COUNT + 20, repeats=20))["sharp"].origin == "calibrated"


def test_a_large_gallery_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST", 110)
    gallery = Gallery()
    judged(("sharp", "blurred"), gallery)
    assert len(set(gallery.asked)) == 110


def test_copies_are_the_same_whenever_they_are_made() -> None:
    samples = Gallery(5).samples(np.arange(5))
    assert changed_copies(samples).images == changed_copies(samples).images


def test_a_copy_is_a_little_smaller_and_close_to_the_image() -> None:
    picture = Gallery(1).images[0]
    for seed in range(20):
        copy = Image.open(io.BytesIO(changed_copy(picture, np.random.default_rng(seed))))
        assert (copy.format, copy.mode) == ("JPEG", "RGB")
        assert 0.6 * 40 < copy.width <= 40
        assert 0.6 * 30 < copy.height <= 30
        again = np.asarray(copy.resize((40, 30)), np.float64)
        assert np.abs(again - picture).mean() < 30


def test_a_copy_of_a_large_image_is_no_larger_than_needed() -> None:
    picture = np.zeros((300, 2000, 3), dtype=np.uint8)
    copy = Image.open(io.BytesIO(changed_copy(picture, np.random.default_rng(0))))
    assert max(copy.size) <= calibration.LARGEST


def test_a_tiny_image_has_a_copy() -> None:
    picture = np.zeros((1, 1, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(changed_copy(picture, np.random.default_rng(0)))).size == (1, 1)
