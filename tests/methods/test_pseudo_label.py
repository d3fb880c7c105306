"""Learning from pseudo-labels in rounds: from where, from what, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run
from tests.training.tiny_models import tiny_samples

from tutelage.checks import check
from tutelage.data.samples import Samples
from tutelage.errors import DataError
from tutelage.ledger import Cost
from tutelage.methods import fit, rounds
from tutelage.methods.labeling import read_labels
from tutelage.methods.pseudo_label import check_unlabeled, found_in_rounds, round_students
from tutelage.methods.rounds import Round
from tutelage.pipeline import run, run_method
from tutelage.progress import Quiet, Update
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage
from tutelage.training import loop
from tutelage.training.loop import Trained, train

State = Mapping[str, torch.Tensor]

LABELS, TRANSFER = 6, 15
"""The labeled images are among the transfer images; nine are left to label."""


def in_rounds(folder: Path, method: str = "pseudo-label", **how: Any) -> dict[str, Stage]:
    return tiny_run(folder, method, **{"labels": LABELS, "transfer": TRANSFER, **how})


def student(stage: Stage) -> State:
    return load_file(stage.folder / "student.safetensors")


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@dataclass(frozen=True)
class Training:
    """A training as it began: the model's weights, and what it is to learn from."""

    start: State
    samples: Samples
    rate: float
    steps: int


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """All trainings on labels, in order."""
    seen: list[Training] = []

    def watched(phase: Any, model: Any, **how: Any) -> Trained:
        start = {key: value.detach().clone() for key, value in model.state_dict().items()}
        seen.append(Training(start, phase.loader.samples, phase.schedule.learning_rate, phase.schedule.steps))
        return train(phase, model, **how)

    for module in (fit, rounds):
        monkeypatch.setattr(module, "train", watched)
    return seen


@pytest.mark.parametrize("method", ["pseudo-label", "pseudo-label-supervised", "pseudo-label-dino"])
def test_every_round_starts_from_the_same_weights(tmp_path: Path, trainings: list[Training], method: str) -> None:
    stages = in_rounds(tmp_path / "run", method, pseudo_label__rounds=3)
    assert len(trainings) > 3
    assert all(equal(each.start, trainings[0].start) for each in trainings)
    before = {"pseudo-label-supervised": "pretrain", "pseudo-label-dino": "self-distill"}.get(method)
    fresh = tiny_job(tmp_path / "fresh", method).new_student().state_dict()
    assert equal(trainings[0].start, fresh if before is None else student(stages[before]))


@pytest.mark.parametrize(("count", "names"), [(2, ["train-2"]), (3, ["train-2", "train-3"])])
def test_there_are_as_many_rounds_as_asked_for(tmp_path: Path, count: int, names: list[str]) -> None:
    stages = in_rounds(tmp_path, pseudo_label__rounds=count)
    assert [name for name in stages if name.startswith("train-")] == names
    assert round_students(stages) == [stages[name] for name in ("finetune", *names)]


def test_a_method_without_rounds_has_none(tmp_path: Path) -> None:
    assert round_students(tiny_run(tmp_path, "scratch")) == []


def test_labels_and_pseudo_labels_are_learned_together(tmp_path: Path, trainings: list[Training]) -> None:
    stages = in_rounds(tmp_path)
    last, labeled, known = trainings[-1].samples, tiny_samples(LABELS), read_labels(stages["label-2"].folder)
    assert last.ids == tuple(f"image-{row}" for row in range(TRANSFER))
    assert last.labels()[:LABELS].tolist() == labeled.labels().tolist()
    assert known.rows.tolist() == list(range(LABELS, TRANSFER))
    assert last.labels()[LABELS:].tolist() == known.classes.tolist()
    assert last.classes == labeled.classes


def test_labels_that_judge_a_round_are_not_learned_in_it(tmp_path: Path, trainings: list[Training]) -> None:
    in_rounds(tmp_path)
    judged, last = (each.samples for each in trainings[-2:])
    held = set(last.ids) - set(judged.ids)
    assert len(held) == LABELS // 2
    assert held < {f"image-{row}" for row in range(LABELS)}


@pytest.mark.parametrize(("folds", "count"), [(1, 1), (2, 2), (5, 2)])
def test_each_fold_that_judges_takes_a_training(
    tmp_path: Path, trainings: list[Training], folds: int, count: int
) -> None:
    in_rounds(tmp_path, pseudo_label__folds=folds, finetune__modes=["finetune"])
    first = 2 + 1  # two folds, then all labels
    assert len(trainings) == first + count + 1


def test_with_validation_data_and_one_rate_nothing_is_trained_twice(
    tmp_path: Path, trainings: list[Training]
) -> None:
    validation = tiny_samples(20).subset(np.arange(15, 20))
    stages = in_rounds(tmp_path, validation=validation, finetune__modes=["finetune"])
    assert len(trainings) == 2 + 1  # the first round judges, then trains
    assert {each["variant"] for each in stages["train-2"].results["judged"]} == {"raw", "average"}


