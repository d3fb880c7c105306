from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandAugment, v2
from torchvision.transforms.autoaugment import _apply_op

from tutelage.views import OPERATIONS, apply_operation
from tutelage.views.operations import SIGNED, apply_operations, strengths

NAMES = list(OPERATIONS)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 6, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth + 12 * torch.randn(3, height, width, generator=generator)).clamp(0, 255).to(torch.uint8)


def torchvision_strength(name: str, magnitude: int, height: int, width: int) -> float:
    values, _ = RandAugment()._augmentation_space(31, (height, width))[name]
    return float(values[magnitude]) if values.ndim else 0.0


def torchvision_result(image: Tensor, name: str, strength: float) -> Tensor:
    return _apply_op(image, name, strength, InterpolationMode.NEAREST, [0.0, 0.0, 0.0])


def test_the_operations_are_torchvisions_in_its_order() -> None:
    space = RandAugment()._augmentation_space(31, (10, 10))
    assert list(space) == NAMES
    assert [signed for _, signed in space.values()] == SIGNED.tolist()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [0, 5, 9, 22, 30])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_does_what_torchvision_does(name: str, magnitude: int, sign: int) -> None:
    op = NAMES.index(name)
    sign = sign if SIGNED[op] else 1
    image = picture(45, 66)
    ours = apply_operation(image, op, sign * float(strengths(magnitude)[op]))
    theirs = torchvision_result(image, name, sign * torchvision_strength(name, magnitude, 45, 66))
    # Torchvision's two generations blend these two with different roundings; ours is the newer one.
    tolerance = 1 if name in ("Color", "Sharpness") else 0
    assert (ours.int() - theirs.int()).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("name", "newer"),
    [("Color", v2.functional.adjust_saturation), ("Sharpness", v2.functional.adjust_sharpness)],
)
def test_color_and_sharpness_are_those_of_the_newer_torchvision(name: str, newer: object) -> None:
    op = NAMES.index(name)
    image = picture(45, 66)
    expected = newer(image, 1.0 + torchvision_strength(name, 9, 45, 66))  # type: ignore[operator]
    assert torch.equal(apply_operation(image, op, float(strengths(9)[op])), expected)


@pytest.mark.parametrize("width", [8, 31, 224, 256, 331, 662])
def test_relative_translations_are_the_same_whole_pixels_at_every_width(width: int) -> None:
    op = NAMES.index("TranslateX")
    image = torch.arange(1, width + 1).remainder(251).add(1).to(torch.uint8).expand(3, 2, width)
    for magnitude in range(31):
        ours = apply_operation(image, op, float(strengths(magnitude)[op]))
        theirs = torchvision_result(image, "TranslateX", torchvision_strength("TranslateX", magnitude, 2, width))
        assert torch.equal(ours, theirs), magnitude


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_each_image_gives(name: str) -> None:
    op = NAMES.index(name)
    images = torch.stack([picture(33, 33, seed) for seed in range(5)])
    strength = float(strengths(9)[op])
    alone = torch.stack([apply_operation(image, op, strength) for image in images])
    assert torch.equal(apply_operation(images, op, strength), alone)


NEWER: dict[str, Any] = {
    "Identity": lambda image, strength: image,
    "ShearX": lambda image, slope: affine(image, shear=[math.degrees(math.atan(slope)), 0.0], center=[0, 0]),
    "ShearY": lambda image, slope: affine(image, shear=[0.0, math.degrees(math.atan(slope))], center=[0, 0]),
    "TranslateX": lambda image, share: affine(image, translate=[int(share * image.shape[2]), 0]),
    "TranslateY": lambda image, share: affine(image, translate=[0, int(share * image.shape[1])]),
    "Rotate": v2.functional.rotate,
    "Brightness": lambda image, strength: v2.functional.adjust_brightness(image, 1 + strength),
    "Color": lambda image, strength: v2.functional.adjust_saturation(image, 1 + strength),
    "Contrast": lambda image, strength: v2.functional.adjust_contrast(image, 1 + strength),
    "Sharpness": lambda image, strength: v2.functional.adjust_sharpness(image, 1 + strength),
    "Posterize": lambda image, bits: v2.functional.posterize(image, round(bits)),
    "Solarize": v2.functional.solarize,
    "AutoContrast": lambda image, strength: v2.functional.autocontrast(image),
    "Equalize": lambda image, strength: v2.functional.equalize(image),
}


