"""What a recipe says about the head that tells every pixel."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tutelage.settings import Settings

RATES, MADE_FOR = (12, 24, 36), 512
"""DeepLabV3's atrous rates, in patches at a stride of 8, and the side of the images that they suit, in pixels."""

Rate = Annotated[int, Field(ge=1)]


class DecoderSettings(Settings):
    """The head of dense tasks, DeepLabV3's.

    Attributes:
        channels: Its width. It is most of a small student: a quarter of 256 costs about a quarter.
        rates: Of its atrous convolutions, in patches. Where not given, (12, 24, 36) for views of 512 pixels, and in
            proportion for others: a rate as long as the map sees nothing beside its own patch.
        dropout: Of its joined channels, in training. The package's 0.5 is for trainings that are many times longer.
    """

    channels: int = Field(default=256, ge=1)
    rates: tuple[Rate, Rate, Rate] | None = None
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def resolved(self, size: int) -> DecoderSettings:
        """Fill in what suits views of this side, in pixels."""
        in_proportion = tuple(max(1, round(rate * size / MADE_FOR)) for rate in RATES)
        return self.model_copy(update={"rates": self.rates or in_proportion})
