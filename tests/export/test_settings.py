from __future__ import annotations

import pytest

from tutelage.errors import RecipeError, UnknownNameError
from tutelage.recipe_reading import make_recipe

RECIPE = {"data": {"labeled": "digits"}, "student": "timm:test_resnet", "method": "scratch"}


def test_a_form_that_does_not_exist_is_answered_with_the_close_one():
    with pytest.raises(UnknownNameError, match="unknown export form 'int-8'; did you mean 'int8'"):
        make_recipe(RECIPE, {"export.forms": ["onnx", "int-8"]})


def test_onnx_alone_is_made_unless_more_is_asked_for():
    assert make_recipe(RECIPE).export.forms == ("onnx",)


@pytest.mark.parametrize("drop", [-0.1, 1.5, float("nan")])
def test_a_drop_that_is_no_share_is_refused(drop):
    with pytest.raises(RecipeError, match="int8_drop"):
        make_recipe(RECIPE, {"export.int8_drop": drop})
