"""Texts as tokens, the same where a model is trained and where its exported file answers; needs no torch.

A raw text is a string; a pair of sentences is one, too, with :data:`SEPARATOR` between its parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tutelage.errors import DataError, ModelError

SEPARATOR = "\x1e"
"""Stands between the two parts of a pair of sentences: ASCII's record separator, which no text holds."""

TEXT, TEXT_PAIR = "{text}", "{text_pair}"
"""Where a template wants a text, or a pair's first part, and a pair's second."""

Side = Literal["left", "right"]

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_PLACES = re.compile("({text}|{text_pair})")


def cleaned(text: str) -> str:
    """Return a text in which what no tokenizer takes, NUL and halves of surrogate pairs, became spaces."""
    return _UNFIT.sub(" ", text)


def paired(first: str, second: str) -> str:
    """Return two sentences as one raw text; a separator inside of one becomes a space."""
    return f"{first.replace(SEPARATOR, ' ')}{SEPARATOR}{second.replace(SEPARATOR, ' ')}"


def parts(text: str) -> tuple[str, str | None]:
    """Return a raw text's first part, and its second, ``None`` if it is no pair."""
    first, separator, second = text.partition(SEPARATOR)
    return first, second if separator else None


def check_template(template: str) -> None:
    """Check that a template has one place for the text, and one at most for a second part.

    Raises:
        ModelError: It has not.
    """
    if template.count(TEXT) != 1 or template.count(TEXT_PAIR) > 1:
        raise ModelError(
            f"the template {template!r} must hold {TEXT} once, and {TEXT_PAIR} once at most, for a pair's second text"
        )


def filled(template: str, text: str) -> str:
    """Put a raw text into a template.

    Args:
        template: Text with ``{text}`` and perhaps ``{text_pair}``.
        text: A raw text. A pair stays one where the template has no place for its second part.

    Raises:
        DataError: The template asks for a second part, and the text has none.
    """
    sequences, _ = _laid_out(template, text)
    return SEPARATOR.join(sequences)


@dataclass(frozen=True)
class TokenRows:
    """The tokens of N texts, one behind the other.

    Attributes:
        ids: Token numbers, int32 [T].
        types: Which part of a pair a token belongs to, int8 [T], for models that read it.
        starts: Where each text's tokens begin, and where the last one's end, int64 [N + 1].
        cut: Which texts had more tokens than are read, bool [N].
        pad: The number that fills short rows.
        padding: Side on which it does.
    """

    ids: npt.NDArray[np.int32]
    types: npt.NDArray[np.int8] | None
    starts: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]
    pad: int = 0
    padding: Side = "right"

    def __len__(self) -> int:
        return len(self.cut)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, int64 [N]."""
        return np.diff(self.starts)

    def padded(self, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """Return what a model reads of the texts in ``rows``, by name, each int64 [B, L], L the longest's."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        longest = int(lengths.max(initial=0))
        places = np.arange(longest) - ((longest - lengths)[:, None] if self.padding == "left" else 0)
        real = (places >= 0) & (places < lengths[:, None])
        source = (starts[:, None] + places)[real]
        filled_in = partial(self._filled, real, source)
        found = {"input_ids": filled_in(self.ids, self.pad), "attention_mask": real.astype(np.int64)}
        return found if self.types is None else {**found, "token_type_ids": filled_in(self.types, 0)}

    @staticmethod
    def _filled(
        real: npt.NDArray[np.bool_], source: npt.NDArray[np.int64], values: npt.NDArray[Any], rest: int
    ) -> npt.NDArray[np.int64]:
        grid = np.full(real.shape, rest, np.int64)
        grid[real] = values[source]
        return grid

    @staticmethod
    def joined(pieces: Sequence[TokenRows]) -> TokenRows:
        """Return the rows of one or more pieces that were made alike, in their order."""
        lengths = np.concatenate([piece.lengths for piece in pieces])
        types = [piece.types for piece in pieces if piece.types is not None]
        return TokenRows(
            np.concatenate([piece.ids for piece in pieces]),
            np.concatenate(types) if types else None,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([piece.cut for piece in pieces]),
            pieces[0].pad,
            pieces[0].padding,
        )


