"""Peak memory of cached distillation, as images and views become more.

    python benchmarks/memory.py                   # the table in docs/performance.md
    python benchmarks/memory.py --json            # one JSON object on stdout

For 1,000 and 8,000 images with 2 views each, and for 2 and 16 views of 1,000 images, two fresh processes: one packs
the images and caches the teacher's outputs, the other trains the student from them until it has seen every view of
every image, and at least 16,000 views. The peak is the system's own count of a process's resident memory
(``getrusage``), so what is mapped from files counts too. Pictures of 96 px and models are those of `case.py`, with
1,000 classes, so that stored targets have some size.

The ratio of the peak with the most images (or views) over that with the fewest is to be at most 1.05, in both
processes: what is left of growth is row numbers and names.

Keys of the JSON: ``ratio`` (of peaks), ``reference``, ``runs`` (how often each was measured), ``spread``, ``bound``,
``confidence`` and ``goal`` are those of the first of ``comparisons``, ``met`` is for all of them; ``comparisons`` has
the same keys for each, and ``ours``; ``rows`` has ``images``, ``views``, ``build_mb`` and ``train_mb`` (medians, in
units of 10⁶ bytes); ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from case import AUGMENTATIONS, SEED, cached_phase, new_student, pictures
from side_by_side import command, compare, in_turns, machine, show

from tutelage.progress import Quiet
from tutelage.training.distributed import world
from tutelage.training.loop import train

CLASSES = 1000
SEEN = 16_000
PARTS = ("build", "train")
SIZES = ((1_000, 2), (8_000, 2), (1_000, 16))
"""Images, and views of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/memory"))
    parser.add_argument("--one", nargs=3, metavar=("PART", "IMAGES", "VIEWS"), help="be one of the processes")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    if told.one:
        part, images, views = told.one
        print(json.dumps(peak(part, int(images), int(views), told.work)))
        return
    cases = {f"{images} {views}": partial(measure, images, views, told.work) for images, views in SIZES}
    found = in_turns(cases, told.rounds, lambda case: case(), warm_up=0)
    pairs = (("images", (8_000, 2), (1_000, 2)), ("views", (1_000, 16), (1_000, 2)))
    comparisons = [
        {
            "ours": f"{'caching' if part == 'build' else 'training'}, {' images and '.join(map(str, most))} views",
            **compare(
                [each[part] for each in found["{} {}".format(*most)]],
                [each[part] for each in found["{} {}".format(*fewest)]],
                reference=f"the peak with {fewest[0]} images and {fewest[1]} views",
                side="at_most",
                goal=1.05,
            ),
        }
        for part in PARTS[::-1]
        for _, most, fewest in pairs
    ]
    rows = [
        {
            "images": images,
            "views": views,
            **{f"{part}_mb": statistics.median(each[part] for each in found[f"{images} {views}"]) for part in PARTS},
        }
        for images, views in SIZES
    ]
    result = {
        **{key: value for key, value in comparisons[0].items() if key != "ours"},
        "met": all(comparison["met"] for comparison in comparisons),
        "comparisons": comparisons,
        "rows": rows,
        "machine": machine(),
        "command": command(),
    }
    show(result, told.json)


def measure(images: int, views: int, work: Path) -> dict[str, float]:
    """Return the peaks of both processes, from a store that is not there yet."""
    pictures(work / "jpegs", images)
    shutil.rmtree(work / "store", ignore_errors=True)
    found = {}
    for part in PARTS:
        program = [sys.executable, __file__, "--work", str(work), "--one", part, str(images), str(views)]
        done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
        found[part] = float(json.loads(done.stdout))
        print(f"{images} images, {views} views, {part}: {found[part]:.0f} MB", file=sys.stderr)
    return found


def peak(part: str, images: int, views: int, work: Path) -> float:
    """Do one part, and return this process's peak memory in units of 10⁶ bytes."""
    samples = pictures(work / "jpegs", images)
    steps = max(SEEN, images * views) // 128
    phase = cached_phase(samples, AUGMENTATIONS["plain"], steps, work / "store", views=views, classes=CLASSES)
    if part == "train":
        with world("cpu") as here:
            train(phase, new_student(CLASSES), world=here, seed=SEED, progress=Quiet())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
