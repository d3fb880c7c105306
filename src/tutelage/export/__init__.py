"""A trained model as files that others can use: ONNX, weights, model.json, model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tutelage.export.card import model_card
from tutelage.export.folder import load_model, save_model
from tutelage.export.graph import Deployable
from tutelage.export.onnx import export_onnx
from tutelage.export.parity import Parity, check_parity
from tutelage.export.predict import LoadedModel, Prediction

EXPORTERS: dict[str, Callable[..., Path]] = {"onnx": export_onnx}
"""Exporters by name: ``exporter(model, path, *, classes, metadata) -> path``."""

__all__ = [
    "EXPORTERS",
    "Deployable",
    "LoadedModel",
    "Parity",
    "Prediction",
    "check_parity",
    "export_onnx",
    "load_model",
    "model_card",
    "save_model",
]
