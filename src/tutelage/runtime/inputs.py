"""What an exported file takes, images, texts or both, made of what people have, a few batches at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tutelage.data.samples import ImageSource, Samples
from tutelage.errors import DataError, ModelError
from tutelage.runtime.batches import Failure, Picture, Pixels, alike, batches, by_tokens, decoded, parted, pixels_of
from tutelage.runtime.texts import TextTokens, cleaned, filled, paired, parts

Text = str | tuple[str, str]
"""One text; a pair of sentences is two strings, or one with :data:`tutelage.runtime.texts.SEPARATOR` between them."""

Kind = Literal["image", "text", "pair"]
"""What a file reads; one that does not say it reads images."""

Feed = dict[str, npt.NDArray[Any]]
Step = tuple[list[int], Feed]

AHEAD = 8
"""Batches of texts that are gathered, so that texts of about the same length go through the model together."""

TOKENS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Window:
    """Samples that are answered before further ones are read.

    Attributes:
        count: How many there are.
        failed: Why some of them cannot be answered, by row.
        steps: The rows of the others with what the file takes of them, one step after the other.
    """

    count: int
    failed: Mapping[int, str]
    steps: Iterable[Step]


class Inputs(Protocol):
    """How samples become what a file takes.

    Attributes:
        kind: What they are.
        takes: What the file must take, in words.
    """

    kind: Kind
    takes: str

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether these are the inputs of a file, by name, each with ``type`` and ``shape``."""
        ...

    def of(self, samples: Samples) -> Sequence[Any]:
        """Return the samples in the form that :meth:`windows` reads.

        Raises:
            DataError: They have no such inputs.
        """
        ...

    def windows(self, given: Iterable[Any], batch_size: int) -> Iterator[Window]:
        """Read a stream of samples a window at a time, in their order, and little further than that."""
        ...

    def feed(self, batch: Sequence[Any]) -> Feed:
        """Return what the file takes of samples that can go through it together; images are pixels by then."""
        ...


class Images:
    """Images of any sizes; those of one size go through the model together.

    Args:
        workers: Threads for decoding.
    """

    kind: Kind = "image"
    takes = "images, uint8 [B, H, W, 3],"

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether the only input is ``images``, uint8 [B, H, W, 3]."""
        return list(inputs) == ["images"] and _are_images(inputs["images"])

    def of(self, samples: Samples) -> Sequence[ImageSource]:
        """Return the images.

        Raises:
            DataError: There are none.
        """
        if samples.images is None:
            raise DataError(f"{samples.origin}: has no images; this model reads images")
        return samples.images

    def windows(self, given: Iterable[Picture], batch_size: int) -> Iterator[Window]:
        """Yield as many images as go through the model together, decoded."""
        read = decoded(given, pixels_of, self._workers)
        for batch in batches(read, batch_size, lambda pixels: pixels.nbytes):
            good, failed = parted(batch)
            steps = ((rows, self.feed([good[row] for row in rows])) for rows in alike(good).values())
            yield Window(len(batch), failed, steps)

    def feed(self, batch: Sequence[Pixels]) -> Feed:
        """Return ``images`` of pixels of one size."""
        return {"images": batch if isinstance(batch, np.ndarray) else np.stack(batch)}


class Texts:
    """Texts of any lengths; those of about the same length go through the model together.

    Args:
        tokens: Makes tokens of them.
    """

    kind: Kind = "text"
    takes = "texts, as tokens int64 [B, L],"

    def __init__(self, tokens: TextTokens) -> None:
        self.tokens = tokens

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether the inputs are tokens, int64 [B, L]."""
        return _are_tokens(inputs)

    def of(self, samples: Samples) -> Sequence[str]:
        """Return the texts.

        Raises:
            DataError: There are none.
        """
        if samples.texts is None:
            raise DataError(f"{samples.origin}: has no texts; this model reads texts")
        return samples.texts

    def windows(self, given: Iterable[Text], batch_size: int) -> Iterator[Window]:
        """Yield the texts of several batches, as tokens."""
        rest = iter(given)
        while batch := list(itertools.islice(rest, AHEAD * batch_size)):
            good, failed = parted([self.read(text) for text in batch])
            yield Window(len(batch), failed, self.steps(good, list(good), batch_size))

    def read(self, given: Text) -> str | Failure:
        """Return one raw text, or why it cannot be answered."""
        try:
            text = as_text(given)
            filled(self.tokens.template, text)
        except DataError as error:
            return Failure(str(error))
        return text

    def steps(self, texts: Mapping[int, str], rows: Sequence[int], batch_size: int) -> Iterator[Step]:
        """Yield some rows of raw texts, the shortest first, with their tokens."""
        if not rows:
            return
        found = self.tokens.rows([texts[row] for row in rows])
        order = np.argsort(found.lengths, kind="stable")
        for some in by_tokens(order, found.lengths, batch_size):
            yield [rows[place] for place in some.tolist()], found.padded(some)

    def feed(self, batch: Sequence[str]) -> Feed:
        """Return the tokens of raw texts."""
        return dict(self.tokens(batch))


