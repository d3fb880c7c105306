"""Self-distillation as a stage: its views, its defaults, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import TinyJob, tiny_job, tiny_run
from tests.training.tiny_models import CPU, StopAt, same

from tutelage.data.samples import Samples
from tutelage.errors import ModelError, RecipeError
from tutelage.ledger import counted
from tutelage.methods import METHODS
from tutelage.methods.self_distill import (
    DinoSettings,
    check_self_distillation,
    default_local_size,
    default_prototypes,
    last_watched,
    self_distill,
    self_distillation_phase,
    view_groups,
)
from tutelage.objectives.self_distillation import PrototypeHead, SelfDistillation
from tutelage.pipeline import run_method
from tutelage.progress import Quiet
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage
from tutelage.training.loop import Trained, train
from tutelage.views import ViewPolicy
from tutelage.views.settings import ViewSettings


def stage(folder: Path, **changes: Any) -> Stage:
    return self_distill(tiny_job(folder, "dino", **changes), {})


def trained(folder: Path, **changes: Any) -> tuple[SelfDistillation, Trained]:
    """Train as the stage does, and return the objective as training left it."""
    job = tiny_job(folder, "dino", **changes)
    student = job.new_student()
    loader = job.loader(job.transfer, 4, groups=view_groups(job.recipe))
    phase = self_distillation_phase(job, student, loader)
    found = train(phase, student, world=CPU, seed=0, progress=Quiet())
    objective = phase.objectives["self-distillation"][0]
    assert isinstance(objective, SelfDistillation)
    return objective, found


def test_it_learns_from_unlabeled_data_and_needs_no_teacher() -> None:
    method = METHODS["dino"]
    assert (method.needs_transfer, method.needs_teacher, method.start) == (True, False, "random")


def test_its_results_say_what_was_watched(tmp_path: Path) -> None:
    results = stage(tmp_path).results
    history = json.loads((tmp_path / "01-self-distill" / "history.json").read_text())["self-distill"]
    assert results["loss"] == history[-1]["self-distillation"]
    assert (results["steps"], results["prototypes"]) == (len(history), 8)
    for name in ("teacher_entropy", "divergence", "spread"):
        assert results[name] == pytest.approx(history[-1][name])  # of six steps, the last tenth is one


def test_the_student_is_finetuned_from_what_it_has_learned(tmp_path: Path) -> None:
    stages = tiny_run(tmp_path, "dino", finetune__modes=["probe"])
    assert list(stages) == ["self-distill", "finetune"]
    before, after = (load_file(stages[name].folder / "student.safetensors") for name in stages)
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith("encoder."))


def test_the_teacher_does_not_matter(tmp_path: Path) -> None:
    one, other = (
        stage(tmp_path / str(place), teacher=teacher).fingerprint
        for place, teacher in enumerate((None, "timm:test_vit"))
    )
    assert one == other


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dino__teacher_temperature": 50.0}, "prefers no prototype"),
        ({"dino__learning_rate": 0.01}, "says the same of every image"),  # six large steps
        ({"dino__learning_rate": 1e-4}, None),
    ],
)
def test_a_collapse_is_said_to_be_one(tmp_path: Path, changes: Mapping[str, Any], why: str | None) -> None:
    results = stage(tmp_path, **changes).results
    assert results["collapsed"] == (why is not None)
    assert results["why"] is None if why is None else why in results["why"]


def test_what_was_watched_is_that_of_the_last_tenth() -> None:
    points = [
        {"step": float(step), "teacher_entropy": step / 20, "divergence": 1.0, "spread": 0.5} for step in range(1, 21)
    ]
    assert last_watched(points) == {"teacher_entropy": 0.975, "divergence": 1.0, "spread": 0.5}


# Views.


def groups(tmp_path: Path, **changes: Any) -> Mapping[str, Any]:
    return view_groups(tiny_job(tmp_path, "dino", **changes).recipe)


def test_two_large_views_and_eight_small_ones(tmp_path: Path) -> None:
    found = groups(tmp_path, dino__local_views=8, views__augment="full")
    assert {name: group.count for name, group in found.items()} == {"global": 2, "local": 8}
    assert (found["global"].policy.crop, found["local"].policy.crop) == ((0.4, 1.0), (0.05, 0.4))
    assert (found["global"].size, found["local"].size) == (32, 16)


def test_small_images_are_cut_less(tmp_path: Path) -> None:
    found = groups(tmp_path)
    assert (found["global"].policy.crop, found["local"].policy.crop) == ((0.6, 1.0), (0.2, 0.6))


def test_views_are_augmented_as_the_recipe_says_and_never_mixed(tmp_path: Path) -> None:
    policy = {"crop": [0.1, 1.0], "flip": 0.3, "ops": 2, "magnitude": 7, "erase": 0.5, "mixup": 0.2, "cutmix": 1.0}
    for group in groups(tmp_path, views__policy=policy).values():
        assert group.policy == ViewPolicy(crop=group.policy.crop, flip=0.3, ops=2, magnitude=7, mix=0.0)


def test_there_may_be_no_small_views(tmp_path: Path) -> None:
    assert list(groups(tmp_path, dino__local_views=0)) == ["global"]
    assert stage(tmp_path / "run", dino__local_views=0).results["steps"] == 6


def test_the_student_sees_small_views_at_their_own_size(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "dino", dino__local_size=24)
    student = job.new_student()
    loader = job.loader(job.transfer, 4, groups=view_groups(job.recipe))
    sizes = []
    student.encoder.conv.register_forward_pre_hook(lambda module, given: sizes.append(tuple(given[0].shape)))
    phase = self_distillation_phase(job, student, loader)  # its teacher, a copy, has the hook as well
    schedule = phase.schedule.model_copy(update={"steps": 1})
    train(replace(phase, schedule=schedule), student, world=CPU, seed=0, progress=Quiet())
    # Two large views of four images at the tiny student's own size, two small ones at theirs; then the teacher's.
    assert sizes == [(8, 3, 8, 8), (8, 3, 24, 24), (8, 3, 8, 8)]


# Training.


def test_prototypes_stay_in_the_first_epoch(tmp_path: Path) -> None:
    # Two epochs of three steps.
    start = self_distillation_start(tmp_path / "start")
    frozen, _ = trained(tmp_path / "frozen", dino__freeze_epochs=2)
    one, _ = trained(tmp_path / "one")
    free, _ = trained(tmp_path / "free", dino__freeze_epochs=0)
    assert torch.equal(frozen.head.prototypes, start)
    assert not torch.equal(one.head.prototypes, start)
    assert not torch.equal(one.head.prototypes, free.head.prototypes)


def self_distillation_start(folder: Path) -> torch.Tensor:
    job = tiny_job(folder, "dino")
    loader = job.loader(job.transfer, 4, groups=view_groups(job.recipe))
    objective = self_distillation_phase(job, job.new_student(), loader).objectives["self-distillation"][0]
    assert isinstance(objective, SelfDistillation)
    return objective.head.prototypes.detach().clone()


def test_prototypes_are_still_compared_at_unit_length_after_training(tmp_path: Path) -> None:
    objective, _ = trained(tmp_path, dino__freeze_epochs=0, dino__learning_rate=0.5)
    embeddings, logits = objective.head(torch.randn(5, 6))
    lengths = objective.head.prototypes.norm(dim=1)
    assert (lengths - 1).abs().max() > 0.01
    torch.testing.assert_close(logits * lengths, embeddings @ objective.head.prototypes.T)
    assert logits.abs().max() <= 1 + 1e-6


def test_the_schedule_is_that_of_the_settings(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "dino", dino__weight_decay=[0.01, 0.2], dino__clip=2.5, dino__average=0.5)
    loader = job.loader(job.transfer, 4, groups=view_groups(job.recipe))
    schedule = self_distillation_phase(job, job.new_student(), loader).schedule
    assert (schedule.weight_decay, schedule.final_weight_decay) == (0.01, 0.2)
    assert (schedule.steps, schedule.clip, schedule.average, schedule.learning_rate) == (6, 2.5, 0.5, 0.01)


@pytest.mark.parametrize("stop", [2, 5])  # while prototypes are frozen, and afterwards
def test_resumed_it_ends_as_uninterrupted(tmp_path: Path, stop: int) -> None:
    def phase_of(job: TinyJob) -> Any:
        student = job.new_student()
        loader = job.loader(job.transfer, 4, groups=view_groups(job.recipe))
        return self_distillation_phase(job, student, loader), student

    settings: dict[str, Any] = {"dino__warmup_epochs": 2, "dino__warmup_temperature": 0.02}
    whole, first = phase_of(tiny_job(tmp_path / "whole", "dino", **settings))
    one = train(whole, first, world=CPU, seed=0, progress=Quiet())
    path = tmp_path / "checkpoint"
    broken, second = phase_of(tiny_job(tmp_path / "broken", "dino", **settings))
    with pytest.raises(KeyboardInterrupt):
        train(broken, second, world=CPU, seed=0, progress=StopAt(stop), checkpoint=path, every=0)
    resumed, third = phase_of(tiny_job(tmp_path / "resumed", "dino", **settings))
    other = train(resumed, third, world=CPU, seed=0, progress=Quiet(), checkpoint=path, every=0)
    assert same(one.raw, other.raw)
    assert one.average is not None
    assert other.average is not None
    assert same(one.average, other.average)
    assert one.history == other.history
    both = (whole.objectives["self-distillation"][0], resumed.objectives["self-distillation"][0])
    assert same(both[0].state_dict(), both[1].state_dict())


def test_the_ledger_counts_the_teacher(tmp_path: Path) -> None:
    _, found = trained(tmp_path / "whole")
    # Without the passes of the teacher and its head, on two large views of four images a step.
    teacher = tiny_job(tmp_path / "teacher", "dino").new_student().encoder
    views, features = torch.rand(8, 3, 32, 32), torch.randn(8, 6)
    head = PrototypeHead(6, 8, hidden=16, bottleneck=8)
    passed = counted(lambda: teacher(views))[1] + counted(lambda: head(features))[1]
    assert passed > 0
    with patch.object(SelfDistillation, "forward", without_teacher):
        _, without = trained(tmp_path / "without")
    assert found.cost.flops - without.cost.flops == pytest.approx(6 * passed)


def without_teacher(self: SelfDistillation, batch: Any, student: Any, targets: Any) -> dict[str, torch.Tensor]:
    features = torch.cat([student[group].require("features") for group in self.needs.groups])
    logits = self.head(features)[1]
    self._seen = logits.detach().mean(0)
    return {"self-distillation": logits.square().mean()}


# Defaults.


@pytest.mark.parametrize(
    ("images", "prototypes"),
    [(2, 256), (1000, 256), (4096, 256), (8192, 512), (60_000, 4096), (1_281_167, 65_536), (10**8, 65_536)],
)
def test_prototypes_are_a_sixteenth_of_the_images(images: int, prototypes: int) -> None:
    assert default_prototypes(images) == prototypes


@pytest.mark.parametrize(
    ("student", "size", "local"),
    [
        ("timm:fastvit_s12", 224, 96),
        ("timm:fastvit_s12", 256, 112),
        ("timm:lcnet_050", 32, 16),
        ("timm:lcnet_050", 96, 48),
        ("timm:vit_small_patch14_dinov2", 224, 98),
        ("timm:vit_tiny_patch16_224", 224, 96),
        ("timm:vit_base_patch32_224", 224, 96),
        ("timm:vit_base_patch32_224", 32, 32),
        ("timm:lcnet_050", 8, 8),
    ],
)
def test_small_views_are_three_sevenths_of_large_ones_in_steps_that_the_student_takes(
    student: str, size: int, local: int
) -> None:
    assert default_local_size(student, size) == local


VIEWS = ViewSettings().resolved(200, teacher_native=None)


def test_it_is_as_long_as_every_pretraining() -> None:
    found = DinoSettings().resolved(1000, student="timm:lcnet_050", views=VIEWS)
    assert (found.epochs, found.batch_size) == (64, 64)


@pytest.mark.parametrize(
    ("prototypes", "hidden", "bottleneck"),
    [(8, 256, 32), (256, 512, 64), (1024, 2048, 256), (65_536, 2048, 256)],
)
def test_the_head_is_the_source_s_from_1024_prototypes_on(prototypes: int, hidden: int, bottleneck: int) -> None:
    found = DinoSettings(prototypes=prototypes).resolved(1000, student="timm:lcnet_050", views=VIEWS)
    assert (found.hidden, found.bottleneck) == (hidden, bottleneck)


@pytest.mark.parametrize(("images", "warmup"), [(1000, 32), (9_999, 10), (10_000, 0), (10**6, 0)])
def test_the_teacher_of_few_images_starts_sharper(images: int, warmup: int) -> None:
    assert DinoSettings().resolved(images, student="timm:lcnet_050", views=VIEWS).warmup_epochs == warmup


def test_what_is_given_is_kept() -> None:
    given = DinoSettings(
        epochs=3,
        batch_size=8,
        prototypes=32,
        hidden=12,
        bottleneck=13,
        warmup_epochs=1,
        global_crop=(0.5, 0.9),
        local_crop=(0.1, 0.2),
        local_size=40,
    )
    assert given.resolved(1000, student="timm:lcnet_050", views=VIEWS) == given


# What is refused.


def recipe(**changes: Any) -> Any:
    made = make_recipe(
        {"data": {"labeled": "digits"}, "student": "timm:test_vit", "method": "dino"},
        {key.replace("__", "."): value for key, value in changes.items()},
    )
    return made.resolved(short_side=100, labels=10, transfer=10, classes=2)


def test_a_student_that_takes_small_views_is_accepted() -> None:
    check_self_distillation(recipe(), 10)


@pytest.mark.parametrize("images", [0, 1])
def test_one_image_cannot_be_told_from_others(images: int) -> None:
    with pytest.raises(RecipeError, match=rf"data\.transfer: self-distillation .* has {images}; add images"):
        check_self_distillation(recipe(), images)


def test_small_views_larger_than_large_ones_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"dino\.local_size: .* 320 pixels are larger than large ones .*: 160\)"):
        check_self_distillation(recipe(dino__local_size=320, views__student_size=160), 10)


def test_small_views_that_the_student_does_not_take_are_refused() -> None:
    with pytest.raises(ModelError, match=r"dino\.local_size: timm:test_vit does not run on small views of 8 pixels"):
        check_self_distillation(recipe(dino__local_size=8), 10)


def test_small_views_that_are_not_there_need_no_size() -> None:
    check_self_distillation(recipe(dino__local_size=8, dino__local_views=0), 10)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("batch_size", 1, r"dino\.batch_size: .*greater than or equal to 2"),
        ("prototypes", 1, r"dino\.prototypes: .*greater than or equal to 2"),
        ("global_crop", [0.9, 0.4], "global_crop: the smallest share comes first"),
        ("local_crop", [0.0, 0.4], r"dino\.local_crop"),
        ("momentum", 1.5, r"dino\.momentum"),
        ("weight_decay", [0.0, 0.4], r"dino\.weight_decay"),
    ],
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(**{f"dino__{key}": value})


def test_images_that_are_all_the_same_leave_a_collapse(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "dino", dino__epochs=20)
    gray = Samples(
        tuple(f"image-{number}" for number in range(12)),
        images=[np.full((8, 8, 3), 128, np.uint8) for _ in range(12)],
    )
    results = run_method(replace(job, transfer=gray), until="self-distill")["self-distill"].results
    assert results["collapsed"]
