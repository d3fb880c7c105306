from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tutelage.data.problems import KINDS, LISTED, Problem, summarize
from tutelage.report.finished import Finished
from tutelage.report.problems import problems


def found(finished: Callable[..., Finished], **parts: list[Problem]) -> list[dict]:
    run = finished()
    return problems(replace(run, data={**run.data, "problems": {p: summarize(each) for p, each in parts.items()}}))


def test_older_runs_know_of_none(finished: Callable[..., Finished]) -> None:
    assert problems(finished()) == []


def test_parts_without_problems_are_left_out(finished: Callable[..., Finished]) -> None:
    assert [part["part"] for part in found(finished, labeled=[], test=[Problem("link", "x")])] == ["Test data"]


def test_kinds_are_in_words_and_counted(finished: Callable[..., Finished]) -> None:
    kinds = [*KINDS, "truncated", "a new kind"]
    (part,) = found(finished, labeled=[Problem(kind, "x") for kind in kinds])
    assert dict(part["rows"]) == dict.fromkeys(KINDS.values(), "1") | {
        KINDS["truncated"]: "2",
        "a new kind": "1",
    }


def test_examples_say_whether_they_are_all(finished: Callable[..., Finished]) -> None:
    some, many = ([Problem("link", str(row)) for row in range(count)] for count in (LISTED, LISTED + 1))
    assert found(finished, labeled=some)[0]["listed"] == "Where"
    assert found(finished, labeled=many)[0]["listed"] == f"Where: the first {LISTED}"
