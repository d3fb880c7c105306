from __future__ import annotations

import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutelage.models.segmentation_head import SegmentationHead

WIDTH, CLASSES, CHANNELS = 6, 3, 4


@pytest.fixture
def head() -> SegmentationHead:
    """A small head with random weights and statistics, in float64 and train mode, without dropout."""
    torch.manual_seed(0)
    made = SegmentationHead(WIDTH, CLASSES, channels=CHANNELS, rates=(1, 2, 3), dropout=0.0).double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    nn.init.normal_(made.classifier.weight)
    assert made.classifier.bias is not None
    nn.init.normal_(made.classifier.bias)
    return made


def patches(count: int = 2, side: int = 7) -> Tensor:
    return torch.rand(count, WIDTH, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def block(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """A convolution by a loop over its taps, normalized by the running statistics, and what is above zero of it."""
    size, rate = convolution.kernel_size[0], convolution.dilation[0]
    reach, (height, width) = rate * (size // 2), x.shape[-2:]
    padded = F.pad(x, (reach,) * 4)
    total = torch.zeros(len(x), len(convolution.weight), height, width, dtype=x.dtype)
    for row in range(size):
        for column in range(size):
            seen = padded[..., row * rate : row * rate + height, column * rate : column * rate + width]
            total += torch.einsum("bchw,oc->bohw", seen, convolution.weight[:, :, row, column])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    shape = (1, -1, 1, 1)
    scaled = (total - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return (scaled * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)


def test_agrees_with_a_slow_reference(head: SegmentationHead) -> None:
    head.eval()
    x, aspp = patches(), head.decoder.aspp
    branches = [block(x, branch[0], branch[1]) for branch in aspp.convs[:4]]
    pooled = block(x.mean((2, 3), keepdim=True), aspp.convs[4][1], aspp.convs[4][2])
    joined = block(torch.cat([*branches, pooled.expand(-1, -1, 7, 7)], 1), aspp.project[0], aspp.project[1])
    decoded = block(joined, head.decoder.conv, head.decoder.bn)
    expected = torch.einsum("bchw,oc->bohw", decoded, head.classifier.weight[:, :, 0, 0])
    assert head.classifier.bias is not None
    torch.testing.assert_close(head(x), expected + head.classifier.bias.view(1, -1, 1, 1))


def test_its_defaults_are_those_of_deeplabv3() -> None:
    ours = SegmentationHead(512, 150)
    theirs = smp.DeepLabV3("resnet18", encoder_weights=None, classes=150)
    weights = {f"decoder.{key}": tuple(value.shape) for key, value in theirs.decoder.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in ours.state_dict().items() if key.startswith("decoder.")}
    assert found == weights
    rates = [branch[0].dilation for branch in ours.decoder.aspp.convs[1:4]]
    assert rates == [branch[0].dilation for branch in theirs.decoder.aspp.convs[1:4]]
    assert ours.decoder.aspp.project[3].p == theirs.decoder.aspp.project[3].p
    assert ours.classifier.weight.shape == theirs.segmentation_head[0].weight.shape


def test_gives_logits_at_the_resolution_of_the_patches(head: SegmentationHead) -> None:
    assert head(patches(3, 5)).shape == (3, CLASSES, 5, 5)


def test_all_of_it_learns_from_its_start_on() -> None:
    head = SegmentationHead(WIDTH, CLASSES, channels=CHANNELS, rates=(1, 2, 3))
    head(patches().float()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())


def test_every_parameter_learns(head: SegmentationHead) -> None:
    head(patches()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())


def test_a_batch_of_one_image_takes_the_mean_of_its_map_by_the_statistics_so_far(head: SegmentationHead) -> None:
    pooling = head.decoder.aspp.convs[4]
    before = {key: value.clone() for key, value in pooling.state_dict().items()}
    found = head(patches(1))
    assert all(torch.equal(value, before[key]) for key, value in pooling.state_dict().items())
    pooling.eval()
    torch.testing.assert_close(found, head(patches(1)))


def test_batches_of_several_images_are_normalized_by_their_own_statistics(head: SegmentationHead) -> None:
    norm = head.decoder.aspp.convs[4][2]
    x = torch.rand(3, CHANNELS, 1, 1, dtype=torch.float64)
    expected = F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    torch.testing.assert_close(norm(x), expected)
    assert not torch.equal(norm.running_mean, before)


def test_importing_the_module_does_not_import_the_decoders_package() -> None:
    code = "import sys, tutelage.models.segmentation_head; sys.exit('segmentation_models_pytorch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
