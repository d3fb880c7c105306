"""What a recipe says about data."""

from __future__ import annotations

from pydantic import field_validator

from tutelage.settings import Settings


class DataSettings(Settings):
    """Where data are, and how many labels may be used.

    Attributes:
        labeled: Labeled training data.
        labels: How many labels: N per class, ``"max:N"``, ``"P%"``, or ``"all"``. Hold-outs are taken from these.
        validation: Labeled data to choose models on; cross-validation on the labels where not given.
        test: Labeled data to report on; never used to train or choose.
        transfer: Unlabeled data to distil on; the rest of ``labeled`` where not given.
    """

    labeled: str
    labels: str = "all"
    validation: str | None = None
    test: str | None = None
    transfer: str | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
