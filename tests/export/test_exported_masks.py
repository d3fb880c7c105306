"""Masks: the reference, and every exported form of it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tutelage.errors import ExportError, ModelError
from tutelage.export import EXPORTERS, Material
from tutelage.export.graph import Deployable, inference_copy, letterboxed, to_masks
from tutelage.export.int8 import compare_masks, export_int8
from tutelage.export.onnx import export_onnx
from tutelage.export.parity import check_mask_parity
from tutelage.export.predict import LoadedModel
from tutelage.export.scoring import open_onnx_masks, open_torch_masks
from tutelage.models.preprocess import preprocess_from_dict
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.runtime.letterbox import fitted
from tutelage.runtime.palette import default_palette

SHAPES = [
    (8, 8),
    (1, 1),
    (1, 7),
    (300, 1),
    (64, 64),
    (64, 32),
    (120, 50),
    (50, 121),
    (63, 65),
    (10, 1000),
    (300, 400),
]
COLORS = [(1, 2, 3), (4, 5, 6), (7, 8, 9), (255, 0, 0)]


def reference(model, image):
    """The logits of one image, and the class of each of its pixels, step by step in float64."""
    with torch.no_grad():
        logits = Deployable(inference_copy(model))(torch.from_numpy(image)[None])[0]
    size = model.encoder.preprocess.size
    height, width = image.shape[:2]
    inside = fitted(height, width, size)
    told = np.empty((height, width), int)
    full = bilinear(logits.double().numpy(), size)
    for row in range(height):
        for column in range(width):
            place = (2 * row + 1) * inside[0] // (2 * height), (2 * column + 1) * inside[1] // (2 * width)
            told[row, column] = full[:, place[0], place[1]].argmax()
    return logits.numpy(), told


def bilinear(maps, size):
    """Upsample [C, h, w]: each axis as a weighted sum of the two nearest centers."""
    for axis in (1, 2):
        old = maps.shape[axis]
        center = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
        low = np.floor(center).astype(int)
        share = (center - low).reshape([-1 if each == axis else 1 for each in range(3)])
        maps = maps.take(low, axis) * (1 - share) + maps.take(np.minimum(low + 1, old - 1), axis) * share
    return maps


@pytest.fixture(scope="module", params=["bilinear", "bicubic"])
def model(request, dense):
    return dense(interpolation=request.param)


@pytest.fixture(scope="module")
def exported(model, classes, tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "model.onnx"
    return export_onnx(model, path, classes=classes, metadata={"method": "scratch"}, palette=COLORS)


@pytest.fixture(scope="module")
def segment(exported):
    return open_onnx_masks(exported)


@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (40, 23), (64, 64), (30, 100)], ids=str)
def test_the_reference_agrees_with_a_slow_one(dense, pixels, shape):
    model, image = dense(), pixels(*shape)
    logits, told = reference(model, image)
    (mask,) = to_masks(torch.from_numpy(logits)[None], [shape], 64)
    assert (mask.shape, mask.dtype) == (shape, torch.int64)
    assert (mask.numpy() == told).mean() > 0.999


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_letterbox_holds_the_whole_image_and_else_nothing(pixels, shape):
    views = torch.from_numpy(pixels(*shape)).permute(2, 0, 1)[None].float() / 255
    height, width = fitted(*shape, 64)
    square = letterboxed(views, 64)
    expected = torch.nn.functional.interpolate(views, (height, width), mode="bilinear", antialias=True)
    torch.testing.assert_close(square[..., :height, :width], expected)
    assert square.sum() == pytest.approx(float(square[..., :height, :width].sum()))
    assert square.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_file_agrees_with_the_reference(model, segment, pixels, shape):
    images = np.stack([pixels(*shape, seed) for seed in range(2)])
    masks, logits = segment(images)
    with torch.no_grad():
        expected = Deployable(inference_copy(model))(torch.from_numpy(images))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5 * float(expected.abs().max()))
    assert (masks.dtype, masks.shape) == (np.uint8, images.shape[:3])
    for mask, told in zip(masks, to_masks(expected, [shape] * 2, 64), strict=True):
        assert (mask == told.numpy()).mean() > 0.999


def test_masks_differ_within_an_image(segment, pixels):
    """Else all of the above could agree on a constant."""
    masks, _ = segment(pixels(60, 60)[None])
    assert len(np.unique(masks)) > 1


def test_the_padding_never_leaks_into_the_mask(dense, classes, pixels, tmp_path):
    """A model that calls black, and nothing else, the second class; the image is white up to its border."""
    model = dense()
    model.encoder.net = torch.nn.AvgPool2d(8)
    model.head.classifier = torch.nn.Conv2d(3, 4, 1)
    torch.nn.init.zeros_(model.head.classifier.weight)
    torch.nn.init.zeros_(model.head.classifier.bias)
    with torch.no_grad():
        model.head.classifier.weight[0] = 1
        model.head.classifier.weight[1] = -1
        model.head.classifier.bias[2:] = -100
    segment = open_onnx_masks(export_onnx(model, tmp_path / "m.onnx", classes=classes, metadata={}))
    for shape in ((40, 10), (10, 40)):
        masks, logits = segment(np.full((1, *shape, 3), 255, np.uint8))
        assert (logits.argmax(1) == 1).any()
        assert not masks.any()


def test_inputs_and_outputs(exported):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (images,), outputs = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", "height", "width", 3])
    assert [(each.name, each.type, each.shape) for each in outputs] == [
        ("mask", "tensor(uint8)", ["batch", "height", "width"]),
        ("logits", "tensor(float)", ["batch", 4, 8, 8]),
    ]


@pytest.fixture(scope="module")
def many(dense, tmp_path_factory):
    """A model of 300 classes, whose colors nobody gave."""
    model, path = dense(classes=300), tmp_path_factory.mktemp("many") / "model.onnx"
    return model, export_onnx(model, path, classes=[str(number) for number in range(300)], metadata={})


def test_more_than_255_classes_are_counted_in_int32(many, pixels):
    _, path = many
    masks, logits = open_onnx_masks(path)(pixels(64, 64)[None])
    assert masks.dtype == np.int32
    assert masks.max() > 255
    (told,) = to_masks(torch.from_numpy(logits), [(64, 64)], 64)
    assert (masks[0] == told.numpy()).mean() > 0.999


def metadata(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map


def test_metadata(model, exported, classes):
    found = metadata(exported)
    assert tuple(json.loads(found["classes"])) == classes
    assert preprocess_from_dict(json.loads(found["preprocess"])) == model.encoder.preprocess
    assert (found["task"], found["method"]) == ("segmentation", "scratch")
    assert [tuple(color) for color in json.loads(found["palette"])] == COLORS


def test_without_colors_there_is_our_own_palette(many):
    assert [tuple(color) for color in json.loads(metadata(many[1])["palette"])] == default_palette(300)


@pytest.mark.parametrize("palette", [[(0, 0, 0)] * 3, [(0, 0, 256)] * 4, [(0, 0)] * 4])
def test_a_palette_of_other_than_one_color_a_class_is_refused(dense, classes, tmp_path, palette):
    with pytest.raises(ExportError, match="palette must be 4 colors"):
        export_onnx(dense(), tmp_path / "m.onnx", classes=classes, metadata={}, palette=palette)


def test_the_file_passes_the_checker(exported):
    onnx.checker.check_model(onnx.load(exported), full_check=True)


def test_a_model_of_pixels_that_sees_the_center_is_refused(dense):
    with pytest.raises(ModelError, match="letterbox"):
        Deployable(dense(fit="center"))


@pytest.fixture(scope="module")
def program(dense, classes, tmp_path_factory):
    model, folder = dense(), tmp_path_factory.mktemp("program")
    material = Material(model, classes, {"provenance": "{}"}, palette=COLORS)
    return model, EXPORTERS["torch"].write(material, folder)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_export_agrees_with_the_reference(program, pixels, shape):
    model, path = program
    images = pixels(*shape)[None]
    masks, logits = open_torch_masks(path)(images)
    with torch.no_grad():
        expected = Deployable(inference_copy(model))(torch.from_numpy(images))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5 * float(expected.abs().max()))
    assert (masks[0] == to_masks(expected, [shape], 64)[0].numpy()).mean() > 0.999


def test_torch_export_carries_the_palette(program):
    extra = {"palette": "", "classes": ""}
    torch.export.load(program[1], extra_files=extra)
    assert [tuple(color) for color in json.loads(extra["palette"])] == COLORS


@pytest.fixture(scope="module")
def deeplab(dense, classes, pixels, tmp_path_factory):
    """A model with the real head, exported in float and in whole numbers."""
    model, folder = (
        dense(lambda width, count: SegmentationHead(width, count, channels=16)),
        tmp_path_factory.mktemp("i"),
    )
    material = Material(model, classes, {}, [pixels(50 + seed % 3, 70, seed) for seed in range(6)])
    return model, EXPORTERS["onnx"].write(material, folder), export_int8(material, folder)


def test_the_real_head_is_exported(deeplab, pixels):
    model, path, _ = deeplab
    images = [pixels(90, 120, 1), pixels(120, 90, 2), pixels(90, 120, 3)]
    parity = check_mask_parity(model, path, images)
    assert parity.images == 3
    assert parity.relative < 1e-4
    assert parity.agreement > 0.999


def test_int8_agrees_on_most_pixels_at_sizes_that_it_was_not_calibrated_on(deeplab, pixels):
    _, exact, small = deeplab
    images = [pixels(33, 90, 100), pixels(20, 20, 101), pixels(120, 64, 102)]
    found = compare_masks(open_onnx_masks(exact), open_onnx_masks(small), images)
    assert found.images == 3
    assert 0.8 < found.agreement < 1
    assert 0 < found.probability < 0.1
    assert metadata(small) == {**metadata(exact), "precision": "int8"}


def files(*answers):
    """A file that gives these (mask, logits), one an image."""
    remaining = iter(answers)
    return lambda images: tuple(np.asarray(each)[None] for each in next(remaining))


def test_agreement_is_the_share_of_equal_pixels(pixels):
    even = np.zeros((2, 1, 1), np.float32)
    exact = files(([[0, 1], [1, 1]], even), ([[0, 0]], even))
    other = files(([[0, 1], [1, 0]], even), ([[0, 0]], even))
    found = compare_masks(exact, other, [pixels(2, 2), pixels(1, 2)])
    assert (found.images, found.agreement, found.probability) == (2, (0.75 + 1) / 2, 0)


def test_logits_that_are_no_numbers_never_agree(pixels):
    one, two = (files(([[0]], np.full((2, 1, 1), value, np.float32))) for value in (0, np.nan))
    assert compare_masks(one, two, [pixels(1, 1)]).agreement == 0


def test_a_file_of_other_logits_is_refused(dense, exported, model, pixels):
    other = dense()
    torch.nn.init.normal_(other.head.classifier.weight, std=3)
    with pytest.raises(ExportError, match="does not agree with the trained model on 1 samples"):
        check_mask_parity(other, exported, [pixels(40, 40)])


def test_a_file_whose_masks_are_not_those_of_its_logits_is_refused(dense, exported, model, pixels):
    segment = open_onnx_masks(exported)

    def flipped(images):
        masks, logits = segment(images)
        return masks[:, ::-1], logits

    with pytest.raises(ExportError, match="pixels of a mask have another class"):
        check_mask_parity(model, exported, [pixels(40, 40)], opener=lambda path: flipped)


def test_ties_may_fall_to_any_class(dense, exported, pixels):
    """Where logits are level, rounding decides."""
    model = dense()
    torch.nn.init.zeros_(model.head.classifier.weight)
    torch.nn.init.zeros_(model.head.classifier.bias)
    level = lambda images: (np.full(images.shape[:3], 3), np.zeros((len(images), 4, 8, 8), np.float32))  # noqa: E731
    assert check_mask_parity(model, exported, [pixels(9, 9)], opener=lambda path: level).agreement == 0


def test_a_loaded_model_segments_at_the_images_sizes(dense, classes, pixels):
    model = dense().eval()
    loaded = LoadedModel(model, classes, "segmentation")
    images = [pixels(40, 60), pixels(7, 5, 1), pixels(100, 30, 2)]
    for image, mask in zip(images, loaded.segment(images, batch_size=2), strict=True):
        _, told = reference(model, image)
        assert (mask.dtype, mask.shape) == (np.int64, image.shape[:2])
        assert (mask == told).mean() > 0.999


def test_each_kind_of_model_says_what_to_call(dense, tiny, classes, pixels):
    with pytest.raises(ModelError, match="call segment"):
        LoadedModel(dense().eval(), classes, "segmentation").predict(pixels(9, 9))
    with pytest.raises(ModelError, match="call predict"):
        LoadedModel(tiny().eval(), classes, "classification").segment(pixels(9, 9))
