from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tutelage.errors import ExportError
from tutelage.export.onnx import export_onnx
from tutelage.export.parity import check_parity
from tutelage.models.model import weight_hash


@pytest.fixture(scope="module")
def model(tiny):
    return tiny()


@pytest.fixture(scope="module")
def file(model, classes, tmp_path_factory):
    return export_onnx(model, tmp_path_factory.mktemp("parity") / "model.onnx", classes=classes, metadata={})


@pytest.fixture(scope="module")
def images(pixels):
    return [pixels(*size, seed) for seed, size in enumerate([(40, 40), (30, 50), (40, 40), (64, 20)])]


def tamper(file, target, change):
    """Copy the file with the head's weights changed."""
    proto = onnx.load(file)
    (weight,) = [tensor for tensor in proto.graph.initializer if tensor.name.endswith("head.linear.weight")]
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight).copy()), weight.name))
    onnx.save(proto, target)
    return target


def test_an_honest_file_passes(model, file, images):
    parity = check_parity(model, file, images)
    assert parity.images == 4
    assert parity.agreement == 1.0
    assert parity.difference > 0
    assert parity.relative < 1e-5


def test_the_numbers_are_those_of_the_difference(model, file, images, tmp_path):
    """Twice the weights (the bias is zero) are off by the largest logit itself, and keep the top-1 class."""
    doubled = tamper(file, tmp_path / "model.onnx", lambda weight: weight * 2)
    parity = check_parity(model, doubled, images, tolerance=1.5)
    assert parity.relative == pytest.approx(1.0, rel=1e-4)
    assert parity.agreement == 1.0


@pytest.mark.parametrize(
    "change", [lambda w: w * 1.01, lambda w: -w, lambda w: np.full_like(w, np.nan)], ids=["scaled", "negated", "nan"]
)
def test_a_tampered_file_fails(model, file, images, tmp_path, change):
    with pytest.raises(ExportError, match=r"differ by up to .* of the largest"):
        check_parity(model, tamper(file, tmp_path / "model.onnx", change), images)


def test_a_model_trained_on_fails(model, file, images, tiny):
    with pytest.raises(ExportError, match="same top-1"):
        check_parity(tiny(seed=1), file, images)


def test_a_damaged_file_fails(model, file, images, tmp_path):
    cut = tmp_path / "model.onnx"
    cut.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ExportError, match="cannot be run"):
        check_parity(model, cut, images)


def test_another_number_of_classes_fails(model, images, tiny, tmp_path):
    other = tiny()
    other.head.linear = torch.nn.Linear(other.head.linear.in_features, 3)
    path = export_onnx(other, tmp_path / "model.onnx", classes=("a", "b", "c"), metadata={})
    with pytest.raises(ExportError, match=r"\(4, 3\)"):
        check_parity(model, path, images)


def test_no_images_is_an_error(model, file):
    with pytest.raises(ExportError, match="at least one"):
        check_parity(model, file, [])


def test_the_model_is_left_as_it_is(model, file, images):
    before = weight_hash(model), [module.training for module in model.modules()]
    check_parity(model, file, images)
    assert (weight_hash(model), [module.training for module in model.modules()]) == before


def test_an_untrained_head_passes(model, images, tiny, classes, tmp_path):
    untrained = tiny()
    torch.nn.init.zeros_(untrained.head.linear.weight)
    path = export_onnx(untrained, tmp_path / "model.onnx", classes=classes, metadata={})
    assert check_parity(untrained, path, images).difference == 0
