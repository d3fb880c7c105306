from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.report.dense_runs import write_dense_run

from tutelage.report.comparison import models, verdicts
from tutelage.report.finished import Finished, read_run
from tutelage.report.overlap import iou_difference
from tutelage.report.segments import beside, segments, told, worst
from tutelage.tasks.segmentation import class_iou

STAGE = "07-evaluate"
MANY = [f"class {number}" for number in range(60)]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Finished]:
    return lambda **how: read_run(write_dense_run(tmp_path / "runs" / "masks", **how))


def classes_of(run: Finished) -> dict[str, Any]:
    found = segments(run)
    assert found is not None
    return found


def test_the_hardest_class_comes_first_with_the_teachers_iou_beside(run: Callable[..., Finished]) -> None:
    made = run()
    ours, theirs = (class_iou(made.predictions["evaluate"][name]) for name in ("student", "finetune"))
    expected = sorted(zip(ours, theirs, ("background", "cat", "dog"), strict=True))
    rows = classes_of(made)["hardest"]
    assert [(row["name"], row["share"], row["teacher"]) for row in rows] == [
        (name, one, f"{100 * other:.1f}%") for one, other, name in expected if one is not None and other is not None
    ]


def test_a_class_has_its_images_and_its_share_of_pixels(run: Callable[..., Finished]) -> None:
    made = run()
    true = made.predictions["evaluate"]["student"][..., 2].double()
    for row in classes_of(made)["hardest"]:
        number = ("background", "cat", "dog").index(row["name"])
        assert row["images"] == str(int((true[:, number] > 0).sum()))
        assert row["pixels"] == f"{100 * float(true[:, number].sum() / true.sum()):.1f}%"


def test_pixels_that_are_told_wrong_are_counted() -> None:
    counts = torch.tensor([[[30, 40, 60], [10, 40, 20]]])
    assert told(counts) == "Of 80 pixels of 1 test image, 50.0% are told wrong."


def test_recall_and_precision_have_their_own_denominators(run: Callable[..., Finished]) -> None:
    made = run(classes=("a", "b"))
    counts = torch.tensor([[[30, 40, 60], [10, 40, 20]]])
    changed = {"student": counts, "finetune": counts}
    rows = classes_of(replace(made, predictions={"evaluate": changed}))["hardest"]
    assert {row["name"]: (row["recall"], row["precision"]) for row in rows} == {
        "a": ("50.0%", "75.0%"),
        "b": ("50.0%", "25.0%"),
    }


def test_a_class_that_is_nowhere_comes_last_without_numbers(run: Callable[..., Finished]) -> None:
    made = run(classes=("a", "b", "c", "nowhere"), nowhere=2)
    row = classes_of(made)["hardest"][-1]
    assert row["name"] == "nowhere"
    assert (row["share"], row["iou"], row["recall"], row["precision"]) == (None, "—", "—", "—")


def test_of_many_classes_the_easy_ones_are_folded(run: Callable[..., Finished]) -> None:
    found = classes_of(run(classes=MANY))
    assert (len(found["hardest"]), len(found["others"])) == (20, 40)


def test_without_a_teacher_none_is_compared(run: Callable[..., Finished]) -> None:
    found = classes_of(run(method="scratch", baselines=()))
    assert (found["teacher"], found["beside"]) == (False, "")


def test_classes_on_which_the_student_is_better_are_counted() -> None:
    assert beside([0.5, 0.2, None, 0.3], [0.4, 0.2, None, 0.9]).startswith("On 1 of 3 classes the student is better")


def test_a_lead_has_an_interval_over_the_same_images(run: Callable[..., Finished]) -> None:
    made = run()
    ours, theirs = (made.predictions[stage]["student"].numpy() for stage in ("evaluate", "scratch-evaluate"))
    low, high = iou_difference(ours, theirs)
    assert f"interval of +{100 * low:.1f} to +{100 * high:.1f} points" in verdicts(made)[0]


def test_every_model_has_its_interval(run: Callable[..., Finished]) -> None:
    rows = models(run())
    assert len(rows) == 4
    assert all(row["interval"].low <= row["at"] <= row["interval"].high for row in rows)


def test_without_predictions_there_are_no_intervals(run: Callable[..., Finished]) -> None:
    assert {row["interval"] for row in models(replace(run(), predictions={}))} == {None}


def test_the_worst_images_are_the_files_of_the_evaluation(run: Callable[..., Finished]) -> None:
    made = run()
    shown = worst(made)["images"]
    assert len(shown) == 12
    for place, each in enumerate(shown, start=1):
        for part, picture in zip(("image", "truth", "prediction"), each["pictures"], strict=True):
            (file,) = (made.folder / STAGE).glob(f"worst-{place:02d}-{part}.*")
            assert base64.b64decode(picture["source"].split(",")[1]) == file.read_bytes()


def test_an_image_without_one_of_its_pictures_is_left_out(run: Callable[..., Finished]) -> None:
    folder = run().folder
    next((folder / STAGE).glob("worst-01-truth.*")).unlink()
    next((folder / STAGE).glob("worst-02-image.*")).write_text("<svg onload=alert(1)>")
    assert len(worst(read_run(folder))["images"]) == 10


def test_no_file_outside_the_stage_is_one_of_them(run: Callable[..., Finished]) -> None:
    folder = run().folder
    listed = folder / STAGE / "worst.json"
    content = json.loads(listed.read_text())
    (folder / "outside.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    content["worst"][0]["pictures"]["truth"] = "../outside.png"
    content["worst"][1]["pictures"]["image"] = str(folder / "outside.png")
    listed.write_text(json.dumps(content))
    assert len(read_run(folder).worst) == 10


def test_the_legend_is_in_the_order_of_the_classes(run: Callable[..., Finished]) -> None:
    legend = worst(run())["legend"]
    assert [name for name, _ in legend] == ["background", "cat", "dog"]
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for _, color in legend)


def test_models_that_tell_the_same_pixels_are_called_the_same(run: Callable[..., Finished]) -> None:
    made = run()
    same = {"student": made.predictions["evaluate"]["student"]}
    told_same = replace(made, predictions={**made.predictions, "scratch-evaluate": same})
    assert verdicts(told_same)[0].endswith("Image by image, both are the same on these 14 test images.")
