from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.errors import ModelError

if TYPE_CHECKING:
    from conftest import Command

COMMANDS = ("demo", "transfer", "list", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_offers_json(tutelage: Command, command: str) -> None:
    ended = tutelage(command, "--help")
    assert ended.code == 0
    assert f"tutelage {command}" in ended.out
    assert "--json" in ended.out


def test_help_names_every_command(tutelage: Command) -> None:
    ended = tutelage("--help")
    assert ended.code == 0
    assert all(f" {command} " in ended.out for command in COMMANDS)


HEAVY = ("torch", "torchvision", "timm", "numpy", "PIL", "yaml", "sklearn", "transformers")


# Typer itself imports pydantic, where there is one, to show a command's typed options.
@pytest.mark.parametrize(
    ("arguments", "heavy"), [(["--help"], (*HEAVY, "pydantic")), (["transfer", "--help"], HEAVY)]
)
def test_help_waits_for_nothing_heavy(arguments: list[str], heavy: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from tutelage.cli import main\n"
        f"sys.argv = ['tutelage', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: tutelage" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    "arguments", [["trnsfer"], ["transfer", "--nope"], ["transfer", "--seed", "x"], ["list"], ["list", "nothing"]]
)
def test_a_command_used_wrongly_ends_with_2(tutelage: Command, arguments: list[str]) -> None:
    ended = tutelage(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert "Usage: tutelage" in ended.err


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raises(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("tutelage.run.versions", raises)


def test_what_goes_wrong_on_purpose_is_one_line_and_2(tutelage: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, ModelError("it broke:\n  here\n  and there"))
    assert tutelage("doctor") == (2, "", "tutelage: it broke: here and there\n")


def test_ctrl_c_ends_with_130_and_the_way_on(tutelage: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, KeyboardInterrupt())
    assert tutelage("doctor") == (130, "", "tutelage: interrupted; the same command goes on from here\n")


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.cli import main

    fail(monkeypatch, ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["tutelage", "doctor"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_the_module_is_the_command() -> None:
    arguments = [sys.executable, "-m", "tutelage", "transfer", "--labeled", "digits", "--set", "studnt=x", "--json"]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    said = "tutelage: unknown key 'studnt'; did you mean 'student' or 'start'?\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
