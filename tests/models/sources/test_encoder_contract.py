"""What every image encoder of every source must do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from tutelage.models import weight_hash

if TYPE_CHECKING:
    from conftest import Case

EVERYTHING = frozenset({"features", "embedding", "patches"})


def views(case: Case, count: int = 2) -> torch.Tensor:
    side = case.encoder.preprocess.size
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_outputs_have_the_declared_widths(case: Case) -> None:
    with torch.no_grad():
        outputs = case.encoder(views(case), EVERYTHING)
    given = {k: v.shape[1] for k, v in vars(outputs).items() if v is not None}
    assert given == case.encoder.widths


def test_pooled_outputs_are_vectors_and_patches_are_maps(case: Case) -> None:
    with torch.no_grad():
        outputs = case.encoder(views(case), EVERYTHING)
    assert outputs.require("features").ndim == 2
    assert outputs.require("patches").ndim == 4
    assert outputs.require("patches").shape[2] == outputs.require("patches").shape[3]


def test_agrees_with_its_library_on_normalized_images(case: Case) -> None:
    preprocess = case.encoder.preprocess
    mean, std = torch.tensor(preprocess.mean).view(3, 1, 1), torch.tensor(preprocess.std).view(3, 1, 1)
    raw = views(case)
    with torch.no_grad():
        outputs = case.encoder(raw, frozenset({case.output}))
        expected = case.reference((raw - mean) / std)
    torch.testing.assert_close(outputs.require(case.output), expected, rtol=1e-4, atol=1e-5)


def test_what_is_asked_for_does_not_depend_on_what_else_is(case: Case) -> None:
    raw = views(case)
    with torch.no_grad():
        together = case.encoder(raw, EVERYTHING)
        for name in case.encoder.widths:
            alone = case.encoder(raw, frozenset({name})).require(name)
            assert torch.equal(alone, together.require(name)), name


def test_views_of_another_size_are_brought_to_its_own(case: Case) -> None:
    with torch.no_grad():
        small = case.encoder(torch.rand(1, 3, 50, 50), EVERYTHING)
        own = case.encoder(views(case, 1), EVERYTHING)
    assert small.require("patches").shape == own.require("patches").shape


def test_patches_keep_their_place_in_the_image(case: Case) -> None:
    """A change in the lower left corner moves the lower left patches most."""
    size = case.encoder.preprocess.size
    raw = views(case, 1)
    changed = raw.clone()
    changed[..., size // 2 :, : size // 2] = 1 - changed[..., size // 2 :, : size // 2]
    with torch.no_grad():
        patches = [case.encoder(each, frozenset({"patches"})).require("patches") for each in (raw, changed)]
    moved = (patches[0] - patches[1]).square().sum(1)[0]
    if moved.shape[0] < 2:
        pytest.skip("a single patch has no place")
    middle = moved.shape[0] // 2
    corners = [moved[:middle, :middle], moved[:middle, -middle:], moved[-middle:, :middle], moved[-middle:, -middle:]]
    assert max(range(4), key=lambda corner: corners[corner].mean().item()) == 2


def test_gradients_reach_the_first_layer_in_train_mode(case: Case) -> None:
    encoder = copy.deepcopy(case.encoder).train()
    encoder(views(case, 3), frozenset({"features"})).require("features").square().sum().backward()
    convolution = next(module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d))
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.abs().sum() > 0


def test_is_float32(case: Case) -> None:
    assert {p.dtype for p in case.encoder.parameters()} == {torch.float32}


def test_a_copy_is_equal_and_apart(case: Case) -> None:
    before = weight_hash(case.encoder)
    copied = copy.deepcopy(case.encoder)
    assert weight_hash(copied) == before
    with torch.no_grad():
        next(copied.parameters()).add_(1.0)
    assert weight_hash(copied) != before
    assert weight_hash(case.encoder) == before


def test_weights_alone_restore_it(case: Case) -> None:
    other = copy.deepcopy(case.encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(case.encoder.state_dict())
    raw = views(case)
    with torch.no_grad():
        assert torch.equal(other(raw).features, case.encoder(raw).features)


def test_names_where_it_comes_from(case: Case) -> None:
    assert case.encoder.name.partition(":")[0] == case.encoder.source["source"]
    assert {"source", "identifier", "pretrained", "license"} == set(case.encoder.source)
    assert bool(case.encoder.source["pretrained"]) == case.encoder.pretrained
