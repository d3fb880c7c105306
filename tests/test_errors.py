from __future__ import annotations

import inspect

import pytest

from tutelage import errors
from tutelage.errors import TutelageError, UnknownNameError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_a_tutelage_error(error: type[Exception]) -> None:
    assert issubclass(error, TutelageError)


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_in_the_tree_below_its_parent(error: type[Exception]) -> None:
    tree = (errors.__doc__ or "").split()
    assert error.__name__ in tree
    parent = error.__bases__[0]
    assert parent is Exception or tree.index(parent.__name__) < tree.index(error.__name__)


def test_an_unknown_name_is_answered_with_the_closest_first() -> None:
    error = UnknownNameError("method", "finetun", ["finetune", "fine", "scratch"])
    assert str(error) == "unknown method 'finetun'; did you mean 'finetune' or 'fine'?"
    assert error.close == ["finetune", "fine"]


def test_case_does_not_matter_to_closeness() -> None:
    assert UnknownNameError("set", "MNIST", ["mnist", "digits"]).close == ["mnist"]


def test_few_names_are_listed_when_none_is_close() -> None:
    error = UnknownNameError("task", "zzz", ["b", "a"])
    assert str(error) == "unknown task 'zzz'; known: a, b"
    assert error.close == []


def test_many_names_are_not_listed() -> None:
    assert str(UnknownNameError("task", "zzz", map(str, range(21)))) == "unknown task 'zzz'"


def test_a_hint_comes_last() -> None:
    assert str(UnknownNameError("task", "zzz", ["a"], "(look there)")) == "unknown task 'zzz'; known: a (look there)"
