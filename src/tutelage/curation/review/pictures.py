"""Pictures (or texts) of suspects and of what they are like: found once, decoded when they are looked at."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from tutelage.curation.gallery import Content, contents, present
from tutelage.curation.suspects import Near, Suspect
from tutelage.data.readers import read_samples
from tutelage.data.thumbnails import thumbnail
from tutelage.errors import DataError
from tutelage.models.preprocess import Modality
from tutelage.report.numbers import plural
from tutelage.runtime.texts import SEPARATOR

SIDE = 512
"""Long side of a picture, in pixels; smaller images are shown as they are."""

KEPT = 64
"""Pictures that are kept for a second look."""

AT_ONCE = 2
"""Images that are decoded at the same time; the largest take hundreds of megabytes."""

Place = tuple[str, str, bool]
"""Where an image is: its data, its id there, and whether it is held out, which may be a part of its own."""

Images = Mapping[Place, Content]


def place(image: Suspect | Near) -> Place:
    """Return where an image is."""
    return image.source, image.id, isinstance(image, Near) and image.part != "train"


def find_images(suspects: Sequence[Suspect], say: Callable[[str], None] = lambda text: None) -> Images:
    """Return the images of suspects and of what they are like; those that are gone are left out.

    Data are read until all are found. Held-out images are looked for in the part for testing first, since another
    image may have the same id in the part for training, and then there, of which they may be a share.

    Args:
        suspects: Where images are, and their ids.
        say: Told what is being read.

    Raises:
        DataError: Data cannot be read.
        UnknownNameError: Data are not there.
    """
    wanted: dict[str, dict[bool, set[str]]] = defaultdict(lambda: defaultdict(set))
    shown: list[Suspect | Near] = [*suspects, *(near for suspect in suspects for near in suspect.nearest)]
    for where, name, held_out in map(place, shown):
        wanted[where][held_out].add(name)
    found: dict[Place, Content] = {}
    modality = suspects[0].modality if suspects else "image"
    for where, parts in wanted.items():
        say(f"looking for {plural(sum(map(len, parts.values())), modality)} in {where}")
        for held_out, ids in parts.items():
            images = _in_test_part(where, ids, modality) if held_out else {}
            if lacking := ids - images.keys():
                images |= present(where, lacking, modality)
            found.update(((where, name, held_out), image) for name, image in images.items())
    return found


def _in_test_part(where: str, ids: set[str], modality: Modality) -> dict[str, Content]:
    with contextlib.suppress(DataError):  # there is no such part
        samples = read_samples(where, part="test", labeled=False, modality=modality)
        pairs = zip(samples.ids, contents(samples), strict=True)
        return {name: content for name, content in pairs if name in ids}
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
        """Return an image (or a text), encoded, and its type.

        Raises:
            DataError: It is gone, or cannot be decoded.
        """
        return self._made(place(image))

    def _make(self, where: Place) -> tuple[bytes, str]:
        if where not in self._images:
            what = "text" if any(isinstance(each, str) for each in self._images.values()) else "image"
            raise DataError(f"This {what} is no longer in {where[0]}.")
        found = self._images[where]
        if isinstance(found, str):
            return found.replace(SEPARATOR, "\n\n").encode("utf-8", "replace"), "text/plain; charset=utf-8"
        with self._turn:
            content, ending = thumbnail(found, SIDE)
        return content, "image/png" if ending == "png" else "image/jpeg"
