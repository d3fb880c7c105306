"""Encoders of models that Tutelage made: the path of a run, of its ``model/`` folder, or of the weights in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import (
    ImagePreprocess,
    Modality,
    PairPreprocess,
    Preprocess,
    TextPreprocess,
    modality_of,
)
from tutelage.models.saved import find_model, preprocess_of, read_description
from tutelage.models.weights import load_weights


def names() -> list[str]:
    """Return nothing: paths cannot be listed."""
    return []


def modality(identifier: str) -> Modality:
    """Return what a finished model reads.

    Raises:
        RunError: There is none.
        ModelError: Its description is damaged.
    """
    return modality_of(preprocess_of(*_encoder_of(identifier)))


def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
    """Check that there is a finished model, and that it can be given the stride.

    Raises:
        RunError: There is none.
        ModelError: Its description is damaged, or the stride does not fit.
    """
    from tutelage.models.sources import check_name

    _, description = _encoder_of(identifier)
    if stride is not None:
        check_name(pretrained=False, **_asked(description, size, stride))


def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
    """Build the encoder of a finished model, by default at the size (or length) and stride that it was made for.

    Raises:
        RunError: There is no finished model.
        ModelError: Its files are damaged, or it cannot be given the stride.
    """
    from tutelage.models.sources import build_encoder

    folder, description = _encoder_of(identifier)
    encoder = build_encoder(pretrained=False, **_asked(description, size, stride))
    encoder.preprocess = _sized(preprocess_of(folder, description), encoder.preprocess)
    if pretrained:
        load_weights(folder / "model.safetensors", encoder, prefix="encoder.")
        encoder.pretrained = True
        encoder.source = {**encoder.source, "source": "run", "identifier": identifier, "license": "apache-2.0"}
    return encoder


def _encoder_of(identifier: str) -> tuple[Path, dict[str, Any]]:
    folder = find_model(Path(identifier).expanduser())
    description = read_description(folder)
    if not isinstance(description.get("encoder"), dict):
        raise ModelError(f"{folder / 'model.json'}: names no encoder; copy or make the model again")
    return folder, description


def _asked(description: dict[str, Any], size: int | None, stride: int | None) -> dict[str, Any]:
    own = description["encoder"]
    if size is None and description["preprocess"].get("kind") == "text":
        size = description["preprocess"]["length"]
    return {"name": own["name"], "size": size or own.get("size"), "stride": stride or own.get("stride")}


def _sized(own: Preprocess, built: Preprocess) -> Preprocess:
    """Return a model's own preprocess at the size, or length, that its encoder was built with."""
    if isinstance(own, ImagePreprocess) and isinstance(built, ImagePreprocess):
        return replace(own, size=built.size)
    if isinstance(own, TextPreprocess) and isinstance(built, TextPreprocess):
        return replace(own, length=built.length)
    if isinstance(own, PairPreprocess) and isinstance(built, PairPreprocess):
        image = _sized(own.image, built.image)
        assert isinstance(image, ImagePreprocess)
        return replace(own, image=image)
    return own
