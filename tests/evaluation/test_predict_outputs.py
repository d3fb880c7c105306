from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.evaluation import predict
from tutelage.export.predict import LoadedModel
from tutelage.ledger import Cost
from tutelage.models.model import Encoder, LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess


class Sees(Encoder):
    """Its features are the raw pixels' mean color; dropout tells whether it is in eval mode."""

    def __init__(self) -> None:
        super().__init__("sees", ImagePreprocess(4, (0, 0, 0), (1, 1, 1)), {"features": 3}, pretrained=False)
        self.dropout = nn.Dropout(0.5)

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        return Outputs(features=self.dropout(inputs.mean((2, 3))))


def model() -> Model:
    built = Model(Sees(), LinearHead(3, 2))
    nn.init.ones_(built.head.linear.weight)
    return built


def gray(count: int) -> Samples:
    """Sample i is gray of value i, with a white frame of two pixels around."""
    images = [
        np.pad(np.full((4, 4, 3), row, np.uint8), ((2, 2), (2, 2), (0, 0)), constant_values=255)
        for row in range(count)
    ]
    return Samples(tuple(str(row) for row in range(count)), images=images)


@pytest.mark.parametrize("count", [1, 3, 7, 8])
def test_every_sample_is_predicted_in_order_whatever_the_batches(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(predict, "BATCH", 3)
    found = predict.predict_outputs(model(), gray(count), size=4, crop=0.5, output="features")
    assert (found[:, 0] * 255).round().tolist() == list(range(count))


def test_the_crop_is_the_center_of_the_image() -> None:
    found = predict.predict_outputs(model(), gray(1), size=4, crop=1.0, output="features")
    assert found[0, 0].item() == pytest.approx(48 / 64, abs=0.02)


def test_logits_are_predicted_unless_asked_otherwise() -> None:
    assert predict.predict_outputs(model(), gray(5), size=4, crop=0.5).shape == (5, 2)


@pytest.mark.parametrize("training", [False, True])
def test_the_models_mode_is_what_it_was(training: bool) -> None:
    mine = model().train(training)
    predict.predict_outputs(mine, gray(2), size=4, crop=0.5)
    assert mine.training == mine.encoder.training == training


def test_predictions_need_no_gradient() -> None:
    assert not predict.predict_outputs(model(), gray(2), size=4, crop=0.5).requires_grad


def test_images_are_counted() -> None:
    cost = Cost()
    predict.predict_outputs(model(), gray(5), size=4, crop=0.5, cost=cost)
    assert cost.images == 5


@pytest.mark.parametrize("batch", [2, 100])
def test_flops_are_counted_for_all_samples(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(predict, "BATCH", batch)
    cost = Cost()
    predict.predict_outputs(model(), gray(5), size=4, crop=0.5, cost=cost)
    assert cost.flops == 5 * 2 * 3 * 2


class Flat(Encoder):
    """Its features are all pixels that it is given."""

    def __init__(self) -> None:
        preprocess = ImagePreprocess(6, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), crop=0.75)
        super().__init__("flat", preprocess, {"features": 108}, pretrained=False)

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        return Outputs(features=inputs.flatten(1))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 9), (40, 31), (64, 100)])
def test_samples_are_seen_as_the_finished_model_sees_them(height: int, width: int) -> None:
    # Also where images are much larger than views: what is measured is what is deployed.
    mine = Model(Flat(), LinearHead(108, 5)).eval()
    nn.init.normal_(mine.head.linear.weight)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    deployed: Tensor = LoadedModel(mine, tuple("abcde"), "classification").logits(pixels)
    found = predict.predict_outputs(mine, Samples(("a",), images=[pixels]), size=6, crop=0.75)
    torch.testing.assert_close(found, deployed, atol=1e-4, rtol=1e-4)


def test_samples_without_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        predict.predict_outputs(model(), Samples(("a",), texts=["a"]), size=4, crop=1.0)
