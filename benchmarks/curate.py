"""Curating: searching, embedding, cutting crops, and finding duplicates, each against the obvious way.

    python benchmarks/curate.py                           # the table in docs/performance.md
    python benchmarks/curate.py --json                    # one JSON object on stdout
    python benchmarks/curate.py --only search,duplicates  # some parts

Each part takes some minutes on 2 cores, and has its own file, which says what is measured:

- ``search`` (`curate_search.py`): 100 neighbors of 1,000 queries in 1,000,000 items of 768 numbers, from disk,
  against faiss in memory (``pip install faiss-cpu``): not slower, in under a third of its memory, the same neighbors;
- ``embed`` (`curate_images.py`): at least 0.9 of what the times of decoding and encoder, alone, add up to;
- ``crops`` (`curate_images.py`): 10 crops of one decoding, at least 3 times as many a second as by decoding for each;
- ``duplicates`` (`curate_duplicates.py`): 100,000 images, at least 10 times as fast as all pairs, with recall 0.999.

Vectors are made up (`curate_vectors.py`), pictures are those of `case.py`.

Keys of the JSON: ``ratio``, ``reference``, ``runs`` (pairs), ``spread``, ``bound``, ``confidence`` and ``goal`` are
those of the first of ``comparisons``, ``met`` is for all; ``comparisons`` has the same keys for each, and ``ours``;
``rows`` has ``part``, ``what``, ``value`` (median) and ``unit``; ``items``, ``duplicates`` and ``images`` (how many),
``threads``, ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from curate_duplicates import measure_duplicates
from curate_images import measure_crops, measure_embed
from curate_search import measure_search
from side_by_side import command, machine, show

Measure = Callable[[argparse.Namespace, int], tuple[list[dict[str, Any]], list[dict[str, Any]]]]

PARTS: dict[str, tuple[Measure, int]] = {
    "search": (lambda told, pairs: measure_search(told.items, pairs, told.work), 5),
    "embed": (lambda told, pairs: measure_embed(told.images, pairs, told.work), 12),
    "crops": (lambda told, pairs: measure_crops(told.images // 4, pairs, told.work), 12),
    "duplicates": (lambda told, pairs: measure_duplicates(told.duplicates, pairs), 3),
}
"""Each part, and how many pairs it takes unless said otherwise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=_parts, default=tuple(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--pairs", type=int, help="of every part")
    parser.add_argument("--items", type=int, default=1_000_000, help="that are searched")
    parser.add_argument("--duplicates", type=int, default=100_000, help="images that duplicates are found among")
    parser.add_argument("--images", type=int, default=2000, help="that are embedded; crops are cut from a quarter")
    parser.add_argument("--work", type=Path, default=Path("runs/curate"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    told.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for part in told.only:
        measure, pairs = PARTS[part]
        found = measure(told, told.pairs or pairs)
        rows += found[0]
        comparisons += found[1]
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": rows,
        "items": told.items,
        "duplicates": told.duplicates,
        "images": told.images,
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "command": command(),
    }
    show(result, told.json)


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if wrong := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"there are {', '.join(PARTS)}, not {', '.join(wrong)}")
    return parts


if __name__ == "__main__":
    main()
