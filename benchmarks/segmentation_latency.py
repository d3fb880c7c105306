"""Latency of exported segmentation models at 512 pixels: a student beside teachers.

    python benchmarks/segmentation_latency.py                # the table
    python benchmarks/segmentation_latency.py --json         # one JSON object on stdout

Each model tells 150 classes at an output stride of 8 with DeepLabV3's head, as in ADE20K's recipes, has random
weights (what they are does not change how long they take) and is one ONNX file with preprocessing, upsampling and
argmax inside. One image of 512 pixels a run; all contenders are run in turns.

Keys of the JSON: ``ratio`` (of seconds an image, the student's over the first teacher's, one thread), ``reference``,
``runs`` (pairs), ``spread``, ``bound``, ``confidence``; ``rows`` has for each ``model`` its ``threads``,
``milliseconds`` (median), ``std``, ``megabytes``; ``machine``, ``command``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from side_by_side import command, compare, machine, show

from tutelage.export import export_onnx
from tutelage.export.latency import Contender, cores, race
from tutelage.export.scoring import open_onnx
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder
from tutelage.tasks import TASKS
from tutelage.tasks.decoder import DecoderSettings

STUDENT = "timm:mobilenetv3_small_050"
TEACHERS = ("timm:tf_efficientnet_lite0", "timm:vit_small_patch16_224")
CLASSES = tuple(f"class {number}" for number in range(150))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--teachers", nargs="+", default=TEACHERS)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--student-channels", type=int, default=256, help="of its head; teachers have 256")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--turn", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    counts = sorted({1, cores()})
    contenders: list[Contender] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in (told.student, *told.teachers):
            channels = told.student_channels if name == told.student else 256
            path = export_onnx(
                new_model(name, told.size, channels),
                Path(folder) / f"{len(contenders)}.onnx",
                classes=CLASSES,
                metadata={},
            )
            size = path.stat().st_size
            contenders += [
                Contender(name, "onnxruntime", count, open_onnx(path, count, output="mask"), size) for count in counts
            ]
        pixels = np.random.default_rng(0).integers(0, 256, (1, told.size, told.size, 3), dtype=np.uint8)
        race(contenders, list(pixels), rounds=told.rounds, turn=told.turn)
    ours, theirs = (
        next(each for each in contenders if each.model == name) for name in (told.student, told.teachers[0])
    )
    found = compare(ours.seconds, theirs.seconds, reference=f"{theirs.model}, one thread", side="at_most")
    rows = [
        {
            "model": each.model,
            "threads": each.threads,
            "milliseconds": 1e3 * statistics.median(each.seconds),
            "std": 1e3 * statistics.stdev(each.seconds),
            "megabytes": each.bytes / 1e6,
        }
        for each in contenders
    ]
    show(
        {**found, "ours": f"{ours.model}, one thread", "rows": rows, "machine": machine(), "command": command()},
        told.json,
    )


def new_model(name: str, size: int, channels: int) -> Model:
    """Return a model of masks with random weights."""
    torch.manual_seed(0)
    task = TASKS["segmentation"]
    encoder = build_encoder(name, pretrained=False, size=size, stride=task.stride)
    encoder.preprocess = ImagePreprocess(size, fit="letterbox")
    head = task.head(encoder.widths, len(CLASSES), DecoderSettings(channels=channels).resolved(size))
    return Model(encoder, head).eval()


if __name__ == "__main__":
    main()
