from __future__ import annotations

from typing import Any

import pytest

from tutelage.report.curated.words import broken, curation_sentences, done, left_out, rule, sized, suspected, warning

NOTHING = {"exact_copies_of_task": 0, "exact_duplicates": 0, "duplicates": 0, "leaks": 0}

ABOUT: dict[str, Any] = {
    "strategy": "query-balanced",
    "encoders": ["bundled:a", "timm:b"],
    "crops": 0,
    "gallery_images": 60_000,
    "gallery_items": 60_000,
    "queries": 50,
    "query_kind": "images",
    "retrieved": 2000,
    "k": 57,
    "dropped": NOTHING,
    "suspects": {"found": 0, "dropped": 0, "kept": 0, "undecided": 0, "policy": "drop"},
    "problems": {},
    "thresholds": {},
}


def threshold(duplicates: float | None, leaks: float | None, source: str, recall: float | None = None) -> dict:
    return {"duplicates": duplicates, "leaks": leaks, "source": source, "recall": recall, "false_alarms": recall}


def suspects(found: int, dropped: int, kept: int, undecided: int) -> dict[str, Any]:
    return {"suspects": {"found": found, "dropped": dropped, "kept": kept, "undecided": undecided}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "2,000 of 60,000 images were retrieved for 50 labeled images by query-balanced with a and b: "
            "equally many of the nearest of each labeled image, k = 57.",
        ),
        (
            {"strategy": "best-matches", "k": None, "queries": 1},
            "2,000 of 60,000 images were retrieved for 1 labeled image by best-matches with a and b: "
            "what is nearest to any labeled image.",
        ),
        ({"query_kind": "nothing", "k": None}, "2,000 of 60,000 images were drawn at random."),
        (
            {"query_kind": "nothing", "crops": 10, "gallery_items": 600_000},
            "2,000 of 600,000 crops of 60,000 images were drawn at random.",
        ),
        (
            {"query_kind": "texts", "strategy": "of a plug-in", "k": None},
            "2,000 of 60,000 images were retrieved for 50 prompts by of a plug-in with a and b.",
        ),
    ],
    ids=["balanced", "best", "random", "crops", "unknown strategy"],
)
def test_what_was_done(changes: dict[str, Any], said: str) -> None:
    assert done({**ABOUT, **changes}) == said


def test_reasons_are_counted_one_and_several() -> None:
    assert left_out({"dropped": {**NOTHING, "exact_duplicates": 1, "leaks": 2000}}) == (
        "Left out: 1 exact copy of another retrieved image and 2,000 possible leaks of images of the task."
    )


def test_nothing_left_out_is_said() -> None:
    assert left_out(ABOUT) == "Nothing that was retrieved had to be left out."


def test_duplicates_go_by_the_mean_of_thresholds_and_leaks_by_each() -> None:
    found = {"x:a": threshold(0.99, 0.95, "known"), "x:b": threshold(0.97, 0.9, "calibrated", 0.99)}
    assert rule({"thresholds": found}) == (
        "Near duplicates are images more similar than 0.980 to each other, possible leaks those more similar than "
        "0.950 and 0.900 to an image of the task (known of a and calibrated on changed copies of the gallery with b)."
    )


def test_an_encoder_that_cannot_tell_copies_is_named() -> None:
    found = {"x:a": threshold(0.99, 0.95, "known"), "x:b": threshold(None, None, "none", 0.4)}
    assert rule({"thresholds": found}) == (
        "Near duplicates and possible leaks were not looked for, as b cannot tell copies from other images; "
        "exact copies always go."
    )


def test_a_gallery_too_small_to_calibrate_is_said() -> None:
    assert "as no threshold is known of a, and the gallery is too small" in rule(
        {"thresholds": {"x:a": threshold(None, None, "none")}}
    )


def test_duplicates_that_nobody_wanted_need_no_reason() -> None:
    assert rule({"thresholds": {"x:a": threshold(None, 0.95, "given")}}) == (
        "Possible leaks are images more similar than 0.950 to an image of the task (as the recipe says). "
        "Near duplicates were not looked for; exact copies always go."
    )


def test_suspects_that_were_dropped_unseen_need_no_words() -> None:
    assert suspected(suspects(7, 7, 0, 7)) == ""


def test_what_a_person_decided_is_said() -> None:
    assert suspected(suspects(7, 5, 0, 0)) == (
        "Of 7 images that may be the task\N{RIGHT SINGLE QUOTATION MARK}s own, 5 were left out and 2 kept; "
        "a person decided on all of them."
    )


def test_decisions_of_a_person_are_no_warning() -> None:
    assert warning(suspects(7, 5, 0, 0)) == ""


def test_suspects_that_nobody_has_seen_are_a_warning() -> None:
    assert warning(suspects(7, 5, 1, 2)) == (
        "The transfer set holds 1 possible leak that nobody has looked at: if it is an image of the test set, "
        "whatever learns from it scores better than it is. Look at it with tutelage review."
    )


def test_problems_that_leave_nothing_out_are_not_told() -> None:
    assert broken({"problems": {"wrong extension": 3}}) == ""
    assert broken({"problems": {"wrong extension": 3, "truncated": 2}}).endswith(": 2 truncated.")


def test_sentences_that_say_nothing_are_left_out() -> None:
    assert len(curation_sentences(ABOUT)) == 3


def test_why_so_many_were_chosen_is_said_where_sizes_were_tried() -> None:
    assert sized({**ABOUT, "quality": {"chosen": 2000, "why": "no other size is better"}}) == (
        "2,000 were chosen: no other size is better."
    )
    assert sized(ABOUT) == sized({**ABOUT, "quality": None}) == ""
