"""What an exporter is, and what it works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.data.samples import ImageSource
from tutelage.errors import ExportError
from tutelage.export.scoring import Score, Segment
from tutelage.models.model import Model
from tutelage.runtime.palette import Color, default_palette


@dataclass(frozen=True)
class Material:
    """What a model's files are made of.

    Attributes:
        model: The trained model; exporters leave it as it is.
        classes: Class names in the order of the logits.
        metadata: Provenance, as text.
        calibration: Real images for forms that must see some; never test images.
        palette: A color for each class, for masks; colors of our own where not given.
    """

    model: Model
    classes: Sequence[str]
    metadata: Mapping[str, str]
    calibration: Sequence[ImageSource] = ()
    palette: Sequence[Color] | None = None


@dataclass(frozen=True)
class Exporter:
    """A form that a model can leave in.

    Attributes:
        summary: What it is, in one line.
        file: Its file's name in the model folder.
        write: Writes it into the model folder and returns its path. Forms are written in the order of
            :data:`tutelage.export.EXPORTERS`, so that ``model.onnx`` is already there.
        open: Opens the file to compare its logits with the model's; ``None`` where it holds a file already compared.
        open_masks: The same for a model that tells every pixel.
        exact: Whether its logits must be the model's up to rounding; else it must agree on the class often enough (of
            images, or of their pixels), and is removed where it does not.
    """

    summary: str
    file: str
    write: Callable[[Material, Path], Path]
    open: Callable[[Path], Score] | None
    open_masks: Callable[[Path], Segment] | None
    exact: bool = True


def colors(palette: Sequence[Color] | None, classes: int) -> list[Color]:
    """Return the colors that are given, or our own.

    Raises:
        ExportError: They are not one a class, or no colors.
    """
    if palette is None:
        return default_palette(classes)
    if len(palette) != classes or not all(len(color) == 3 and set(color) <= set(range(256)) for color in palette):
        raise ExportError(f"the palette must be {classes} colors of red, green and blue, 0 to 255, one a class")
    return list(palette)
