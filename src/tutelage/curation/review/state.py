"""A review that is going on: what there is to decide, what has been decided, saved at once."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.curation.review.pictures import Pictures, find_images
from tutelage.curation.suspects import (
    FOLDER,
    Decision,
    Suspect,
    read_decisions,
    read_suspects,
    write_decisions,
)
from tutelage.errors import RunError
from tutelage.run import LOCK


class Review:
    """Suspects, pictures and decisions; safe to use from several threads.

    Args:
        run: The run folder.
        suspects: What there is to decide.
        pictures: Of the suspects and of what they are like.

    Attributes:
        run: The run folder.
        suspects: What there is to decide.
        pictures: Of the suspects and of what they are like.

    Raises:
        RunError: Decisions from before cannot be read.
    """

    def __init__(self, run: Path, suspects: tuple[Suspect, ...], pictures: Pictures) -> None:
        self.run = run
        self.suspects = suspects
        self.pictures = pictures
        self._decisions = read_decisions(run)
        self._saving = threading.Lock()

    def decisions(self) -> list[Decision | None]:
        """Return the decision on each suspect; ``None`` where there is none yet."""
        decisions = self._decisions
        return [decisions.get(suspect.key) for suspect in self.suspects]

    def decide(self, number: int, decision: Decision | None) -> None:
        """Save a decision; when that fails, all is as before.

        Args:
            number: Of the suspect, from 0 on.
            decision: ``None`` takes it back.

        Raises:
            RunError: It cannot be saved.
        """
        key = self.suspects[number].key
        with self._saving:
            decisions = {name: value for name, value in self._decisions.items() if name != key}
            if decision is not None:
                decisions[key] = decision
            write_decisions(self.run, decisions)
            self._decisions = decisions

    def count(self) -> dict[str, int]:
        """Return how many suspects there are, how many are leaks, fine, and left to decide."""
        decisions = self.decisions()
        return {
            "suspects": len(decisions),
            "leaks": decisions.count("leak"),
            "fine": decisions.count("fine"),
            "left": decisions.count(None),
        }


@contextmanager
def open_review(run: Path, say: Callable[[str], None] = lambda text: None) -> Iterator[Review]:
    """Open the review of a run, for one process at a time.

    Args:
        run: The run folder.
        say: Told what is being read.

    Raises:
        RunError: There is nothing to review, its files are damaged, or another process has it open.
        DataError: The data of the images cannot be read.
        UnknownNameError: The data of the images are not there.
    """
    suspects = read_suspects(run)
    try:
        lock = (run / FOLDER / LOCK).open("a")
    except OSError as error:
        raise RunError(f"{run / FOLDER}: cannot be written ({error.strerror}); decisions are saved there") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{run}: is being reviewed already; use that page, or end the other command") from error
        yield Review(run, suspects, Pictures(find_images(suspects, say)))
