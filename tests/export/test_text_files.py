"""Models of texts as files: what they take, and whether they say what the trained model says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.models.tiny_texts import save_family

from tutelage.errors import DataError, ExportError, ModelError
from tutelage.export import check_parity, export_onnx, load_model, save_model
from tutelage.export.exporter import Material
from tutelage.export.int8 import compare, export_int8
from tutelage.export.scoring import open_onnx, open_torch
from tutelage.export.torch_export import export_torch
from tutelage.export.web import write_web
from tutelage.models.model import LinearHead, Model
from tutelage.models.preprocess import preprocess_from_dict
from tutelage.models.sources import build_encoder
from tutelage.runtime import Classifier
from tutelage.runtime.texts import paired

CLASSES = ("right", "wrong", "unsure")
TEXTS = ("red", "green square", "blue circle red square " * 3, "words that it does not know")
LENGTH = 12


def build(name: str, folder: Path, **preprocess: Any) -> Any:
    """A model of random weights, whose head tells texts apart."""
    encoder: Any = build_encoder(save_family(name, folder), pretrained=True, size=LENGTH)
    encoder.preprocess = type(encoder.preprocess)(**{**vars(encoder.preprocess), **preprocess})
    torch.manual_seed(0)
    model: Any = Model(encoder, LinearHead(encoder.widths["features"], len(CLASSES)))
    torch.nn.init.normal_(model.head.linear.weight)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    return export_onnx(model, folder / "model.onnx", classes=CLASSES, metadata={"method": "aft"})


@pytest.fixture
def copied(file: Path, tmp_path: Path) -> Path:
    """The file's folder, to damage or to add to."""
    return shutil.copytree(file.parent, tmp_path / "copied")


def eager(model: Any, texts: list[str]) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        # One by one: what pads a text must not matter.
        return torch.cat([model([text]).logits for text in texts]).numpy()


@pytest.mark.parametrize("family", ["roberta", "gpt2", "t5"])
def test_every_family_agrees_with_the_model(family: str, tmp_path: Path) -> None:
    model = build(family, tmp_path)
    path = export_onnx(model, tmp_path / "model.onnx", classes=CLASSES, metadata={})
    assert check_parity(model, path, TEXTS).relative < 1e-5


@pytest.mark.parametrize(
    "changes", [{"padding": "left"}, {"truncation": "left"}, {"template": "a red {text} square"}]
)
def test_sides_and_templates_go_along(changes: dict[str, str], tmp_path: Path) -> None:
    model = build("bert", tmp_path, **changes)
    path = export_onnx(model, tmp_path / "model.onnx", classes=CLASSES, metadata={})
    assert check_parity(model, path, TEXTS).relative < 1e-5


def test_pairs_of_sentences_agree_with_the_model(model: Any, file: Path) -> None:
    pairs = [paired(text, other) for text in TEXTS for other in TEXTS]
    assert check_parity(model, file, pairs).relative < 1e-5


def test_inputs_and_outputs(file: Path) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = {each.name: (each.type, each.shape) for each in session.get_inputs()}
    assert inputs == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), ("tensor(int64)", ["batch", "length"])
    )
    (logits,) = session.get_outputs()
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 3])


def test_the_file_says_what_it_reads(model: Any, file: Path) -> None:
    found = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert (found["modality"], found["method"]) == ("text", "aft")
    preprocess: Any = preprocess_from_dict(json.loads(found["preprocess"]))
    assert preprocess.tokenizer == "tokenizer"
    assert preprocess.length == model.encoder.preprocess.length


def test_the_tokenizer_beside_it_is_the_models(model: Any, file: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(file.parent / "tokenizer")
    assert theirs(TEXTS[1])["input_ids"] == model.encoder.preprocess([TEXTS[1]])["input_ids"][0].tolist()


def test_no_file_names_a_folder_of_this_machine(model: Any, file: Path) -> None:
    where = model.encoder.preprocess.tokenizer.encode()
    files = [file, *(file.parent / "tokenizer").iterdir()]
    assert not [path for path in files if where in path.read_bytes()]


def test_the_runtime_gives_the_models_logits_in_the_order_of_the_texts(model: Any, file: Path) -> None:
    texts = [" ".join(["red", "blue", "circle"][: 1 + row % 3]) + " green" * (row % 7) for row in range(40)]
    found = Classifier(file).logits(texts, batch_size=3)
    np.testing.assert_allclose(found, eager(model, texts), atol=1e-5)


def test_two_texts_are_a_pair(model: Any, file: Path) -> None:
    found = Classifier(file).logits([("red", "square")])
    np.testing.assert_allclose(found, eager(model, [paired("red", "square")]), atol=1e-5)


def test_a_text_that_is_none_stops_neither_those_before_nor_those_after(file: Path) -> None:
    answers = list(Classifier(file).answers(["red", " \n", "green", 5]))  # type: ignore[list-item]
    assert [answer.logits is None for answer in answers] == [False, True, False, True]
    assert "white space" in answers[1].error
    assert "'5' is no text" in answers[3].error


def test_logits_of_an_empty_text_are_an_error(file: Path) -> None:
    with pytest.raises(DataError, match="an empty text"):
        Classifier(file).logits([""])


@pytest.mark.parametrize("lost", ["tokenizer.json", "tokenizer_config.json"])
def test_a_file_without_its_tokenizer_is_one_clear_line(copied: Path, lost: str) -> None:
    path = copied / "model.onnx"
    (copied / "tokenizer" / lost).unlink()
    with pytest.raises(ModelError, match="no tokenizer that can be read") as told:
        Classifier(path)
    assert "\n" not in str(told.value)


def test_another_tokenizer_is_found_out(model: Any, copied: Path) -> None:
    path = copied / "model.onnx"
    tokenizer = copied / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"red"', '"rde"'))
    with pytest.raises(ExportError, match="does not agree with the trained model"):
        check_parity(model, path, TEXTS)


def test_torch_export_agrees_with_the_model(model: Any, tmp_path: Path) -> None:
    path = export_torch(Material(model, CLASSES, {}), tmp_path)
    assert check_parity(model, path, TEXTS, opener=open_torch).relative < 1e-5


def test_int8_needs_no_calibration_and_stays_near(model: Any, copied: Path) -> None:
    small = export_int8(Material(model, CLASSES, {}), copied)
    assert compare(open_onnx(copied / "model.onnx"), open_onnx(small), TEXTS).probability < 0.05


def test_int8_holds_embeddings_in_whole_numbers(model: Any, copied: Path) -> None:
    graph = onnx.load(export_int8(Material(model, CLASSES, {}), copied)).graph
    shapes = {tuple(each.dims): each.data_type for each in graph.initializer if each.dims}
    words = tuple(model.encoder.tower.get_input_embeddings().weight.shape)
    assert shapes[words] in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def test_a_page_for_browsers_is_refused(file: Path) -> None:
    with pytest.raises(ExportError, match="reads texts, and the page shows images"):
        write_web(file.parent)


def test_a_saved_model_gives_the_same_logits_without_the_folder_it_came_from(tmp_path: Path) -> None:
    model = build("distilbert", tmp_path / "base").eval()
    save_model(tmp_path / "model", model, classes=CLASSES, task="classification", provenance={})
    (tmp_path / "base" / "tokenizer.json").unlink()
    loaded = load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.logits(list(TEXTS)).numpy(), eager(model, list(TEXTS)), atol=1e-5)


def test_a_loaded_model_takes_one_text_several_or_a_pair(model: Any, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model, classes=CLASSES, task="classification", provenance={})
    loaded = load_model(tmp_path / "model")
    assert len(loaded.predict("red")) == len(loaded.predict(("red", "square"))) == 1
    assert [each.label for each in loaded.predict(["red", "green"])] == [
        CLASSES[row] for row in eager(model, ["red", "green"]).argmax(1)
    ]
