"""Curating from small galleries of made pictures: what is retrieved, left out, asked about, kept and found again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tests.models.tiny_clips import tiny_clip

from tutelage.checks import prepare
from tutelage.curation import calibration, thresholds
from tutelage.curation.crops import CROPS, Cutting, draw
from tutelage.curation.record import read_about
from tutelage.curation.shown import PAIRS, VECTORS
from tutelage.curation.stage import assumed, curated
from tutelage.curation.suspects import ReviewNeeded, read_suspects, write_decisions
from tutelage.curation.transfer_set import FILE, TransferSet, read_transfer_set
from tutelage.data.images import decode
from tutelage.data.readers import read_samples
from tutelage.errors import RecipeError
from tutelage.pipeline import curate
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.run import Stage

ENCODER = "bundled:efficientnet-lite0"
GALLERY = 36

TWIN, NEAR_TEST, COPY_OF_TEST, COPY_OF_QUERY = "twin.png", "near-test.jpg", "copy-of-test.png", "copy-of-query.png"


def picture(color: int, rng: np.random.Generator) -> Image.Image:
    pixels = rng.integers(0, 120, (5, 5, 3))
    pixels[..., color] += 130
    return Image.fromarray(pixels.astype(np.uint8)).resize((36, 32), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three colors are the classes; the gallery has the same, and what must not be taken of it."""
    root, rng = tmp_path_factory.mktemp("curated"), np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for color, name in enumerate(("red", "green", "blue")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                picture(color, rng).save(root / part / name / f"{number}.png")
    gallery = root / "gallery"
    gallery.mkdir()
    for number in range(GALLERY):
        picture(number % 3, rng).save(gallery / f"{number:02d}.png")
    shutil.copy(gallery / "00.png", gallery / TWIN)
    shutil.copy(root / "test" / "red" / "0.png", gallery / COPY_OF_TEST)
    shutil.copy(root / "train" / "red" / "0.png", gallery / COPY_OF_QUERY)
    Image.open(root / "test" / "blue" / "1.png").save(gallery / NEAR_TEST, quality=95)
    (gallery / "broken.png").write_bytes(b"\x89PNG and no more")
    return root


def recipe(data: Path, changes: Mapping[str, Any] | None = None, **curation: Any) -> Recipe:
    settings = {
        "data": {"labeled": str(data / "train"), "labels": 2, "test": str(data / "test")},
        "curate": {
            "gallery": str(data / "gallery"),
            "size": 12,
            "encoders": [ENCODER],
            "input_size": 32,
            "duplicates": 0.98,
            "leak_threshold": 0.98,
            **curation,
        },
        "student": "timm:test_efficientnet",
        "method": "dino",
        "store": {"folder": str(data / "store")},
        "device": "cpu",
    }
    return make_recipe(settings, changes)


def made(data: Path, out: Path, changes: Mapping[str, Any] | None = None, **curation: Any) -> TransferSet:
    return read_transfer_set(curate(recipe(data, changes, **curation), out).folder / FILE)


def about(out: Path) -> dict[str, Any]:
    return read_about(out / "01-curate")


def retrieved(found: TransferSet) -> list[str]:
    return [name for name, kind in zip(found.ids, found.retrieved.tolist(), strict=True) if kind]


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransferSet]:
    """A curation as the recipe has it."""
    out = tmp_path_factory.mktemp("plain")
    return out, made(data, out)


def test_exactly_as_many_as_asked_for_are_retrieved_and_the_queries_follow(
    data: Path, plain: tuple[Path, TransferSet]
) -> None:
    _, found = plain
    assert found.retrieved.tolist() == [True] * 12 + [False] * 6
    assert set(found.sources[:12]) == {str(data / "gallery")}
    assert set(found.sources[12:]) == {str(data / "train")}
    assert len(set(found.ids[12:]) & {f"{name}/{n}.png" for name in ("red", "green", "blue") for n in range(4)}) == 6


