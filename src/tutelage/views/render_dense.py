"""Cut views of dense tasks out of images and masks, which stay on top of each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.data.masks import IGNORED
from tutelage.errors import DataError, RecipeError
from tutelage.runtime.letterbox import source_rows
from tutelage.views import pointwise, spatial
from tutelage.views.crops import cut_each, cut_together
from tutelage.views.dense import inside, shown
from tutelage.views.operations import put_rows, take_rows
from tutelage.views.policy import DenseViews, FloatArray, Views
from tutelage.views.render import check_images, unit

Ints = npt.NDArray[np.int64]

_ON_8_BITS = ("blur", "brightness", "contrast", "saturation", "hue")


def render_dense(
    images: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
    views: Views,
    size: int,
    *,
    exact: bool = False,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Cut one view out of each image and its mask: crop and resize, flip, blur, change colors, rotate.

    Images are resized antialiased and rotated bilinearly; masks by nearest. A view does not depend on what else is in
    the batch.

    Args:
        images: B images, uint8 [3, H_i, W_i], all on one device.
        masks: Their masks, int16 [H_i, W_i], all on one device; ``None`` where there are none.
        views: B dense views.
        size: Side of the views, in pixels.
        exact: Resize in float32 without rounding to 8 bits, as exported graphs do.
        device: Where views are cut; where the images are unless given.

    Returns:
        Pixels, float32 [B, 3, size, size] in 0..1 and 0 where not valid; class numbers, int64 [B, size, size],
        :data:`IGNORED` where nothing counts, or ``None`` without masks; which pixels are of the image and not
        padding, bool [B, size, size]. All are on ``device``.

    Raises:
        DataError: Images or masks are not one for each view, or of another form; the views are not dense.
        RecipeError: ``exact`` views are blurred or change colors; that is defined on 8 bits.
    """
    check_images(images, views)
    dense = views.dense
    if dense is None:
        raise DataError("these views are not dense; draw them from a policy that is")
    if masks is not None:
        _check_masks(masks, images)
    if exact and any(getattr(dense, name).any() for name in _ON_8_BITS):
        raise RecipeError("exact views cannot be blurred or change colors, which works on 8 bits; set both to 0")
    where = device or (images[0].device if images else torch.device("cpu"))
    if not images:
        square = torch.empty(0, size, size, device=where)
        return square[:, None].expand(-1, 3, -1, -1), None if masks is None else square.long(), square.bool()
    boxes = inside(views.crop, [image.shape[1] for image in images], [image.shape[2] for image in images])
    places = shown(views.crop, size)
    cut = cut_each if where.type == "cpu" else cut_together
    batch = cut(images, boxes, size, interpolation="bilinear", exact=exact, device=where, places=places)
    valid = _valid(places, size, where)
    targets = None if masks is None else _cut_masks(masks, boxes, places, size).to(where)
    for part in (batch, valid, targets):
        if part is not None:
            _change(part, views.flip, lambda rows, _: rows.flip(-1))
    _change_colors(batch, dense)
    pixels = unit(batch).mul_(valid[:, None])
    turned = np.flatnonzero(dense.angle)
    if len(turned):
        _rotate(pixels, targets, valid, turned, dense.angle[turned])
    return pixels, None if targets is None else targets.long(), valid


def _check_masks(masks: Sequence[Tensor], images: Sequence[Tensor]) -> None:
    if len(masks) != len(images):
        raise DataError(f"{len(masks)} masks for {len(images)} images; give one mask an image")
    for row, (mask, image) in enumerate(zip(masks, images, strict=True)):
        if mask.dtype != torch.int16 or mask.shape != image.shape[1:]:
            raise DataError(
                f"mask {row} is {mask.dtype} {list(mask.shape)}, its image {list(image.shape)}; views are cut from "
                "masks int16 [H, W] of their images' sizes"
            )


