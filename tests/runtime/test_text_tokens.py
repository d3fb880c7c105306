from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tutelage.errors import DataError, ModelError
from tutelage.models.tokenizers import tokenizer
from tutelage.runtime.texts import SEPARATOR, TextTokens, TokenRows, cleaned, filled, paired, parts

WORDS = ["the", "film", "was", "good", "bad", "long", "and", "very", "great", "plot!", "it's", "naïve", "café", "42"]
WORDS += ["Ünïcödé", "שלום", "🙂", "don't"]


def some_texts(count: int, most: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, most))) for _ in range(count)]


def bert_like() -> Any:
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = sorted(set("".join(WORDS).lower()) - {"🙂"})
    words = ["the", "film", "was", "good", "bad", "long", "and", "great", "plot", "it", "##ve", "na", "ca"]
    vocabulary = [*marks, *words, *letters, "i", "e", "u", "o", *(f"##{letter}" for letter in letters), "##e", "##o"]
    made = tokenizers.Tokenizer(models.WordPiece(dict(zip(vocabulary, range(999), strict=False)), unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), marks, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def gpt2_like() -> Any:
    """Bytes, and no token for padding."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(some_texts(50, 9), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", bos_token="<|end|>")


def t5_like() -> Any:
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    marks = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=marks, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(some_texts(200, 9), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


KINDS: dict[str, Callable[[], Any]] = {"bert": bert_like, "gpt2": gpt2_like, "t5": t5_like}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tokenizer of each kind."""
    place = tmp_path_factory.mktemp(request.param)
    KINDS[request.param]().save_pretrained(place)
    return place


@pytest.fixture
def bert(tmp_path: Path) -> Any:
    bert_like().save_pretrained(tmp_path)
    return tokenizer(str(tmp_path))


def theirs(folder: Path, texts: list[str], pairs: list[str] | None, side: str, cut: str, length: int) -> Any:
    """What transformers itself makes of texts."""
    reference = transformers.AutoTokenizer.from_pretrained(folder, padding_side=side, truncation_side=cut)
    if reference.pad_token is None:
        reference.pad_token = reference.eos_token
    options = {"max_length": length, "truncation": True, "padding": "longest", "return_tensors": "np"}
    return reference(texts, pairs, return_token_type_ids=True, **options)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("cut", ["left", "right"])
def test_single_texts_are_tokenized_as_transformers_does(folder: Path, side: Any, cut: Any) -> None:
    texts = [*some_texts(40, 12), "  leading", "trailing \n", "[SEP] <|end|> </s>"]
    found = TextTokens(*tokenizer(str(folder)), length=16, padding=side, truncation=cut)(texts)
    expected = theirs(folder, texts, None, side, cut, 16)
    assert all(np.array_equal(found[name], expected[name]) for name in ("input_ids", "attention_mask"))


@pytest.mark.parametrize("length", [15, 16, 60])
@pytest.mark.parametrize("cut", ["left", "right"])
def test_pairs_are_tokenized_as_transformers_does(folder: Path, cut: Any, length: int) -> None:
    """The longer part is cut first, and equal ones alike."""
    first, second = some_texts(60, 12, seed=1), some_texts(60, 12, seed=2)
    tokens = TextTokens(*tokenizer(str(folder)), length=length, truncation=cut, segments=True)
    found = tokens([paired(*both) for both in zip(first, second, strict=True)])
    expected = theirs(folder, first, second, "right", cut, length)
    assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("cut", ["left", "right"])
def test_of_a_long_text_in_a_template_the_text_alone_is_cut(folder: Path, cut: Any) -> None:
    template = "the film: {text} was it good?"
    backend, pad = tokenizer(str(folder))
    tokens = TextTokens(backend, pad, 48, template, truncation=cut)
    (long,) = tokens(["great plot " * 99])["input_ids"]
    said = backend.decode(long.tolist()).replace("it's", "it")
    words = [word for word in said.replace(":", " ").replace("?", " ").split() if not word.startswith("<")]
    assert len(long) == 48
    assert words[:2] == ["the", "film"]
    assert words[-3:] == ["was", "it", "good"]


@pytest.mark.parametrize(("cut", "kept"), [("left", "great bad"), ("right", "good great")])
def test_the_side_of_cutting_says_what_stays_of_a_text(bert: Any, cut: Any, kept: str) -> None:
    tokens = TextTokens(*bert, length=6, template="the {text} film", truncation=cut)
    assert bert[0].decode(tokens(["good great bad"])["input_ids"][0].tolist()) == f"the {kept} film"


def test_both_places_of_a_template_give_room(bert: Any) -> None:
    tokens = TextTokens(*bert, length=9, template="the {text_pair} and {text} film")
    row = tokens([paired("good " * 9, "bad " * 9)])["input_ids"][0].tolist()
    assert bert[0].decode(row) == "the bad bad and good good film"


def test_a_pair_in_a_template_for_one_stays_a_pair(bert: Any) -> None:
    tokens = TextTokens(*bert, length=20, template="the {text}", segments=True)
    assert tokens([paired("good", "bad")])["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_template_that_fills_a_row_is_refused(bert: Any) -> None:
    tokens = TextTokens(*bert, length=5, template="the long film {text}")
    with pytest.raises(ModelError, match="has 5 tokens, special ones counted, and rows have 5"):
        tokens(["good bad"])


def test_a_template_for_pairs_wants_pairs(bert: Any) -> None:
    with pytest.raises(DataError, match=r"asks for two texts, and 'good' is one"):
        TextTokens(*bert, template="{text} and {text_pair}")(["good"])


@pytest.mark.parametrize("template", ["film", "{text}{text}", "{text_pair}", "{text}{text_pair}{text_pair}"])
def test_a_template_has_one_place_for_a_text(template: str, bert: Any) -> None:
    with pytest.raises(ModelError, match=r"must hold \{text\} once"):
        TextTokens(*bert, template=template)


def test_a_text_s_own_braces_are_its_words(bert: Any) -> None:
    plain = TextTokens(*bert, template="{text} and {text_pair}")
    assert (
        plain([paired("{text_pair}", "bad")])["input_ids"].tolist()
        != plain([paired("bad", "bad")])["input_ids"].tolist()
    )
    assert filled("{text} and {text_pair}", paired("{text_pair}", "bad")) == "{text_pair} and bad"


def test_which_texts_were_cut_is_known(bert: Any) -> None:
    rows = TextTokens(*bert, length=4).rows(["good", "good bad", "good bad long"])
    assert rows.cut.tolist() == [False, False, True]
    assert rows.lengths.tolist() == [3, 4, 4]


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "good\x00bad\udfff"])
def test_what_no_tokenizer_takes_never_reaches_it(folder: Path, text: str) -> None:
    found = TextTokens(*tokenizer(str(folder)))([text, "good"])
    assert found["attention_mask"].any(1).all()