class Pairs:
    """Images with a text each: those whose images have one size go through the model together.

    Args:
        tokens: Makes tokens of the texts.
        workers: Threads for decoding.
    """

    kind: Kind = "pair"
    takes = "images, uint8 [B, H, W, 3], with texts, as tokens int64 [B, L],"

    def __init__(self, tokens: TextTokens, workers: int = 1) -> None:
        self._images, self._texts = Images(workers), Texts(tokens)
        self._workers = workers

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Return whether the inputs are ``images``, uint8 [B, H, W, 3], and tokens, int64 [B, L]."""
        tokens = {name: each for name, each in inputs.items() if name != "images"}
        return "images" in inputs and _are_images(inputs["images"]) and _are_tokens(tokens)

    def of(self, samples: Samples) -> Sequence[tuple[ImageSource, str]]:
        """Return the images with their texts.

        Raises:
            DataError: The samples lack images or texts.
        """
        if samples.images is None or samples.texts is None:
            lacking = "images" if samples.images is None else "texts"
            raise DataError(f"{samples.origin}: has no {lacking}; this model reads images with a text each")
        return list(zip(samples.images, samples.texts, strict=True))

    def windows(self, given: Iterable[tuple[Picture, Text]], batch_size: int) -> Iterator[Window]:
        """Yield as many pairs as go through the model together, decoded and as tokens."""
        read = decoded(given, self._read, self._workers)
        for batch in batches(read, batch_size, lambda pair: pair[0].nbytes):
            good, failed = parted(batch)
            yield Window(len(batch), failed, self._steps(good, batch_size))

    def feed(self, batch: Sequence[tuple[Pixels, str]]) -> Feed:
        """Return ``images`` of pixels of one size, and the tokens of their raw texts."""
        images, texts = zip(*batch, strict=True)
        return {**self._images.feed(images), **self._texts.feed(texts)}

    def _read(self, pair: tuple[Picture, Text]) -> tuple[Pixels, str] | Failure:
        image, given = pair
        text = self._texts.read(given)
        if isinstance(text, Failure):
            return text
        pixels = pixels_of(image)
        return pixels if isinstance(pixels, Failure) else (pixels, text)

    def _steps(self, good: Mapping[int, tuple[Pixels, str]], batch_size: int) -> Iterator[Step]:
        images = {row: pixels for row, (pixels, _) in good.items()}
        texts = {row: text for row, (_, text) in good.items()}
        for same in alike(images).values():
            for rows, tokens in self._texts.steps(texts, same, batch_size):
                yield rows, {**self._images.feed([images[row] for row in rows]), **tokens}


def inputs_of(file: Path, kind: str, preprocess: Mapping[str, Any], workers: int) -> Inputs:
    """Return what makes a file's inputs.

    Args:
        file: The file; a tokenizer lies beside it.
        kind: What it reads.
        preprocess: What it says of that.
        workers: Threads for decoding.

    Raises:
        ModelError: It reads what this Tutelage does not know, or the tokenizer is missing or damaged.
    """
    if kind == "image":
        return Images(workers)
    if kind == "text":
        return Texts(_tokens(file, preprocess))
    if kind == "pair":
        return Pairs(_tokens(file, preprocess.get("text", {})), workers)
    raise ModelError(f"{file}: reads {kind!r}, which this Tutelage does not know; update it")


def as_text(given: Text) -> str:
    """Return a text as one string; two become a pair of sentences.

    Raises:
        DataError: It is no text, or holds nothing but white space.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(part, str) for part in given):
        given = paired(*given)
    if not isinstance(given, str):
        raise DataError(f"{str(given)[:40]!r} is no text; give a string, or two of them for a pair of sentences")
    if not any(part and not part.isspace() for part in parts(cleaned(given))):
        raise DataError("an empty text, or one of white space alone; leave it out")
    return given


def _tokens(file: Path, preprocess: Mapping[str, Any]) -> TextTokens:
    where = preprocess.get("tokenizer")
    if not isinstance(where, str):
        raise ModelError(f"{file}: names no tokenizer; export it again")
    return TextTokens.open(file.parent / where, preprocess)


def _are_images(given: Any) -> bool:
    return bool(given.type == "tensor(uint8)" and given.shape[3:] == [3])


def _are_tokens(inputs: Mapping[str, Any]) -> bool:
    whole = all(given.type == "tensor(int64)" and len(given.shape) == 2 for given in inputs.values())
    return whole and "input_ids" in inputs and set(inputs) <= set(TOKENS)
