"""What a recipe says about the head of dense tasks."""

from __future__ import annotations

import pytest

from tutelage.tasks import TASKS
from tutelage.tasks.decoder import DecoderSettings


@pytest.mark.parametrize(
    ("size", "rates"), [(512, (12, 24, 36)), (256, (6, 12, 18)), (96, (2, 4, 7)), (16, (1, 1, 1))]
)
def test_rates_are_in_proportion_to_the_views(size: int, rates: tuple[int, ...]) -> None:
    assert DecoderSettings().resolved(size).rates == rates


def test_rates_that_are_given_stay() -> None:
    assert DecoderSettings(rates=(1, 2, 5)).resolved(512).rates == (1, 2, 5)


def test_a_head_is_built_as_it_says() -> None:
    head = TASKS["segmentation"].head({"patches": 5}, 3, DecoderSettings(channels=7, rates=(1, 2, 4), dropout=0.25))
    assert (head.channels, head.rates, head.decoder.aspp.project[3].p) == (7, (1, 2, 4), 0.25)
    assert [branch[0].dilation for branch in head.decoder.aspp.convs[1:-1]] == [(1, 1), (2, 2), (4, 4)]


def test_a_head_of_classification_has_no_decoder() -> None:
    head = TASKS["classification"].head({"features": 5}, 3, DecoderSettings(channels=7))
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {
        "linear.weight": (3, 5),
        "linear.bias": (3,),
    }
