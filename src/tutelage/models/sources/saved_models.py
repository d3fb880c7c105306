"""Encoders of models that Tutelage made: the path of a run, of its ``model/`` folder, or of the weights in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.preprocess import ImagePreprocess, Modality, modality_of, preprocess_from_dict
from tutelage.models.saved import find_model, read_description
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
    _, description = _encoder_of(identifier)
    return modality_of(preprocess_from_dict(description["preprocess"]))


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
    """Build the encoder of a finished model, by default at the size and stride that it was made for.

    Raises:
        RunError: There is no finished model.
        ModelError: Its files are damaged, or it cannot be given the stride.
    """
    from tutelage.models.sources import build_encoder

    folder, description = _encoder_of(identifier)
    encoder = build_encoder(pretrained=False, **_asked(description, size, stride))
    preprocess = preprocess_from_dict({**description["preprocess"], "size": _size(encoder)})
    encoder.preprocess = preprocess
    if pretrained:
        load_weights(folder / "model.safetensors", encoder, prefix="encoder.")
        encoder.pretrained = True
        encoder.source = {**encoder.source, "source": "run", "identifier": identifier, "license": "apache-2.0"}
    return encoder


def _encoder_of(identifier: str) -> tuple[Path, dict[str, Any]]:
    folder = find_model(Path(identifier).expanduser())
    description = read_description(folder)
    if not isinstance(description.get("encoder"), dict) or "preprocess" not in description:
        raise ModelError(f"{folder / 'model.json'}: names no encoder; copy or make the model again")
    return folder, description


def _asked(description: dict[str, Any], size: int | None, stride: int | None) -> dict[str, Any]:
    own = description["encoder"]
    return {"name": own["name"], "size": size or own["size"], "stride": stride or own.get("stride")}


def _size(encoder: Encoder) -> int:
    assert isinstance(encoder.preprocess, ImagePreprocess)
    return encoder.preprocess.size
