from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.errors import ModelError
from tutelage.models.weights import load_weights, save_weights


def net(width: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_weights(tmp_path / "w.safetensors", net().state_dict())
    return tmp_path / "w.safetensors"


def test_weights_come_back_as_they_were(path: Path) -> None:
    other = net(seed=1)
    load_weights(path, other)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in net().state_dict().items())


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    weight = torch.arange(4.0)
    save_weights(tmp_path / "w", {"a": weight, "b": weight, "c": weight[1:3]})
    holder = nn.ParameterDict({"a": torch.zeros(4), "b": torch.zeros(4), "c": torch.zeros(2)})
    load_weights(tmp_path / "w", holder)
    assert [value.tolist() for value in holder.values()] == [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2]]


def test_channels_last_weights_come_back_in_their_order(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", net().to(memory_format=torch.channels_last).state_dict())
    other = net(seed=1)
    load_weights(tmp_path / "w", other)
    assert torch.equal(other[0].weight, net()[0].weight)


def test_missing_weights_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing"):
        load_weights(tmp_path / "none", net())


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_weights_that_were_cut_short_are_reported(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_weights(path, net())


@pytest.mark.parametrize(
    "other", [net(4), nn.Linear(2, 3), nn.Sequential(net()[0]), nn.Sequential(*net(), nn.Linear(1, 1))]
)
def test_weights_of_another_model_are_refused(path: Path, other: nn.Module) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        load_weights(path, other)
