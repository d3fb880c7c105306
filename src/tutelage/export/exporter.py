"""What an exporter is, and what it works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.data.samples import ImageSource
from tutelage.export.scoring import Score
from tutelage.models.model import Model


@dataclass(frozen=True)
class Material:
    """What a model's files are made of.

    Attributes:
        model: The trained model; exporters leave it as it is.
        classes: Class names in the order of the logits.
        metadata: Provenance, as text.
        calibration: Real images for forms that must see some; never test images.
    """

    model: Model
    classes: Sequence[str]
    metadata: Mapping[str, str]
    calibration: Sequence[ImageSource] = ()


@dataclass(frozen=True)
class Exporter:
    """A form that a model can leave in.

    Attributes:
        summary: What it is, in one line.
        file: Its file's name in the model folder.
        write: Writes it into the model folder and returns its path. Forms are written in the order of
            :data:`tutelage.export.EXPORTERS`, so that ``model.onnx`` is already there.
        open: Opens the file to compare its logits with the model's; ``None`` where it holds a file already compared.
        exact: Whether its logits must be the model's up to rounding; else it must agree on the class often enough,
            and is removed where it does not.
    """

    summary: str
    file: str
    write: Callable[[Material, Path], Path]
    open: Callable[[Path], Score] | None
    exact: bool = True
