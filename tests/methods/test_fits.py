"""The last finetuning in its two modes, the teacher's adaptation in them, and what judges without either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run
from tests.training.tiny_models import CLASSES, WIDTH, tiny_samples

from tutelage.ledger import Cost
from tutelage.methods import fit
from tutelage.methods.adapt import adapt
from tutelage.methods.finetune import FinetuneSettings
from tutelage.methods.probe import cache_features, fit_probe
from tutelage.run import Stage


def weights(stage: Stage, name: str = "student") -> dict[str, torch.Tensor]:
    return load_file(stage.folder / f"{name}.safetensors")


def changed(folder: Path, **settings: Any) -> set[str]:
    """Which parts of the student finetuning from scratch has moved."""
    start = tiny_job(folder / "start", "scratch").new_student().state_dict()
    found = weights(tiny_run(folder / "run", "scratch", **settings)["finetune"])
    assert found.keys() == start.keys()
    return {key.partition(".")[0] for key in start if not torch.equal(start[key], found[key])}


def test_the_optimizer_is_as_the_settings_say() -> None:
    settings = FinetuneSettings(epochs=2, weight_decay=0.0, warmup=0.2, clip=None)
    schedule = settings.schedule(1e-4, 640)
    assert (schedule.weight_decay, schedule.warmup, schedule.clip) == (0.0, 0.2, None)


def test_a_usual_optimizer_leaves_fingerprints_as_they_were() -> None:
    assert FinetuneSettings().model_dump().keys().isdisjoint(fit.OPTIMIZER)


@pytest.mark.parametrize(("name", "value"), [("weight_decay", 0.0), ("warmup", 0.0), ("clip", None)])
def test_another_optimizer_is_written_down(name: str, value: object) -> None:
    assert FinetuneSettings(**{name: value}).model_dump()[name] == value  # type: ignore[arg-type]


def test_head_only_finetuning_leaves_the_encoder_as_it_was(tmp_path: Path) -> None:
    assert changed(tmp_path, finetune__modes=["probe"]) == {"head"}


def test_finetuning_moves_both(tmp_path: Path) -> None:
    assert changed(tmp_path, finetune__modes=["finetune"]) == {"encoder", "head"}


@pytest.mark.parametrize(
    ("chosen", "rate", "moved"), [("probe", 1e-9, {"head"}), ("finetune", 0.03, {"encoder", "head"})]
)
def test_the_mode_that_was_chosen_makes_the_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, rate: float, moved: set[str]
) -> None:
    if chosen == "finetune":  # beside a probe that has learned nothing
        monkeypatch.setattr(fit, "fit_probe", lambda *_, penalty: (torch.zeros(CLASSES, WIDTH), torch.zeros(CLASSES)))
    settings: dict[str, Any] = {
        "validation": tiny_samples(),  # the labeled images: these pixels have nothing else to learn
        "finetune__modes": ["finetune", "probe"],
        "finetune__epochs": 60,
        "finetune__learning_rates": [rate],
        "finetune__penalties": [1e-4],
    }
    assert changed(tmp_path, **settings) == moved
    results = tiny_run(tmp_path / "run", "scratch", **settings)["finetune"].results
    assert {each["group"] for each in results["judged"]} == {"finetune", "probe"}
    assert results["chosen"]["group"] == chosen


@pytest.mark.parametrize("given", [False, True])
def test_the_head_is_judged_on_labels_that_it_was_not_fitted_on(tmp_path: Path, given: bool) -> None:
    validation = tiny_samples(20).subset(np.arange(12, 20)) if given else None
    settings: dict[str, Any] = {"finetune__modes": ["probe"], "finetune__penalties": [0.3], "validation": validation}
    found = tiny_run(tmp_path / "run", "scratch", **settings)["finetune"].results["judged"][0]["metrics"]

    job = tiny_job(tmp_path / "again", "scratch", **settings)
    student = job.new_student()
    logits, targets = [], []
    for rest, held in job.splits():
        weight, bias = fit_probe(cache_features(job, student, rest, 1, Cost()), 3, penalty=0.3)
        features = job.predict(student, held, output="features", cost=Cost())
        logits.append(features @ weight.T + bias)
        targets.append(torch.from_numpy(held.labels()))
    assert found == pytest.approx(job.task.metrics(torch.cat(logits), torch.cat(targets)))


def test_the_best_on_held_out_labels_is_chosen(tmp_path: Path) -> None:
    results = tiny_run(tmp_path, "scratch", finetune__modes=["probe"], finetune__penalties=[1e3, 1e-2, 1.0])[
        "finetune"
    ].results
    best = min(results["judged"], key=lambda each: (-each["metrics"]["accuracy"], each["metrics"]["nll"]))
    assert {each["candidate"] for each in results["judged"]} == {"probe-1000", "probe-0.01", "probe-1"}
    assert results["chosen"] == best


def mode(folder: Path, name: str, accuracy: float, nll: float) -> Stage:
    metrics = {"accuracy": accuracy, "nll": nll}
    worse = {"accuracy": 0.0, "nll": 9.0}
    judged = [
        {"candidate": f"{name}-1", "group": name, "variant": "raw", "metrics": metrics},
        {"candidate": f"{name}-2", "group": name, "variant": "raw", "metrics": worse},
    ]
    return Stage(f"adapt-{name}", folder, name, {"judged": judged, "teacher": {"name": "t"}}, {}, reused=False)


@pytest.mark.parametrize(
    ("probe", "finetune", "chosen"),
    [((0.9, 1.0), (0.8, 0.1), "probe"), ((0.8, 0.1), (0.9, 1.0), "finetune"), ((0.8, 0.2), (0.8, 0.1), "finetune")],
)
def test_the_mode_that_is_better_on_held_out_labels_teaches(
    tmp_path: Path, probe: tuple[float, float], finetune: tuple[float, float], chosen: str
) -> None:
    stages = {
        "adapt-probe": mode(tmp_path, "probe", *probe),
        "adapt-finetune": mode(tmp_path, "finetune", *finetune),
    }
    found = adapt(tiny_job(tmp_path / "run"), stages).results
    assert found["chosen"] == chosen
    assert {name: each["candidate"] for name, each in found["modes"].items()} == {
        "probe": "probe-1",
        "finetune": "finetune-1",
    }


def test_choosing_a_mode_costs_nothing(tmp_path: Path) -> None:
    assert tiny_run(tmp_path)["adapt"].cost == Cost().as_dict()


@pytest.mark.parametrize(("modes", "names"), [(["probe"], {"adapt-probe"}), (["finetune"], {"adapt-finetune"})])
def test_a_mode_that_is_not_asked_for_does_not_run(tmp_path: Path, modes: list[str], names: set[str]) -> None:
    stages = tiny_run(tmp_path, adapt__modes=modes)
    assert {name for name in stages if name.startswith("adapt-")} == names
    assert stages["adapt"].results["chosen"] == modes[0]


def test_a_method_that_names_its_mode_runs_it_whatever_the_recipe_says(tmp_path: Path) -> None:
    assert "adapt-probe" in tiny_run(tmp_path, "task-oriented-lp", adapt__modes=["finetune"])


def test_without_finetuning_the_student_is_the_distilled_one(tmp_path: Path) -> None:
    stages = tiny_run(tmp_path, "task-oriented-no-finetuning")
    first, last = weights(stages["distill"]), weights(stages["judge"])
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize("given", [False, True])
def test_without_finetuning_the_student_is_judged_on_given_validation_data_or_all_labels(
    tmp_path: Path, given: bool
) -> None:
    validation = tiny_samples(20).subset(np.arange(12, 20)) if given else None
    job = tiny_job(tmp_path / "again", "task-oriented-no-finetuning", validation=validation)
    stages = tiny_run(tmp_path / "run", "task-oriented-no-finetuning", validation=validation)
    student = job.new_student()
    student.load_state_dict(weights(stages["distill"]))
    held = validation or job.labeled
    logits = job.predict(student, held, cost=Cost())
    expected = job.task.metrics(logits, torch.from_numpy(held.labels()))
    assert stages["judge"].results["chosen"]["metrics"] == pytest.approx(expected)