def test_a_text_without_a_token_has_one(tmp_path: Path) -> None:
    """Attention over nothing is not a number."""
    gpt2_like().save_pretrained(tmp_path)
    backend, pad = tokenizer(str(tmp_path))
    found = TextTokens(backend, pad)([""])
    assert (found["input_ids"].tolist(), found["attention_mask"].tolist()) == ([[0]], [[1]])
    assert backend.id_to_token(pad) == "<|end|>"


def test_the_files_beside_a_model_read_alike(folder: Path) -> None:
    texts = [*some_texts(20, 30), ""]
    told = {"length": 16, "template": "a {text}", "padding": "left", "truncation": "left", "segments": True}
    opened, trained = TextTokens.open(folder, told), TextTokens(*tokenizer(str(folder)), **told)
    found, expected = opened(texts), trained(texts)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer.json: no tokenizer that can be read"):
        TextTokens.open(tmp_path, {})


def test_a_description_without_a_length_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="lacks 'length'"):
        TextTokens.open(folder, {"template": "{text}"})


def test_pairs_are_one_text_and_come_apart_again() -> None:
    assert parts(paired("a", "b")) == ("a", "b")
    assert parts("a") == ("a", None)
    assert parts(paired(f"a{SEPARATOR}b", "")) == ("a b", "")


def test_cleaning_keeps_emoji_and_text_from_right_to_left() -> None:
    assert cleaned("🙂 שלום\x00") == "🙂 שלום "


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_agrees_with_a_loop(side: Any) -> None:
    lengths = [3, 1, 4, 2]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(1, 11, dtype=np.int32)
    rows = TokenRows(ids, ids.astype(np.int8) % 2, starts, np.zeros(4, np.bool_), pad=99, padding=side)
    found = rows.padded(np.array([2, 1, 3]))
    for place, row in enumerate((2, 1, 3)):
        own, rest = ids[starts[row] : starts[row + 1]].tolist(), [99] * (4 - lengths[row])
        assert found["input_ids"][place].tolist() == (rest + own if side == "left" else own + rest)
        assert found["attention_mask"][place].tolist() == [int(value != 99) for value in found["input_ids"][place]]
    assert found["token_type_ids"][found["attention_mask"] == 0].sum() == 0


def test_pieces_joined_are_the_whole(bert: Any) -> None:
    tokens, texts = TextTokens(*bert, length=8, segments=True), some_texts(9, 9)
    whole, pieces = tokens.rows(texts), TokenRows.joined([tokens.rows(texts[:4]), tokens.rows(texts[4:])])
    rows = np.array([8, 0, 4, 3])
    assert all(np.array_equal(value, pieces.padded(rows)[name]) for name, value in whole.padded(rows).items())
    assert np.array_equal(whole.cut, pieces.cut)
