"""What every exporter owes, checked the day it is added."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tutelage.export import EXPORTERS, Material
from tutelage.models.model import weight_hash


@pytest.fixture
def material(tiny, classes, pixels):
    """A model, with images of several sizes to calibrate with."""
    images = [pixels(30 + seed, 40, seed) for seed in range(4)]
    return Material(tiny(), classes, {"provenance": "{}"}, images)


def write(name: str, material: Material, folder: Path) -> Path:
    """Write a form as the export stage does: after the forms that it may be made from."""
    for earlier, exporter in EXPORTERS.items():
        if earlier in ("onnx", name):
            path = exporter.write(material, folder)
        if earlier == name:
            break
    return path


@pytest.mark.parametrize("name", EXPORTERS)
def test_it_leaves_the_file_that_it_names(name, material, tmp_path):
    path = write(name, material, tmp_path)
    assert path == tmp_path / EXPORTERS[name].file
    assert path.stat().st_size > 0
    assert {found.name for found in tmp_path.iterdir()} == {"model.onnx", path.name}


@pytest.mark.parametrize("name", EXPORTERS)
def test_it_is_silent(name, material, tmp_path, capfd, caplog):
    write(name, material, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("name", EXPORTERS)
def test_it_leaves_the_model_as_it_is(name, material, tmp_path):
    before = weight_hash(material.model), [module.training for module in material.model.modules()]
    write(name, material, tmp_path)
    assert (weight_hash(material.model), [module.training for module in material.model.modules()]) == before


@pytest.mark.parametrize("name", [name for name, exporter in EXPORTERS.items() if exporter.open])
def test_any_number_of_images_of_any_size_goes_at_once(name, material, tmp_path, pixels):
    score = EXPORTERS[name].open(write(name, material, tmp_path))
    for size in ((1, 1), (32, 32), (70, 41)):
        images = np.stack([pixels(*size, seed) for seed in range(3)])
        together = score(images)
        assert together.shape == (3, len(material.classes))
        alone = np.concatenate([score(image[None]) for image in images])
        np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())


def test_onnx_comes_first_for_those_that_are_made_from_it():
    assert next(iter(EXPORTERS)) == "onnx"
