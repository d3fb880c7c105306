from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.errors import ModelError
from tutelage.export.graph import Deployable, center_side, inference_copy
from tutelage.models.model import weight_hash
from tutelage.models.preprocess import TextPreprocess


def kernel(x, interpolation):
    """The triangle, and Keys' cubic with a = -1/2."""
    x = abs(x)
    if interpolation == "bilinear":
        return max(0.0, 1.0 - x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resize_matrix(source, size, interpolation):
    """Row i holds each source pixel's share in output pixel i; the kernel is widened when shrinking."""
    scale = source / size
    width = max(scale, 1.0)
    rows = np.array(
        [[kernel((j + 0.5 - (i + 0.5) * scale) / width, interpolation) for j in range(source)] for i in range(size)]
    )
    return rows / rows.sum(1, keepdims=True)


def reference(image, preprocess):
    height, width, _ = image.shape
    side = max(1, int(np.floor(min(height, width) * preprocess.crop + 0.5)))
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side].astype(np.float64) / 255
    matrix = resize_matrix(side, preprocess.size, preprocess.interpolation)
    resized = np.einsum("yi,ijc,xj->yxc", matrix, square, matrix).clip(0, 1)
    return ((resized - preprocess.mean) / preprocess.std).transpose(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (32, 32), (33, 70), (91, 64), (150, 151)])
def test_preparation_agrees_with_the_slow_reference(tiny, pixels, shape, interpolation):
    deployable = Deployable(tiny(interpolation=interpolation, crop=0.9))
    image = pixels(*shape)
    actual = deployable.prepare(torch.from_numpy(image)[None])[0].double().numpy()
    np.testing.assert_allclose(actual, reference(image, deployable.preprocess), atol=2e-5)


@pytest.mark.parametrize(
    ("height", "width", "crop", "side"),
    [(100, 60, 1.0, 60), (288, 300, 256 / 288, 256), (10, 10, 0.95, 10), (4, 9, 0.9, 4), (1, 1, 0.1, 1)],
)
def test_center_side(height, width, crop, side):
    assert center_side(height, width, crop) == side


def test_logits_are_those_of_the_model_on_the_center_square(tiny, pixels):
    model = tiny().eval()
    image = torch.from_numpy(pixels(40, 50))
    views = image[:, 5:45].permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(Deployable(model)(image[None]), model(views).logits)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 8, 8, 3),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 0, 8, 3, dtype=torch.uint8),
    ],
)
def test_other_than_uint8_images_are_refused(tiny, images):
    with pytest.raises(ModelError, match="uint8"):
        Deployable(tiny()).prepare(images)


def test_a_model_of_texts_sees_no_images(tiny):
    model = tiny()
    model.encoder.preprocess = TextPreprocess("none")
    with pytest.raises(ModelError, match="text"):
        Deployable(model).prepare(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))


def test_an_inference_copy_leaves_the_model_as_it_is(tiny):
    model = tiny()
    model.encoder.eval()
    before = weight_hash(model), [module.training for module in model.modules()]
    copied = inference_copy(model)
    torch.nn.init.zeros_(copied.head.linear.weight)
    assert not any(module.training for module in copied.modules())
    assert (weight_hash(model), [module.training for module in model.modules()]) == before
    assert all(parameter.requires_grad for parameter in model.parameters())
