"""Transfer sets that were curated: a table of images in other data, some of them cropped, or of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.data.readers.places import is_folder, is_there, is_url
from tutelage.data.readers.rows import Wanted
from tutelage.data.samples import Samples
from tutelage.errors import DataError, TutelageError
from tutelage.run import LOCK, MANIFEST

if TYPE_CHECKING:
    from tutelage.curation.transfer_set import TransferSet

FILE = "transfer.parquet"
"""What a transfer set is called in the folder of a curation."""

METADATA = b"tutelage"
"""Under which a transfer set's schema says what it is."""


def is_curated(where: str) -> bool:
    """Return whether a local file, a folder of a curation, or a run folder with one is a transfer set.

    Of a file only the end is read.
    """
    path = Path(where).expanduser()
    if is_folder(path):
        return bool(_inside(path))
    return path.suffix.lower() == ".parquet" and is_there(path) and _is_transfer_set(path)


def check_curated(where: str) -> None:
    """Check that a transfer set is there, and the data that it names.

    Raises:
        DataError: It is missing, unfinished or damaged, or data that it names are.
    """
    _checked(where)


def read_curated(where: str, wanted: Wanted) -> Samples:
    """Read a transfer set: what was retrieved, and the queries.

    Raises:
        DataError: It is missing, unfinished or damaged, an image is not there any more, it holds something else than
            is wanted, or labels are wanted.
    """
    from tutelage.curation.transfer_set import samples_of

    if wanted.labeled:
        raise DataError(f"{where}: is a transfer set, which has no labels; give it as data.transfer")
    found = samples_of(_checked(where))
    if found.modality != wanted.modality:
        raise DataError(
            f"{where}: is a transfer set of {found.modality}s, and {wanted.modality}s are wanted here; curate another"
        )
    return found


def _checked(where: str) -> TransferSet:
    # A transfer set names other data, so what reads it stands on top of all readers.
    from tutelage.curation.transfer_set import read_transfer_set
    from tutelage.data.readers.kinds import check_data

    path = _file(where)
    found = read_transfer_set(path)
    for source in dict.fromkeys(found.sources if found.texts is None else ()):  # texts are in it
        try:
            check_data(source)
        except TutelageError as error:
            raise DataError(f"{path}: has images of {source}, which cannot be read here: {error}") from error
    return found


def _file(where: str) -> Path:
    """Return the file of a transfer set.

    Raises:
        DataError: It is elsewhere than on this machine, a folder has none or several, or it is unfinished.
    """
    if is_url(where):
        raise DataError(f"{where}: transfer sets are read on this machine; copy it here")
    path = Path(where).expanduser()
    if not is_folder(path):
        return path
    files = _inside(path)
    if len(files) != 1:
        what = f"several transfer sets: {', '.join(str(file) for file in files)}" if files else f"no {FILE}"
        raise DataError(f"{where}: holds {what}; name the one that you mean")
    if not (files[0].parent / MANIFEST).is_file():
        raise DataError(f"{files[0]}: was not finished; the same `tutelage curate` goes on")
    return files[0]


def _inside(folder: Path) -> list[Path]:
    """Return the transfer sets in the folder of a curation, or in a run folder."""
    if is_there(folder / FILE):
        return [folder / FILE] if _is_transfer_set(folder / FILE) else []
    return sorted(folder.glob(f"[0-9][0-9]-curate/{FILE}")) if is_there(folder / LOCK) else []


def _is_transfer_set(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
        return "transfer_set" in json.loads(metadata.get(METADATA, b"{}"))
    except (OSError, pa.ArrowException, ValueError, TypeError):
        return False
