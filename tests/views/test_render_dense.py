from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from tutelage.data.masks import IGNORED
from tutelage.errors import DataError, RecipeError
from tutelage.runtime.letterbox import fitted
from tutelage.views import (
    POLICIES,
    DensePolicy,
    DenseViews,
    ViewPolicy,
    Views,
    center_views,
    render_dense,
    sample_views,
    whole_views,
)

DENSE = POLICIES["dense"]
PLAIN = ViewPolicy(flip=0.5, dense=DensePolicy(scale=(0.5, 1.5)))
TURNED = ViewPolicy(flip=0.5, dense=DensePolicy(scale=(0.5, 1.5), rotate=45.0))
COLORS = ViewPolicy(dense=DensePolicy(scale=(0.5, 1.5), blur=0.5, distort=0.5))
EXTENTS = [(40, 60), (61, 37), (100, 100), (33, 90), (20, 24)]


def pictures(count: int, seed: int = 0) -> list[Tensor]:
    """Smooth colors with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for row in range(count):
        height, width = EXTENTS[row % len(EXTENTS)]
        coarse = torch.rand(1, 3, 5, 6, generator=generator) * 255
        smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
        noise = 10 * torch.randn(3, height, width, generator=generator)
        images.append((smooth + noise).clamp(0, 255).to(torch.uint8))
    return images


def masks_of(images: list[Tensor]) -> list[Tensor]:
    rng = np.random.default_rng(1)
    return [torch.from_numpy(rng.integers(IGNORED, 6, image.shape[1:]).astype(np.int16)) for image in images]


def views_of(images: list[Tensor], policy: ViewPolicy, seed: int = 0) -> Views:
    rows = np.arange(len(images))
    aspects = np.array([image.shape[2] / image.shape[1] for image in images])
    return sample_views(policy, rows.astype(np.uint64), rows, rows, seed=seed, aspects=aspects, partners=None)


def of(views: Views) -> DenseViews:
    assert views.dense is not None
    return views.dense


def rendered(images: list[Tensor], views: Views, size: int = 32, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    pixels, targets, valid = render_dense(images, masks_of(images), views, size, **options)
    assert targets is not None
    return pixels, targets, valid


def edges(start: float, length: float, pixels: int, size: int) -> tuple[int, int, int, int]:
    """First and end of what is cut of so many pixels, and of where it is put in the view."""

    def rounded(value: float) -> int:
        return math.floor(value + 0.5)

    first, end = max(rounded(start * pixels), 0), min(rounded((start + length) * pixels), pixels)
    top, bottom = max(rounded(-start / length * size), 0), min(rounded((1 - start) / length * size), size)
    return first, end, top, bottom


def slow(mask: Tensor, crop: Any, flip: bool, angle: float, size: int) -> tuple[Tensor, Tensor]:
    """What a view's targets and valid pixels are, pixel by pixel."""
    targets, valid = torch.full((size, size), IGNORED), torch.zeros(size, size, dtype=torch.bool)
    first, end, top, bottom = edges(crop[0], crop[2], mask.shape[0], size)
    begin, stop, left, right = edges(crop[1], crop[3], mask.shape[1], size)
    cos, sin, middle = math.cos(math.radians(angle)), math.sin(math.radians(angle)), (size - 1) / 2
    for i in range(size):
        for j in range(size):
            down, across = i - middle, j - middle
            row = math.floor(sin * across + cos * down + middle + 0.5)
            column = math.floor(cos * across - sin * down + middle + 0.5)
            if not (0 <= row < size and 0 <= column < size):
                continue
            column = size - 1 - column if flip else column
            if not (top <= row < bottom and left <= column < right):
                continue
            y = first + math.floor((row - top + 0.5) * (end - first) / (bottom - top))
            x = begin + math.floor((column - left + 0.5) * (stop - begin) / (right - left))
            valid[i, j], targets[i, j] = True, int(mask[y, x])
    return targets, valid


