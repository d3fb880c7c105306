from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tutelage.errors import DataError, ModelError, RecipeError
from tutelage.runtime import Classifier, batches, inputs, softmax
from tutelage.runtime.probabilities import ranked

Make = Callable[..., Path]


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def means(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([image.reshape(-1, 3).mean(0) for image in images]) * 8 / 255


@pytest.mark.parametrize("where", ["", "model", "model/model.onnx"])
def test_a_run_its_model_folder_and_the_file_are_the_same(run_folder: Path, where: str) -> None:
    assert Classifier(run_folder / where).file == run_folder / "model" / "model.onnx"


@pytest.mark.parametrize("where", ["", "model", "model/model.onnx"])
def test_int8_is_the_file_beside_it(run_folder: Path, make_model: Make, where: str) -> None:
    small = make_model(run_folder / "model" / "model.int8.onnx")
    assert Classifier(run_folder / where, int8=True).file == small


def test_a_missing_int8_file_says_how_to_make_it(run_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"tutelage export .*--form int8"):
        Classifier(run_folder, int8=True)


def test_it_reads_what_the_file_says_of_itself(run_folder: Path) -> None:
    found = Classifier(run_folder)
    assert found.classes == ("red", 'green, or "so"', "blue")
    assert found.preprocess == {"size": 32}
    assert found.provenance == {"student": "means"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "class names are damaged"),
        ({"classes": "red"}, "class names are damaged"),
        ({"classes": (1, 2, 3)}, "class names are damaged"),
        ({"classes": ("red", "blue")}, r"gives \[3\] logits but names 2 classes"),
        ({"preprocess": "{"}, "its preprocess is damaged"),
        ({"output": "scores"}, "does not turn images"),
    ],
    ids=str,
)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, make_model: Make, changes: dict[str, str], message: str
) -> None:
    path = make_model(tmp_path / "model.onnx", **changes)
    with pytest.raises(ModelError, match=message) as told:
        Classifier(path)
    assert str(path) in str(told.value)


def test_a_model_that_names_no_classes_is_refused(tmp_path: Path, make_model: Make) -> None:
    import onnx

    path = make_model(tmp_path / "model.onnx")
    bare = onnx.load(path)
    del bare.metadata_props[:]
    onnx.save(bare, path)
    with pytest.raises(ModelError, match="names no classes"):
        Classifier(path)


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_damaged_file_is_one_clear_line(run_folder: Path, cut: int) -> None:
    path = run_folder / "model" / "model.onnx"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="export") as told:
        Classifier(run_folder)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["nothing", "empty", "note.txt", "nothing.onnx"])
def test_what_is_no_model_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("note")
    with pytest.raises(ModelError, match=name):
        Classifier(tmp_path / name)


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_answers_keep_the_order_whatever_sizes_and_batches(run_folder: Path, batch: int) -> None:
    images = [noise(4 + seed % 3, 5, seed) for seed in range(11)]
    found = Classifier(run_folder, threads=2).logits(images, batch_size=batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, means(images), rtol=1e-5)


def test_all_kinds_of_pictures_are_read(run_folder: Path, tmp_path: Path) -> None:
    pixels = noise(5, 7, 0)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    found = Classifier(run_folder).logits([str(path), path, path.read_bytes(), pixels, Image.fromarray(pixels)])
    np.testing.assert_allclose(found, means([pixels] * 5), rtol=1e-5)


def test_no_images_are_no_rows(run_folder: Path) -> None:
    assert Classifier(run_folder).logits([]).shape == (0, 3)


def test_a_bad_image_stops_neither_those_before_nor_those_after(run_folder: Path) -> None:
    answers = list(Classifier(run_folder).answers([noise(4, 4, 0), b"nothing", noise(4, 4, 1)]))
    assert [answer.logits is None for answer in answers] == [False, True, False]
    assert "7 bytes" in answers[1].error


def test_logits_of_a_bad_image_are_an_error(run_folder: Path) -> None:
    with pytest.raises(DataError, match="7 bytes"):
        Classifier(run_folder).logits([b"nothing"])


def test_a_stream_is_not_read_ahead(run_folder: Path) -> None:
    read = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield noise(3, 3, read)

    answers = Classifier(run_folder, threads=2).answers(endless(), batch_size=4)
    for _ in range(9):
        next(answers)
    assert read <= 3 * 4 + 2 + 1
    answers.close()  # type: ignore[attr-defined]


def test_large_images_go_in_smaller_batches(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST", 2 * 10 * 10 * 3)
    windows = inputs.Images().windows([noise(10, 10, seed) for seed in range(5)], 64)
    assert [window.count for window in windows] == [2, 2, 1]


def test_no_threads_are_refused(run_folder: Path) -> None:
    with pytest.raises(RecipeError, match="threads is 0; it must be at least 1"):
        Classifier(run_folder, threads=0)


def test_an_empty_batch_is_refused(run_folder: Path) -> None:
    with pytest.raises(RecipeError, match="batch is 0; it must be at least 1"):
        Classifier(run_folder).answers([], batch_size=0)


def test_probabilities_of_large_logits_are_finite() -> None:
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0, -1000.0]])), [[0.5, 0.5, 0.0]])


def test_ties_fall_to_the_first_class() -> None:
    assert [number for number, _ in ranked(np.zeros(4), 3)] == [0, 1, 2]


def test_no_module_of_it_loads_torch() -> None:
    import subprocess

    code = "import sys, tutelage.runtime, tutelage.evaluation.classifier; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
