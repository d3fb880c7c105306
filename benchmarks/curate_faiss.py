"""The other side of `curate_search.py`: nothing in its process but numpy and faiss (``pip install faiss-cpu``)."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open


def main(folder: Path, queries: Path, k: int) -> None:
    """Load a store of embeddings into memory; then search once for each line, which may name a file for the rows."""
    try:
        faiss: Any = importlib.import_module("faiss")
    except ImportError:
        sys.exit("faiss is missing: pip install faiss-cpu, or leave search out with --only")
    asked = np.load(queries)
    index = faiss.IndexFlatIP(asked.shape[1])
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as shard:
            index.add(shard.get_tensor("vectors.0").astype(np.float32))
    print(0, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        rows = index.search(asked, k)[1]
        took = time.perf_counter() - began
        if line.strip():
            np.save(line.strip(), rows)
        print(took, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
