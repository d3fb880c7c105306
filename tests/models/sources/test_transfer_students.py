"""The students of Adaptive Feature Transfer's source, with random weights."""

from __future__ import annotations

import pytest
import torch

from tutelage.models import LinearHead, Model, build_encoder, parameter_count

VIT, MIXER, RESNET = "timm:vit_small_patch16_224", "timm:mixer_b16_224", "timm:resnet50"

# timm lists 22.05, 59.88 and 25.56 M with a classifier of 1,000 classes, which has 385,000, 769,000 and 2,049,000.
PARAMETERS = {VIT: 21_665_664, MIXER: 59_111_472, RESNET: 23_508_032}
WIDTHS = {VIT: 384, MIXER: 768, RESNET: 2048}
SIZES = {VIT: 32, MIXER: 64, RESNET: 32}


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):  # nothing is allocated
        encoder = build_encoder(name, pretrained=False, size=224)
    assert parameter_count(encoder) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_loss_on_features_and_logits_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, pretrained=False, size=SIZES[name])
    model = Model(encoder, LinearHead(WIDTHS[name], 10)).train()
    outputs = model(torch.rand(2, 3, SIZES[name], SIZES[name]), frozenset({"features", "logits"}))
    features = outputs.require("features")
    assert features.shape == (2, WIDTHS[name])
    torch.autograd.backward(features.square().mean() + outputs.require("logits").square().mean())
    found = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in found.values())
