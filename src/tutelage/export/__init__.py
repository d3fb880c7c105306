"""A trained model as files that others can use: ONNX, weights, model.json, model card."""

from __future__ import annotations

from pathlib import Path

from tutelage.export.card import model_card
from tutelage.export.exporter import Exporter, Material
from tutelage.export.folder import load_model, save_model
from tutelage.export.graph import Deployable
from tutelage.export.int8 import FILE as INT8_FILE
from tutelage.export.int8 import export_int8
from tutelage.export.onnx import export_onnx
from tutelage.export.parity import Parity, check_mask_parity, check_parity
from tutelage.export.predict import LoadedModel, Prediction
from tutelage.export.scoring import open_onnx, open_onnx_masks, open_torch, open_torch_masks
from tutelage.export.settings import ExportSettings
from tutelage.export.torch_export import FILE as TORCH_FILE
from tutelage.export.torch_export import export_torch

ONNX_FILE = "model.onnx"


def _onnx(material: Material, folder: Path) -> Path:
    return export_onnx(
        material.model,
        folder / ONNX_FILE,
        classes=material.classes,
        metadata=material.metadata,
        palette=material.palette,
    )


EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(
        "one ONNX file with preprocessing inside; always made", ONNX_FILE, _onnx, open_onnx, open_onnx_masks
    ),
    "torch": Exporter(
        "one torch.export file with preprocessing inside", TORCH_FILE, export_torch, open_torch, open_torch_masks
    ),
    "int8": Exporter(
        "model.onnx in whole numbers: smaller, often faster; kept where it agrees with the float file",
        INT8_FILE,
        export_int8,
        open_onnx,
        open_onnx_masks,
        exact=False,
    ),
}
"""Forms that a model can leave in, by name, in the order in which they are written."""

__all__ = [
    "EXPORTERS",
    "Deployable",
    "ExportSettings",
    "Exporter",
    "LoadedModel",
    "Material",
    "Parity",
    "Prediction",
    "check_mask_parity",
    "check_parity",
    "export_onnx",
    "load_model",
    "model_card",
    "save_model",
]
