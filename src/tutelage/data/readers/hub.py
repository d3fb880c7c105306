"""Data sets of the Hugging Face hub, and folders that the library ``datasets`` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.data.problems import Problem
from tutelage.data.readers.places import Piece, connect, is_folder, is_url, reaching, remote_place
from tutelage.data.readers.rows import Found, Part, Row, class_name, finish
from tutelage.data.samples import ImageSource, Samples, Stored
from tutelage.errors import DataError

SPLITS: dict[Part, tuple[str, ...]] = {"train": ("train",), "test": ("test", "validation", "valid", "val")}
"""Which split a part is; the first of these that there is, since many sets keep the labels of their test split."""


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


def read_hub(name: str, part: Part, labeled: bool) -> Samples:
    """Read one part of a data set: the column of images, and the label (a class label, text or whole numbers).

    The test part is the split test, or else validation. No code that comes with a data set is run.

    Raises:
        DataError: It cannot be had, or has no such split, no images, or no labels where labels are wanted.
    """
    check_hub(name)
    import datasets

    split, data = _split(_loaded(name), name, part)
    origin = f"hf:{name} ({split})" if split else f"hf:{name}"
    features = data.features
    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise DataError(f"{origin}: no column holds images; its columns are {_described(features)}")
    column = "image" if "image" in images else images[0]
    label = _label_column(features, origin) if labeled else None
    names = tuple(features[label].names) if label and isinstance(features[label], datasets.ClassLabel) else ()
    found = _rows(data, column, label, names, split or part, origin)
    return finish(found, origin, labeled=labeled, classes=names, remedy="choose a split that has labels")


def _rows(
    data: Any, column: str, label: str | None, names: tuple[str, ...], split: str, origin: str
) -> Iterator[Found]:
    import datasets

    images = data.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    text = "text" if getattr(data.features.get("text"), "dtype", "") == "string" else None
    notes = data.select_columns([key for key in (label, text) if key])
    there = _present(images, column)
    for row in range(len(images)):
        key = f"{split}/{row:08d}"
        if not there[row]:
            yield Problem("no image", key)
            continue
        values = notes[row] if notes.column_names else {}
        value = values.get(label) if label else None
        if names and isinstance(value, int):
            name = names[value] if 0 <= value < len(names) else None  # -1 is how sets hide the labels of a split
        else:
            name = class_name(value, origin)
        image: ImageSource = HubImage(images, column, row, origin)
        yield Row(key, image, name, values.get(text) if text else None)


def _present(images: Any, column: str) -> list[bool]:
    there: list[bool] = []
    for batch in images.with_format("arrow").iter(batch_size=1000):
        there += batch[column].is_valid().to_pylist()
    return there


def _label_column(features: Mapping[str, Any], origin: str) -> str:
    import datasets

    classes: list[str] = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    for name in ("label", "labels"):
        if name in features:
            return name
    if len(classes) != 1:
        what = "several columns hold class labels" if classes else "no column holds class labels"
        raise DataError(f"{origin}: {what}; its columns are {_described(features)}; name the one that counts label")
    return classes[0]


def _described(features: Any) -> str:
    return ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())


def _split(loaded: Any, name: str, part: Part) -> tuple[str, Any]:
    if not hasattr(loaded, "keys"):  # saved as one set without splits, which has only what it holds
        return "", loaded
    for split in SPLITS[part]:
        if split in loaded:
            return split, loaded[split]
    raise DataError(f"hf:{name}: has no split for {part}; its splits are {', '.join(map(str, loaded))}")


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
