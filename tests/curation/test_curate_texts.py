"""Curating from a gallery of texts: what is retrieved, left out, written, shown and refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.tiny_texts import WORDS, save_family

from tutelage.checks import prepare
from tutelage.curation.calibration import changed_copies, changed_text
from tutelage.curation.crops import Cutting
from tutelage.curation.duplicates import same_texts
from tutelage.curation.embed import embed
from tutelage.curation.record import read_about
from tutelage.curation.review.pictures import Pictures, find_images
from tutelage.curation.suspects import read_suspects
from tutelage.curation.transfer_set import FILE, read_transfer_set
from tutelage.data.readers import read_samples
from tutelage.data.samples import Samples
from tutelage.errors import ModelError, RecipeError
from tutelage.ledger import Cost
from tutelage.models.sources import build_encoder
from tutelage.pipeline import curate, plan_curation
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe
from tutelage.report.curated.page import write_curation_page
from tutelage.run import Stage
from tutelage.runtime.texts import SEPARATOR

SIZE = 8

COPY_OF_TEST, TWIN, LIKE_TEST, HOSTILE = "red  square red", "blue circle", "red square square", "<b>blue</b> circle"


def write_table(path: Path, texts: Iterable[str], labels: Iterable[str] = ()) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        rows = list(texts)
        named = list(labels)
        writer.writerow(["text", "label"] if named else ["text"])
        writer.writerows(zip(rows, named, strict=True) if named else [[text] for text in rows])
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences about colors and shapes; the gallery has some that must not be taken."""
    root, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)

    def sentences(count: int, length: int) -> list[str]:
        return [" ".join(rng.choice(WORDS, length)) for _ in range(count)]

    write_table(root / "train.csv", sentences(12, 4), ["one", "two"] * 6)
    write_table(root / "test.csv", ["red square red", *sentences(3, 4)], ["one", "two"] * 2)
    others = [" ".join(rng.choice(WORDS, 5 + number % 4)) for number in range(30)]
    write_table(root / "gallery.csv", [*others, COPY_OF_TEST, TWIN, f" {TWIN} ", LIKE_TEST, HOSTILE, ""])
    save_family("bert", root / "bert")
    return root


def recipe(data: Path, **changes: Any) -> Recipe:
    settings = {
        "data": {"labeled": str(data / "train.csv"), "labels": 2, "test": str(data / "test.csv")},
        "curate": {"gallery": str(data / "gallery.csv"), "size": SIZE, "encoders": [f"hf:{data / 'bert'}"]},
        "student": "text:tiny@hf:" + str(data / "bert"),
        "method": "pseudo-label",
        "store": {"folder": str(data / "store")},
        "device": "cpu",
    }
    return make_recipe(settings, changes)


@pytest.fixture(scope="module")
def stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return curate(recipe(data), tmp_path_factory.mktemp("run"))


def test_exactly_as_many_texts_as_asked_for_are_retrieved_and_the_queries_follow(data: Path, stage: Stage) -> None:
    found = read_transfer_set(stage.folder / FILE)
    assert found.retrieved.tolist() == [True] * SIZE + [False] * 4
    gallery = read_samples(str(data / "gallery.csv"), labeled=False, modality="text")
    texts = dict(zip(gallery.ids, gallery.texts or (), strict=True))
    assert found.texts is not None
    assert found.texts[:SIZE] == tuple(texts[name] for name in found.ids[:SIZE])


def test_copies_of_the_task_and_of_each_other_are_not_taken(data: Path, tmp_path: Path) -> None:
    made = curate(recipe(data, **{"curate.size": 28}), tmp_path)
    texts = read_transfer_set(made.folder / FILE).texts or ()
    assert "red square red" not in texts[:28]
    assert [text.strip() for text in texts[:28]].count(TWIN) <= 1
    assert read_about(made.folder)["dropped"]["exact_copies_of_task"] == 1


def test_a_transfer_set_needs_no_gallery_to_be_read(stage: Stage, tmp_path: Path) -> None:
    found = read_transfer_set(stage.folder / FILE)
    moved = tmp_path / FILE
    moved.write_bytes((stage.folder / FILE).read_bytes())
    read = read_samples(str(moved), labeled=False, modality="text")
    assert tuple(read.texts or ()) == found.texts


