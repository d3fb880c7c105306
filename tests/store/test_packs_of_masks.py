from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from tutelage.data.images import DecodedImages, packed, packed_size
from tutelage.data.masks import IGNORED, DecodedMasks, Mask, MaskCode, Masks
from tutelage.data.samples import Samples
from tutelage.progress import Quiet
from tutelage.store import packs as packs_module
from tutelage.store.packs import Packs

SIDE = 24
GB = 1 << 30
COUNT = 10


def noise(height: int, width: int, *, seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def files(folder: Path) -> Samples:
    """Images of several sizes with their masks, most larger than they are packed."""
    folder.mkdir()
    for number in range(COUNT):
        size = 20 + 7 * (number % 3), 30 + number
        (folder / f"{number:02d}.jpg").write_bytes(png(noise(*size, seed=number)))
        (folder / f"{number:02d}.png").write_bytes(png(noise(*size, seed=number, channels=1) % 5))
    images = sorted(folder.glob("*.jpg"))
    masks = [Mask(path.with_suffix(".png"), MaskCode(ignored=(4,))) for path in images]
    return Samples(tuple(path.name for path in images), images, classes=("a", "b", "c", "d"), masks=masks)


def packs(root: Path, *pools: Samples, most: int = GB) -> Packs:
    return Packs(root, most, pools, Quiet())


def whole(masks: Masks, count: int = COUNT) -> list[torch.Tensor]:
    return masks.get(np.arange(count))


def equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    same = (one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    return all(same)


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "MOST_ROWS", 4)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that were decoded live."""
    rows: list[int] = []
    get = DecodedMasks.get

    def counting(self: DecodedMasks, wanted: npt.NDArray[np.int64]) -> list[torch.Tensor]:
        rows.extend(wanted.tolist())
        return get(self, wanted)

    monkeypatch.setattr(DecodedMasks, "get", counting)
    return rows


def test_packed_masks_are_what_decoding_gives(tmp_path: Path, decoded: list[int]) -> None:
    samples = files(tmp_path / "data")
    assert samples.masks is not None
    found = packs(tmp_path / "root", samples).masks(samples, SIDE)
    expected = whole(DecodedMasks(samples.masks, SIDE))
    decoded.clear()
    assert equal(whole(found), expected)
    assert not decoded
    assert set(torch.cat([mask.flatten() for mask in expected]).tolist()) == {IGNORED, 0, 1, 2, 3}


def test_masks_are_of_the_sizes_of_their_images(tmp_path: Path) -> None:
    samples = files(tmp_path / "data")
    both = packs(tmp_path / "root", samples)
    images = both.images(samples, SIDE).get(np.arange(COUNT))
    assert [mask.shape for mask in whole(both.masks(samples, SIDE))] == [image.shape[1:] for image in images]


@pytest.mark.parametrize("seed", range(40))
def test_the_size_of_a_packed_image_is_known_without_it(seed: int) -> None:
    height, width, side = (int(value) for value in np.random.default_rng(seed).integers(1, 130, 3))
    assert tuple(packed(np.zeros((height, width, 3), np.uint8), side).shape[1:]) == packed_size(height, width, side)


def test_a_part_of_a_pool_uses_its_pack(tmp_path: Path, decoded: list[int]) -> None:
    samples = files(tmp_path / "data")
    rows = np.array([7, 2, 5])
    both = packs(tmp_path / "root", samples)
    expected = whole(both.masks(samples, SIDE))
    decoded.clear()
    found = both.masks(samples.subset(rows), SIDE)
    assert equal(whole(found, 3), [expected[row] for row in rows])
    assert not decoded


def test_packs_are_built_once(tmp_path: Path, decoded: list[int]) -> None:
    samples = files(tmp_path / "data")
    expected = whole(packs(tmp_path / "root", samples).masks(samples, SIDE))
    decoded.clear()
    assert equal(whole(packs(tmp_path / "root", samples).masks(samples, SIDE)), expected)
    assert not decoded


def test_a_pool_without_masks_is_passed_by(tmp_path: Path) -> None:
    samples = files(tmp_path / "data")
    assert samples.masks is not None
    both = packs(tmp_path / "root", samples.without_targets(), samples)
    assert equal(whole(both.masks(samples, SIDE)), whole(DecodedMasks(samples.masks, SIDE)))


def test_samples_of_no_pool_are_decoded_live(tmp_path: Path, decoded: list[int]) -> None:
    samples = files(tmp_path / "data")
    assert len(whole(packs(tmp_path / "root").masks(samples, SIDE))) == COUNT
    assert decoded == list(range(COUNT))


def test_masks_read_by_another_code_are_other_masks(tmp_path: Path) -> None:
    samples = files(tmp_path / "data")
    assert samples.masks is not None
    others = replace(samples, masks=[Mask(mask.source, MaskCode(ignored=(0,))) for mask in samples.masks])
    assert others.masks is not None
    both = packs(tmp_path / "root", samples)
    both.masks(samples, SIDE)
    assert equal(whole(both.masks(others, SIDE)), whole(DecodedMasks(others.masks, SIDE)))
    anew = packs(tmp_path / "root", others)
    assert equal(whole(anew.masks(others, SIDE)), whole(DecodedMasks(others.masks, SIDE)))


def test_a_changed_mask_is_packed_anew(tmp_path: Path) -> None:
    samples = files(tmp_path / "data")
    before = whole(packs(tmp_path / "root", samples).masks(samples, SIDE))
    (tmp_path / "data" / "03.png").write_bytes(png(np.full((20, 33), 2, np.uint8)))
    samples = replace(samples)
    after = whole(packs(tmp_path / "root", samples).masks(samples, SIDE))
    assert [row for row in range(COUNT) if not torch.equal(before[row], after[row])] == [3]


def test_masks_without_room_are_decoded_live(tmp_path: Path, decoded: list[int]) -> None:
    samples = files(tmp_path / "data")
    assert samples.masks is not None
    expected = whole(DecodedMasks(samples.masks, SIDE))
    found = packs(tmp_path / "root", samples, most=0).masks(samples, SIDE)
    decoded.clear()
    assert equal(whole(found), expected)
    assert decoded == list(range(COUNT))


def test_masks_leave_the_packs_of_images_as_they_were(tmp_path: Path) -> None:
    samples = files(tmp_path / "data")
    assert samples.images is not None
    plain = packs(tmp_path / "root", samples.without_targets())
    plain.images(samples.without_targets(), SIDE)
    before = sorted(path.name for path in (tmp_path / "root").iterdir())
    found = packs(tmp_path / "root", samples).images(samples, SIDE)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == before
    assert equal(found.get(np.arange(COUNT)), DecodedImages(samples.images, SIDE).get(np.arange(COUNT)))
