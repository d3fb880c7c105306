"""Folders of images with masks beside them: ``images/`` and ``masks/``, and ADE20K's layout of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tutelage.data.mask_codes import MaskReading
from tutelage.data.problems import Problem
from tutelage.data.readers.class_lists import find_code
from tutelage.data.readers.folders import (
    MASKS,
    check_folder,
    check_remote_folder,
    index_images,
    is_inside,
    masks_beside,
)
from tutelage.data.readers.places import is_url
from tutelage.data.readers.rows import Found, Part, Row, finish, finish_masked
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError

ADE20K_PARTS: Mapping[Part, str] = {"train": "training", "test": "validation"}

REMEDY = "the mask of images/a/1.jpg is {masks}/a/1.png, or has another suffix"


def read_mask_folder(where: str, reading: MaskReading) -> Samples:
    """Read a folder (or URL) with ``images/`` and ``masks/`` inside; ids are paths below ``images/``.

    Raises:
        DataError: It is not there, has no such folders, or no image has a mask.
    """
    masks = masks_inside(where)
    code, classes = find_code(where, reading)
    found = paired(f"{where.rstrip('/')}/images", f"{where.rstrip('/')}/{masks}")
    return finish_masked(found, where, code, classes, remedy=REMEDY.format(masks=masks))


def check_ade20k(rest: str) -> None:
    """Check that a folder in ADE20K's layout is there.

    Raises:
        DataError: It is not, or lacks images.
    """
    check_folder(rest)
    for part in ADE20K_PARTS.values():
        if is_inside(rest, f"images/{part}"):
            return
    raise DataError(
        f"ade20k:{rest}: has no images/training; expected ADE20K's layout (ADEChallengeData2016: images/training, "
        "images/validation, annotations/training, annotations/validation)"
    )


def read_ade20k(rest: str, part: Part, labeled: bool) -> Samples:
    """Read the images of one part, unlabeled.

    Raises:
        DataError: They are not there, or class labels are wanted.
    """
    where = f"ade20k:{rest}"
    if labeled:
        raise DataError(f"{where}: has masks and no labels of whole images; set task: segmentation")
    images, problems = index_images(_ade20k(rest, "images", part))
    return finish([*problems, *(Row(name, image) for name, image in images.items())], where, labeled=False)


def read_ade20k_masks(rest: str, part: Part, reading: MaskReading) -> Samples:
    """Read one part with its masks, in which 0 is no class and the first class is 1.

    Raises:
        DataError: They are not there, or no image has a mask.
    """
    code, classes = find_code(rest, reading, ade20k=True)
    found = paired(_ade20k(rest, "images", part), _ade20k(rest, "annotations", part))
    remedy = f"expected annotations/{ADE20K_PARTS[part]}/NAME.png for images/{ADE20K_PARTS[part]}/NAME.jpg"
    return finish_masked(found, f"ade20k:{rest}", code, classes, remedy=remedy)


def _ade20k(root: str, kind: str, part: Part) -> str:
    check_ade20k(root)
    inside = f"{kind}/{ADE20K_PARTS[part]}"
    if not is_inside(root, inside):
        raise DataError(f"ade20k:{root}: has no {inside}; expected ADE20K's layout (ADEChallengeData2016)")
    return f"{root.rstrip('/')}/{inside}"


def masks_inside(root: str) -> str:
    """Return what the folder of masks in ``root`` is called.

    Raises:
        DataError: There is none, or several, or no ``images/``.
    """
    (check_remote_folder if is_url(root) else check_folder)(root)
    there = masks_beside(root)
    if not is_inside(root, "images") or not there:
        below = sorted(child.name for child in _children(root) if is_inside(str(child), "images"))
        inside = f"; {' and '.join(below[:2])} in it {'have' if len(below) > 1 else 'has'}" if below else ""
        raise DataError(
            f"{root}: has no folders images/ and masks/ (or {'/, '.join(MASKS[1:])}/) inside{inside}; "
            "images and masks are paired by their paths in these"
        )
    if len(there) > 1:
        raise DataError(f"{root}: has {' and '.join(f'{name}/' for name in there)}; rename all but one")
    return there[0]


def _children(root: str) -> list[Path]:
    return [] if is_url(root) else [child for child in Path(root).expanduser().iterdir() if child.is_dir()]


def paired(images: str, masks: str) -> Iterator[Found]:
    """Yield the images below one folder, each with its mask below another; and what has no partner."""
    found, problems = index_images(images)
    yield from problems
    pick = MaskFolder(masks)
    yield from pick.problems
    for name, image in found.items():
        yield pick(Row(name, image))
    yield from pick.left()


class MaskFolder:
    """Finds the masks of images by their paths without suffix.

    Args:
        root: The folder of masks, or a URL.

    Attributes:
        problems: What is wrong below it.
    """

    def __init__(self, root: str) -> None:
        self._name = Path(root).name
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._masks: dict[str, ImageSource]
        self._masks, problems = index_images(root)
        self.problems = [replace(each, where=f"{self._name}/{each.where}") for each in problems]
        for name in self._masks:
            self._by_stem[_stem(name)].append(name)
        self._taken: set[str] = set()

    def __call__(self, row: Row, path: str | None = None) -> Found:
        """Return a row with its mask, or what is wrong; ``path`` is the image's, where it is not the row's id."""
        stem = _stem(path or row.id)
        names = self._by_stem.get(stem, [])
        self._taken.add(stem)
        if not names:
            return Problem("no mask", row.id, f"no {self._name}/{stem}.*")
        if len(names) > 1:
            return Problem("no mask", row.id, f"{len(names)} masks have its name: {', '.join(names[:3])}")
        return replace(row, mask=self._masks[names[0]])

    def left(self) -> Iterator[Problem]:
        """Yield the masks that no image asked for."""
        for stem, names in self._by_stem.items():
            if stem not in self._taken:
                yield from (Problem("no image", f"{self._name}/{name}", f"no images/{stem}.*") for name in names)


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
