"""Pictures of suspects and of what they are like: found once, decoded when they are looked at."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from tutelage.curation.gallery import present
from tutelage.curation.suspects import Near, Suspect
from tutelage.data.readers import read_samples
from tutelage.data.samples import ImageSource
from tutelage.data.thumbnails import thumbnail
from tutelage.errors import DataError

SIDE = 512
"""Long side of a picture, in pixels; smaller images are shown as they are."""

KEPT = 64
"""Pictures that are kept for a second look."""

AT_ONCE = 2
"""Images that are decoded at the same time; the largest take hundreds of megabytes."""

Images = Mapping[tuple[str, str], ImageSource]
"""Images by their data and their id."""


def find_images(suspects: Sequence[Suspect], say: Callable[[str], None] = lambda text: None) -> Images:
    """Return the images of suspects and of what they are like; those that are gone are left out.

    Each of the data is read once, and until all are found. Of sets with parts, what is not in the training part is
    looked for in the other.

    Args:
        suspects: Where images are, and their ids.
        say: Told what is being read.

    Raises:
        DataError: Data cannot be read.
        UnknownNameError: Data are not there.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    held_out: dict[str, set[str]] = defaultdict(set)
    for suspect in suspects:
        wanted[suspect.source].add(suspect.id)
        for near in suspect.nearest:
            wanted[near.source].add(near.id)
            if near.part != "train":
                held_out[near.source].add(near.id)
    found: dict[tuple[str, str], ImageSource] = {}
    for where, ids in wanted.items():
        say(f"looking for {len(ids):,} {'image' if len(ids) == 1 else 'images'} in {where}")
        images = present(where, ids)
        if lacking := held_out[where] - images.keys():
            images |= _in_test_part(where, lacking)
        found.update(((where, name), image) for name, image in images.items())
    return found


def _in_test_part(where: str, ids: set[str]) -> dict[str, ImageSource]:
    with contextlib.suppress(DataError):  # there is no such part
        samples = read_samples(where, part="test", labeled=False)
        pairs = zip(samples.ids, samples.images or (), strict=True)
        return {name: image for name, image in pairs if name in ids}
    return {}


class Pictures:
    """Images made small for the page; safe to use from several threads.

    Args:
        images: Those that there are.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._turn = threading.Semaphore(AT_ONCE)
        self._made = functools.lru_cache(maxsize=KEPT)(self._make)

    def of(self, image: Suspect | Near) -> tuple[bytes, str]:
        """Return an image, encoded, and its type.

        Raises:
            DataError: It is gone, or cannot be decoded.
        """
        return self._made(image.source, image.id)

    def _make(self, source: str, name: str) -> tuple[bytes, str]:
        if (source, name) not in self._images:
            raise DataError(f"This image is no longer in {source}.")
        with self._turn:
            content, ending = thumbnail(self._images[source, name], SIDE)
        return content, "image/png" if ending == "png" else "image/jpeg"
