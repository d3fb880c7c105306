"""What a recipe says about data."""

from __future__ import annotations

from pydantic import Field, field_validator

from tutelage.errors import UnknownNameError
from tutelage.settings import Settings

COLUMNS = ("image", "text", "text_pair", "label", "mask", "id")
"""Our names of columns."""


class DataSettings(Settings):
    """Where data are, and how many labels may be used.

    Attributes:
        labeled: Labeled training data.
        labels: How many labels: N per class, ``"max:N"``, ``"P%"``, or ``"all"``; of images with masks, how many in
            all. Hold-outs are taken from these.
        validation: Labeled data to choose models on, or a share of ``labeled`` such as ``"20%"``; cross-validation on
            the labels where not given.
        test: Labeled data to report on, or a share of ``labeled``; never used to train or choose.
        transfer: Unlabeled data to distil on; where not given, all of ``labeled`` without its labels, those that may
            be used included, so that ``labels: all`` leaves some, too.
        pretraining: Labeled data of another task, for methods that learn it first.
        pairs: Images with a text each, for methods that learn which belongs to which first.
        columns: What columns of tables and ``hf:`` sets are called: our name (image, text, text_pair, label, mask or
            id) and theirs, such as ``{text: premise, text_pair: hypothesis, label: gold}``. A table that has no such
            column needs one of our name.
        tolerate: Share of each part, in 0..1, that may be unusable (broken images, contradictory labels, unknown
            classes) and is then left out and listed; more is an error.
        classes: Of masks: class names in the order of their pixel values, or each with its value or color [r, g, b].
            Where not given, a class list beside the masks (``classes.txt``, ``.json`` or ``.csv``), or else every
            value up to the largest.
        ignore: Of masks: pixel values (or colors) that do not count; 255 where not given, 0 in ADE20K.
    """

    labeled: str
    labels: str = "all"
    validation: str | None = None
    test: str | None = None
    transfer: str | None = None
    pretraining: str | None = None
    pairs: str | None = None
    columns: dict[str, str] | None = None
    tolerate: float = Field(default=0.05, ge=0, le=1)
    classes: tuple[str, ...] | dict[str, int | tuple[int, int, int]] | None = None
    ignore: tuple[int | tuple[int, int, int], ...] | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if unknown := [name for name in value or () if name not in COLUMNS]:
            raise UnknownNameError("column", unknown[0], COLUMNS, "(our names in data.columns)")
        return value

    @field_validator("ignore", mode="before")
    @classmethod
    def _as_several(cls, value: object) -> object:
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else value