def _valid(places: Ints, size: int, device: torch.device) -> Tensor:
    """Return which pixels lie in (top, left, height, width), bool [B, size, size]."""
    pixel = np.arange(size)
    first, stop = places[:, :2, None], (places[:, :2] + places[:, 2:])[..., None]
    spans = (pixel >= first) & (pixel < stop)
    return torch.from_numpy(spans[:, 0, :, None] & spans[:, 1, None, :]).to(device)


def _cut_masks(masks: Sequence[Tensor], boxes: Ints, places: Ints, size: int) -> Tensor:
    """Cut boxes out of masks and put them into places in views, by nearest, int16 [B, size, size]."""
    device = masks[0].device
    cut = torch.full((len(masks), size, size), IGNORED, dtype=torch.int16, device=device)
    for view, mask, box, place in zip(cut, masks, boxes.tolist(), places.tolist(), strict=True):
        rows, columns = (
            torch.from_numpy(start + source_rows(out, old)).to(device)
            for start, old, out in zip(box[:2], box[2:], place[2:], strict=True)
        )
        top, left, height, width = place
        view[top : top + height, left : left + width] = mask.index_select(0, rows).index_select(1, columns)
    return cut


def _change(batch: Tensor, strengths: npt.NDArray[np.generic], change: Callable[..., Tensor | None]) -> None:
    """Change the rows of a batch that have a strength: in place, or by what ``change`` returns."""
    rows = np.flatnonzero(strengths)
    if len(rows):
        part = take_rows(batch, rows)
        changed = change(part, strengths[rows])
        put_rows(batch, rows, part if changed is None else changed)


def _change_colors(images: Tensor, dense: DenseViews) -> None:
    """Blur uint8 images, then change brightness, saturation and hue, contrast before or after the last two."""
    first, last = (np.where(dense.contrast_last == late, dense.contrast, np.float32(0)) for late in (False, True))
    _change(images, dense.blur, spatial.blur)
    _change(images, dense.brightness, pointwise.brightness)
    _change(images, first, pointwise.contrast)
    _change(images, dense.saturation, pointwise.color)
    _change(images, dense.hue, pointwise.hue)
    _change(images, last, pointwise.contrast)


def _rotate(pixels: Tensor, targets: Tensor | None, valid: Tensor, rows: Ints, degrees: FloatArray) -> None:
    """Rotate some views counterclockwise around their centers, in place; what comes in from outside is not valid."""
    size = pixels.shape[-1]
    middle = (size - 1) / 2
    radians = torch.from_numpy(degrees).double().mul_(math.pi / 180)
    cos, sin = (part.view(-1, 1, 1).to(pixels.device) for part in (radians.cos(), radians.sin()))
    away = torch.arange(size, dtype=torch.float64, device=pixels.device) - middle
    # Where each pixel comes from, [n, size, size].
    x = cos * away - sin * away[:, None] + middle
    y = sin * away + cos * away[:, None] + middle
    column, row = (place.add(0.5).floor_().long() for place in (x, y))
    within = (row >= 0) & (row < size) & (column >= 0) & (column < size)
    nearest = (row.clamp_(0, size - 1) * size + column.clamp_(0, size - 1)).flatten(1)

    def moved(part: Tensor) -> Tensor:
        return part.flatten(1).gather(1, nearest).view(-1, size, size)

    before = take_rows(valid, rows)
    counts = moved(before) & within
    # Padding has no share in valid pixels at its border: what they have of it is divided out.
    weighed = torch.cat([take_rows(pixels, rows), before[:, None].float()], dim=1)
    grid = torch.stack([x, y], dim=-1).mul_(2).add_(1).div_(size).sub_(1)
    sampled = F.grid_sample(weighed, grid.float(), mode="bilinear", padding_mode="zeros", align_corners=False)
    content = (sampled[:, :3] / sampled[:, 3:]).masked_fill_(~counts[:, None], 0.0).clamp_(0.0, 1.0)
    put_rows(pixels, rows, content)
    put_rows(valid, rows, counts)
    if targets is not None:
        put_rows(targets, rows, moved(take_rows(targets, rows)).masked_fill_(~counts, IGNORED))
