"""What the image processors of transformers say about the images that a model reads."""

from __future__ import annotations

from typing import Any

from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources.geometry import RANDOM_START, check_size, default_size, resampling

_BICUBIC = 3


def image_preprocess(
    path: str, name: str, config: Any, *, pretrained: bool, size: int | None, stride: int | None, local: bool
) -> ImagePreprocess:
    """Return the preprocess of an image model of transformers, as far as the image processor beside it tells.

    Args:
        path: A repository's name or a folder.
        name: The model's name, for errors.
        config: Its configuration.
        pretrained: Whether it has its weights, and so wants their mean and standard deviation.
        size: Side of the images in pixels; the model's own if not given.
        stride: Pixels from one patch to the next; the model's own if not given.
        local: Whether nothing but local files is to be asked for.

    Raises:
        ModelError: The size does not fit.
    """
    processor = _processor(path, local=local)
    patch = config.patch_size if isinstance(getattr(config, "patch_size", None), int) else None
    native, crop = _native_size(processor)
    size = size or default_size(native or int(getattr(config, "image_size", 224)), patch, stride)
    check_size(name, size, patch, stride)
    return ImagePreprocess(
        size,
        mean=tuple(processor.get("image_mean", RANDOM_START)) if pretrained else RANDOM_START,
        std=tuple(processor.get("image_std", RANDOM_START)) if pretrained else RANDOM_START,
        interpolation=resampling("bicubic" if processor.get("resample") == _BICUBIC else "bilinear"),
        crop=crop,
    )


def _processor(path: str, *, local: bool) -> dict[str, Any]:
    from transformers import BaseImageProcessor

    try:
        return dict(BaseImageProcessor.get_image_processor_dict(path, local_files_only=local)[0])
    except OSError:
        return {}


def _native_size(processor: dict[str, Any]) -> tuple[int | None, float]:
    """Return the side of a processor's output, and the share of the short side that its center crop keeps."""

    def side(value: Any) -> int | None:
        sides = value if isinstance(value, dict) else {"height": value}
        length: int | None = sides.get("height") or sides.get("shortest_edge")
        return length

    resized, cropped = side(processor.get("size")), side(processor.get("crop_size"))
    if processor.get("do_center_crop") and resized and cropped:
        return cropped, min(1.0, cropped / resized)
    # ConvNeXt and its kin state the final size and the share instead.
    return resized, processor.get("crop_pct") or 1.0
