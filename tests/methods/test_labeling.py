"""Pseudo-labels: which there are, which are learned, and the table that keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.methods.tiny_jobs import TinyJob, tiny_job
from tests.training.tiny_models import tiny_model, tiny_samples

from tutelage.data.samples import Samples
from tutelage.errors import RunError
from tutelage.ledger import Cost
from tutelage.methods import labeling
from tutelage.methods.labeling import (
    PseudoLabels,
    agreement,
    counts,
    label_images,
    pseudo_labels,
    read_labels,
    unlabeled_rows,
)
from tutelage.progress import Quiet, Update

NAMES = ("a", "b", "c")

# Probabilities of three classes: sure of b, a tie of a and c, sure of a, undecided.
PROBABILITIES = torch.tensor([[0.1, 0.8, 0.1], [0.4, 0.2, 0.4], [0.9, 0.05, 0.05], [1 / 3, 1 / 3, 1 / 3]])
ROWS = np.array([2, 3, 5, 9])


def found(*, soft: bool = False) -> PseudoLabels:
    return pseudo_labels(ROWS, PROBABILITIES.double().log(), soft=soft)


def test_an_image_has_its_likeliest_class_and_of_equals_the_first() -> None:
    assert found().classes.tolist() == [1, 0, 0, 0]


def test_confidence_is_the_probability_of_that_class() -> None:
    assert found().confidence.tolist() == pytest.approx([0.8, 0.4, 0.9, 1 / 3])


@pytest.mark.parametrize(
    ("threshold", "rows"), [(0.0, [2, 3, 5, 9]), (0.35, [2, 3, 5]), (0.5, [2, 5]), (0.85, [5]), (0.95, [])]
)
def test_those_that_are_sure_enough_are_kept_in_order(threshold: float, rows: list[int]) -> None:
    assert found().at_least(threshold).rows.tolist() == rows


def test_a_confidence_of_the_threshold_is_enough() -> None:
    half = pseudo_labels(np.array([0]), torch.zeros(1, 2), soft=False)
    assert len(half.at_least(0.5)) == 1


def test_soft_labels_are_the_probabilities_of_all_classes() -> None:
    kept = found(soft=True).at_least(0.5)
    assert kept.shares is not None
    np.testing.assert_allclose(kept.shares, PROBABILITIES[[0, 2]], atol=1e-3)


@pytest.mark.parametrize("soft", [False, True])
def test_they_are_samples_with_the_task_s_classes(soft: bool) -> None:
    transfer = tiny_samples(12, labeled=False)
    labels = found(soft=soft).at_least(0.5)
    samples = labels.samples(transfer, NAMES)
    assert (samples.ids, samples.classes) == (("image-2", "image-5"), NAMES)
    assert samples.labels().tolist() == (labels.classes.tolist() if labels.shares is None else labels.shares.tolist())


def test_classes_are_counted_those_without_an_image_too() -> None:
    assert counts(found(), NAMES) == {"a": 3, "b": 1, "c": 0}


def test_agreement_is_the_share_of_images_that_have_the_same_class() -> None:
    one = found()
    assert agreement(one, replace(one, classes=np.array([1, 2, 0, 2]))) == 0.5


def test_images_that_are_labeled_ones_by_name_or_by_content_are_left_out() -> None:
    labeled = tiny_samples(4)
    every = tiny_samples(6, labeled=False)
    assert every.images is not None
    same, other = every.images[3].copy(), np.zeros((8, 8, 3), np.uint8)
    # The third is a copy under another name, and the fourth another image under a labeled one's name.
    images = [every.images[0], every.images[4], same, other]
    transfer = Samples(("image-0", "image-4", "copy", "image-1"), images=images)
    assert unlabeled_rows(transfer, labeled).tolist() == [1, 3]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyJob:
    """A transfer set of 12 images, 5 a part."""
    monkeypatch.setattr(labeling, "PART", 5)
    return tiny_job(tmp_path / "run", "pseudo-label")


def labeled(job: TinyJob, folder: Path, cost: Cost | None = None, *, soft: bool = False) -> PseudoLabels:
    folder.mkdir(exist_ok=True)
    return label_images(job, tiny_model(seed=2, dropout=0.5), np.arange(1, 12), folder, cost or Cost(), soft=soft)


@pytest.mark.parametrize("soft", [False, True])
def test_images_are_labeled_by_the_model_in_eval_mode(job: TinyJob, tmp_path: Path, soft: bool) -> None:
    model = tiny_model(seed=2, dropout=0.5)
    expected = job.predict(model, job.transfer, cost=Cost())[1:].double().softmax(1)
    labels = labeled(job, tmp_path / "labels", soft=soft)
    assert labels.rows.tolist() == list(range(1, 12))
    assert labels.classes.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(labels.confidence, expected.max(1).values, rtol=1e-5)
    assert (labels.shares is not None) == soft
    if labels.shares is not None:
        np.testing.assert_allclose(labels.shares, expected, atol=1e-3)


@pytest.mark.parametrize("soft", [False, True])
def test_labels_are_read_back(job: TinyJob, tmp_path: Path, soft: bool) -> None:
    labels, again = labeled(job, tmp_path / "labels", soft=soft), read_labels(tmp_path / "labels")
    for name in ("rows", "classes", "confidence", "shares"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(again, name))


def test_the_table_names_images_and_classes(job: TinyJob, tmp_path: Path) -> None:
    labels = labeled(job, tmp_path / "labels")
    table = pq.read_table(tmp_path / "labels" / "labels-00001.parquet")
    assert table.column_names == ["row", "id", "class", "confidence"]
    assert table["id"].to_pylist() == [f"image-{row}" for row in range(6, 11)]
    assert table["class"].to_pylist() == labels.classes[5:10].tolist()


def test_a_name_that_is_not_unicode_is_kept_as_far_as_it_is(job: TinyJob, tmp_path: Path) -> None:
    ids = ("caf\udce9", *job.transfer.ids[1:])
    labels = label_images(
        replace(job, transfer=replace(job.transfer, ids=ids)),
        tiny_model(),
        np.arange(2),
        tmp_path,
        Cost(),
        soft=False,
    )
    assert len(labels) == 2
    assert pq.read_table(tmp_path / "labels-00000.parquet")["id"].to_pylist() == ["caf?", "image-1"]


class StopAfter(Quiet):
    """Interrupts labeling once so many parts are done."""

    def __init__(self, parts: int) -> None:
        self.parts = parts

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if done == self.parts:
                raise KeyboardInterrupt

        yield update


def test_an_interrupted_labeling_goes_on_with_the_next_part(
    job: TinyJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cost = labeled(job, tmp_path / "whole"), Cost()
    with pytest.raises(KeyboardInterrupt):
        labeled(replace(job, progress=StopAfter(2)), tmp_path / "pieces")
    seen: list[str] = []
    real = TinyJob.predict

    def predict(self: TinyJob, model: object, samples: Samples, **how: object) -> torch.Tensor:
        seen.extend(samples.ids)
        return real(self, model, samples, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(TinyJob, "predict", predict)
    pieces = labeled(job, tmp_path / "pieces", cost)
    assert seen == ["image-11"]
    assert pieces.classes.tolist() == whole.classes.tolist()
    assert cost.images == 11
    assert 0 < cost.earlier <= cost.seconds


def test_a_damaged_part_is_told(job: TinyJob, tmp_path: Path) -> None:
    labeled(job, tmp_path / "labels")
    (tmp_path / "labels" / "labels-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"labels-00001\.parquet: damaged .*; remove its folder"):
        read_labels(tmp_path / "labels")
