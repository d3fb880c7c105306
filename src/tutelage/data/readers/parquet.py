"""Images in the cells of a Parquet file, read a row group at a time and only when asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from tutelage.data.readers.places import Place, reaching
from tutelage.data.samples import Stored
from tutelage.errors import DataError


class ParquetFile:
    """A Parquet file whose images stay in it.

    Args:
        place: The file.

    Raises:
        DataError: It is no Parquet file.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._held: tuple[int, str, Any] | None = None
        self._file: Any = None
        with reaching(place.name):
            self.schema = self._opened().schema_arrow

    def __getstate__(self) -> dict[str, Any]:
        # Open files and locks do not go to other processes.
        return {"place": self.place, "schema": self.schema}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _held=None, _file=None)

    def _opened(self) -> Any:
        import pyarrow.parquet as pq

        if self._file is None:
            # pyarrow opens and closes files of this machine itself.
            self._file = pq.ParquetFile(self.place.path if self.place.store is None else self.place.open())
        return self._file

    def class_names(self, column: str) -> list[str]:
        """Return the class names that the library ``datasets`` writes beside a column of class numbers; or none."""
        try:
            about = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            names = about["info"]["features"][column]["names"]
        except (ValueError, KeyError, TypeError):
            return []
        return [str(name) for name in names] if isinstance(names, list) else []

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield (row group, row in it, values) of columns that hold no images; ``struct.field`` names a field.

        Raises:
            DataError: The file is damaged.
        """
        with reaching(self.place.name), self._lock:
            groups = self._opened().num_row_groups
        for group in range(groups):
            with reaching(self.place.name), self._lock:
                count = self._opened().metadata.row_group(group).num_rows
                # Without columns, pyarrow forgets how many rows there are.
                values_of = self._opened().read_row_group(group, columns=list(columns)).to_pylist() if columns else []
            for row, values in enumerate(values_of or ({} for _ in range(count))):
                yield group, row, values

    def present(self, group: int, leaf: str) -> list[bool]:
        """Return which cells of a column hold something.

        Raises:
            DataError: The file is damaged.
        """
        with reaching(self.place.name), self._lock:
            about = self._opened().metadata.row_group(group)
            for number in range(about.num_columns):
                column = about.column(number)
                known = column.statistics is not None and column.statistics.has_null_count
                if column.path_in_schema == leaf and known and column.statistics.null_count in (0, about.num_rows):
                    return [column.statistics.null_count == 0] * about.num_rows
            # Some are there and some are not: only the cells themselves tell which.
            read = self._opened().read_row_group(group, columns=[leaf]).column(0).combine_chunks()
            if "." in leaf:
                read = read.field(leaf.partition(".")[2])
            return [bool(value) for value in read.is_valid().to_pylist()]

    def cell(self, group: int, row: int, leaf: str) -> bytes:
        """Return the bytes in a cell. The row group read last is kept.

        Raises:
            DataError: The file is damaged or gone.
        """
        with reaching(self.place.name), self._lock:
            if self._held is None or self._held[:2] != (group, leaf):
                self._held = None  # not two at a time
                column = self._opened().read_row_group(group, columns=[leaf]).column(0)
                self._held = (group, leaf, column)
            value = self._held[2][row].as_py()
        if isinstance(value, dict):
            value = value["bytes"]
        if not isinstance(value, bytes):
            raise DataError(f"{self.place.name}: row {row} of row group {group} holds no image")
        return value


class Cell(Stored):
    """The image in one cell of a Parquet file."""

    def __init__(self, file: ParquetFile, group: int, row: int, leaf: str) -> None:
        self.file, self.group, self.row, self.leaf = file, group, row, leaf

    def __str__(self) -> str:
        return f"{self.file.place.name}: row {self.row} of row group {self.group}"

    def read(self) -> bytes:
        """Return the encoded image."""
        return self.file.cell(self.group, self.row, self.leaf)

    def stamp(self) -> str:
        """Return the file's tag and the cell's place in it."""
        return f"{self.file.place.tag},{self.group},{self.row}"
