from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tutelage.export.card import model_card
from tutelage.export.onnx import export_onnx
from tutelage.export.predict import LoadedModel
from tutelage.export.usage import MASK_SCRIPT, ONNX_SCRIPT
from tutelage.models.preprocess import ImagePreprocess, preprocess_to_dict

RESULTS = {
    "task": "classification",
    "method": "task-oriented",
    "start": "random",
    "seed": 20240101,
    "teacher": {
        "name": "timm:vit_large_patch14_dinov2.lvd142m",
        "hash": "ab12",
        "params": 304368640,
        "source": "timm",
        "license": "apache-2.0",
        "url": "https://example.org/dinov2",
    },
    "student": {"name": "timm:fastvit_s12", "params": 8000000, "license": None},
    "labels": 50,
    "images": {"test": 1797},
    "metrics": {"val": {"accuracy": 0.9}, "test": {"accuracy": 0.87654}},
    "teacher_metrics": {"finetune": {"accuracy": 0.91}},
    "cost": {
        "stages": [{"name": "adapt", "seconds": 12.5, "images": 1000, "flops": 2.5e15}],
        "seconds": 1234.5,
        "flops": 3.25e15,
    },
    "classes": ["cat", "dog"],
    "preprocess": preprocess_to_dict(ImagePreprocess(32)),
}


def row(card, start):
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize(
    ("start", "cells"),
    [
        ("method", ["method", "task-oriented"]),
        ("start", ["start", "random"]),
        ("seed", ["seed", "20240101"]),
        ("labels used", ["labels used", "50"]),
        ("test", ["test", "1,797", "accuracy", "0.8765", ""]),
        ("val", ["val", "not recorded", "accuracy", "0.9", ""]),
        ("test, by the teacher (finetune)", ["test, by the teacher (finetune)", "1,797", "accuracy", "0.91", ""]),
        ("adapt", ["adapt", "12.5", "1,000", "2.5e+15"]),
        ("all", ["all", "1,234", "not recorded", "3.25e+15"]),
        ("crop", ["crop", "1"]),
    ],
)
def test_what_is_known_is_stated(start, cells):
    assert row(model_card(RESULTS), start) == cells


def test_teacher_and_student_are_named_with_source_and_license():
    teacher, student = (row(model_card(RESULTS), name)[1] for name in ("teacher", "student"))
    for part in (
        "dinov2.lvd142m",
        "304,368,640",
        "hash: ab12",
        "source: timm",
        "license: apache-2.0",
        "https://example.org/dinov2",
    ):
        assert part in teacher
    assert "license: not recorded" in student


def test_several_teachers_have_a_row_each():
    card = model_card({**RESULTS, "teacher": [{"name": "one"}, {"name": "two"}]})
    assert [line for line in card.splitlines() if line.startswith("| teacher |")] == [
        "| teacher | one; license: not recorded; source: not recorded |",
        "| teacher | two; license: not recorded; source: not recorded |",
    ]


def test_no_teacher_is_said():
    assert row(model_card({**RESULTS, "teacher": None}), "teacher") == ["teacher", "none"]


def test_limits_and_license_are_in_plain_words():
    card = model_card(RESULTS)
    assert "evaluated on 1,797 test images" in card
    assert "Apache-2.0" in card


def test_a_run_without_test_data_has_a_card():
    card = model_card({**RESULTS, "images": {"test": 0}, "metrics": {"val": {"accuracy": 0.9}, "test": None}})
    assert "not evaluated on test images" in card


def test_a_card_without_results_says_so():
    card = model_card({})
    assert row(card, "method") == ["method", "not recorded"]
    assert "not evaluated on test images" in card


def test_a_long_list_of_classes_is_cut():
    card = model_card({**RESULTS, "classes": [f"class{n}" for n in range(250)]})
    assert "class99, and 150 more" in card
    assert "class100" not in card


EVIL = "a|b\n| c | `x` <script> [l](http://e) **b** _i_ \\| \r\n# h ~~s~~"


def test_names_cannot_break_a_table():
    calm = model_card({**RESULTS, "method": "m", "labels": "l"})
    card = model_card(
        {
            **RESULTS,
            "method": EVIL,
            "labels": {EVIL: EVIL},
            "metrics": {EVIL: {EVIL: EVIL}, "test": {"accuracy": 1.0}},
        }
    )
    assert len(row(card, "method")) == len(row(card, "labels used")) == 2
    assert card.count("\n") == calm.count("\n")
    assert len(re.findall(r"^# ", card, re.MULTILINE)) == 1


@pytest.mark.parametrize("markup", ["<script>", "[l](", "**b**", "`x`", " _i_ ", "~~s~~"])
def test_names_are_shown_as_they_are(markup):
    card = model_card({**RESULTS, "classes": [EVIL], "task": EVIL, "method": EVIL})
    assert markup not in card.replace("```python", "")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_the_script_runs_without_tutelage_and_agrees(tiny, classes, pixels, tmp_path_factory, mode):
    model = tiny(crop=0.9).eval()
    folder = tmp_path_factory.getbasetemp() / "card"
    if not folder.exists():
        folder.mkdir()
        export_onnx(model, folder / "model.onnx", classes=classes, metadata={})
    alpha = pixels(50, 80, 1)[:, :, :1]
    image = Image.fromarray(pixels(50, 80)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(alpha[:, :, 0]))
    image.save(folder / "image.png")
    card = model_card({**RESULTS, "classes": classes})
    (script,) = [s for s in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnxruntime" in s]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", script, "image.png"],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    (expected,) = LoadedModel(model, classes, "classification").predict(folder / "image.png")
    assert (done.stderr, done.stdout) == ("", f"{expected.label}\n")


