"""Texts as people have them: characters that do not exist become spaces, and white space tells no copies apart."""

from __future__ import annotations

import unicodedata

from tutelage.runtime.texts import SEPARATOR, cleaned


def clean(text: str) -> tuple[str, bool]:
    """Return one text without white space around it, and whether characters in it had to become spaces.

    Those are NUL and halves of surrogate pairs, which no encoding of text has, and what separates a pair's texts.
    """
    found = cleaned(text).replace(SEPARATOR, " ")
    return found.strip(), found != text


def normalized(text: str) -> str:
    """Return what copies of a text, or of two in one string, have in common.

    That is its composed characters (Unicode's form NFC), with one space for all white space.
    """
    # Apart: str.split() takes the separator for white space.
    return SEPARATOR.join(" ".join(part.split()) for part in unicodedata.normalize("NFC", text).split(SEPARATOR))
