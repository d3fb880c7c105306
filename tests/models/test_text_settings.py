from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.tiny_clips import save_tokenizer

from tutelage.errors import DataError, ModelError, UnknownNameError
from tutelage.models.preprocess import ClipTextPreprocess, ImagePreprocess, PairPreprocess, TextPreprocess
from tutelage.models.templates import TEMPLATES, template_of
from tutelage.models.text_settings import TextSettings
from tutelage.runtime.texts import paired

WORDS = ("red", "green", "blue")


@pytest.fixture
def preprocess(tmp_path: Path) -> TextPreprocess:
    return TextPreprocess(str(save_tokenizer(tmp_path, WORDS)), length=16, limit=32)


def test_lengths_are_of_the_student_and_of_teachers(preprocess: TextPreprocess) -> None:
    settings = TextSettings(student_length=8, teacher_length=24)
    lengths = [settings.read(preprocess, teaches=teaches, name="m").length for teaches in (False, True)]  # type: ignore[union-attr]
    assert lengths == [8, 24]


def test_nothing_said_leaves_a_model_s_own_way(preprocess: TextPreprocess) -> None:
    assert TextSettings().read(preprocess, teaches=True, name="m") == preprocess


def test_a_template_and_a_side_are_put_in(preprocess: TextPreprocess) -> None:
    found = TextSettings(template="a {text} b", truncation="left").read(preprocess, teaches=False, name="m")
    assert isinstance(found, TextPreprocess)
    assert (found.template, found.truncation) == ("a {text} b", "left")


def test_a_name_stands_for_a_prompt_of_the_source(preprocess: TextPreprocess) -> None:
    found = TextSettings(template="sst2").read(preprocess, teaches=False, name="m")
    assert isinstance(found, TextPreprocess)
    assert found.template == TEMPLATES["sst2"]


def test_a_model_that_reads_fewer_tokens_is_named(preprocess: TextPreprocess) -> None:
    with pytest.raises(ModelError, match=r"text.teacher_length: hf:x reads at most 32 tokens, not 33"):
        TextSettings(teacher_length=33).read(preprocess, teaches=True, name="hf:x")


def test_a_template_that_fills_all_of_the_length_is_refused(preprocess: TextPreprocess) -> None:
    with pytest.raises(ModelError, match=r"text.student_length: m: .* rows have 6: no text fits"):
        TextSettings(template="red green blue red {text}", student_length=6).read(preprocess, teaches=False, name="m")


def test_of_a_pair_s_preprocess_the_text_s_is_changed(preprocess: TextPreprocess) -> None:
    found = TextSettings(student_length=8).read(
        PairPreprocess(ImagePreprocess(4), preprocess), teaches=False, name="m"
    )
    assert isinstance(found, PairPreprocess)
    assert (found.image, found.text.length) == (ImagePreprocess(4), 8)


def test_a_reader_of_images_stays_as_it_is() -> None:
    settings = TextSettings(template="sst2", student_length=3)
    assert settings.read(ImagePreprocess(4), teaches=False, name="m") == ImagePreprocess(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TextSettings(teacher_length=9), "own number"),
        (TextSettings(template="mnli"), "without a template"),
    ],
)
def test_a_clip_tower_reads_texts_in_its_own_way(settings: TextSettings, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        settings.read(ClipTextPreprocess(8), teaches=True, name="m")


def test_an_unknown_template_is_answered_with_the_close_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mnli'"):
        TextSettings(template="mnly")


@pytest.mark.parametrize("template", ["{text} {text}", "{text} {text_pair} {text_pair}"])
def test_a_place_is_there_once(template: str) -> None:
    with pytest.raises(ModelError, match="once"):
        template_of(template)


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_end_with_a_word_whatever_the_texts_length(name: str, tmp_path: Path) -> None:
    """Decoders answer after the last word, so that must never be cut."""
    template = TEMPLATES[name]
    words = template.replace("{text}", " ").replace("{text_pair}", " ").split()
    preprocess = TextPreprocess(str(save_tokenizer(tmp_path, (*WORDS, *words))), length=40, template=template)
    made = paired if "{text_pair}" in template else lambda first, _: first
    short, long = preprocess([made("red", "blue"), made("red " * 99, "blue " * 99)])["input_ids"]
    ends = [row[row != 0][-3:] for row in (short, long)]
    assert torch.equal(ends[0], ends[1])


def test_texts_that_a_template_for_pairs_cannot_take_are_told_before_training() -> None:
    settings = TextSettings(template="mnli")
    settings.check([paired("red", "blue")])
    with pytest.raises(DataError, match="'green' is one"):
        settings.check([paired("red", "blue"), "green"])


def test_any_text_fits_where_there_is_no_place_for_a_second() -> None:
    TextSettings().check(["red", paired("red", "blue")])
    TextSettings(template="sst2").check(["red", paired("red", "blue")])
