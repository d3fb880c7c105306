from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.methods.tiny_jobs import tiny_job

from tutelage.analysis.inference import inference_times, side_by_side
from tutelage.analysis.overhead import training_overhead
from tutelage.methods import regularizers
from tutelage.methods.job import Job
from tutelage.objectives import AdaptiveFeatures
from tutelage.pipeline import run_method
from tutelage.run import Stage

SLOW = 0.02
METHODS = sorted(regularizers.REGULARIZERS.keys() - {"ft"})  # whose autoencoders are fitted for seconds


def finished(folder: Path, method: str = "aft", **changes: Any) -> tuple[Job, dict[str, Stage]]:
    job = tiny_job(folder, method, **{"start": "pretrained", "regularize__betas": [3.0], **changes})
    return job, run_method(job)


def test_a_slow_regularizer_takes_its_time_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, stages = finished(tmp_path)

    class Slow(AdaptiveFeatures):
        def forward(self, *given: Any) -> Any:
            time.sleep(SLOW)
            return super().forward(*given)

    slow = dataclasses.replace(
        regularizers.REGULARIZERS["aft"], objective=lambda width, widths, classes, seed, settings: Slow(width, widths)
    )
    monkeypatch.setitem(regularizers.REGULARIZERS, "aft", slow)
    found = training_overhead(job, stages, rounds=2, seconds=0.1)
    assert found.alone < SLOW < found.held
    assert found.ratio.median > 1
    assert found.ratio.rounds == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("most", "size"), [(64, 12), (4, 4)])
def test_steps_of_rivals_are_as_large_as_in_the_run(tmp_path: Path, method: str, most: int, size: int) -> None:
    job, stages = finished(tmp_path, method, finetune__batch_size=most)
    assert training_overhead(job, stages, rounds=1, seconds=0.01).batch_size == size


def test_no_pair_is_begun_when_it_has_taken_long_enough(tmp_path: Path) -> None:
    assert training_overhead(*finished(tmp_path), rounds=9, seconds=0.01, most=0.0).ratio.rounds == 1


def test_work_is_timed_in_turn() -> None:
    calls: list[str] = []

    def work(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            calls.append(name)
            time.sleep(seconds)

        return run

    taken = side_by_side({"a": work("a", 0.0), "b": work("b", 0.01)}, rounds=3, seconds=60.0)
    assert "".join(calls) == "abababab"
    assert {name: len(times) for name, times in taken.items()} == {"a": 3, "b": 3}
    assert min(taken["b"]) >= 0.01 > max(taken["a"])
    assert len(side_by_side({"a": work("a", 0.0)}, rounds=3, seconds=0.0)["a"]) == 1


def test_a_student_stands_before_its_teachers(tmp_path: Path) -> None:
    job, _ = finished(tmp_path, teacher=["timm:test_efficientnet", "timm:test_vit"])
    student, *teachers = inference_times(job, batches=(1, 2), rounds=6, seconds=60.0)
    assert [each.name for each in teachers] == ["timm:test_efficientnet", "timm:test_vit"]
    assert student.passes[1].ratio is None
    for each in teachers:
        assert list(each.passes) == [1, 2]
        for found in each.passes.values():
            assert found.ratio is not None
            assert found.ratio.interval is not None
            assert found.ratio.interval.low <= found.ratio.median <= found.ratio.interval.high
