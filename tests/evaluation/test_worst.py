"""The images that a segmenter tells worst, and their pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tutelage.data.masks import IGNORED, Mask, MaskCode
from tutelage.data.samples import ImageSource, Samples
from tutelage.evaluation.worst import GRAY, LUMA, MOST, SIDE, STRENGTH, lowest, overlaid, write_worst
from tutelage.runtime.palette import default_palette
from tutelage.tasks.segmentation import pixel_counts

CLASSES = ("ground", "tree", "sky")
N = 20
COLORS = ((5, 6, 7), (90, 80, 70), (250, 240, 230))


def masks_of(rows: int = N, shape: tuple[int, int] = (8, 10)) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    found = [random.integers(0, 3, shape).astype(np.uint8) for _ in range(rows)]
    for mask in found:
        mask[0, :4] = 255
    return found


def samples_of(images: Sequence[ImageSource], masks: Sequence[np.ndarray], code: MaskCode | None = None) -> Samples:
    ids = tuple(f"photo {row}\udce9" for row in range(len(images)))
    pairs = [Mask(mask, code or MaskCode()) for mask in masks]
    return Samples(ids=ids, images=list(images), masks=pairs, classes=CLASSES)


def pixels_of(rows: int = N, shape: tuple[int, int] = (8, 10)) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.integers(0, 256, (*shape, 3)).astype(np.uint8) for _ in range(rows)]


def one(images: Sequence[ImageSource]) -> Iterable[Tensor]:
    """Tell that all is tree."""
    return (torch.ones(image.shape[:2], dtype=torch.int64) for image in images if isinstance(image, np.ndarray))


def counts_of(masks: Sequence[np.ndarray]) -> Tensor:
    """What is counted where all is told to be tree."""
    truths = [torch.from_numpy(np.where(mask == 255, IGNORED, mask.astype(np.int64))) for mask in masks]
    return torch.stack([pixel_counts(torch.ones_like(truth), truth, 3) for truth in truths])


def written(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "worst.json").read_text())["worst"]
    return found


def image_iou(truth: np.ndarray, told: np.ndarray) -> float:
    """Return the mean over the classes in an image's truth or prediction, where pixels count."""
    counted = truth != 255
    found = []
    for number in range(3):
        one, other = counted & (truth == number), counted & (told == number)
        if (one | other).any():
            found.append((one & other).sum() / (one | other).sum())
    return float(np.mean(found))


def test_the_lowest_iou_comes_first() -> None:
    masks = masks_of()
    shares = [image_iou(mask, np.ones_like(mask)) for mask in masks]
    assert lowest(counts_of(masks)) == sorted(range(N), key=lambda row: shares[row])[:MOST]


def test_images_that_are_level_keep_their_order() -> None:
    assert lowest(counts_of(masks_of(1)).repeat(N, 1, 1), 5) == [0, 1, 2, 3, 4]


