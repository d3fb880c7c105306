"""What the page says about rounds of learning from pseudo-labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.report.finished import read_run
from tutelage.report.page import write_page
from tutelage.report.rounds import rounds
from tutelage.report.sections import stage_title

FIRST = {"round": 1, "val": {"accuracy": 0.5}, "learned": None}
SECOND = {
    "round": 2,
    "val": {"accuracy": 0.625},
    "learned": {
        "images": 1200,
        "kept": 900,
        "classes": {"<b>cat</b>": 880, "dog": 20, "owl": 0},
        "missing": ["owl"],
        "agreement": None,
    },
}
THIRD = {
    "round": 3,
    "val": {"accuracy": 0.7},
    "learned": {
        "images": 1200,
        "kept": 1200,
        "classes": {"<b>cat</b>": 500, "dog": 400, "owl": 300},
        "missing": [],
        "agreement": 0.8,
    },
}


@pytest.fixture
def learned(make_run: Callable[..., Path]) -> Callable[..., Path]:
    def write(found: list[dict[str, Any]], **how: Any) -> Path:
        folder = make_run(method="scratch", baselines=(), **how)
        data = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps({**data, "rounds": found}))
        return folder

    return write


def test_a_run_without_rounds_has_no_such_section(learned: Callable[..., Path]) -> None:
    folder = learned([])
    assert rounds(read_run(folder)) is None
    assert "unlabeled images for" not in write_page(folder).read_text()


def test_each_round_is_a_row(learned: Callable[..., Path]) -> None:
    found = rounds(read_run(learned([FIRST, SECOND, THIRD])))
    assert found is not None
    assert found["rows"][0] == {"round": "1", "accuracy": "50.0%"} | dict.fromkeys(
        ("kept", "share", "fewest", "most", "agreement"), "—"
    )
    assert found["rows"][1] == {
        "round": "2",
        "accuracy": "62.5%",
        "kept": "900",
        "share": "75.0%",
        "fewest": "owl (0)",
        "most": "<b>cat</b> (880)",
        "agreement": "—",
    }
    assert found["rows"][2]["agreement"] == "80.0%"


def test_classes_that_no_image_was_taken_for_are_named(learned: Callable[..., Path]) -> None:
    text = write_page(learned([FIRST, SECOND, THIRD])).read_text()
    assert "In round 2 no image is of class owl." in text


def test_names_of_classes_are_only_text(learned: Callable[..., Path]) -> None:
    text = write_page(learned([FIRST, SECOND, THIRD])).read_text()
    assert "<b>cat" not in text
    assert "&lt;b&gt;cat" in text


@pytest.mark.parametrize("validation", [False, True])
def test_accuracy_on_labels_that_taught_the_student_before_is_called_flattered(
    learned: Callable[..., Path], validation: bool
) -> None:
    text = write_page(learned([FIRST, SECOND], validation=validation)).read_text()
    assert ("flattered" in text) != validation


def test_of_many_classes_that_no_image_was_taken_for_some_are_named(learned: Callable[..., Path]) -> None:
    classes = {f"class {number}": 0 for number in range(1200)}
    many = {**SECOND, "learned": {**SECOND["learned"], "classes": classes, "missing": list(classes)}}
    found = rounds(read_run(learned([FIRST, many])))
    assert found is not None
    (sentence,) = found["missing"]
    assert sentence.endswith("class 8, class 9 and 1,190 more.")


def test_many_classes_are_not_listed(learned: Callable[..., Path]) -> None:
    many = {**SECOND, "learned": {**SECOND["learned"], "classes": {str(number): 1 for number in range(41)}}}
    found = rounds(read_run(learned([FIRST, many])))
    assert found is not None
    assert found["counts"] == []


@pytest.mark.parametrize(
    ("stage", "title"),
    [
        ("label-2", "Label unlabeled images for round 2"),
        ("train-10", "Train round 10"),
        ("pseudo-label-train-2", "Baseline pseudo-label: train round 2"),
        ("pseudo-label-label-3", "Baseline pseudo-label: label unlabeled images for round 3"),
    ],
)
def test_stages_of_rounds_have_titles(stage: str, title: str) -> None:
    assert stage_title(stage) == title
