"""A transfer set that was curated, as what a run distils on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tutelage.curation.transfer_set import TransferSet, write_transfer_set

if TYPE_CHECKING:
    from conftest import Command

MODELS = ("--student", "timm:lcnet_050", "--teacher", "bundled:efficientnet-lite0")


@pytest.fixture
def curated(tmp_path: Path, flowers: Path) -> str:
    """Three crops of two images, and a query; the gallery is the digits."""
    nothing = np.full(4, np.nan, np.float32)
    found = TransferSet(
        ("digits/0003", "digits/0005", "digits/0003", "rose/1.png"),
        ("digits", "digits", "digits", "flowers"),
        np.array([True, True, True, False]),
        np.array([0, 4, 1, -1]),
        np.array([[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 0.5], [0, 0, 1, 0.5], [0, 0, 1, 1]], np.float32),
        np.array([0, 1, 2, -1]),
        ("rose/1.png", "rose/1.png", "rose/1.png", None),
        nothing,
        {},
        np.zeros(4, dtype=bool),
        {"gallery": "digits", "strategy": "query-balanced"},
    )
    write_transfer_set(tmp_path / "transfer.parquet", found)
    return "transfer.parquet"


def test_check_counts_the_items_of_a_transfer_set(tutelage: Command, curated: str) -> None:
    ended = tutelage("transfer", "--labeled", "flowers", "--transfer", curated, *MODELS, "--check", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["images"]["transfer"] == 4
    assert found["recipe"]["views"]["student_size"] == 32


def test_crops_of_test_images_are_dropped(tutelage: Command, curated: str, flowers: Path) -> None:
    """The query is one of the test images here, whatever the transfer set was curated for."""
    (flowers.parent / "test" / "rose").mkdir(parents=True)
    (flowers.parent / "test" / "rose" / "1.png").write_bytes((flowers / "rose" / "1.png").read_bytes())
    arguments = ("--labeled", "flowers", "--test", "test", "--transfer", curated, *MODELS)
    counts = json.loads(tutelage("transfer", *arguments, "--check", "--json").out)["images"]
    assert (counts["transfer"], counts["dropped"]["transfer"]) == (3, 1)


def test_check_tells_that_the_gallery_is_gone(tutelage: Command, curated: str, flowers: Path) -> None:
    flowers.rename(flowers.with_name("moved"))
    ended = tutelage("transfer", "--labeled", "moved", "--transfer", curated, *MODELS, "--check")
    assert ended.code == 2
    assert "transfer.parquet: has images of flowers, which cannot be read here" in ended.err
