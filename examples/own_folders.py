"""A small classifier from your own folders, and its predictions on new pictures.

    python examples/own_folders.py data/train data/test new/*.jpg

``data/train`` and ``data/test`` hold a folder per class. Ten labels a class are used; the other training images serve
without their labels.
"""

from __future__ import annotations

import sys

import tutelage


def main(labeled: str, test: str, *pictures: str) -> None:
    result = tutelage.transfer(
        labeled=labeled,
        labels="max:10",
        test=test,
        teacher="bundled:efficientnet-lite0",
        student="timm:mobilenetv3_small_050",
    )
    print(f"test accuracy {result.metrics['test']['accuracy']:.1%}; report: {result.folder / 'report.html'}")
    model = tutelage.load_model(result.folder)
    for picture, prediction in zip(pictures, model.predict(pictures), strict=True):
        print(f"{picture}: {prediction.label} ({prediction.probability:.0%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
