"""The model folder: ``model.safetensors`` and, written last, the ``model.json`` that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import ModelError, RunError
from tutelage.export.predict import LoadedModel
from tutelage.export.tokenizer import beside, write_tokenizer
from tutelage.models.model import Head, LinearHead, Model, weight_hash
from tutelage.models.preprocess import ImagePreprocess, PairPreprocess, Preprocess, preprocess_to_dict
from tutelage.models.saved import SCHEMA, find_model, preprocess_of, read_description
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.models.weights import load_weights, save_weights
from tutelage.run import write_json


def save_model(
    folder: Path, model: Model, *, classes: Sequence[str], task: str, provenance: Mapping[str, Any]
) -> None:
    """Write encoder and head as ``model.safetensors`` and ``model.json`` into ``folder``, made when missing.

    The tokenizer of a model of texts goes with it, into ``tokenizer/``.

    Args:
        folder: The model folder.
        model: A model with a linear head, or one of images with a head of masks.
        classes: Class names in the order of the logits.
        task: Name of the task.
        provenance: How the model came to be, as plain data.

    Raises:
        ModelError: The model is of a kind that the folder cannot describe, or its tokenizer cannot be had.
        RunError: A file cannot be written.
    """
    preprocess, head = model.encoder.preprocess, model.head
    if not isinstance(head, LinearHead | SegmentationHead):
        raise ModelError(
            f"{model.encoder.name} with {type(head).__name__}: only a linear head, or one of masks, can be saved"
        )
    if isinstance(head, LinearHead):
        told: dict[str, Any] = {"kind": "linear", "width": head.linear.in_features}
        given = head.linear.out_features
    else:
        told = {"kind": "deeplabv3", "width": model.encoder.widths["patches"]}
        told |= {"channels": head.channels, "rates": list(head.rates)}
        given = head.classifier.out_channels
    if len(classes) != given:
        raise ModelError(f"the head gives {given} logits, but {len(classes)} classes are named")
    encoder: dict[str, Any] = {"name": model.encoder.name, "size": _size(preprocess)}
    if model.encoder.stride is not None:
        encoder["stride"] = model.encoder.stride
    description = {
        "schema": SCHEMA,
        "task": task,
        "encoder": encoder,
        "head": told,
        "classes": list(classes),
        "preprocess": preprocess_to_dict(beside(preprocess)),
        "weights": weight_hash(model),
        "provenance": dict(provenance),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another place") from error
    write_tokenizer(folder, preprocess)
    save_weights(folder / "model.safetensors", model.state_dict())
    write_json(folder / "model.json", description)


def load_model(path: str | Path, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a finished model.

    Args:
        path: A model folder, or the run folder that holds it as ``model/``.
        device: Where the model goes.

    Raises:
        RunError: There is no finished model at ``path``.
        ModelError: Its files are damaged, do not belong together, or were written by a newer Tutelage.
    """
    from tutelage.models.sources import build_encoder

    folder = find_model(Path(path))
    description = read_description(folder)
    try:
        preprocess = preprocess_of(folder, description)
        named = description["encoder"]
        encoder = build_encoder(named["name"], pretrained=False, size=named["size"], stride=named.get("stride"))
        classes, task = tuple(description["classes"]), str(description["task"])
        head = _head(description["head"], len(classes))
        expected = str(description["weights"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{folder / 'model.json'}: incomplete ({what}); copy or make the model again") from error
    encoder.preprocess = preprocess
    model = Model(encoder, head)
    load_weights(folder / "model.safetensors", model)
    if weight_hash(model) != expected:
        raise ModelError(f"{folder}: model.safetensors is not the file that model.json describes; copy both again")
    return LoadedModel(model=model.to(device).eval().requires_grad_(False), classes=classes, task=task)


def _size(preprocess: Preprocess) -> int:
    """Return the size that an encoder is built with: the side of images in pixels, or the tokens of texts."""
    if isinstance(preprocess, PairPreprocess):
        return preprocess.image.size
    return preprocess.size if isinstance(preprocess, ImagePreprocess) else preprocess.length


def _head(told: Mapping[str, Any], classes: int) -> Head:
    kinds: dict[str, Callable[..., Head]] = {"linear": LinearHead, "deeplabv3": SegmentationHead}
    kind, width = told["kind"], int(told["width"])
    if kind not in kinds:
        raise ModelError(
            f"model.json names a head {kind!r}; this Tutelage knows {' and '.join(map(repr, kinds))}; update Tutelage"
        )
    # Older folders say nothing about the decoder: it was the source's.
    return kinds[kind](width, classes, **{key: told[key] for key in ("channels", "rates") if key in told})
