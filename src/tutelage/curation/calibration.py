"""Calibrating an encoder's threshold on a gallery: slightly changed copies of its images, told from other images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from tutelage.curation.duplicates import same_samples
from tutelage.curation.embeddings import Embeddings
from tutelage.curation.neighbors import FloatArray
from tutelage.curation.originals import Originals
from tutelage.curation.thresholds import KNOWN, LEAST, Calibration, Thresholds, calibrate
from tutelage.data.leaks import Contents
from tutelage.data.pixels import decode_pixels
from tutelage.data.samples import ImageSource, IntArray, Samples
from tutelage.runtime.texts import SEPARATOR

MOST = 2000
"""Images of a gallery that a threshold is chosen by at most."""

SIDES, SCALE, QUALITY = (0.9, 1.0), (0.7, 1.0), (60, 95)
"""A copy's share of each side, how much smaller it is, and its JPEG quality: what images go through on their way from
one collection to another. Flips, and changes of color, are left out: few collections hold such copies."""

WORDS = (0.9, 1.0)
"""Share of a text's words that a copy has."""

LARGEST = 512
"""Longest side of a copy: encoders see less, and thousands are held at a time."""

Origin = Literal["known", "calibrated", "given", "none"]


@dataclass(frozen=True)
class EncoderThresholds:
    """An encoder's thresholds, and how they are known.

    Attributes:
        values: The thresholds; ``None`` where the encoder tells copies from other images too badly, or nobody knows.
        origin: Where they come from.
        calibration: How well the best threshold would do, where the encoder was calibrated.
    """

    values: Thresholds
    origin: Origin
    calibration: Calibration | None = None


def calibrated(
    encoders: Sequence[str],
    gallery: Originals,
    images: int,
    embed: Callable[[Samples], Embeddings],
) -> dict[str, EncoderThresholds]:
    """Return the thresholds of encoders: those that are known, or else calibrated on the gallery.

    The sample of a gallery is always the same, since a threshold belongs to an encoder, not to a seed. Exact copies
    in it are left out, as they would count as other images that look the same.

    Args:
        encoders: Names.
        gallery: Its images.
        images: How many it has.
        embed: Embeds samples that are at hand by all the encoders.

    Raises:
        DataError: An image cannot be decoded any more.
    """
    found = {name: EncoderThresholds(KNOWN[name], "known") for name in encoders if name in KNOWN}
    if len(found) == len(encoders):
        return found
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.choice(images, min(MOST, images), replace=False))
    samples = gallery.samples(numbers)
    first = same_samples(samples, Contents()) == np.arange(len(samples))
    numbers, samples = numbers[first], samples.subset(np.flatnonzero(first))
    made: Mapping[str, Calibration] = {}
    if len(samples) >= LEAST:
        copies = embed(changed_copies(samples))
        rows = np.arange(len(samples))
        vectors = gallery.vectors(numbers)
        made = {
            name: calibrate(*_similarities(vectors[number], copies.take(rows, number)))
            for number, name in enumerate(encoders)
            if name not in found
        }
    for name in encoders:
        if name not in found:
            found[name] = _judged(made.get(name))
    return {name: found[name] for name in encoders}


def changed_copies(samples: Samples) -> Samples:
    """Return slightly changed copies of images, as JPEG files, or of texts; how is a function of a sample's id alone.

    Raises:
        DataError: An image cannot be decoded.
    """
    if samples.texts is not None:
        told = zip(samples.keys.tolist(), samples.texts, strict=True)
        texts = [changed_text(text, np.random.default_rng(key)) for key, text in told]
        return replace(samples, texts=texts, origin=f"copies of {samples.origin}")
    pairs = zip(samples.keys.tolist(), samples.images or (), strict=True)
    copies = [changed_copy(image, np.random.default_rng(key)) for key, image in pairs]
    return replace(samples, images=copies, origin=f"copies of {samples.origin}")


def changed_text(text: str, rng: np.random.Generator) -> str:
    """Return a text (or each part of a pair) with up to a tenth of its words left out, half the time in lower case.

    At least one word stays.
    """
    share, lower = rng.uniform(*WORDS), rng.random() < 0.5

    def changed(part: str) -> str:
        words = part.split()
        kept = np.sort(rng.permutation(len(words))[: max(1, round(share * len(words)))])
        return " ".join(words[row] for row in kept.tolist())

    found = SEPARATOR.join(changed(part) for part in text.split(SEPARATOR))
    return found.lower() if lower else found


def changed_copy(image: ImageSource, rng: np.random.Generator) -> bytes:
    """Return an image cut, downscaled and compressed a little, as a JPEG file.

    Raises:
        DataError: It cannot be decoded.
    """
    picture = Image.fromarray(decode_pixels(image)).convert("RGB")
    width, height = picture.size
    kept = [max(1, round(side * rng.uniform(*SIDES))) for side in (width, height)]
    left, top = (int(rng.integers(0, whole - part + 1)) for whole, part in zip((width, height), kept, strict=True))
    scale = min(rng.uniform(*SCALE), LARGEST / max(kept))
    size = (max(1, round(kept[0] * scale)), max(1, round(kept[1] * scale)))
    copy = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + kept[0], top + kept[1]))
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=int(rng.integers(*QUALITY)))
    return file.getvalue()


def _judged(calibration: Calibration | None) -> EncoderThresholds:
    if calibration is None or not calibration.separable:
        return EncoderThresholds(Thresholds(None, None), "none", calibration)
    # Copies of an image are told from others by one threshold, whether they are duplicates or leaks.
    value = calibration.threshold
    return EncoderThresholds(Thresholds(value, value), "calibrated", calibration)


def _similarities(images: npt.NDArray[np.float16], copies: npt.NDArray[np.float16]) -> tuple[FloatArray, FloatArray]:
    """Return the similarity of each image to its copy, and to the most similar other image, float32 [n] each."""
    own, other = images.astype(np.float32), copies.astype(np.float32)
    every = own @ own.T
    np.fill_diagonal(every, -np.inf)
    same: FloatArray = np.einsum("nd,nd->n", own, other)
    rows: IntArray = every.argmax(axis=1)
    return same, np.take_along_axis(every, rows[:, None], axis=1)[:, 0]
