"""Texts as tokens: all of them once, so that no step of a training waits for a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.models.preprocess import ClipTextPreprocess, TextPreprocess, TokenizedTexts
from tutelage.runtime.texts import TokenRows

CHUNK = 4096
"""Texts that are tokenized at a time."""

MASK = "attention_mask"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts, in the CPU's memory, without padding.

    Attributes:
        rows: The tokens.
        masked: Whether the encoder reads which of them are real; otherwise all texts have the same length.
    """

    rows: TokenRows
    masked: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def cut(self) -> npt.NDArray[np.bool_]:
        """Which texts were longer than the encoder reads, bool [N]."""
        return self.rows.cut

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, int64 [N]."""
        return self.rows.lengths

    def of(self, rows: Rows) -> dict[str, Tensor]:
        """Return what an encoder reads of the texts in ``rows``, each int64 [B, L], padded to the longest of them."""
        found = self.rows.padded(rows)
        return {name: torch.from_numpy(values) for name, values in found.items() if self.masked or name != MASK}


class Corpus:
    """N texts, tokenized once for each preprocess that reads them.

    Attributes:
        texts: The texts.
        lengths: Characters of each, int64 [N].
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._tokens: dict[TextPreprocess | ClipTextPreprocess, Tokens] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.texts)

    def tokens(self, preprocess: TextPreprocess | ClipTextPreprocess) -> Tokens:
        """Return the texts' tokens; made in the first call for a preprocess, and kept.

        Raises:
            ModelError: There is no such tokenizer, or the template fills all of the length.
            DataError: The template asks for pairs, and a text is none.
        """
        with self._lock:
            if preprocess not in self._tokens:
                self._tokens[preprocess] = tokenize(preprocess, self.texts)
            return self._tokens[preprocess]


class TextInputs(TokenizedTexts):
    """Some texts of a corpus; a text's preprocess takes their tokens from there.

    Attributes:
        corpus: The corpus.
        rows: Which of its texts, int64 [B].
    """

    def __init__(self, corpus: Corpus, rows: Rows) -> None:
        self.corpus = corpus
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TextInputs: ...
    def __getitem__(self, index: int | slice) -> str | TextInputs:
        if isinstance(index, slice):
            return TextInputs(self.corpus, self.rows[index])
        return self.corpus.texts[int(self.rows[index])]

    def inputs(self, preprocess: TextPreprocess | ClipTextPreprocess) -> dict[str, Tensor]:
        """Return what the preprocess would make of the texts, each int64 [B, L]."""
        return self.corpus.tokens(preprocess).of(self.rows)


def tokenize(preprocess: TextPreprocess | ClipTextPreprocess, texts: Sequence[str]) -> Tokens:
    """Tokenize texts, and find those that were cut.

    Args:
        preprocess: Of the encoder that will read them.
        texts: One or more.

    Raises:
        ModelError: There is no such tokenizer, or the template fills all of the length.
        DataError: The template asks for pairs, and a text is none.
    """
    pieces = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    if isinstance(preprocess, TextPreprocess):
        return Tokens(TokenRows.joined([preprocess.rows(piece) for piece in pieces]))
    return Tokens(TokenRows.joined([_clip_rows(preprocess, piece) for piece in pieces]), masked=False)


def longest(preprocess: TextPreprocess | ClipTextPreprocess, texts: Sequence[str]) -> int:
    """Return how many tokens the longest of some texts has, at most as many as are read of it.

    Args:
        preprocess: Of the encoder that will read them.
        texts: One or more.
    """
    found = 0
    for start in range(0, len(texts), CHUNK):
        piece = texts[start : start + CHUNK]
        if isinstance(preprocess, TextPreprocess):
            found = max(found, int(preprocess.rows(piece).lengths.max()))
            continue
        ids = preprocess(piece)["input_ids"]
        if bool(_full(ids).any()):
            return preprocess.length
        # What is not full ends in padding.
        found = max(found, int((ids != ids[:, -1:]).any(0).nonzero().max()) + 1)
    return found


def _clip_rows(preprocess: ClipTextPreprocess, texts: Sequence[str]) -> TokenRows:
    """Tokenize as CLIP does, and find texts with more tokens than were kept: only those can have that are full."""
    ids, length = preprocess(texts)["input_ids"], preprocess.length
    cut = _full(ids).numpy().copy()
    rows = np.flatnonzero(cut)
    if len(rows):
        # With room for one token more, a text that was cut has another in the place of its end.
        longer = replace(preprocess, length=length + 1)([texts[row] for row in rows.tolist()])["input_ids"]
        cut[rows] = (longer[:, :length] != ids[torch.from_numpy(rows)]).any(1).numpy()
    return TokenRows(ids.numpy().astype(np.int32).ravel(), None, np.arange(len(texts) + 1) * length, cut)


def _full(ids: Tensor) -> Tensor:
    """Return which texts have as many tokens as are read, or all but one; bool [B]."""
    # Padding is at least two tokens that are alike; what is full ends in two that are not.
    return ids[:, -1] != ids[:, -2]
