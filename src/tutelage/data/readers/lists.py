"""Published split lists: which files of a collection are the training, validation and test images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tutelage.data.mask_codes import MaskReading
from tutelage.data.problems import Problem
from tutelage.data.readers.class_lists import find_code
from tutelage.data.readers.folders import check_folder, check_remote_folder, index_images, unlabeled_root
from tutelage.data.readers.mask_folders import REMEDY, MaskFolder, masks_inside
from tutelage.data.readers.places import find_place, is_url
from tutelage.data.readers.rows import Found, Row, finish, finish_masked
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError


def check_list(rest: str) -> None:
    """Check that ``FILE@ROOT`` names a file and a folder that are there.

    Raises:
        DataError: One is missing, or the form is another.
    """
    file, root = _split(rest)
    find_place(file)
    (check_remote_folder if is_url(root) else check_folder)(root)


def read_list(rest: str, labeled: bool) -> Samples:
    """Read ``FILE@ROOT``: the images below ROOT that FILE lists, as ``file,Class`` or the file alone.

    Ids are ``Class/file``, since collections repeat file names across classes. A listed file is looked for at
    ``ROOT/file``, at ``ROOT/Class/file``, and by its name anywhere below ROOT where no other file has it; each with
    an extension of its own where the list gives none.

    Raises:
        DataError: FILE or ROOT is missing, FILE is no text, or labels are wanted and it has none.
    """
    check_list(rest)
    file, root = _split(rest)
    images, problems = index_images(root if labeled else unlabeled_root(root))
    samples = finish(
        [*problems, *(row for row, _ in _rows(file, images))],
        f"list:{rest}",
        labeled=labeled,
        remedy=f"write lines file,Class in {file}",
    )
    if not len(samples):
        raise DataError(f"list:{rest}: no file that {file} lists is below {root}; give the folder that holds them")
    return samples


def read_masked_list(rest: str, reading: MaskReading) -> Samples:
    """Read ``FILE@ROOT``: the images below ROOT/images that FILE lists alone, with their masks beside those.

    ``FILE@ade20k:ROOT`` says that ROOT is ADE20K's, in whose masks 0 is no class, where its class list is missing.

    Raises:
        DataError: FILE or ROOT is missing, FILE is no text, or no listed image has a mask.
    """
    check_list(rest)
    file, root = _split(rest)
    masks = masks_inside(root)
    code, classes = find_code(root, reading, ade20k=rest.endswith(f"@ade20k:{root}"))
    images, problems = index_images(f"{root.rstrip('/')}/images")
    pick = MaskFolder(f"{root.rstrip('/')}/{masks}")
    listed = _rows(file, images)
    found = [each if isinstance(each, Problem) else pick(each, path) for each, path in listed]
    where = f"list:{rest}"
    samples = finish_masked(
        [*problems, *pick.problems, *found], where, code, classes, remedy=REMEDY.format(masks=masks)
    )
    if not len(samples):
        raise DataError(f"{where}: no file that {file} lists is below {root}/images; give the folder that holds them")
    return samples


def _split(rest: str) -> tuple[str, str]:
    file, at, root = rest.rpartition("@")
    if not (at and file and root):
        raise DataError(f"list:{rest}: has the form list:FILE@ROOT, a split's file and the folder of its images")
    return file, root.removeprefix("ade20k:")


def _rows(file: str, images: dict[str, ImageSource]) -> Iterator[tuple[Found, str]]:
    """Yield what each line names, and the path that it was found at."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in images:
        stem = path.rpartition(".")[0]
        by_stem[stem].append(path)
        for name in (path, stem):
            by_name[PurePosixPath(name).name].append(path)

    try:
        lines = find_place(file).read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text (byte {error.start:,}); save it as UTF-8") from error
    listing = []
    for line in filter(None, map(str.strip, lines)):
        name, comma, label = (part.strip() for part in line.rpartition(","))
        listing.append((name, label) if comma else (label, ""))
    classes = {label for _, label in listing}

    def look(listed: str, label: str) -> list[str]:
        for candidate in (listed, f"{label}/{listed}"):
            if candidate in images:
                return [candidate]
            if len(by_stem.get(candidate, ())) == 1:
                return by_stem[candidate]
        # A file of that name in the folder of another class is another image.
        others = classes - {label}
        found = by_name.get(PurePosixPath(listed).name, [])
        return [path for path in found if others.isdisjoint(PurePosixPath(path).parts[:-1])]

    for name, label in listing:
        listed = name.removeprefix("./")
        if PurePosixPath(listed).is_absolute() or ".." in PurePosixPath(listed).parts:
            yield Problem("unsafe path", listed, f"listed in {Path(file).name}"), ""
            continue
        there = look(listed, label)
        if len(there) == 1:
            key = listed if not label or listed.startswith(f"{label}/") else f"{label}/{listed}"
            yield Row(key, images[there[0]], label or None), there[0]
        else:
            several = f"{len(there)} files have that name: {', '.join(there[:3])}"
            where = f"{label}/{listed}" if label else listed
            yield Problem("vanished", where, several if there else "not found"), ""
