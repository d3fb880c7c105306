"""The transfer set as a table: what was retrieved, by which query and how similar, and the queries; a Parquet file.

    id, source      the image: its id in the data that ``source`` names, as :func:`tutelage.data.readers.read_samples`
                    takes it
    kind            ``retrieved`` or ``query``
    number          which crop of the image; -1 for a whole one
    left, top,      the crop, relative to the image; 0, 0, 1, 1 for a whole one
    width, height
    rank            smallest rank among the neighbors of any query, from 0 on; -1 if none
    query           the query that it is nearest to: a labeled image's id, or a prompt
    similarity      to that query: the mean over the encoders
    similarity.E    of encoder E alone
    suspect         may be an image of the task, and was kept
    text            of sets of texts alone: the text, so that no other data are read for it

Retrieved items come first, the most relevant one before all, then the queries. The schema's metadata say under
``tutelage``, as JSON, how all of it was curated.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.curation.gallery import chosen
from tutelage.curation.neighbors import FloatArray
from tutelage.data.problems import Problem
from tutelage.data.readers.curated import FILE as FILE
from tutelage.data.readers.curated import METADATA
from tutelage.data.samples import CutOut, ImageSource, IntArray, Samples
from tutelage.errors import DataError
from tutelage.run import write_whole

TRANSFER_SET = 1
"""Version of the file's form."""

RETRIEVED, QUERY = "retrieved", "query"

BOX = ("top", "left", "height", "width")
"""Columns of boxes, in the order of ``Views.crop``."""

ENCODER = "similarity."
"""What the columns of single encoders begin with."""

_FORMS: Mapping[str, str] = {
    **dict.fromkeys(("id", "source", "kind", "query"), "string"),
    **dict.fromkeys(("number", "rank"), "int32"),
    **dict.fromkeys((*BOX, "similarity"), "float"),
    "suspect": "bool",
}
"""Columns, and Arrow's names of what they hold."""

TEXT = "text"

_MAY_LACK = ("query", "similarity")

_REMEDY = "curate it again (`tutelage curate`)"


@dataclass(frozen=True)
class TransferSet:
    """N items: those retrieved, the most relevant first, then the queries.

    Attributes:
        ids: Of the images in their data, [N].
        sources: The data of each, as :func:`tutelage.data.readers.read_samples` takes it, [N].
        retrieved: Which are; the others are queries, bool [N].
        numbers: Which crop of its image each is, int64 [N]; -1 for a whole image.
        boxes: (top, left, height, width) relative to the image, as in ``Views.crop``, float32 [N, 4]; 0, 0, 1, 1 for
            a whole image.
        ranks: Smallest rank among the neighbors of any query, from 0 on, int64 [N]; -1 if none.
        queries: The query that each is nearest to, a labeled image's id or a prompt, [N]; ``None`` for queries, and
            where nothing was searched.
        similarity: To that query, the mean over the encoders, float32 [N]; NaN where there is none.
        similarities: The same of each encoder alone, by name.
        suspect: Which may be images of the task, and were kept, bool [N].
        about: How it was curated, plain data: ``gallery``, ``encoders``, ``strategy``, ``size``, ``k``, ``seed``,
            ``leaks``, ``kept_suspects``, ``image_level``.
        texts: Of a set of texts, [N]; ``None`` of one of images.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    retrieved: npt.NDArray[np.bool_]
    numbers: IntArray
    boxes: FloatArray
    ranks: IntArray
    queries: tuple[str | None, ...]
    similarity: FloatArray
    similarities: Mapping[str, FloatArray]
    suspect: npt.NDArray[np.bool_]
    about: Mapping[str, Any]
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shapes = {
            "sources": (len(self.sources),),
            "queries": (len(self.queries),),
            "boxes": self.boxes.shape[:-1] if self.boxes.shape[-1] == 4 else self.boxes.shape,
            **{ENCODER + name: values.shape for name, values in self.similarities.items()},
        }
        for name in ("retrieved", "numbers", "ranks", "similarity", "suspect"):
            shapes[name] = getattr(self, name).shape
        if self.texts is not None:
            shapes["texts"] = (len(self.texts),)
        if wrong := {name: shape for name, shape in shapes.items() if shape != (len(self),)}:
            raise ValueError(f"expected {len(self)} items, got {wrong}")

    def __len__(self) -> int:
        return len(self.ids)


def write_transfer_set(path: Path, found: TransferSet) -> None:
    """Write a transfer set, whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def floats(values: FloatArray) -> Any:
        return pa.array(values, "float32", mask=np.isnan(values))

    columns: dict[str, Any] = {
        "id": pa.array(found.ids, "string"),
        "source": pa.array(found.sources, "string"),
        "kind": pa.array([RETRIEVED if each else QUERY for each in found.retrieved], "string"),
        "number": pa.array(found.numbers, "int32"),
        **{name: pa.array(found.boxes[:, BOX.index(name)], "float32") for name in ("left", "top", "width", "height")},
        "rank": pa.array(found.ranks, "int32"),
        "query": pa.array(found.queries, "string"),
        "similarity": floats(found.similarity),
        **{ENCODER + name: floats(values) for name, values in found.similarities.items()},
        "suspect": pa.array(found.suspect, "bool"),
        **({} if found.texts is None else {TEXT: pa.array(found.texts, "string")}),
    }
    about = json.dumps({"transfer_set": TRANSFER_SET, **found.about}, allow_nan=False)
    table = pa.table(columns).replace_schema_metadata({METADATA: about.encode()})
    write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))


