"""What a view may be: the policy it is drawn from, and the drawn parameters."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tutelage.settings import Settings

SCHEME = 1
"""Version of what a view is: which parameters (policy, seed, key, number) draw, and which pixels they cut and mix.

Stored targets carry it, since they belong to the pixels that a teacher saw. Raise it with every change that alters
draws or pixels on the CPU; then targets of another version are not used.
"""

FloatArray = npt.NDArray[np.float32]

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class DensePolicy(Settings):
    """What views of dense tasks are drawn from, whose pixels have classes. The defaults are the whole image.

    An image is resized, a square is cut out of it, blurred, distorted in its colors and rotated, in this order. What
    of the square lies outside of the image is padding: 0, and not valid.

    Attributes:
        scale: Smallest and largest short side of the resized image, in sides of the view. ``None`` fits the whole
            image into the view, at its top left, as evaluation does.
        fill: Where there is a mask, how much of a square one class may have. While it has more, the square is cut in
            another place, ten in all. Pixels that are ignored or padding do not count.
        blur: Probability of a Gaussian blur, of up to one pixel at 512.
        distort: Probability of each of a change of brightness, contrast, saturation and hue.
        rotate: Largest angle, in degrees, to either side.
    """

    scale: tuple[Positive, Positive] | None = None
    fill: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    blur: Unit = 0.0
    distort: Unit = 0.0
    rotate: float = Field(default=0.0, ge=0.0, le=45.0)

    @model_validator(mode="after")
    def _smallest_first(self) -> DensePolicy:
        if self.scale and self.scale[0] > self.scale[1]:
            raise ValueError("scale: the smallest comes first")
        return self


class ViewPolicy(Settings):
    """The distribution that views are drawn from. The defaults are the center square, unchanged.

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
        dense: For dense tasks, which have ``flip`` besides and nothing else of this.
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
    dense: DensePolicy | None = None

    @model_validator(mode="after")
    def _dense_alone(self) -> ViewPolicy:
        if self.dense and (self.crop or self.center != 1.0 or self.ops or self.erase or self.mixup or self.cutmix):
            raise ValueError("dense views have no crop, center, ops, erase, mixup or cutmix; leave those out")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Fingerprints are taken of this: those of policies that are not dense are as old as the policies.
        data: dict[str, Any] = serialize(self)
        return data if self.dense else {key: value for key, value in data.items() if key != "dense"}


def runs(values: FloatArray) -> list[tuple[slice, float]]:
    """Return where equal values stand next to each other, and what they are."""
    found, start = [], 0
    for value, group in itertools.groupby(values.tolist()):
        stop = start + len(list(group))
        found.append((slice(start, stop), value))
        start = stop
    return found


@dataclass(frozen=True)
class DenseViews:
    """The parameters that B views of dense tasks have besides.

    Attributes:
        places: Squares to cut, the first choice first, float64 [B, T, 4]; as ``Views.crop``.
        blur: Standard deviation of a Gaussian blur in sides of the view, float32 [B]; 0 for none, as below.
        brightness: Levels are scaled by 1 + this, float32 [B].
        contrast: The mean gray gets minus this, float32 [B].
        saturation: The gray of each pixel gets minus this, float32 [B].
        hue: Turns of the color circle, float32 [B].
        contrast_last: Whether contrast changes after the colors, not before them, bool [B].
        angle: Of the rotation, in degrees counterclockwise, float32 [B].
    """

    places: npt.NDArray[np.float64]
    blur: FloatArray
    brightness: FloatArray
    contrast: FloatArray
    saturation: FloatArray
    hue: FloatArray
    contrast_last: npt.NDArray[np.bool_]
    angle: FloatArray

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> DenseViews:
        return DenseViews(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Views:
    """The parameters of B views: all that is needed to cut the same view again at any resolution.

    Boxes are (top, left, height, width) relative to the image (``crop``) or to the view (``erase``, ``box``).

    Attributes:
        crop: Crop boxes, float32 [B, 4]; of dense views float64, squares in pixels that may begin below 0 and end
            above 1.
        flip: Whether each view is flipped, bool [B].
        ops: Number of each RandAugment operation in ``views.operations.OPERATIONS``, int64 [B, K].
        magnitudes: Strength of each operation, signed, on the scale of ``operations``, float32 [B, K].
        erase: Erased boxes, float32 [B, 4]; all zero for none.
        kind: 0 not mixed, 1 mixup, 2 CutMix; int64 [B].
        partner: Row of the partner in the same samples, int64 [B]; the sample's own row when not mixed. The
            partner is seen in its own view of the same number.
        weight: Share of the sample itself in a mixed view, float32 [B]; 1 when not mixed.
        box: Box that CutMix takes from the partner, float32 [B, 4].
        dense: What views of dense tasks have besides; ``None`` for others.
    """

    crop: FloatArray | npt.NDArray[np.float64]
    flip: npt.NDArray[np.bool_]
    ops: npt.NDArray[np.int64]
    magnitudes: FloatArray
    erase: FloatArray
    kind: npt.NDArray[np.int64]
    partner: npt.NDArray[np.int64]
    weight: FloatArray
    box: FloatArray
    dense: DenseViews | None = None

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Views:
        parts: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            parts[field.name] = None if part is None else part[rows]
        return Views(**parts)


Augmentation = Literal["none", "light", "full", "dense", "dense-light"]

POLICIES: dict[Augmentation, ViewPolicy] = {
    "none": ViewPolicy(),
    # Small pictures (digits, icons) lose their meaning under crops of 8 % and under flips.
    "light": ViewPolicy(crop=(0.6, 1.0), ratio=(5 / 6, 6 / 5)),
    # The source's classification augmentation (appendix A.3; methods in the order crop, flip, RandAugment, erase).
    "full": ViewPolicy(crop=(0.08, 1.0), flip=0.5, ops=2, magnitude=9, erase=0.25, mixup=0.2, cutmix=1.0),
    # The source's segmentation augmentation. What its appendix leaves out is from the code that it names: blur and
    # each distortion half of the time, every view rotated. That code also permutes channels and limits the long side
    # of resized images to twice the view's; nothing of this is in the paper, nor here.
    "dense": ViewPolicy(flip=0.5, dense=DensePolicy(scale=(0.5, 1.5), fill=0.75, blur=0.5, distort=0.5, rotate=10.0)),
    "dense-light": ViewPolicy(flip=0.5, dense=DensePolicy(scale=(0.75, 1.25), fill=0.75)),
}

WHOLE = ViewPolicy(dense=DensePolicy())
"""What ``none`` is to dense tasks: the whole image, as evaluation sees it."""
