"""Samples: what the rest of the house trains on, predicts and evaluates."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tutelage.data.problems import Problem
from tutelage.errors import DataError

if TYPE_CHECKING:  # which need an image's source, and torch
    from tutelage.data.mask_codes import Mask, MaskCode
    from tutelage.models.preprocess import Modality

IntArray = npt.NDArray[np.int64]

ROUNDED = 1e-6
"""How far a box may lead out of its image by rounding to float32."""


class Stored(ABC):
    """An encoded image that lies inside something else and is read when needed: an archive, a table, a remote store.

    ``str()`` of it says where it is, in words for messages. Safe to read from several threads.
    """

    @abstractmethod
    def read(self) -> bytes:
        """Return the encoded image.

        Raises:
            DataError: It cannot be read (any more).
        """

    @abstractmethod
    def stamp(self) -> str:
        """Return what tells a changed image from the same one, cheaply: size and time, offset, or an entity tag."""


@dataclass(frozen=True, eq=False)  # arrays cannot be compared this way; see same_source
class CutOut:
    """A crop that is an image of its own: decoded by decoding the whole one and cutting a box out of it.

    ``str()`` of it says where it is, in words for messages.

    Attributes:
        source: The image that it is cut out of.
        box: (top, left, height, width) relative to the image, as in ``Views.crop``; rounded to whole pixels by
            :func:`tutelage.data.boxes.pixel_box`.

    Raises:
        DataError: The box is empty, or not inside the image.
    """

    source: ImageSource
    box: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        top, left, height, width = self.box
        inside = 0 <= top < 1 and 0 <= left < 1 and top + height <= 1 + ROUNDED and left + width <= 1 + ROUNDED
        if not (inside and height > 0 and width > 0):
            raise DataError(
                f"{self}: the box leads out of the image, or is empty; give (top, left, height, width) in 0..1"
            )

    def __str__(self) -> str:
        top, left, height, width = self.box
        where = "pixels" if isinstance(self.source, np.ndarray) else self.source
        name = f"{len(where)} bytes" if isinstance(where, bytes) else str(where)
        return f"crop ({left:.1%}, {top:.1%}) to ({left + width:.1%}, {top + height:.1%}) of {name}"

    @property
    def whole(self) -> bool:
        """Whether it is all of the image."""
        return self.box == (0, 0, 1, 1)


WholeImage = Path | bytes | npt.NDArray[np.uint8] | Stored
"""An image before decoding: a file, an encoded file's bytes, pixels as uint8 [H, W] or [H, W, 3 or 4], or stored."""

ImageSource = WholeImage | CutOut
"""The same, or a crop of one."""


