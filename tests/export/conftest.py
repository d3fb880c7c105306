from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch

from tutelage.models.model import Encoder, Head, LinearHead, Model
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess

CLASSES = ("cat", "dog", "Käse|brot", 'quote "x"')


class TinyEncoder(Encoder):
    def __init__(self, name: str, preprocess: ImagePreprocess) -> None:
        resized = {"img_size": preprocess.size} if "vit" in name and "fast" not in name else {}
        net = timm.create_model(name, num_classes=0, **resized)
        width = getattr(net, "head_hidden_size", net.num_features)
        super().__init__(f"timm:{name}", preprocess, {"features": width}, pretrained=False)
        self.net = net

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        return Outputs(features=self.net(inputs))


def build(name: str = "test_efficientnet", seed: int = 0, **preprocess: Any) -> Model:
    """A model of random weights in train mode; its BatchNorm statistics are not those of initialization."""
    torch.manual_seed(seed)
    encoder = TinyEncoder(name, ImagePreprocess(**{"size": 32, **preprocess}))
    model = Model(encoder, LinearHead(encoder.widths["features"], len(CLASSES)))
    torch.nn.init.normal_(model.head.linear.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    return model


class TinyDenseEncoder(Encoder):
    """Patches of 8 pixels that see their neighbors, also those in the padding."""

    def __init__(self, preprocess: ImagePreprocess) -> None:
        super().__init__("timm:tiny", preprocess, {"features": 8, "patches": 8}, pretrained=False)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 5, 4, 2), torch.nn.BatchNorm2d(8)
        )

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        patches = self.net(inputs)
        return Outputs(features=patches.mean((2, 3)), patches=patches)


class TinyDenseHead(Head):
    reads = "patches"

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classifier = torch.nn.Conv2d(width, classes, 1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.classifier(patches)


def build_dense(head: type[Head] = TinyDenseHead, classes: int = len(CLASSES), **preprocess: Any) -> Model:
    """A model of random weights that tells every pixel, and tells them differently."""
    torch.manual_seed(0)
    model = Model(
        TinyDenseEncoder(ImagePreprocess(**{"size": 64, "fit": "letterbox", **preprocess})), head(8, classes)
    )
    torch.nn.init.normal_(model.head.classifier.weight)
    return model


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Model]:
    return build


@pytest.fixture(scope="session")
def dense() -> Callable[..., Model]:
    return build_dense


@pytest.fixture(scope="session")
def pixels() -> Callable[..., np.ndarray]:
    return photo


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
