from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tutelage.curation.duplicates import same_images
from tutelage.data.images import decode, decode_named, packed
from tutelage.data.inspect import inspect
from tutelage.data.leaks import Contents, contradictions, exact_copies, other_rows
from tutelage.data.loader import Loader, ViewGroup
from tutelage.data.mask_codes import Mask, MaskCode
from tutelage.data.mask_pixels import decode_mask_pixels
from tutelage.data.pixels import decode_pixels, image_size, named
from tutelage.data.problems import ImageError
from tutelage.data.samples import CutOut, ImageSource, Samples, Stored, original, same_source
from tutelage.errors import DataError
from tutelage.progress import Quiet
from tutelage.store.packs import pack_images
from tutelage.views import center_views, render
from tutelage.views.policy import ViewPolicy

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
BOX = (0.1, 0.2, 0.5, 0.4)
CUT = PIXELS[2:12, 6:18]
WHOLE = (0.0, 0.0, 1.0, 1.0)


class Kept(Stored):
    """An image in a store."""

    def __init__(self, content: bytes) -> None:
        self.content, self.reads = content, 0

    def __str__(self) -> str:
        return "shelf"

    def read(self) -> bytes:
        self.reads += 1
        return self.content

    def stamp(self) -> str:
        return str(len(self.content))


