from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tutelage.errors import ExportError
from tutelage.export import EXPORTERS
from tutelage.export.exporter import Material
from tutelage.export.int8 import compare, export_int8, readable
from tutelage.export.scoring import open_onnx

MODELS = {
    "mobilenetv3_small_050": {"size": 32},
    "test_resnet": {"interpolation": "bicubic", "crop": 0.9},
    "test_vit": {},
    "repvgg_a0": {"size": 64},
}


def picture(seed, height=48, width=40):
    """Blurred noise: neighbors alike, as in a photograph."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height)))


@pytest.fixture(scope="module")
def calibration():
    return [picture(seed, 40 + seed % 3) for seed in range(24)]


@pytest.fixture(scope="module", params=MODELS)
def files(request, tiny, classes, calibration, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    material = Material(tiny(request.param, **MODELS[request.param]), classes, {"provenance": "{}"}, calibration)
    EXPORTERS["onnx"].write(material, folder)
    return folder / "model.onnx", export_int8(material, folder)


def graph_of(path):
    return onnx.load(path).graph


def test_logits_stay_near_those_of_the_float_file(files):
    """On images of another shape than those it was calibrated on, which also shows a resize that was turned wrong."""
    exact, small = (open_onnx(path) for path in files)
    for seed, shape in enumerate([(60, 35), (33, 90), (20, 20)]):
        images = picture(100 + seed, *shape)[None]
        expected = exact(images)
        assert np.abs(small(images) - expected).max() < 0.4 * np.abs(expected).max()


def test_the_file_is_smaller(files):
    assert files[1].stat().st_size < 0.5 * files[0].stat().st_size


def test_no_activation_becomes_whole_before_the_model(files):
    """The resize, the scale and the crop stay as exact as they were."""
    nodes = graph_of(files[1]).node
    made = {name for node in nodes if node.op_type == "QuantizeLinear" for name in node.output}
    ahead = [node for node in nodes if node.name.startswith("node.prepare") or node.op_type == "Resize"]
    assert len(ahead) > 10
    assert not [node.name for node in ahead if made & set(node.input)]


def test_metadata_are_those_of_the_float_file_and_the_precision(files):
    exact, small = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
        for path in files
    )
    assert small == {**exact, "precision": "int8"}
    assert json.loads(small["classes"])


def test_inputs_and_outputs_keep_their_names_and_free_sizes(files):
    exact, small = (onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in files)
    for one, two in ((exact.get_inputs(), small.get_inputs()), (exact.get_outputs(), small.get_outputs())):
        assert [(each.name, each.type, each.shape) for each in one] == [(e.name, e.type, e.shape) for e in two]


def test_no_images_to_calibrate_with_is_an_error(tiny, classes, tmp_path):
    material = Material(tiny(), classes, {})
    EXPORTERS["onnx"].write(material, tmp_path)
    with pytest.raises(ExportError, match="no images to calibrate"):
        export_int8(material, tmp_path)
    assert not (tmp_path / "model.int8.onnx").exists()


def test_images_are_decoded_one_by_one(monkeypatch):
    """Else a calibration set of large photographs would be in memory at once."""
    seen = []
    monkeypatch.setattr("tutelage.export.int8.decode_pixels", lambda image: seen.append(image) or image)
    images = readable([picture(seed) for seed in range(3)])
    next(images)
    assert len(seen) == 1


def test_an_image_that_cannot_be_decoded_is_passed_over():
    assert len(list(readable([picture(0), b"no image", picture(1)]))) == 2


def scores(*rows):
    """A file that gives these logits, one row an image."""
    remaining = iter(rows)
    return lambda images: np.array([next(remaining)], dtype=np.float32)


def test_agreement_is_the_share_of_equal_classes():
    exact = scores([0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    other = scores([0.0, 2.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0])
    found = compare(exact, other, [picture(seed) for seed in range(4)])
    assert (found.images, found.agreement) == (4, 0.75)


def test_the_difference_is_one_of_probabilities():
    half, three_quarters = [0.0, 0.0], [float(np.log(3)), 0.0]
    found = compare(scores(half), scores(three_quarters), [picture(0)])
    assert found.probability == pytest.approx(0.25, rel=1e-5)


def test_logits_that_are_no_numbers_never_agree():
    found = compare(scores([1.0, 0.0]), scores([float("nan"), 0.0]), [picture(0)])
    assert (found.agreement, found.probability) == (0.0, 1.0)


def test_no_images_to_compare_on_is_an_error():
    with pytest.raises(ExportError, match="no transfer samples are left"):
        compare(scores(), scores(), [])
