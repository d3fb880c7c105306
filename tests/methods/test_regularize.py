"""Standard transfer, and students held by teachers' features: which stages run, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run

from tutelage.ledger import Cost
from tutelage.methods.pretraining import started
from tutelage.methods.regularize import refit_held
from tutelage.methods.regularizers import REGULARIZERS
from tutelage.pipeline import run_method
from tutelage.run import Stage

TWO = ["timm:test_efficientnet", "timm:test_vit"]
RATES = [1e-3, 1e-2]


def held(folder: Path, method: str, **changes: Any) -> dict[str, Stage]:
    # As many views as epochs: what is stored is then what a student held by nothing sees.
    return tiny_run(folder, method, **{"start": "pretrained", "finetune__epochs": 4, **changes})


def student(stages: dict[str, Stage]) -> dict[str, torch.Tensor]:
    return load_file(stages["finetune"].folder / "student.safetensors")


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[key] - other[key]).abs().max()) for key in one)


@pytest.mark.parametrize("method", REGULARIZERS)
def test_a_regularizer_without_weight_is_standard_transfer(tmp_path: Path, method: str) -> None:
    alone = student(held(tmp_path / "stl", "stl"))
    free = student(held(tmp_path / "free", method, regularize__betas=[1e-12]))
    bound = student(held(tmp_path / "bound", method, regularize__betas=[1e3]))
    assert difference(alone, free) < 1e-4
    assert difference(alone, bound) > 1e-3


@pytest.mark.parametrize("method", REGULARIZERS)
def test_each_weight_of_the_grid_is_judged(tmp_path: Path, method: str) -> None:
    found = held(tmp_path, method)["finetune"].results
    assert {each["candidate"] for each in found["judged"]} == {
        f"{method}-{beta:g}" for beta in REGULARIZERS[method].betas
    }
    assert found["chosen"] == found["judged"][0]
    assert found["chosen"]["candidate"] == f"{method}-{found['regularizer']['beta']:g}"


def test_the_rate_is_chosen_once_for_all(tmp_path: Path) -> None:
    stages = {
        method: held(tmp_path / method, method, finetune__learning_rates=RATES, regularize__betas=[1.0])
        for method in ("stl", "aft", "kd")
    }
    assert len({each["rate"].fingerprint for each in stages.values()}) == 1
    assert {each["finetune"].results["rate"] for each in stages.values()} == {stages["stl"]["rate"].results["rate"]}


def test_a_single_rate_is_not_judged_where_weights_are(tmp_path: Path) -> None:
    assert list(held(tmp_path, "aft", regularize__betas=[1.0])) == ["features", "finetune"]


def test_standard_transfer_is_judged_by_its_rate(tmp_path: Path) -> None:
    stages = held(tmp_path, "stl", finetune__learning_rates=RATES)
    assert list(stages) == ["rate", "finetune"]
    assert stages["finetune"].results["chosen"] == stages["rate"].results["chosen"]


@pytest.mark.parametrize(
    ("method", "setting", "same"),
    [
        ("stl", {"regularize__noise": 4}, True),
        ("stl", {"teacher": TWO[1]}, True),
        ("kd", {"regularize__kernel": "rbf"}, True),
        ("aft", {"regularize__kernel": "rbf"}, False),
        ("aft", {"regularize__temperature": 0.5}, True),
        ("b-tuning", {"regularize__temperature": 0.5}, False),
        ("kd", {"regularize__noise": 4}, False),
        ("kd", {"teacher": TWO[1]}, False),
    ],
)
def test_a_student_depends_on_what_its_method_reads(
    tmp_path: Path, method: str, setting: dict[str, Any], same: bool
) -> None:
    plain = {"regularize__betas": [1.0]}
    one = held(tmp_path / "one", method, **plain)["finetune"].fingerprint
    other = held(tmp_path / "other", method, **plain, **setting)["finetune"].fingerprint
    assert (one == other) == same


def test_learned_weights_are_kept(tmp_path: Path) -> None:
    stages = held(tmp_path, "aft", teacher=TWO, regularize__betas=[10.0], regularize__noise=2)
    kept = load_file(stages["finetune"].folder / "regularizer.safetensors")
    widths = stages["finetune"].results["regularizer"]["widths"]
    (scales,) = [value for value in kept.values() if value.shape == (sum(widths.values()),)]
    assert float(scales.abs().max()) > 0


@pytest.mark.parametrize("changes", [{"regularize__weights": "dense"}, {"regularize__kernel": "none"}])
@pytest.mark.parametrize("inner", [0, 2])
def test_variants_of_the_kernel_train(tmp_path: Path, changes: dict[str, Any], inner: int) -> None:
    plain = held(tmp_path / "plain", "aft", regularize__betas=[10.0])
    other = held(tmp_path / "other", "aft", regularize__betas=[10.0], regularize__inner_steps=inner, **changes)
    assert difference(student(plain), student(other)) > 1e-6


def test_the_same_seed_makes_the_same_student(tmp_path: Path) -> None:
    one, other = (student(held(tmp_path / name, "ft", teacher=TWO)) for name in ("one", "other"))
    assert difference(one, other) == 0


def test_a_distilled_student_without_a_weight_is_finetuned_from_what_it_has_learned(tmp_path: Path) -> None:
    fixed = {"finetune__epochs": 1, "finetune__learning_rates": [1e-12], "regularize__betas": [1e-12]}
    stages = tiny_run(tmp_path, "task-oriented-aft", start="random", **fixed)
    learned = load_file(stages["distill"].folder / "student.safetensors")
    assert difference(learned, student(stages)) < 1e-6


def test_a_distilled_student_is_held_by_the_pretrained_teacher(tmp_path: Path) -> None:
    stages = tiny_run(tmp_path, "task-oriented-aft", start="random", regularize__betas=[1.0])
    assert stages["finetune"].results["regularizer"]["name"] == "aft"
    assert list(stages)[-3:] == ["distill", "features", "finetune"]


def test_another_student_is_finetuned_as_was_chosen(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "task-oriented-aft", start="random", regularize__betas=[1.0])
    stages = run_method(job)
    again = refit_held(job, stages, started(job, stages), tmp_path, Cost())
    assert difference(again, student(dict(stages))) == 0