def test_images_without_an_error_or_a_pixel_that_counts_are_none_of_them() -> None:
    right, ignored = np.ones((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert lowest(counts_of([right, ignored, np.zeros((4, 4), np.uint8)])) == [2]


def test_each_says_how_well_it_was_told_and_by_the_teacher(tmp_path: Path) -> None:
    masks = masks_of()
    teacher = counts_of(masks).flip(0)
    write_worst(tmp_path, samples_of(pixels_of(), masks), one, counts_of(masks), teacher)
    assert len(written(tmp_path)) == MOST
    for each in written(tmp_path):
        row = int(each["id"].removeprefix("photo ").rstrip("\udce9"))
        assert each["iou"] == pytest.approx(image_iou(masks[row], np.ones_like(masks[row])))
        assert each["teacher"] == pytest.approx(image_iou(masks[N - 1 - row], np.ones_like(masks[row])))


def test_without_a_teacher_there_is_none_to_tell(tmp_path: Path) -> None:
    masks = masks_of()
    write_worst(tmp_path, samples_of(pixels_of(), masks), one, counts_of(masks), None)
    assert {each["teacher"] for each in written(tmp_path)} == {None}


def test_pictures_are_the_image_and_both_masks_over_it(tmp_path: Path) -> None:
    masks, pixels = masks_of(), pixels_of()
    shown = samples_of(pixels, masks)
    write_worst(tmp_path, shown, one, counts_of(masks), None)
    for each in written(tmp_path):
        row = shown.ids.index(each["id"])
        truth = np.where(masks[row] == 255, IGNORED, masks[row].astype(np.int64))
        palette = default_palette(3)
        expected = {
            "image": pixels[row],
            "truth": overlaid(pixels[row], truth, palette),
            "prediction": overlaid(pixels[row], np.where(truth == IGNORED, IGNORED, 1), palette),
        }
        assert set(each["pictures"]) == set(expected)
        for part, name in each["pictures"].items():
            with Image.open(tmp_path / name) as picture:
                np.testing.assert_array_equal(np.asarray(picture), expected[part])


def test_the_classes_that_are_shown_have_their_colors(tmp_path: Path) -> None:
    masks = [np.full((8, 10), number, np.uint8) for number in (0, 2)]
    write_worst(tmp_path, samples_of(pixels_of(2), masks), one, counts_of(masks), None)
    palette = [list(color) for color in default_palette(3)]
    ground, tree, sky = ([name, color] for name, color in zip(CLASSES, palette, strict=True))
    assert [each["classes"] for each in written(tmp_path)] == [[ground, tree], [tree, sky]]


def test_images_with_pixels_that_do_not_count_are_marked(tmp_path: Path) -> None:
    masks = [np.zeros((8, 10), np.uint8), *masks_of(1)]
    write_worst(tmp_path, samples_of(pixels_of(2), masks), one, counts_of(masks), None)
    assert {each["id"][:7]: each["ignored"] for each in written(tmp_path)} == {"photo 0": False, "photo 1": True}


def test_colors_of_the_masks_come_before_those_of_ours(tmp_path: Path) -> None:
    code = MaskCode(tuple((color, number) for number, color in enumerate(COLORS)))
    colored = [np.array(COLORS, np.uint8)[np.zeros((8, 10), np.int64)]]
    write_worst(tmp_path, samples_of(pixels_of(1), colored, code), one, counts_of([np.zeros((8, 10))]), None)
    assert written(tmp_path)[0]["classes"] == [["ground", list(COLORS[0])], ["tree", list(COLORS[1])]]


def test_images_that_are_gone_or_damaged_are_left_out(tmp_path: Path) -> None:
    masks = masks_of(3)
    images: list[ImageSource] = [tmp_path / "gone.png", b"no image", pixels_of(1)[0]]
    write_worst(tmp_path, samples_of(images, masks), one, counts_of(masks), None)
    assert [each["id"][:7] for each in written(tmp_path)] == ["photo 2"]


def test_large_images_are_small_pictures_of_the_same_shape(tmp_path: Path) -> None:
    masks = masks_of(1, (300, 600))
    write_worst(tmp_path, samples_of(pixels_of(1, (300, 600)), masks), one, counts_of(masks), None)
    (each,) = written(tmp_path)
    for name in each["pictures"].values():
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (SIDE, SIDE // 2)


def test_a_color_lies_over_shades_of_gray_and_gray_over_what_does_not_count() -> None:
    image = np.array([[[10, 200, 30], [50, 60, 70]]], np.uint8)
    found = overlaid(image, np.array([[1, IGNORED]]), COLORS)
    shades = (image.astype(float) * LUMA).sum(-1)
    over = [np.array(COLORS[1]), np.full(3, GRAY)]
    for column in range(2):
        expected = (1 - STRENGTH) * shades[0, column] + STRENGTH * over[column]
        np.testing.assert_allclose(found[0, column], expected, atol=0.51)


def test_images_without_masks_have_no_pictures(tmp_path: Path) -> None:
    unlabeled = Samples(ids=("a",), images=pixels_of(1), classes=CLASSES)
    write_worst(tmp_path, unlabeled, one, counts_of(masks_of(1)), None)
    assert list(tmp_path.iterdir()) == []