@dataclass(frozen=True)
class Samples:
    """Ids, inputs, and targets if there are any. Immutable, and cheap to subset.

    Attributes:
        ids: One stable, unique name a sample: a path relative to the data's root, or the key it came with.
        images: Image sources, or ``None`` for text alone.
        texts: Texts, or ``None`` for images alone; a pair of sentences is one string
            (:func:`tutelage.runtime.texts.paired`).
        targets: The task's targets, one row a sample (classification: class numbers, int64 [N], or shares of the
            classes, floating-point [N, C]), or ``None``.
        classes: Class names in the order of the class numbers; empty without targets and masks.
        origin: Where the samples come from, in words a user knows.
        problems: What reading them left out or set right; not part of the fingerprint.
        masks: The targets of dense tasks, one an image, or ``None``.
    """

    ids: tuple[str, ...]
    images: Sequence[ImageSource] | None = None
    texts: Sequence[str] | None = None
    targets: npt.NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    origin: str = ""
    problems: tuple[Problem, ...] = ()
    masks: Sequence[Mask] | None = None

    def __post_init__(self) -> None:
        for name in ("images", "texts", "targets", "masks"):
            value = cast("Sequence[object] | None", getattr(self, name))
            if value is not None and len(value) != len(self.ids):
                raise DataError(f"{self.origin or 'samples'}: {len(self.ids)} ids but {len(value)} {name}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modality(self) -> Modality:
        """Whether each is an image, a text, or a pair of both."""
        if self.texts is None:
            return "image"
        return "text" if self.images is None else "pair"

    def subset(self, rows: IntArray) -> Samples:
        """Return the samples in ``rows``, in that order."""

        def pick(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else [values[row] for row in rows]

        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            images=pick(self.images),
            texts=pick(self.texts),
            targets=None if self.targets is None else self.targets[rows],
            masks=pick(self.masks),
        )

    def without_targets(self) -> Samples:
        """Return the same samples unlabeled."""
        return replace(self, targets=None, masks=None, classes=())

    def labels(self) -> npt.NDArray[Any]:
        """Return the targets.

        Raises:
            DataError: There are none.
        """
        if self.targets is None:
            raise DataError(f"{self.origin or 'these samples'} have no labels; give labeled data here")
        return self.targets

    @cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """A 64-bit key for each id, [N]; views are drawn from it."""
        digests = [hashlib.blake2b(i.encode("utf-8", "surrogateescape"), digest_size=8).digest() for i in self.ids]
        return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, targets, class names and what identifies each input's and mask's content.

        Files count by size and modification time, so that a million images need not be read; bytes, pixels and
        texts count by content.
        """
        digest = hashlib.sha256(repr((len(self), self.classes)).encode())
        digest.update(self.keys.tobytes())
        if self.targets is not None:
            digest.update(np.ascontiguousarray(self.targets).tobytes())
        for image in self.images or ():
            digest.update(_identity(image))
        for text in self.texts or ():
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        codes: dict[MaskCode, int] = {}
        for mask in self.masks or ():
            digest.update(f"{codes.setdefault(mask.code, len(codes))},".encode() + _identity(mask.source))
        if codes:
            digest.update(repr(list(codes)).encode())
        return digest.hexdigest()


def _identity(source: ImageSource) -> bytes:
    """Return what identifies an image's content."""
    if isinstance(source, Path):
        try:
            status = source.stat()
        except OSError as error:
            raise DataError(f"{source}: cannot be read ({error.strerror}); was it moved?") from error
        return f"{status.st_size},{status.st_mtime_ns}".encode()
    if isinstance(source, Stored):
        return source.stamp().encode()
    if isinstance(source, bytes):
        return source
    if isinstance(source, CutOut):
        return (b"" if source.whole else repr(source.box).encode()) + _identity(source.source)
    return repr(source.shape).encode() + np.ascontiguousarray(source).tobytes()


def original(source: ImageSource) -> WholeImage:
    """Return the image that a crop was cut out of, or else the image itself."""
    while isinstance(source, CutOut):
        source = source.source
    return source


def same_source(one: ImageSource, other: ImageSource) -> bool:
    """Return whether two image sources are the same place, or the same pixels; nothing is read."""
    if isinstance(one, CutOut) and isinstance(other, CutOut):
        return one is other or (one.box == other.box and same_source(one.source, other.source))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        # Unequal where only one is an array, which numpy's types do not foresee.
        return one is other or np.array_equal(one, other)  # type: ignore[arg-type]
    return one is other or one == other


def joined(first: Samples, second: Samples) -> Samples:
    """Return labeled samples of two sets with the same classes, one after the other.

    Ids of the second set that the first one has are told apart. Where one set has shares of the classes, the other's
    class numbers become whole shares.

    Raises:
        DataError: One has no labels, their classes differ, or one has images (or texts) that the other lacks.
    """
    where = f"{first.origin or 'these samples'} and {second.origin or 'those beside them'}"
    if first.classes != second.classes:
        raise DataError(f"{where} have different classes; give both the same ones")
    parts = [first.labels(), second.labels()]
    if any(part.ndim > 1 for part in parts):
        parts = [part if part.ndim > 1 else np.eye(len(first.classes), dtype=np.float16)[part] for part in parts]
    taken = set(first.ids)
    return replace(
        first,
        ids=(*first.ids, *(f"{name} (unlabeled)" if name in taken else name for name in second.ids)),
        images=_both(first.images, second.images, where),
        texts=_both(first.texts, second.texts, where),
        targets=np.concatenate(parts),
    )


def _both(first: Sequence[Any] | None, second: Sequence[Any] | None, where: str) -> list[Any] | None:
    if first is None and second is None:
        return None
    if first is None or second is None:
        raise DataError(f"{where}: one has images or texts that the other lacks; they cannot be learned together")
    return [*first, *second]
