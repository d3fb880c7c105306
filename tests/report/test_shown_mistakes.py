from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.report.finished import Finished, read_run
from tutelage.report.mistakes import mistakes

STAGE = "07-evaluate"


def test_pictures_are_those_of_the_evaluation(make_run: Callable[..., Path]) -> None:
    folder = make_run(extras=["photo.jpg"])
    for place, shown in enumerate(mistakes(read_run(folder)), start=1):
        (file,) = (folder / STAGE).glob(f"mistake-{place:02d}.*")
        assert base64.b64decode(shown["source"].split(",")[1]) == file.read_bytes()


def test_a_picture_that_is_gone_is_left_out(make_run: Callable[..., Path]) -> None:
    folder = make_run(extras=["photo.jpg"])
    first = next((folder / STAGE).glob("mistake-01.*"))
    first.unlink()
    assert len(mistakes(read_run(folder))) == 23


def test_what_is_no_picture_is_left_out(make_run: Callable[..., Path]) -> None:
    folder = make_run(extras=["photo.jpg"])
    next((folder / STAGE).glob("mistake-01.*")).write_text("<svg onload=alert(1)>")
    assert len(mistakes(read_run(folder))) == 23


def test_no_file_outside_the_stage_gets_into_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run(extras=["photo.jpg"])
    listed = folder / STAGE / "mistakes.json"
    content = json.loads(listed.read_text())
    outside = folder / "outside.png"
    outside.write_bytes(b"\x89PNG\r\n\x1a\n")
    content["mistakes"][0]["picture"] = "../outside.png"
    content["mistakes"][1]["picture"] = str(outside)
    listed.write_text(json.dumps(content))
    assert len(read_run(folder).mistakes) == 22


@pytest.mark.parametrize(
    ("answer", "said"), [("cat", "teacher right"), ("dog", "teacher too"), ("bird", "teacher: bird"), (None, "")]
)
def test_the_answer_of_the_teacher_is_said_in_short(
    finished: Callable[..., Finished], answer: str | None, said: str
) -> None:
    mistake = {"id": "x", "true": "cat", "predicted": "dog", "probability": 0.9, "true_probability": 0.1}
    run = replace(finished(), mistakes=[{**mistake, "teacher": answer, "picture": b"\xff\xd8\xff"}])
    assert mistakes(run)[0]["teacher"] == said
