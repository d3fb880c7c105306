"""The part ``search`` of `curate.py`: nearest neighbors read from disk, against faiss with everything in memory.

Each side is a process of its own that stays: it loads what it loads before, then searches once for each line that it
is given. Ours is given a store of embeddings, in shards of the size that a gallery's have, which the system has in
its page cache; `faiss.IndexFlatIP` holds the same numbers in memory, in float32 (`curate_faiss.py`). Memory is what
one search more, outside of the timing, has at its peak of anonymous memory (``RssAnon``, looked at every 2 ms): what
is imported is in it, mapped files are not. Neighbors are compared in float64.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from curate_vectors import PART, SEED, WIDTH, vectors
from side_by_side import compare, in_turns

from tutelage.curation.crops import Cutting
from tutelage.curation.embed import Embedded
from tutelage.curation.embedding_work import arrays_of
from tutelage.curation.embeddings import MOST_IMAGES, SHARD_BYTES, Embeddings
from tutelage.curation.search import search
from tutelage.data.samples import IntArray
from tutelage.ledger import Cost
from tutelage.progress import Quiet
from tutelage.store.budget import Budget
from tutelage.store.folder import Store

QUERIES = 1000
K = 100
SIDES = ("ours", "faiss")
FAISS = "faiss.IndexFlatIP in memory"

TIE = 1e-6
"""How far similarities may differ that count as equal: what a sum in float32 may lose."""


def measure_search(items: int, pairs: int, work: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows and comparisons."""
    gallery = stored(work, items)
    asked = work / "queries.npy"
    np.save(asked, queries())
    workers = {
        "ours": Worker(Path(__file__), work, items),
        "faiss": Worker(Path(__file__).with_name("curate_faiss.py"), gallery.folder, asked, K),
    }
    found = in_turns({side: partial(workers[side].search) for side in SIDES}, pairs, lambda case: case())
    memory = {side: workers[side].peak() for side in SIDES}
    rows = {side: workers[side].neighbors(work / f"{side}.npy") for side in SIDES}
    for worker in workers.values():
        worker.close()
    same = float(np.mean([len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(*rows.values(), strict=True)]))
    apart = np.abs(np.subtract(*(similarities(gallery, each) for each in rows.values())))
    table: list[dict[str, Any]] = []
    for side, what in zip(SIDES, ("from disk", FAISS), strict=True):
        table.append({"part": "search", "what": what, "value": median(found[side]), "unit": "s"})
        table.append({"part": "search", "what": what, "value": memory[side] / 1e6, "unit": "MB anonymous"})
    table.append({"part": "search", "what": "the same neighbors", "value": 100 * same, "unit": "%"})
    table.append({"part": "search", "what": "largest difference at a rank", "value": apart.max(), "unit": ""})
    seconds = compare(found["ours"], found["faiss"], reference=f"seconds of {FAISS}", side="at_most", goal=1.0)
    peaks = ([float(memory[side])] for side in SIDES)
    memories = compare(*peaks, reference=f"anonymous memory of {FAISS}", side="at_most", goal=1 / 3)
    equal = compare([float(np.mean(apart <= TIE))], [1.0], reference=f"those of {FAISS}", side="at_least", goal=1.0)
    return table, [
        {"ours": "search, seconds", **seconds},
        {"ours": "search, memory", **memories},
        {"ours": "search, neighbors the same but for ties", **equal},
    ]


class Worker:
    """One side's process.

    Args:
        script: Is run.
        arguments: For it.
    """

    def __init__(self, script: Path, *arguments: object) -> None:
        program = [sys.executable, str(script), *map(str, arguments)]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reply()

    def search(self) -> float:
        """Return the seconds of a search."""
        return self._ask("")

    def neighbors(self, path: Path) -> IntArray:
        """Return the rows that a search finds, int64 [queries, k]."""
        self._ask(str(path))
        found: IntArray = np.load(path)
        return found

    def peak(self) -> int:
        """Return the most anonymous memory that the process has during a search, in bytes."""
        status, seen, done = Path(f"/proc/{self._process.pid}/status"), [0], threading.Event()

        def look() -> None:
            while not done.wait(0.002):
                line = next(each for each in status.read_text().splitlines() if each.startswith("RssAnon"))
                seen.append(1024 * int(line.split()[1]))

        looking = threading.Thread(target=look)
        looking.start()
        self.search()
        done.set()
        looking.join()
        return max(seen)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, line: str) -> float:
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> float:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a process ended early: {self._process.wait()}")
        return float(json.loads(line))


def stored(work: Path, items: int) -> Embeddings:
    """Return a gallery's embeddings, made if they are not there."""
    size = min(MOST_IMAGES, SHARD_BYTES // (2 * WIDTH + 24))
    assert size == PART, "the parts that are made are shards of the size that a gallery's have"
    names = [f"{number:06}" for number in range(-(-items // size))]

    def make(name: str, _: Cost) -> Any:
        start = int(name) * size
        made = vectors("like CLIP", int(name), min(size, items - start))
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(made), 1))
        ids = [f"{start + row:09}.jpg" for row in range(len(made))]
        return arrays_of(Embedded([made], boxes, ids), Cutting())

    store = Store(work, "embeddings", {"benchmark": "search", "seed": SEED, "items": items})
    size_of = 2 * items * WIDTH
    store.build(
        names, make, budget=Budget(work, 2 * size_of + 10**9), progress=Quiet(), label="", room=lambda _: size_of
    )
    return Embeddings(store, names, Cutting())


@functools.cache
def queries() -> npt.NDArray[np.float32]:
    """Return what is asked for, float32 [QUERIES, WIDTH]."""
    return vectors("like CLIP", 10**6, QUERIES).astype(np.float32)


def similarities(gallery: Embeddings, rows: IntArray) -> npt.NDArray[np.float64]:
    """Return the similarities of queries' neighbors, the highest first, [queries, k]."""
    every, places = np.unique(rows, return_inverse=True)
    values, places = gallery.take(every), places.reshape(rows.shape)
    found = [values[each].astype(np.float64) @ query for each, query in zip(places, queries(), strict=True)]
    return -np.sort(-np.stack(found), axis=1)


def main(work: Path, items: int) -> None:
    """Open a store of embeddings; then search once for each line, which may name a file for the rows."""
    gallery, asked = stored(work, items), queries()
    print(0, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        rows = search([asked], [gallery.vectors()], K).rows
        took = time.perf_counter() - began
        if line.strip():
            np.save(line.strip(), rows)
        print(took, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