@dataclass(frozen=True)
class TextTokens:
    """Fills a template, tokenizes, and cuts what is too long: of the texts, never of the template's words.

    Attributes:
        tokenizer: A ``tokenizers.Tokenizer`` that neither pads nor truncates.
        pad: The token that fills short rows.
        length: Longest row, in tokens, its special ones among them.
        template: Text with ``{text}``, and perhaps ``{text_pair}``. A pair of which it takes but the first part is
            tokenized as a pair.
        padding: Side on which short rows are padded.
        truncation: Side on which long texts are cut; of a pair, the longer part first.
        segments: Whether to say which part of a pair a token belongs to, as ``token_type_ids``.

    Raises:
        ModelError: The template has no place for the text, or too many.
    """

    tokenizer: Any
    pad: int = 0
    length: int = 128
    template: str = TEXT
    padding: Side = "right"
    truncation: Side = "right"
    segments: bool = False

    def __post_init__(self) -> None:
        check_template(self.template)

    def __call__(self, texts: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
        """Tokenize texts to what a model reads, each int64 [B, L]; see :meth:`rows` for errors."""
        return self.rows(texts).padded(np.arange(len(texts)))

    def rows(self, texts: Sequence[str]) -> TokenRows:
        """Tokenize texts.

        Raises:
            DataError: The template asks for a second part, and a text has none.
            ModelError: The template alone fills a row.
        """
        laid_out = [_laid_out(self.template, text) for text in texts]
        sequences = [each[0] if len(each[0]) > 1 else each[0][0] for each in laid_out]
        encodings = self.tokenizer.encode_batch_fast(sequences)
        ids: list[Sequence[int]] = [encoding.ids for encoding in encodings]
        types: list[Sequence[int]] = [encoding.type_ids for encoding in encodings] if self.segments else []
        cut = np.array([len(row) > self.length for row in ids], np.bool_)
        long = np.flatnonzero(cut).tolist()
        # Where in the text a token comes from takes longer to find, and only what is cut needs it.
        for row, encoding in zip(long, self.tokenizer.encode_batch([sequences[row] for row in long]), strict=True):
            kept = self._kept(encoding, laid_out[row][1])
            ids[row] = [encoding.ids[token] for token in kept]
            if types:
                types[row] = [encoding.type_ids[token] for token in kept]
        for row in [row for row, found in enumerate(ids) if not found]:
            # Attention over nothing is not a number.
            ids[row] = [self.pad]
            if types:
                types[row] = [0]
        lengths = np.array([len(row) for row in ids], np.int64)
        return TokenRows(
            np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum())),
            np.fromiter(chain.from_iterable(types), np.int8, int(lengths.sum())) if self.segments else None,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            cut,
            self.pad,
            self.padding,
        )

    def check(self) -> None:
        """Check that the template leaves room for a text, or for one of each where it takes two.

        Raises:
            ModelError: It does not.
        """
        word = "word " * self.length
        self.rows([paired(word, word) if TEXT_PAIR in self.template else word])

    def _kept(self, encoding: Any, spans: Sequence[tuple[int, int, int]]) -> list[int]:
        """Return which tokens of a row that is too long stay: all that are not the texts', and as many of those."""
        places = list(zip(encoding.sequence_ids, encoding.offsets, strict=True))
        texts = [
            [
                row
                for row, (of, (begin, end)) in enumerate(places)
                if of == sequence and start <= begin and end <= stop
            ]
            for sequence, start, stop in spans
        ]
        room = self.length - (len(places) - sum(map(len, texts)))
        if room < 1:
            raise ModelError(
                f"the template {self.template!r} has {self.length - room} tokens, special ones counted, and rows "
                f"have {self.length}: no text fits; shorten it, or allow longer rows"
            )
        dropped: set[int] = set()
        for tokens, share in zip(texts, _shares([len(tokens) for tokens in texts], room), strict=True):
            dropped.update(tokens[share:] if self.truncation == "right" else tokens[: len(tokens) - share])
        return [row for row in range(len(places)) if row not in dropped]

    @classmethod
    def open(cls, folder: Path, preprocess: Mapping[str, Any]) -> TextTokens:
        """Open the tokenizer that lies beside a model.

        Args:
            folder: Holds ``tokenizer.json``, and ``tokenizer_config.json``, which names the token for padding.
            preprocess: What the model's description says of its texts.

        Raises:
            ModelError: The tokenizer is missing or damaged, or the description is.
        """
        import tokenizers

        file = folder / "tokenizer.json"
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(file))
            named = json.loads((folder / "tokenizer_config.json").read_bytes())
        # The tokenizer's own errors share no root but Exception.
        except Exception as error:
            raise ModelError(f"{file}: no tokenizer that can be read ({error}); copy or export it again") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        keys = ("length", "template", "padding", "truncation", "segments")
        try:
            values = {key: preprocess[key] for key in keys}
        except KeyError as error:
            raise ModelError(f"{folder}: the model's description lacks {error} for texts; export it again") from error
        return cls(tokenizer, padding_token(tokenizer, named.get("pad_token"), named.get("eos_token")), **values)


def padding_token(tokenizer: Any, *names: Any) -> int:
    """Return the number of the first token that exists, or 0: what stands under the mask is never looked at.

    Args:
        tokenizer: A ``tokenizers.Tokenizer``.
        names: Of tokens, as transformers writes them: a string, a mapping with a ``content``, or ``None``.
    """
    for name in names:
        found = tokenizer.token_to_id(name["content"] if isinstance(name, Mapping) else name) if name else None
        if found is not None:
            return int(found)
    return 0


def _laid_out(template: str, text: str) -> tuple[tuple[str, ...], list[tuple[int, int, int]]]:
    """Return what is tokenized, and where in it the texts are: sequence, start and stop of each."""
    first, second = parts(cleaned(text))
    if second is None and TEXT_PAIR in template:
        raise DataError(
            f"the template {template!r} asks for two texts, and {first[:40]!r} is one; give pairs (columns text and "
            "text_pair), or a template without {text_pair}"
        )
    written, spans = "", []
    for piece in _PLACES.split(template):
        said = {TEXT: first, TEXT_PAIR: second or ""}.get(piece)
        if said is not None:
            spans.append((0, len(written), len(written) + len(said)))
        written += piece if said is None else said
    if second is None or TEXT_PAIR in template:
        return (written,), spans
    return (written, second), [*spans, (1, 0, len(second))]


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens of one or two texts stay: the longer one is cut first, and equal ones alike."""
    if len(lengths) == 1:
        return [min(lengths[0], room)]
    shorter, longer = sorted(lengths)
    if shorter + longer > room:
        few = min(shorter, room // 2)
        shorter, longer = few, room - few
    return [shorter, longer] if lengths[0] <= lengths[1] else [longer, shorter]
