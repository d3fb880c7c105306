from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image

Command = Callable[..., Any]
Make = Callable[..., Path]
GREEN = 'green, or "so"'


@pytest.fixture
def pictures(tmp_path: Path, mask_run: Path) -> Path:
    """One of a red left and a wider blue right, one of a green kind in a subfolder, and one that is none."""
    halves = np.zeros((6, 10, 3), np.uint8)
    halves[:, :4, 0] = halves[:, 4:, 2] = 255
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.fromarray(halves).save(tmp_path / "in" / "a.png")
    Image.fromarray(np.full((5, 3, 3), (9, 255, 9), np.uint8)).save(tmp_path / "in" / "deep" / "b.jpg")
    (tmp_path / "in" / "d.png").write_text("none")
    return tmp_path / "in"


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_masks_keep_the_subfolders_of_their_images(tutelage: Command, pictures: Path) -> None:
    assert tutelage("predict", "run", "in", "--out", "masks").code == 1
    assert files("masks") == ["a.png", "deep/b.png"]


def test_a_mask_is_a_palette_image_whose_indices_are_classes(tutelage: Command, pictures: Path) -> None:
    tutelage("predict", "run", "in/a.png", "--out", "masks")
    with Image.open("masks/a.png") as mask:
        assert (mask.mode, mask.size) == ("P", (10, 6))
        assert np.asarray(mask).tolist() == [[0] * 4 + [2] * 6] * 6
        assert mask.convert("RGB").getpixel((0, 0)) == (250, 0, 0)
        assert mask.convert("RGB").getpixel((9, 5)) == (0, 0, 250)


def test_masks_are_read_as_they_were_predicted(tutelage: Command, pictures: Path) -> None:
    from tutelage.data.masks import Mask, MaskCode, decode_mask

    tutelage("predict", "run", "in/a.png", "--out", "masks")
    found = decode_mask(Mask(Path("masks/a.png"), MaskCode()))
    assert found.tolist() == [[0] * 4 + [2] * 6] * 6


def test_many_classes_are_written_in_16_bits(tutelage: Command, pictures: Path, make_mask_model: Make) -> None:
    make_mask_model(pictures.parent / "wide.onnx", kind=TensorProto.INT32)
    tutelage("predict", "wide.onnx", "in/a.png", "--out", "masks")
    with Image.open("masks/a.png") as mask:
        assert mask.mode == "I;16"
        assert np.asarray(mask).tolist() == [[0] * 4 + [2] * 6] * 6


def test_overlays_are_the_images_half_covered(tutelage: Command, pictures: Path) -> None:
    tutelage("predict", "run", "in", "--out", "masks", "--overlay")
    assert files("masks") == ["a-overlay.jpg", "a.png", "deep/b-overlay.jpg", "deep/b.png"]
    with Image.open("masks/deep/b-overlay.jpg") as picture:
        assert picture.size == (3, 5)
        np.testing.assert_allclose(picture.getpixel((1, 2)), (4, 252, 4), atol=6)


def test_rows_hold_files_and_shares_in_falling_order(tutelage: Command, pictures: Path) -> None:
    found = json.loads(tutelage("predict", "run", "in", "--out", "masks", "--overlay", "--json").out)
    rows = {row["file"]: row for row in found["predictions"]}
    assert rows["in/a.png"] == {
        "file": "in/a.png",
        "mask": "masks/a.png",
        "overlay": "masks/a-overlay.jpg",
        "classes": [{"label": "blue", "share": 0.6}, {"label": "red", "share": 0.4}],
    }
    assert rows["in/deep/b.jpg"]["classes"] == [{"label": GREEN, "share": 1.0}]
    assert "cannot be decoded" in rows["in/d.png"]["error"]
    assert (found["task"], found["out"], found["images"], found["failed"]) == ("segmentation", "masks", 3, 1)


def test_without_out_there_are_rows_alone(tutelage: Command, pictures: Path) -> None:
    rows = [json.loads(line) for line in tutelage("predict", "run", "in", "--format", "jsonl").out.splitlines()]
    assert [row.get("mask") for row in rows] == [None] * 3
    assert sorted(path.name for path in Path().iterdir()) == ["in", "run"]