@pytest.mark.parametrize("policy", [PLAIN, TURNED, DENSE])
@pytest.mark.parametrize("size", [16, 33])
def test_targets_and_valid_pixels_are_those_found_one_at_a_time(policy: ViewPolicy, size: int) -> None:
    images = pictures(12)
    views = views_of(images, policy)
    _, targets, valid = rendered(images, views, size)
    assert targets.dtype == torch.int64
    for row, mask in enumerate(masks_of(images)):
        expected = slow(mask, views.crop[row], bool(views.flip[row]), float(of(views).angle[row]), size)
        assert torch.equal(targets[row], expected[0])
        assert torch.equal(valid[row], expected[1])


@pytest.mark.parametrize("policy", [PLAIN, TURNED])
def test_masks_move_with_their_images(policy: ViewPolicy) -> None:
    # Red and green of a pixel are its place; classes are strips of 32 pixels across, of 24 down.
    height, width, size = 96, 160, 64
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, y * 0]).to(torch.uint8)
    mask = (x // 32 + 5 * (y // 24)).to(torch.int16)
    views = views_of([image] * 20, policy)
    pixels, targets, valid = render_dense([image] * 20, [mask] * 20, views, size)
    assert targets is not None
    across, down = (pixels[:, channel] * 255 + 0.5 for channel in (0, 1))  # where pixels' centers are, from edge 0
    step = 160 / 64  # at least as many pixels of the image as there are in one of any view
    sure = valid.clone()
    for place, strip, strips in ((across, 32, 5), (down, 24, 4)):
        border = place / strip
        sure &= ((border - border.round()).abs() * strip > 1.5 * step) | (border.round() % strips == 0)
    found = (across // 32).clamp(max=4) + 5 * (down // 24).clamp(max=3)
    assert torch.equal(found[sure].long(), targets[sure])
    assert sure.float().mean() > 0.3


def test_pixels_lie_where_the_crop_says() -> None:
    height, width, size = 90, 120, 48
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([x, y, y * 0]).to(torch.uint8)
    views = replace(views_of([image] * 20, PLAIN), flip=np.zeros(20, np.bool_))
    pixels, _, valid = render_dense([image] * 20, None, views, size, exact=True)
    middles = (torch.arange(size) + 0.5) / size
    for row in range(20):
        top, left, tall, wide = views.crop[row].tolist()
        expected = torch.stack(
            [
                ((left + wide * middles) * width - 0.5).expand(size, -1),
                ((top + tall * middles) * height - 0.5)[:, None].expand(-1, size),
            ]
        )
        away = (pixels[row, :2] * 255 - expected).abs().amax(0)
        inner = valid[row].clone()
        # Edges are rounded to whole pixels of the image, or of the view.
        allowed = 0.51 + 0.51 * wide * width / size
        # At the image's own edges the filter has fewer pixels than it would take.
        inner &= (expected[0] > 4) & (expected[0] < width - 5) & (expected[1] > 4) & (expected[1] < height - 5)
        assert away[inner].max() < allowed


def test_what_is_not_valid_is_black_and_ignored() -> None:
    images = [torch.full_like(image, 200) for image in pictures(30)]
    views = views_of(images, DENSE)
    pixels, targets, valid = rendered(images, views)
    assert 0.05 < 1 - valid.float().mean() < 0.8
    assert not pixels.movedim(1, -1)[~valid].any()
    assert (targets[~valid] == IGNORED).all()


def test_padding_has_no_share_in_valid_pixels() -> None:
    # In a view of one color, all valid pixels have it; also where rotation blends them with what is outside.
    images = [torch.full_like(image, 200) for image in pictures(30)]
    pixels, _, valid = rendered(images, views_of(images, TURNED))
    torch.testing.assert_close(pixels.movedim(1, -1)[valid], torch.full((int(valid.sum()), 3), 200 / 255))


def test_valid_says_nothing_of_what_masks_ignore() -> None:
    images = pictures(5)
    views = views_of(images, PLAIN)
    nothing = [torch.full_like(mask, IGNORED) for mask in masks_of(images)]
    _, targets, valid = render_dense(images, nothing, views, 16)
    assert targets is not None
    assert (targets == IGNORED).all()
    assert torch.equal(valid, rendered(images, views, 16)[2])


@pytest.mark.parametrize("policy", [DENSE, POLICIES["dense-light"]])
def test_without_masks_pixels_and_validity_are_the_same(policy: ViewPolicy) -> None:
    images = pictures(10)
    views = views_of(images, policy)
    pixels, targets, valid = render_dense(images, None, views, 24)
    expected = rendered(images, views, 24)
    assert targets is None
    assert torch.equal(pixels, expected[0])
    assert torch.equal(valid, expected[2])


@pytest.mark.parametrize("policy", [DENSE, POLICIES["dense-light"]])
def test_a_rendered_dense_view_does_not_depend_on_its_batch(policy: ViewPolicy) -> None:
    images, order = pictures(20), np.random.default_rng(0).permutation(20)
    masks, views = masks_of(images), views_of(images, policy)
    whole = render_dense(images, masks, views, 24)
    shuffled = render_dense([images[row] for row in order], [masks[row] for row in order], views[order], 24)
    single = render_dense(images[4:5], masks[4:5], views[4:5], 24)
    for every, mixed, one in zip(whole, shuffled, single, strict=True):
        assert every is not None
        assert mixed is not None
        assert torch.equal(mixed, every[torch.from_numpy(order)])
        assert one is not None
        assert torch.equal(one, every[4:5])


def test_whole_images_are_the_letterboxes_that_evaluation_sees() -> None:
    images, size = pictures(10), 48
    views = whole_views(np.array([image.shape[2] / image.shape[1] for image in images]))
    pixels, _, valid = render_dense(images, None, views, size, exact=True)
    for image, view, seen in zip(images, pixels, valid, strict=True):
        height, width = fitted(image.shape[1], image.shape[2], size)
        resized = F.interpolate(image[None].double() / 255, (height, width), mode="bilinear", antialias=True)[0]
        expected = F.pad(resized, (0, size - width, 0, size - height))
        torch.testing.assert_close(view.double(), expected, atol=1e-6, rtol=0)
        assert torch.equal(seen, F.pad(torch.ones(height, width), (0, size - width, 0, size - height)).bool())


def test_rotated_pixels_are_torchvisions() -> None:
    images = pictures(16)
    views = views_of(images, TURNED)
    straight, _, inside = rendered(images, replace(views, dense=replace(of(views), angle=np.zeros(16, np.float32))))
    got, _, valid = rendered(images, views)
    for before, known, after, shown, angle in zip(
        straight, inside, got, valid, of(views).angle.tolist(), strict=True
    ):
        mode = InterpolationMode.BILINEAR
        expected = v2.functional.rotate(before, angle, interpolation=mode)
        whole = v2.functional.rotate(known[None].float(), angle, interpolation=mode)[0] > 1 - 1e-4
        assert (shown | ~whole).all()
        assert (after - expected).abs()[:, whole].max() < 2e-3


def test_colors_change_as_torchvisions_do_and_in_order() -> None:
    images = pictures(60)
    views = views_of(images, COLORS)
    dense = of(views)
    none = np.zeros(60, np.float32)
    plain = replace(dense, blur=none, brightness=none, contrast=none, saturation=none, hue=none)
    before = render_dense(images, None, replace(views, dense=plain), 24)[0]
    got, _, valid = render_dense(images, None, replace(views, dense=replace(dense, blur=none)), 24)
    for row, view in enumerate(before):
        image = (view * 255).round().to(torch.uint8)
        steps: list[tuple[Any, float]] = [
            (v2.functional.adjust_brightness, 1.0 + float(dense.brightness[row])),
            (v2.functional.adjust_saturation, 1.0 + float(dense.saturation[row])),
            (v2.functional.adjust_hue, float(dense.hue[row])),
        ]
        steps.insert(
            3 if dense.contrast_last[row] else 1, (v2.functional.adjust_contrast, 1.0 + float(dense.contrast[row]))
        )
        for change, strength in steps:
            if strength not in (0.0, 1.0):
                image = change(image, strength)
        assert torch.equal(got[row], image.float() / 255 * valid[row])
    assert {bool(last) for last, contrast in zip(dense.contrast_last, dense.contrast, strict=True) if contrast} == {
        True,
        False,
    }


@pytest.mark.parametrize("size", [64, 120])
def test_a_blur_is_a_gaussian_of_its_share_of_the_view(size: int) -> None:
    image, share = pictures(1, seed=3)[0], 1.5 / size
    views = views_of([image], PLAIN)
    views = replace(views, crop=np.array([[0.1, 0.1, 0.8, 0.8]]), flip=np.zeros(1, np.bool_))
    before, _, _ = render_dense([image], None, views, size)
    views = replace(views, dense=replace(of(views), blur=np.array([share], np.float32)))
    got, _, _ = render_dense([image], None, views, size)
    away = torch.arange(-5, 6, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (away / 1.5) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = F.pad(before.double(), (5, 5, 5, 5), mode="reflect")
    expected = F.conv2d(padded.transpose(0, 1), kernel[None, None]).transpose(0, 1)
    assert (got - expected).abs().max() < 0.6 / 255


def test_exact_views_are_not_rounded_to_8_bits() -> None:
    images = pictures(4)
    views = views_of(images, PLAIN)
    exact, rounded = (render_dense(images, None, views, 24, exact=exact)[0] for exact in (True, False))
    assert (exact - rounded).abs().max() <= 1.01 / 255  # along the width, then along the height
    assert (exact * 255 - (exact * 255).round()).abs().max() > 0.4


def test_images_and_masks_are_not_changed() -> None:
    images = pictures(8)
    masks = masks_of(images)
    kept = [each.clone() for each in (*images, *masks)]
    render_dense(images, masks, views_of(images, DENSE), 24)
    assert all(torch.equal(one, other) for one, other in zip((*images, *masks), kept, strict=True))


def test_no_images_make_no_views() -> None:
    pixels, targets, valid = render_dense([], [], whole_views(np.zeros(0)), 16)
    assert targets is not None
    assert (pixels.shape, targets.shape, valid.shape) == ((0, 3, 16, 16), (0, 16, 16), (0, 16, 16))
    assert (targets.dtype, valid.dtype) == (torch.int64, torch.bool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks[:1], "1 masks for 2 images"),
        (lambda masks: [masks[0], masks[1][:, :-1]], "mask 1 is"),
        (lambda masks: [masks[0].long(), masks[1]], "mask 0 is torch.int64"),
    ],
)
def test_masks_that_do_not_fit_their_images_are_refused(change: Any, message: str) -> None:
    images = pictures(2)
    with pytest.raises(DataError, match=message):
        render_dense(images, change(masks_of(images)), views_of(images, PLAIN), 16)


def test_views_that_are_not_dense_are_refused() -> None:
    with pytest.raises(DataError, match="not dense"):
        render_dense(pictures(1), None, center_views(np.ones(1), 1.0), 16)


def test_exact_views_with_other_colors_are_refused() -> None:
    images = pictures(20)
    with pytest.raises(RecipeError, match="8 bits"):
        render_dense(images, None, views_of(images, COLORS), 16, exact=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("policy", [PLAIN, DENSE])
def test_a_gpu_cuts_the_same_dense_views(policy: ViewPolicy) -> None:
    images = pictures(20)
    views = views_of(images, policy)
    expected = rendered(images, views)
    got = rendered(images, views, device=torch.device("cuda"))
    assert torch.equal(got[1].cpu(), expected[1])
    assert torch.equal(got[2].cpu(), expected[2])
    assert (got[0].cpu() - expected[0]).abs().mean() < 1e-3
