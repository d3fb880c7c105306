from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.runtime import Classifier, Segmenter, open_model
from tutelage.runtime import segmenter as module
from tutelage.runtime.inputs import Window
from tutelage.runtime.palette import default_palette

Make = Callable[..., Path]


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_masks_keep_order_and_sizes_whatever_the_batches(mask_run: Path, batch: int) -> None:
    images = [noise(4 + seed % 3, 5, seed) for seed in range(8)]
    for image, mask in zip(images, Segmenter(mask_run, threads=2).masks(images, batch_size=batch), strict=True):
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, image.argmax(2))


def test_it_reads_what_the_file_says_of_itself(mask_run: Path) -> None:
    found = Segmenter(mask_run)
    assert found.classes == ("red", 'green, or "so"', "blue")
    assert found.palette == ((250, 0, 0), (0, 250, 0), (0, 0, 250))
    assert found.provenance == {"student": "largest"}


def test_the_task_in_the_file_says_what_opens_it(mask_run: Path, tmp_path: Path, make_model: Make) -> None:
    assert isinstance(open_model(mask_run), Segmenter)
    assert isinstance(open_model(make_model(tmp_path / "m.onnx")), Classifier)
    assert isinstance(open_model(make_model(tmp_path / "n.onnx", task="classification")), Classifier)


def test_an_unknown_task_is_told(tmp_path: Path, make_model: Make) -> None:
    with pytest.raises(ModelError, match="'depth', which this Tutelage does not know"):
        open_model(make_model(tmp_path / "m.onnx", task="depth"))


def test_neither_kind_opens_the_other(mask_run: Path, tmp_path: Path, make_model: Make) -> None:
    with pytest.raises(ModelError, match="was made for segmentation, not for classification"):
        Classifier(mask_run)
    with pytest.raises(ModelError, match="was made for classification, not for segmentation"):
        Segmenter(make_model(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("red", "blue")}, "gives 3 logits but names 2 classes"),
        ({"palette": "[[1, 2, 3]]"}, "its palette is damaged"),
        ({"palette": "{"}, "its palette is damaged"),
        ({"palette": "[[0, 0, 300], [0, 0, 0], [0, 0, 0]]"}, "its palette is damaged"),
        ({"output": "other"}, "does not turn images"),
        ({"preprocess": "{}"}, "does not turn images"),
    ],
    ids=str,
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, make_mask_model: Make, changes: dict[str, str], message: str
) -> None:
    path = make_mask_model(tmp_path / "model.onnx", **changes)
    with pytest.raises(ModelError, match=message) as told:
        Segmenter(path)
    assert str(path) in str(told.value)


def test_without_colors_there_is_our_own_palette(tmp_path: Path, make_mask_model: Make) -> None:
    assert list(Segmenter(make_mask_model(tmp_path / "m.onnx", palette="")).palette) == default_palette(3)


def test_masks_of_many_classes_stay_as_wide_as_they_are(tmp_path: Path, make_mask_model: Make) -> None:
    (mask,) = Segmenter(make_mask_model(tmp_path / "m.onnx", kind=TensorProto.INT32)).masks([noise(3, 3, 0)])
    assert mask.dtype == np.int32


def test_a_bad_image_stops_neither_those_before_nor_those_after(mask_run: Path) -> None:
    answers = list(Segmenter(mask_run).answers([noise(4, 4, 0), b"nothing", noise(4, 4, 1)]))
    assert [answer.mask is None for answer in answers] == [False, True, False]
    assert "7 bytes" in answers[1].error


def test_masks_of_a_bad_image_are_an_error(mask_run: Path) -> None:
    with pytest.raises(DataError, match="7 bytes"):
        Segmenter(mask_run).masks([b"nothing"])


def test_a_stream_is_not_read_ahead(mask_run: Path) -> None:
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield noise(3, 3, read)

    answers = Segmenter(mask_run, threads=2).answers(endless(), batch_size=4)
    for _ in range(9):
        next(answers)
    assert read <= 3 * 4 + 2 + 1


def test_where_logits_are_large_fewer_images_go_together(mask_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOGITS", 2 * 3 * 32 * 32 * 4)
    found = Segmenter(mask_run)
    sizes: list[int] = []
    run = found._run

    def counted(window: Window) -> list[Any]:
        sizes.append(window.count)
        return run(window)

    monkeypatch.setattr(found, "_run", counted)
    found.masks([noise(10, 10, seed) for seed in range(5)], batch_size=64)
    assert max(sizes) == 2


def test_an_empty_batch_is_refused(mask_run: Path) -> None:
    with pytest.raises(RecipeError, match="batch is 0; it must be at least 1"):
        Segmenter(mask_run).answers([], batch_size=0)


@pytest.mark.parametrize(("classes", "apart"), [(8, 70), (21, 45), (150, 30)])
def test_colors_of_the_palette_can_be_told_apart(classes: int, apart: float) -> None:
    colors = np.array(default_palette(classes), float)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2)
    assert distances[~np.eye(classes, dtype=bool)].min() > apart


def test_a_color_is_the_same_whatever_classes_follow() -> None:
    assert default_palette(300)[:20] == default_palette(20)
    assert len(default_palette(600)) == 600
