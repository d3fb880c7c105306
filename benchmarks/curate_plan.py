"""What curating from a gallery of any size takes: bytes, shards, hours, machines, money.

    python benchmarks/curate_plan.py                                  # the table in docs/scale.md
    python benchmarks/curate_plan.py --measured curate.json           # with rates from `curate.py --json`
    python benchmarks/curate_plan.py --set images=1e7 --set gpus=1    # another gallery, other machines

Everything follows from the inputs below, by the formulas in :func:`plan`; the table says which inputs were measured.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from curate_images import MANY
from curate_search import QUERIES
from curate_vectors import WIDTH

from tutelage.curation.cleaning import SPARE
from tutelage.curation.embeddings import MOST_IMAGES, SHARD_BYTES

HOUR = 3600.0
TERA = 1e12


@dataclass(frozen=True)
class Inputs:
    """What a plan is made of.

    Attributes:
        images: In the gallery.
        crops: Of each.
        encoders: How many.
        width: Numbers that each gives.
        queries: Labeled images.
        size: Retrieved images.
        image_bytes: Of a stored image, on average.
        id_bytes: Of its id, and where it ends.
        row_bytes: Of a row of the transfer set in Parquet.
        flops: Of an encoder, a crop.
        peak: FLOP/s of a GPU in bfloat16, as its maker states it.
        utilization: What share of that an encoder reaches.
        gpus: That embed at a time.
        bandwidth: Bytes a second that all machines read from storage together.
        images_per_core: That a core decodes and cuts a second.
        search_flops: FLOP/s of a core that searches.
        duplicates: Images that duplicates were timed on.
        duplicates_seconds: What that took.
        gpu_price: Of an hour, in dollars.
        core_price: Of an hour of a core, in dollars.
        storage_price: Of a terabyte and month, in dollars.
    """

    images: float = 1.28e9
    crops: float = 10
    encoders: float = 2
    width: float = 768
    queries: float = 1000
    size: float = 1e6
    image_bytes: float = 40e3
    id_bytes: float = 64
    row_bytes: float = 100
    flops: float = 162e9
    peak: float = 989e12
    utilization: float = 0.4
    gpus: float = 64
    bandwidth: float = 10e9
    images_per_core: float = 90
    search_flops: float = 0.1e12
    duplicates: float = 1e5
    duplicates_seconds: float = 10
    gpu_price: float = 2.5
    core_price: float = 0.04
    storage_price: float = 23


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measured", type=Path, help="what `curate.py --json` printed")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another input")
    told = parser.parse_args()
    rates = measured(json.loads(told.measured.read_text())) if told.measured else {}
    names = {field.name for field in fields(Inputs)}
    given = dict(each.split("=", 1) for each in told.set)
    if wrong := given.keys() - names:
        parser.error(f"there is no input {', '.join(sorted(wrong))}; there are {', '.join(sorted(names))}")
    inputs = replace(Inputs(), **{**rates, **{name: float(value) for name, value in given.items()}})
    print("| input | | from |\n|---|---|---|")
    for field in fields(Inputs):
        source = "given" if field.name in given else "measured" if field.name in rates else "assumed"
        print(f"| `{field.name}` | {getattr(inputs, field.name):g} | {source} |")
    print("\n| | |\n|---|---|")
    for what, amount in plan(inputs).items():
        print(f"| {what} | {f'{amount:,.0f}' if 1000 <= amount < TERA else f'{amount:.3g}'} |")


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the inputs that a benchmark's result tells; parts that it left out tell none."""
    values = {(row["part"], row["what"], row["unit"]): row["value"] for row in result["rows"]}
    threads, rates = result["threads"], {}
    if rate := values.get(("crops", f"{MANY.count} crops of 224 px, one decoding", "crops/s")):
        rates["images_per_core"] = rate / MANY.count / threads
    if seconds := values.get(("search", "from disk", "s")):
        rates["search_flops"] = 2 * QUERIES * result["items"] * WIDTH / seconds / threads
    if seconds := values.get(("duplicates", "like CLIP: ours", "s")):
        rates |= {"duplicates": result["duplicates"], "duplicates_seconds": seconds}
    return rates


def plan(told: Inputs) -> dict[str, float]:
    """Return what it takes, by what it is and in which unit."""
    items = told.images * told.crops
    item_bytes = told.encoders * told.width * 2
    vectors, boxes, ids = items * item_bytes, items * 24, told.images * told.id_bytes
    shard = max(1, min(MOST_IMAGES, SHARD_BYTES // ((item_bytes + 24) * told.crops)))
    embedding = items * told.encoders * told.flops / (told.peak * told.utilization) / HOUR
    decoding = told.images / told.images_per_core / HOUR
    search = 2 * told.queries * items * told.encoders * told.width
    searching = search / told.search_flops / HOUR
    depth = 2 * math.ceil((1 + SPARE) * told.size / told.queries) * told.crops
    retrieved = (1 + SPARE) * told.size
    duplicates = told.duplicates_seconds * told.encoders * (retrieved / told.duplicates) ** 2 / HOUR
    stored = (vectors + boxes + ids) / TERA
    days = embedding / told.gpus / 24
    cost = {
        "embedding, $": embedding * told.gpu_price,
        "decoding, $ (where cores are not part of a GPU's price)": decoding * told.core_price,
        "searching, $": searching * told.core_price,
        "storing embeddings, $ a month": stored * told.storage_price,
    }
    return {
        "items": items,
        "gallery, TB": told.images * told.image_bytes / TERA,
        "vectors, TB": vectors / TERA,
        "boxes, crop numbers and image rows, TB": boxes / TERA,
        "ids, TB": ids / TERA,
        "images a shard": shard,
        "shards": math.ceil(told.images / shard),
        "embedding, GPU hours": embedding,
        "embedding, days on all GPUs": days,
        "decoding and cutting, core hours": decoding,
        "cores for each GPU, so that it need not wait": decoding / embedding,
        "reading the gallery once, hours": told.images * told.image_bytes / told.bandwidth / HOUR,
        "searching, FLOP": search,
        "searching, core hours": searching,
        "reading the vectors once, hours": vectors / told.bandwidth / HOUR,
        "neighbors a query": depth,
        "neighbors in memory, GB": told.queries * depth * 12 / 1e9,
        "retrieved images, with spare ones for cleaning": retrieved,
        "their vectors, GB": retrieved * item_bytes / 1e9,
        "their duplicates, hours on one machine, at most": duplicates,
        "the transfer set, GB": (told.size + told.queries) * told.row_bytes / 1e9,
        **cost,
    }


if __name__ == "__main__":
    main()
