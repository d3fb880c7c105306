"""Models of images with texts as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.tiny_clips import tiny_clip
from tests.models.tiny_texts import save_family

from tutelage.errors import DataError
from tutelage.export import check_parity, export_onnx
from tutelage.export.exporter import Material
from tutelage.export.scoring import open_torch
from tutelage.export.torch_export import export_torch
from tutelage.models.model import LinearHead, Model
from tutelage.models.sources import build_encoder
from tutelage.runtime import Classifier

CLASSES = ("match", "mismatch")
TEXTS = ("red square", "blue", "green circle red red", "red")
SIZES = ((40, 40), (40, 40), (64, 20), (90, 100))


def build(kind: str, folder: Path) -> Any:
    """A model of random weights: two encoders, or the towers of a CLIP model."""
    text = tiny_clip() if kind == "clip" else save_family("bert", folder)
    name = f"pair:{text}" if kind == "clip" else f"pair:timm:test_efficientnet+{text}"
    encoder = build_encoder(name, pretrained=kind == "clip", size=32)
    torch.manual_seed(0)
    model: Any = Model(encoder, LinearHead(encoder.widths["features"], len(CLASSES))).eval()
    torch.nn.init.normal_(model.head.linear.weight)
    return model


@pytest.fixture(scope="module", params=["two", "clip"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build(request.param, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("pairs") / "model.onnx", classes=CLASSES, metadata={})


@pytest.fixture(scope="module")
def samples() -> list[tuple[Any, str]]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return list(zip(images, TEXTS, strict=True))


def test_the_file_agrees_with_the_model(model: Any, file: Path, samples: list[tuple[Any, str]]) -> None:
    assert check_parity(model, file, samples).relative < 1e-5


def test_torch_export_agrees_with_the_model(model: Any, samples: list[tuple[Any, str]], tmp_path: Path) -> None:
    path = export_torch(Material(model, CLASSES, {}), tmp_path)
    assert check_parity(model, path, samples, opener=open_torch).relative < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
def test_answers_keep_the_order_of_the_pairs(file: Path, samples: list[tuple[Any, str]], batch: int) -> None:
    found = Classifier(file).logits(samples, batch_size=batch)
    alone = np.concatenate([Classifier(file).logits([sample]) for sample in samples])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_image_and_text_both_count(file: Path, samples: list[tuple[Any, str]]) -> None:
    (image, text), (other, another) = samples[:2]
    found = Classifier(file).logits([(image, text), (other, text), (image, another)])
    assert np.abs(found[1:] - found[0]).max(axis=1).min() > 1e-4


def test_a_pair_that_lacks_either_is_told(file: Path, samples: list[tuple[Any, str]]) -> None:
    image, text = samples[0]
    answers = list(Classifier(file).answers([(image, text), (b"none", text), (image, " ")]))
    assert [answer.logits is None for answer in answers] == [False, True, True]


def test_images_alone_are_refused_in_words(file: Path) -> None:
    from tutelage.data.samples import Samples

    with pytest.raises(DataError, match="has no texts; this model reads images with a text each"):
        Classifier(file).given(Samples(("a",), images=[b""], origin="data"))
