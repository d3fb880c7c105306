from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tutelage.errors import DataError, RecipeError
from tutelage.export.graph import Deployable
from tutelage.export.predict import LoadedModel


@pytest.fixture(scope="module")
def loaded(tiny, classes):
    return LoadedModel(model=tiny(crop=0.9).eval(), classes=classes, task="classification")


@pytest.fixture(scope="module")
def mixed(pixels):
    return [pixels(*size, seed) for seed, size in enumerate([(40, 40), (30, 50), (64, 20), (8, 8), (90, 100)])]


def test_logits_are_those_of_the_shared_graph(loaded, mixed):
    deployable = Deployable(loaded.model)
    expected = torch.cat([deployable(torch.from_numpy(image)[None]) for image in mixed]).detach()
    torch.testing.assert_close(loaded.logits(mixed), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batches_change_nothing(loaded, mixed, batch_size):
    torch.testing.assert_close(loaded.logits(mixed, batch_size=batch_size), loaded.logits(mixed))


def test_all_forms_of_an_image_mean_the_same(loaded, pixels, tmp_path):
    array = pixels(33, 47)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    forms = [array, picture, tmp_path / "a.png", str(tmp_path / "a.png"), packed.getvalue()]
    # Each alone: within a batch, some processors round a row by where it stands.
    first, *others = (loaded.logits([form]) for form in forms)
    assert all(torch.equal(other, first) for other in others)
    assert torch.equal(loaded.logits(array), first)
    torch.testing.assert_close(loaded.logits(forms), first.expand(len(forms), -1))


def test_a_stack_of_pixels_is_several_images(loaded, pixels):
    stack = np.stack([pixels(20, 20, seed) for seed in range(3)])
    torch.testing.assert_close(loaded.logits(stack), loaded.logits(list(stack)))


def test_transparency_is_white(loaded):
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    white = np.full((40, 40, 3), 255, np.uint8)
    assert torch.equal(loaded.logits(clear), loaded.logits(white))


def test_rotation_of_a_pillow_image_is_applied(loaded, pixels):
    array = pixels(20, 40)
    turned = Image.fromarray(array)
    turned.getexif()[0x0112] = 3
    assert torch.equal(loaded.logits(turned), loaded.logits(array[::-1, ::-1].copy()))


def test_predictions_are_the_softmax_in_falling_order(loaded, mixed, classes):
    probabilities = loaded.logits(mixed).double().softmax(1).numpy()
    for row, prediction in zip(probabilities, loaded.predict(mixed, top=3), strict=True):
        order = np.argsort(-row)[:3]
        assert [name for name, _ in prediction.top] == [classes[i] for i in order]
        np.testing.assert_allclose([value for _, value in prediction.top], row[order], rtol=1e-5)
        assert (prediction.label, prediction.probability) == prediction.top[0]


def test_more_classes_than_there_are_give_all(loaded, mixed, classes):
    (prediction,) = loaded.predict(mixed[0], top=100)
    assert sorted(name for name, _ in prediction.top) == sorted(classes)
    assert sum(value for _, value in prediction.top) == pytest.approx(1)


def test_no_images_give_no_predictions(loaded):
    assert loaded.predict([]) == []


@pytest.mark.parametrize("wrong", [{"top": 0}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(loaded, mixed, wrong):
    with pytest.raises(RecipeError, match="at least 1"):
        loaded.predict(mixed, **wrong)


def test_a_file_that_is_no_image_is_named(loaded, tmp_path):
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"notes\.jpg"):
        loaded.predict(tmp_path / "notes.jpg")
