from __future__ import annotations

import pytest

from tutelage.report.words import leaks


@pytest.mark.parametrize(("count", "words"), [(1, "1 possible leak that"), (12, "12 possible leaks that")])
def test_kept_leaks_are_told_with_what_they_mean(count: int, words: str) -> None:
    (sentence,) = leaks({"problems": {"transfer": {"counts": {"possible leak": count, "truncated": 3}}}})
    assert words in sentence
    assert "scores may be better" in sentence


@pytest.mark.parametrize("data", [{}, {"problems": {}}, {"problems": {"transfer": {"counts": {"truncated": 3}}}}])
def test_without_any_nothing_is_said(data: dict[str, object]) -> None:
    assert leaks(data) == []