def test_rates_are_chosen_where_several_are_given(tmp_path: Path, trainings: list[Training]) -> None:
    stages = in_rounds(tmp_path, pseudo_label__learning_rates=[1e-3, 3e-2])
    found = stages["train-2"].results
    assert {each["candidate"] for each in found["judged"]} == {"finetune-0.001", "finetune-0.03"}
    assert found["chosen"] == found["judged"][0]
    assert found["chosen"]["candidate"] == f"finetune-{trainings[-1].rate:g}"


def test_the_rate_is_the_one_that_was_best_in_finetuning_the_whole_student(
    tmp_path: Path, trainings: list[Training]
) -> None:
    stages = in_rounds(tmp_path, finetune__learning_rates=[1e-3, 3e-2], finetune__modes=["finetune", "probe"])
    judged = stages["finetune"].results["judged"]
    best = next(each["candidate"] for each in judged if each["group"] == "finetune")
    assert f"finetune-{trainings[-1].rate:g}" == best


def test_training_is_as_long_as_so_many_passes_over_all_that_is_learned(
    tmp_path: Path, trainings: list[Training]
) -> None:
    in_rounds(tmp_path, pseudo_label__epochs=3, pseudo_label__batch_size=4)
    assert trainings[-1].steps == 3 * (TRANSFER // 4)


def test_the_student_of_the_round_before_labels(tmp_path: Path) -> None:
    stages = in_rounds(tmp_path / "run", pseudo_label__rounds=3, pseudo_label__epochs=8)
    job = tiny_job(tmp_path / "again", "pseudo-label", labels=LABELS, transfer=TRANSFER)
    for number, made_by in ((2, "finetune"), (3, "train-2")):
        model = job.new_student()
        model.load_state_dict(student(stages[made_by]))
        logits = job.predict(model, job.transfer, cost=Cost())[LABELS:]
        assert read_labels(stages[f"label-{number}"].folder).classes.tolist() == logits.argmax(1).tolist()


def test_soft_labels_are_learned_as_shares(tmp_path: Path, trainings: list[Training]) -> None:
    stages = in_rounds(tmp_path / "soft", pseudo_label__soft=True)
    learned = trainings[-1].samples.labels()
    known = read_labels(stages["label-2"].folder)
    assert learned[:LABELS].tolist() == np.eye(3)[tiny_samples(LABELS).labels()].tolist()
    np.testing.assert_array_equal(learned[LABELS:], known.shares)
    assert not equal(student(stages["train-2"]), student(in_rounds(tmp_path / "hard")["train-2"]))


def test_a_threshold_leaves_out_what_is_not_sure(tmp_path: Path, trainings: list[Training]) -> None:
    confidence = np.sort(read_labels(in_rounds(tmp_path / "all")["label-2"].folder).confidence)
    stages = in_rounds(tmp_path / "some", pseudo_label__threshold=float(confidence[4] + confidence[5]) / 2)
    found = stages["label-2"].results
    assert (found["images"], found["kept"]) == (9, 4)
    assert sum(found["classes"].values()) == 4
    assert len(trainings[-1].samples) == LABELS + 4


def test_a_threshold_that_leaves_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pseudo_label\.threshold=1: none of 9 pseudo-labels is that sure, .*lower"):
        in_rounds(tmp_path, pseudo_label__threshold=1.0)


class Heard(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_classes_that_no_image_is_taken_for_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    how: dict[str, Any] = {"labels": LABELS, "transfer": TRANSFER, "finetune__modes": ["finetune"]}
    job = tiny_job(tmp_path, "pseudo-label", progress=heard, **how)
    real = type(job).predict
    only_b = torch.tensor([0.0, 5.0, 0.0])
    monkeypatch.setattr(type(job), "predict", lambda *each, **how: 0 * real(*each, **how) + only_b)
    found = run_method(job)["label-2"].results
    assert found["missing"] == ["a", "c"]
    assert found["classes"] == {"a": 0, "b": 9, "c": 0}
    assert heard.lines == ["round 2: 9 of 9 pseudo-labels are learned; none of class a, c"]


def test_where_every_image_is_labeled_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every transfer image is a labeled one"):
        in_rounds(tmp_path, transfer=LABELS)


def test_what_each_round_found_is_told(tmp_path: Path) -> None:
    stages = in_rounds(tmp_path, pseudo_label__rounds=3)
    first, second, third = found_in_rounds(stages)
    assert [each["round"] for each in (first, second, third)] == [1, 2, 3]
    assert first["learned"] is None
    assert second["learned"]["agreement"] is None
    before, after = (read_labels(stages[f"label-{number}"].folder).classes for number in (2, 3))
    assert third["learned"]["agreement"] == pytest.approx((before == after).mean())
    assert third["val"] == stages["train-3"].results["chosen"]["metrics"]


class StopIn(Quiet):
    """Interrupts a piece of work after a step."""

    def __init__(self, label: str, step: int) -> None:
        self.label, self.step = label, step

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Update]:
        def update(done: int, numbers: Mapping[str, float]) -> None:
            if (label, done) == (self.label, self.step):
                raise KeyboardInterrupt

        yield update


@pytest.mark.parametrize(
    ("label", "step"), [("label the unlabeled images", 1), ("train round 2", 3), ("train round 3", 1)]
)
def test_an_interrupted_round_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, step: int
) -> None:
    whole = in_rounds(tmp_path / "whole", pseudo_label__rounds=3)
    assert train.__kwdefaults__ is not None
    monkeypatch.setitem(train.__kwdefaults__, "every", 0.0)
    with pytest.raises(KeyboardInterrupt):
        in_rounds(tmp_path / "pieces", pseudo_label__rounds=3, progress=StopIn(label, step))
    pieces = in_rounds(tmp_path / "pieces", pseudo_label__rounds=3)
    assert pieces["finetune"].reused
    for name in ("train-2", "train-3"):
        assert equal(student(whole[name]), student(pieces[name]))
        assert whole[name].cost["images"] == pieces[name].cost["images"]


