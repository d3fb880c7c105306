from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny_models import TinyEncoder, TinyText

from tutelage.curation import crops, embedding_work, embeddings
from tutelage.curation import embed as embedding
from tutelage.curation.crops import CROPS, Cutting, cut, draw
from tutelage.curation.embed import embed
from tutelage.curation.embeddings import Embeddings, embed_gallery
from tutelage.curation.gallery import chosen, pieces
from tutelage.curation.search import search
from tutelage.data.images import decode, packed
from tutelage.data.problems import Problem
from tutelage.data.readers import stream
from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError, ModelError, RecipeError, RunError
from tutelage.models.preprocess import ImagePreprocess
from tutelage.progress import Quiet
from tutelage.views import render

COUNT = 20
ROOM = 10**9
WHOLE = Cutting()
CUT = Cutting(CROPS, 3, seed=5)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five shards of four images, and batches that do not fit them."""
    for where, name, value in ((stream, "CHUNK", 2), (embeddings, "MOST_IMAGES", 4), (embedding, "BATCH", 5)):
        monkeypatch.setattr(where, name, value)


def encoder(seed: int = 0, size: int = 8) -> TinyEncoder:
    torch.manual_seed(seed)
    made = TinyEncoder().eval()
    made.preprocess = ImagePreprocess(size)
    return made


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "gallery"
    folder.mkdir()
    for number in range(COUNT):
        generator = np.random.default_rng(number)
        size = (int(generator.integers(9, 40)), int(generator.integers(9, 40)), 3)
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def made(tmp_path: Path, gallery: Path, *encoders: Any, cutting: Cutting = WHOLE, room: int = ROOM) -> Embeddings:
    return embed_gallery(tmp_path / "store", room, str(gallery), encoders, cutting, progress=Quiet())


def stacked(embeddings: Embeddings, number: int = 0) -> np.ndarray[Any, Any]:
    return np.concatenate(list(embeddings.vectors(number)))


def all_ids(embeddings: Embeddings) -> list[str]:
    return embeddings.items(np.arange(len(embeddings))).ids


def unit_features(model: TinyEncoder, views: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        features = model(views).features.double()
    unit: np.ndarray[Any, Any] = (features / features.norm(dim=1, keepdim=True)).numpy()
    return unit


def test_whole_images_are_embedded_in_their_evaluation_view(tmp_path: Path, gallery: Path) -> None:
    found, model = made(tmp_path, gallery, encoder()), encoder()
    assert all_ids(found) == [f"{number:02d}.png" for number in range(COUNT)]
    for row, name in enumerate(all_ids(found)):
        view = cut(gallery / name, np.uint64(0), WHOLE, [model.preprocess])[0][0]  # type: ignore[list-item]
        np.testing.assert_allclose(stacked(found)[row : row + 1], unit_features(model, view), atol=1e-3)


def test_crops_from_one_decoding_are_those_rendered_one_by_one(tmp_path: Path, gallery: Path) -> None:
    found, model = made(tmp_path, gallery, encoder(), cutting=CUT), encoder()
    items = found.items(np.arange(len(found)))
    assert len(found) == COUNT * CUT.count
    for row, (name, number) in enumerate(zip(items.ids, items.numbers, strict=True)):
        picture = packed(gallery / name, 12)
        key = Samples((name,)).keys[0]
        views = draw(CUT, key, picture.shape[2] / picture.shape[1])[np.array([number])]
        np.testing.assert_array_equal(items.boxes[row], views.crop[0])
        expected = unit_features(model, render([picture], views, 8))
        np.testing.assert_allclose(stacked(found)[row : row + 1], expected, atol=1e-3)


def test_encoders_of_several_sizes_see_the_same_crops_of_one_decoding(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def watched(source: ImageSource, side: int) -> torch.Tensor:
        decoded.append(side)
        return packed(source, side)

    monkeypatch.setattr(crops, "packed", watched)
    found = made(tmp_path, gallery, encoder(1, 8), encoder(2, 12), cutting=CUT)
    assert decoded == [18] * COUNT
    for number, model in enumerate((encoder(1, 8), encoder(2, 12))):
        picture = packed(gallery / "07.png", 18)
        views = draw(CUT, Samples(("07.png",)).keys[0], picture.shape[2] / picture.shape[1])
        expected = unit_features(model, render([picture] * 3, views, model.preprocess.size))  # type: ignore[union-attr]
        np.testing.assert_allclose(stacked(found, number)[21:24], expected, atol=1e-3)


def test_an_images_items_follow_each_other_through_all_shards(tmp_path: Path, gallery: Path) -> None:
    found = made(tmp_path, gallery, encoder(), cutting=CUT)
    rows = np.arange(len(found))
    images, ids = found.images(rows), found.items(rows).ids
    assert [ids[row] for row in rows] == [f"{image:02d}.png" for image in images]


def test_items_are_found_in_any_order(tmp_path: Path, gallery: Path) -> None:
    found = made(tmp_path, gallery, encoder(), cutting=CUT)
    items = found.items(np.array([59, 0, 31]))
    assert (items.ids, items.numbers.tolist()) == (["19.png", "00.png", "10.png"], [2, 0, 1])


def test_what_is_stored_is_searched(tmp_path: Path, gallery: Path) -> None:
    found = made(tmp_path, gallery, encoder())
    query = decode(gallery / "13.png")
    vectors = embed([Samples(("q",), images=[query.permute(1, 2, 0).numpy()])], [encoder()], WHOLE).vectors
    assert search([vectors[0].astype(np.float32)], [found.vectors()], 3).rows[0, 0] == 13


class KilledError(Exception):
    pass


def watch(monkeypatch: pytest.MonkeyPatch, *, most: int | None = None) -> list[int]:
    """Count the images of each shard as it is made, and break down before the one past ``most``."""
    seen: list[int] = []

    def watched(chunks: Any, *arguments: Any, **options: Any) -> Any:
        if len(seen) == most:
            raise KilledError
        seen.append(sum(map(len, chunks)))
        return embed(chunks, *arguments, **options)

    monkeypatch.setattr(embedding_work, "embed", watched)
    return seen


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch, most=3)
    with pytest.raises(KilledError):
        made(tmp_path, gallery, encoder(), cutting=CUT)
    seen = watch(monkeypatch)
    found = made(tmp_path, gallery, encoder(), cutting=CUT)
    assert seen == [4, 4]
    uninterrupted = made(tmp_path / "other", gallery, encoder(), cutting=CUT)
    np.testing.assert_array_equal(stacked(found), stacked(uninterrupted))
    assert all_ids(found) == all_ids(uninterrupted)


def test_what_is_stored_is_not_made_again(tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, gallery, encoder())
    seen = watch(monkeypatch)
    made(tmp_path, gallery, encoder())
    assert seen == []


def test_a_gallery_that_grows_or_changes_keeps_its_other_shards(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, gallery, encoder())
    seen = watch(monkeypatch)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(gallery / "05.png")
    Image.fromarray(np.full((9, 9, 3), 9, np.uint8)).save(gallery / "99.png")
    assert all_ids(made(tmp_path, gallery, encoder()))[-1] == "99.png"
    assert seen == [4, 1]


@pytest.mark.parametrize(
    ("other", "cutting"),
    [(1, CUT), (0, Cutting(CROPS, 3, seed=6)), (0, Cutting(CROPS, 2, seed=5)), (0, WHOLE)],
    ids=["weights", "seed", "count", "whole images"],
)
def test_another_encoder_or_cutting_never_finds_the_store(
    tmp_path: Path, gallery: Path, other: int, cutting: Cutting, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(tmp_path, gallery, encoder(), cutting=CUT)
    seen = watch(monkeypatch)
    second = made(tmp_path, gallery, encoder(other), cutting=cutting)
    assert second.folder != first.folder
    assert sum(seen) == COUNT


def test_broken_images_are_counted_listed_and_skipped(tmp_path: Path, gallery: Path) -> None:
    (gallery / "03.png").write_bytes(b"no image")
    (gallery / "11.png").write_bytes((gallery / "11.png").read_bytes()[:60])
    (gallery / "12.png").write_bytes(b"")
    found = made(tmp_path, gallery, encoder(), cutting=CUT)
    problems = list(found.problems())
    assert [(each.where, each.kind) for each in problems if isinstance(each, Problem)] == [
        ("03.png", "not an image"),
        ("11.png", "truncated"),
        ("12.png", "empty file"),
    ]
    assert sorted(set(all_ids(found))) == [f"{n:02d}.png" for n in range(COUNT) if n not in (3, 11, 12)]
    assert len(found) == 3 * (COUNT - 3)


def test_a_gallery_without_an_image_that_can_be_decoded_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image that can be decoded.*5 not an image"):
        made(tmp_path, folder, encoder())


def test_encoders_of_another_kind_are_refused(tmp_path: Path, gallery: Path) -> None:
    with pytest.raises(ModelError, match="reads texts; a gallery of images needs an encoder of images"):
        made(tmp_path, gallery, encoder(), TinyText())
    with pytest.raises(DataError, match="holds no text"):
        made(tmp_path, gallery, TinyText())
    with pytest.raises(ModelError, match="no encoder"):
        made(tmp_path, gallery)


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path, gallery: Path) -> None:
    broken = encoder()
    torch.nn.init.constant_(broken.conv.bias, torch.nan)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="not finite"):
        made(tmp_path, gallery, broken)


def test_a_store_without_room_says_so_and_keeps_what_fits(tmp_path: Path, gallery: Path) -> None:
    with pytest.raises(RunError, match="no room for"):
        made(tmp_path, gallery, encoder(), room=3000)


def test_encoders_are_left_in_their_mode(tmp_path: Path, gallery: Path) -> None:
    model = encoder().train()
    made(tmp_path, gallery, model)
    assert model.training


def test_pieces_hold_the_gallery_once(gallery: Path) -> None:
    found = list(pieces(str(gallery), 4))
    names = [name for piece in found for chunk in piece.chunks for name in chunk.ids]
    assert names == [f"{number:02d}.png" for number in range(COUNT)]
    assert len({piece.fingerprint for piece in found}) == 5


def test_chosen_images_are_those_of_the_ids(gallery: Path) -> None:
    found = chosen(str(gallery), ["17.png", "02.png"])
    assert found.ids == ("02.png", "17.png")
    assert found.images == [gallery / "02.png", gallery / "17.png"]
    with pytest.raises(DataError, match=r"lacks 1 images .* no\.png"):
        chosen(str(gallery), ["no.png", "02.png"])


def test_cuttings_that_are_none_are_refused() -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        Cutting(None, 2)
    with pytest.raises(RecipeError, match="neither mixed"):
        Cutting(CROPS.model_copy(update={"mixup": 0.5}), 2)
