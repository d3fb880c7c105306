"""A student held by a teacher's features, and what training found those features to be worth.

    python examples/analyze_run.py data/train data/test

``data/train`` and ``data/test`` hold a folder per class. Ten labels a class are used.
"""

from __future__ import annotations

import sys

import tutelage


def main(labeled: str, test: str) -> None:
    result = tutelage.transfer(
        labeled=labeled,
        labels="max:10",
        test=test,
        teacher="bundled:efficientnet-lite0",
        student="timm:mobilenetv3_small_050",
        method="aft",
    )
    analysis = tutelage.analyze(result.folder)
    for name, weights in (analysis.weights or {}).items():
        print(f"{name}: features weigh {weights.mean:.2f} on average; {weights.below_start:.0%} lost weight")
    for part, why in analysis.left_out.items():
        print(f"{part}: left out; {why}")
    print(f"pictures: {analysis.folder / 'analysis.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
