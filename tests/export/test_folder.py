from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage.errors import ModelError, RunError, TutelageError
from tutelage.export.folder import load_model, save_model
from tutelage.export.predict import LoadedModel
from tutelage.models.model import LinearHead, Model
from tutelage.models.preprocess import ImagePreprocess
from tutelage.models.sources import build_encoder


@pytest.fixture(scope="module", params=["timm:test_efficientnet", "timm:test_vit"])
def model(request, classes):
    torch.manual_seed(0)
    encoder = build_encoder(request.param, pretrained=False, size=64)
    encoder.preprocess = ImagePreprocess(64, mean=(0.1, 0.2, 0.3), interpolation="bicubic", crop=0.8)
    model = Model(encoder, LinearHead(encoder.widths["features"], len(classes)))
    torch.nn.init.normal_(model.head.linear.weight)
    return model.eval()


@pytest.fixture(scope="module")
def made(model, classes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(folder, model, classes=classes, task="classification", provenance={"method": "finetune", "seed": 3})
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "model")


def edit(folder, **changes):
    data = json.loads((folder / "model.json").read_text())
    data.update(changes)
    (folder / "model.json").write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def test_a_loaded_model_gives_the_same_logits(model, made, classes, pixels):
    images = [pixels(50, 70), pixels(64, 64)]
    expected = LoadedModel(model, classes, "classification").logits(images)
    loaded = load_model(made)
    assert torch.equal(loaded.logits(images), expected)
    assert (loaded.classes, loaded.task, loaded.preprocess) == (classes, "classification", model.encoder.preprocess)


def test_a_loaded_model_is_in_eval_mode(made):
    assert not any(module.training for module in load_model(made).model.modules())


def test_the_run_folder_is_as_good(made, pixels):
    assert torch.equal(load_model(str(made.parent)).logits(pixels(9, 9)), load_model(made).logits(pixels(9, 9)))


def test_the_file_holds_encoder_and_head_alone(model, made):
    assert set(load_file(made / "model.safetensors")) == set(model.state_dict())


def test_provenance_is_kept(made):
    data = json.loads((made / "model.json").read_text())
    assert data["provenance"] == {"method": "finetune", "seed": 3}


def test_without_weights_there_is_no_description(model, classes, tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(RunError, match=r"model\.safetensors"):
        save_model(tmp_path, model, classes=classes, task="classification", provenance={})
    assert not (tmp_path / "model.json").exists()


def test_other_classes_than_logits_are_not_saved(model, tmp_path):
    with pytest.raises(ModelError, match="4 logits, but 1 classes"):
        save_model(tmp_path, model, classes=("a",), task="classification", provenance={})


def test_another_head_is_not_saved(model, classes, tmp_path):
    with pytest.raises(ModelError, match="linear"):
        save_model(
            tmp_path, Model(model.encoder, torch.nn.Identity()), classes=classes, task="segmentation", provenance={}
        )


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunError, match="nowhere: no such folder"):
        load_model(tmp_path / "nowhere")


def test_an_unfinished_run_is_told(tmp_path):
    with pytest.raises(RunError, match=r"no model\.json"):
        load_model(tmp_path)


def weights_of(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


DAMAGES = {
    "newer": (lambda f: edit(f, schema=99), "newer Tutelage"),
    "no schema": (lambda f: edit(f, schema=None), "not a model description"),
    "no classes": (lambda f: edit(f, classes=None), "incomplete .*classes"),
    "other head": (lambda f: edit(f, head={"kind": "deeplab", "width": 8}), "'deeplab'"),
    "a class less": (lambda f: edit(f, classes=["a"]), "do not fit"),
    "a list": (lambda f: (f / "model.json").write_text("[]"), "not a model description"),
    "no JSON": (lambda f: (f / "model.json").write_bytes(b"\xff{"), "not a model description"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors: missing"),
    "cut short": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-10]),
        "damaged or cut short",
    ),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "damaged or cut short"),
    "a tensor less": (lambda f: weights_of(f, lambda w: w.pop("head.linear.bias")), "do not fit"),
    "a tensor more": (lambda f: weights_of(f, lambda w: w.update(extra=torch.zeros(1))), "do not fit"),
    "other weights": (lambda f: weights_of(f, lambda w: w["head.linear.bias"].add_(1)), "not the file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_in_one_line(folder, damage):
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_an_unknown_encoder_is_an_error_of_ours(folder):
    edit(folder, encoder={"name": "timm:no_such_model_at_all", "size": 64})
    with pytest.raises(TutelageError, match="no_such_model_at_all"):
        load_model(folder)
