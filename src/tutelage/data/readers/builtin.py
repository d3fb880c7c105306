"""Sets that come with libraries: scikit-learn's digits, and those of torchvision that hold plain arrays."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import numpy as np

from tutelage.data.readers.rows import Part
from tutelage.data.samples import Samples
from tutelage.errors import DataError, UnknownNameError

DIGITS_TEST = 597
"""How many of scikit-learn's 1,797 digits are the test part; drawn once, the same for every seed."""

TORCHVISION = ("FashionMNIST", "KMNIST", "MNIST")
"""Sets of torchvision that hold plain arrays. Others (CIFAR) are pickles, and nothing downloaded is unpickled."""

PATIENCE = 30.0
"""Seconds that a silent server is waited for."""


def read_digits(part: Part, labeled: bool) -> Samples:
    """Return one part of the digits."""
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


def check_torchvision(rest: str) -> None:
    """Raise UnknownNameError unless the set is one of :data:`TORCHVISION`."""
    if rest not in TORCHVISION:
        raise UnknownNameError("torchvision data set", rest, TORCHVISION)


def read_torchvision(rest: str, part: Part, labeled: bool) -> Samples:
    """Return one part of a set of torchvision, downloaded where it is not there.

    Raises:
        DataError: It is not whole, and cannot be downloaded.
        UnknownNameError: It is none of :data:`TORCHVISION`.
    """
    from torchvision import datasets

    check_torchvision(rest)
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
