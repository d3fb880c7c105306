"""Pretraining on image-text pairs: what a recipe says about it, what is learned, and what a teacher's stores hold."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.methods.tiny_jobs import tiny_job, tiny_pairs, tiny_run
from tests.models.tiny_clips import CLIP, RANDOM, WIDTH, tiny_clip
from torch import Tensor

from tutelage.checks import check_models
from tutelage.data.samples import Samples
from tutelage.errors import ModelError, RecipeError, UnknownNameError
from tutelage.methods.pairs import ClipSettings, TextSettings, pair_loader
from tutelage.models.preprocess import PairInputs
from tutelage.pipeline import run_method
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage

SHAPES = ("square", "stripes", "frame")
COLORS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "yellow": (220, 210, 40)}


@pytest.fixture(autouse=True)
def _known() -> None:
    tiny_clip()


def pictures(count: int = 48) -> Samples:
    """Small pictures as emoji are: a shape in a color on white, each with its name."""
    generator = np.random.default_rng(0)
    images, names = [], []
    for number in range(count):
        shape, (color, rgb) = SHAPES[number % 3], list(COLORS.items())[number // 3 % 4]
        picture = np.full((8, 8, 3), 255, np.uint8)
        mask = np.zeros((8, 8), bool)
        top, left = generator.integers(0, 2, 2)
        if shape == "stripes":
            mask[top::2] = True
        else:
            mask[top : top + 6, left : left + 6] = True
            mask[top + 2 : top + 4, left + 2 : left + 4] = shape == "square"
        picture[mask] = rgb
        images.append(picture)
        names.append(f"a {color} {shape}")
    return Samples(tuple(f"picture-{number}" for number in range(count)), images, names)


def history(stage: Stage) -> list[dict[str, float]]:
    points: list[dict[str, float]] = json.loads((stage.folder / "history.json").read_text())["align"]
    return points


def weights(stage: Stage) -> Mapping[str, Tensor]:
    return load_file(stage.folder / "student.safetensors")


def off(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


@pytest.mark.parametrize("method", ["clip", "clip-mimic"])
def test_what_belongs_together_is_found(tmp_path: Path, method: str) -> None:
    steps = {"clip__epochs": 60, "clip__batch_size": 12, "clip__learning_rate": 0.02, "clip__average": 0}
    stage = tiny_run(tmp_path, method, pairs=pictures(), **steps)["align"]
    points = history(stage)
    first, last = points[0]["loss"], sum(point["loss"] for point in points[-10:]) / 10
    # Contrast: by chance an image's text is any of twelve.
    assert last < (0.8 * math.log(12) if method == "clip" else first - 0.1)


def test_the_stage_says_what_became_of_texts_and_scale(tmp_path: Path) -> None:
    pairs = tiny_pairs()
    assert pairs.texts is not None
    texts = ["word " * 20, *pairs.texts[1:]]
    found = tiny_run(tmp_path, "clip", pairs=Samples(pairs.ids, pairs.images, texts))["align"].results
    assert (found["pairs"], found["cut"], found["steps"]) == (12, 1, 6)
    assert found["text"]["name"] == RANDOM
    assert found["logit_scale"] != pytest.approx(1 / 0.07, rel=1e-6)


@pytest.mark.parametrize(("length", "cut", "read"), [(None, 0, 9), (20, 0, 9), (5, 1, 5)])
def test_a_tower_that_is_made_here_reads_no_more_than_texts_have(
    tmp_path: Path, length: int | None, cut: int, read: int
) -> None:
    pairs = tiny_pairs()
    # Seven words, a start and an end.
    texts = ["one two three four five six seven", *["a word"] * 11]
    text = {"tower": "tiny", "length": length}
    settings: dict[str, Any] = {"pairs": Samples(pairs.ids, pairs.images, texts), "clip__text": text}
    found = tiny_run(tmp_path, "clip", **settings)["align"].results
    assert (found["cut"], found["text"]["length"]) == (cut, read)


def test_the_student_is_left_without_what_only_training_needs(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "start", "clip")
    stage = tiny_run(tmp_path / "run", "clip")["align"]
    assert weights(stage).keys() == job.new_student().state_dict().keys()


def test_views_of_pairs_are_crops_of_the_recipe_s_size_with_their_texts(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "clip")
    batch = next(pair_loader(job).epoch(0))
    given = batch.inputs["view"]
    assert isinstance(given, PairInputs)
    assert batch.rows is not None
    assert tuple(given.image.shape) == (4, 3, 8, 8)
    assert job.pairs is not None
    assert job.pairs.texts is not None
    assert list(given.text) == [job.pairs.texts[row] for row in batch.rows]
    assert not pair_loader(job).mixes


@pytest.mark.parametrize(
    "setting", [{"clip__epochs": 3}, {"clip__crop": [0.5, 1.0]}, {"clip__text": {"tower": RANDOM, "length": 6}}]
)
@pytest.mark.parametrize("method", ["clip", "clip-mimic"])
def test_what_pairs_teach_depends_on_the_settings(tmp_path: Path, method: str, setting: dict[str, Any]) -> None:
    one, other = tiny_run(tmp_path / "one", method), tiny_run(tmp_path / "other", method, **setting)
    assert one["align"].fingerprint != other["align"].fingerprint


@pytest.mark.parametrize(("method", "same"), [("clip", True), ("clip-mimic", False)])
@pytest.mark.parametrize("setting", [{"clip__student_scale": 30.0}, {"clip__teacher_scale": 30.0}])
def test_scales_are_those_of_mimicking_alone(
    tmp_path: Path, method: str, same: bool, setting: dict[str, Any]
) -> None:
    one, other = tiny_run(tmp_path / "one", method), tiny_run(tmp_path / "other", method, **setting)
    assert (one["align"].fingerprint == other["align"].fingerprint) == same


@pytest.mark.parametrize("method", ["clip", "clip-mimic"])
def test_what_pairs_teach_depends_on_their_texts(tmp_path: Path, method: str) -> None:
    pairs = tiny_pairs()
    assert pairs.texts is not None
    swapped = Samples(pairs.ids, pairs.images, [*pairs.texts[1:], pairs.texts[0]])
    one, other = tiny_run(tmp_path / "one", method), tiny_run(tmp_path / "other", method, pairs=swapped)
    assert one["align"].fingerprint != other["align"].fingerprint
    assert off(weights(one["align"]), weights(other["align"])) > 0


@pytest.mark.parametrize(("scale", "same"), [(20.0, True), (21.0, False)])
def test_the_teacher_s_own_scale_may_be_taken(tmp_path: Path, scale: float, same: bool) -> None:
    own = tiny_run(tmp_path / "own", "clip-mimic", clip__teacher_scale=None)["align"]
    given = tiny_run(tmp_path / "given", "clip-mimic", clip__teacher_scale=scale)["align"]
    assert (off(weights(own), weights(given)) < 1e-6) == same


def test_a_learned_scale_of_the_student_s_moves(tmp_path: Path) -> None:
    stages = [
        tiny_run(tmp_path / str(scale), "clip-mimic", clip__student_scale=scale)["align"] for scale in (50.0, None)
    ]
    fixed, learned = (stage.results["logit_scale"] for stage in stages)
    assert fixed == 50.0
    assert learned not in (50.0, pytest.approx(1 / 0.07, rel=1e-6))


def test_stored_embeddings_teach_what_a_live_teacher_does(tmp_path: Path) -> None:
    shared = {"clip__views": 4, "clip__epochs": 4}
    live = tiny_run(tmp_path / "live", "clip-mimic", clip__targets="live", **shared)
    stored = tiny_run(tmp_path / "stored", "clip-mimic", clip__targets="cached", **shared)
    assert (live["targets"].results["mode"], stored["targets"].results["mode"]) == ("live", "cached")
    start = tiny_job(tmp_path / "start", "clip-mimic").new_student().state_dict()
    learned = {key: value for key, value in weights(live["align"]).items() if key.startswith("encoder.")}
    moved = off(learned, start)
    assert 0 < off(learned, weights(stored["align"])) < 0.02 * moved


def test_with_stored_embeddings_no_teacher_is_loaded_to_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"clip__targets": "cached", "clip__views": 1}
    run_method(tiny_job(tmp_path, "clip-mimic", **settings), until="targets")
    module = importlib.import_module("tutelage.methods.pair_targets")  # a function of that name hides it
    monkeypatch.setattr(module, "build_teachers_text", None)
    job = tiny_job(tmp_path, "clip-mimic", **settings)
    stages = run_method(job)
    assert (stages["targets"].reused, stages["align"].reused) == (True, False)
    assert job.teachers == []


def test_a_store_holds_each_view_of_an_image_and_each_text_once(tmp_path: Path) -> None:
    found = tiny_run(tmp_path, "clip-mimic", clip__targets="cached", clip__views=2)["targets"].results
    assert found["forms"] == {"embedding": "float16"}
    assert found["bytes"] == (2 * 12 + 12) * WIDTH * 2
    assert found["scale"] == pytest.approx(20.0)


def test_stored_embeddings_are_found_by_another_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clip__targets": "cached", "clip__views": 2, "store": str(tmp_path / "store")}
    first = tiny_run(tmp_path / "one", "clip-mimic", **settings)["targets"]
    again = tiny_run(tmp_path / "two", "clip-mimic", **settings)["targets"]
    assert (first.results["reused"], again.results["reused"]) == (False, True)
    assert again.cost["flops"] == first.cost["flops"] > 0


def test_texts_are_stored_once_for_all_seeds(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clip__targets": "cached", "clip__views": 2, "store": str(tmp_path / "store")}
    first, other = (
        tiny_run(tmp_path / str(seed), "clip-mimic", seed=seed, **settings)["targets"].results for seed in (0, 1)
    )
    assert first["text_folder"] == other["text_folder"]
    assert first["folder"] != other["folder"]


def test_embeddings_that_were_removed_are_stored_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clip__targets": "cached", "clip__views": 2}
    whole = tiny_run(tmp_path / "run", "clip-mimic", **settings)
    expected = weights(whole["align"])
    shutil.rmtree(tmp_path / "run" / "store")
    shutil.rmtree(whole["align"].folder)
    again = tiny_run(tmp_path / "run", "clip-mimic", **settings)
    assert (again["targets"].reused, again["align"].reused) == (True, False)
    assert off(weights(again["align"]), expected) == 0


@pytest.mark.parametrize(
    ("pairs", "tower", "length"),
    [(1, "tiny", 32), (29_999, "tiny", 32), (30_000, "small", 32), (999_999, "small", 32), (1_000_000, "base", 77)],
)
def test_the_more_pairs_the_larger_the_text_tower(pairs: int, tower: str, length: int) -> None:
    found = ClipSettings().resolved(pairs, teacher=None, max_bytes=0)
    assert (found.text.tower, found.text.length) == (tower, length)
    assert found.learning_rate == (5e-4 if tower == "base" else 2e-3)


def test_a_tower_that_is_named_stays_with_its_own_length() -> None:
    assert TextSettings(tower=CLIP).resolved(10**7) == TextSettings(tower=CLIP)
    assert TextSettings(tower="small", length=9).resolved(10**7) == TextSettings(tower="small", length=9)


@pytest.mark.parametrize(
    ("epochs", "max_bytes", "found"),
    [(40, 10**9, ("cached", 16)), (31, 10**9, ("live", None)), (40, 1000 * 2 * WIDTH, ("live", None))],
)
def test_embeddings_are_stored_where_that_halves_the_passes_and_fits(
    epochs: int, max_bytes: int, found: tuple[str, int | None]
) -> None:
    settings = ClipSettings(epochs=epochs).resolved(1000, teacher=CLIP, max_bytes=max_bytes)
    assert (settings.targets, settings.views) == found


def test_room_for_the_texts_is_counted() -> None:
    # Four views and the texts, in bytes of half precision; a byte less is too little.
    room = 1000 * WIDTH * 2 * 5
    settings = ClipSettings(epochs=40, targets="cached", views=4)
    assert settings.resolved(1000, teacher=CLIP, max_bytes=room).views == 4
    with pytest.raises(RecipeError, match=r"clip\.targets: 4 views of 1,000 images .* or clip\.targets=live"):
        settings.resolved(1000, teacher=CLIP, max_bytes=1000 * (WIDTH + 4) * 4 + 1000 * WIDTH * 2 - 1)


@pytest.mark.parametrize(("targets", "views"), [("live", 5), ("cached", None)])
def test_stored_views_are_of_no_concern_to_who_mimics_nobody(targets: Any, views: int | None) -> None:
    settings = ClipSettings(epochs=9, views=5, targets=targets)
    assert (settings.shown("contrast"), settings.shown("mimic")) == (views, 5)


def asked(method: str = "clip", **changes: Any) -> dict[str, Any]:
    return {
        "data": {"labeled": "digits", "pairs": "pairs.csv"},
        "student": "timm:lcnet_050",
        "teacher": CLIP,
        "method": method,
        **changes,
    }


@pytest.mark.parametrize("method", ["clip", "clip-mimic"])
def test_pairs_are_asked_for(method: str) -> None:
    with pytest.raises(RecipeError, match=rf"method '{method}' needs data\.pairs, images with a text each"):
        make_recipe(asked(method, data={"labeled": "digits"}))


def test_a_teacher_is_asked_for_by_mimicking_alone() -> None:
    assert make_recipe(asked("clip", teacher=None)).teacher is None
    with pytest.raises(RecipeError, match="method 'clip-mimic' needs a teacher"):
        make_recipe(asked("clip-mimic", teacher=None))


def test_one_teacher_is_mimicked() -> None:
    with pytest.raises(RecipeError, match="method 'clip-mimic' learns from one teacher, and there are 2"):
        make_recipe(asked("clip-mimic", teacher=[CLIP, "timm:test_vit"]))


@pytest.mark.parametrize("changes", [{"method": "clip-mimic"}, {"method": "scratch", "baselines": ["clip-mimic"]}])
def test_a_teacher_without_a_text_tower_is_refused_before_any_data_are_read(changes: dict[str, Any]) -> None:
    recipe = make_recipe(asked(teacher="timm:test_efficientnet.r160_in1k", **changes))
    with pytest.raises(ModelError, match="has no text tower here, and affinity mimicking compares images with texts"):
        check_models(recipe)


def test_any_teacher_will_do_where_none_is_mimicked() -> None:
    check_models(make_recipe(asked("clip", teacher="bundled:efficientnet-lite0")))


def test_a_text_tower_that_does_not_exist_is_refused_before_any_data_are_read() -> None:
    with pytest.raises(UnknownNameError, match="unknown text tower 'large'"):
        check_models(make_recipe(asked(clip={"text": {"tower": "large"}})))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"crop": (1.0, 0.5)}, r"clip.*the smallest share comes first"),
        ({"batch_size": 1}, r"clip\.batch_size: .*greater than or equal to 2"),
        ({"student_scale": 0}, r"clip\.student_scale: .*greater than 0"),
        ({"text": {"length": 2}}, r"clip\.text\.length: .*greater than or equal to 3"),
        ({"targets": "stored"}, r"clip\.targets: .*'auto', 'live' or 'cached'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        make_recipe(asked(clip=setting))


def test_a_resolved_teacher_s_embeddings_are_compared_on_the_student_s_views(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, "clip-mimic")
    batch = next(pair_loader(job).epoch(0))
    with torch.no_grad():
        said = job.new_teacher()(batch.inputs["view"], frozenset({"embedding"})).require("embedding")
    assert tuple(said.shape) == (4, WIDTH)
