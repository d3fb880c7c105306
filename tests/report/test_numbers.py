from __future__ import annotations

import pytest

from tutelage.report import numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (842, "842"),
        (9_999, "9,999"),
        (84_300, "84k"),
        (99_999, "100k"),
        (584_010, "0.58M"),
        (999_499, "1.00M"),
        (5_288_548, "5.29M"),
        (22_050_664, "22.1M"),
        (304_368_640, "304M"),
        (999_600_000, "1.00B"),
        (1_136_480_768, "1.14B"),
    ],
)
def test_parameters_have_two_or_three_digits(value: int | None, shown: str) -> None:
    assert numbers.parameters(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "—"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (218.6, "3 min 39 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7530, "2 h 6 min"),
        (86_399, "1 d 0 h"),
        (97_000, "1 d 2 h"),
    ],
)
def test_durations_never_show_sixty_of_a_unit(seconds: float | None, shown: str) -> None:
    assert numbers.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "—"), (950.0, "950"), (999.7, "1.00 k"), (1.74e13, "17.4 T"), (3.1e22, "31.0 Z")]
)
def test_flops_are_scaled(value: float, shown: str) -> None:
    assert numbers.flops(value) == shown


def test_bytes_are_scaled_by_thousands() -> None:
    assert [numbers.size(value) for value in (None, 12, 2_384_112, 1.432e9)] == ["—", "12.0 B", "2.38 MB", "1.43 GB"]


def test_differences_keep_their_sign() -> None:
    assert [numbers.signed(value) for value in (0.083, -0.0042)] == ["+8.3", "\N{MINUS SIGN}0.4"]


def test_latencies_and_factors_have_two_or_three_digits() -> None:
    assert [numbers.milliseconds(value) for value in (0.4213, 3.14, 31.4, 127.9)] == [
        "0.42 ms", "3.14 ms", "31.4 ms", "128 ms"
    ]  # fmt: skip
    assert [numbers.times(value) for value in (1.04, 9.94, 12.3, 1234.0)] == ["1.0", "9.9", "12", "1,234"]
