"""The files that curation and review share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.curation.review import open_review
from tutelage.curation.review.pictures import find_images
from tutelage.curation.suspects import (
    Near,
    ReviewNeeded,
    Suspect,
    decision_key,
    read_decisions,
    read_suspects,
    undecided,
    write_decisions,
    write_suspects,
)
from tutelage.errors import DataError, RunError

if TYPE_CHECKING:
    from tests.curation.review.conftest import Made

    Make = Callable[..., Made]

SUSPECTS = (
    Suspect("gallery", "<b>\n\udce9\0", 0.97, (Near("task", "x", "test", 0.97), Near("task", "y", "train", 0.5))),
    Suspect("other", "a", 1.0, ()),
)
WHOLE: dict[str, Any] = {"source": "g", "id": "a", "similarity": 0.9, "nearest": []}
NEAR: dict[str, Any] = {"source": "t", "id": "x", "part": "test", "similarity": 0.9}


def test_suspects_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_suspects(tmp_path, SUSPECTS, ["task"])
    assert read_suspects(tmp_path) == SUSPECTS


def test_decisions_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_suspects(tmp_path, SUSPECTS, ["task"])
    write_decisions(tmp_path, {SUSPECTS[0].key: "leak"})
    assert read_decisions(tmp_path) == {decision_key("gallery", "<b>\n\udce9\0"): "leak"}
    assert undecided(SUSPECTS, read_decisions(tmp_path)) == [SUSPECTS[1]]


def test_without_suspects_it_is_said_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing to review"):
        read_suspects(tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "suspects": 3}',
        *(
            json.dumps({"schema": 1, "suspects": [each]})
            for each in (
                {},
                3,
                {**WHOLE, "id": 3},
                {**WHOLE, "similarity": "0.9"},
                {**WHOLE, "similarity": float("nan")},
                {**WHOLE, "nearest": [{**NEAR, "part": "other"}]},
                {**WHOLE, "nearest": [{**NEAR, "id": None}]},
            )
        ),
        json.dumps({"schema": 1, "suspects": [WHOLE, WHOLE]}),
    ],
)
def test_damaged_suspects_are_one_clear_error(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / "suspects.json").write_text(damaged)
    with pytest.raises(RunError, match=r"suspects\.json: .*curate again"):
        read_suspects(tmp_path)


@pytest.mark.parametrize(
    "damaged", ["", "[]", '{"schema": 1}', '{"schema": 1, "decisions": {"a": 3}}', '{"schema": 1, "decisions": []}']
)
def test_damaged_decisions_are_one_clear_error(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "review").mkdir()
    (tmp_path / "review" / "decisions.json").write_text(damaged)
    with pytest.raises(RunError, match=r"decisions\.json: .*remove it to decide anew"):
        read_decisions(tmp_path)


@pytest.mark.parametrize("read", [read_suspects, read_decisions])
def test_files_of_a_newer_version_are_left_alone(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "review").mkdir()
    for name in ("suspects.json", "decisions.json"):
        (tmp_path / "review" / name).write_text('{"schema": 2}')
    with pytest.raises(RunError, match="newer version"):
        read(tmp_path)


def test_who_has_to_decide_is_told_how() -> None:
    assert "3 of 7 images" in str(error := ReviewNeeded(Path("my runs/a"), 3, 7))
    assert "`tutelage review 'my runs/a'`" in str(error)


def test_a_run_is_reviewed_by_one_at_a_time(make: Make) -> None:
    made = make()
    with open_review(made.folder), pytest.raises(RunError, match="is being reviewed already"):  # noqa: SIM117
        with open_review(made.folder):
            pass
    with open_review(made.folder) as review:
        assert review.count() == {"suspects": 4, "leaks": 0, "fine": 0, "left": 4}


def test_decisions_on_images_that_are_no_longer_suspect_stay(make: Make) -> None:
    made = make()
    write_decisions(made.folder, {"gone\nx": "leak"})
    with open_review(made.folder) as review:
        review.decide(0, "fine")
    assert read_decisions(made.folder) == {"gone\nx": "leak", decision_key(made.gallery, "a.png"): "fine"}


def test_a_decision_taken_back_is_none(make: Make) -> None:
    made = make()
    with open_review(made.folder) as review:
        review.decide(0, "fine")
        review.decide(0, None)
        assert review.decisions() == [None] * 4
    assert read_decisions(made.folder) == {}


def test_data_that_are_gone_are_an_error_and_no_empty_page(tmp_path: Path) -> None:
    suspect = Suspect(str(tmp_path / "no" / "gallery"), "a.png", 1.0, ())
    with pytest.raises(DataError, match="no such folder"):
        find_images([suspect])


def test_of_images_with_one_id_the_one_of_the_right_part_is_found(tmp_path: Path) -> None:
    from tests.curation.review.conftest import save_image

    for part in ("training", "validation"):
        save_image(tmp_path / "images" / part / "1.png")
        (tmp_path / "annotations" / part).mkdir(parents=True)
    save_image(tmp_path / "images" / "training" / "2.png")
    where = f"ade20k:{tmp_path}"
    nearest = (
        Near(where, "1.png", "train", 0.9),
        Near(where, "1.png", "test", 0.9),
        Near(where, "2.png", "validation", 0.9),
    )
    images = find_images([Suspect(where, "nowhere", 1.0, nearest)])
    assert images == {
        (where, "1.png", False): tmp_path / "images" / "training" / "1.png",
        (where, "1.png", True): tmp_path / "images" / "validation" / "1.png",
        (where, "2.png", True): tmp_path / "images" / "training" / "2.png",  # a share of the labeled data
    }
