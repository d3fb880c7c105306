"""Which pretrained encoder should teach: a few minutes before hours are spent.

    python examples/rank_teachers.py data/train bundled:efficientnet-lite0 timm:vit_small_patch14_dinov2.lvd142m

``data/train`` holds a folder per class. Ten labels a class are drawn three times.
"""

from __future__ import annotations

import sys

import tutelage


def main(labeled: str, *teachers: str) -> None:
    recipe = tutelage.make_recipe(
        {
            "data": {"labeled": labeled, "labels": "max:10"},
            "teacher": teachers[0],
            "student": "timm:mobilenetv3_small_050",
        }
    )
    ranking = tutelage.rank(recipe, teachers=teachers, seeds=3)
    for each in ranking.candidates:
        accuracies = f"probe {each.probe.mean:.1%}, k-NN {each.neighbors.mean:.1%}"
        print(f"{each.name}: {accuracies}, {each.flops:.2g} FLOPs an image")
    for name, why in ranking.failed.items():
        print(f"{name}: {why}")
    print(ranking.verdict)


if __name__ == "__main__":
    main(*sys.argv[1:])