def read_transfer_set(path: Path) -> TransferSet:
    """Return a transfer set that :func:`write_transfer_set` has written.

    Raises:
        DataError: The file is missing, damaged, no transfer set, or from a newer version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # The file alone: pyarrow would read more out of the names of folders.
        table = pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: is not there (any more); {_REMEDY}") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)}); {_REMEDY}") from error
    about = _about(path, table.schema.metadata or {})
    columns = {name: table.column(name) for name in table.column_names}
    forms = {**_FORMS, **{name: "float" for name in columns if name.startswith(ENCODER)}}
    if TEXT in columns:
        forms[TEXT] = "string"
    for name, form in forms.items():
        if name not in columns or str(columns[name].type) != form:
            raise DataError(f"{path}: is no transfer set: it has no column {name} of type {form}; {_REMEDY}")
        if columns[name].null_count and name not in _MAY_LACK and not name.startswith(ENCODER):
            raise DataError(f"{path}: row {_first_null(columns[name])} has no {name}; {_REMEDY}")
    boxes = np.stack([columns[name].to_numpy() for name in BOX], axis=1)
    kinds = columns["kind"].to_pylist()
    if odd := set(kinds) - {RETRIEVED, QUERY}:
        raise DataError(f"{path}: has items of kind {min(odd)!r}, which are neither retrieved nor queries; {_REMEDY}")
    return TransferSet(
        tuple(columns["id"].to_pylist()),
        tuple(columns["source"].to_pylist()),
        np.array([kind == RETRIEVED for kind in kinds], dtype=bool),
        columns["number"].to_numpy().astype(np.int64),
        boxes.astype(np.float32),
        columns["rank"].to_numpy().astype(np.int64),
        tuple(columns["query"].to_pylist()),
        _floats(columns["similarity"]),
        {name.removeprefix(ENCODER): _floats(each) for name, each in columns.items() if name.startswith(ENCODER)},
        columns["suspect"].to_numpy().astype(bool),
        {name: value for name, value in about.items() if name != "transfer_set"},
        tuple(columns[TEXT].to_pylist()) if TEXT in columns else None,
    )


def samples_of(found: TransferSet) -> Samples:
    """Return a transfer set as samples without labels: what was retrieved, and the queries.

    Ids are those of the images; of crops with ``#`` and their number. Those of queries that something retrieved has
    as well are told apart. Each of the data that images come from is read through once; texts are here. Suspects that
    were kept are told as problems.

    Raises:
        DataError: An image is not there (any more), or its data cannot be read.
    """
    wanted: dict[str, dict[str, None]] = defaultdict(dict)
    for source, name in zip(found.sources, found.ids, strict=True):
        wanted[source][name] = None
    images: dict[tuple[str, str], ImageSource] = {}
    for source, names in wanted.items() if found.texts is None else ():
        there = chosen(source, names)
        images |= {(source, name): image for name, image in zip(there.ids, there.images or (), strict=True)}
    items, taken = list[ImageSource](), dict[str, None]()
    boxes: Sequence[Sequence[float]] = found.boxes.tolist()
    for row, (source, name, number) in enumerate(zip(found.sources, found.ids, found.numbers.tolist(), strict=True)):
        if found.texts is None:
            name, image = item_of(name, images[source, name], number, boxes[row])
            items.append(image)
        while name in taken:
            name += " (query)" if not found.retrieved[row] else f" ({source})"
        taken[name] = None
    ids = tuple(taken)
    rows = np.flatnonzero(found.suspect)
    suspects = tuple(Problem("possible leak", ids[row], "nobody has decided") for row in rows)
    given: Any = {"images": items} if found.texts is None else {"texts": list(found.texts)}
    return Samples(ids, **given, origin=_described(found), problems=suspects)


def item_of(name: str, image: ImageSource, number: int, box: Sequence[float]) -> tuple[str, ImageSource]:
    """Return the id of an item and its image, cut where it is a crop.

    Args:
        name: Id of the image.
        image: All of it.
        number: Of the crop; negative for the whole image.
        box: Of the crop: top, left, height, width, relative to the image.
    """
    if number < 0:
        return name, image
    top, left, height, width = box
    return f"{name}#{number}", CutOut(image, (top, left, height, width))


def _described(found: TransferSet) -> str:
    retrieved = int(found.retrieved.sum())
    queries = f"{len(found) - retrieved:,} quer{'y' if len(found) - retrieved == 1 else 'ies'}"
    gallery, strategy = (found.about.get(key, "?") for key in ("gallery", "strategy"))
    return f"transfer set of {gallery} ({retrieved:,} retrieved by {strategy}, {queries})"


def _about(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        about = json.loads(metadata[METADATA])
        version = int(about["transfer_set"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no transfer set; give the {FILE} that `tutelage curate` has written") from error
    if version > TRANSFER_SET:
        raise DataError(f"{path}: was written by a newer version of tutelage; update")
    return dict(about)


def _floats(column: Any) -> FloatArray:
    values: FloatArray = column.to_numpy().astype(np.float32)
    return values


def _first_null(column: Any) -> int:
    return int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
