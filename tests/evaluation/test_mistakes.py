from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.data.samples import Samples
from tutelage.evaluation.mistakes import CHARACTERS, MOST, most_confident, write_mistakes
from tutelage.runtime.texts import paired

RANDOM = np.random.default_rng(5)
CLASSES = ("cat", "dog", "bird")
N = 90


def samples(images: list | None = None) -> Samples:
    pictures = [RANDOM.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in range(N)] if images is None else images
    targets = np.arange(len(pictures)) % 3
    ids = tuple(f"photo {row}\udce9" for row in range(len(pictures)))
    return Samples(ids=ids, images=pictures, targets=targets, classes=CLASSES)


def logits() -> torch.Tensor:
    return torch.from_numpy(RANDOM.normal(size=(N, 3))).float()


def written(folder: Path) -> list[dict]:
    return json.loads((folder / "mistakes.json").read_text())["mistakes"]


def test_the_most_probable_mistakes_come_first() -> None:
    values, targets = logits(), torch.arange(N) % 3
    chances = values.double().softmax(1)
    wrong = [row for row in range(N) if int(chances[row].argmax()) != int(targets[row])]
    expected = sorted(wrong, key=lambda row: -float(chances[row].max()))
    assert most_confident(values, targets) == expected[:MOST]


def test_mistakes_that_are_level_keep_their_order() -> None:
    values = torch.tensor([[0.0, 3.0]] * 40)
    assert most_confident(values, torch.zeros(40, dtype=torch.int64), 5) == [0, 1, 2, 3, 4]


def test_without_mistakes_there_is_an_empty_list(tmp_path: Path) -> None:
    write_mistakes(tmp_path, samples(), 5 * torch.eye(3).repeat(N // 3, 1), None)
    assert written(tmp_path) == []


def test_each_mistake_says_what_was_answered_and_how_surely(tmp_path: Path) -> None:
    student, teacher = logits(), logits()
    write_mistakes(tmp_path, samples(), student, teacher)
    for mistake in written(tmp_path):
        row = int(mistake["id"].removeprefix("photo ").rstrip("\udce9"))
        chances = student[row].softmax(0)
        assert CLASSES[row % 3] == mistake["true"] != mistake["predicted"]
        assert mistake["probability"] == pytest.approx(float(chances.max()))
        assert mistake["true_probability"] == pytest.approx(float(chances[row % 3]))
        assert mistake["teacher"] == CLASSES[int(teacher[row].argmax())]


def test_without_a_teacher_it_has_no_answer(tmp_path: Path) -> None:
    write_mistakes(tmp_path, samples(), logits(), None)
    assert {mistake["teacher"] for mistake in written(tmp_path)} == {None}


def test_pictures_are_those_of_the_mistakes(tmp_path: Path) -> None:
    shown = samples()
    write_mistakes(tmp_path, shown, logits(), None)
    for mistake in written(tmp_path):
        row = shown.ids.index(mistake["id"])
        with Image.open(tmp_path / mistake["picture"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), shown.images[row])


def test_texts_are_those_of_the_mistakes(tmp_path: Path) -> None:
    texts = [f"text {row}" if row % 2 else paired(f"text {row}", "another") for row in range(N)]
    shown = Samples(tuple(map(str, range(N))), None, texts, np.arange(N) % 3, CLASSES)
    write_mistakes(tmp_path, shown, logits(), None)
    assert len(written(tmp_path)) == MOST
    for mistake in written(tmp_path):
        row = int(mistake["id"])
        assert mistake["texts"] == ([f"text {row}"] if row % 2 else [f"text {row}", "another"])
        assert mistake["picture"] is None


def test_of_a_huge_text_the_start_is_kept(tmp_path: Path) -> None:
    write_mistakes(tmp_path, Samples(("a",), None, ["x" * 10**6], np.array([0]), CLASSES), torch.eye(3)[[1]], None)
    assert written(tmp_path)[0]["texts"] == ["x" * CHARACTERS]


def test_images_that_are_gone_or_damaged_are_left_out(tmp_path: Path) -> None:
    images = [tmp_path / "gone.png", b"no image", np.zeros((8, 8, 3), np.uint8)]
    wrong = torch.eye(3)[[1, 2, 0]]
    write_mistakes(tmp_path, samples(images), wrong, None)
    assert [mistake["true"] for mistake in written(tmp_path)] == ["bird"]