def test_the_script_has_ten_lines_and_no_tutelage():
    assert len(ONNX_SCRIPT.splitlines()) == 10
    assert "tutelage" not in ONNX_SCRIPT


FORMS = {
    "data": {"test": {"origin": "a|b", "images": 1797}},
    "intervals": {"student": {"accuracy": [0.86, 0.89]}, "finetune": {"accuracy": [0.9, 0.92]}},
    "export": {
        "onnx": {"bytes": 1000, "parity": 1e-6},
        "int8": {"kept": False, "bytes": 400, "agreement": 0.9, "images": 50, "why": "it differs"},
    },
    "problems": {"labeled": {"counts": {"truncated": 3}}},
    "latency": {
        "rows": [
            {
                "model": "student",
                "runtime": "onnxruntime",
                "threads": 1,
                "p50_ms": 1.234,
                "p95_ms": 2.5,
                "runs": 50,
                "bytes": 1000,
            }
        ],
        "image": [48, 64],
        "machine": "a processor, 2 cores",
    },
}


@pytest.mark.parametrize(
    ("start", "cells"),
    [
        ("test", ["test", "1,797", "accuracy", "0.8765", "0.86 to 0.89"]),
        (
            "test, by the teacher (finetune)",
            ["test, by the teacher (finetune)", "1,797", "accuracy", "0.91", "0.9 to 0.92"],
        ),
        ("onnx", ["onnx", "1,000", "the trained model's logits to 1.0e-06 of the largest", ""]),
        ("int8", ["int8", "400", "**not kept**: it differs", ""]),
        ("labeled", ["labeled", "truncated", "3"]),
        ("student | onnxruntime", ["student", "onnxruntime", "1", "1.23", "2.5", "50", "1,000"]),
    ],
)
def test_what_the_run_found_is_stated(start, cells):
    assert row(model_card({**RESULTS, **FORMS, "data": {}}), start) == cells


def test_origins_are_shown_as_they_are():
    assert r"| test | 1,797 | a\|b |" in model_card({**RESULTS, **FORMS})


def test_int8_loss_is_stated_where_it_was_measured():
    exported = {"onnx": {"accuracy": 0.9}, "int8": {"accuracy": 0.88}, "int8_loss": 0.02, "images": 100}
    assert "On 100 test images INT8 loses 2.00% of accuracy." in model_card({**RESULTS, "exported": exported})


def test_no_recipe_closes_its_fence():
    recipe = "student: '```'\n````\nmethod: scratch\n"
    assert f"`````yaml\n{recipe}`````" in model_card({**RESULTS, "recipe": recipe})


SEGMENTED = {
    **RESULTS,
    "task": "segmentation",
    "metrics": {"val": {"miou": 0.5}, "test": {"miou": 0.61234, "pixel_accuracy": 0.9}},
    "class_iou": {"cat|s": 0.5, "dog": None},
    "export": {"int8": {"kept": True, "bytes": 400, "agreement": 0.99, "images": 50}},
    "exported": {"int8": {"miou": 0.6}, "onnx": {"miou": 0.612}, "int8_loss": 0.012, "images": 1797},
}


@pytest.mark.parametrize(
    ("start", "cells"),
    [
        ("test | 1,797 | miou", ["test", "1,797", "miou", "0.6123", ""]),
        (r"cat\|s", [r"cat\|s", "0.5"]),
        ("dog", ["dog", ""]),
        ("int8", ["int8", "400", "passed: the float file's class on 99.0% of the pixels of 50 images", "0.6"]),
        ("form", ["form", "bytes", "check", "test mean IoU"]),
    ],
)
def test_what_a_segmentation_run_found_is_stated(start, cells):
    assert row(model_card(SEGMENTED), start) == cells


def test_a_card_of_masks_says_how_to_get_them():
    card = model_card(SEGMENTED)
    assert "It tells the class of every pixel, one of 2 classes:" in card
    assert "INT8 loses 1.20% of mean IoU" in card
    assert MASK_SCRIPT in card
    assert ONNX_SCRIPT not in card
    assert '.segment("image.jpg")' in card


def test_the_script_of_masks_runs_as_it_stands(dense, classes, pixels, tmp_path):
    model = dense()
    export_onnx(model, tmp_path / "model.onnx", classes=classes, metadata={})
    Image.fromarray(pixels(40, 60)).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", MASK_SCRIPT, "a.png"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (expected,) = LoadedModel(model.eval(), classes, "segmentation").segment(tmp_path / "a.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask) == expected).mean() > 0.999
    assert done.stdout.strip() == str([classes[number] for number in np.unique(expected)])
