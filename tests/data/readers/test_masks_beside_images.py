from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tutelage.data.mask_codes import MaskCode, MaskReading
from tutelage.data.mask_pixels import IGNORED, decode_mask_pixels
from tutelage.data.readers import check_data, read_samples
from tutelage.data.readers.stream import stream_samples
from tutelage.data.samples import Samples
from tutelage.errors import DataError

COUNT = 4


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(number: int) -> bytes:
    return png(np.random.default_rng(number).integers(0, 256, (3, 4, 3)))


def mask(number: int) -> bytes:
    """A mask that has 0, 1 and 255, and its number."""
    return png([[0, 1, 255, number]] * 3)


def pairs(root: Path, *, masks: str = "masks", below: str = "") -> Path:
    for number in range(COUNT):
        put(root / "images" / below / f"{number}.jpg", picture(number))
        put(root / masks / below / f"{number}.png", mask(number))
    return root


def read(where: object, part: Any = "train", **reading: Any) -> Samples:
    return read_samples(str(where), part=part, labeled=True, masks=MaskReading(**reading))


def unlabeled(where: object, part: Any = "train") -> Samples:
    return read_samples(str(where), part=part, labeled=False)


def decoded(samples: Samples) -> list[list[int]]:
    """The first row of each mask."""
    assert samples.masks is not None
    return [decode_mask_pixels(each)[0].tolist() for each in samples.masks]


def kinds(samples: Samples) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in samples.problems]


PLAIN = [[0, 1, IGNORED, number] for number in range(COUNT)]


@pytest.mark.parametrize("masks", ["masks", "annotations", "labels"])
def test_images_have_the_masks_of_their_names(tmp_path: Path, masks: str) -> None:
    found = read(pairs(tmp_path, masks=masks))
    assert found.ids == tuple(f"{number}.jpg" for number in range(COUNT))
    assert decoded(found) == PLAIN
    assert (found.targets, found.classes, found.problems) == (None, (), ())


def test_pairs_lie_at_the_same_path(tmp_path: Path) -> None:
    pairs(tmp_path, below="a/b")
    put(tmp_path / "images/0.jpg", picture(9))
    put(tmp_path / "masks/0.tif", mask(3))
    found = read(tmp_path)
    assert found.ids == ("0.jpg", *(f"a/b/{number}.jpg" for number in range(COUNT)))
    assert decoded(found)[:2] == [PLAIN[3], PLAIN[0]]


def test_what_has_no_partner_is_left_out_and_named(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "masks/1.png").unlink()
    (tmp_path / "images/2.jpg").unlink()
    put(tmp_path / "masks/3.gif", mask(3))
    found = read(tmp_path)
    assert found.ids == ("0.jpg",)
    assert sorted(kinds(found)) == [("no image", "masks/2.png"), ("no mask", "1.jpg"), ("no mask", "3.jpg")]
    details = {problem.where: problem.detail for problem in found.problems}
    assert details["1.jpg"] == "no masks/1.*"
    assert details["3.jpg"] == "2 masks have its name: 3.gif, 3.png"


def test_without_any_pair_it_is_said_how_they_are_found(tmp_path: Path) -> None:
    pairs(tmp_path, below="a")
    (tmp_path / "masks/a").rename(tmp_path / "masks/b")
    with pytest.raises(DataError, match=r"none of 4 images has a mask, .*mask of images/a/1.jpg is masks/a/1.png"):
        read(tmp_path)


def test_a_folder_per_class_has_no_masks(tmp_path: Path) -> None:
    put(tmp_path / "cat/1.png", picture(1))
    with pytest.raises(DataError, match=r"has no folders images/ and masks/ \(or annotations/, labels/\) inside;"):
        read(tmp_path)


def test_parts_one_folder_deeper_are_suggested(tmp_path: Path) -> None:
    pairs(tmp_path / "train")
    pairs(tmp_path / "test")
    with pytest.raises(DataError, match="inside; test and train in it have;"):
        read(tmp_path)


