"""Encoders of which one knows colors and one only makes noise, and pictures that colors tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tutelage.errors import ModelError
from tutelage.models.model import Encoder
from tutelage.models.outputs import Outputs
from tutelage.models.preprocess import ImagePreprocess, TextPreprocess
from tutelage.models.sources import SOURCES, Source

WIDTHS = {"color": 3, "other": 5, "noise": 6}


class Toy(Encoder):
    def __init__(self, name: str, size: int) -> None:
        preprocess: Any = TextPreprocess(name) if name == "text" else ImagePreprocess(size)
        super().__init__(f"toy:{name}", preprocess, {"features": WIDTHS.get(name, 3)}, pretrained=True)
        self.scale = nn.Parameter(torch.ones(3))
        self.kind = name

    def encode(self, inputs: Any, needs: Any) -> Outputs:
        means = inputs.mean((2, 3)) * self.scale
        if self.kind == "noise":  # a picture's own, and of no color
            return Outputs(features=torch.sin(3e4 * means.sum(1, keepdim=True) * torch.arange(1.0, 7.0)))
        if self.kind == "nan":
            return Outputs(features=means * torch.nan)
        padding = torch.ones(len(means), WIDTHS.get(self.kind, 3) - 3)
        return Outputs(features=torch.cat([means, padding], dim=1))


def add_toys(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """Add a source of toys; return a list that gets the name and size of each one that is built."""
    built: list[tuple[str, int | None]] = []

    def build(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> Encoder:
        assert pretrained
        built.append((identifier, size))
        if identifier == "huge":
            raise RuntimeError("not enough memory:\n you tried to allocate 9 TB")
        return Toy(identifier, size or 16)

    def check(identifier: str, *, pretrained: bool, size: int | None, stride: int | None = None) -> None:
        if identifier == "weightless":
            raise ModelError("toy:weightless has no pretrained weights")

    monkeypatch.setitem(SOURCES, "toy", Source("toys", build, check, lambda: [], lambda identifier: "image"))
    return built


def paint_colors(
    folder: Path, count: int, *, seed: int = 0, names: tuple[str, ...] = ("red", "green", "blue")
) -> Path:
    """Paint pictures of each color; another order of names gives them wrong labels."""
    generator = np.random.default_rng(seed)
    for color, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 120, (10, 10, 3))
            pixels[..., color] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder
