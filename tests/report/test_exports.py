from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tutelage.report.exports import faster, forms, latency, sentences
from tutelage.report.finished import Finished


def timed(model: str, threads: int, median: float, runtime: str = "ONNX Runtime") -> dict[str, Any]:
    row = {"model": model, "runtime": runtime, "threads": threads, "p50_ms": median, "p95_ms": 2 * median}
    return {**row, "runs": 100, "bytes": 1_000_000}


@pytest.fixture
def with_data(finished: Callable[..., Finished]) -> Callable[..., Finished]:
    def make(**data: Any) -> Finished:
        run = finished()
        return replace(run, data={**run.data, **data})

    return make


def with_times(with_data: Callable[..., Finished], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return latency(with_data(latency={"rows": rows, "image": [32, 48], "machine": "a machine"}))


def with_int8(run: Finished, **int8: Any) -> Finished:
    export = run.stages["export"]
    results = {**export["results"], "int8": {"bytes": 500_000, "agreement": 0.97, "images": 256, **int8}}
    return replace(run, stages={**run.stages, "export": {**export, "results": results}})


def test_onnx_alone_is_one_row(finished: Callable[..., Finished]) -> None:
    (row,) = forms(finished())
    assert (row["name"], row["size"], row["kept"]) == ("ONNX", "2.38 MB", "")


def test_a_form_says_how_it_was_checked(finished: Callable[..., Finished]) -> None:
    onnx, int8 = forms(with_int8(finished()))
    assert onnx["check"] == "the trained model's outputs, within 3e-06 of the largest"
    assert int8["check"] == "the float file's answer on 97.0% of 256 unlabeled images"


def test_a_form_that_was_not_kept_says_why(finished: Callable[..., Finished]) -> None:
    run = with_int8(finished(), kept=False, why="too far off.")
    assert forms(run)[1]["kept"] == "not kept"
    assert sentences(run) == ["The INT8 form was not kept: too far off."]


def test_a_form_that_was_kept_needs_no_reason(finished: Callable[..., Finished]) -> None:
    assert sentences(with_int8(finished(), kept=True)) == []


@pytest.mark.parametrize(
    ("loss", "said"), [(0.0123, "costs 1.2 points of"), (-0.0123, "gains 1.2 points of"), (0.0001, "costs no")]
)
def test_the_loss_of_int8_keeps_its_sign(with_data: Callable[..., Finished], loss: float, said: str) -> None:
    run = with_data(exported={"onnx": {"accuracy": 0.9}, "int8": {"accuracy": 0.9 - loss}, "int8_loss": loss})
    assert sentences(run) == [f"INT8 {said} accuracy on the test images."]


def test_of_pixels_the_loss_is_one_of_mean_iou(with_data: Callable[..., Finished]) -> None:
    tested = {"onnx": {"miou": 0.5}, "int8": {"miou": 0.48}, "int8_loss": 0.02}
    run = with_int8(with_data(task="segmentation", exported=tested))
    assert sentences(run) == ["INT8 costs 2.0 points of mean IoU on the test images."]
    assert [(row["score"], row["check"][:40]) for row in forms(run)][1] == (
        "48.0%",
        "the float file's answer on 97.0% of the ",
    )


@pytest.mark.parametrize("missing", [None, {"rows": [], "image": [1, 1], "machine": ""}])
def test_without_times_there_is_no_table(with_data: Callable[..., Finished], missing: Any) -> None:
    assert latency(with_data(latency=missing)) is None


def test_models_are_rows_in_order_and_threads_columns(with_data: Callable[..., Finished]) -> None:
    rows = [timed(model, threads, 8 / threads) for model in ("other", "teacher", "student") for threads in (8, 1)]
    table = with_times(with_data, rows)
    assert table["heads"] == ["1 thread", "8 threads"]
    assert [row["name"] for row in table["rows"]] == ["Student", "Teacher", "other"]
    assert table["rows"][0]["times"] == [("8.00 ms", "16.0 ms"), ("1.00 ms", "2.00 ms")]


def test_what_was_not_timed_is_a_dash(with_data: Callable[..., Finished]) -> None:
    table = with_times(with_data, [timed("student", 1, 2), timed("student", 4, 1), timed("teacher", 1, 9)])
    assert table["rows"][1]["times"][1] == ("—", "")


def test_runtimes_are_kept_apart(with_data: Callable[..., Finished]) -> None:
    table = with_times(with_data, [timed("student", 1, 2), timed("student", 1, 3, "PyTorch")])
    assert [row["runtime"] for row in table["rows"]] == ["ONNX Runtime", "PyTorch"]


def test_height_comes_before_width(with_data: Callable[..., Finished]) -> None:
    assert with_times(with_data, [timed("student", 1, 2)])["what"] == "image of 32 \N{MULTIPLICATION SIGN} 48 pixels"


@pytest.mark.parametrize(("student", "said"), [(0.5, "16 times as fast as"), (6.4, "1.2 times as fast as")])
def test_student_is_compared_with_its_teacher(student: float, said: str) -> None:
    assert said in faster([timed("student", 1, student), timed("teacher", 1, 8)], 1)


def test_a_slower_student_is_called_so() -> None:
    assert "takes 2.0 times as long as" in faster([timed("student", 1, 16), timed("teacher", 1, 8)], 1)


def test_different_threads_or_runtimes_are_not_compared() -> None:
    assert faster([timed("student", 1, 2), timed("teacher", 2, 8)], 1) == ""
    assert faster([timed("student", 1, 2), timed("teacher", 1, 8, "PyTorch")], 1) == ""