def test_two_folders_of_masks_are_refused(tmp_path: Path) -> None:
    pairs(pairs(tmp_path), masks="labels")
    with pytest.raises(DataError, match="has masks/ and labels/; rename all but one"):
        read(tmp_path)


def test_unlabeled_only_the_images_are_read_under_the_same_ids(tmp_path: Path) -> None:
    labeled, found = read(pairs(tmp_path)), unlabeled(tmp_path)
    assert (found.ids, found.images, found.masks) == (labeled.ids, labeled.images, None)


def test_streamed_only_the_images_are_read(tmp_path: Path) -> None:
    (found,) = stream_samples(str(pairs(tmp_path)))
    assert found.fingerprint == unlabeled(tmp_path).fingerprint


def test_a_folder_of_images_without_masks_is_read_whole(tmp_path: Path) -> None:
    put(tmp_path / "images/1.png", picture(1))
    put(tmp_path / "more/2.png", picture(2))
    assert unlabeled(tmp_path).ids == ("images/1.png", "more/2.png")


def test_class_labels_are_read_as_ever(tmp_path: Path) -> None:
    pairs(tmp_path)
    assert read_samples(str(tmp_path), labeled=True).classes == ("images", "masks")


@pytest.mark.parametrize("where", ["digits", "hf:x", "torchvision:MNIST", "a.tar"])
def test_other_kinds_of_data_have_no_masks(where: str) -> None:
    with pytest.raises(
        DataError, match=r"masks are not read from data of this kind .*give one of folder, table, list"
    ):
        read(where)


def test_masks_on_a_store_are_read_where_they_lie(memory: Any) -> None:
    for number in range(COUNT):
        memory.pipe(f"/t/images/{number}.jpg", picture(number))
        memory.pipe(f"/t/masks/{number}.png", mask(number))
    memory.pipe("/t/classes.txt", b"a\nb\nc\nd\n")
    found = read("memory://t")
    assert (decoded(found), found.classes) == (PLAIN, ("a", "b", "c", "d"))
    assert unlabeled("memory://t").ids == found.ids


def test_a_changed_mask_changes_the_fingerprint(tmp_path: Path) -> None:
    before = read(pairs(tmp_path))
    assert read(tmp_path).fingerprint == before.fingerprint
    put(tmp_path / "masks/0.png", png(np.full((3, 4), 2)))
    after = read(tmp_path)
    assert after.fingerprint != before.fingerprint
    assert after.without_targets().fingerprint == before.without_targets().fingerprint


def test_another_code_changes_the_fingerprint(tmp_path: Path) -> None:
    pairs(tmp_path)
    assert read(tmp_path).fingerprint != read(tmp_path, ignore=(0,)).fingerprint


def test_samples_keep_their_masks_when_picked(tmp_path: Path) -> None:
    assert decoded(read(pairs(tmp_path)).subset(np.array([2, 0]))) == [PLAIN[2], PLAIN[0]]


