"""What a view may be: the policy it is drawn from, and the drawn parameters."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tutelage.settings import Settings

SCHEME = 1
"""Version of what a view is: which parameters (policy, seed, key, number) draw, and which pixels they cut and mix.

Stored targets carry it, since they belong to the pixels that a teacher saw. Raise it with every change that alters
draws or pixels on the CPU; then targets of another version are not used.
"""

FloatArray = npt.NDArray[np.float32]

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class ViewPolicy(Settings):
    """The distribution that views are drawn from. The defaults are the whole image, unchanged.

    Attributes:
        crop: Smallest and largest share of the image's area in a random crop; ``None`` takes the center.
        ratio: Smallest and largest aspect ratio (width over height) of a random crop.
        center: With ``crop=None``, the share of the short side that the center square keeps.
        flip: Probability of a horizontal flip.
        ops: RandAugment operations a view.
        magnitude: RandAugment magnitude, 0 to 30.
        erase: Probability that a random box (2 to 33 % of the area) is erased.
        mixup: Beta parameter of mixup; 0 for none.
        cutmix: Beta parameter of CutMix; 0 for none. With both, each sample draws one of them.
        mix: Probability that a sample is mixed at all, when ``mixup`` or ``cutmix`` is set.
    """

    crop: tuple[Unit, Unit] | None = None
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    center: Unit = 1.0
    flip: Unit = 0.0
    ops: int = Field(default=0, ge=0, le=8)
    magnitude: float = Field(default=9.0, ge=0.0, le=30.0)
    erase: Unit = 0.0
    mixup: float = Field(default=0.0, ge=0.0)
    cutmix: float = Field(default=0.0, ge=0.0)
    mix: Unit = 1.0


def runs(values: FloatArray) -> list[tuple[slice, float]]:
    """Return where equal values stand next to each other, and what they are."""
    found, start = [], 0
    for value, group in itertools.groupby(values.tolist()):
        stop = start + len(list(group))
        found.append((slice(start, stop), value))
        start = stop
    return found


@dataclass(frozen=True)
class Views:
    """The parameters of B views: all that is needed to cut the same view again at any resolution.

    Boxes are (top, left, height, width) relative to the image (``crop``) or to the view (``erase``, ``box``).

    Attributes:
        crop: Crop boxes, float32 [B, 4].
        flip: Whether each view is flipped, bool [B].
        ops: Number of each RandAugment operation in ``views.operations.OPERATIONS``, int64 [B, K].
        magnitudes: Strength of each operation, signed, on the scale of ``operations``, float32 [B, K].
        erase: Erased boxes, float32 [B, 4]; all zero for none.
        kind: 0 not mixed, 1 mixup, 2 CutMix; int64 [B].
        partner: Row of the partner in the same samples, int64 [B]; the sample's own row when not mixed. The
            partner is seen in its own view of the same number.
        weight: Share of the sample itself in a mixed view, float32 [B]; 1 when not mixed.
        box: Box that CutMix takes from the partner, float32 [B, 4].
    """

    crop: FloatArray
    flip: npt.NDArray[np.bool_]
    ops: npt.NDArray[np.int64]
    magnitudes: FloatArray
    erase: FloatArray
    kind: npt.NDArray[np.int64]
    partner: npt.NDArray[np.int64]
    weight: FloatArray
    box: FloatArray

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Views:
        return Views(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


Augmentation = Literal["none", "light", "full"]

POLICIES: dict[Augmentation, ViewPolicy] = {
    "none": ViewPolicy(),
    # Small pictures (digits, icons) lose their meaning under crops of 8 % and under flips.
    "light": ViewPolicy(crop=(0.6, 1.0), ratio=(5 / 6, 6 / 5)),
    # The source's classification augmentation (appendix A.3; methods in the order crop, flip, RandAugment, erase).
    "full": ViewPolicy(crop=(0.08, 1.0), flip=0.5, ops=2, magnitude=9, erase=0.25, mixup=0.2, cutmix=1.0),
}
