"""Encoders from their sources (timm, open_clip, transformers, bundled), heads, and the models they make."""

from __future__ import annotations

from tutelage.models.model import Encoder, Head, LinearHead, Model, parameter_count, weight_hash
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    ImagePreprocess,
    PairInputs,
    PairPreprocess,
    Preprocess,
    TextPreprocess,
)
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.models.sources import SOURCES, Source, build_encoder, check_name

__all__ = [
    "SOURCES",
    "ClipTextPreprocess",
    "Encoder",
    "Head",
    "ImagePreprocess",
    "LinearHead",
    "Model",
    "Outputs",
    "PairInputs",
    "PairPreprocess",
    "Preprocess",
    "SegmentationHead",
    "Source",
    "TextPreprocess",
    "build_encoder",
    "check_name",
    "parameter_count",
    "weight_hash",
]
