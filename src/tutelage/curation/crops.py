"""What an encoder sees of a gallery's image: the view of evaluation, or random crops, all from one decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.data.images import decode, packed, short_side
from tutelage.data.samples import ImageSource
from tutelage.errors import RecipeError
from tutelage.models.preprocess import ImagePreprocess
from tutelage.views import Views, center_views, render, sample_views
from tutelage.views.policy import ViewPolicy

CROPS = ViewPolicy(crop=(0.08, 1.0), ops=2, magnitude=9)
"""The source's crops (appendix B): any size from 8 % of the area on, then RandAugment."""


@dataclass(frozen=True)
class Cutting:
    """How items are cut out of images.

    Attributes:
        policy: What crops are drawn from; ``None`` for whole images, in their evaluation view.
        count: Crops an image; 1 for whole images.
        seed: Of the crops.

    Raises:
        RecipeError: It is no such cutting.
    """

    policy: ViewPolicy | None = None
    count: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or (self.policy is None and self.count > 1):
            raise RecipeError(f"{self.count} crops an image: give at least 1, and a policy for more than 1")
        if self.policy and (self.policy.dense or self.policy.mixup or self.policy.cutmix):
            raise RecipeError("crops of a gallery are neither mixed nor those of dense tasks; set both to 0")

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the cutting, plain data."""
        policy = None if self.policy is None else self.policy.model_dump(mode="json")
        return {"policy": policy, "count": self.count, "seed": self.seed if policy else 0}


def draw(cutting: Cutting, key: np.uint64, aspect: float) -> Views:
    """Return the views of an image, [count]; the same whenever and wherever they are drawn.

    Args:
        cutting: With a policy.
        key: The image's key (``Samples.keys``).
        aspect: Width over height.
    """
    assert cutting.policy is not None
    numbers = np.arange(cutting.count)
    keys, aspects = np.full(cutting.count, key), np.full(cutting.count, aspect)
    return sample_views(cutting.policy, keys, numbers, numbers, seed=cutting.seed, aspects=aspects, partners=None)


def cut(
    source: ImageSource,
    key: np.uint64,
    cutting: Cutting,
    preprocesses: Sequence[ImagePreprocess],
    *,
    device: torch.device | None = None,
) -> tuple[list[Tensor], npt.NDArray[np.float32]]:
    """Decode an image once, and cut out of it what each of several encoders is to see.

    All see the same crops, each at its own size.

    Args:
        source: The image.
        key: Its key (``Samples.keys``).
        cutting: How.
        preprocesses: Of the encoders.
        device: Where crops are cut; on the CPU if not given.

    Returns:
        Raw views for each encoder, float32 [count, 3, s_e, s_e] in 0..1; and the crops' boxes, relative to the image,
        float32 [count, 4] (of whole images: of what the first encoder sees).

    Raises:
        DataError: The image cannot be decoded.
    """
    if cutting.policy is None:
        picture = decode(source)
        aspects = np.array([picture.shape[2] / picture.shape[1]])
        centers = [center_views(aspects, each.crop) for each in preprocesses]
        pairs = zip(centers, preprocesses, strict=True)
        views = [render([picture], center, each.size, exact=True) for center, each in pairs]
        return views, centers[0].crop.astype(np.float32)
    picture = packed(source, short_side(max(each.size for each in preprocesses)))
    drawn = draw(cutting, key, picture.shape[2] / picture.shape[1])
    pictures = [picture] * cutting.count
    made = {size: render(pictures, drawn, size, device=device) for size in {each.size for each in preprocesses}}
    return [made[each.size] for each in preprocesses], drawn.crop.astype(np.float32)
