"""The first epoch's input path: packing a folder of JPEGs, against decoding and resizing them and nothing else.

    python benchmarks/input.py                    # the table in docs/performance.md
    python benchmarks/input.py --json             # one JSON object on stdout

Packing reads, decodes, downscales and writes every image to a new store, fingerprint and checksums included. The
reference reads the same files, decodes them with the fastest decoder here (torchcodec's, else Pillow's) and resizes
them with torchvision, on as many threads, and throws the pixels away. Both run in turns, from files that the system
has in memory; the store is written to ``--work`` and removed each time. Pictures of 96 px, as in the other
benchmarks, are not downscaled; those of 384 px are, to the short side of 96 px that views of 64 px are cut from.

The ratio of images a second is to be at least 0.9, for either size.

Keys of the JSON: ``ratio`` (of images a second, ours over the reference), ``reference``, ``runs`` (pairs),
``spread``, ``bound``, ``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for all;
``comparisons`` has the same keys for each size, and ``ours``; ``rows`` has ``pictures`` (their side), ``what``,
``images_per_second`` and ``images_per_second_per_core``; ``decoder`` of the reference, ``threads``, ``machine``,
``command``.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from case import ROOM, SIZE, pictures
from PIL import Image
from side_by_side import command, compare, in_turns, machine, seconds, show
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tutelage.data.images import short_side
from tutelage.data.samples import Samples
from tutelage.progress import Quiet
from tutelage.store.packs import pack_images

PICTURES = ((96, 4000), (384, 4000))
"""Side and number of the pictures."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--work", type=Path, default=Path("runs/input"))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    name, decode = decoder()
    rows: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for side, count in PICTURES:
        samples = pictures(told.work / f"jpegs-{side}", count, side)
        cases: dict[str, Callable[[], object]] = {
            "decode and resize": partial(bare, samples, decode),
            "pack": partial(pack, samples, told.work / "store"),
        }
        rates = {
            what: [count / each for each in found] for what, found in in_turns(cases, told.pairs, seconds).items()
        }
        for what, found in rates.items():
            rate = statistics.median(found)
            per_core = rate / torch.get_num_threads()
            rows.append(
                {
                    "pictures": side,
                    "what": what,
                    "images_per_second": round(rate),
                    "images_per_second_per_core": round(per_core),
                }
            )
        reference = "images a second of bare decoding and resizing"
        found_ratio = compare(
            rates["pack"], rates["decode and resize"], reference=reference, side="at_least", goal=0.9
        )
        comparisons.append({"ours": f"packing at {side} px", **found_ratio})
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": rows,
        "decoder": name,
        "threads": torch.get_num_threads(),
        "machine": machine(),
        "command": command(),
    }
    show(result, told.json)


def decoder() -> tuple[str, Callable[[Path], Tensor]]:
    """Return the name of the fastest decoder here, and what decodes a JPEG file with it to uint8 [3, H, W]."""
    try:
        fast: Any = importlib.import_module("torchcodec.decoders").decode_jpeg
    except (ImportError, OSError, RuntimeError, AttributeError):
        return "Pillow", lambda path: torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    return "torchcodec", lambda path: fast(path.read_bytes(), mode="RGB")


def bare(samples: Samples, decode: Callable[[Path], Tensor]) -> None:
    """Decode and resize all images."""
    side = short_side(SIZE)

    def load(paths: list[Any]) -> None:
        for path in paths:
            image = decode(path)
            if min(image.shape[-2:]) > side:
                vision.resize(image, [side], antialias=True)

    assert samples.images is not None
    threads = torch.get_num_threads()
    # In pieces, so that what is timed is decoding and not the handing out of it.
    pieces = [list(samples.images[start : start + 32]) for start in range(0, len(samples), 32)]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(load, pieces))


def pack(samples: Samples, root: Path) -> None:
    """Pack all images into a new store."""
    shutil.rmtree(root, ignore_errors=True)
    pack_images(root, ROOM, samples, short_side(SIZE), Quiet())
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
