from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_stores import GB, Heard

from tutelage import run as run_module
from tutelage.data.images import DecodedImages, Images
from tutelage.data.samples import ImageSource, IntArray, Samples, Stored
from tutelage.errors import DataError
from tutelage.store import packs as packs_module
from tutelage.store.budget import USED
from tutelage.store.packs import PackedImages, Packs, pack_images

SIDE = 24

COUNT = 13


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@dataclass(frozen=True)
class Kept(Stored):
    content: bytes

    def read(self) -> bytes:
        return self.content

    def stamp(self) -> str:
        return str(hash(self.content))


def files(folder: Path, count: int = COUNT, seed: int = 0) -> Samples:
    """Images of several sizes in files, most of them larger than they are packed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        content = encoded(noise(20 + 7 * (number % 3), 30 + number, seed=seed + number))
        (folder / f"{number:02d}.png").write_bytes(content)
    return listed(folder)


def listed(folder: Path) -> Samples:
    paths = sorted(folder.iterdir())
    return Samples(tuple(path.name for path in paths), images=paths)


def live(samples: Samples, side: int = SIDE) -> list[torch.Tensor]:
    return DecodedImages(samples.images, side).get(np.arange(len(samples)))


def pack(root: Path, samples: Samples, *, side: int = SIDE, most: int = GB, heard: Heard | None = None) -> Images:
    return pack_images(root, most, samples, side, heard or Heard())


def equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def whole(images: Images, count: int = COUNT) -> list[torch.Tensor]:
    return images.get(np.arange(count))


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images a shard, so that a few make several shards."""
    monkeypatch.setattr(packs_module, "MOST_ROWS", 4)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that were decoded live."""
    rows: list[int] = []
    get = DecodedImages.get

    def counting(self: DecodedImages, wanted: IntArray) -> list[torch.Tensor]:
        rows.extend(wanted.tolist())
        return get(self, wanted)

    monkeypatch.setattr(DecodedImages, "get", counting)
    return rows


def shards(root: Path) -> list[str]:
    return sorted(file.name for file in root.glob("packs-*/*.safetensors"))


def stores(root: Path) -> list[Path]:
    return sorted(root.glob("packs-*"))


SOURCES: dict[str, Callable[[], ImageSource]] = {
    "jpeg": lambda: encoded(noise(40, 50), "JPEG"),
    "gray jpeg": lambda: encoded(noise(40, 50, 1), "JPEG"),
    "png": lambda: encoded(noise(40, 50)),
    "gray": lambda: encoded(noise(40, 50, 1)),
    "alpha": lambda: encoded(noise(40, 50, 4)),
    "pixels": lambda: noise(40, 50),
    "pixels, strided": lambda: noise(80, 50)[::2, ::-1],
    "gray pixels": lambda: noise(40, 50, 1),
    "pixels with alpha": lambda: noise(40, 50, 4),
    "stored": lambda: Kept(encoded(noise(40, 50))),
    "odd sides": lambda: encoded(noise(41, 57)),
    "just the short side": lambda: noise(SIDE, SIDE),
    "one pixel more": lambda: noise(SIDE + 1, SIDE + 1),
    "small": lambda: noise(7, 5),
    "one pixel": lambda: noise(1, 1),
    "long": lambda: noise(3, 200),
    "high": lambda: noise(200, 3),
    "large": lambda: noise(400, 300),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_packed_image_has_the_pixels_of_a_decoded_one(tmp_path: Path, source: Callable[[], ImageSource]) -> None:
    samples = Samples(("a", "b"), images=[source(), noise(30, 30, seed=1)])
    packed = pack(tmp_path, samples)
    assert isinstance(packed, PackedImages)
    assert equal(whole(packed, 2), live(samples))


def test_images_of_all_kinds_are_packed_side_by_side(tmp_path: Path, few_rows: None) -> None:
    samples = Samples(tuple(SOURCES), images=[source() for source in SOURCES.values()])
    assert equal(whole(pack(tmp_path, samples), len(SOURCES)), live(samples))


def test_files_are_packed(tmp_path: Path, few_rows: None) -> None:
    samples = files(tmp_path / "images")
    assert equal(whole(pack(tmp_path / "root", samples)), live(samples))
    assert len(shards(tmp_path / "root")) == 4


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8])
def test_any_number_of_images_is_packed(tmp_path: Path, few_rows: None, count: int) -> None:
    samples = files(tmp_path / "images", count)
    assert equal(whole(pack(tmp_path / "root", samples), count), live(samples))


def test_blocks_of_images_are_packed_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "BLOCK", 2)
    monkeypatch.setattr(packs_module, "MOST_ROWS", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    samples = files(tmp_path / "images")
    assert equal(whole(pack(tmp_path / "root", samples)), live(samples))


def test_rows_come_in_any_order_and_more_than_once(tmp_path: Path, few_rows: None) -> None:
    samples = files(tmp_path / "images")
    rows = np.array([12, 0, 5, 5, 11, 0, 3])
    expected = live(samples)
    assert equal(pack(tmp_path / "root", samples).get(rows), [expected[row] for row in rows])


def test_no_rows_give_no_images(tmp_path: Path) -> None:
    assert pack(tmp_path / "root", files(tmp_path / "images")).get(np.array([], dtype=np.int64)) == []


def test_after_packing_nothing_is_decoded(tmp_path: Path, few_rows: None, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    packed = pack(tmp_path / "root", samples)
    assert sorted(asked) == list(range(COUNT))
    for _ in range(2):
        whole(packed)
    whole(pack(tmp_path / "root", listed(tmp_path / "images")))
    assert len(asked) == COUNT


def test_targets_do_not_make_another_pack(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    pack(tmp_path / "root", samples)
    labeled = Samples(samples.ids, images=samples.images, targets=np.zeros(COUNT, np.int64), classes=("a",))
    pack(tmp_path / "root", labeled)
    assert len(stores(tmp_path / "root")) == 1


def test_another_short_side_is_another_pack(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    for side in (24, 16):
        assert equal(whole(pack(tmp_path / "root", samples, side=side)), live(samples, side))
    assert len(stores(tmp_path / "root")) == 2


def test_another_way_of_packing_is_another_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = files(tmp_path / "images")
    pack(tmp_path / "root", samples)
    monkeypatch.setattr(packs_module, "PACKING", packs_module.PACKING + 1)
    pack(tmp_path / "root", samples)
    assert len(stores(tmp_path / "root")) == 2


def test_a_changed_image_is_packed_anew(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    old = whole(pack(tmp_path / "root", samples))
    (tmp_path / "images" / "03.png").write_bytes(encoded(noise(33, 44, seed=99)))
    changed = listed(tmp_path / "images")
    new = whole(pack(tmp_path / "root", changed))
    assert equal(new, live(changed))
    assert [row for row in range(COUNT) if not torch.equal(old[row], new[row])] == [3]


def test_an_image_that_vanishes_before_packing_is_named(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    (tmp_path / "images" / "03.png").unlink()
    with pytest.raises(DataError, match=r"03\.png: cannot be read \(No such file"):
        pack(tmp_path / "root", samples)


def test_an_image_that_vanishes_while_packing_is_named(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = files(tmp_path / "images")
    monkeypatch.setattr(packs_module, "MEASURED", 1)
    assert samples.without_targets().fingerprint  # all are there when they are looked at
    real = packs_module.packed_bytes

    def measured(*arguments: object) -> int:
        (tmp_path / "images" / "09.png").unlink()
        return real(*arguments)

    monkeypatch.setattr(packs_module, "packed_bytes", measured)
    with pytest.raises(DataError, match=r"09\.png: cannot be read \(No such file or directory\); was it moved\?"):
        pack(tmp_path / "root", samples)
    assert shards(tmp_path / "root") == ["000000.safetensors", "000001.safetensors"]


def test_after_a_broken_image_is_repaired_packing_goes_on(tmp_path: Path, few_rows: None, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    path = tmp_path / "images" / "09.png"
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content[:-40] + bytes(40))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"09\.png"):
        pack(tmp_path / "root", samples)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    asked.clear()
    packed = pack(tmp_path / "root", listed(tmp_path / "images"))
    assert sorted(asked) == list(range(8, COUNT))
    assert equal(whole(packed), live(samples))


def test_images_may_vanish_after_packing(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    expected = live(samples)
    packed = pack(tmp_path / "root", samples)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    assert equal(whole(packed), expected)


def test_a_damaged_shard_is_packed_again_alone(tmp_path: Path, few_rows: None, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    pack(tmp_path / "root", samples)
    asked.clear()
    path = stores(tmp_path / "root")[0] / "000001.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    packed = pack(tmp_path / "root", samples, heard=(heard := Heard()))
    assert sorted(asked) == [4, 5, 6, 7]
    assert "1 damaged shards are made again" in heard.said[0]
    assert equal(whole(packed), live(samples))


def test_what_has_no_room_is_decoded_live_and_said(tmp_path: Path, few_rows: None, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    pack(tmp_path / "one", samples)
    held = sum(file.stat().st_size for file in stores(tmp_path / "one")[0].iterdir())
    asked.clear()
    packed = pack(tmp_path / "root", samples, most=int(held * 0.8), heard=(heard := Heard()))
    assert 0 < len(shards(tmp_path / "root")) < 4
    assert len(heard.said) == 1
    share = (COUNT - 4 * len(shards(tmp_path / "root"))) / COUNT
    assert heard.said[0] == (
        f"store.max_gb or the disk leaves no room for {share:.0%} of the images: they are decoded live"
    )
    asked.clear()
    found = whole(packed)
    assert asked == list(range(4 * len(shards(tmp_path / "root")), COUNT))
    assert equal(found, live(samples))


def test_the_last_shard_needs_room_for_its_own_images_alone(tmp_path: Path) -> None:
    # One shard could hold 8,192 images, and there are 13.
    samples = files(tmp_path / "images")
    size = sum(image.numel() for image in live(samples))
    packed = pack(tmp_path / "root", samples, most=2 * size, heard=(heard := Heard()))
    assert isinstance(packed, PackedImages)
    assert heard.said == []


def test_no_budget_packs_nothing(tmp_path: Path, few_rows: None) -> None:
    samples = files(tmp_path / "images")
    packed = pack(tmp_path / "root", samples, most=0, heard=(heard := Heard()))
    assert shards(tmp_path / "root") == []
    assert "no room for 100% of the images" in heard.said[0]
    assert equal(whole(packed), live(samples))


def test_more_budget_packs_the_rest(tmp_path: Path, few_rows: None, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    size = sum(image.numel() for image in live(samples))
    pack(tmp_path / "root", samples, most=size)
    there = 4 * len(shards(tmp_path / "root"))
    assert 0 < there < COUNT
    asked.clear()
    packed = pack(tmp_path / "root", samples, heard=(heard := Heard()))
    assert sorted(asked) == list(range(there, COUNT))
    assert heard.said == []
    assert equal(whole(packed), live(samples))


@pytest.mark.parametrize("taken", ["root", "lock"])
def test_where_nothing_can_be_written_images_are_decoded_live(tmp_path: Path, taken: str) -> None:
    samples = files(tmp_path / "images")
    root = tmp_path / "root"
    if taken == "root":
        root.touch()
    else:
        pack(root, samples)
        (used := stores(root)[0] / USED).unlink()
        used.mkdir()
    images = pack(root, samples, heard=(heard := Heard()))
    assert len(heard.said) == 1
    assert "cannot be written" in heard.said[0]
    assert heard.said[0].endswith("set store.folder to another place. Images are decoded in every epoch")
    assert equal(whole(images), live(samples))


def test_on_a_full_disk_images_are_decoded_live_and_the_next_run_goes_on(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    samples = files(tmp_path / "images")
    fsync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 5:  # a manifest, and two shards, each with a line of the journal
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(run_module.os, "fsync", full)
        images = pack(tmp_path / "root", samples, heard=(heard := Heard()))
    assert len(heard.said) == 1
    assert "000002.safetensors: cannot be written (No space left on device)" in heard.said[0]
    assert equal(whole(images), live(samples))
    assert not list(tmp_path.glob("root/packs-*/.0*"))
    asked.clear()
    packed = pack(tmp_path / "root", samples)
    assert sorted(asked) == list(range(8, COUNT))
    assert equal(whole(packed), live(samples))


def test_values_stay_right_when_memory_is_given_back(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "TOUCHED", 3)
    monkeypatch.setattr(packs_module, "FAULT", 0)
    samples = files(tmp_path / "images")
    packed = pack(tmp_path / "root", samples)
    expected = live(samples)
    held = whole(packed)
    for _ in range(3):
        assert equal(whole(packed), expected)
    assert equal(held, expected)


def test_memory_is_given_back_after_so_many_reads(
    tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = files(tmp_path / "images", 8)
    packed = pack(tmp_path / "root", samples)
    assert isinstance(packed, PackedImages)
    released: list[object] = []
    monkeypatch.setattr(packs_module.Shard, "release", lambda self: released.append(self))
    monkeypatch.setattr(packs_module, "TOUCHED", 3 * 8)
    monkeypatch.setattr(packs_module, "FAULT", 0)
    counts = []
    for _ in range(7):
        whole(packed, 8)
        counts.append(len(released))
    assert counts == [0, 0, 2, 2, 2, 4, 4]


def test_memory_of_a_small_pack_is_kept(tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "root", files(tmp_path / "images", 8))
    monkeypatch.setattr(packs_module, "TOUCHED", 1)
    monkeypatch.setattr(packs_module.Shard, "release", lambda self: pytest.fail("gave memory back"))
    whole(packed, 8)


def test_threads_may_read_at_once(tmp_path: Path, few_rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "TOUCHED", 3)
    monkeypatch.setattr(packs_module, "FAULT", 0)
    samples = files(tmp_path / "images")
    packed, expected = pack(tmp_path / "root", samples), live(samples)
    wrong: list[object] = []

    def read(seed: int) -> None:
        generator = np.random.default_rng(seed)
        try:
            for _ in range(30):
                rows = generator.permutation(COUNT)
                wrong.extend([rows] * (not equal(packed.get(rows), [expected[row] for row in rows])))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_pack_that_is_read_is_held(tmp_path: Path, few_rows: None) -> None:
    samples, others = files(tmp_path / "images"), files(tmp_path / "others", seed=50)
    packed = pack(tmp_path / "root", samples)
    size = sum(file.stat().st_size for file in stores(tmp_path / "root")[0].iterdir())
    pack(tmp_path / "root", others, most=size + 100)
    assert equal(whole(packed), live(samples))
    assert len(shards(tmp_path / "root")) == 4


def pools(root: Path, *samples: Samples) -> Packs:
    return Packs(root, GB, samples, Heard())


def test_a_pools_own_images_come_from_its_pack(tmp_path: Path, asked: list[int]) -> None:
    samples = files(tmp_path / "images")
    images = pools(tmp_path / "root", samples).images(samples, SIDE)
    asked.clear()
    found = whole(images)
    assert asked == []
    assert equal(found, live(samples))


@pytest.mark.parametrize("rows", [[0], [12, 3, 7], list(reversed(range(COUNT)))])
def test_a_part_of_a_pool_in_any_order_comes_from_its_pack(tmp_path: Path, rows: list[int], asked: list[int]) -> None:
    pool = files(tmp_path / "images")
    packs = pools(tmp_path / "root", pool)
    part = pool.subset(np.array(rows))
    images = packs.images(part, SIDE)
    asked.clear()
    order = np.arange(len(rows))[::-1]
    found = images.get(order)
    assert asked == []
    assert equal(found, [live(part)[row] for row in order])
    assert len(stores(tmp_path / "root")) == 1


def test_a_pool_is_packed_once_for_all_of_its_parts(tmp_path: Path, asked: list[int]) -> None:
    pool = files(tmp_path / "images")
    packs = pools(tmp_path / "root", pool)
    for fold in range(3):
        whole(packs.images(pool.subset(np.arange(fold, COUNT, 3)), SIDE), 4)
    assert sorted(asked) == list(range(COUNT))


def test_nothing_is_packed_before_it_is_needed(tmp_path: Path) -> None:
    pools(tmp_path / "root", files(tmp_path / "images"))
    assert not (tmp_path / "root").exists()


def test_each_pool_has_its_pack(tmp_path: Path) -> None:
    first, second = files(tmp_path / "images"), files(tmp_path / "others", seed=50)
    packs = pools(tmp_path / "root", first, second)
    for samples in (second, first):
        assert equal(whole(packs.images(samples, SIDE)), live(samples))
    assert len(stores(tmp_path / "root")) == 2


def test_each_short_side_has_its_pack(tmp_path: Path) -> None:
    samples = files(tmp_path / "images")
    packs = pools(tmp_path / "root", samples)
    for side in (16, 24, 16):
        assert equal(whole(packs.images(samples, side)), live(samples, side))


def test_other_files_with_the_same_names_are_not_taken_from_the_pack(tmp_path: Path) -> None:
    pool, others = files(tmp_path / "images"), files(tmp_path / "others", seed=50)
    assert pool.ids == others.ids
    packs = pools(tmp_path / "root", pool)
    packs.images(pool, SIDE)
    assert equal(whole(packs.images(others, SIDE)), live(others))


OTHERS: dict[str, tuple[ImageSource, ImageSource]] = {
    "pixels": (noise(30, 30), noise(30, 30, seed=1)),
    "pixels of another shape": (noise(30, 30), noise(30, 31)),
    "gray pixels": (noise(30, 30), noise(30, 30, 1)),
    "bytes": (encoded(noise(30, 30)), encoded(noise(30, 30, seed=1))),
    "stored": (Kept(encoded(noise(30, 30))), Kept(encoded(noise(30, 30, seed=1)))),
    "bytes for pixels": (noise(30, 30), encoded(noise(30, 30, seed=1))),
    "pixels for bytes": (encoded(noise(30, 30)), noise(30, 30, seed=1)),
    "pixels for stored": (Kept(encoded(noise(30, 30))), noise(30, 30, seed=1)),
}


@pytest.mark.parametrize("kinds", OTHERS.values(), ids=OTHERS)
def test_another_image_with_the_same_id_is_not_taken_from_the_pack(
    tmp_path: Path, kinds: tuple[ImageSource, ImageSource]
) -> None:
    pool, other = (Samples(("a", "b"), images=[noise(9, 9), source]) for source in kinds)
    packs = pools(tmp_path / "root", pool)
    assert equal(whole(packs.images(pool, SIDE), 2), live(pool))
    assert equal(whole(packs.images(other, SIDE), 2), live(other))


@pytest.mark.parametrize("source", ["pixels", "bytes", "stored"])
def test_equal_images_need_not_be_the_same_object(tmp_path: Path, source: str, asked: list[int]) -> None:
    def make() -> Samples:
        one = {"pixels": noise(30, 30), "bytes": encoded(noise(30, 30)), "stored": Kept(encoded(noise(30, 30)))}
        return Samples(("a",), images=[one[source]])

    packs = pools(tmp_path / "root", make())
    packs.images(make(), SIDE).get(np.array([0]))
    assert asked == [0]  # to pack it


def test_samples_that_are_in_no_pool_are_decoded_live(tmp_path: Path, asked: list[int]) -> None:
    pool, others = files(tmp_path / "images", 4), files(tmp_path / "others", 6, seed=50)
    images = pools(tmp_path / "root", pool).images(others, SIDE)
    assert equal(whole(images, 6), live(others))
    assert stores(tmp_path / "root") == []


def test_no_samples_need_no_images(tmp_path: Path) -> None:
    pool = files(tmp_path / "images")
    none = pool.subset(np.array([], dtype=np.int64))
    packs = pools(tmp_path / "root", pool, none)
    for samples in (none, Samples((), images=[])):
        assert packs.images(samples, SIDE).get(np.array([], dtype=np.int64)) == []
    assert pack(tmp_path / "root", none).get(np.array([], dtype=np.int64)) == []


def test_images_of_several_samples_come_from_the_pack_of_each(tmp_path: Path, asked: list[int]) -> None:
    first, second = files(tmp_path / "images"), files(tmp_path / "others", seed=50)
    parts = [first.subset(np.array([4, 1])), second.subset(np.array([], dtype=np.int64)), second]
    images = pools(tmp_path / "root", first, second).joined(parts, SIDE)
    asked.clear()
    rows = [3, 0, 14, 1, 3]
    found = images.get(np.array(rows))
    together = [image for part in parts for image in live(part)]
    assert images.at_hand
    assert equal(found, [together[row] for row in rows])


def test_images_are_at_hand_if_all_of_their_parts_are(tmp_path: Path) -> None:
    pool, others = files(tmp_path / "images"), files(tmp_path / "others", 4, seed=50)
    assert not pools(tmp_path / "root", pool).joined([pool, others], SIDE).at_hand
