"""Equal budgets: as many epochs as fit."""

from __future__ import annotations

import pytest

from tutelage.comparison.forecast import times, total, within
from tutelage.comparison.grid import Budget
from tutelage.comparison.table import Spent
from tutelage.errors import RecipeError
from tutelage.recipe import Recipe
from tutelage.recipe_reading import make_recipe


def with_epochs(epochs: int) -> tuple[Recipe, Spent]:
    """A method that costs 10 FLOPs and 1 second before it trains, then 3 FLOPs and 2 seconds an epoch."""
    recipe = make_recipe(
        {
            "data": {"labeled": "digits"},
            "student": "timm:lcnet_050",
            "method": "scratch",
            "finetune": {"epochs": epochs},
        }
    )
    return recipe, Spent(1 + 2 * epochs, 10 + 3 * epochs)


@pytest.mark.parametrize(
    ("amount", "seconds", "epochs"),
    [
        (13, False, 1),
        (15.9, False, 1),
        (16, False, 2),
        (310, False, 100),
        (312.9, False, 100),
        (3, True, 1),
        (41, True, 20),
    ],
)
def test_a_budget_allows_as_many_epochs_as_fit(amount: float, seconds: bool, epochs: int) -> None:
    assert within(Budget("some", amount, seconds), with_epochs).finetune.epochs == epochs


@pytest.mark.parametrize(("amount", "seconds", "unit"), [(12.9, False, "FLOPs"), (2.9, True, "seconds")])
def test_a_budget_without_room_for_an_epoch_is_refused(amount: float, seconds: bool, unit: str) -> None:
    with pytest.raises(RecipeError, match=f"a budget of some is too small: with one epoch it takes .* {unit}"):
        within(Budget("some", amount, seconds), with_epochs)


def test_costs_add_up() -> None:
    assert total([Spent(1, 10), Spent(2, 20)]) == Spent(3, 30)


def test_a_cost_is_multiplied() -> None:
    assert times(3, Spent(1, 10), Spent(0, 5)) == Spent(3, 45)
