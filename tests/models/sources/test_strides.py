"""Encoders at an output stride of 8: a patch every 8 pixels, with the weights of the model as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import floor
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.export import save_model
from tutelage.models import Encoder, LinearHead, Model, build_encoder, check_name, weight_hash
from tutelage.models.segmentation_head import SegmentationHead
from tutelage.models.sources import strides

SIZE, SIDE = 64, 8
PATCHES = frozenset({"patches"})

# With the parameters that feed the pooled features alone, by how their names begin.
TIMM: dict[str, tuple[str, ...]] = {
    "timm:test_resnet": (),
    "timm:regnetx_002": (),
    "timm:test_convnext": ("backbone.head",),
    "timm:test_efficientnet": ("backbone.conv_head", "backbone.bn2"),
    "timm:mobilenetv3_small_050": ("backbone.conv_head",),
    "timm:mobilenetv4_conv_small_035": ("backbone.conv_head", "backbone.norm_head"),
    "timm:mobilevitv2_050": (),
    "timm:fastvit_t8": ("backbone.final_conv",),
    "timm:test_vit": ("backbone.fc_norm",),
    "timm:vit_tiny_patch16_224": (),
}
OTHERS: dict[str, tuple[str, ...]] = {
    "openclip:tiny-vit-16": ("projection",),
    "openclip:tiny-trunk": ("tower.head",),
    "hf:vit": (),
    "hf:dinov2": ("tower.embeddings.mask_token",),
    "hf:dinov3": ("tower.embeddings.mask_token",),
    "hf:clip": ("projection",),
    "hf:siglip": ("tower.head",),
    "bundled:efficientnet-lite0": ("backbone.conv_head", "backbone.bn2"),
}
FAMILIES = TIMM | OTHERS
CLIPS_AND_HF = [name for name in OTHERS if not name.startswith("bundled")]

Build = Callable[..., Any]
"""Encoders are called what they are, but for the libraries' models in them."""


@pytest.fixture(scope="module")
def tiny_16(tiny_clips: dict[str, Any]) -> None:
    """A tiny CLIP model with patches of 16 pixels, known to open_clip."""
    config = open_clip.get_model_config("tiny-vit")
    config["vision_cfg"] |= {"patch_size": 16, "image_size": SIZE}
    open_clip.factory._MODEL_CONFIGS["tiny-vit-16"] = config


@pytest.fixture(scope="module")
def build(tiny_16: None, tmp_path_factory: pytest.TempPathFactory, hf_folders: dict[str, Any]) -> Build:
    """Return a function that builds an encoder of :data:`FAMILIES` with random weights, the same every time."""
    folder = tmp_path_factory.mktemp("hf-16")

    def built(name: str, *, size: int | None = SIZE, stride: int | None = None) -> Encoder:
        torch.manual_seed(0)
        source, _, identifier = name.partition(":")
        if source == "hf":
            path = folder / identifier
            config = copy.deepcopy(hf_folders[identifier][1].config)
            getattr(config, "vision_config", config).patch_size = 16
            config.save_pretrained(path)
            name = f"hf:{path}"
        return build_encoder(name, pretrained=False, size=size, stride=stride)

    return built


