from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Command = Callable[..., Any]
Make = Callable[..., Path]
GREEN = 'green, or "so"'


def save(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.png")


@pytest.fixture
def data(tmp_path: Path, mask_run: Path) -> Path:
    """A red and a blue half, of which a row looks green and one is ignored; a class is not the model's."""
    image = np.zeros((4, 6, 3))
    image[:, :3, 0] = image[:, 3:, 2] = 255
    image[0] = (0, 255, 0)
    mask = np.zeros((4, 6))
    mask[:, 3:] = 2
    mask[3] = 255
    save(tmp_path / "data", "a", image, mask)
    (tmp_path / "data" / "classes.txt").write_text("red\npurple\nblue\n")
    return tmp_path / "data"


def evaluated(tutelage: Command, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tutelage("evaluate", "run", "data", "--json", *more).out)
    return found


def test_numbers_are_of_the_pixels_that_count(tutelage: Command, data: Path) -> None:
    found = evaluated(tutelage)
    assert (found["images"], found["pixels"]) == (1, 18)
    assert found["pixel_accuracy"] == pytest.approx(12 / 18)
    assert found["miou"] == pytest.approx((6 / 9 + 0 + 6 / 9) / 3)
    assert found["class_accuracy"] == pytest.approx(6 / 9)


def test_classes_are_matched_by_name_not_by_place(tutelage: Command, data: Path) -> None:
    (data / "classes.txt").write_text("blue\npurple\nred\n")
    rows = {row["name"]: row for row in evaluated(tutelage)["classes"]}
    assert [rows[name]["pixels"] for name in ("red", GREEN, "blue")] == [9, 0, 9]
    assert rows["red"]["iou"] == 0


def test_each_class_has_its_iou(tutelage: Command, data: Path) -> None:
    rows = {row["name"]: row for row in evaluated(tutelage)["classes"]}
    third = pytest.approx(2 / 3)
    assert rows["red"] == {"name": "red", "pixels": 9, "iou": third, "recall": third, "precision": 1.0}
    assert rows[GREEN] == {"name": GREEN, "pixels": 0, "iou": 0.0, "recall": None, "precision": 0.0}


def test_confused_pairs_are_counted_in_pixels(tutelage: Command, data: Path) -> None:
    assert evaluated(tutelage)["confused"] == [
        {"class": "red", "taken_for": GREEN, "pixels": 3},
        {"class": "blue", "taken_for": GREEN, "pixels": 3},
    ]


def test_pixels_of_unknown_classes_are_left_out_and_told(tutelage: Command, data: Path) -> None:
    save(data, "b", np.zeros((2, 2, 3)), np.ones((2, 2)))
    ended = tutelage("evaluate", "run", "data", "--json")
    assert json.loads(ended.out)["unknown_classes"] == {"purple": 4}
    assert json.loads(ended.out)["pixels"] == 18
    assert "left out: 4 pixels of 'purple', which the model does not know" in ended.err


def test_masks_of_classes_that_nobody_names_have_the_models_numbers(tutelage: Command, data: Path) -> None:
    (data / "classes.txt").unlink()
    assert evaluated(tutelage)["pixel_accuracy"] == pytest.approx(12 / 18)


def test_what_was_predicted_is_perfect(tutelage: Command, data: Path) -> None:
    (data / "classes.txt").unlink()
    assert tutelage("predict", "run", "data/images", "--out", "again/masks").code == 0
    Path("again/images").symlink_to(data / "images")
    found = json.loads(tutelage("evaluate", "run", "again", "--json").out)
    assert (found["miou"], found["pixels"]) == (1.0, 24)


def test_what_cannot_be_judged_is_left_out_and_told(tutelage: Command, data: Path) -> None:
    save(data, "b", np.zeros((2, 2, 3)), np.zeros((3, 2)))
    save(data, "c", np.zeros((2, 2, 3)), np.full((2, 2), 77))
    ended = tutelage("evaluate", "run", "data", "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["images"], [each["image"] for each in found["failed"]]) == (1, 1, ["b.png", "c.png"])
    assert "2 x 3 pixels, its image 2 x 2" in ended.err
    assert "77" in ended.err


def test_the_terminal_shows_the_same(tutelage: Command, data: Path) -> None:
    ended = tutelage("evaluate", "run", "data")
    assert ended.code == 0
    assert "44.4%" in ended.out
    assert f"red taken for {GREEN}: 3 pixels" in ended.out


def test_data_of_other_classes_is_an_error(tutelage: Command, data: Path) -> None:
    (data / "classes.txt").write_text("sky\nsea\nsand\n")
    ended = tutelage("evaluate", "run", "data")
    assert (ended.code, "sky, sea, sand" in ended.err) == (2, True)


def test_data_without_masks_are_an_error(tutelage: Command, mask_run: Path, flowers: Path) -> None:
    ended = tutelage("evaluate", "run", "flowers")
    assert ended.code == 2
    assert "masks" in ended.err


def test_it_needs_no_torch(data: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv[0] = 'tutelage'\n"
        "for name in ('torch', 'torchvision', 'timm'): sys.modules[name] = None\n"
        "from tutelage.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "evaluate", "run", "data", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