def encoded(form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


@pytest.fixture(params=["file", "bytes", "pixels", "stored"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
    path = tmp_path / "a.png"
    path.write_bytes(encoded())
    sources: dict[str, ImageSource] = {
        "file": path,
        "bytes": encoded(),
        "pixels": PIXELS,
        "stored": Kept(encoded()),
    }
    return sources[request.param]


def samples(*images: ImageSource, labels: list[int] | None = None) -> Samples:
    targets = None if labels is None else np.array(labels)
    return Samples(tuple(map(str, range(len(images)))), list(images), targets=targets, classes=("a", "b"))


def test_a_crop_is_a_part_of_what_the_whole_is_decoded_to(source: ImageSource) -> None:
    assert np.array_equal(decode_pixels(CutOut(source, BOX)), CUT)


def test_tensors_of_crops_are_the_same_pixels(source: ImageSource) -> None:
    assert torch.equal(decode(CutOut(source, BOX)), torch.from_numpy(CUT).permute(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_cut_after_photographs_are_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded("JPEG", exif=exif)
    whole = decode(content)
    height, width = whole.shape[1:]
    cut = whole[:, height // 10 : height // 10 + height // 2, width // 5 : width // 5 + 2 * width // 5]
    assert torch.equal(decode(CutOut(content, BOX)), cut)
    assert image_size(CutOut(content, BOX)) == tuple(cut.shape[1:])


def test_the_size_of_a_crop_is_known_without_decoding(source: ImageSource) -> None:
    assert image_size(CutOut(source, BOX)) == (10, 12)


def test_the_smallest_crop_is_one_pixel() -> None:
    assert decode_pixels(CutOut(PIXELS, (0.99, 0.99, 1e-4, 1e-4))).tolist() == [[PIXELS[19, 29].tolist()]]


def test_a_crop_is_what_views_cut_with_the_same_box() -> None:
    """An encoder that saw the crop of a gallery's image and a student that sees it later see the same pixels."""
    box = np.random.default_rng(1).random((50, 2)) * 0.5
    views = center_views(np.full(50, 1.5), 1.0)
    views.crop[:] = np.concatenate([box, np.full((50, 2), [0.3, 0.2])], axis=1)
    seen = render([decode(PIXELS)] * 50, views, 6)
    for row, crop in enumerate(views.crop.astype(np.float32).tolist()):
        top, left, height, width = crop
        cut = decode(CutOut(PIXELS, (top, left, height, width)))
        whole = center_views(np.ones(1), 1.0)
        whole.crop[:] = [0, 0, 1, 1]
        assert torch.equal(render([cut], whole, 6)[0], seen[row])


def test_crops_of_crops_are_cut_one_after_the_other() -> None:
    assert np.array_equal(decode_pixels(CutOut(CutOut(PIXELS, BOX), (0.5, 0, 0.5, 1))), CUT[5:])


def test_a_crop_keeps_no_more_than_itself_in_memory() -> None:
    assert decode(CutOut(encoded("JPEG"), BOX)).untyped_storage().nbytes() == CUT.size
    assert decode_pixels(CutOut(encoded(), BOX)).base is None


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0, 1.1, 1), (-0.1, 0, 1, 1), (0.5, 0, 0.6, 1), (0, 0, 1, np.nan)])
def test_boxes_that_lead_out_or_hold_nothing_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(DataError, match="leads out of the image, or is empty"):
        CutOut(b"x", box)


def test_a_message_says_which_part_of_which_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(encoded()[:300])
    name = f"crop (20.0%, 10.0%) to (60.0%, 60.0%) of {path}"
    assert named(CutOut(path, BOX)) == name
    with pytest.raises(ImageError, match=r"bad\.png: cannot be decoded"):
        decode(CutOut(path, BOX))


def test_a_crop_has_the_format_of_its_image() -> None:
    assert decode_named(CutOut(encoded("BMP"), BOX))[1] == "BMP"


def test_masks_are_cut_as_images_are() -> None:
    whole = PIXELS[..., 0].copy()
    cut = decode_mask_pixels(Mask(CutOut(whole, BOX), MaskCode()))
    assert np.array_equal(cut, decode_mask_pixels(Mask(whole, MaskCode()))[2:12, 6:18])


def test_crops_are_downscaled_as_images_of_their_size() -> None:
    assert torch.equal(packed(CutOut(PIXELS, BOX), 5), packed(np.ascontiguousarray(CUT), 5))


def test_a_pack_holds_crops(tmp_path: Path, source: ImageSource) -> None:
    crops = [CutOut(source, BOX), CutOut(source, (0.5, 0.5, 0.5, 0.5))]
    pack = pack_images(tmp_path, 10**9, samples(*crops), 7, Quiet())
    assert pack.at_hand
    for image, crop in zip(pack.get(np.arange(2)), crops, strict=True):
        assert torch.equal(image, packed(crop, 7))


def test_a_loader_gives_views_of_crops(source: ImageSource) -> None:
    crop = np.ascontiguousarray(CUT)
    group = {"view": ViewGroup(ViewPolicy(crop=(0.3, 1.0)), 6)}
    found, expected = (
        next(iter(Loader(samples(image), group, batch_size=1, seed=0).epoch(0))).inputs["view"]
        for image in (CutOut(source, BOX), crop)
    )
    assert isinstance(found, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert torch.equal(found, expected)


def test_fingerprints_tell_crops_apart(source: ImageSource) -> None:
    other = (*BOX[:3], 0.5)
    prints = [samples(image).fingerprint for image in (source, CutOut(source, BOX), CutOut(source, other))]
    assert len(set(prints)) == 3


def test_hashes_tell_crops_apart(source: ImageSource) -> None:
    crops = [CutOut(source, box) for box in (BOX, (*BOX[:3], 0.5), BOX)]
    assert same_images([source, *crops]).tolist() == [0, 1, 2, 1]


def test_a_crop_of_everything_is_the_image(source: ImageSource) -> None:
    whole = CutOut(source, WHOLE)
    assert same_images([source, whole]).tolist() == [0, 0]
    assert samples(source).fingerprint == samples(whole).fingerprint


def test_all_crops_of_an_image_take_one_reading() -> None:
    stored = Kept(encoded())
    contents = Contents()
    for box in (BOX, WHOLE, (0, 0, 0.5, 0.5)):
        contents.size(CutOut(stored, box))
        contents.hash(CutOut(stored, box))
    assert stored.reads == 1


def test_crops_under_two_labels_are_no_contradiction_unless_they_are_the_same(source: ImageSource) -> None:
    crops = [CutOut(source, BOX), CutOut(source, WHOLE), CutOut(source, BOX)]
    assert not contradictions(samples(*crops[:2], labels=[0, 1]))
    assert [rows.tolist() for rows in contradictions(samples(*crops, labels=[0, 0, 1]))] == [[0, 2]]


def test_a_crop_of_a_held_out_image_shows_it(source: ImageSource) -> None:
    """So it is no more trained on than the image itself."""
    assert exact_copies(samples(CutOut(source, BOX), b"other"), samples(source)).tolist() == [0]


def test_crops_are_the_same_source_if_image_and_box_are(source: ImageSource) -> None:
    assert same_source(CutOut(source, BOX), CutOut(source, BOX))
    assert not same_source(CutOut(source, BOX), CutOut(source, WHOLE))
    assert not same_source(CutOut(source, BOX), source)
    assert other_rows(samples(CutOut(source, BOX)), samples(source)).tolist() == [0]


def test_the_original_of_a_crop_is_the_image(source: ImageSource) -> None:
    assert original(CutOut(CutOut(source, BOX), BOX)) is source


def test_crops_of_damaged_images_are_found(tmp_path: Path) -> None:
    for name, content in (("good.png", encoded()), ("bad.png", encoded()[:300])):
        (tmp_path / name).write_bytes(content)
    good, bad, gone = (tmp_path / f"{name}.png" for name in ("good", "bad", "gone"))
    images = [CutOut(bad, BOX), CutOut(good, BOX), CutOut(gone, BOX), CutOut(bad, WHOLE), CutOut(PIXELS, BOX)]
    usable, problems = inspect(samples(*images))
    assert usable.tolist() == [1, 4]
    assert [problem.kind for problem in problems] == ["truncated", "vanished", "truncated"]
    assert problems[0].where == named(images[0])


def test_an_image_is_looked_at_once_for_all_its_crops() -> None:
    stored = Kept(encoded())
    usable, _ = inspect(samples(*(CutOut(stored, (0, 0, 0.1 * share, 1)) for share in range(1, 10))))
    assert (len(usable), stored.reads) == (9, 1)