def test_neither_copies_nor_duplicates_nor_leaks_are_taken(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path, size=GALLERY)
    assert set(retrieved(found)) == {f"{number:02d}.png" for number in range(GALLERY)} - {"00.png"} | (
        {"00.png"} if TWIN not in found.ids else {TWIN}
    )
    assert about(tmp_path)["dropped"] == {
        "exact_copies_of_task": 2,
        "exact_duplicates": 1,
        "duplicates": 0,
        "leaks": 1,
    }
    assert about(tmp_path)["problems"] == {"not an image": 1}


def test_one_more_than_there_is_says_what_was_left_out(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"curate.size=37.*36 that may be taken.*2 copies of the task's own images"):
        curate(recipe(data, size=37), tmp_path)


def test_kept_suspects_are_marked_and_the_data_say_so(data: Path, tmp_path: Path) -> None:
    asked = recipe(data, size=GALLERY + 1, leaks="keep")
    stage = curate(asked, tmp_path)
    found = read_transfer_set(stage.folder / FILE)
    marked = [name for name, suspect in zip(found.ids, found.suspect.tolist(), strict=True) if suspect]
    assert marked == [NEAR_TEST]
    assert found.about["kept_suspects"] == 1
    assert about(tmp_path)["suspects"] == {"found": 1, "dropped": 0, "kept": 1, "undecided": 1, "policy": "keep"}
    read = curated(asked, prepare(asked), stage)
    assert [(each.kind, each.where) for each in read.problems["transfer"]] == [("possible leak", NEAR_TEST)]
    assert len(read.transfer) == GALLERY + 1 + 6


@pytest.mark.parametrize(("decision", "taken"), [("fine", True), ("leak", False)])
def test_a_person_is_asked_first_and_the_same_command_goes_on(
    data: Path, tmp_path: Path, decision: Any, taken: bool
) -> None:
    asked = recipe(data, size=GALLERY, leaks="ask")
    with pytest.raises(ReviewNeeded, match=f"tutelage review {tmp_path}"):
        curate(asked, tmp_path)
    (suspect,) = read_suspects(tmp_path)
    assert (suspect.source, suspect.id) == (str(data / "gallery"), NEAR_TEST)
    assert (suspect.nearest[0].source, suspect.nearest[0].id) == (str(data / "test"), "blue/1.png")
    assert suspect.nearest[0].part == "test"
    write_decisions(tmp_path, {suspect.key: decision})
    found = read_transfer_set(curate(asked, tmp_path).folder / FILE)
    assert (NEAR_TEST in found.ids) == taken
    assert not found.suspect.any()


def test_a_decision_holds_where_nobody_is_asked_and_curates_anew(data: Path, tmp_path: Path) -> None:
    asked = recipe(data, size=GALLERY + 1, leaks="keep")
    curate(asked, tmp_path)
    write_decisions(tmp_path, {suspect.key: "fine" for suspect in read_suspects(tmp_path)})
    assert not read_transfer_set(curate(asked, tmp_path).folder / FILE).suspect.any()


def test_what_is_finished_is_found(data: Path, plain: tuple[Path, TransferSet]) -> None:
    assert curate(recipe(data), plain[0]).reused


def test_the_same_again_elsewhere_retrieves_the_same_at_the_same_cost(
    data: Path, plain: tuple[Path, TransferSet], tmp_path: Path
) -> None:
    stage = curate(recipe(data), tmp_path)
    assert read_transfer_set(stage.folder / FILE).ids == plain[1].ids
    assert stage.cost["flops"] == about(plain[0])["cost"]["flops"] > 0
    # All images that can be decoded, of the gallery and of the task, though nothing was embedded here.
    assert stage.cost["images"] == GALLERY + 4 + 18


def test_a_gallery_that_grows_is_curated_anew(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "gallery", tmp_path / "gallery")
    asked = recipe(data, gallery=str(tmp_path / "gallery"))
    curate(asked, tmp_path / "out")
    picture(0, np.random.default_rng(9)).save(tmp_path / "gallery" / "new.png")
    assert not curate(asked, tmp_path / "out").reused


