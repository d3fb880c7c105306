"""Suspects for a person to decide on: written by curation, shown by ``tutelage review``, decided in its files."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tutelage.errors import RunError
from tutelage.models.preprocess import Modality
from tutelage.run import write_json

SCHEMA = 1
"""Version of both files' form."""

FOLDER = "review"
"""Where both are, in a run folder."""

SUSPECTS, DECISIONS = "suspects.json", "decisions.json"

Part = Literal["train", "validation", "test"]
"""What the task uses an image for."""

Decision = Literal["leak", "fine"]
"""What a person says: an image of the task, or another one."""


class ReviewNeeded(RunError):  # noqa: N818 - it is a request rather than a failure
    """Suspects that a person has to decide on before curation goes on.

    Args:
        run: The run folder.
        left: Suspects without a decision.
        total: All suspects.
    """

    def __init__(self, run: Path, left: int, total: int) -> None:
        super().__init__(
            f"{run}: {left} of {total} images that may be images of the task are not decided; look at them with "
            f"`tutelage review {shlex.quote(str(run))}`, then run the same command again (or set curate.leaks to "
            "drop or keep)"
        )


@dataclass(frozen=True)
class Near:
    """An image of the task that a suspect is like.

    Attributes:
        source: Its data, as for :func:`tutelage.data.readers.read_samples`.
        id: Its id there.
        part: What the task uses it for.
        similarity: To the suspect, the largest over the encoders.
    """

    source: str
    id: str
    part: Part
    similarity: float


@dataclass(frozen=True)
class Suspect:
    """A retrieved image, whole, that may be one of the task.

    Attributes:
        source: Its data, as for :func:`tutelage.data.readers.read_samples`.
        id: Its id there.
        similarity: To the nearest image of the task, the largest over the encoders.
        nearest: Of the task's images, nearest first.
        modality: What all of them are: images, or texts.
    """

    source: str
    id: str
    similarity: float
    nearest: tuple[Near, ...]
    modality: Modality = "image"

    @property
    def key(self) -> str:
        """What its decision is kept under."""
        return decision_key(self.source, self.id)


def decision_key(source: str, name: str) -> str:
    """Return what the decision on an image is kept under: its data and its id."""
    return f"{source}\n{name}"


def undecided(suspects: Sequence[Suspect], decisions: Mapping[str, Decision]) -> list[Suspect]:
    """Return the suspects without a decision."""
    return [suspect for suspect in suspects if suspect.key not in decisions]


def write_suspects(run: Path, suspects: Sequence[Suspect], task: Sequence[str]) -> Path:
    """Write what is to be reviewed; decisions from before stay.

    Args:
        run: The run folder.
        suspects: In the order in which they are to be shown; each source and id once.
        task: The task's data, as for :func:`tutelage.data.readers.read_samples`.

    Returns:
        The file.

    Raises:
        RunError: It cannot be written.
    """
    path = run / FOLDER / SUSPECTS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be made ({error.strerror}); choose another --out") from error
    write_json(path, {"schema": SCHEMA, "task": list(task), "suspects": [asdict(each) for each in suspects]})
    return path


def read_suspects(run: Path) -> tuple[Suspect, ...]:
    """Return what is to be reviewed.

    Raises:
        RunError: There is nothing, or the file is damaged or from a newer version.
    """
    path = run / FOLDER / SUSPECTS
    remedy = "curate again, and it is written anew"
    data = _read(path, remedy)
    if data is None:
        raise RunError(
            f"{run}: has nothing to review ({FOLDER}/{SUSPECTS} is not there); curation writes it where images are "
            "suspect"
        )
    try:
        suspects = tuple(_suspect(each) for each in data["suspects"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: is not a list of suspects; {remedy}") from error
    if len({suspect.key for suspect in suspects}) < len(suspects):
        raise RunError(f"{path}: has an image twice; {remedy}")
    return suspects


def read_decisions(run: Path) -> dict[str, Decision]:
    """Return what has been decided, by :func:`decision_key`; images that are no longer suspect may be among them.

    Raises:
        RunError: The file is damaged or from a newer version.
    """
    path = run / FOLDER / DECISIONS
    remedy = "repair it, or remove it to decide anew"
    data = _read(path, remedy)
    found = {} if data is None else data.get("decisions")
    if not isinstance(found, dict) or not all(value in get_args(Decision) for value in found.values()):
        raise RunError(f"{path}: has other than decisions, each leak or fine; {remedy}")
    return found


def write_decisions(run: Path, decisions: Mapping[str, Decision]) -> None:
    """Write all that has been decided, whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    write_json(run / FOLDER / DECISIONS, {"schema": SCHEMA, "decisions": dict(decisions)})


def _read(path: Path, remedy: str) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise RunError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise RunError(f"{path}: is no file of a review; {remedy}")
    if data["schema"] > SCHEMA:
        raise RunError(f"{path}: written by a newer version of tutelage; update")
    return data


def _suspect(data: Mapping[str, Any]) -> Suspect:
    nearest = tuple(
        Near(_text(near["source"]), _text(near["id"]), _part(near["part"]), _similarity(near["similarity"]))
        for near in data["nearest"]
    )
    found = Suspect(_text(data["source"]), _text(data["id"]), _similarity(data["similarity"]), nearest)
    return replace(found, modality="text") if data.get("modality") == "text" else found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _similarity(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a similarity, got {value!r}")
    return float(value)


def _part(value: object) -> Part:
    for part in get_args(Part):
        if part == value:
            return part  # type: ignore[no-any-return]
    raise ValueError(f"expected one of {get_args(Part)}, got {value!r}")
