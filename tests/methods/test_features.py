"""Teachers' features of the labeled images: stored once, found by image and view, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.methods.tiny_jobs import tiny_job
from tests.training.tiny_models import WIDTH

from tutelage.data.batch import DEFAULT_GROUP, Batch
from tutelage.methods.features import NOISE, Noise, StoredFeatures, features, stored_features
from tutelage.methods.job import Job
from tutelage.training.phase import TargetSource

TWO = ["timm:test_efficientnet", "timm:test_vit"]
NEEDS = frozenset({"features"})


def stored(folder: Path, **changes: Any) -> tuple[Job, StoredFeatures]:
    job = tiny_job(folder, "aft", **{"teacher": TWO, "regularize__views": 2, **changes})
    return job, stored_features(job, {"features": features(job, {})})


def read(source: TargetSource, batch: Batch) -> torch.Tensor:
    return source(batch, (DEFAULT_GROUP,), NEEDS)[DEFAULT_GROUP].require("features")


def test_features_are_those_of_each_teacher_for_the_view_at_hand(tmp_path: Path) -> None:
    job, found = stored(tmp_path)
    for batch in (*job.loader(job.labeled, 4, views=2, mixed=False).batches(0, 6),):
        for name in TWO:
            teacher = job.new_teacher(name).eval()
            with torch.no_grad():
                live = teacher(batch.inputs[DEFAULT_GROUP], NEEDS).require("features")
            torch.testing.assert_close(read(found.stored[name], batch), live, rtol=2e-3, atol=2e-3)


def test_some_of_the_images_bring_their_own_features(tmp_path: Path) -> None:
    job, found = stored(tmp_path, regularize__noise=3)
    rows = np.array([9, 2, 5, 7])
    few = job.labeled.subset(rows)
    whole = next(job.loader(job.labeled, 12, views=2, mixed=False).view(1, np.arange(12)))
    for batch in job.loader(few, 2, views=2, mixed=False).view(1, np.arange(4)):
        for name, source in found.of(few).items():
            places = [int(np.flatnonzero(whole.indices.numpy() == rows[row])[0]) for row in batch.indices.tolist()]
            assert torch.equal(read(source, batch), read(found.stored[name], whole)[places])


def test_noise_comes_after_the_teachers(tmp_path: Path) -> None:
    assert stored(tmp_path, regularize__noise=3)[1].widths == {TWO[0]: WIDTH, TWO[1]: WIDTH, NOISE: 3}


def test_noise_is_the_same_in_every_view(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "aft")
    noise, loader = Noise(job.labeled, 3, seed=0), job.loader(job.labeled, 12, mixed=False)
    first, second = (next(loader.view(number, np.arange(12))) for number in (0, 1))
    assert torch.equal(read(noise, first)[first.indices.argsort()], read(noise, second)[second.indices.argsort()])


def test_noise_is_standard_normal(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "aft")
    batch = next(job.loader(job.labeled, 12, mixed=False).view(0, np.arange(12)))
    values = read(Noise(job.labeled, 4096, seed=0), batch)
    assert float(values.mean()) == pytest.approx(0, abs=0.02)
    assert float(values.std()) == pytest.approx(1, abs=0.02)
    assert float(torch.corrcoef(values).fill_diagonal_(0).abs().max()) < 0.1


def test_what_is_stored_is_not_made_again(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    first, second = (tiny_job(tmp_path / name, "aft", teacher=TWO, store=store) for name in ("one", "other"))
    made, found = features(first, {}), features(second, {})
    assert not any(each["reused"] for each in made.results["stored"].values())
    assert all(each["reused"] for each in found.results["stored"].values())
    assert made.cost["flops"] == found.cost["flops"] > 0


def test_two_teachers_share_what_is_stored_with_each_alone(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    features(tiny_job(tmp_path / "one", "aft", teacher=TWO[0], store=store), {})
    both = features(tiny_job(tmp_path / "both", "aft", teacher=TWO, store=store), {})
    assert [both.results["stored"][name]["reused"] for name in TWO] == [True, False]


def test_a_stage_names_its_teachers(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "aft", teacher=TWO)
    assert len(features(job, {}).results["teachers"]) == 2


def test_other_views_are_another_stage(tmp_path: Path) -> None:
    plain, flipped = (
        features(tiny_job(tmp_path / str(flip), "aft", views__policy={"crop": [0.5, 1.0], "flip": flip}), {})
        for flip in (0.0, 0.5)
    )
    assert plain.fingerprint != flipped.fingerprint
