from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tutelage.errors import ExportError
from tutelage.export.graph import Deployable, inference_copy
from tutelage.export.onnx import export_onnx
from tutelage.models.model import weight_hash
from tutelage.models.preprocess import preprocess_from_dict

MODELS = {
    "test_efficientnet": {"crop": 0.9},
    "test_vit": {"interpolation": "bicubic", "crop": 256 / 288, "mean": (0.5, 0.5, 0.5)},
    "fastvit_t8": {"size": 64},
}
SIZES = [(8, 8), (1, 1), (1, 7), (32, 32), (36, 36), (64, 64), (120, 50), (50, 121), (63, 65), (700, 900)]


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tiny, classes, tmp_path_factory):
    """A model in train mode and its file."""
    model = tiny(request.param, **MODELS[request.param])
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    return model, export_onnx(model, path, classes=classes, metadata={"method": "task-oriented"})


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])


def eager(model, images):
    with torch.no_grad():
        return Deployable(inference_copy(model))(torch.from_numpy(images)).numpy()


def assert_agree(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_agrees_with_the_model(exported, session, pixels, size):
    images = pixels(*size)[None]
    (logits,) = session.run(["logits"], {"images": images})
    assert_agree(logits, eager(exported[0], images))


def test_hard_edges_agree_with_the_model(exported, session):
    squares = np.kron(np.indices((12, 12)).sum(0) % 2 * 255, np.ones((9, 9))).astype(np.uint8)
    images = np.repeat(squares[None, :, :, None], 3, axis=3)
    assert_agree(session.run(["logits"], {"images": images})[0], eager(exported[0], images))


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_images_goes_at_once(exported, session, pixels, count):
    images = np.stack([pixels(45, 60, seed) for seed in range(count)])
    (logits,) = session.run(["logits"], {"images": images})
    assert_agree(logits, eager(exported[0], images))


def test_logits_differ_between_images(session, pixels):
    """Else all of the above could agree on a constant."""
    black, white = (session.run(["logits"], {"images": np.full((1, 40, 40, 3), v, np.uint8)})[0] for v in (0, 255))
    assert np.abs(black - white).max() > 1e-3 * np.abs(black).max()


def test_one_file_holds_all(exported):
    graph = onnx.load(exported[1], load_external_data=False).graph
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.initializer)
    assert [path.name for path in exported[1].parent.iterdir()] == ["model.onnx"]


def test_inputs_and_outputs(session):
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", "height", "width", 3])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 4])


def test_metadata(exported, session, classes):
    found = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(found["classes"])) == classes
    assert preprocess_from_dict(json.loads(found["preprocess"])) == exported[0].encoder.preprocess
    assert found["method"] == "task-oriented"


def test_the_file_names_no_folder_of_this_machine(exported):
    data = exported[1].read_bytes()
    assert str(Path(torch.__file__).parents[1]).encode() not in data
    assert b"stack_trace" not in data


def test_the_file_passes_the_checker(exported):
    onnx.checker.check_model(onnx.load(exported[1]), full_check=True)


def test_training_branches_are_merged_in_a_copy(tiny, classes, tmp_path):
    model = tiny("fastvit_t8")
    before = weight_hash(model), [module.training for module in model.modules()]
    graph = onnx.load(export_onnx(model, tmp_path / "m.onnx", classes=classes, metadata={})).graph
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    assert sum(node.op_type == "Conv" for node in graph.node) < 0.8 * convolutions
    assert (weight_hash(model), [module.training for module in model.modules()]) == before


class Remembering(torch.nn.Module):
    """Fills a cache in its first pass, as LeViT's attention does."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor([0.5]))
        self.cache = {}

    def forward(self, inputs):
        if not self.cache:
            self.cache["cpu"] = self.shift.exp()
        return inputs + self.cache["cpu"]


def test_a_model_that_fills_a_cache_is_exported(tiny, classes, pixels, tmp_path):
    model = tiny()
    model.encoder.net = torch.nn.Sequential(Remembering(), model.encoder.net)
    path = export_onnx(model, tmp_path / "model.onnx", classes=classes, metadata={})
    images = pixels(40, 40)[None]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert_agree(session.run(["logits"], {"images": images})[0], eager(model, images))


def test_a_model_that_mixes_up_its_batch_is_refused(tiny, classes, tmp_path):
    model = tiny()
    encode = model.encoder.encode
    model.encoder.encode = lambda inputs, needs: encode(inputs.reshape(2, 3, 32, 32), needs)
    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        export_onnx(model, tmp_path / "model.onnx", classes=classes, metadata={})


def test_another_number_of_classes_is_refused_and_the_old_file_kept(tiny, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ExportError, match="4 logits, but 2 classes"):
        export_onnx(tiny(), path, classes=("a", "b"), metadata={})
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_too_large_for_one_file_is_refused(tiny, classes, tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.export.onnx.LARGEST", 1000)
    with pytest.raises(ExportError, match="GiB"):
        export_onnx(tiny(), tmp_path / "model.onnx", classes=classes, metadata={})


def test_a_model_that_cannot_be_traced_is_refused_in_one_line(tiny, classes, tmp_path, capfd):
    model = tiny()
    encode = model.encoder.encode
    # Python's `if` on a pixel's value, which a graph cannot decide.
    model.encoder.encode = lambda inputs, needs: encode(inputs, needs) if inputs.sum() > 0 else encode(-inputs, needs)
    with pytest.raises(ExportError, match="timm:test_efficientnet: cannot be written as ONNX") as caught:
        export_onnx(model, tmp_path / "model.onnx", classes=classes, metadata={})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
