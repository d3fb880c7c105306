from __future__ import annotations

import pytest
import torch

from tutelage.errors import ModelError
from tutelage.models.sources.geometry import check_size, default_size, tokens_to_map


@pytest.mark.parametrize(
    ("native", "patch", "size"), [(518, 14, 252), (224, 14, 224), (384, 16, 384), (256, None, 256)]
)
def test_only_large_patch_14_models_default_to_252(native: int, patch: int | None, size: int) -> None:
    assert default_size(native, patch) == size


def test_a_size_below_one_patch_names_one_patch() -> None:
    with pytest.raises(ModelError, match="; 16 fits"):
        check_size("x", 9, 16)


def test_tokens_become_rows_of_the_map_after_the_prefix() -> None:
    tokens = torch.arange(2 * 7 * 3).view(2, 7, 3)
    grid = tokens_to_map(tokens, 3)
    assert grid is not None
    assert grid.shape == (2, 3, 2, 2)
    assert torch.equal(grid[1, :, 1, 0], tokens[1, 3 + 2])


@pytest.mark.parametrize(("tokens", "prefix"), [(7, 0), (1, 1), (1, 5)])
def test_tokens_that_are_no_square_have_no_map(tokens: int, prefix: int) -> None:
    assert tokens_to_map(torch.zeros(1, tokens, 3), prefix) is None
