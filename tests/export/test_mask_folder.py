"""Model folders of segmentation models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tutelage.errors import ExportError, ModelError
from tutelage.export import EXPORTERS, Material
from tutelage.export.folder import load_model, save_model
from tutelage.export.predict import LoadedModel
from tutelage.export.web import write_web
from tutelage.models.model import Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.models.sources import build_encoder
from tutelage.runtime import open_model
from tutelage.runtime.segmenter import Segmenter


@pytest.fixture(scope="module", params=["timm:mobilenetv3_small_050", "timm:test_vit"])
def model(request, classes):
    torch.manual_seed(0)
    encoder = build_encoder(request.param, pretrained=False, size=64, stride=8)
    encoder.preprocess = ImagePreprocess(64, mean=(0.1, 0.2, 0.3), fit="letterbox")
    model = Model(encoder, SegmentationHead(encoder.widths["patches"], len(classes), channels=24, rates=(1, 2, 3)))
    torch.nn.init.normal_(model.head.classifier.weight)
    return model.eval()


@pytest.fixture(scope="module")
def folder(model, classes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(folder, model, classes=classes, task="segmentation", provenance={"seed": 3})
    return folder


def test_a_loaded_model_gives_the_same_masks(model, folder, classes, pixels):
    images = [pixels(50, 70), pixels(90, 40, 1)]
    loaded = load_model(folder)
    assert (loaded.classes, loaded.task, loaded.preprocess) == (classes, "segmentation", model.encoder.preprocess)
    expected = LoadedModel(model, classes, "segmentation").segment(images)
    assert len(np.unique(expected[0])) > 1
    for found, mask in zip(loaded.segment(images), expected, strict=True):
        assert np.array_equal(found, mask)


def test_the_description_says_what_to_build(model, folder):
    described = json.loads((folder / "model.json").read_text())
    assert described["encoder"] == {"name": model.encoder.name, "size": 64, "stride": 8}
    width = model.encoder.widths["patches"]
    assert described["head"] == {"kind": "deeplabv3", "width": width, "channels": 24, "rates": [1, 2, 3]}
    assert described["preprocess"]["fit"] == "letterbox"


def test_other_classes_than_logits_are_not_saved(model, tmp_path):
    with pytest.raises(ModelError, match="4 logits, but 1 classes"):
        save_model(tmp_path, model, classes=("a",), task="segmentation", provenance={})


def test_the_exported_file_gives_the_same_masks(model, folder, classes, pixels):
    EXPORTERS["onnx"].write(Material(model, classes, {}), folder)
    opened = open_model(folder)
    assert isinstance(opened, Segmenter)
    images = [pixels(50, 70), pixels(90, 40, 1), pixels(20, 20, 2)]
    for found, mask in zip(opened.masks(images), load_model(folder).segment(images), strict=True):
        assert (found == mask).mean() > 0.999


def test_there_is_no_page_of_masks(mask_run):
    with pytest.raises(ExportError, match="leave web out"):
        write_web(mask_run / "model")
    assert not (mask_run / "model" / "web").exists()
