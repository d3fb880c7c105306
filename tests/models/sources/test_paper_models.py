"""The encoders of the source's classification experiments: two students and two teachers, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import pytest
import timm
import torch
from torch import nn

from tutelage.models import Encoder, LinearHead, Model, build_encoder, parameter_count

FASTVIT = "timm:fastvit_s12"
MOBILEVIT = "timm:mobilevitv2_100"
DINOV2 = "timm:vit_large_patch14_dinov2.lvd142m"
CLIP = "openclip:ViT-L-14/datacomp_xl_s13b_b90k"
EVERYTHING = frozenset({"features", "embedding", "patches"})

SIZES = {FASTVIT: 256, MOBILEVIT: 256, DINOV2: 56, CLIP: 28}
"""The teachers' are small, for time: all that depends on them is the number of tokens and of position embeddings."""


@dataclass(frozen=True)
class Facts:
    """What is known of an encoder.

    Attributes:
        parameters: Without a classifier, at the size that its weights were published for.
        widths: Of its outputs.
        patches: Side of its dense map, at the size in ``SIZES``.
        positions: Side of the grid of position embeddings at its published size; 0 without any.
    """

    parameters: int
    widths: dict[str, int]
    patches: int
    positions: int = 0


FACTS = {
    # timm lists 9.47 M with a classifier of 1,000 classes, which has 1,025,000.
    FASTVIT: Facts(8_448_576, {"features": 1024, "patches": 1024}, 8),
    # Published: 4.9 M, of which the classifier has 513,000.
    MOBILEVIT: Facts(4_388_841, {"features": 512, "patches": 512}, 8),
    # Published: 304.4 M, of which 1,024 are a mask token that only its own pretraining uses.
    DINOV2: Facts(304_367_616, {"features": 1024, "patches": 1024}, 4, positions=37),
    # Published: 304.0 M.
    CLIP: Facts(303_966_208, {"features": 1024, "embedding": 768, "patches": 1024}, 2, positions=16),
}


@pytest.fixture(scope="module", params=SIZES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """Each encoder in turn, built once; pytest runs all tests of one before it builds the next."""
    torch.manual_seed(0)
    return build_encoder(request.param, pretrained=False, size=SIZES[request.param])


def views(encoder: Encoder, count: int = 2) -> torch.Tensor:
    side = SIZES[encoder.name]
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def gradients(module: nn.Module, loss: Callable[[], torch.Tensor]) -> dict[str, float]:
    """Return the sum of the squares of every parameter's gradient that backward reaches.

    Each gradient is dropped as soon as it is there: those of a ViT-L would take as much memory as its weights.
    """
    found: dict[str, float] = {}

    def take(name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            found[name] = parameter.grad.square().sum().item()
            parameter.grad = None

        return hook

    handles = [p.register_post_accumulate_grad_hook(take(name)) for name, p in module.named_parameters()]
    loss().backward()
    for handle in handles:
        handle.remove()
    return found


def total(encoder: Encoder, count: int = 2) -> torch.Tensor:
    """Return a loss that every output has a part in."""
    outputs = encoder(views(encoder, count), EVERYTHING)
    return sum((outputs.require(name).square().mean() for name in encoder.widths), torch.zeros(()))


def test_has_the_published_number_of_parameters(encoder: Encoder) -> None:
    facts = FACTS[encoder.name]
    missing = facts.positions**2 - facts.patches**2 if facts.positions else 0
    assert parameter_count(encoder) == facts.parameters - 1024 * missing


@pytest.mark.parametrize(
    ("name", "classifier"), [(FASTVIT, 1_025_000), (MOBILEVIT, 513_000), (DINOV2, 0)], ids=["fastvit", "mvit", "dino"]
)
def test_the_library_counts_the_same_at_its_own_size(name: str, classifier: int) -> None:
    # On the meta device nothing is allocated.
    with torch.device("meta"):
        library = timm.create_model(name.removeprefix("timm:"), pretrained=False)
    assert parameter_count(library) == FACTS[name].parameters + classifier


def test_open_clip_counts_the_same_at_its_own_size() -> None:
    config = open_clip.get_model_config("ViT-L-14")
    vision = open_clip.CLIPVisionCfg(**config["vision_cfg"])
    with torch.device("meta"):
        tower = open_clip.model._build_vision_tower(config["embed_dim"], vision)
    assert parameter_count(tower) == FACTS[CLIP].parameters


def test_dinov2_sees_18_by_18_patches_unless_told_otherwise() -> None:
    with torch.device("meta"):
        outputs = build_encoder(DINOV2, pretrained=False)(torch.rand(1, 3, 300, 300), EVERYTHING)
    assert outputs.require("patches").shape == (1, 1024, 18, 18)


def test_gives_outputs_of_its_widths(encoder: Encoder) -> None:
    with torch.no_grad():
        outputs = encoder(views(encoder), EVERYTHING)
    facts = FACTS[encoder.name]
    found = {name: tuple(value.shape) for name, value in vars(outputs).items() if value is not None}
    maps = {"patches": (2, facts.widths["patches"], facts.patches, facts.patches)}
    assert found == {name: (2, width) for name, width in facts.widths.items()} | maps


def test_declares_its_widths(encoder: Encoder) -> None:
    assert encoder.widths == FACTS[encoder.name].widths


def test_outputs_are_finite(encoder: Encoder) -> None:
    with torch.no_grad():
        outputs = encoder(views(encoder), EVERYTHING)
    assert all(outputs.require(name).isfinite().all() for name in encoder.widths)


def test_a_loss_on_its_outputs_reaches_every_parameter(encoder: Encoder) -> None:
    """Students learn from them and teachers are finetuned by them; nothing may be left out of either."""
    encoder.train()
    found = gradients(encoder, lambda: total(encoder))
    encoder.eval()
    assert found.keys() == dict(encoder.named_parameters()).keys()
    assert all(torch.tensor(list(found.values())).isfinite())


def test_only_a_residual_branch_that_starts_at_zero_learns_nothing_at_first(encoder: Encoder) -> None:
    """timm starts the last norm of MobileViTv2's one residual branch at zero: the branch's other parameters wait."""
    encoder.train()
    found = gradients(encoder, lambda: total(encoder))
    encoder.eval()
    still = {name for name, square in found.items() if square == 0}
    branch = "backbone.stages.1.1.conv"
    behind = {name for name in found if name.startswith(branch) and not name.startswith(f"{branch}3_1x1.bn")}
    assert still == (behind if encoder.name == MOBILEVIT else set())
    assert bool(behind) == (encoder.name == MOBILEVIT)


def test_a_classifier_on_its_features_can_be_finetuned(encoder: Encoder) -> None:
    """Task losses read the pooled features alone; what only patches or the embedding use then stays as it is."""
    head = LinearHead(encoder.widths["features"], 10)
    nn.init.normal_(head.linear.weight, std=0.01)  # at zero, nothing below the head would learn
    model = Model(encoder, head).train()
    targets = torch.tensor([3, 7])
    found = gradients(model, lambda: nn.functional.cross_entropy(model(views(encoder)).require("logits"), targets))
    model.eval()
    unused = {"encoder.projection"} if encoder.name == CLIP else set()
    assert dict(model.named_parameters()).keys() - found.keys() == unused
