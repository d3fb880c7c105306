"""The kinds of data there are, and which one a name means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.data.mask_codes import MaskReading
from tutelage.data.readers import builtin, curated, folders, hub, lists, mask_folders, places, shards, tables
from tutelage.data.readers.rows import Part, Wanted
from tutelage.data.samples import Samples
from tutelage.errors import DataError, UnknownNameError

if TYPE_CHECKING:  # which needs torch
    from tutelage.models.preprocess import Modality


@dataclass(frozen=True)
class Reader:
    """One way to read data.

    Attributes:
        summary: What it reads, in one line.
        read: From what follows the name (``torchvision:NAME`` → ``NAME``), and what is wanted, to samples.
        check: Raises if the data are visibly not there; cheap.
        modalities: What there may be in such data.
        read_masks: Reads images with masks; ``None`` where there are none of these.
    """

    summary: str
    read: Callable[[str, Wanted], Samples]
    check: Callable[[str], None]
    modalities: tuple[Modality, ...] = ("image",)
    read_masks: Callable[[str, Wanted, MaskReading], Samples] | None = None


def read_samples(
    where: str,
    *,
    part: Part = "train",
    labeled: bool,
    masks: MaskReading | None = None,
    modality: Modality = "image",
    columns: Mapping[str, str] | None = None,
) -> Samples:
    """Read the data named by ``where``.

    Args:
        where: A folder, a table, tar shards, a URL of any of these, or one of the names in :data:`READERS`.
        part: Which part of a set that has parts; others have only what they hold.
        labeled: Whether class labels are wanted: of folders, the first level of subfolders names the class.
        masks: How masks are read, where labels are masks; ``None`` for class labels. Class names may then be none
            yet, where nobody lists them: :func:`tutelage.data.inspect_masks.with_usable_masks` numbers them.
        modality: Whether images, texts, or images with a text each are wanted. Texts are cleaned; samples without
            one are left out.
        columns: What our columns (image, text, text_pair, label, id) are called in tables, where it is something
            else. Two texts become one string, as :func:`tutelage.runtime.texts.paired` writes it.

    Raises:
        DataError: The data are missing, empty, of another modality, or have no labels where labels are wanted.
        UnknownNameError: No reader has that name.
    """
    kind, rest = find_kind(where)
    reader = READERS[kind]
    check_modality(kind, where, modality)
    wanted = Wanted(labeled and masks is None, part, modality, columns or {})
    if not labeled or masks is None:
        samples = reader.read(rest, wanted)
    elif reader.read_masks is not None:
        samples = reader.read_masks(rest, wanted, masks)
    else:
        known = [name for name, each in READERS.items() if each.read_masks is not None]
        raise DataError(
            f"{where}: masks are not read from data of this kind ({kind}); give one of {', '.join(known)}"
        )
    if not len(samples):
        reason = f" (left out: {samples.problems[0].where}, {samples.problems[0].kind})" if samples.problems else ""
        endings = folders.SUFFIXES["text" if modality == "text" else "image"]
        raise DataError(
            f"{where}: no {modality}s found{reason}; expected files ending in {', '.join(sorted(endings))}"
        )
    return samples


def check_modality(kind: str, where: str, modality: Modality) -> None:
    """Check that data of a kind may hold what is wanted.

    Raises:
        DataError: They never do.
    """
    if modality not in READERS[kind].modalities:
        known = [name for name, each in READERS.items() if modality in each.modalities]
        raise DataError(
            f"{where}: {modality}s are not read from data of this kind ({kind}); give one of {', '.join(known)}"
        )


def check_data(where: str) -> None:
    """Raise, cheaply, if the data named by ``where`` are visibly not there."""
    kind, rest = find_kind(where)
    READERS[kind].check(rest)


def find_kind(where: str) -> tuple[str, str]:
    """Return the key in :data:`READERS` that ``where`` means, and what is left for that reader.

    Raises:
        DataError: The name is empty, or a folder there may not be listed.
        UnknownNameError: No reader has that name.
    """
    if not where.strip():
        raise DataError("the name of the data is empty; give a folder, a table, shards, or what `list data` shows")
    if where == "digits":
        return "digits", ""
    name, colon, rest = where.partition(":")
    local = not places.is_url(where)
    there = local and places.is_folder(Path(where).expanduser())
    if local and colon and len(name) > 1 and not places.is_there(where):  # one letter would be a drive
        if name not in READERS:
            raise UnknownNameError("kind of data", name, READERS, f"in {where!r}")
        return name, rest
    if local and curated.is_curated(where):
        return "curated", where
    if tables.is_table(where) and not there:
        return "table", where
    if shards.is_shards(where) and not there:
        return "tar", where
    if not local:
        return ("tar" if shards.holds_only_shards(where) else "url"), where
    return ("tar" if there and shards.holds_only_shards(where) else "folder"), where


def _check_folder(where: str) -> None:
    folders.check_folder(where, ("digits", *(f"torchvision:{name}" for name in builtin.TORCHVISION)))


def _read_folder(where: str, wanted: Wanted) -> Samples:
    _check_folder(where)
    return folders.read_folder(where, wanted)


READERS: dict[str, Reader] = {
    "folder": Reader(
        "a folder per class, or any tree of images (or .txt files) when unlabeled; images/ and masks/ inside for "
        "segmentation",
        _read_folder,
        _check_folder,
        ("image", "text"),
        lambda rest, wanted, reading: mask_folders.read_mask_folder(rest, reading),
    ),
    "table": Reader(
        "FILE.csv, .tsv, .jsonl or .parquet with a column image or text, and label, mask, text_pair or id; or a "
        "pattern of them",
        tables.read_table,
        tables.check_table,
        ("image", "text", "pair"),
        tables.read_masked_table,
    ),
    "list": Reader(
        "list:FILE@ROOT, a published split: lines of file,Class, or of the file alone",
        lambda rest, wanted: lists.read_list(rest, wanted.labeled),
        lists.check_list,
        read_masks=lambda rest, wanted, reading: lists.read_masked_list(rest, reading),
    ),
    "tar": Reader(
        "WebDataset shards: FILE.tar, shard-{000..009}.tar, *.tar, or a folder of them",
        shards.read_shards,
        shards.check_shards,
        ("image", "text", "pair"),
    ),
    "url": Reader(
        "s3://, https://, memory:// and what else fsspec reads: folders, tables and shards there",
        folders.read_remote_folder,
        folders.check_remote_folder,
        ("image", "text"),
        lambda rest, wanted, reading: mask_folders.read_mask_folder(rest, reading),
    ),
    "ade20k": Reader(
        "ade20k:FOLDER, ADE20K's layout (ADEChallengeData2016), its training and validation images",
        lambda rest, wanted: mask_folders.read_ade20k(rest, wanted.part, wanted.labeled),
        mask_folders.check_ade20k,
        read_masks=lambda rest, wanted, reading: mask_folders.read_ade20k_masks(rest, wanted.part, reading),
    ),
    "curated": Reader(
        "a transfer set that tutelage curate has made: its transfer.parquet, or its run folder",
        curated.read_curated,
        curated.check_curated,
        ("image", "text"),
    ),
    "hf": Reader(
        "hf:OWNER/NAME[/CONFIG], or hf:FOLDER, through the library datasets",
        hub.read_hub,
        hub.check_hub,
        ("image", "text", "pair"),
    ),
    "digits": Reader(
        "scikit-learn's 8x8 handwritten digits, built in",
        lambda rest, wanted: builtin.read_digits(wanted.part, wanted.labeled),
        lambda rest: None,
    ),
    "torchvision": Reader(
        f"torchvision:NAME, downloaded once: {', '.join(builtin.TORCHVISION)}",
        lambda rest, wanted: builtin.read_torchvision(rest, wanted.part, wanted.labeled),
        builtin.check_torchvision,
    ),
}
"""Every kind of data, by the name it has before the colon where it needs one."""
