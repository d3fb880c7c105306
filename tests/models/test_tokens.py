from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from tests.models.tiny_clips import save_tokenizer

from tutelage.models import tokens as module
from tutelage.models.preprocess import (
    ClipTextPreprocess,
    ImagePreprocess,
    PairInputs,
    PairPreprocess,
    TextPreprocess,
    modality_of,
    preprocess_from_dict,
)
from tutelage.models.preprocess import preprocess_to_dict as as_dict
from tutelage.models.tokens import Corpus, TextInputs, longest, tokenize

WORDS = ("red", "green", "blue", "square", "circle")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer of BERT's kind that knows a few words."""
    return str(save_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS))


def texts(*lengths: int) -> list[str]:
    return [" ".join(WORDS[number % 5] for number in range(length)) for length in lengths]


@pytest.fixture(params=["clip", "transformers"])
def preprocess(request: pytest.FixtureRequest, vocabulary: str) -> Any:
    """Either kind, of eight tokens: six words, a start and an end."""
    return ClipTextPreprocess(8) if request.param == "clip" else TextPreprocess(vocabulary, length=8)


def test_only_texts_with_more_tokens_than_are_read_are_cut(preprocess: Any) -> None:
    assert tokenize(preprocess, texts(1, 5, 6, 7, 30)).cut.tolist() == [False, False, False, True, True]


def test_where_no_text_is_full_none_is_cut(preprocess: Any) -> None:
    assert not tokenize(preprocess, texts(1, 2)).cut.any()


@pytest.mark.parametrize(("lengths", "found"), [((1, 3), 5), ((5,), 7), ((2, 6), 8), ((30, 1), 8), ((6,), 8)])
def test_the_longest_text_says_how_many_tokens_are_needed(
    preprocess: Any, lengths: tuple[int, ...], found: int
) -> None:
    if isinstance(preprocess, ClipTextPreprocess) and lengths == (5,):
        found = 8  # one token short of full is taken for full
    assert longest(preprocess, texts(*lengths)) == found


def test_rows_are_what_the_preprocess_makes_of_their_texts(preprocess: Any) -> None:
    said = texts(2, 30, 1, 6)
    found = tokenize(preprocess, said).of(np.array([3, 0]))
    expected = preprocess([said[3], said[0]])
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert found["input_ids"].dtype == torch.int64


def test_padding_of_longer_texts_is_left_out_of_a_batch_of_short_ones(vocabulary: str) -> None:
    found = tokenize(TextPreprocess(vocabulary, length=8), texts(1, 6)).of(np.array([0]))
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "input_ids": (1, 3),
        "attention_mask": (1, 3),
    }


def test_many_texts_are_tokenized_piece_by_piece(preprocess: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(1, 2, 3, 4, 7, 2, 1)
    whole = tokenize(preprocess, said)
    monkeypatch.setattr(module, "CHUNK", 2)
    pieces = tokenize(preprocess, said)
    assert whole.cut.tolist() == pieces.cut.tolist()
    rows = np.arange(len(said))
    assert all(torch.equal(each, pieces.of(rows)[name]) for name, each in whole.of(rows).items())


def test_a_corpus_is_tokenized_once_for_each_preprocess(preprocess: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(module, "tokenize", lambda *given: calls.append(given[0]) or tokenize(*given))
    corpus, shorter = Corpus(texts(1, 2, 3)), replace(preprocess, length=6)
    for each in (preprocess, shorter, preprocess, replace(shorter)):
        corpus.tokens(each)
    assert calls == [preprocess, shorter]


def test_a_corpus_knows_its_texts_lengths() -> None:
    assert Corpus(["", "ab", "🙂"]).lengths.tolist() == [0, 2, 1]


def test_a_preprocess_takes_the_tokens_of_a_corpus(preprocess: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(2, 30, 1, 6)
    inputs = TextInputs(Corpus(said), np.array([3, 0, 3]))
    expected = preprocess([said[3], said[0], said[3]])
    preprocess(inputs)
    monkeypatch.setattr(module, "tokenize", None)
    found = preprocess(PairInputs(torch.zeros(3, 3, 4, 4), inputs))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_inputs_are_a_sequence_of_their_texts() -> None:
    said = texts(1, 2, 3)
    inputs = TextInputs(Corpus(said), np.array([2, 0]))
    assert (list(inputs), list(inputs[1:]), len(inputs)) == ([said[2], said[0]], [said[0]], 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_model_s_side(side: Any, vocabulary: str) -> None:
    said = texts(1, 4)
    preprocess = TextPreprocess(vocabulary, padding=side)
    found = tokenize(preprocess, said).of(np.array([0, 1]))
    assert found["attention_mask"].sum(0).tolist() == ([1, 1, 1, 2, 2, 2] if side == "left" else [2, 2, 2, 1, 1, 1])


def test_clip_s_tokens_are_open_clip_s() -> None:
    said = ["A  photo of\ta cat &amp; a dog", "🐈"]
    expected = open_clip.get_tokenizer("ViT-B-32")(said)
    assert torch.equal(ClipTextPreprocess()(said)["input_ids"], expected)
    assert torch.equal(ClipTextPreprocess(model="ViT-B-32")(said)["input_ids"], expected)


def test_of_pairs_the_texts_are_read(preprocess: Any) -> None:
    said = texts(1, 2)
    found, expected = preprocess(PairInputs(torch.zeros(2, 3, 4, 4), said)), preprocess(said)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_text_s_preprocess_is_read_back(vocabulary: str) -> None:
    preprocess = TextPreprocess(vocabulary, 9, "a {text} b", "left", "left", segments=True, limit=12)
    assert preprocess_from_dict(as_dict(preprocess)) == preprocess


@pytest.mark.parametrize(
    ("preprocess", "modality"),
    [
        (ImagePreprocess(4), "image"),
        (TextPreprocess("none"), "text"),
        (ClipTextPreprocess(), "text"),
        (PairPreprocess(ImagePreprocess(4), TextPreprocess("none")), "pair"),
    ],
)
def test_a_preprocess_tells_what_a_model_reads(preprocess: Any, modality: str) -> None:
    assert modality_of(preprocess) == modality


def test_a_clip_preprocess_is_read_back() -> None:
    preprocess = ClipTextPreprocess(16, "ViT-B-32")
    assert preprocess_from_dict(as_dict(preprocess)) == preprocess


def test_tokens_know_how_many_texts_they_are_of(tmp_path: Path) -> None:
    assert len(tokenize(ClipTextPreprocess(8), texts(1, 2, 3))) == 3
