"""A run with suspects, its review page served, and a real browser that is driven through its debugging pipe."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tutelage.curation.review import Review, open_review
from tutelage.curation.review.server import ReviewServer
from tutelage.curation.suspects import Near, Suspect, decision_key, read_decisions, write_suspects

PATIENCE = 30.0
"""Seconds; machines are shared."""

NAMES = ("a.png", "b.png", "c.png", "d.png")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
    *("--host-resolver-rules=MAP rebound.example 127.0.0.1", "--window-size=1200,1000"),
)

# The browser's debugging pipe is on descriptors 3 and 4.
START = "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 103); os.dup2(w, 104); os.dup2(103, 3); "
START += "os.dup2(104, 4); os.execvp(sys.argv[3], sys.argv[3:])"


def save_image(path: Path, size: tuple[int, int] = (90, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(os.fsencode(path.name)) % 256
    pixels = np.linspace(0, shade, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@dataclass(frozen=True)
class Made:
    """A run with suspects."""

    folder: Path
    gallery: str
    ids: tuple[str, ...]

    def decided(self) -> dict[str, str]:
        """What is saved, by id."""
        known = {decision_key(self.gallery, name): name for name in self.ids}
        return {known[key]: value for key, value in read_decisions(self.folder).items()}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Make a run whose suspects are like five of the task's images."""

    def run(
        names: tuple[str, ...] = NAMES, ids: tuple[str, ...] | None = None, vanished: tuple[str, ...] = ()
    ) -> Made:
        gallery, task = tmp_path / "gallery", tmp_path / "task"
        for name in names:
            save_image(gallery / name)
        for number in range(5):
            save_image(task / "cat" / f"{number}.png", (8, 8) if number else (90, 60))
        suspects = [
            Suspect(
                str(gallery),
                name,
                0.99 - row / 100,
                tuple(
                    Near(str(task), f"cat/{near}.png", ("train", "validation", "test")[near % 3], 0.99 - near / 50)
                    for near in range(5)
                ),
            )
            for row, name in enumerate(ids or names)
        ]
        write_suspects(tmp_path / "run", suspects, [str(task)])
        for name in vanished:
            (gallery / name).unlink()
        return Made(tmp_path / "run", str(gallery), ids or names)

    return run


class Connection(http.client.HTTPConnection):
    """One that also asks for what is no valid address: strangers do."""

    def _encode_request(self, request: str) -> bytes:
        return request.encode("latin-1")


@dataclass
class Served:
    """A review page that is being served."""

    server: ReviewServer
    thread: threading.Thread

    @property
    def review(self) -> Review:
        return self.server.review

    def ask(
        self, method: str, place: str, body: bytes | None = None, *, root: str | None = None, **headers: str | None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Send a request as the page would, but for what is given; ``None`` leaves a header out."""
        own = self.server.hosts[0]
        sent: dict[str, str | None] = {"Host": own}
        if method == "POST":
            sent |= {"Origin": f"http://{own}", "Content-Type": "application/json"}
            sent |= {"Content-Length": str(len(body or b""))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = Connection("127.0.0.1", self.server.server_port, timeout=PATIENCE)
        connection.putrequest(method, (f"/{self.server.token}/" if root is None else root) + place, True, True)
        for name, value in sent.items():
            for each in (value or "").split("\n") if value is not None else ():
                connection.putheader(name, each)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, answer.headers

    def decide(self, number: object, decision: object, **headers: str | None) -> int:
        body = json.dumps({"suspect": number, "decision": decision}).encode()
        return self.ask("POST", "decisions", body, **headers)[0]


@pytest.fixture
def served() -> Iterator[Callable[[Made], Served]]:
    """Serve the review of a run, in this process, until the test ends."""
    with ExitStack() as stack:

        def serve(made: Made) -> Served:
            review = stack.enter_context(open_review(made.folder))
            server = stack.enter_context(ReviewServer(review))
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            stack.callback(server.shutdown)
            return Served(server, thread)

        yield serve


class Page:
    """A tab of the browser."""

    def __init__(self, call: Callable[..., dict[str, Any]], session: str) -> None:
        self._call, self._session = call, session
        for domain in ("Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < deadline, f"{expression}: {self.value('document.body.innerText')}"
            time.sleep(0.02)

    def text(self, name: str) -> str:
        found: str = self.value(f"document.getElementById({name!r}).textContent")
        return found

    def at(self, number: int, of: int = len(NAMES)) -> None:
        """Wait until the page shows a suspect, counted from 1 on, and nothing more is being saved."""
        self.wait(f"document.getElementById('place')?.textContent === '{number} of {of}'")

    def press(self, key: str, *, held: bool = False) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, autoRepeat=held, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, name: str) -> None:
        element = f"document.getElementById({name!r})"
        box = self.value(
            f"{element}.scrollIntoView({{block: 'nearest'}}), {element}.getBoundingClientRect().toJSON()"
        )
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)


class Browser:
    """Chromium, driven by the DevTools protocol: JSON that ends with a zero byte."""

    def __init__(self, program: str, profile: Path) -> None:
        reads, self._into = os.pipe()
        self._from, writes = os.pipe()
        command = (program, *FLAGS, f"--user-data-dir={profile}", "about:blank")
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", START, str(reads), str(writes), *command],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._numbers = itertools.count(1)
        self._unread = b""

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser does not answer"
            self._unread += os.read(self._from, 1 << 16)
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self.call, session)

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._into)
        os.close(self._from)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One tab for all tests: what a test opens takes the place of what is there."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a browser: chromium")
    browser = Browser(found, tmp_path_factory.mktemp("profile"))
    yield browser.page()
    browser.close()
