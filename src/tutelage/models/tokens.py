"""Texts as tokens: all of them once, so that no step of a training waits for a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tutelage.models.preprocess import ClipTextPreprocess, TextPreprocess

CHUNK = 4096
"""Texts that are tokenized at a time."""

MASK = "attention_mask"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts, in the CPU's memory.

    Attributes:
        inputs: What a text encoder reads, by name, each int32 [N, L].
        cut: Which texts were longer than the encoder reads, bool [N].
    """

    inputs: Mapping[str, npt.NDArray[np.int32]]
    cut: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cut)

    def of(self, rows: Rows) -> dict[str, Tensor]:
        """Return what an encoder reads of the texts in ``rows``, each int64 [B, L], without what pads all of them."""
        found = {name: values[rows] for name, values in self.inputs.items()}
        if MASK in found:
            used = found[MASK].any(axis=0)
            found = {name: values[:, used] for name, values in found.items()}
        return {name: torch.from_numpy(values.astype(np.int64)) for name, values in found.items()}


def tokenize(preprocess: TextPreprocess | ClipTextPreprocess, texts: Sequence[str]) -> Tokens:
    """Tokenize texts, and find those that were cut.

    Args:
        preprocess: Of the encoder that will read them.
        texts: One or more.
    """
    parts: list[dict[str, npt.NDArray[np.int32]]] = []
    cut: list[npt.NDArray[np.bool_]] = []
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        encoded = preprocess(some)
        cut.append(_cut(preprocess, some, encoded))
        parts.append({name: values.numpy().astype(np.int32) for name, values in encoded.items()})
    widest = max(part["input_ids"].shape[1] for part in parts)
    inputs = {name: np.concatenate([_widened(part[name], widest) for part in parts]) for name in parts[0]}
    return Tokens(inputs, np.concatenate(cut))


def longest(preprocess: TextPreprocess | ClipTextPreprocess, texts: Sequence[str]) -> int:
    """Return how many tokens the longest of some texts has, at most as many as are read of it.

    Args:
        preprocess: Of the encoder that will read them.
        texts: One or more.
    """
    found = 0
    for start in range(0, len(texts), CHUNK):
        encoded = preprocess(texts[start : start + CHUNK])
        if bool(_full(preprocess, encoded).any()):
            return preprocess.length
        ids = encoded["input_ids"]
        # What is not full ends in padding, or lies beside a text that does not.
        used = encoded[MASK].bool() if MASK in encoded else ids != ids[:, -1:]
        found = max(found, int(used.any(0).nonzero().max()) + 1)
    return found


def _cut(
    preprocess: TextPreprocess | ClipTextPreprocess, texts: Sequence[str], encoded: Mapping[str, Tensor]
) -> npt.NDArray[np.bool_]:
    """Return which of some texts have more tokens than were kept of them: only those can have that are full."""
    ids, length = encoded["input_ids"], preprocess.length
    found = _full(preprocess, encoded).numpy().copy()
    rows = np.flatnonzero(found)
    if len(rows):
        longer = replace(preprocess, length=length + 1)([texts[row] for row in rows.tolist()])
        if MASK in longer:
            found[rows] = (longer[MASK].sum(1) > length).numpy()
        else:
            # With room for one token more, a text that was cut has another in the place of its end.
            found[rows] = (longer["input_ids"][:, :length] != ids[torch.from_numpy(rows)]).any(1).numpy()
    return found


def _full(preprocess: TextPreprocess | ClipTextPreprocess, encoded: Mapping[str, Tensor]) -> Tensor:
    """Return which texts have as many tokens as are read, or all but one of those that have no mask; bool [B]."""
    ids = encoded["input_ids"]
    # Without a mask: padding is at least two tokens that are alike; what is full ends in two that are not.
    return encoded[MASK].sum(1) == preprocess.length if MASK in encoded else ids[:, -1] != ids[:, -2]


def _widened(values: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.int32]:
    """Return rows with zeros behind them: tokens that the mask hides."""
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))
