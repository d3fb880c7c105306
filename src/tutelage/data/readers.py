"""Readers: from the name of some data, as a user writes it, to Samples."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tutelage.data.pixels import IMAGE_SUFFIXES
from tutelage.data.samples import Samples
from tutelage.errors import DataError, UnknownNameError

Part = Literal["train", "test"]

DIGITS_TEST = 597
"""How many of scikit-learn's 1,797 digits are the test part; drawn once, the same for every seed."""


TORCHVISION = ("FashionMNIST", "KMNIST", "MNIST")
"""Sets of torchvision that hold plain arrays. Others (CIFAR) are pickles, and nothing downloaded is unpickled."""

PATIENCE = 30.0
"""Seconds that a silent server is waited for."""


@dataclass(frozen=True)
class Reader:
    """One way to read data.

    Attributes:
        summary: What it reads, in one line.
        read: From what follows the name (``torchvision:NAME`` → ``NAME``), the part wanted of built-in sets, and
            whether labels are wanted, to samples.
        check: Raises if the data are visibly not there; cheap.
    """

    summary: str
    read: Callable[[str, Part, bool], Samples]
    check: Callable[[str], None]


def read_samples(where: str, *, part: Part = "train", labeled: bool) -> Samples:
    """Read the data named by ``where``.

    Args:
        where: A folder, ``digits``, or ``torchvision:NAME``.
        part: Which part of a built-in set; folders have only what they hold.
        labeled: Whether class labels are wanted: of folders, the first level of subfolders names the class.

    Raises:
        DataError: The data are missing, empty, or have no labels where labels are wanted.
        UnknownNameError: No reader has that name.
    """
    reader, rest = _find(where)
    samples = reader.read(rest, part, labeled)
    if not len(samples):
        raise DataError(f"{where}: no images found; expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return samples


def check_data(where: str) -> None:
    """Raise, cheaply, if the data named by ``where`` are visibly not there."""
    reader, rest = _find(where)
    reader.check(rest)


def _find(where: str) -> tuple[Reader, str]:
    name, colon, rest = where.partition(":")
    if where == "digits":
        return READERS["digits"], ""
    if colon and len(name) > 1 and not Path(where).exists():  # one letter would be a drive
        if name not in READERS:
            raise UnknownNameError("kind of data", name, READERS, f"in {where!r}")
        return READERS[name], rest
    return READERS["folder"], where


def _check_folder(where: str) -> None:
    folder = Path(where).expanduser()
    if not folder.exists():
        if not folder.parent.is_dir():
            raise DataError(f"{where}: no such folder, nor is there {folder.parent}")
        known = [path.name for path in folder.parent.iterdir() if path.is_dir() and path.name[0] != "."]
        if where == folder.name:
            known += ["digits", *(f"torchvision:{name}" for name in TORCHVISION)]
        raise UnknownNameError("folder", folder.name, known, f"(looked in {folder.parent.resolve()})")
    if not folder.is_dir():
        raise DataError(f"{where}: is a file; a folder of images is expected here")


def _read_folder(where: str, part: Part, labeled: bool) -> Samples:
    _check_folder(where)
    folder = Path(where).expanduser()
    if not labeled:
        paths = list_images(folder)
        return Samples(_relative_ids(paths, folder), images=paths, origin=where)
    classes = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    by_class = {name: list_images(folder / name) for name in classes}
    if not classes:
        raise DataError(f"{where}: has no subfolders; labeled images are expected in a folder per class")
    empty = [name for name, paths in by_class.items() if not paths]
    if empty:
        raise DataError(f"{where}: no images in class folder {', '.join(empty)}; add some, or remove the folder")
    paths = [path for name in classes for path in by_class[name]]
    targets = np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes])
    return Samples(_relative_ids(paths, folder), paths, None, targets.astype(np.int64), tuple(classes), where)


def list_images(folder: Path) -> list[Path]:
    """Return all image files under ``folder``, by suffix, sorted by their relative path; none that are hidden."""

    def wanted(path: Path) -> bool:
        # Systems keep thumbnails and copies of metadata under hidden names with the suffix of an image.
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()

    return sorted(filter(wanted, folder.rglob("*")), key=lambda path: path.relative_to(folder).as_posix())


def _relative_ids(paths: list[Path], folder: Path) -> tuple[str, ...]:
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def _read_digits(rest: str, part: Part, labeled: bool) -> Samples:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    targets = bunch.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(targets)), test_size=DIGITS_TEST, random_state=0, stratify=targets)
    rows = np.sort(train if part == "train" else test)
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    samples = Samples(
        tuple(f"digits/{row:04d}" for row in range(len(targets))),
        list(pixels),
        None,
        targets,
        tuple(map(str, range(10))),
        f"digits ({part})",
    ).subset(rows)
    return samples if labeled else samples.without_targets()


def _check_torchvision(rest: str) -> None:
    if rest not in TORCHVISION:
        raise UnknownNameError("torchvision data set", rest, TORCHVISION)


def _read_torchvision(rest: str, part: Part, labeled: bool) -> Samples:
    from torchvision import datasets

    _check_torchvision(rest)
    root = Path(os.environ.get("TUTELAGE_DATA", "~/.cache/tutelage/data")).expanduser()
    make = getattr(datasets, rest)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        # torchvision tells of downloads on stdout, which is for a command's JSON.
        with contextlib.redirect_stdout(sys.stderr):
            found = make(root=str(root), train=part == "train", download=True)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), "damaged")
        raise DataError(
            f"torchvision:{rest}: neither whole in {root} nor to be downloaded ({reason.rstrip(':')}); "
            "put it there, or set TUTELAGE_DATA to where it is"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    targets = found.targets.numpy().astype(np.int64)
    ids = tuple(f"{part}/{row:06d}" for row in range(len(targets)))
    samples = Samples(
        ids, list(found.data.numpy()), None, targets, tuple(found.classes), f"torchvision:{rest} ({part})"
    )
    return samples if labeled else samples.without_targets()


READERS: dict[str, Reader] = {
    "folder": Reader("a folder per class, or any tree of images when unlabeled", _read_folder, _check_folder),
    "digits": Reader("scikit-learn's 8x8 handwritten digits, built in", _read_digits, lambda rest: None),
    "torchvision": Reader(
        f"torchvision:NAME, downloaded once: {', '.join(TORCHVISION)}",
        _read_torchvision,
        _check_torchvision,
    ),
}