def test_an_item_is_told_the_query_that_it_resembles(plain: tuple[Path, TransferSet]) -> None:
    found, told = plain[1], about(plain[0])
    colors = {name.partition("/")[0] for name in found.queries[:12] if name is not None}
    assert colors == {"red", "green", "blue"}
    same = sum(
        name is not None and ("red", "green", "blue")[int(item[:2]) % 3] == name.partition("/")[0]
        for item, name in zip(found.ids[:12], found.queries[:12], strict=True)
        if item[:2].isdigit()
    )
    assert same >= 10
    assert sum(told["per_query"]) == 12
    assert told["query_ids"] == list(found.ids[12:])
    assert found.queries[12:] == (None,) * 6
    np.testing.assert_allclose(found.similarities[ENCODER], found.similarity, atol=2e-3)


def test_fewer_queries_are_asked_if_that_is_wanted(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path, queries=3)
    assert sorted(name.partition("/")[0] for name in found.ids[12:]) == ["blue", "green", "red"]


def test_a_random_set_knows_no_queries_and_is_as_clean(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path, strategy="random", size=GALLERY)
    assert not {COPY_OF_TEST, COPY_OF_QUERY, NEAR_TEST} & set(found.ids)
    assert len(found) == GALLERY + 6
    assert (found.ranks == -1).all()
    assert np.isnan(found.similarity).all()
    assert (about(tmp_path)["query_kind"], about(tmp_path)["queries"]) == ("nothing", 0)


def test_prompts_ask_where_a_text_tower_is(data: Path, tmp_path: Path) -> None:
    found = made(
        data,
        tmp_path,
        strategy="query-balanced-text",
        encoders=[tiny_clip()],
        duplicates="off",
        leak_threshold="auto",
    )
    assert set(found.queries[:12]) <= {f"a photo of a {name}." for name in ("red", "green", "blue")}
    assert about(tmp_path)["query_classes"] == ["blue", "green", "red"]
    assert all("prompt" in pair for pair in json.loads((tmp_path / "01-curate" / PAIRS).read_text()))
    assert len(found) == 12 + 6