@pytest.mark.parametrize(("method", "fold"), [("pseudo-label", 0), ("scratch", 0), ("scratch", 1)])
def test_an_interrupted_training_that_judges_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, fold: int
) -> None:
    last = {"pseudo-label": "train-2", "scratch": "finetune"}[method]
    whole = in_rounds(tmp_path / "whole", method, finetune__epochs=6)
    assert train.__kwdefaults__ is not None
    monkeypatch.setitem(train.__kwdefaults__, "every", 0.0)
    save = loop.save_checkpoint

    def stop(path: Path, state: Any) -> None:
        save(path, state)
        if path.parent.name.endswith(last) and path.name.endswith(f"-{fold}.checkpoint") and state["done"] == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            in_rounds(tmp_path / "pieces", method, finetune__epochs=6)
    steps: list[int] = []

    def after(path: Path, state: Any) -> None:
        save(path, state)
        if path.name.endswith(f"-{fold}.checkpoint"):
            steps.append(state["done"])

    monkeypatch.setattr(loop, "save_checkpoint", after)
    pieces = in_rounds(tmp_path / "pieces", method, finetune__epochs=6)
    assert steps[0] == 4
    assert pieces[last].results == whole[last].results
    assert equal(student(pieces[last]), student(whole[last]))


def test_the_same_recipe_learns_the_same_in_the_same_order(tmp_path: Path, trainings: list[Training]) -> None:
    one, other = (in_rounds(tmp_path / name) for name in ("one", "other"))
    half = len(trainings) // 2
    assert [each.samples.ids for each in trainings[:half]] == [each.samples.ids for each in trainings[half:]]
    assert equal(student(one["train-2"]), student(other["train-2"]))


def test_images_of_both_parts_are_packed(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "pseudo-label", labels=LABELS, transfer=TRANSFER)
    pseudo = job.transfer.subset(np.arange(LABELS, TRANSFER))
    pseudo = replace(pseudo, targets=np.zeros(len(pseudo), dtype=np.int64), classes=job.labeled.classes)
    model = job.new_student()
    trained = Round(job, model, model.state_dict(), pseudo).train(1e-3, job.labeled, tmp_path / "checkpoint")
    assert trained.cost.images == job.recipe.pseudo_label.epochs * (TRANSFER // 4) * 4
    assert len(list(tmp_path.glob("**/packs-*"))) == 1


def on_digits(rounds: int, **changes: Any) -> Any:
    settings = {
        "data": {"labeled": "digits", "labels": 10, "test": "80%"},
        "student": "timm:test_efficientnet",
        "method": "pseudo-label",
        "start": "random",
        "folds": 2,
        "device": "cpu",
        "views": {"student_size": 32},
        "finetune": {"epochs": 10, "learning_rates": [1e-2], "modes": ["finetune"]},
        "pseudo_label": {"epochs": 2, "batch_size": 16, "rounds": rounds},
        "store": {"folder": "run"},
    }
    return make_recipe(settings, {key.replace("__", "."): value for key, value in changes.items()})


def test_a_run_on_digits_goes_on_with_another_round(tmp_path: Path) -> None:
    first = run(on_digits(2), tmp_path / "run")
    found = first.data["rounds"]
    assert [each["round"] for each in found] == [1, 2]
    counts = first.data["images"]
    assert found[1]["learned"]["images"] == found[1]["learned"]["kept"] == counts["transfer"] - counts["labeled"]
    assert first.metrics["test"]["accuracy"] > 0.2  # chance is a tenth
    again = run(on_digits(3), tmp_path / "run")
    reused = {stage.name for stage in again.stages if stage.reused}
    assert reused == {"data", "finetune", "label-2", "train-2"}
    assert again.data["rounds"][:2] == found
    assert again.data["rounds"][2]["learned"]["agreement"] > 0.1
    assert "What it took unlabeled images for" in (tmp_path / "run" / "report.html").read_text()


def test_digits_that_are_all_labeled_are_told_before_the_run() -> None:
    with pytest.raises(DataError, match="every transfer image is a labeled one"):
        check(on_digits(2, data__labels="all"))


def test_labeled_images_alone_are_nothing_to_label() -> None:
    check_unlabeled(tiny_samples(7, labeled=False), tiny_samples(6))
    with pytest.raises(DataError, match="every transfer image"):
        check_unlabeled(tiny_samples(6, labeled=False), tiny_samples(6))