def affine(image: Tensor, **change: Any) -> Tensor:
    still: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    moved: Tensor = v2.functional.affine(image, **(still | change))
    return moved


def hard_pictures(height: int, width: int) -> list[Tensor]:
    flat = torch.full((3, height, width), 77, dtype=torch.uint8)
    board = ((torch.arange(height)[:, None] + torch.arange(width)) % 2 * 255).to(torch.uint8).expand(3, -1, -1)
    dark = picture(height, width, 9) // 8
    return [picture(height, width), flat, board, dark, 255 - dark, picture(height, width, 5) & 0xC0]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (31, 50), (3, 3), (2, 9), (1, 1), (300, 280)])
@pytest.mark.parametrize("name", NAMES)
def test_on_the_cpu_each_operation_is_the_newer_torchvisions_bit_for_bit(name: str, height: int, width: int) -> None:
    op = NAMES.index(name)
    images = hard_pictures(height, width)
    # Strengths of both signs and at both ends, several of them in one batch.
    steps = strengths(30)[op] - strengths(0)[op]
    values = [float(strengths(0)[op] + share * steps) for share in (1.0, 0.31, 0.31, 0.0, 0.55, 0.9)]
    values = [value * (-1 if SIGNED[op] and row % 2 else 1) for row, value in enumerate(values)]
    magnitudes = np.array(values, dtype=np.float32)
    got = apply_operations(torch.stack(images), np.full((6, 1), op), magnitudes[:, None])
    for row, image in enumerate(images):
        assert torch.equal(got[row], NEWER[name](image, float(magnitudes[row]))), (row, magnitudes[row])


def test_only_operations_that_blend_may_differ_between_devices() -> None:
    tolerances = {name: operation.tolerance for name, operation in OPERATIONS.items() if operation.tolerance}
    assert tolerances == {"Color": 1, "Contrast": 1, "Sharpness": 1}


def test_each_image_has_its_own_operations_one_after_another() -> None:
    rng = np.random.default_rng(0)
    images = torch.stack([picture(20, 24, seed) for seed in range(50)])
    ops = rng.integers(0, len(NAMES), (50, 3))
    signs = np.where(SIGNED[ops] & (rng.random((50, 3)) < 0.5), -1, 1)
    magnitudes = (strengths(11)[ops] * signs).astype(np.float32)
    got = apply_operations(images, ops, magnitudes)
    for row, image in enumerate(images):
        for op, strength in zip(ops[row].tolist(), magnitudes[row].tolist(), strict=True):
            image = apply_operation(image, op, strength)
        assert torch.equal(got[row], image)


@pytest.mark.parametrize("name", NAMES)
def test_operations_leave_their_input_alone(name: str) -> None:
    image = picture(20, 20)
    before = image.clone()
    apply_operation(image, NAMES.index(name), float(strengths(9)[NAMES.index(name)]))
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", NAMES)
def test_strengths_are_torchvisions_at_every_magnitude(name: str) -> None:
    op = NAMES.index(name)
    extent = 1000
    for magnitude in range(31):
        ours = float(strengths(magnitude)[op]) * (extent if name.startswith("Translate") else 1)
        ours = round(ours) if name == "Posterize" else ours
        assert ours == pytest.approx(torchvision_strength(name, magnitude, extent, extent), rel=1e-6)


def test_strengths_between_two_magnitudes_are_interpolated() -> None:
    middle = (strengths(9).astype(float) + strengths(10)) / 2
    assert strengths(9.5).tolist() == pytest.approx(middle.tolist(), rel=1e-6)