def test_csv_has_a_column_for_each(tutelage: Command, pictures: Path) -> None:
    ended = tutelage("predict", "run", "in", "--out", "masks", "--format", "csv", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert list(rows[0]) == ["file", "mask", "label", "share", "label_2", "share_2", "error"]
    assert rows[0] | {"error": ""} == {
        "file": "in/a.png",
        "mask": "masks/a.png",
        "label": "blue",
        "share": "0.6",
        "label_2": "red",
        "share_2": "0.4",
        "error": "",
    }


def test_the_table_shows_masks_and_shares(tutelage: Command, pictures: Path) -> None:
    lines = tutelage("predict", "run", "in/a.png", "--out", "masks").out.splitlines()
    assert lines[1].split() == ["in/a.png", "masks/a.png", "blue", "60.0%", "red", "40.0%"]


def test_names_that_differ_in_their_suffix_alone_do_not_collide(tutelage: Command, pictures: Path) -> None:
    for suffix in ("jpg", "bmp"):
        Image.new("RGB", (2, 2), "blue").save(pictures / f"a.{suffix}")
    found = json.loads(tutelage("predict", "run", "in", "--out", "masks", "--json").out)["predictions"]
    masks = [row["mask"] for row in found if "mask" in row]
    assert len(set(masks)) == len(masks) == 4
    assert len(files("masks")) == 4


def test_folders_side_by_side_keep_their_names(tutelage: Command, pictures: Path) -> None:
    tutelage("predict", "run", "in/deep", "in/a.png", "--out", "masks")
    assert files("masks") == ["a.png", "deep/b.png"]
    tutelage("predict", "run", "in/*.png", "in/deep/*.jpg", "--out", "again")
    assert files("again") == ["a.png", "deep/b.png"]


def test_an_image_on_stdin_gets_a_mask(tutelage: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO((pictures / "a.png").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert tutelage("predict", "run", "-", "--out", "masks").code == 0
    assert files("masks") == ["stdin.png"]


@pytest.mark.parametrize("out", ["in", "in/masks"])
def test_masks_do_not_go_where_images_are_looked_for(tutelage: Command, pictures: Path, out: str) -> None:
    for named in ("in", "in/**/*.jpg"):
        ended = tutelage("predict", "run", named, "--out", out)
        assert (ended.code, "where images are looked for" in ended.err) == (2, True)


def test_no_image_is_written_over(tutelage: Command, pictures: Path) -> None:
    before = (pictures / "a.png").read_bytes()
    Image.new("RGB", (2, 2), "blue").save(pictures / "a.jpg")
    ended = tutelage("predict", "run", "in/a.jpg", "in/a.png", "--out", "in")
    assert (ended.code, "would be written over" in ended.err) == (2, True)
    assert (pictures / "a.png").read_bytes() == before


def test_out_that_is_a_file_is_refused(tutelage: Command, pictures: Path) -> None:
    Path("masks").write_text("mine")
    ended = tutelage("predict", "run", "in", "--out", "masks")
    assert (ended.code, "masks go into a folder" in ended.err) == (2, True)
    assert Path("masks").read_text() == "mine"


def test_an_overlay_needs_a_folder(tutelage: Command, pictures: Path) -> None:
    ended = tutelage("predict", "run", "in", "--overlay")
    assert (ended.code, "--out" in ended.err) == (2, True)


def test_a_classifier_has_no_overlays(tutelage: Command, pictures: Path, make_model: Make) -> None:
    make_model(pictures.parent / "classifier.onnx")
    ended = tutelage("predict", "classifier.onnx", "in", "--overlay")
    assert (ended.code, "names whole images" in ended.err) == (2, True)


def test_it_needs_no_torch(pictures: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[0] = 'tutelage'\n"
        "for name in ('torch', 'torchvision', 'timm'): sys.modules[name] = None\n"
        "from tutelage.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "predict", "run", "in/a.png", "--out", "masks", "--overlay"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / "a-overlay.jpg").is_file()