LISTS: dict[str, tuple[str, str, tuple[str, ...], list[int]]] = {
    "names": ("classes.txt", "sky\n\nsea\nsand \nsun\n", ("sky", "sea", "sand", "sun"), [0, 1, IGNORED, 2]),
    "names, JSON": ("classes.json", '["sky", "sea", "sand"]', ("sky", "sea", "sand"), [0, 1, IGNORED, 2]),
    "numbers, JSON": ("classes.json", '{"sea": 1, "sky": 0, "x": 2}', ("sea", "sky", "x"), [1, 0, IGNORED, 2]),
    "numbers, CSV": ("classes.csv", "Name, ID\nsea,1\nsky,0\nx,2\n", ("sea", "sky", "x"), [1, 0, IGNORED, 2]),
    "colors, CSV": (
        "classes.csv",
        "name,r,g,b\nsky,0,0,0\nsea,1,1,1\nx,2,2,2\ny,255,255,255",
        ("sky", "sea", "x", "y"),
        [0, 1, 3, 2],
    ),
    "colors, JSON": (
        "classes.json",
        '{"a": [255, 255, 255], "b": [0, 0, 0], "c": [1, 1, 1], "d": [2, 2, 2]}',
        ("a", "b", "c", "d"),
        [1, 2, 0, 3],
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_in_the_folder_names_the_classes(tmp_path: Path, name: str) -> None:
    file, content, classes, row = LISTS[name]
    put(pairs(tmp_path) / file, content)
    found = read(tmp_path)
    assert found.classes == classes
    assert decoded(found.subset(np.array([2]))) == [row]


def test_the_recipe_comes_before_the_list(tmp_path: Path) -> None:
    put(pairs(tmp_path) / "classes.txt", "a\nb\nc\nd")
    found = read(tmp_path, classes={"x": 0, "y": 1, "z": 2, "w": 3}, ignore=(255, 0x10))
    assert found.classes == ("x", "y", "z", "w")
    assert found.masks is not None
    assert found.masks[0].code.ignored == (255, 16)


def test_what_is_ignored_may_be_said_alone(tmp_path: Path) -> None:
    put(pairs(tmp_path) / "classes.json", '{"b": 1, "c": 2, "d": 3}')
    assert decoded(read(tmp_path, ignore=(0, 255)))[2] == [IGNORED, 0, IGNORED, 1]


BROKEN: dict[str, tuple[str, str | bytes, str]] = {
    "no JSON": ("classes.json", "{", "is no valid JSON .*give a list of names"),
    "no classes": ("classes.json", '{"a": "red"}', "lists no classes; give a list of names"),
    "a class twice, JSON": ("classes.json", '{"a": 1, "a": 2}', "names a class twice"),
    "a class twice": ("classes.txt", "a\nb\na", "class 'a' stands there twice"),
    "an empty file": ("classes.txt", "\n", "no class is named"),
    "no columns": ("classes.csv", "class,color\na,red", "has the columns class, color; give name and id"),
    "no numbers": ("classes.csv", "name,id\na,1\nb,two", "line 3: id must be whole numbers"),
    "a short line": ("classes.csv", "name,r,g,b\na,1,2", "line 2: r, g, b must be whole numbers"),
    "no text": ("classes.txt", b"\xff\xfea", "is not UTF-8 text"),
    "no list of ADE20K": ("objectInfo150.txt", "nothing", "lists no classes; put the file there"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_list_is_named(tmp_path: Path, name: str) -> None:
    file, content, message = BROKEN[name]
    put(pairs(tmp_path) / file, content)
    with pytest.raises(DataError, match=rf"{file}.*{message}"):
        read(tmp_path)


def test_classes_of_other_data_order_those_of_a_list(tmp_path: Path) -> None:
    put(pairs(tmp_path) / "classes.txt", "d\nc\nb\na")
    found = read(tmp_path, order=("a", "b", "c", "d"))
    assert found.classes == ("a", "b", "c", "d")
    assert decoded(found)[1] == [3, 2, IGNORED, 2]


def test_without_a_list_the_code_of_other_data_holds(tmp_path: Path) -> None:
    code = MaskCode(((0, 1), (1, 0), (2, 2), (3, 3)), (255,))
    found = read(pairs(tmp_path), order=("a", "b", "c", "d"), code=code)
    assert found.classes == ("a", "b", "c", "d")
    assert decoded(found)[2] == [1, 0, IGNORED, 2]


def test_a_class_that_other_data_lack_is_named(tmp_path: Path) -> None:
    put(pairs(tmp_path) / "classes.txt", "a\nb\nz")
    with pytest.raises(DataError, match=r"classes.txt: class 'z' is none of the labeled data's \(a, b, c\)"):
        read(tmp_path, order=("a", "b", "c"))


TABLES: dict[str, Callable[[Path], Path]] = {
    "CSV": lambda root: put(
        root / "t.csv", "image,mask\n" + "".join(f"images/{n}.jpg,masks/{n}.png\n" for n in range(COUNT))
    ),
    "TSV": lambda root: put(
        root / "t.tsv", "mask\timage\n" + "".join(f"masks/{n}.png\timages/{n}.jpg\n" for n in range(COUNT))
    ),
    "Parquet, paths": lambda root: parquet(
        root / "t.parquet",
        image=[f"images/{n}.jpg" for n in range(COUNT)],
        mask=[f"masks/{n}.png" for n in range(COUNT)],
    ),
    "Parquet, bytes": lambda root: parquet(
        root / "t.parquet", image=[picture(n) for n in range(COUNT)], mask=[mask(n) for n in range(COUNT)]
    ),
    "Parquet, structs": lambda root: parquet(
        root / "t.parquet",
        image=[{"bytes": picture(n), "path": None} for n in range(COUNT)],
        mask=[{"bytes": mask(n), "path": None} for n in range(COUNT)],
    ),
}


def parquet(path: Path, **columns: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_a_column_of_masks(tmp_path: Path, name: str) -> None:
    where = TABLES[name](pairs(tmp_path))
    put(tmp_path / "classes.txt", "a\nb\nc\nd")
    found = read(where)
    assert decoded(found) == PLAIN
    assert found.classes == ("a", "b", "c", "d")
    assert unlabeled(where).ids == found.ids


def test_rows_without_a_mask_are_left_out(tmp_path: Path) -> None:
    pairs(tmp_path)
    lines = ["image,mask", "images/0.jpg,masks/0.png", "images/1.jpg,", "images/2.jpg,masks/gone.png"]
    found = read(put(tmp_path / "t.csv", "\n".join(lines)))
    assert found.ids == ("images/0.jpg",)
    assert sorted(kinds(found)) == [("no mask", "images/1.jpg"), ("vanished", "masks/gone.png")]


def test_a_table_without_any_mask_is_refused(tmp_path: Path) -> None:
    where = put(pairs(tmp_path) / "t.csv", "image,mask\nimages/0.jpg,\n")
    with pytest.raises(DataError, match=r"none of 1 images has a mask, .*fill in the column mask"):
        read(where)


def test_a_column_that_may_be_meant_is_suggested(tmp_path: Path) -> None:
    where = put(pairs(tmp_path) / "t.csv", "image,annotation\nimages/0.jpg,masks/0.png\n")
    with pytest.raises(DataError, match=r"has no column 'mask'; .*; rename 'annotation'"):
        read(where)


OBJECTS = (
    "Idx\tRatio\tTrain\tVal\tName                            \n"
    "1\t0.1576\t11664\t1172\twall                            \n"
    "2\t0.1072\t6046\t612\tbuilding, edifice               \n"
    "3\t0.0878\t8265\t796\tsky\n"
)
"""The form of ADE20K's own list."""


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    """A tiny copy of ADE20K's layout: three images to train, one to validate."""
    for part, kind, numbers in (("training", "train", (1, 2, 3)), ("validation", "val", (1,))):
        for number in numbers:
            name = f"ADE_{kind}_{number:08d}"
            put(tmp_path / "images" / part / f"{name}.jpg", picture(number))
            put(tmp_path / "annotations" / part / f"{name}.png", png([[0, 1, 2, number]] * 3))
    put(tmp_path / "objectInfo150.txt", OBJECTS)
    return tmp_path


def test_ade20k_s_values_are_its_classes_plus_one(ade: Path) -> None:
    found = read(f"ade20k:{ade}")
    assert found.ids == tuple(f"ADE_train_{number:08d}.jpg" for number in (1, 2, 3))
    assert found.classes == ("wall", "building", "sky")
    assert decoded(found) == [[IGNORED, 0, 1, number - 1] for number in (1, 2, 3)]


def test_ade20k_s_validation_images_are_its_test_part(ade: Path) -> None:
    assert read(f"ade20k:{ade}", "test").ids == ("ADE_val_00000001.jpg",)
    assert unlabeled(f"ade20k:{ade}", "test").ids == ("ADE_val_00000001.jpg",)


def test_ade20k_has_150_classes_where_nobody_lists_them(ade: Path) -> None:
    (ade / "objectInfo150.txt").unlink()
    found = read(f"ade20k:{ade}")
    assert (len(found.classes), found.classes[0], found.classes[-1]) == (150, "1", "150")
    assert decoded(found)[2] == [IGNORED, 0, 1, 2]


def test_names_alone_begin_at_one_in_ade20k(ade: Path) -> None:
    found = read(f"ade20k:{ade}", classes=("a", "b", "c"))
    assert found.classes == ("a", "b", "c")
    assert decoded(found)[2] == [IGNORED, 0, 1, 2]


def test_names_of_ade20k_that_are_not_unique_are_kept_whole(ade: Path) -> None:
    put(ade / "objectInfo150.txt", OBJECTS.replace("building", "wall"))
    assert read(f"ade20k:{ade}").classes == ("wall", "wall, edifice", "sky")


def test_ade20k_unlabeled_is_its_training_images(ade: Path) -> None:
    found = unlabeled(f"ade20k:{ade}")
    assert (found.ids, found.masks) == (read(f"ade20k:{ade}").ids, None)


def test_ade20k_has_no_class_labels(ade: Path) -> None:
    with pytest.raises(DataError, match="has masks and no labels of whole images; set task: segmentation"):
        read_samples(f"ade20k:{ade}", labeled=True)


def test_another_layout_is_not_ade20k_s(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images/training; expected ADE20K's layout"):
        check_data(f"ade20k:{pairs(tmp_path)}")


@pytest.mark.parametrize("root", ["{}", "ade20k:{}"])
def test_a_list_of_files_alone_picks_images_with_their_masks(ade: Path, tmp_path: Path, root: str) -> None:
    file = put(tmp_path / "some.txt", "ADE_train_00000003.jpg\nADE_train_00000001.jpg\n")
    where = f"list:{file}@{root.format(ade)}"
    check_data(where)
    found = read(where)
    assert found.ids == ("ADE_train_00000003.jpg", "ADE_train_00000001.jpg")
    assert found.classes == ("wall", "building", "sky")
    assert decoded(found) == [[IGNORED, 0, 1, 2], [IGNORED, 0, 1, 0]]
    assert found.images == [read(f"ade20k:{ade}").images[row] for row in (2, 0)]  # type: ignore[index]
    assert unlabeled(where).ids == found.ids


def test_a_list_may_name_ade20k_where_nothing_else_tells(ade: Path) -> None:
    (ade / "objectInfo150.txt").unlink()
    file = put(ade / "some.txt", "ADE_train_00000003.jpg\n")
    assert decoded(read(f"list:{file}@ade20k:{ade}")) == [[IGNORED, 0, 1, 2]]


def test_a_list_finds_names_without_suffix(tmp_path: Path) -> None:
    file = put(pairs(tmp_path) / "val.txt", "2\n0\n")
    assert decoded(read(f"list:{file}@{tmp_path}")) == [PLAIN[2], PLAIN[0]]


def test_listed_images_without_a_mask_are_named_and_others_are_no_loss(tmp_path: Path) -> None:
    file = put(pairs(tmp_path) / "val.txt", "2.jpg\n0.jpg\ngone.jpg\n")
    (tmp_path / "masks/0.png").unlink()
    found = read(f"list:{file}@{tmp_path}")
    assert sorted(kinds(found)) == [("no mask", "0.jpg"), ("vanished", "gone.jpg")]


def test_a_class_list_may_be_json_with_a_mark_in_front(tmp_path: Path) -> None:
    put(pairs(tmp_path) / "classes.json", b"\xef\xbb\xbf" + json.dumps(["a", "b", "c", "d"]).encode())
    assert read(tmp_path).classes == ("a", "b", "c", "d")


def test_a_store_that_forbids_what_it_lacks_is_read_whole(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> bool:
        raise PermissionError(path)

    memory.pipe("/t/a/1.png", picture(1))
    monkeypatch.setattr(memory, "isdir", forbidden)
    assert unlabeled("memory://t").ids == ("a/1.png",)


def test_masks_on_a_store_that_is_not_there_are_an_error(memory: Any) -> None:
    with pytest.raises(DataError, match="memory://nowhere: is not there"):
        read("memory://nowhere")
