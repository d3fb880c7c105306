from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tutelage.data.readers import READERS
from tutelage.export import EXPORTERS
from tutelage.methods import METHODS
from tutelage.objectives import OBJECTIVES
from tutelage.tasks import TASKS

if TYPE_CHECKING:
    from conftest import Command

PLACES = {"methods": METHODS, "tasks": TASKS, "data": READERS, "objectives": OBJECTIVES, "exporters": EXPORTERS}


@pytest.mark.parametrize("kind", PLACES)
def test_json_lists_every_name_with_what_it_is(tutelage: Command, kind: str) -> None:
    ended = tutelage("list", kind, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert list(found) == [kind]
    assert list(found[kind]) == list(PLACES[kind])
    assert all(found[kind].values())


@pytest.mark.parametrize("kind", PLACES)
def test_each_name_has_a_line(tutelage: Command, kind: str) -> None:
    lines = tutelage("list", kind).out.splitlines()
    assert [line.split()[0] for line in lines] == list(PLACES[kind])


def test_how_models_are_named_of_which_there_is_no_list(tutelage: Command) -> None:
    out = tutelage("list", "models").out
    assert all(name in out for name in ("hf:OWNER/NAME", "cut:2@NAME", "pair:IMAGE+TEXT"))


def test_models_of_every_source_are_listed(tutelage: Command) -> None:
    names = json.loads(tutelage("list", "models", "--json").out)["models"]
    assert {"timm:lcnet_050", "openclip:ViT-L-14/openai", "bundled:efficientnet-lite0"} <= set(names)


def test_match_keeps_the_names_that_contain_it_in_any_case(tutelage: Command) -> None:
    names = json.loads(tutelage("list", "models", "--match", "LCNET_05", "--json").out)["models"]
    assert "timm:lcnet_050" in names
    assert all("lcnet_05" in name for name in names)


def test_match_may_keep_nothing(tutelage: Command) -> None:
    assert tutelage("list", "methods", "--match", "zzz") == (0, "", "")
