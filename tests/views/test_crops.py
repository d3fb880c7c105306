from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.views import OPERATIONS, POLICIES, ViewPolicy, Views, render, sample_views
from tutelage.views.crops import cut_each, cut_together, filter_weights, resized
from tutelage.views.operations import apply_operations

CPU = torch.device("cpu")
# Wide and tall, enlarged and shrunk, one pixel, and as large as the result.
EXTENTS = [(96, 96), (60, 71), (13, 40), (120, 30), (1, 1), (1, 50), (3, 2), (32, 32), (32, 90), (128, 128)]


def pictures(extents: list[tuple[int, int]]) -> list[Tensor]:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (3, *extent), dtype=np.uint8) for extent in extents]
    # Black and white overshoots most.
    return [torch.from_numpy(image if row % 2 else (image > 127) * np.uint8(255)) for row, image in enumerate(noise)]


def cut(function: Any, images: list[Tensor], boxes: Any, **options: Any) -> Tensor:
    result = function(images, np.array(boxes), 32, **({"exact": False, "device": CPU} | options))
    assert isinstance(result, Tensor)
    assert result.is_contiguous()
    return result


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_cut_together_are_those_that_the_8_bit_kernel_cuts(interpolation: Any) -> None:
    images = pictures(EXTENTS)
    boxes = [(0, 0, *extent) for extent in EXTENTS]
    together = cut(cut_together, images, boxes, interpolation=interpolation)
    # None of these is shrunk by more than 4, so fixed-point sums are exact.
    assert torch.equal(together, cut(cut_each, images, boxes, interpolation=interpolation))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_shrunk_a_lot_may_differ_by_one_level(interpolation: Any) -> None:
    images = pictures([(400, 300), (500, 500), (90, 700)])
    boxes = [(5, 7, 390, 280), (0, 0, 500, 500), (0, 3, 64, 640)]
    together = cut(cut_together, images, boxes, interpolation=interpolation).int()
    difference = (together - cut(cut_each, images, boxes, interpolation=interpolation).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= 0.001


# Where in results of 32 x 32 pixels each crop is put.
PLACES = [
    (0, 0, 32, 32),
    (0, 0, 20, 32),
    (12, 0, 20, 9),
    (5, 7, 20, 11),
    (31, 31, 1, 1),
    (0, 3, 32, 1),
    (3, 0, 29, 32),
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("exact", [False, True])
def test_crops_put_into_places_are_the_same_cut_together(interpolation: Any, exact: bool) -> None:
    extents = [(40, 60), (20, 32), (61, 30), (20, 40), (3, 2), (1, 1), (100, 40)]
    images = pictures(extents)
    options = {"interpolation": interpolation, "places": np.array(PLACES), "exact": exact}
    boxes = [(0, 0, *extent) for extent in extents]
    each, together = (cut(function, images, boxes, **options) for function in (cut_each, cut_together))
    torch.testing.assert_close(together, each, atol=1e-3 if exact else 1, rtol=0)


@pytest.mark.parametrize("function", [cut_each, cut_together])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_around_its_place_a_crop_is_zero_and_within_it_the_resized_box(interpolation: Any, function: Any) -> None:
    places = [place for place in PLACES if place[2] > 1]
    images = pictures([(90, 70)] * len(places))
    boxes = [(5, 3, 40, 30)] * len(places)
    got = cut(function, images, boxes, interpolation=interpolation, places=np.array(places), exact=True)
    for image, view, (top, left, height, width) in zip(images, got, places, strict=True):
        part = image[None, :, 5:45, 3:33].double()
        # Turned for the width, since torch itself misreads results that are one pixel wide.
        tall = F.interpolate(part, size=(height, 30), mode=interpolation, antialias=True).mT
        wide = F.interpolate(tall, size=(width, height), mode=interpolation, antialias=True)[0].mT.clamp(0, 255)
        expected = torch.zeros(3, 32, 32, dtype=torch.float64)
        expected[:, top : top + height, left : left + width] = wide
        torch.testing.assert_close(view.double(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("function", [cut_each, cut_together])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_exact_crops_are_those_of_float64(interpolation: Any, function: Any) -> None:
    images = pictures(EXTENTS)
    boxes = [(0, 0, *extent) for extent in EXTENTS]
    exact = cut(function, images, boxes, interpolation=interpolation, exact=True)
    for image, crop in zip(images, exact, strict=True):
        wide = F.interpolate(image[None].double(), size=(32, 32), mode=interpolation, antialias=True)[0]
        torch.testing.assert_close(crop.double(), wide.clamp(0, 255), atol=0.01, rtol=0)


@pytest.mark.parametrize("function", [cut_each, cut_together])
def test_a_crop_sees_nothing_outside_its_box(function: Any) -> None:
    image = pictures([(50, 60)])[0]
    inside = image[:, 10:40, 5:45].clone()
    got = cut(function, [image], [(10, 5, 30, 40)], interpolation="bicubic")
    assert torch.equal(got, cut(function, [inside], [(0, 0, 30, 40)], interpolation="bicubic"))


def test_padding_does_not_matter() -> None:
    crops = torch.stack(pictures([(40, 40)] * 3))
    extents = np.array([(40, 40), (17, 33), (1, 5)])
    other = crops.clone()
    for row, (height, width) in enumerate(extents):
        other[row, :, height:] = 0
        other[row, :, :, width:] = 255
    assert torch.equal(resized(crops, extents, 24), resized(other, extents, 24))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_filter_weights_sum_to_one_and_are_zero_where_pixels_do_not_count(interpolation: Any) -> None:
    lengths = torch.tensor([1, 2, 7, 30, 77])
    weights = filter_weights(lengths, 80, 16, interpolation)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 16, dtype=torch.float64))
    for row, length in zip(weights, lengths.tolist(), strict=True):
        assert not row[:, length:].any()


def test_an_image_may_lie_in_memory_in_any_way() -> None:
    image = pictures([(40, 50)])[0]
    box = [(3, 4, 30, 33)]
    wide = torch.zeros(3, 80, 100, dtype=torch.uint8)
    wide[:, ::2, ::2] = image
    gray = image[:1].expand(3, -1, -1)
    packed = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    expected = cut(cut_each, [image], box, interpolation="bilinear")
    for same in (wide[:, ::2, ::2], packed):
        assert torch.equal(cut(cut_each, [same], box, interpolation="bilinear"), expected)
    mixed = cut(cut_each, [packed, image, packed], box * 3, interpolation="bilinear")
    assert torch.equal(mixed, expected.expand(3, -1, -1, -1))
    assert torch.equal(
        cut(cut_each, [gray], box, interpolation="bilinear"),
        cut(cut_each, [gray.clone()], box, interpolation="bilinear"),
    )


def many_views(policy: ViewPolicy, images: list[Tensor]) -> Views:
    rows = np.arange(len(images))
    aspects = np.array([image.shape[2] / image.shape[1] for image in images])
    return sample_views(policy, rows.astype(np.uint64), rows, rows, seed=0, aspects=aspects, partners=None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("exact", [False, True])
def test_a_cuda_device_cuts_what_the_cpu_cuts(exact: bool) -> None:
    images = pictures([(70 + 5 * (row % 9), 60 + 7 * (row % 11)) for row in range(200)])
    bare = POLICIES["full"].model_copy(update={"ops": 0})
    views = many_views(bare, images)
    there = render(images, views, 64, exact=exact, device=torch.device("cuda"))
    assert there.device.type == "cuda"
    here = render(images, views, 64, exact=exact)
    assert (there.cpu() - here).abs().max() * 255 <= (0.15 if exact else 1.001)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_a_cuda_device_makes_of_8_bit_images_what_the_cpu_makes(name: str) -> None:
    images = torch.stack(pictures([(64, 64)] * 40))
    ops = np.full((40, 1), list(OPERATIONS).index(name))
    operation = OPERATIONS[name]
    strengths = np.linspace(operation.weakest, operation.strongest, 40, dtype=np.float32)[:, None]
    there = apply_operations(images.cuda(), ops, strengths).cpu().int()
    difference = (there - apply_operations(images, ops, strengths).int()).abs()
    assert difference.max() <= operation.tolerance
