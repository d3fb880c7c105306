"""Transfer sets of several sizes, tried by quick trainings on made pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.comparison.two_colors import two_colors

from tutelage.checks import check
from tutelage.curation.quality import Quality
from tutelage.curation.record import read_about
from tutelage.curation.transfer_set import FILE, read_transfer_set
from tutelage.data.samples import CutOut
from tutelage.errors import RecipeError
from tutelage.ledger import Cost
from tutelage.pipeline import curate
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage
from tutelage.training.loop import train
from tutelage.training.phase import Phase

GALLERY = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = two_colors(tmp_path_factory.mktemp("sizes")), np.random.default_rng(5)
    (root / "gallery").mkdir()
    for number in range(GALLERY):
        pixels = rng.integers(0, 120, (10, 10, 3))
        pixels[..., number % 3] += 130
        Image.fromarray(pixels.astype(np.uint8)).save(root / "gallery" / f"{number:02d}.png")
    return root


def recipe(data: Path, changes: Mapping[str, Any] | None = None, **curation: Any) -> Recipe:
    settings = {
        "data": {"labeled": str(data / "train"), "labels": 2},
        "curate": {
            "gallery": str(data / "gallery"),
            "size": "auto",
            "sizes": [6, 12],
            "probe": {"steps": 2, "seeds": 2},
            "input_size": 32,
            "duplicates": "off",
            "leak_threshold": 0.999,
            **curation,
        },
        "teacher": "bundled:efficientnet-lite0",
        "student": "timm:test_efficientnet",
        "method": "dino",
        "folds": 2,
        "views": {"teacher_size": 32, "student_size": 32},
        "adapt": {"penalties": [0.1], "probe_views": 1},
        "store": {"folder": str(data / "store")},
        "device": "cpu",
    }
    return make_recipe(settings, changes)


def quality(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = read_about(stage.folder)["quality"]
    return found


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return curate(recipe(data), tmp_path_factory.mktemp("made"))


def test_each_size_is_tried_with_each_seed(made: Stage) -> None:
    found = quality(made)
    assert (found["sizes"], found["metric"], found["steps"]) == ([6, 12], "likelihood", 2)
    for runs in (found["runs"], found["beside"]["accuracy"]):
        assert np.shape(runs) == (2, 2)
        assert all(0 <= score <= 1 for scores in runs for score in scores)
    assert len({score for scores in found["runs"] for score in scores}) == 4


def test_the_transfer_set_has_the_size_that_was_chosen(made: Stage) -> None:
    found = read_transfer_set(made.folder / FILE)
    assert int(found.retrieved.sum()) == found.about["size"] == quality(made)["chosen"]
    assert read_about(made.folder)["retrieved"] == quality(made)["chosen"]


def test_trainings_are_part_of_what_curating_costs(data: Path, made: Stage, tmp_path: Path) -> None:
    alone = curate(recipe(data, size=6, sizes=[]), tmp_path)
    # Two seeds of two sizes: each two steps of six or twelve images, and the four labels.
    trained = 2 * (2 * (6 + 12) + 2 * 4)
    features = 2 * 4
    assert made.cost["images"] - alone.cost["images"] == trained + features
    assert made.cost["flops"] > alone.cost["flops"]


@pytest.fixture
def again(made: Stage, tmp_path: Path) -> Path:
    """A copy of the folder that holds the curve."""
    return Path(shutil.copytree(made.folder.parent, tmp_path / "again"))


def test_an_interrupted_curve_goes_on(
    data: Path, made: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr("tutelage.curation.probes.train", failing)
    with pytest.raises(KeyboardInterrupt):
        curate(recipe(data), tmp_path)
    found = curate(recipe(data), tmp_path)
    assert len(calls) == 3 + 2
    assert quality(found) == quality(made)
    assert read_transfer_set(found.folder / FILE).ids == read_transfer_set(made.folder / FILE).ids
    assert (found.cost["images"], found.cost["flops"]) == (made.cost["images"], made.cost["flops"])


def test_a_size_that_is_added_trains_alone(
    data: Path, made: Stage, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def counting(phase: Phase, *args: Any, **options: Any) -> Any:
        trained.append(len(phase.loader.samples))
        return train(phase, *args, **options)

    monkeypatch.setattr("tutelage.curation.probes.train", counting)
    found = quality(curate(recipe(data, sizes=[12, 9, 6]), again))
    assert trained == [9, 9]
    assert (found["sizes"], found["runs"][::2]) == ([6, 9, 12], quality(made)["runs"])


def test_what_is_finished_is_found(data: Path, made: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.curation.stage.measure", None)
    assert curate(recipe(data), made.folder.parent).reused


def test_a_size_that_is_given_stays_and_the_curve_is_drawn(
    data: Path, made: Stage, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.curation.probes.train", None)
    found = curate(recipe(data, size=8), again)
    assert quality(found)["runs"] == quality(made)["runs"]
    assert quality(found)["chosen"] == 8
    assert int(read_transfer_set(found.folder / FILE).retrieved.sum()) == 8


def first_seed(found: dict[str, Any]) -> list[float]:
    return [scores[0] for scores in found["runs"]]


ONE_SEED = {"steps": 2, "seeds": 1}


def test_a_student_that_learns_otherwise_has_another_curve(data: Path, made: Stage, again: Path) -> None:
    found = curate(recipe(data, {"distill.learning_rate": 0.1}, probe=ONE_SEED), again)
    assert all(one != other for one, other in zip(first_seed(quality(found)), first_seed(quality(made)), strict=True))


def test_test_data_have_no_say(data: Path, made: Stage, tmp_path: Path) -> None:
    found = curate(recipe(data, {"data.test": str(data / "test")}, probe=ONE_SEED), tmp_path)
    assert first_seed(quality(found)) == first_seed(quality(made))


def test_validation_data_are_judged_where_there_are_some(data: Path, made: Stage, tmp_path: Path) -> None:
    found = curate(recipe(data, {"data.validation": str(data / "test")}, probe=ONE_SEED), tmp_path)
    assert all(one != other for one, other in zip(first_seed(quality(found)), first_seed(quality(made)), strict=True))


def test_crops_are_tried_as_they_are_cut(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = []

    def looking(phase: Phase, *args: Any, **options: Any) -> Any:
        cut.append(all(isinstance(image, CutOut) for image in phase.loader.samples.images or ()))
        return train(phase, *args, **options)

    monkeypatch.setattr("tutelage.curation.probes.train", looking)
    curate(recipe(data, crops=2, probe=ONE_SEED), tmp_path)
    assert cut == [True, True]


def test_sizes_that_nobody_names_go_up_to_what_may_be_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Path(shutil.copytree(data / "gallery", tmp_path / "gallery"))
    shutil.copy(gallery / "00.png", gallery / "twin.png")
    shutil.copy(data / "train" / "red" / "0.png", gallery / "own.png")
    tried = []

    def measured(*args: Any) -> tuple[Quality, Cost]:
        tried.append(args[3])
        return Quality(args[3], [[0.5]] * len(args[3]), "likelihood", {}, 1), Cost()

    monkeypatch.setattr("tutelage.curation.stage.measure", measured)
    curate(recipe(data, gallery=str(gallery), sizes=[]), tmp_path / "out")
    assert tried == [(4, 6, 8, 13, GALLERY)]


@pytest.mark.parametrize("teacher", [None, ["bundled:efficientnet-lite0", "timm:test_vit"]])
def test_trainings_need_one_teacher(data: Path, teacher: Any) -> None:
    with pytest.raises(RecipeError, match=r"curate.size=auto: quick trainings learn from one teacher"):
        check(recipe(data, {"teacher": teacher, "curate.encoders": ["bundled:efficientnet-lite0"]}))


def test_one_size_has_nothing_to_be_compared_with(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"curate.sizes: 6 alone"):
        recipe(data, sizes=[6])


def test_every_size_is_balanced(data: Path) -> None:
    with pytest.raises(RecipeError, match=r"curate.sizes=3: cannot be balanced over 4 labeled images"):
        check(recipe(data, sizes=[3, 12]))


def test_a_check_assumes_the_largest_size(data: Path) -> None:
    assert len(check(recipe(data))[0].transfer) == 12 + 4
    assert len(check(recipe(data, sizes=[], most=9))[0].transfer) == 9 + 4
    assert len(check(recipe(data, size=7))[0].transfer) == 7 + 4


def test_of_pixels_the_mean_overlap_is_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for kind in ("train/images", "train/masks", "gallery"):
        (tmp_path / kind).mkdir(parents=True)
    for number in range(12):
        pixels, mask = rng.integers(90, 130, (32, 32, 3)).astype(np.uint8), np.zeros((32, 32), np.uint8)
        pixels[8:24, number : number + 14, 0], mask[8:24, number : number + 14] = 220, 1
        Image.fromarray(pixels).save(tmp_path / ("train/images" if number < 4 else "gallery") / f"{number}.png")
        if number < 4:
            Image.fromarray(mask).save(tmp_path / "train" / "masks" / f"{number}.png")
    dense = {
        "task": "segmentation",
        "data.labeled": str(tmp_path / "train"),
        "data.labels": 4,
        "data.classes": ["ground", "red"],
        "curate.gallery": str(tmp_path / "gallery"),
        "curate.sizes": [4, 6],
        "views": {"size": 32},
        "decoder": {"channels": 8},
        "adapt": {"epochs": 1, "learning_rates": [1e-3]},
        "method": "task-oriented",
    }
    found = quality(curate(recipe(tmp_path, dense, probe=ONE_SEED), tmp_path / "out"))
    assert (found["metric"], found["beside"], np.shape(found["runs"])) == ("miou", {}, (2, 1))