def test_the_page_shows_texts_and_nothing_of_them_is_markup(data: Path, tmp_path: Path) -> None:
    made = curate(recipe(data, **{"curate.size": 30, "curate.strategy": "best-matches"}), tmp_path)
    pairs = json.loads((made.folder / "pairs.json").read_text())
    pairs[0]["retrieved"][0]["text"] = HOSTILE
    (made.folder / "pairs.json").write_text(json.dumps(pairs))
    page = write_curation_page(made.folder).read_text()
    assert "&lt;b&gt;blue&lt;/b&gt; circle" in page
    assert "<b>blue" not in page
    assert pairs[0]["query"]["text"] in page
    assert "of 35 texts were retrieved" in page


def test_suspects_are_reviewed_as_texts(data: Path, tmp_path: Path) -> None:
    asked = recipe(data, **{"curate.size": 28, "curate.leak_threshold": 0.5, "curate.leaks": "keep"})
    curate(asked, tmp_path)
    suspects = read_suspects(tmp_path)
    assert {suspect.modality for suspect in suspects} == {"text"}
    pictures = Pictures(find_images(suspects))
    near = suspects[0].nearest[0]
    content, kind = pictures.of(near)
    task = read_samples(near.source, labeled=False, modality="text")
    assert kind == "text/plain; charset=utf-8"
    assert content.decode() == dict(zip(task.ids, task.texts or (), strict=True))[near.id]


def test_a_gallery_may_be_asked_with_the_names_of_classes(data: Path, tmp_path: Path) -> None:
    made = curate(recipe(data, **{"curate.strategy": "query-balanced-text"}), tmp_path)
    assert read_about(made.folder)["query_ids"] == ["one", "two"]


def test_texts_are_embedded_as_each_alone(data: Path) -> None:
    encoder = build_encoder(f"hf:{data / 'bert'}", pretrained=True).eval()
    texts = ["red", "blue circle green", "square " * 30, "green red", "circle"]
    found = embed([Samples(tuple("abcde"), texts=texts)], [encoder], Cutting(), cost=(cost := Cost()))
    with torch.no_grad():
        alone = [encoder([text]).require("features")[0].double() for text in texts]
    expected = np.stack([(each / each.norm()).numpy() for each in alone])
    assert np.abs(found.vectors[0].astype(np.float64) - expected).max() < 1e-3
    assert found.ids == list("abcde")
    assert cost.images == 5
    assert cost.flops > 0


def test_a_plan_counts_what_is_not_embedded_yet(data: Path, stage: Stage, tmp_path: Path) -> None:
    found, new = (plan_curation(recipe(data, **{"store.folder": str(each)})) for each in (data / "store", tmp_path))
    assert (found["gallery"], found["left"]) == (35, 0)
    assert new["left"] == 35
    assert new["flops"] > found["flops"]


def test_a_changed_copy_has_most_of_the_words_in_order() -> None:
    text = " ".join(f"Word{number}" for number in range(40))
    copies = [changed_text(text, np.random.default_rng(seed)) for seed in range(50)]
    numbers = [[int(word[4:]) for word in copy.split()] for copy in copies]
    assert all(each == sorted(set(each)) and 36 <= len(each) <= 40 for each in numbers)
    assert 10 < sum(copy == copy.lower() for copy in copies) < 40


def test_a_copy_of_a_pair_is_a_pair() -> None:
    made = changed_copies(Samples(("a",), texts=[f"one two{SEPARATOR}three"])).texts
    assert made is not None
    assert [len(part.split()) for part in made[0].lower().split(SEPARATOR)] == [2, 1]


def test_texts_that_differ_in_white_space_are_the_same() -> None:
    assert same_texts(["a b", "a  b", "a b c", " a b "]).tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"curate.crops": 3}, RecipeError, "curate.crops: is for images"),
        ({"curate.input_size": 32}, RecipeError, "curate.input_size: is for images"),
        ({"curate.encoders": ["bundled:efficientnet-lite0"]}, ModelError, "reads images, and what is retrieved here"),
    ],
)
def test_what_is_not_for_texts_is_refused(
    data: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(recipe(data, **changes), curates=True)
