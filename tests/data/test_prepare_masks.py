from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tutelage.data.mask_pixels import IGNORED, decode_mask_pixels
from tutelage.data.prepare import PreparedData, draw_labels, prepare_data, read_parts
from tutelage.data.samples import Samples
from tutelage.data.settings import DataSettings
from tutelage.data.splits import few_shot, folds, hold_out
from tutelage.errors import DataError, RecipeError

COUNT = 10
SIZE = (6, 8)


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))


def save(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def image(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def mask(seed: int, classes: int = 3) -> Any:
    values = np.random.default_rng(seed).integers(0, classes, SIZE, dtype=np.uint8)
    values[0, 0], values[0, 1] = 255, classes - 1
    return values


def lay(root: Path, count: int = COUNT, *, seed: int = 0, classes: int = 3) -> Path:
    for number in range(count):
        save(root / f"images/{number}.png", image(seed + number))
        save(root / f"masks/{number}.png", mask(seed + number, classes))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lay(tmp_path / "train")


def prepared(root: Path, **settings: Any) -> PreparedData:
    return prepare_data(DataSettings(labeled=str(root), **settings), seed=0, task="segmentation")


def first_pixels(samples: Samples | None) -> list[list[int]]:
    assert samples is not None
    assert samples.masks is not None
    return [decode_mask_pixels(each)[0, :2].tolist() for each in samples.masks]


def test_without_a_list_classes_are_all_values_up_to_the_largest(root: Path) -> None:
    found = prepared(root).labeled
    assert found.classes == ("0", "1", "2")
    assert (found.targets, first_pixels(found)) == (None, [[IGNORED, 2]] * COUNT)


def test_ignored_values_are_no_classes(root: Path) -> None:
    found = prepared(root, ignore=[0, 255]).labeled
    assert found.classes == ("1", "2")
    assert first_pixels(found) == [[IGNORED, 1]] * COUNT


def test_the_largest_value_is_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepared(root).labeled
    looked: list[object] = []

    def look(*given: object) -> int:
        looked.append(given)
        return 6

    monkeypatch.setattr("tutelage.data.inspect_masks.check_mask", look)
    assert prepared(root).labeled.fingerprint == before.fingerprint
    assert not looked
    save(root / "masks/0.png", mask(0, 7))
    assert len(prepared(root).labeled.classes) == 7
    assert looked


def test_the_recipe_names_classes(root: Path) -> None:
    found = prepared(root, classes={"a": 2, "b": 0, "c": 1}).labeled
    assert found.classes == ("a", "b", "c")
    assert first_pixels(found) == [[IGNORED, 0]] * COUNT


def test_a_transfer_set_is_the_images_alone(root: Path) -> None:
    found = prepared(root, labels="3")
    assert (len(found.labeled), len(found.transfer)) == (3, COUNT)
    assert (found.transfer.masks, found.transfer.classes) == (None, ())


def test_a_given_transfer_set_needs_no_masks(root: Path, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"more/{number}.png", image(100 + number))
    found = prepared(root, transfer=str(tmp_path / "more"))
    assert found.transfer.ids == tuple(f"{number}.png" for number in range(4))


def test_a_transfer_set_with_masks_is_its_images(root: Path, tmp_path: Path) -> None:
    found = prepared(root, transfer=str(lay(tmp_path / "more", 4, seed=100)))
    assert (found.transfer.ids, found.transfer.masks) == (tuple(f"{number}.png" for number in range(4)), None)


def test_test_and_validation_data_have_the_labeled_classes(root: Path, tmp_path: Path) -> None:
    (root / "classes.txt").write_text("a\nb\nc\nd")
    (lay(tmp_path / "test", 2, seed=50) / "classes.json").write_text('["c", "b", "a"]')
    lay(tmp_path / "validation", 2, seed=60)
    found = prepared(root, test=str(tmp_path / "test"), validation=str(tmp_path / "validation"))
    assert found.test is not None
    assert found.validation is not None
    assert found.test.classes == found.validation.classes == ("a", "b", "c", "d")
    assert (first_pixels(found.test), first_pixels(found.validation)) == ([[IGNORED, 0]] * 2, [[IGNORED, 2]] * 2)


def test_test_masks_have_no_values_beyond_the_labeled_ones(root: Path, tmp_path: Path) -> None:
    lay(tmp_path / "test", 2, seed=50)
    save(tmp_path / "test/masks/1.png", mask(1, 7))
    with pytest.raises(DataError, match=r"test: 1 of 2 .*1 unknown id.*\n.*masks/1.png: unknown id"):
        prepared(root, test=str(tmp_path / "test"))


def test_shares_are_held_out_of_all_images(root: Path) -> None:
    found = prepared(root, test="20%", validation="25%")
    assert found.test is not None
    assert found.validation is not None
    parts = [found.labeled.ids, found.validation.ids, found.test.ids]
    assert [len(part) for part in parts] == [6, 2, 2]
    assert len({name for part in parts for name in part}) == COUNT
    assert len(found.validation.masks or ()) == 2


def test_copies_of_test_images_leave_labeled_and_transfer_data(root: Path, tmp_path: Path) -> None:
    lay(tmp_path / "test", 2, seed=50)
    shutil.copy(root / "images/4.png", tmp_path / "test/images/0.png")
    found = prepared(root, test=str(tmp_path / "test"))
    assert found.dropped["labeled"] == 1
    assert "4.png" not in {*found.labeled.ids, *found.transfer.ids}
    assert len(found.labeled.masks or ()) == COUNT - 1


def test_testing_on_the_labeled_images_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="every image is also a test or validation image"):
        prepared(root, test=str(root))


def test_pretraining_data_have_class_labels(root: Path, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"other/{'ab'[number % 2]}/{number}.png", image(200 + number))
    found = prepared(root, pretraining=str(tmp_path / "other"))
    assert found.pretraining is not None
    assert found.pretraining.classes == ("a", "b")


def test_ade20k_trains_tests_and_lists(tmp_path: Path) -> None:
    for part, count in (("training", 5), ("validation", 2)):
        for number in range(count):
            save(tmp_path / f"images/{part}/{part}{number}.png", image(number + 10 * count))
            save(tmp_path / f"annotations/{part}/{part}{number}.png", mask(number, 151) % 255)
    (tmp_path / "few.txt").write_text("training3.png\ntraining1.png\n")
    where = f"ade20k:{tmp_path}"
    found = prepare_data(
        DataSettings(labeled=f"list:{tmp_path}/few.txt@{where}", transfer=where, test=where),
        seed=0,
        task="segmentation",
    )
    assert found.labeled.ids == ("training3.png", "training1.png")
    assert (len(found.labeled.classes), len(found.transfer)) == (150, 5)
    assert found.test is not None
    assert found.test.ids == ("validation0.png", "validation1.png")
    assert first_pixels(found.labeled) == [[IGNORED, 149]] * 2


def spoil_size(root: Path) -> None:
    save(root / "masks/3.png", np.zeros((SIZE[1], SIZE[0]), np.uint8))


def spoil_id(root: Path) -> None:
    (root / "classes.txt").write_text("a\nb\nc")
    save(root / "masks/3.png", mask(3, 9))


def spoil_all(root: Path) -> None:
    save(root / "masks/3.png", np.full(SIZE, 255, np.uint8))


def spoil_pair(root: Path) -> None:
    (root / "masks/3.png").unlink()


def spoil_rgb(root: Path) -> None:
    save(root / "masks/3.png", image(3))


def spoil_file(root: Path) -> None:
    (root / "masks/3.png").write_bytes((root / "masks/3.png").read_bytes()[:40])


def spoil_jpeg(root: Path) -> None:
    (root / "masks/3.png").unlink()
    save(root / "masks/3.jpg", mask(3))


BAD = {
    "mask size": (spoil_size, r"masks/3.png: mask size \(6 x 8 pixels, its image 8 x 6\)"),
    "unknown id": (spoil_id, r"masks/3.png: unknown id \(value \d at row \d, column \d; classes have 0 to 2\)"),
    "all ignored": (spoil_all, r"masks/3.png: all ignored \(no pixel counts \(255 are ignored\)\)"),
    "no mask": (spoil_pair, r"3.png: no mask \(no masks/3\.\*\)"),
    "RGB mask": (spoil_rgb, r"masks/3.png: RGB mask \(colors, .*; give each class its color .*or convert"),
    "truncated": (spoil_file, r"masks/3.png: truncated"),
    "not a mask": (spoil_jpeg, r"masks/3.jpg: not a mask \(a JPEG, .*save masks as PNG\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_too_many_bad_masks_are_one_error_that_names_a_file(root: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    spoil(root)
    with pytest.raises(DataError, match=rf"train: 1 of 10 images cannot be used \(1 {kind}\), more .*\n.*{message}"):
        prepared(root)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_mask_is_left_out_and_listed_where_that_is_tolerated(root: Path, kind: str) -> None:
    BAD[kind][0](root)
    found = prepared(root, tolerate=0.1)
    assert [problem.kind for problem in found.problems["labeled"]] == [kind]
    assert "3.png" not in found.labeled.ids
    assert len(found.labeled.masks or ()) == COUNT - 1


def test_a_bad_mask_s_values_are_no_classes(root: Path) -> None:
    save(root / "masks/3.png", np.full((2, 2), 9, np.uint8))
    assert prepared(root, tolerate=0.1).labeled.classes == ("0", "1", "2")


def test_masks_of_colors_need_a_palette(root: Path) -> None:
    colors = np.array([[0, 0, 0], [250, 0, 0], [0, 0, 250]], dtype=np.uint8)
    for number in range(COUNT):
        save(root / f"masks/{number}.png", colors[mask(number).clip(max=2)])
    with pytest.raises(DataError, match=r"10 RGB mask.*none is left"):
        prepared(root)
    found = prepared(root, classes={"ground": [0, 0, 0], "cat": [250, 0, 0], "dog": [0, 0, 250]}).labeled
    assert (found.classes, first_pixels(found)) == (("ground", "cat", "dog"), [[2, 2]] * COUNT)


def test_values_around_255_need_a_word(root: Path) -> None:
    save(root / "masks/3.png", np.full(SIZE, 300, np.uint16))
    with pytest.raises(
        DataError, match=r"values up to 300, and nobody says .* whether 255 counts; give data.classes"
    ):
        prepared(root)
    assert len(prepared(root, classes=[str(number) for number in range(301)]).labeled.classes) == 301


def test_a_single_class_is_refused(root: Path) -> None:
    for number in range(COUNT):
        save(root / f"masks/{number}.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DataError, match=r"train: holds one class \(0\)"):
        prepared(root)


@pytest.mark.parametrize("said", [{"classes": ["a", "b"]}, {"ignore": 0}])
def test_what_is_said_about_masks_is_refused_where_there_are_none(root: Path, said: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"data.classes and data.ignore are about masks, .*'classification'"):
        prepare_data(DataSettings(labeled=str(root), **said), seed=0)


@pytest.mark.parametrize(("amount", "count"), [("3", 3), ("max:30", COUNT), ("25%", 3), ("all", COUNT)])
def test_labels_are_images_in_all(root: Path, amount: str, count: int) -> None:
    assert len(prepared(root, labels=amount).labeled) == count


def test_fewer_labels_lie_among_more(root: Path) -> None:
    data = read_parts(DataSettings(labeled=str(root)), task="segmentation")
    drawn = [{*draw_labels(data, str(count), seed=3).labeled.ids} for count in range(1, COUNT + 1)]
    assert all(few < more for few, more in itertools.pairwise(drawn))
    assert drawn[4] != {*draw_labels(data, "5", seed=4).labeled.ids}


def test_more_labels_than_images_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r'train: has 10 images, 11 were asked for; write labels: "max:11"'):
        prepared(root, labels="11")


def test_drawing_from_images_with_masks_is_drawing_from_one_class(root: Path) -> None:
    samples = prepared(root).labeled
    one = Samples(samples.ids, samples.images, targets=np.zeros(COUNT, np.int64), classes=("a",))
    assert few_shot(samples, "4", seed=1).tolist() == few_shot(one, "4", seed=1).tolist()
    assert hold_out(samples, 0.3, what="test")[1].tolist() == hold_out(one, 0.3, what="test")[1].tolist()


def test_a_single_image_cannot_be_held_out(root: Path) -> None:
    with pytest.raises(DataError, match="has a single image, and none is left to hold out for test"):
        hold_out(prepared(root, labels="1").labeled, 0.5, what="test")


def test_folds_hold_out_each_image_once() -> None:
    parts = folds(None, count=23, seed=0)
    assert len(parts) == 5
    assert sorted(np.concatenate([held for _, held in parts]).tolist()) == list(range(23))
    assert all(sorted([*fit, *held]) == list(range(23)) for fit, held in parts)


def test_folds_are_drawn_by_the_seed() -> None:
    first, again, other = (folds(None, count=23, seed=seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(("count", "more", "held"), [(1000, {}, 200), (20, {"share": 0.25}, 5)])
def test_many_images_or_a_share_are_held_out_once(count: int, more: dict[str, Any], held: int) -> None:
    ((fit, out),) = folds(None, count=count, seed=0, **more)
    assert (len(fit), len(out)) == (count - held, held)
    assert out.tolist() != list(range(held))


def test_there_are_no_more_folds_than_images() -> None:
    assert len(folds(None, count=3, seed=0)) == 3


def test_folds_of_one_image_are_refused() -> None:
    with pytest.raises(DataError, match="there is a single labeled image"):
        folds(None, count=1, seed=0)
