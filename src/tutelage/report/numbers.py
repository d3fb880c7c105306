"""Numbers as people read them; what is missing is a dash."""

from __future__ import annotations

MISSING = "—"


def percent(share: float | None) -> str:
    """Return a share in 0..1 as ``92.1%``."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def decimal(value: float | None) -> str:
    """Return a metric with three decimals."""
    return MISSING if value is None else f"{value:.3f}"


def whole(value: int | None) -> str:
    """Return a count with all its digits: ``1,797``."""
    return MISSING if value is None else f"{value:,}"


def plural(value: int, one: str, many: str = "") -> str:
    """Return a count with its noun, which takes an ``s`` where its plural is not given."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def between(low: float, high: float) -> str:
    """Return two shares as a range of percentages, 89.7 to 94.0, with a dash between."""
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}"


def signed(share: float) -> str:
    """Return a difference of shares in points, with its sign: ``+8.3``."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def parameters(value: int | None) -> str:
    """Return a number of parameters: ``0.58M``, ``22.1M``, ``1.14B``."""
    if value is None:
        return MISSING
    if value < 10_000:
        return f"{value:,}"
    if value < 999_500:
        return f"{value / 1e6:.2f}M" if value >= 100_000 else f"{value / 1e3:.0f}k"
    return _three_digits(value / 1e6, "M") if value < 999_500_000 else _three_digits(value / 1e9, "B")


def duration(seconds: float | None) -> str:
    """Return a time: ``0.4 s``, ``3 min 20 s``, ``2 h 5 min``, ``1 d 3 h``."""
    if seconds is None:
        return MISSING
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def milliseconds(value: float) -> str:
    """Return a latency: ``0.42 ms``, ``3.1 ms``, ``128 ms``."""
    return _three_digits(value, " ms")


def times(factor: float) -> str:
    """Return a factor of one or more: ``1.3``, ``12``."""
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:,.0f}"


def flops(value: float | None) -> str:
    """Return floating-point operations: ``31.4 T``."""
    return MISSING if not value else _scaled(value, ("", "k", "M", "G", "T", "P", "E", "Z", "Y"))


def size(value: float | None) -> str:
    """Return bytes: ``2.38 MB``."""
    return MISSING if not value else _scaled(value, ("B", "kB", "MB", "GB", "TB", "PB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    power = 0
    while value >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return _three_digits(value, f" {units[power]}").rstrip()


def _three_digits(value: float, unit: str) -> str:
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{unit}"