@pytest.fixture(scope="module")
def cut(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curation of crops."""
    out = tmp_path_factory.mktemp("crops")
    curate(recipe(data, crops=3, size=GALLERY - 2), out)
    return out


def test_an_image_is_cut_once_and_how_is_kept(data: Path, cut: Path) -> None:
    found = read_transfer_set(cut / "01-curate" / FILE)
    names = retrieved(found)
    assert len(set(names)) == len(names) == GALLERY - 2
    assert set(found.numbers[found.retrieved].tolist()) <= {0, 1, 2}
    gallery = read_samples(str(data / "gallery"), labeled=False)
    row = gallery.ids.index(names[0])
    assert gallery.images is not None
    image = decode(gallery.images[row])
    drawn = draw(Cutting(CROPS, 3, 0), gallery.keys[row], image.shape[2] / image.shape[1])
    np.testing.assert_allclose(found.boxes[0], drawn.crop[found.numbers[0]], atol=1e-6)


def test_of_crops_the_originals_are_compared(data: Path, cut: Path) -> None:
    found = read_transfer_set(cut / "01-curate" / FILE)
    assert not {COPY_OF_TEST, COPY_OF_QUERY, NEAR_TEST} & set(retrieved(found))
    assert len({"00.png", TWIN} & set(found.ids)) <= 1
    assert about(cut)["suspects"]["found"] == 1


def test_crops_are_counted_as_items(cut: Path) -> None:
    assert (about(cut)["gallery_images"], about(cut)["gallery_items"]) == (GALLERY + 4, 3 * (GALLERY + 4))


def test_several_encoders_judge_together(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path, encoders=[ENCODER, tiny_clip()], duplicates="off", leak_threshold="auto")
    np.testing.assert_allclose(
        np.mean([found.similarities[name][:12] for name in found.similarities], axis=0),
        found.similarity[:12],
        atol=2e-3,
    )
    assert list(found.similarities) == [ENCODER, tiny_clip()]


def test_a_map_has_unit_vectors_of_all_three_kinds(plain: tuple[Path, TransferSet]) -> None:
    arrays = load_file(plain[0] / "01-curate" / VECTORS)
    assert [len(arrays[name]) for name in ("queries", "retrieved", "gallery")] == [6, 12, GALLERY + 4]
    for name in ("queries", "retrieved", "gallery"):
        lengths = np.linalg.norm(arrays[name].astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=2e-3)


def test_pairs_are_of_all_classes_and_of_what_was_retrieved(plain: tuple[Path, TransferSet]) -> None:
    out, found = plain
    pairs = json.loads((out / "01-curate" / PAIRS).read_text())
    assert [pair["query"]["id"].partition("/")[0] for pair in pairs] == 2 * ["blue", "green", "red"]
    assert all(1 <= len(pair["retrieved"]) <= 6 for pair in pairs)
    assert {each["id"] for pair in pairs for each in pair["retrieved"]} <= set(retrieved(found))
    assert all(each["box"] == [0, 0, 1, 1] for pair in pairs for each in pair["retrieved"])


def test_histograms_count_what_was_retrieved(plain: tuple[Path, TransferSet]) -> None:
    found = about(plain[0])["histograms"]
    assert (sum(found["retrieved"]), sum(found["gallery"])) == (12, GALLERY + 4)
    assert len(found["edges"]) == len(found["gallery"]) + 1


def stage_of(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **curation: Any) -> Stage:
    monkeypatch.setattr(thresholds, "LEAST", 20)
    monkeypatch.setattr(calibration, "LEAST", 20)
    return curate(recipe(data, duplicates="auto", leak_threshold="auto", **curation), out)


def test_an_encoder_is_calibrated_and_acted_on_only_if_it_tells_copies_apart(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_of(data, tmp_path, monkeypatch)
    (found,) = about(tmp_path)["thresholds"].values()
    assert 0 <= found["recall"] <= 1
    assert (found["leaks"] is not None) == (found["recall"] >= 0.95 and found["false_alarms"] <= 0.01)
    assert found["source"] == ("calibrated" if found["leaks"] is not None else "none")


def test_without_a_threshold_exact_copies_are_left_out_all_the_same(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path, duplicates="off", leak_threshold="auto", size=GALLERY + 1)
    assert not {COPY_OF_TEST, COPY_OF_QUERY} & set(found.ids)
    assert NEAR_TEST in found.ids
    (told,) = about(tmp_path)["thresholds"].values()
    assert told == {"duplicates": None, "leaks": None, "source": "none", "recall": None, "false_alarms": None}


def test_stand_ins_are_as_many_as_will_be_curated(data: Path) -> None:
    asked = recipe(data, queries=4)
    found = assumed(asked, prepare(asked)).transfer
    assert len(found) == len(set(found.ids)) == 16


def test_images_with_masks_are_queries_without_a_class(data: Path, tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 2)):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng(number + len(part))
            picture(number % 3, rng).save(tmp_path / part / "images" / f"{number}.png")
            mask = Image.fromarray(rng.integers(0, 2, (32, 36)).astype(np.uint8))
            mask.save(tmp_path / part / "masks" / f"{number}.png")
        (tmp_path / part / "classes.txt").write_text("ground\nthing")
    places = {"data.labeled": str(tmp_path / "train"), "data.test": str(tmp_path / "test"), "data.labels": 4}
    asked = recipe(data, {"task": "segmentation", **places})
    stage = curate(asked, tmp_path / "out")
    assert about(tmp_path / "out")["query_classes"] == [""] * 4
    assert len(curated(asked, prepare(asked), stage).transfer) == 12 + 4
