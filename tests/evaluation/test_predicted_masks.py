"""Masks that a model predicts, at the images' own sizes."""

from __future__ import annotations

import itertools
from collections.abc import Set as AbstractSet

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tutelage.evaluation.pixels import nearest, predict_masks, window_starts
from tutelage.models.outputs import Outputs


class Brightest(nn.Module):
    """A stand-in for a model: the logits of a pixel are its colors."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, raw: Tensor, needs: AbstractSet[str], *, size: int | None = None) -> Outputs:
        self.shapes.append(tuple(raw.shape))
        return Outputs(logits=raw)


def striped(height: int, width: int) -> np.ndarray:
    """An image of three vertical stripes: red, green, blue."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        image[:, width * channel // 3 : width * (channel + 1) // 3, channel] = 255
    return image


def predicted(images: list[np.ndarray], **how: object) -> list[Tensor]:
    model = Brightest()
    return list(predict_masks(model, images, **how))  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize(("height", "width"), [(30, 60), (60, 30), (16, 16), (9, 48), (120, 90)])
def test_every_pixel_is_told_at_the_images_own_size(height: int, width: int, window: bool) -> None:
    (mask,) = predicted([striped(height, width)], size=24, window=window)
    truth = torch.from_numpy(striped(height, width).argmax(2))
    assert mask.shape == (height, width)
    assert float((mask == truth).float().mean()) > 0.85


def test_images_keep_their_order_and_sizes() -> None:
    sizes = [(20 + n, 40 - n) for n in range(20)]
    assert [tuple(mask.shape) for mask in predicted([striped(*size) for size in sizes], size=16)] == sizes


def test_the_model_sees_squares_alone() -> None:
    model = Brightest()
    list(predict_masks(model, [striped(10, 40), striped(40, 10)], size=16))  # type: ignore[arg-type]
    assert {shape[2:] for shape in model.shapes} == {(16, 16)}


def test_what_is_restored_to_its_own_size_is_the_same() -> None:
    mask = torch.arange(12).reshape(3, 4)
    assert torch.equal(nearest(mask, 3, 4), mask)


def test_a_mask_is_doubled_by_repeating() -> None:
    mask = torch.arange(6).reshape(2, 3)
    assert torch.equal(nearest(mask, 4, 6), mask.repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize("extent", [8, 9, 12, 13, 24, 40, 41, 100])
def test_windows_cover_all_and_overlap_by_a_third(extent: int) -> None:
    size = 12
    starts = window_starts(extent, size)
    assert starts[0] == 0
    assert starts[-1] == max(0, extent - size)
    assert all(0 < later - earlier <= 8 for earlier, later in itertools.pairwise(starts))


def test_a_models_mode_is_nearest() -> None:
    model = Brightest().train()
    list(predict_masks(model, [striped(8, 8)], size=8))  # type: ignore[arg-type]
    assert model.training
