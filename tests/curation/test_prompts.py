from __future__ import annotations

import pytest

from tutelage.curation.prompts import clip_templates, in_words, prompts
from tutelage.errors import RecipeError


def test_each_class_has_all_templates() -> None:
    assert prompts(["cat", "AnnualCrop"], ["a {}.", "the {}."]) == [
        "a cat.",
        "the cat.",
        "a annual crop.",
        "the annual crop.",
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("annual_crop", "annual crop"),
        ("HerbaceousVegetation", "herbaceous vegetation"),
        ("T-shirt", "T shirt"),
        ("HAM10K", "HAM10K"),
        ("tennis court", "tennis court"),
        (" a__b ", "a b"),
    ],
)
def test_class_names_are_written_in_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_the_source_s_templates_can_be_filled() -> None:
    assert len(set(prompts(["cat"], clip_templates()))) == 80


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place_for_the_name(template: str) -> None:
    with pytest.raises(RecipeError, match=r"exactly one \{\}"):
        prompts(["cat"], [template])


@pytest.mark.parametrize(("classes", "templates"), [([], ["{}"]), (["cat"], [])])
def test_prompts_need_classes_and_templates(classes: list[str], templates: list[str]) -> None:
    with pytest.raises(RecipeError, match="classes and templates"):
        prompts(classes, templates)
