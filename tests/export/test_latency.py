from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.errors import ExportError
from tutelage.export import latency
from tutelage.export.latency import Contender, cores, machine, race


def contender(name, log, threads=1):
    def score(images):
        log.append((name, torch.get_num_threads()))
        return np.zeros((1, 2), np.float32)

    return Contender(name, "none", threads, score, 10)


def test_turns_are_interleaved_and_each_begins_with_an_untimed_run():
    log = []
    both = [contender("a", log), contender("b", log)]
    race(both, np.zeros((1, 2, 2, 3), np.uint8), rounds=2, turn=2)
    assert [name for name, _ in log] == list("aaabbbaaabbb")
    assert [len(each.seconds) for each in both] == [4, 4]


def test_torch_computes_with_the_contenders_threads_and_then_as_before():
    log = []
    before = torch.get_num_threads()
    race([contender("a", log, threads=2)], np.zeros((1, 2, 2, 3), np.uint8), rounds=1, turn=1)
    assert {count for _, count in log} == {2}
    assert torch.get_num_threads() == before


def test_a_row_has_percentiles_in_milliseconds():
    row = Contender("student", "onnxruntime", 1, lambda images: images, 10, [0.001] * 99 + [1.0]).row()
    assert row["p50_ms"] == pytest.approx(1.0)
    assert row["p95_ms"] == pytest.approx(1.0)
    assert (row["runs"], row["bytes"]) == (100, 10)


def test_the_machine_is_named_with_its_cores():
    assert machine().endswith(f", {cores()} cores")


def test_a_teacher_that_fits_into_onnx_is_timed_there(tiny, classes, pixels):
    (found,) = latency._of_teacher(tiny(), classes, [1])
    assert (found.model, found.runtime) == ("teacher", "onnxruntime")
    assert found.score(pixels(20, 30)[None]).shape == (1, len(classes))


def test_a_teacher_that_does_not_is_timed_in_torch_and_called_so(tiny, classes, pixels, monkeypatch):
    def refuse(*_, **__):
        raise ExportError("too large")

    monkeypatch.setattr(latency, "export_onnx", refuse)
    (found,) = latency._of_teacher(tiny(), classes, [1])
    assert (found.model, found.runtime) == ("teacher", "torch")
    assert found.bytes > 0
    assert found.score(pixels(20, 30)[None]).shape == (1, len(classes))
