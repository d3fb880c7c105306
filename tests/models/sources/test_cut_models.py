from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.tiny_texts import FAMILIES, save_family

from tutelage.errors import ModelError
from tutelage.models import build_encoder, check_name
from tutelage.models.sources import modality
from tutelage.models.sources.cut_models import chosen_layers

SAID = ["red green", "blue circle square red green red"]
LISTED = [name for name in FAMILIES if name != "albert"]
"""Families whose layers sit in a list; ALBERT's are one layer, run often."""


@pytest.mark.parametrize(
    ("wanted", "count", "kept"),
    [
        (1, 6, (0,)),
        (2, 6, (0, 5)),
        (3, 6, (0, 2, 5)),
        (3, 7, (0, 3, 6)),
        (4, 12, (0, 4, 7, 11)),
        (6, 6, (0, 1, 2, 3, 4, 5)),
        ((1, 3), 6, (1, 3)),
        ((5, 9), 10, (5, 9)),
    ],
)
def test_layers_are_evenly_spaced_or_those_that_are_named(
    wanted: int | tuple[int, ...], count: int, kept: tuple[int, ...]
) -> None:
    assert chosen_layers("m", wanted, count) == kept


@pytest.mark.parametrize("wanted", [7, (0, 6)])
def test_no_more_layers_than_there_are(wanted: int | tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="m: there are 6 layers, 0 to 5"):
        chosen_layers("m", wanted, 6)


@pytest.mark.parametrize("family", LISTED)
def test_any_family_is_cut(family: str, tmp_path: Path) -> None:
    encoder = build_encoder(f"cut:2@{save_family(family, tmp_path)}", pretrained=True)
    with torch.no_grad():
        features = encoder(SAID).features
    assert features.shape == (2, encoder.widths["features"])
    assert encoder.tower.config.num_hidden_layers == 2


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama"])
def test_all_layers_together_are_the_model(family: str, tmp_path: Path) -> None:
    name = save_family(family, tmp_path)
    whole, cut = build_encoder(name, pretrained=True), build_encoder(f"cut:4@{name}", pretrained=True)
    with torch.no_grad():
        assert torch.equal(whole(SAID).features, cut(SAID).features)


def test_the_layers_that_stay_keep_their_weights(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path)
    whole, cut = (build_encoder(each, pretrained=True).tower for each in (name, f"cut:1,3@{name}"))
    for row, kept in enumerate((1, 3)):
        expected, found = whole.encoder.layer[kept].state_dict(), cut.encoder.layer[row].state_dict()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("layers", ["1", "0,3", "1,3"])
def test_a_cut_t5_still_knows_positions(layers: str, tmp_path: Path) -> None:
    """Its first layer holds the relative positions of all; without them, the order of words would not matter."""
    encoder = build_encoder(f"cut:{layers}@{save_family('t5', tmp_path)}", pretrained=True)
    with torch.no_grad():
        forth, back = encoder(["red green blue"]).features, encoder(["blue green red"]).features
    assert not torch.allclose(forth, back, atol=1e-3)


def test_layers_are_numbered_anew(tmp_path: Path) -> None:
    """Decoders look their kind of attention up by it."""
    encoder = build_encoder(f"cut:1,3@{save_family('llama', tmp_path)}", pretrained=True)
    assert [layer.self_attn.layer_idx for layer in encoder.tower.layers] == [0, 1]


def test_kinds_of_attention_stay_with_their_layers(tmp_path: Path) -> None:
    name = save_family("modernbert", tmp_path)
    whole, cut = (build_encoder(each, pretrained=True).tower.config for each in (name, f"cut:0,2@{name}"))
    assert list(cut.layer_types) == [whole.layer_types[0], whole.layer_types[2]]


def test_a_random_start_is_the_same_architecture(tmp_path: Path) -> None:
    name = f"cut:2@{save_family('bert', tmp_path)}"
    pretrained, random = (build_encoder(name, pretrained=each).state_dict() for each in (True, False))
    assert {key: value.shape for key, value in pretrained.items()} == {
        key: value.shape for key, value in random.items()
    }
    assert not torch.equal(
        pretrained["tower.encoder.layer.0.output.dense.weight"], random["tower.encoder.layer.0.output.dense.weight"]
    )


def test_its_source_tells_what_it_was_cut_from(tmp_path: Path) -> None:
    name = save_family("bert", tmp_path)
    source = build_encoder(f"cut:2@{name}", pretrained=True).source
    assert (source["source"], source["identifier"], source["layers"]) == ("cut", f"2@{name}", [0, 3])
    assert source["pretrained"] == name.removeprefix("hf:")


def test_a_model_without_a_list_of_layers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="albert model keeps its layers in no list"):
        build_encoder(f"cut:2@{save_family('albert', tmp_path)}", pretrained=False)


def test_too_many_layers_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are 4 layers"):
        check_name(f"cut:5@{save_family('bert', tmp_path)}", pretrained=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut:@hf:x/y", "names no layers"),
        ("cut:two@hf:x/y", "names no layers"),
        ("cut:2", "names no layers"),
        ("cut:0@hf:x/y", "at least one"),
        ("cut:3,1@hf:x/y", "ascending"),
        ("cut:1,1@hf:x/y", "once"),
        ("cut:2@bundled:efficientnet-lite0", "reads images"),
    ],
)
def test_what_is_no_cut_is_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_name(name, pretrained=True)


def test_its_modality_is_known_without_building() -> None:
    assert modality("cut:2@hf:x/y") == "text"
