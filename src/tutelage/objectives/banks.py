"""Memory banks: one row a sample, kept in memory or on disk."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.errors import RunError

Form = Literal["float32", "float16", "disk"]
"""How a bank is kept: in memory, in full or half precision; or on disk, in half precision."""

BYTES: dict[Form, int] = {"float32": 4, "float16": 2, "disk": 2}
"""Of one number."""

_AGAIN = (
    "what an interrupted training has left is gone, or of other samples; remove this stage's checkpoint to start it "
    "again"
)

Rows = npt.NDArray[np.float16]


class Bank(ABC):
    """N rows of D numbers, zeros at first."""

    @abstractmethod
    def read(self, rows: Tensor) -> Tensor:
        """Return some rows, in full precision and on the device of ``rows``: int64 [n] to [n, D]."""

    @abstractmethod
    def write(self, rows: Tensor, values: Tensor) -> None:
        """Overwrite some rows, [n] and [n, D]; where one is named twice, its values must be the same."""

    @abstractmethod
    def state(self) -> Tensor | None:
        """Return what a checkpoint must hold; ``None`` if the rows are safe elsewhere."""

    @abstractmethod
    def restore(self, state: Tensor | None, updates: int) -> None:
        """Go back to the rows of a checkpoint: its state, after so many updates."""

    @abstractmethod
    def checkpointed(self, updates: int) -> None:
        """Hear that a checkpoint of the rows as they are now, after so many updates, is safe."""


class MemoryBank(Bank):
    """Rows in the memory of a device.

    Args:
        size: N.
        width: D.
        dtype: Of the numbers.
        device: Where they are.
    """

    def __init__(self, size: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self._values = torch.zeros(size, width, dtype=dtype, device=device)

    def read(self, rows: Tensor) -> Tensor:
        """Return some rows."""
        found = self._values.index_select(0, rows)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def write(self, rows: Tensor, values: Tensor) -> None:
        """Overwrite some rows."""
        self._values.index_copy_(0, rows, values.to(self._values.dtype))

    def state(self) -> Tensor:
        """Return all rows."""
        return self._values

    def restore(self, state: Tensor | None, updates: int) -> None:
        """Take all rows over.

        Raises:
            RunError: They are those of another bank.
        """
        if state is None or state.shape != self._values.shape:
            raise RunError(f"memory banks: {_AGAIN}")
        self._values.copy_(state)

    def checkpointed(self, updates: int) -> None:
        """Do nothing: the checkpoint has all rows."""


class DiskBank(Bank):
    """Rows in a memory-mapped file, in half precision, for a single process.

    The file is ahead of the last checkpoint, whenever training is stopped. So whatever is overwritten first goes into
    a journal, which is named by the number of updates that the checkpoint has seen, and with which its rows are put
    back. A checkpoint without a journal of its own has seen the last update. Both survive a process that is killed at
    any time; they are not written through to the disk, so that a machine that loses power may lose them.

    Args:
        folder: Where the files are.
        name: Of the files.
        size: N.
        width: D.

    Raises:
        RunError: There is no room.
    """

    def __init__(self, folder: Path, name: str, size: int, width: int) -> None:
        self._path = folder / f"{name}.bank"
        self._size, self._width = size, width
        self._bytes = BYTES["disk"] * size * width
        self._entry = np.dtype([("row", "<i8"), ("values", "<f2", (width,))])
        self._kept = np.zeros(size, dtype=bool)  # rows that the journal has
        self._values: Rows | None = None
        self._journal = self._journal_of(0)

    def read(self, rows: Tensor) -> Tensor:
        """Return some rows."""
        found = self._opened()[rows.cpu().numpy()]
        return torch.from_numpy(found).to(rows.device).float()

    def write(self, rows: Tensor, values: Tensor) -> None:
        """Overwrite some rows.

        Raises:
            RunError: The disk is full.
        """
        stored, places = self._opened(), rows.cpu().numpy()
        new = np.unique(places[~self._kept[places]])
        entries = np.empty(len(new), dtype=self._entry)
        entries["row"], entries["values"] = new, stored[new]
        with _writing(self._journal), self._journal.open("ab") as journal:
            journal.write(entries.tobytes())
        self._kept[new] = True
        stored[places] = values.to(torch.float16).cpu().numpy()

    def state(self) -> None:
        """Return nothing: the file has all rows."""

    def restore(self, state: Tensor | None, updates: int) -> None:
        """Put back what has been overwritten since the checkpoint.

        Raises:
            RunError: The file is gone, or that of another bank.
        """
        if not self._path.exists() or self._path.stat().st_size != self._bytes:
            raise RunError(f"{self._path}: {_AGAIN}")
        self._values = self._mapped()
        journal = self._journal_of(updates)
        if journal.exists():
            # A last entry that was cut short was not overwritten yet.
            whole = journal.stat().st_size // self._entry.itemsize
            entries: Any = np.fromfile(journal, dtype=self._entry, count=whole)
            self._values[entries["row"]] = entries["values"]
        self._begin_journal(updates)

    def checkpointed(self, updates: int) -> None:
        """Keep what is overwritten from now on."""
        self._opened()
        self._begin_journal(updates)

    def _opened(self) -> Rows:
        if self._values is None:  # nothing was restored: a new bank, whatever lies there
            with _writing(self._path), self._path.open("wb") as file:
                if sys.platform == "linux":  # all of its room: else a full disk ends the process at some later write
                    os.posix_fallocate(file.fileno(), 0, self._bytes)
                file.truncate(self._bytes)
            self._values = self._mapped()
            self._begin_journal(0)
        return self._values

    def _mapped(self) -> Rows:
        return np.memmap(self._path, dtype="<f2", mode="r+", shape=(self._size, self._width))

    def _begin_journal(self, updates: int) -> None:
        self._journal = self._journal_of(updates)
        with _writing(self._journal):
            self._journal.write_bytes(b"")
        for other in self._path.parent.glob(f"{self._path.name}.before-*"):
            if other != self._journal:
                other.unlink()
        self._kept[:] = False

    def _journal_of(self, updates: int) -> Path:
        return self._path.with_name(f"{self._path.name}.before-{updates}")


def remove_banks(folder: Path) -> None:
    """Remove the files of all banks in a folder."""
    for path in folder.glob("*.bank*"):
        path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: a memory bank cannot be written ({error.strerror}); free space, or keep it in memory with "
            "distill.contrast.form=float16"
        ) from error
