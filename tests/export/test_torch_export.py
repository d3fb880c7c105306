from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from tutelage.errors import ExportError
from tutelage.export.exporter import Material
from tutelage.export.graph import Deployable, inference_copy
from tutelage.export.parity import check_parity
from tutelage.export.scoring import open_torch
from tutelage.export.torch_export import export_torch
from tutelage.models.preprocess import preprocess_from_dict

MODELS = {
    "test_resnet": {"crop": 0.9},
    "test_vit": {"interpolation": "bicubic", "crop": 256 / 288},
    "fastvit_t8": {"size": 64},
}
SIZES = [(1, 1), (1, 7), (2, 1), (3, 3), (32, 32), (36, 36), (64, 64), (120, 50), (50, 121), (63, 65), (300, 400)]


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tiny, classes, tmp_path_factory):
    model = tiny(request.param, **MODELS[request.param])
    return model, export_torch(Material(model, classes, {"provenance": "{}"}), tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="module")
def score(exported):
    return open_torch(exported[1])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_agrees_with_the_model(exported, score, pixels, size):
    images = pixels(*size)[None]
    with torch.no_grad():
        expected = Deployable(inference_copy(exported[0]))(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(score(images), expected, atol=1e-5 * np.abs(expected).max())


def test_parity_with_the_model_that_is_not_reparameterized(exported, pixels):
    images = [pixels(30 + 9 * seed, 50, seed) for seed in range(3)]
    assert check_parity(exported[0], exported[1], images, opener=open_torch).relative < 1e-4


def test_what_is_known_comes_along(exported, classes):
    texts = {"classes": "", "preprocess": "", "provenance": ""}
    torch.export.load(io.BytesIO(exported[1].read_bytes()), extra_files=texts)
    assert tuple(json.loads(texts["classes"])) == classes
    assert preprocess_from_dict(json.loads(texts["preprocess"])) == exported[0].encoder.preprocess
    assert texts["provenance"] == "{}"


@pytest.mark.parametrize("crop", [0.875, 1 / 3])
def test_the_square_is_the_models_for_every_short_side(tiny, classes, pixels, tmp_path, crop):
    """Counted in whole numbers here, and in float64 there."""
    model = tiny(crop=crop)
    score = open_torch(export_torch(Material(model, classes, {}), tmp_path))
    deployable = Deployable(inference_copy(model))
    for side in (1, 2, 9, 16, 18, 45, 101):
        images = pixels(side, side + 3)[None]
        with torch.no_grad():
            expected = deployable(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(score(images), expected, atol=1e-5 * np.abs(expected).max())


def test_a_model_that_cannot_be_traced_is_refused_in_one_line(tiny, classes, tmp_path):
    model = tiny()
    encode = model.encoder.encode
    model.encoder.encode = lambda inputs, needs: encode(inputs, needs) if inputs.sum() > 0 else encode(-inputs, needs)
    with pytest.raises(ExportError, match=r"leave torch out of export\.forms") as caught:
        export_torch(Material(model, classes, {}), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
