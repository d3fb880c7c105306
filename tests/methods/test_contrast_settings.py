"""What image embeddings are contrasted with, and what a run makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_run
from tests.training.tiny_models import StopAt, same
from torch import Tensor

from tutelage.errors import RecipeError
from tutelage.methods.contrast import ContrastSettings, bank_memory, candidates, check_contrast, plan_banks
from tutelage.methods.distill import DistillSettings
from tutelage.methods.lessons import LESSONS
from tutelage.methods.targets import transfer_loader
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage
from tutelage.training.loop import train


def contrast(**settings: Any) -> ContrastSettings:
    return ContrastSettings(**settings)


@pytest.mark.parametrize(("images", "negatives"), [(12, 11), (16_384, 16_383), (10**6, 16_384)])
def test_there_are_as_many_negatives_as_in_the_source_or_all_others(images: int, negatives: int) -> None:
    assert contrast().resolved(images).negatives == negatives


def test_negatives_that_are_given_are_kept() -> None:
    assert contrast(negatives=7).resolved(1000).negatives == 7


@pytest.mark.parametrize(
    ("max_bytes", "form", "size"),
    [(24_000, "float32", 24_000), (23_999, "float16", 12_000), (12_000, "float16", 12_000), (11_999, "disk", 24_000)],
)
def test_banks_are_kept_in_the_finest_form_that_fits(max_bytes: int, form: str, size: int) -> None:
    plan = plan_banks(contrast(), images=1000, width=3, banks=2, max_bytes=max_bytes)
    assert (plan.form, plan.bytes, plan.negatives) == (form, size, 999)


@pytest.mark.parametrize("form", ["float32", "float16", "disk"])
def test_the_form_that_is_asked_for_is_taken(form: Any) -> None:
    plan = plan_banks(contrast(form=form), images=1000, width=3, banks=2, max_bytes=12_000)
    assert plan.form == form
    assert "the recipe asks for it" in plan.why


def test_several_processes_have_no_banks_on_disk() -> None:
    assert plan_banks(contrast(), images=1000, width=3, banks=2, max_bytes=12_000, processes=2).form == "float16"
    with pytest.raises(RecipeError, match=r"those of 1,000 images take 0\.0 MB .* raise distill\.contrast\.memory"):
        plan_banks(contrast(), images=1000, width=3, banks=2, max_bytes=11_999, processes=2)


def test_banks_may_take_a_share_of_the_memory(tmp_path: Path) -> None:
    here = tiny_job(tmp_path).world
    whole, half = (bank_memory(contrast(memory=share), here) for share in (1.0, 0.5))
    assert half == pytest.approx(whole / 2)
    assert whole > 1 << 28


def test_images_meet_one_candidate_more_than_they_have_negatives() -> None:
    assert candidates(contrast(negatives=100), images=1000, batch_size=8) == 101


def test_separate_draws_meet_what_any_of_them_drew() -> None:
    # Of 800 draws from 1,000, each image is missed by all with probability 0.999 ** 800.
    found = candidates(contrast(negatives=100, draws="separate"), images=1000, batch_size=8)
    assert found == pytest.approx(1000 * (1 - 0.999**800))


@pytest.mark.parametrize(
    ("images", "batch_size", "against", "said"),
    [
        (1, 4, "banks", r"^data\.transfer: .* there is 1; give two or more"),
        (1, 4, "batch", r"^data\.transfer: "),
        (0, 4, "banks", r"there is none; give"),
        (9, 1, "batch", r"^distill\.batch_size: .* allow two or more"),
    ],
)
def test_without_another_image_there_is_nothing_to_contrast_with(
    images: int, batch_size: int, against: Any, said: str
) -> None:
    settings = DistillSettings(batch_size=batch_size, contrast=contrast(against=against))
    with pytest.raises(RecipeError, match=said):
        check_contrast(settings, images)


def test_a_batch_of_one_has_the_banks() -> None:
    check_contrast(DistillSettings(batch_size=1), 2)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("against", "memory", "'banks' or 'batch'"),
        ("negatives", 0, "greater than or equal to 1"),
        ("temperature", 0, "greater than 0"),
        ("momentum", -0.5, "greater than or equal to 0"),
        ("momentum", 1, "less than 1"),
        ("draws", "all", "'shared' or 'separate'"),
        ("memory", 0, "greater than 0"),
        ("memory", 1.5, "less than or equal to 1"),
    ],
)
def test_a_bad_setting_is_told_with_its_key(key: str, value: object, reason: str) -> None:
    data = {"data": {"labeled": "digits"}, "teacher": "timm:test_vit", "student": "timm:lcnet_050"}
    with pytest.raises(RecipeError, match=rf"^distill\.contrast\.{key}: .*{reason}"):
        make_recipe(data, {f"distill.contrast.{key}": value})


# What a run makes of it.


@pytest.mark.parametrize(
    ("method", "against", "mixes"),
    [
        ("agnostic-image", "banks", False),
        ("agnostic-image", "batch", True),
        ("agnostic-patch", "banks", True),
        ("task-oriented-lp", "banks", True),
    ],
)
def test_views_are_mixed_but_with_banks(tmp_path: Path, method: str, against: str, mixes: bool) -> None:
    job = tiny_job(tmp_path, method, distill__contrast__against=against)
    lesson = LESSONS[{"agnostic-image": "image", "agnostic-patch": "patches"}.get(method, "logits")]
    assert transfer_loader(job, lesson).mixes == mixes


def stages(folder: Path, method: str = "agnostic-image", **how: Any) -> dict[str, Stage]:
    changes = {f"distill__contrast__{key}" if key != "targets" else "distill__targets": how[key] for key in how}
    return tiny_run(folder, method, finetune__modes=["probe"], **changes)


def student(folder: Path, **how: Any) -> Mapping[str, Tensor]:
    return load_file(stages(folder, **how)["distill"].folder / "student.safetensors")


def test_banks_and_batch_teach_something_else(tmp_path: Path) -> None:
    assert not same(student(tmp_path / "banks"), student(tmp_path / "batch", against="batch"))


def test_a_stage_says_how_banks_were_kept(tmp_path: Path) -> None:
    found = stages(tmp_path)["distill"].results["banks"]
    assert (found["form"], found["images"], found["width"], found["negatives"]) == ("float32", 12, 768, 11)
    assert found["bytes"] == 2 * 12 * 768 * 4


def test_contrast_within_the_batch_has_no_banks(tmp_path: Path) -> None:
    assert "banks" not in stages(tmp_path, against="batch")["distill"].results


def test_banks_on_disk_teach_what_those_in_memory_do_and_are_gone_afterwards(tmp_path: Path) -> None:
    on_disk = student(tmp_path / "disk", form="disk")
    assert same(on_disk, student(tmp_path / "memory", form="float16"))
    assert not list(tmp_path.rglob("*.bank*"))


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_with_banks_on_disk_that_is_interrupted_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = student(tmp_path / "whole", form="disk")
    assert train.__kwdefaults__ is not None
    monkeypatch.setitem(train.__kwdefaults__, "every", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tiny_run(
            tmp_path / "pieces",
            "agnostic-image",
            finetune__modes=["probe"],
            distill__contrast__form="disk",
            progress=StopAt(step),
        )
    assert len(list(tmp_path.rglob("*.bank"))) == 2
    assert same(student(tmp_path / "pieces", form="disk"), whole)


def fingerprints(folder: Path, *, method: str = "agnostic-image", **how: Any) -> dict[str, str]:
    found = stages(folder, method, targets="cached", **how)
    return {name: found[name].fingerprint for name in ("targets", "distill")}


@pytest.mark.parametrize(
    ("method", "changed", "differ"),
    [
        ("agnostic-image", {"against": "batch"}, ["targets", "distill"]),  # which sees mixed views
        ("agnostic-image", {"negatives": 3}, ["distill"]),
        ("agnostic-image", {"form": "float16"}, ["distill"]),
        ("agnostic-image", {"memory": 0.5}, []),
        ("agnostic-patch", {"against": "batch"}, []),
        ("agnostic-patch", {"negatives": 3}, []),
    ],
)
def test_a_stage_depends_on_what_its_student_learns_from(
    tmp_path: Path, method: str, changed: dict[str, Any], differ: list[str]
) -> None:
    one = fingerprints(tmp_path / "one", method=method)
    other = fingerprints(tmp_path / "other", method=method, **changed)
    assert [name for name in one if one[name] != other[name]] == differ


def test_within_the_batch_settings_of_banks_do_not_matter(tmp_path: Path) -> None:
    one = fingerprints(tmp_path / "one", against="batch")
    assert one == fingerprints(tmp_path / "other", against="batch", negatives=3, momentum=0.9, draws="separate")