@pytest.fixture(scope="module")
def dense(build: Build) -> Callable[[str], Any]:
    """Return a function from a name to its encoder at stride 8, built once."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = build(name, stride=8)
        return made[name]

    return get


def views(count: int = 1, size: int = SIZE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def patches_of(encoder: Encoder, raw: Tensor) -> Tensor:
    with torch.no_grad():
        patches: Tensor = encoder(raw, PATCHES).require("patches")
    return patches


@pytest.mark.parametrize("name", FAMILIES)
def test_there_is_a_patch_every_eight_pixels(name: str, dense: Callable[[str], Any]) -> None:
    encoder = dense(name)
    assert encoder.stride == 8
    assert patches_of(encoder, views(2)).shape == (2, encoder.widths["patches"], SIDE, SIDE)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_still_there_and_change_no_patch(name: str, dense: Callable[[str], Any]) -> None:
    encoder = dense(name)
    with torch.no_grad():
        both = encoder(views(), frozenset({"features", "patches"}))
    assert both.require("features").shape == (1, encoder.widths["features"])
    torch.testing.assert_close(patches_of(encoder, views()), both.require("patches"))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_the_plain_model_load(name: str, dense: Callable[[str], Any], build: Build) -> None:
    plain, loaded = build(name).state_dict(), copy.deepcopy(dense(name))
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.fill_(9.0)
    loaded.load_state_dict(plain)
    found = loaded.state_dict()
    positions = {key for key in plain if found[key].shape != plain[key].shape}
    assert {key.rpartition(".")[2] for key in positions} <= {"pos_embed", "positional_embedding"}
    assert all(torch.equal(found[key], value) for key, value in plain.items() if key not in positions)
    assert not any((found[key] == 9.0).any() for key in positions)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_all_that_feeds_the_patches(name: str, dense: Callable[[str], Any]) -> None:
    encoder = copy.deepcopy(dense(name)).train()
    encoder(views(2), PATCHES).require("patches").square().mean().backward()
    still = {key for key, parameter in encoder.named_parameters() if parameter.grad is None}
    feeds_features = {key for key, _ in encoder.named_parameters() if key.startswith(FAMILIES[name] or ("nothing",))}
    assert still == feeds_features


@pytest.mark.parametrize("name", ["timm:fastvit_t8", "timm:test_vit", "timm:vit_tiny_patch16_224", *CLIPS_AND_HF])
def test_patches_lie_where_the_image_changes(name: str, dense: Callable[[str], Any]) -> None:
    raw = views(size=SIZE)
    changed = raw.clone()
    changed[..., SIZE // 2 :, : SIZE // 2] = 1 - changed[..., SIZE // 2 :, : SIZE // 2]
    moved = (patches_of(dense(name), raw) - patches_of(dense(name), changed)).square().sum(1)[0]
    half = SIDE // 2
    corners = [moved[:half, :half], moved[:half, half:], moved[half:, :half], moved[half:, half:]]
    assert max(range(4), key=lambda corner: corners[corner].mean().item()) == 2


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:fastvit_t8", "timm:test_vit", "hf:dinov2", "hf:dinov3"])
def test_other_multiples_of_the_stride_can_be_asked_for(name: str, dense: Callable[[str], Any]) -> None:
    with torch.no_grad():
        patches = dense(name)(views(), PATCHES, size=40).require("patches")
    assert patches.shape[2:] == (5, 5)


@pytest.mark.parametrize(
    "name", ["timm:test_vit", "openclip:tiny-vit-16", "openclip:tiny-trunk", "hf:vit", "hf:clip", "hf:dinov3"]
)
def test_patches_as_far_apart_as_they_are_wide_are_the_models_own(name: str, build: Build) -> None:
    size = 160 if name == "openclip:tiny-trunk" else SIZE  # its own: open_clip gives a trunk no other
    plain, same = build(name, size=size), build(name, size=size, stride=16)
    same.load_state_dict(plain.state_dict())
    with torch.no_grad():
        expected, found = (each(views(size=size), frozenset({"patches", "features"})) for each in (plain, same))
    torch.testing.assert_close(found.patches, expected.patches)
    torch.testing.assert_close(found.features, expected.features)


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:test_efficientnet", "timm:mobilenetv3_small_050", "timm:fastvit_t8"]
)
def test_a_convolutional_model_at_its_own_stride_pools_the_same_features(name: str, build: Build) -> None:
    plain, same = build(name).eval(), build(name, stride=32).eval()
    same.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(same(views()).features, plain(views()).features)


def test_a_fastvits_patches_are_what_its_final_convolution_reads(build: Build) -> None:
    plain, same = build("timm:fastvit_t8"), build("timm:fastvit_t8", stride=32)
    same.load_state_dict(plain.state_dict())
    expected = patches_of(plain, views())
    with torch.no_grad():
        assert torch.equal(plain.backbone.final_conv(patches_of(same, views())), expected)


def test_a_fastvit_is_its_plain_model_once_the_strides_are_undone(dense: Callable[[str], Any], build: Build) -> None:
    plain, undone = build("timm:fastvit_t8"), copy.deepcopy(dense("timm:fastvit_t8"))
    undone.load_state_dict(plain.state_dict())
    changed = [
        (mine, theirs)
        for mine, theirs in zip(undone.modules(), plain.modules(), strict=True)
        if getattr(mine, "stride", None) != getattr(theirs, "stride", None) and mine is not undone
    ]
    assert len(changed) == 6  # in two layers: the layer's own note, and the convolutions of both branches
    for mine, theirs in changed:
        mine.stride = theirs.stride
    with torch.no_grad():
        assert torch.equal(undone(views()).features, plain(views()).features)


def test_layers_before_the_stride_is_reached_see_the_same(dense: Callable[[str], Any], build: Build) -> None:
    plain, strided = build("timm:test_resnet"), copy.deepcopy(dense("timm:test_resnet"))
    strided.load_state_dict(plain.state_dict())
    with torch.no_grad():
        maps = [each.backbone.forward_intermediates(views(), intermediates_only=True) for each in (plain, strided)]
    same = [torch.equal(mine, theirs) for theirs, mine in zip(*maps, strict=True)]
    assert same == [True] * (len(same) - 2) + [False] * 2
    assert maps[1][-3].shape[-1] == maps[1][-1].shape[-1] == SIDE


def test_a_fastvit_can_still_be_reparameterized(dense: Callable[[str], Any]) -> None:
    encoder = copy.deepcopy(dense("timm:fastvit_t8")).train()
    torch.manual_seed(2)
    with torch.no_grad():
        for _ in range(3):
            encoder(views(2), PATCHES)  # gives its norms statistics that a wrong fusion would show
    encoder.eval()
    before = patches_of(encoder, views())
    encoder.backbone = reparameterize_model(encoder.backbone)
    assert not hasattr(encoder.backbone.stages[3].downsample.proj[0], "large_conv")
    torch.testing.assert_close(patches_of(encoder, views()), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "reach"), [(8, 0), (14, 3), (16, 4), (32, 12)])
def test_each_patch_is_centered_on_its_square_of_pixels(kernel: int, reach: int) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2, kernel, stride=kernel).double()
    strides.overlap(convolution, 8)
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    padded = torch.zeros(3, 40 + 2 * reach, 40 + 2 * reach, dtype=torch.float64)
    padded[:, reach : reach + 40, reach : reach + 40] = image[0]
    expected, bias = torch.empty(2, 5, 5, dtype=torch.float64), convolution.bias
    assert bias is not None
    for row in range(5):
        for column in range(5):
            patch = padded[:, 8 * row : 8 * row + kernel, 8 * column : 8 * column + kernel]
            expected[:, row, column] = (convolution.weight * patch).sum((1, 2, 3)) + bias
    torch.testing.assert_close(convolution(image)[0], expected)


def bicubic(grid_of: Tensor, side: int, *, antialias: bool) -> Tensor:
    """Resize a square grid [n, n, D] by sums over its points, in float64; upwards, where only the kernel differs."""
    a = -0.5 if antialias else -0.75
    count = len(grid_of)
    weights = torch.zeros(side, count, dtype=torch.float64)
    for target in range(side):
        center = (target + 0.5) * count / side - 0.5
        for source in range(floor(center) - 1, floor(center) + 3):
            x = abs(source - center)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * (x**3 - 5 * x**2 + 8 * x - 4)
            # With antialiasing what lies outside is left out, without it the border is repeated.
            if 0 <= source < count or not antialias:
                weights[target, min(max(source, 0), count - 1)] += near if x <= 1 else far
    weights /= weights.sum(1, keepdim=True)
    return torch.einsum("yi,xj,ijd->yxd", weights, weights, grid_of.double())


def test_timm_positions_are_resized_to_the_dense_grid(build: Build, dense: Callable[[str], Any]) -> None:
    plain, loaded = build("timm:vit_tiny_patch16_224", size=96), copy.deepcopy(dense("timm:vit_tiny_patch16_224"))
    loaded.load_state_dict(plain.state_dict())
    given, found = plain.backbone.pos_embed[0].detach(), loaded.backbone.pos_embed[0].detach()
    expected = bicubic(given[1:].view(6, 6, -1), SIDE, antialias=True).float()
    torch.testing.assert_close(found[0], given[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1:].view(SIDE, SIDE, -1), expected, rtol=1e-4, atol=1e-6)


def test_timm_positions_of_a_new_model_are_its_librarys_resized(build: Build) -> None:
    """A pretrained model comes at its own size, and only then gets its stride."""
    torch.manual_seed(0)
    model: Any = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)
    library = model.pos_embed[0].detach()
    found = build("timm:test_vit", size=96, stride=8).backbone.pos_embed[0].detach()
    expected = bicubic(library[1:].view(10, 10, -1), 12, antialias=True).float()
    torch.testing.assert_close(found[1:].view(12, 12, -1), expected, rtol=1e-4, atol=1e-6)


def test_open_clip_positions_are_resized_to_the_dense_grid(tiny_clips: dict[str, Any]) -> None:
    given = tiny_clips["tiny-vit"].visual.positional_embedding.detach()
    encoder: Any = build_encoder("openclip:tiny-vit/mine", pretrained=True, size=SIZE, stride=8)
    found = encoder.tower.positional_embedding.detach()
    expected = bicubic(given[1:].view(4, 4, -1), SIDE, antialias=True).float()
    torch.testing.assert_close(found[0], given[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1:].view(SIDE, SIDE, -1), expected, rtol=1e-4, atol=1e-6)


def test_transformers_positions_are_resized_as_it_runs(dense: Callable[[str], Any]) -> None:
    encoder = dense("hf:vit")
    embeddings = encoder.tower.embeddings
    given = embeddings.position_embeddings[0].detach()
    assert len(given) == 1 + 2 * 2
    with torch.no_grad():
        found = embeddings.interpolate_pos_encoding(torch.zeros(1, 1 + SIDE**2, given.shape[1]), SIZE, SIZE)[0]
    expected = bicubic(given[1:].view(2, 2, -1), SIDE, antialias=False).float()
    torch.testing.assert_close(found[0], given[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1:].view(SIDE, SIDE, -1), expected, rtol=1e-4, atol=1e-5)


def test_registers_and_class_token_are_no_patches_at_a_stride() -> None:
    encoder: Any = build_encoder("timm:vit_small_patch14_reg4_dinov2", pretrained=False, size=40, stride=8)
    with torch.no_grad():
        tokens = encoder.backbone.forward_features((views(size=40) - 0.5) / 0.5)
    assert tokens.shape[1] == 1 + 4 + 25
    assert torch.equal(patches_of(encoder, views(size=40))[0, :, 1, 2], tokens[0, 5 + 1 * 5 + 2])


def test_a_segmentation_head_reads_the_patches(dense: Callable[[str], Any]) -> None:
    encoder = dense("timm:test_efficientnet")
    model = Model(encoder, SegmentationHead(encoder.widths["patches"], 3, channels=4)).eval()
    with torch.no_grad():
        outputs = model(views(2))
    assert outputs.require("logits").shape == (2, 3, SIDE, SIDE)
    assert outputs.features is None


def test_bundled_weights_are_the_same_at_a_stride() -> None:
    name = "bundled:efficientnet-lite0"
    encoder = build_encoder(name, pretrained=True, size=SIZE, stride=8)
    assert weight_hash(encoder) == weight_hash(build_encoder(name, pretrained=True, size=SIZE))
    assert encoder.widths["patches"] == 320


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Encoder]:
    """A run folder with a model that was made at its plain stride."""
    encoder = build_encoder("timm:test_efficientnet", pretrained=False, size=40)
    model = Model(encoder, LinearHead(encoder.widths["features"], 2))
    save_model(tmp_path / "run" / "model", model, classes=["a", "b"], task="classification", provenance={})
    return tmp_path / "run", encoder


def test_a_model_made_here_keeps_its_weights_at_a_stride(run: tuple[Path, Encoder]) -> None:
    encoder = build_encoder(str(run[0]), pretrained=True, stride=8)
    assert weight_hash(encoder) == weight_hash(run[1])
    assert (encoder.stride, encoder.preprocess) == (8, run[1].preprocess)
    assert patches_of(encoder, views(size=40)).shape[2:] == (5, 5)


def test_a_model_made_here_is_refused_at_a_size_between_strides(run: tuple[Path, Encoder]) -> None:
    with pytest.raises(ModelError, match="40 or 48"):
        check_name(str(run[0]), pretrained=True, size=44, stride=8)
