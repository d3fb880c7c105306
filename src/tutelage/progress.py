"""How long work says where it is; the command line draws it, Python callers hear nothing by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Update = Callable[[int, Mapping[str, float]], None]
"""Called with the number of steps done so far and the numbers worth showing."""


class Progress(Protocol):
    """Something that can show where work is."""

    def say(self, text: str) -> None:
        """Show one line."""
        ...

    def track(self, label: str, total: int) -> AbstractContextManager[Update]:
        """Show a bar of ``total`` steps while the block runs."""
        ...


class Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        """Show nothing."""
        yield lambda done, numbers: None
