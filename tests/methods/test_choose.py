from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.data.samples import Samples
from tutelage.ledger import Cost
from tutelage.methods import Job
from tutelage.methods.choose import Candidate, Choice, judge, ranked
from tutelage.progress import Quiet
from tutelage.run import Run
from tutelage.store.packs import Packs
from tutelage.tasks import Classification
from tutelage.training.distributed import World


def choice(name: str, accuracy: float, nll: float) -> Choice:
    return Choice(name, "group", "raw", {"accuracy": accuracy, "nll": nll})


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_most_accurate_is_first_and_likelihood_breaks_ties(order) -> None:
    choices = [choice("best", 0.9, 2.0), choice("likelier", 0.8, 0.5), choice("less likely", 0.8, 0.6)]
    found = ranked(Classification(), [choices[number] for number in order])
    assert [each.candidate for each in found] == ["best", "likelier", "less likely"]


def test_of_equals_the_first_stays_first() -> None:
    found = ranked(Classification(), [choice("first", 0.8, 0.5), choice("second", 0.8, 0.5)])
    assert [each.candidate for each in found] == ["first", "second"]


def labeled(count: int, name: str = "labeled") -> Samples:
    ids = tuple(f"{name}-{number}" for number in range(count))
    return Samples(ids, texts=ids, targets=np.arange(count) % 2, classes=("a", "b"))


def job(tmp_path: Path, validation: Samples | None = None) -> Job:
    recipe: Any = SimpleNamespace(seed=0, choosing={"most": 3})
    world = World(torch.device("cpu"))
    return Job(
        recipe,
        Classification(),
        labeled(12),
        validation,
        labeled(1),
        Run(tmp_path),
        world,
        Quiet(),
        Packs(tmp_path, 0, (), Quiet()),
    )


class Knows:
    """Predicts a share of the held-out labels rightly; remembers the splits that it saw."""

    def __init__(self, wrong: int) -> None:
        self.wrong = wrong
        self.splits: list[tuple[Samples, Samples]] = []

    def __call__(self, split, checkpoint):
        self.splits.append(split)
        targets = torch.from_numpy(split[1].labels()).clone()
        targets[: self.wrong] = 1 - targets[: self.wrong]
        return {"raw": 4.0 * torch.eye(2)[targets]}, Cost(images=10, flops=100.0)


def candidate(knows: Knows, name: str = "one") -> Candidate:
    return Candidate(name, "group", knows)


def test_given_validation_data_are_the_only_split(tmp_path: Path) -> None:
    validation = labeled(5, "validation")
    ((fit, held),) = job(tmp_path, validation).splits()
    assert (len(fit), held) == (12, validation)


def test_without_validation_data_every_label_is_held_out_once(tmp_path: Path) -> None:
    held = [name for _, part in job(tmp_path).splits() for name in part.ids]
    assert sorted(held) == sorted(labeled(12).ids)


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    splits = job(tmp_path).splits()
    assert len(splits) == 3
    assert all(not set(fit.ids) & set(held.ids) for fit, held in splits)


def test_metrics_are_those_of_all_held_out_labels(tmp_path: Path) -> None:
    # One of four wrong in each of three folds.
    (found,) = judge(job(tmp_path), [candidate(Knows(1))], tmp_path, Cost())
    assert found.metrics["accuracy"] == pytest.approx(9 / 12)


def test_the_better_candidate_is_first(tmp_path: Path) -> None:
    candidates = [candidate(Knows(2), "worse"), candidate(Knows(0), "better")]
    assert judge(job(tmp_path), candidates, tmp_path, Cost())[0].candidate == "better"


def test_what_was_judged_is_not_judged_again(tmp_path: Path) -> None:
    judge(job(tmp_path), [candidate(Knows(1))], tmp_path, Cost())
    again = Knows(1)
    judge(job(tmp_path), [candidate(again)], tmp_path, Cost())
    assert again.splits == []


def test_what_was_judged_before_is_found_as_it_was(tmp_path: Path) -> None:
    first = judge(job(tmp_path), [candidate(Knows(1))], tmp_path, Cost())
    assert judge(job(tmp_path), [candidate(Knows(0))], tmp_path, Cost()) == first


def test_images_and_flops_of_earlier_attempts_count(tmp_path: Path) -> None:
    first, second = Cost(), Cost()
    judge(job(tmp_path), [candidate(Knows(1))], tmp_path, first)
    judge(job(tmp_path), [candidate(Knows(1))], tmp_path, second)
    assert (second.images, second.flops) == (first.images, first.flops) == (30, 300.0)


def test_seconds_count_if_they_are_those_of_earlier_attempts(tmp_path: Path) -> None:
    # Those of this attempt are measured around it.
    first, second = Cost(), Cost()
    judge(job(tmp_path), [candidate(Knows(1))], tmp_path, first)
    assert first.seconds == 0.0
    judge(job(tmp_path), [candidate(Knows(1))], tmp_path, second)
    kept = json.loads((tmp_path / "judged-one.json").read_text())
    assert second.seconds == kept["cost"]["seconds"] > 0
