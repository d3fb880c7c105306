"""How much work a batch is for an encoder, so that one batch's count of operations tells that of all others."""

from __future__ import annotations

from tutelage.models.preprocess import PairInputs, Preprocess, RawInputs, TextPreprocess
from tutelage.models.tokens import TextInputs


def amount_of(inputs: RawInputs, preprocess: Preprocess) -> int:
    """Return a number to which the work of a batch is proportional: its tokens with their padding, or its images.

    Of long texts it is a little too low, since attention takes the square of their length. A pair counts as its
    image, which as a rule is by far the most of it.

    Args:
        inputs: Raw views.
        preprocess: Of the encoder that reads them.
    """
    texts = inputs.text if isinstance(inputs, PairInputs) else inputs
    if isinstance(preprocess, TextPreprocess) and isinstance(texts, TextInputs):
        return len(texts) * int(texts.corpus.tokens(preprocess).lengths[texts.rows].max())
    return len(texts)
