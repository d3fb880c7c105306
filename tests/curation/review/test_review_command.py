"""``tutelage review`` as a process of its own: ended from outside, and killed."""

from __future__ import annotations

import functools
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tutelage.curation.review.browser import opened
from tutelage.curation.suspects import write_suspects

if TYPE_CHECKING:
    from tests.curation.review.conftest import Made

    Make = Callable[..., Made]


@contextmanager
def running(made: Made, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield it and the address that it shows."""
    command = [sys.executable, "-m", "tutelage", "review", str(made.folder), "--no-browser", *flags]
    # Where the tests run in the background, Ctrl-C is ignored, and what they start would inherit that.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listening
    ) as process:
        try:
            yield process, address(process.stderr)
        finally:
            process.kill()


def address(lines: IO[str] | None) -> str:
    said = []
    for line in lines or ():
        said.append(line)
        if match := re.search(r"http://\S+/", line):
            return match[0]
    raise AssertionError("".join(said))


def decide(url: str, number: int, decision: str) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    headers = {"Origin": f"http://{parts.netloc}", "Content-Type": "application/json"}
    body = json.dumps({"suspect": number, "decision": decision})
    connection.request("POST", f"{parts.path}decisions", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_killed_in_the_middle_it_has_lost_nothing(make: Make) -> None:
    made = make(tuple(f"{number:02d}.png" for number in range(30)))
    acknowledged: dict[str, str] = {}
    with running(made) as (process, url):
        for number, name in enumerate(made.ids):
            if number == 20:
                process.send_signal(signal.SIGKILL)
            try:
                if decide(url, number, "leak") == 200:
                    acknowledged[name] = "leak"
            except (OSError, http.client.HTTPException):
                break
    assert len(acknowledged) >= 20
    assert acknowledged.items() <= made.decided().items()


def test_ctrl_c_says_what_is_left_and_how_to_go_on(make: Make) -> None:
    made = make()
    with running(made, "--json") as (process, url):
        assert decide(url, 2, "fine") == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"3 of 4 suspects are left to decide; go on with\n  tutelage review {made.folder}\n" in err
    assert json.loads(out) == {"run": str(made.folder), "suspects": 4, "leaks": 0, "fine": 1, "left": 3}


def test_a_run_without_suspects_needs_no_page(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage import cli

    write_suspects(tmp_path, [], ["task"])
    monkeypatch.setattr(sys, "argv", ["tutelage", "review", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (0, "No image is suspect: there is nothing to review.\n")


def test_the_browser_gets_the_address_through_a_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)
    monkeypatch.setenv("DISPLAY", ":0")
    write_suspects(tmp_path, [], ["task"])
    with opened(tmp_path, "http://127.0.0.1:1/secret/"):
        (uri,) = asked
        doorway = Path(uri.removeprefix("file://"))
        assert doorway.stat().st_mode & 0o777 == 0o600
        assert "url=http://127.0.0.1:1/secret/" in doorway.read_text()
    assert not doorway.exists()


def test_without_a_screen_no_browser_takes_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with opened(tmp_path, "http://127.0.0.1:1/secret/"):
        assert asked == []
