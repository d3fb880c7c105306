"""Which method is worth it on your own pictures: one table, and what it means in words.

    python examples/compare_methods.py data/train data/test data/unlabeled

``data/train`` and ``data/test`` hold a folder per class, ``data/unlabeled`` any images: a second transfer set beside
the unlabeled rest of the training images.
"""

from __future__ import annotations

import sys

import tutelage


def main(labeled: str, test: str, unlabeled: str) -> None:
    recipe = tutelage.make_recipe(
        {
            "data": {"labeled": labeled, "test": test},
            "teacher": "bundled:efficientnet-lite0",
            "student": "timm:mobilenetv3_small_050",
        }
    )
    comparison = tutelage.compare(
        recipe,
        methods=["scratch", "agnostic-image", "task-oriented"],
        labels=[5, 10],
        transfer={"related": None, "unlabeled": unlabeled},
        # Does it matter how the teacher is adapted? A change of the recipe that is for one method alone.
        variants={"plain": {}, "task-oriented / probed teacher": {"adapt.modes": ["probe"]}},
        out="runs/compared",
    )
    print(*tutelage.verdicts(comparison), sep="\n\n")
    print("\nThe tables and pictures are in runs/compared/comparison.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
