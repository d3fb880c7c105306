"""Data sets of the Hugging Face hub, and folders that the library ``datasets`` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.data.problems import Problem
from tutelage.data.readers.columns import find_columns
from tutelage.data.readers.places import Piece, connect, is_folder, is_url, reaching, remote_place
from tutelage.data.readers.rows import Found, Part, Row, Wanted, class_name, finish
from tutelage.data.samples import Samples, Stored
from tutelage.errors import DataError

SPLITS: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test", "validation", "valid", "val", "dev", "validation_matched"),
}
"""Which split a part is: the first of these that there is whose labels, if they are wanted, are not all hidden."""


class HubImage(Stored):
    """An image in the Arrow files of a data set, which are mapped and not read into memory."""

    def __init__(self, images: Any, column: str, row: int, origin: str) -> None:
        self.images, self.column, self.row, self.origin = images, column, row, origin

    def __str__(self) -> str:
        return f"{self.origin}, row {self.row}"

    def read(self) -> bytes:
        """Return the encoded image."""
        with reaching(str(self)):
            value = self.images[self.row][self.column] or {}
            content, path = value.get("bytes"), value.get("path")
            if content is not None:
                return bytes(content)
            if path is None:
                raise DataError(f"{self}: holds no image")
            if is_url(path):
                store, inside = connect(path)
                return Piece(remote_place(store, {"name": inside}, path)).read()
            return Path(path).read_bytes()

    def stamp(self) -> str:
        """Return the fingerprint of the data set and the row."""
        return f"{self.images._fingerprint},{self.row}"


def check_hub(name: str) -> None:
    """Check that the library is there, and the folder where one is named.

    Raises:
        DataError: It is not.
    """
    _library(name)
    if _is_path(name) and not is_folder(Path(name).expanduser()):
        raise DataError(f"hf:{name}: no such folder; a name on the hub has the form OWNER/NAME or OWNER/NAME/CONFIG")


def read_hub(name: str, wanted: Wanted) -> Samples:
    """Read one part of a data set: its images or texts or both, and labels (class labels, text or whole numbers).

    Images are in a column of such, texts in ``text`` and, two a sample, ``text_pair``, or where ``wanted.columns``
    says. The test part is the split test, or else validation. No code that comes with a data set is run.

    Raises:
        DataError: It cannot be had, or has no such split, no images or texts, or no labels where labels are wanted.
    """
    check_hub(name)
    import datasets

    splits = _splits(_loaded(name), name, wanted.part)
    for split, data in splits:
        origin = f"hf:{name} ({split})" if split else f"hf:{name}"
        columns = _columns(data.features, wanted, origin)
        label = data.features[columns["label"]] if "label" in columns else None
        names = tuple(label.names) if isinstance(label, datasets.ClassLabel) else ()
        if names and split != splits[-1][0] and not _told(data, columns["label"]):
            continue  # a benchmark's test split
        found = _rows(data, columns, names, split or wanted.part, origin)
        return finish(found, origin, labeled=wanted.labeled, classes=names, remedy="choose a split that has labels")
    raise AssertionError("there is a last split")


def _rows(data: Any, columns: Mapping[str, str], names: tuple[str, ...], split: str, origin: str) -> Iterator[Found]:
    import datasets

    images, there = None, None
    if "image" in columns:
        column = columns["image"]
        images = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        there = _present(images, column)
    plain = {ours: column for ours, column in columns.items() if ours != "image"}
    notes = data.select_columns(list(dict.fromkeys(plain.values())))
    for row in range(len(data)):
        read = notes[row] if plain else {}
        values = {ours: read[column] for ours, column in plain.items()}
        key = str(values.get("id") or f"{split}/{row:08d}")
        if there is not None and not there[row]:
            yield Problem("no image", key)
            continue
        number = values.get("label")
        if names and isinstance(number, int):
            label = names[number] if 0 <= number < len(names) else None  # -1 is how sets hide the labels of a split
        else:
            label = class_name(number, origin)
        image = HubImage(images, columns["image"], row, origin) if images is not None else None
        first, second = ((values[ours] or "") if ours in values else None for ours in ("text", "text_pair"))
        yield Row(key, image, label, first, None, second)


def _told(data: Any, label: str) -> bool:
    """Return whether any class label of a split is not hidden."""
    return any(number is not None and number >= 0 for number in data.unique(label))


def _present(images: Any, column: str) -> list[bool]:
    there: list[bool] = []
    for batch in images.with_format("arrow").iter(batch_size=1000):
        there += batch[column].is_valid().to_pylist()
    return there


def _columns(features: Mapping[str, Any], wanted: Wanted, origin: str) -> dict[str, str]:
    """Return the columns to read, by our names for them: those that a recipe says, and else known by their types."""
    import datasets

    names, also = list(features), dict[str, str]()
    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    if wanted.images:
        if not images:
            raise DataError(f"{origin}: no column holds images; its columns are {_described(features)}")
        also["image"] = images[0]
        names = [name for name in names if name != "image" or name in images]
    if wanted.labeled and "label" not in wanted.columns and "label" not in features:
        also["label"] = _label_column(features, origin)
    found = find_columns(origin, names, wanted, "label" if wanted.labeled else "", also)
    strings = [
        key for key, feature in features.items() if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    for ours, known, what in (
        ("image", images, "images"),
        ("text", strings, "texts"),
        ("text_pair", strings, "texts"),
    ):
        if ours in found and found[ours] not in known:
            raise DataError(f"{origin}: column {found[ours]} holds no {what}; its columns are {_described(features)}")
    return {ours: column for ours, column in found.items() if ours != "id" or "id" in wanted.columns}


def _label_column(features: Mapping[str, Any], origin: str) -> str:
    import datasets

    classes: list[str] = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if "labels" in features:
        return "labels"
    if len(classes) != 1:
        what = "several columns hold class labels" if classes else "no column holds class labels"
        raise DataError(
            f"{origin}: {what}; its columns are {_described(features)}; name the one that counts label, "
            "or set data.columns={label: NAME}"
        )
    return classes[0]


def _described(features: Any) -> str:
    return ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())


def _splits(loaded: Any, name: str, part: Part) -> list[tuple[str, Any]]:
    """Return the splits that a part may be, with their names."""
    if not hasattr(loaded, "keys"):  # saved as one set without splits, which has only what it holds
        return [("", loaded)]
    found = [(split, loaded[split]) for split in SPLITS[part] if split in loaded]
    if not found:
        raise DataError(f"hf:{name}: has no split for {part}; its splits are {', '.join(map(str, loaded))}")
    return found


def _loaded(name: str) -> Any:
    datasets = _library(name)
    folder = Path(name).expanduser()
    try:
        if is_folder(folder):
            if any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
                return datasets.load_from_disk(str(folder))
            return datasets.load_dataset(str(folder))
        owner, _, rest = name.partition("/")
        base, _, config = rest.partition("/")
        return datasets.load_dataset(f"{owner}/{base}" if base else owner, config or None)
    except Exception as error:  # the library and the hub's client have exceptions of their own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"hf:{name}: cannot be had ({reason}); check the name OWNER/NAME[/CONFIG], the connection and HF_HOME"
        ) from error


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~"))


def _library(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"hf:{name}: needs the library datasets; pip install 'tutelage[hf]'") from error
    return datasets
